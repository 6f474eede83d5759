"""Runs an MXNet symbol in a separate process: ``python symbol_child.py FOLDER``.

Any Python 3.8 or later with MXNet can run this file; our packages need not be installed.

FOLDER/request.json contains ``symbol`` (a file in FOLDER), ``params`` (a file), ``variables`` (the names of
the symbol's parameters in ``params``), ``heads`` (entries), ``nodes`` (the indices, in the order of MXNet's
``tojson()``, and names of the nodes whose outputs are requested) and ``runs``, each with ``dtype`` and
``inputs`` (a .npy file in FOLDER by name of the variable).

In float64 the symbol is rewritten first; in float32 it is run as it is, and compared with the rewritten one.
The first output of node N in run R is written to FOLDER/R-N.npy, that of head H to FOLDER/R-head-H.npy.
FOLDER/reply.json then contains ``versions``, ``replaced`` (the operators that were rewritten) and
``rewriting`` (the largest difference between both in float32, relative to the largest value), or
``unavailable``, the reason why MXNet cannot be imported.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import json
import os
import platform
import sys
import threading
from pathlib import Path
from typing import Any


def load(name: str) -> Any:  # noqa: ANN401 - a module
    """Import a file of this folder, which is not on sys.path: it contains a module named numpy."""
    spec = importlib.util.spec_from_file_location(name, Path(__file__).with_name(name + ".py"))
    if spec is None or spec.loader is None:
        raise ImportError(name)
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


def main(folder: Path) -> None:
    """Answer the request in ``folder``."""
    request = json.loads((folder / "request.json").read_text(encoding="utf-8"))
    child = load("gluon_child")
    try:
        frameworks = child.import_frameworks()
    except (ImportError, OSError, AttributeError, RuntimeError) as error:
        answer: dict[str, Any] = {"unavailable": f"{type(error).__name__}: {error}"}
    else:
        answer = Run(child, frameworks, request, folder).all()
        versions = {name: importlib.metadata.version(name) for name in frameworks._fields}
        answer["versions"] = {**versions, "python": platform.python_version()}
    (folder / "reply.json").write_text(json.dumps(answer), encoding="utf-8")


class Run:
    """The runs of one request.

    Attributes:
        document: the symbol with the requested heads; node N of the whole symbol is named ``nodeN``.
        arrays: the parameters by variable.
    """

    def __init__(self, child: Any, frameworks: Any, request: Any, folder: Path) -> None:  # noqa: ANN401 - JSON
        self.child = child
        self.frameworks = frameworks
        self.request = request
        self.folder = folder
        self.mxnet = frameworks.mxnet
        self.float64 = load("float64_graph")
        document = json.loads(self.mxnet.sym.load(str(folder / request["symbol"])).tojson())
        for index, name in request["nodes"]:
            if document["nodes"][index]["name"] != name:
                raise ValueError(f"node {index} is {document['nodes'][index]['name']}, not {name}")
        for index, node in enumerate(document["nodes"]):
            if node["op"] != "null":  # MXNet allows several nodes with the same name
                node["name"] = node_name(index)
        document["heads"] = [[*head, 0] for head in request["heads"]]
        self.document = json.loads(self.mxnet.sym.load_json(json.dumps(document)).tojson())
        stored = self.mxnet.nd.load(request["params"]) if request["variables"] else {}
        self.arrays = {variable: stored[name] for variable, name in request["variables"].items()}

    def all(self) -> dict[str, Any]:
        """Run everything; the wider precision first: what is rounded to the narrower does not come back."""
        answer: dict[str, Any] = {"replaced": [], "rewriting": 0.0}
        runs = sorted(enumerate(self.request["runs"]), key=lambda each: each[1]["dtype"], reverse=True)
        for number, run in runs:
            dtype = run["dtype"]
            inputs = {
                name: self.mxnet.nd.array(self.frameworks.numpy.load(self.folder / file), dtype=dtype)
                for name, file in run["inputs"].items()
            }
            self.arrays = {name: array.astype(dtype, copy=False) for name, array in self.arrays.items()}
            values = {**self.arrays, **inputs}
            symbol = self.mxnet.sym.load_json(json.dumps(self.document))
            rewriting = self.float64.Rewriting(self.document, self.shapes(symbol, values))
            answer["replaced"] = sorted(set(rewriting.replaced))
            rewritten = self.mxnet.sym.load_json(rewriting.document())
            constants = {
                name: self.mxnet.nd.array(array, dtype=dtype) for name, array in rewriting.constants.items()
            }
            if dtype == "float64":
                self.forward(rewritten, {**values, **constants}, number)
                continue
            heads = self.forward(symbol, self.with_labels(symbol, values), number)
            if rewriting.replaced:
                others = self.forward(rewritten, {**values, **constants}, None)
                answer["rewriting"] = max(map(self.difference, heads, others))
        return answer

    def shapes(self, symbol: Any, values: dict[str, Any]) -> dict[Any, Any]:  # noqa: ANN401 - MXNet has no types
        """Return the shape of every output, by (node, output)."""
        internals = symbol.get_internals()
        known = {name: values[name].shape for name in symbol.list_inputs() if name in values}
        _, outputs, _ = internals.infer_shape(**known)
        entries = [tuple(entry[:2]) for entry in json.loads(internals.tojson())["heads"]]
        return dict(zip(entries, outputs))  # noqa: B905 - Python 3.8

    def with_labels(self, symbol: Any, values: dict[str, Any]) -> dict[str, Any]:  # noqa: ANN401 - as above
        """Return the values with zeros for the variables that have none: labels."""
        known = {name: values[name].shape for name in symbol.list_inputs() if name in values}
        shapes, _, _ = symbol.infer_shape(**known)
        named = zip(symbol.list_arguments(), shapes)  # noqa: B905 - as above
        return {**{name: self.mxnet.nd.zeros(shape) for name, shape in named if name not in values}, **values}

    def forward(self, symbol: Any, values: Any, number: Any) -> Any:  # noqa: ANN401 - as above
        """Run a symbol and return its heads; save them and the requested outputs if the run has a number."""
        internals = symbol.get_internals()
        nodes = json.loads(internals.tojson())
        names = {
            nodes["nodes"][entry[0]]["name"]: output
            for entry, output in zip(nodes["heads"], internals.list_outputs())  # noqa: B905 - as above
            if entry[1] == 0
        }
        order = {node["name"]: place for place, node in enumerate(nodes["nodes"])}
        wanted = [] if number is None else [index for index, _ in self.request["nodes"]]
        wanted.sort(key=lambda index: order[node_name(index)])
        monitor = self.child.OutputMonitor(
            self.frameworks,
            [(index, names[node_name(index)]) for index in wanted],
            wanted,
            lambda layer: self.folder / f"{number}-{wanted[layer]}.npy",
        )
        executor = symbol.bind(
            self.mxnet.cpu(),
            {name: values[name] for name in symbol.list_arguments()},
            grad_req="null",
            aux_states={name: values[name] for name in symbol.list_auxiliary_states()},
        )
        executor.set_monitor_callback(monitor.keep)
        heads = [output.asnumpy() for output in executor.forward(is_train=False)]
        monitor.require_complete()
        if number is not None:
            for head, array in enumerate(heads):
                self.frameworks.numpy.save(self.folder / f"{number}-head-{head}.npy", array)
        return heads

    def difference(self, one: Any, other: Any) -> float:  # noqa: ANN401 - numpy's arrays
        """Return the largest difference, relative to the largest value."""
        numpy = self.frameworks.numpy
        scale = float(numpy.abs(one).max()) or 1.0
        return float(numpy.abs(one.astype("float64") - other).max()) / scale


def node_name(index: int) -> str:
    """Return the name of a node of the whole symbol."""
    return f"node{index}"


if __name__ == "__main__":
    sys.path.pop(0)  # this file's folder must not precede the installed packages
    gluon_child = load("gluon_child")
    threading.Thread(target=gluon_child.end_with_parent, daemon=True).start()
    main(Path(sys.argv[1]))
    sys.stderr.flush()
    os._exit(0)  # skips MXNet's shutdown, which takes up to a second
