"""Run GluonCV itself on a request, in a process of its own: ``python gluon_child.py FOLDER``.

Stands alone: any Python from 3.8 on that has MXNet and GluonCV can run this file; ours need not be installed.

FOLDER/request.json says what to do: ``model`` (GluonCV's name), ``classes``, ``params`` (a file in structural
names) and ``runs``, each with ``dtype``, ``input`` and ``output`` (.npy files in FOLDER). FOLDER/reply.json
then holds ``versions``, or ``unavailable`` with the reason why MXNet cannot be imported here.
"""

from __future__ import annotations

import importlib.abc
import json
import os
import platform
import sys
import types

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


def main(folder):
    """Answer the request in ``folder``."""
    with open(os.path.join(folder, "request.json"), encoding="utf-8") as stream:
        request = json.load(stream)
    try:
        mxnet, gluoncv = import_frameworks()
    except (ImportError, OSError, AttributeError, RuntimeError) as error:
        reply(folder, {"unavailable": "{}: {}".format(type(error).__name__, error)})
        return
    run(mxnet, gluoncv, request, folder)
    versions = {
        "gluoncv": gluoncv.__version__,
        "mxnet": mxnet.__version__,
        "numpy": np.__version__,
        "python": platform.python_version(),
    }
    reply(folder, {"versions": versions})


def run(mxnet, gluoncv, request, folder):
    """Send every input through the network and keep its logits; in the order of the runs, cast as they ask."""
    net = gluoncv.model_zoo.get_model(request["model"], classes=request["classes"])
    net.load_parameters(request["params"])
    for step in request["runs"]:
        net.cast(step["dtype"])
        inputs = np.load(os.path.join(folder, step["input"]))
        logits = net(mxnet.nd.array(inputs, dtype=step["dtype"])).asnumpy()
        np.save(os.path.join(folder, step["output"]), logits)


def import_frameworks():
    """Import MXNet and GluonCV as if Python, numpy and torch were of their time."""
    for name, value in NUMPY_VALUES.items():
        provide(name, value)
    for name, successor in NUMPY_RENAMED.items():
        provide(name, getattr(np, successor, None))
    for name in NUMPY_REMOVED:
        provide(name, None)
    provide_distutils()
    sys.meta_path.insert(0, TorchHidden())
    import mxnet
    import gluoncv

    return mxnet, gluoncv


def provide(name, value):
    """Give numpy a name that it no longer has."""
    if name not in np.__dict__:
        setattr(np, name, value)


def provide_distutils():
    """Give Python 3.12 and later the two version classes of the standard library's distutils."""
    if sys.version_info < (3, 12):
        return
    version = types.ModuleType("distutils.version")
    version.LooseVersion = version.StrictVersion = NumericVersion
    sys.modules["distutils"] = types.ModuleType("distutils")
    sys.modules["distutils"].version = sys.modules["distutils.version"] = version


class NumericVersion:
    """A version compared by its leading numbers: all that MXNet and GluonCV ask of one."""

    def __init__(self, text):
        parts = text.split(".")
        self.numbers = [int(part) for part in parts if part.isdigit()]

    def __lt__(self, other):
        return self.numbers < other.numbers

    def __le__(self, other):
        return self.numbers <= other.numbers

    def __gt__(self, other):
        return self.numbers > other.numbers

    def __ge__(self, other):
        return self.numbers >= other.numbers


class TorchHidden(importlib.abc.MetaPathFinder):
    """Hides torch: GluonCV 0.10 refuses to be imported where it finds torch 2."""

    def find_spec(self, name, path=None, target=None):
        """Say that there is no torch, and leave everything else to the others."""
        if name == "torch":
            raise ModuleNotFoundError("torch is hidden from GluonCV", name=name)


def reply(folder, content):
    """Write the reply."""
    with open(os.path.join(folder, "reply.json"), "w", encoding="utf-8") as stream:
        json.dump(content, stream)


if __name__ == "__main__":
    main(sys.argv[1])
