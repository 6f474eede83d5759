"""Run MXNet on a request, in a process of its own: ``python gluon_child.py FOLDER``.

Any Python from 3.8 on that has MXNet and GluonCV can run this file; our packages need not be installed.

FOLDER/request.json holds ``params`` (a file), ``runs``, each with ``dtype`` and ``input`` (a .npy file in
FOLDER), and what to run:

* GluonCV's own network: ``model`` (GluonCV's name), ``classes`` and ``layers`` (the blocks whose outputs are
  wanted, by structural names).
* A graph: ``symbol`` (a file in FOLDER), ``data`` (the name of its input), ``variables`` (the names of its
  parameters in ``params``) and ``nodes`` (the index, in the order of MXNet's ``tojson()``, and the name of
  each node whose output is wanted; the last is where the graph is cut off).

The output of layer L in run R is written to FOLDER/R-L.npy, both counted from 0. FOLDER/reply.json then holds
``versions`` and ``settings`` (of each of GluonCV's layers, its hyper-parameters), or ``unavailable`` with the
reason why MXNet cannot be imported here.
"""

from __future__ import annotations

import ctypes
import functools
import importlib
import importlib.abc
import importlib.metadata
import json
import os
import platform
import sys
import threading
import types
from pathlib import Path
from typing import Any, NamedTuple

# Names that MXNet 1.9.1 looks up at import and that newer numpy lacks: `bool` since 1.24, the rest since 2.0.
NUMPY_VALUES = {
    "bool": bool,
    "PZERO": 0.0,
    "NZERO": -0.0,
    "PINF": float("inf"),
    "NINF": float("-inf"),
    "NAN": float("nan"),
    "NaN": float("nan"),
    "Inf": float("inf"),
}
NUMPY_RENAMED = {
    "alltrue": "all",
    "sometrue": "any",
    "product": "prod",
    "cumproduct": "cumprod",
    "round_": "round",
    "in1d": "isin",
    "msort": "sort",
    "trapz": "trapezoid",
    "row_stack": "vstack",
}
HIDDEN = (
    "torch",  # GluonCV 0.10 refuses to be imported beside torch 2
    "scipy.stats",  # half a second to import, and only for quantization
)
NUMPY_REMOVED = ("mirr", "npv", "pmt", "ppmt", "pv", "rate")  # looked up, never called

# What MXNet calls the hyper-parameters that decide a layer's output at inference, and what we call them.
SETTINGS = {
    "kernel": "kernel",
    "stride": "stride",
    "pad": "padding",
    "dilate": "dilation",
    "num_group": "groups",
    "eps": "eps",
    "pooling_convention": "ceil_mode",
}


class Frameworks(NamedTuple):
    """The three modules that a run needs."""

    numpy: Any
    mxnet: Any
    gluoncv: Any


def main(folder: Path) -> None:
    """Answer the request in ``folder``."""
    request = json.loads((folder / "request.json").read_text(encoding="utf-8"))
    try:
        frameworks = import_frameworks()
    except (ImportError, OSError, AttributeError, RuntimeError) as error:
        answer: dict[str, Any] = {"unavailable": f"{type(error).__name__}: {error}"}
    else:
        answer = (run_graph if "symbol" in request else run)(frameworks, request, folder)
        # What is installed: gluoncv 0.10.5.post0 calls itself 0.11.0.
        versions = {name: importlib.metadata.version(name) for name in Frameworks._fields}
        answer["versions"] = {**versions, "python": platform.python_version()}
    (folder / "reply.json").write_text(json.dumps(answer), encoding="utf-8")


def run(frameworks: Frameworks, request: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Send every input through the network, cast as its run asks, and keep the layers' outputs."""
    numpy, mxnet, gluoncv = frameworks
    # Two of GluonCV's networks cannot be made without saying that they are not pretrained.
    net = gluoncv.model_zoo.get_model(request["model"], classes=request["classes"], pretrained=False)
    net.collect_params().setattr("grad_req", "null")  # else each parameter gets a gradient of its size
    net.load_parameters(request["params"], cast_dtype=True, dtype_source="saved")
    blocks = [functools.reduce(child, name.split("."), net) for name in request["layers"]]

    def keep(layer: int, _block: object, _inputs: object, output: Any) -> None:  # noqa: ANN401 - MXNet's
        numpy.save(folder / f"{number}-{layer}.npy", output.asnumpy())

    for layer, block in enumerate(blocks):
        block.register_forward_hook(functools.partial(keep, layer))
    current = {numpy.dtype(parameter.dtype).name for parameter in net.collect_params().values()}
    # The wider precision first: what is rounded to the narrower does not come back.
    runs = sorted(enumerate(request["runs"]), key=lambda run: run[1]["dtype"], reverse=True)
    for number, step in runs:  # noqa: B007 - `keep` reads it
        if current != {step["dtype"]}:
            net.cast(step["dtype"])
            current = {step["dtype"]}
        net(mxnet.nd.array(numpy.load(folder / step["input"]), dtype=step["dtype"]))
    return {"settings": [settings(block) for block in blocks]}


def run_graph(frameworks: Frameworks, request: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Send every input through a graph, bound as its run asks, and keep the outputs of the wanted nodes."""
    mxnet = frameworks.mxnet
    wanted = [node for node, _ in request["nodes"]]
    symbol = mxnet.sym.load(str(folder / request["symbol"]))
    nodes = json.loads(symbol.tojson())["nodes"]
    for node, name in request["nodes"]:
        if nodes[node]["name"] != name:
            raise ValueError(f"node {node} is {nodes[node]['name']}, not {name}")
    internals = symbol.get_internals()
    entries = [tuple(entry[:2]) for entry in json.loads(internals.tojson())["heads"]]
    names = dict(zip(entries, internals.list_outputs()))  # noqa: B905 - Python 3.8; MXNet keeps them of a length
    computed = [(node, names[node, 0]) for node in range(wanted[-1] + 1) if nodes[node]["op"] != "null"]
    head = internals[entries.index((wanted[-1], 0))]
    stored = mxnet.nd.load(request["params"])
    arrays = {variable: stored.pop(name) for variable, name in request["variables"].items()}
    # The wider precision first: what is rounded to the narrower does not come back.
    runs = sorted(enumerate(request["runs"]), key=lambda run: run[1]["dtype"], reverse=True)
    for number, step in runs:
        for variable, array in arrays.items():  # one after the other: there is no second copy of all
            arrays[variable] = array.astype(step["dtype"], copy=False)
        data = mxnet.nd.array(frameworks.numpy.load(folder / step["input"]), dtype=step["dtype"])
        given = {**arrays, request["data"]: data}
        auxiliary = head.list_auxiliary_states()
        executor = head.bind(
            mxnet.cpu(),
            {name: given[name] for name in head.list_arguments()},
            grad_req="null",
            aux_states={name: given[name] for name in auxiliary},
        )
        watch = OutputMonitor(frameworks, computed, wanted, lambda layer: folder / f"{number}-{layer}.npy")  # noqa: B023
        executor.set_monitor_callback(watch.keep)
        executor.forward(is_train=False)
        mxnet.nd.waitall()
        watch.require_complete()
    return {"settings": []}


class OutputMonitor:
    """Keeps the outputs of wanted nodes as an executor computes them, one at a time.

    The executor names each output that it computes and, of nodes with several, the others after the first.
    """

    def __init__(self, frameworks: Frameworks, computed: Any, wanted: Any, path: Any) -> None:  # noqa: ANN401
        self.frameworks = frameworks
        self.computed = computed
        self.wanted = wanted
        self.path = path
        self.position = 0
        self.error: Exception | None = None

    def keep(self, name: bytes, handle: Any) -> None:  # noqa: ANN401 - MXNet's
        """Take an output; what goes wrong is kept, for MXNet loses an exception in a callback."""
        numpy, mxnet, _ = self.frameworks
        array = mxnet.nd.NDArray(ctypes.cast(handle, mxnet.base.NDArrayHandle), writable=False)
        if self.position == len(self.computed) or self.computed[self.position][1] != name.decode():
            return
        node = self.computed[self.position][0]
        self.position += 1
        try:
            for layer in [layer for layer, each in enumerate(self.wanted) if each == node]:
                numpy.save(self.path(layer), array.asnumpy())
        except Exception as error:  # noqa: BLE001 - raised again when the executor has ended
            self.error = self.error or error

    def require_complete(self) -> None:
        """Raise what went wrong, or that some node was not computed."""
        if self.error is not None:
            raise self.error
        if self.position != len(self.computed):
            raise ValueError(f"MXNet did not compute {self.computed[self.position][1]}")


def child(block: Any, name: str) -> Any:  # noqa: ANN401 - MXNet has no types
    """Return the block of that name inside a block."""
    return block._children[name]  # noqa: SLF001 - Gluon offers no other way to a block by its name


def settings(block: Any) -> dict[str, Any]:  # noqa: ANN401 - as above
    """Return the hyper-parameters of a convolution, a pool or a BatchNorm, under our names."""
    given = getattr(block, "_kwargs", {})
    # A global pool takes what its input has: it has no hyper-parameters.
    found = (
        {} if given.get("global_pool") else {SETTINGS[key]: given[key] for key in SETTINGS if key in given}
    )
    if "ceil_mode" in found:
        found["ceil_mode"] = found["ceil_mode"] == "full"
    return {name: value[0] if isinstance(value, tuple) else value for name, value in found.items()}


def import_frameworks() -> Frameworks:
    """Import MXNet and GluonCV as if Python, numpy and torch were of their time."""
    import numpy  # noqa: ICN001, PLC0415 - what cannot be imported is reported by the caller

    provide_numpy_names(numpy)
    if sys.version_info >= (3, 12):
        provide_distutils()
    sys.meta_path.insert(0, HiddenModules())
    # An executor that fuses operators, or computes equal ones once, has other nodes than the graph.
    os.environ.update(MXNET_SUBGRAPH_BACKEND="NONE", MXNET_ELIMINATE_COMMON_EXPR="0")
    # MXNet first: GluonCV reports whatever MXNet lacks as "missing mxnet & torch".
    return Frameworks(numpy, importlib.import_module("mxnet"), importlib.import_module("gluoncv"))


def provide_numpy_names(numpy: Any) -> None:  # noqa: ANN401 - a module
    """Give numpy the names that it no longer has."""
    renamed = {name: getattr(numpy, successor, None) for name, successor in NUMPY_RENAMED.items()}
    for name, value in {**NUMPY_VALUES, **renamed, **dict.fromkeys(NUMPY_REMOVED)}.items():
        if name not in vars(numpy):
            setattr(numpy, name, value)


def provide_distutils() -> None:
    """Give newer Pythons the version classes of the standard library's distutils."""
    package, version = types.ModuleType("distutils"), types.ModuleType("distutils.version")
    vars(version).update(LooseVersion=NumericVersion, StrictVersion=NumericVersion)
    vars(package).update(version=version)
    sys.modules.update({"distutils": package, "distutils.version": version})


@functools.total_ordering
class NumericVersion:
    """A version compared by its numbers: all that MXNet and GluonCV ask of one."""

    def __init__(self, text: str) -> None:
        self.numbers = [int(part) for part in text.split(".") if part.isdigit()]

    def __eq__(self, other: object) -> bool:
        return isinstance(other, NumericVersion) and self.numbers == other.numbers

    def __lt__(self, other: NumericVersion) -> bool:
        return self.numbers < other.numbers

    def __hash__(self) -> int:
        return hash(tuple(self.numbers))


class HiddenModules(importlib.abc.MetaPathFinder):
    """Hides packages that GluonCV and MXNet look for and do without."""

    def find_spec(self, name: str, path: object = None, target: object = None) -> None:  # noqa: ARG002 - protocol
        """Say that these are not installed, and leave everything else to the other finders."""
        if name in HIDDEN:
            raise ModuleNotFoundError(f"{name} is hidden from GluonCV", name=name)


def end_with_parent() -> None:
    """Wait for the end of stdin, which whoever started us holds open, and go: nobody wants the outputs."""
    while os.read(0, 1):
        pass
    os._exit(1)


if __name__ == "__main__":
    sys.path.pop(0)  # this file's own folder must not stand before the installed packages
    threading.Thread(target=end_with_parent, daemon=True).start()
    main(Path(sys.argv[1]))
    sys.stderr.flush()
    os._exit(0)  # MXNet would take up to a second to take itself apart
