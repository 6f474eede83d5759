"""Runs a GluonCV network in a separate process: ``python gluon_child.py FOLDER``.

Any Python 3.8 or later with MXNet and GluonCV can run this file; our packages need not be installed.

FOLDER/request.json contains ``model`` (GluonCV's name), ``options`` (arguments of ``get_model``),
``params`` (a file), ``absent`` (the structural names of the blocks that ``params`` does not contain),
``layers`` (those of the blocks whose outputs are requested) and ``runs``, each with ``dtype`` and ``input``
(a .npy file in FOLDER).

The output of layer L in run R is written to FOLDER/R-L.npy, both counted from 0. FOLDER/reply.json then
contains ``versions`` and ``settings`` (the hyper-parameters of each of GluonCV's layers), or
``unavailable``, the reason why MXNet cannot be imported. A request without ``model`` only asks for that.
"""

from __future__ import annotations

import contextlib
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
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator

# Names that MXNet 1.9.1 looks up at import and NumPy has removed: `bool` in 1.24, the others in 2.0.
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
    "torch",  # GluonCV 0.10 refuses to be imported if torch 2 is installed
    "scipy.stats",  # takes half a second to import and is used for quantization only
)
NUMPY_REMOVED = ("mirr", "npv", "pmt", "ppmt", "pv", "rate")  # looked up, but never called

# The hyper-parameters that affect a layer's output at inference: {MXNet's name: ours}.
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
    """The modules of a run."""

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
        answer = {**(run(frameworks, request, folder) if "model" in request else {}), "versions": versions()}
    (folder / "reply.json").write_text(json.dumps(answer), encoding="utf-8")


def run(frameworks: Frameworks, request: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Run GluonCV's network on every input, in the dtype of its run, and save the layers' outputs."""
    numpy, mxnet, gluoncv = frameworks
    # Two of GluonCV's networks cannot be created without an explicit `pretrained`.
    net = gluoncv.model_zoo.get_model(request["model"], **request["options"], pretrained=False)
    net.collect_params().setattr("grad_req", "null")  # avoids allocating a gradient for each parameter
    absent = [functools.reduce(child, name.split("."), net) for name in request["absent"]]
    for block in absent:
        block.initialize()
    # Any other missing parameter remains uninitialized, which is an error in the forward pass.
    allowed = {"allow_missing": True} if absent else {}
    net.load_parameters(request["params"], cast_dtype=True, dtype_source="saved", **allowed)
    blocks = [functools.reduce(child, name.split("."), net) for name in request["layers"]]

    def keep(layer: int, _block: object, _inputs: object, output: Any) -> None:  # noqa: ANN401 - MXNet's
        numpy.save(folder / f"{number}-{layer}.npy", output.asnumpy())

    for layer, block in enumerate(blocks):
        block.register_forward_hook(functools.partial(keep, layer))
    # The wider precision first: what is rounded to the narrower does not come back.
    runs = sorted(enumerate(request["runs"]), key=lambda run: run[1]["dtype"], reverse=True)
    for number, step in runs:  # noqa: B007 - `keep` reads it
        with computing(numpy, net, step["dtype"]):
            net(mxnet.nd.array(numpy.load(folder / step["input"]), dtype=step["dtype"]))
    return {"settings": [settings(block) for block in blocks]}


@contextlib.contextmanager
def computing(numpy: Any, net: Any, dtype: str) -> Iterator[None]:  # noqa: ANN401 - MXNet has no types
    """Let a network compute in a precision: a wider one costs the memory of one layer, not of the network.

    A block's parameters are widened while it runs, and then get their own precision back, which is exact.
    To a narrower precision they are rounded for good.
    """
    handles = []

    def widen(parameters: list[tuple[Any, str]], *_: object) -> None:
        for parameter, _own in parameters:
            parameter.cast(dtype)

    def restore(parameters: list[tuple[Any, str]], *_: object) -> None:
        for parameter, own in parameters:
            parameter.cast(own)

    def prepare(block: Any) -> None:  # noqa: ANN401 - as above
        own = [(each, numpy.dtype(each.dtype).name) for each in block.params.values()]
        for parameter, name in own:
            if name > dtype:  # "float64" > "float32" > "float16"
                parameter.cast(dtype)
        wider = [(parameter, name) for parameter, name in own if name < dtype]
        if wider:
            handles.append(block.register_forward_pre_hook(functools.partial(widen, wider)))
            handles.append(block.register_forward_hook(functools.partial(restore, wider)))

    net.apply(prepare)
    try:
        yield
    finally:
        for handle in handles:
            handle.detach()


def child(block: Any, name: str) -> Any:  # noqa: ANN401 - MXNet has no types
    """Return a block's child by name."""
    return block._children[name]  # noqa: SLF001 - Gluon has no public access to a child by name


def settings(block: Any) -> dict[str, Any]:  # noqa: ANN401 - as above
    """Return the hyper-parameters of a convolution, a pool or a BatchNorm by our names."""
    kwargs = getattr(block, "_kwargs", {})
    # A global pool has no hyper-parameters: its window is its whole input.
    values = (
        {} if kwargs.get("global_pool") else {SETTINGS[key]: kwargs[key] for key in SETTINGS if key in kwargs}
    )
    if "ceil_mode" in values:
        values["ceil_mode"] = values["ceil_mode"] == "full"
    return {name: value[0] if isinstance(value, tuple) else value for name, value in values.items()}


def import_frameworks(*, gluoncv: bool = True) -> Frameworks:
    """Import MXNet and GluonCV, or MXNet alone, despite newer versions of Python, NumPy and torch."""
    import numpy  # noqa: ICN001, PLC0415 - the caller reports import errors

    provide_numpy_names(numpy)
    if sys.version_info >= (3, 12):
        provide_distutils()
    sys.meta_path.insert(0, HiddenModules())
    # With fused or deduplicated operators the executor's nodes would differ from the graph's.
    os.environ.update(MXNET_SUBGRAPH_BACKEND="NONE", MXNET_ELIMINATE_COMMON_EXPR="0")
    # MXNet first: GluonCV reports any error of MXNet's import as "missing mxnet & torch".
    mxnet = importlib.import_module("mxnet")
    return Frameworks(numpy, mxnet, importlib.import_module("gluoncv") if gluoncv else None)


def versions() -> dict[str, str]:
    """Return the installed versions: the __version__ of gluoncv 0.10.5.post0 is 0.11.0."""
    packages = {name: importlib.metadata.version(name) for name in Frameworks._fields}
    return {**packages, "python": platform.python_version()}


def provide_numpy_names(numpy: Any) -> None:  # noqa: ANN401 - a module
    """Restore the names that NumPy has removed."""
    renamed = {name: getattr(numpy, successor, None) for name, successor in NUMPY_RENAMED.items()}
    for name, value in {**NUMPY_VALUES, **renamed, **dict.fromkeys(NUMPY_REMOVED)}.items():
        if name not in vars(numpy):
            setattr(numpy, name, value)


def provide_distutils() -> None:
    """Provide the version classes of distutils, which Python 3.12 has removed."""
    package, version = types.ModuleType("distutils"), types.ModuleType("distutils.version")
    vars(version).update(LooseVersion=NumericVersion, StrictVersion=NumericVersion)
    vars(package).update(version=version)
    sys.modules.update({"distutils": package, "distutils.version": version})


@functools.total_ordering
class NumericVersion:
    """A version that is compared by its numbers; MXNet and GluonCV need no more."""

    def __init__(self, text: str) -> None:
        self.numbers = [int(part) for part in text.split(".") if part.isdigit()]

    def __eq__(self, other: object) -> bool:
        return isinstance(other, NumericVersion) and self.numbers == other.numbers

    def __lt__(self, other: NumericVersion) -> bool:
        return self.numbers < other.numbers

    def __hash__(self) -> int:
        return hash(tuple(self.numbers))


class HiddenModules(importlib.abc.MetaPathFinder):
    """Hides optional dependencies of GluonCV and MXNet."""

    def find_spec(self, name: str, path: object = None, target: object = None) -> None:  # noqa: ARG002 - protocol
        """Raise for a hidden module, and leave all others to the next finders."""
        if name in HIDDEN:
            raise ModuleNotFoundError(f"{name} is hidden from GluonCV", name=name)


def end_with_parent() -> None:
    """Exit when stdin ends: the parent process has exited, and the outputs are no longer needed."""
    while os.read(0, 1):
        pass
    os._exit(1)


if __name__ == "__main__":
    sys.path.pop(0)  # this file's folder must not precede the installed packages
    threading.Thread(target=end_with_parent, daemon=True).start()
    main(Path(sys.argv[1]))
    sys.stderr.flush()
    os._exit(0)  # skips MXNet's shutdown, which takes up to a second
