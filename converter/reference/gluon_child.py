"""Run GluonCV itself on a request, in a process of its own: ``python gluon_child.py FOLDER``.

Stands alone: any Python from 3.8 on that has MXNet and GluonCV can run this file; ours need not be installed.

FOLDER/request.json says what to do: ``model`` (GluonCV's name), ``classes``, ``params`` (a file in structural
names), ``layers`` (the blocks whose outputs are wanted, by structural name) and ``runs``, each with ``dtype``
and ``input`` (a .npy file in FOLDER). The output of layer L in run R is written to FOLDER/R-L.npy, both
counted from 0. FOLDER/reply.json then holds ``versions`` and ``settings`` (of each layer, its
hyper-parameters), or ``unavailable`` with the reason why MXNet cannot be imported here.
"""

from __future__ import annotations

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
        answer = run(frameworks, request, folder)
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
    sys.meta_path.insert(0, Hidden())
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


class Hidden(importlib.abc.MetaPathFinder):
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
