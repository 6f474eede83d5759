"""Run GluonCV itself on a request, in a process of its own: ``python gluon_child.py FOLDER``.

Stands alone: any Python from 3.8 on that has MXNet and GluonCV can run this file; ours need not be installed.

FOLDER/request.json says what to do: ``model`` (GluonCV's name), ``classes``, ``params`` (a file in structural
names) and ``runs``, each with ``dtype``, ``input`` and ``output`` (.npy files in FOLDER). FOLDER/reply.json
then holds ``versions``, or ``unavailable`` with the reason why MXNet cannot be imported here.
"""

from __future__ import annotations

import functools
import importlib.abc
import json
import os
import platform
import sys
import types
from pathlib import Path
from typing import Any

if __name__ == "__main__":
    sys.path.pop(0)  # this file's own folder must not stand before the installed packages

import numpy as np

# Names that MXNet 1.9.1 looks up at import and that newer numpy lacks: `bool` since 1.24, the rest since 2.0.
NUMPY_VALUES = {
    "bool": bool,
    "PZERO": 0.0,
    "NZERO": -0.0,
    "PINF": float("inf"),
    "NINF": float("-inf"),
    "NAN": float("nan"),
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
NUMPY_REMOVED = ("mirr", "npv", "pmt", "ppmt", "pv", "rate")  # looked up, never called


def main(folder: Path) -> None:
    """Answer the request in ``folder``."""
    request = json.loads((folder / "request.json").read_text(encoding="utf-8"))
    try:
        mxnet, gluoncv = import_frameworks()
    except (ImportError, OSError, AttributeError, RuntimeError) as error:
        answer = {"unavailable": f"{type(error).__name__}: {error}"}
    else:
        run(mxnet, gluoncv, request, folder)
        answer = {
            "versions": {
                "gluoncv": gluoncv.__version__,
                "mxnet": mxnet.__version__,
                "numpy": np.__version__,
                "python": platform.python_version(),
            }
        }
    (folder / "reply.json").write_text(json.dumps(answer), encoding="utf-8")


def run(mxnet: Any, gluoncv: Any, request: dict[str, Any], folder: Path) -> None:  # noqa: ANN401 - modules
    """Send every input through the network, cast as its run asks, and keep the logits."""
    net = gluoncv.model_zoo.get_model(request["model"], classes=request["classes"])
    net.collect_params().setattr("grad_req", "null")  # else each parameter gets a gradient of its size
    net.load_parameters(request["params"])
    current = "float32"
    for step in request["runs"]:
        if step["dtype"] != current:
            net.cast(step["dtype"])
            current = step["dtype"]
        inputs = mxnet.nd.array(np.load(folder / step["input"]), dtype=current)
        np.save(folder / step["output"], net(inputs).asnumpy())


def import_frameworks() -> tuple[Any, Any]:
    """Import MXNet and GluonCV as if Python, numpy and torch were of their time."""
    for name, value in NUMPY_VALUES.items():
        provide(name, value)
    for name, successor in NUMPY_RENAMED.items():
        provide(name, getattr(np, successor, None))
    for name in NUMPY_REMOVED:
        provide(name, None)
    if sys.version_info >= (3, 12):
        provide_distutils()
    sys.meta_path.insert(0, TorchHidden())
    # Not before numpy has its names.
    import gluoncv  # noqa: PLC0415
    import mxnet  # noqa: PLC0415

    return mxnet, gluoncv


def provide(name: str, value: object) -> None:
    """Give numpy a name that it no longer has."""
    if name not in vars(np):
        setattr(np, name, value)


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


class TorchHidden(importlib.abc.MetaPathFinder):
    """Hides torch: GluonCV 0.10 refuses to be imported where it finds torch 2."""

    def find_spec(self, name: str, path: object = None, target: object = None) -> None:  # noqa: ARG002 - protocol
        """Say that there is no torch, and leave everything else to the other finders."""
        if name == "torch":
            raise ModuleNotFoundError("torch is hidden from GluonCV", name=name)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
    sys.stderr.flush()
    os._exit(0)  # MXNet would take up to a second to take itself apart
