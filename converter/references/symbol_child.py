"""Runs an MXNet symbol in a separate process: ``python symbol_child.py FOLDER``.

Any Python 3.8 or later with MXNet can run this file; our packages need not be installed.

FOLDER/request.json contains

* ``symbol`` (a file in FOLDER), ``params`` (a file) and ``variables`` (the names of the symbol's parameters
  in ``params``, by variable);
* ``heads`` (the entries up to which the symbol is run), ``compared`` (the entries in which the rewritten
  symbol is compared) and ``nodes`` (the index, in the order of MXNet's ``tojson()``, and the name of each
  node whose outputs are requested);
* ``runs``, each with ``dtype`` and ``inputs`` (a .npy file in FOLDER by name of the variable);
* ``stream``. If it is false, the first output of the L-th node in run R is written to FOLDER/R-L.npy, both
  counted from 0. If it is true, all outputs of the nodes are written to standard output while they are
  computed, and the symbol is rewritten for float64; in float32 it is run as it is, and compared with the
  rewritten one. ``single`` contains the indices of the nodes that are computed in float32 nevertheless;
* ``labelled``, the indices of the nodes whose last input is a label. Labels that nodes compute are replaced.

The stream consists of lines of JSON. A line with ``node``, ``output``, ``dtype`` and ``shape`` is followed by
the bytes of the array; those with ``begin`` and ``end`` contain the number of a run.

FOLDER/reply.json then contains ``versions``, ``replaced`` (the operators that were rewritten, by node) and
``rewriting`` (the largest difference between both in float32, relative to the largest value), or
``unavailable``, the reason why MXNet cannot be imported.
"""

from __future__ import annotations

import ctypes
import importlib.util
import json
import os
import re
import sys
import threading
from pathlib import Path
from typing import Any

LARGEST = 1e300  # stands for infinity and NaN, which JSON does not have


def load(name: str) -> Any:  # noqa: ANN401 - a module
    """Import a file of this folder, which is not on sys.path: it contains a module named numpy."""
    spec = importlib.util.spec_from_file_location(name, Path(__file__).with_name(name + ".py"))
    if spec is None or spec.loader is None:
        raise ImportError(name)
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


def main(folder: Path, stream: Any) -> None:  # noqa: ANN401 - a binary file
    """Answer the request in ``folder``; outputs are streamed to a file."""
    request = json.loads((folder / "request.json").read_text(encoding="utf-8"))
    child = load("gluon_child")
    try:
        frameworks = child.import_frameworks(gluoncv=False)  # a graph does not need it
        versions = child.versions()
    except (ImportError, OSError, AttributeError, RuntimeError) as error:
        answer: dict[str, Any] = {"unavailable": f"{type(error).__name__}: {error}"}
    else:
        write = Stream(stream) if request["stream"] else Files(frameworks.numpy, folder, request["nodes"])
        try:
            answer = {**Run(frameworks, request, folder, write).all(), "versions": versions}
        except frameworks.mxnet.base.MXNetError as error:
            raise RuntimeError(with_names(str(error), request["nodes"])) from None
    (folder / "reply.json").write_text(json.dumps(answer), encoding="utf-8")


class Stream:
    """Writes outputs to a file."""

    def __init__(self, file: Any) -> None:  # noqa: ANN401 - a binary file
        self.file = file

    def mark(self, **message: int) -> None:
        """Write a line."""
        self.file.write(json.dumps(message).encode() + b"\n")
        self.file.flush()

    def output(self, number: int, node: int, output: int, array: Any) -> None:  # noqa: ANN401, ARG002 - numpy's
        """Write an output of a node."""
        header = {"node": node, "output": output, "dtype": array.dtype.str, "shape": array.shape}
        self.file.write(json.dumps(header).encode() + b"\n")
        self.file.write(array.tobytes())
        self.file.flush()


class Files:
    """Writes the first outputs of nodes to files."""

    def __init__(self, numpy: Any, folder: Path, nodes: Any) -> None:  # noqa: ANN401 - a module, JSON
        self.numpy = numpy
        self.folder = folder
        self.nodes = [node for node, _ in nodes]

    def mark(self, **message: int) -> None:
        """Ignore the beginning and the end of a run."""

    def output(self, number: int, node: int, output: int, array: Any) -> None:  # noqa: ANN401 - numpy's array
        """Write an output of a node."""
        for layer, requested in enumerate(self.nodes):
            if requested == node and output == 0:
                self.numpy.save(self.folder / f"{number}-{layer}.npy", array)


class Run:
    """The runs of one request.

    Attributes:
        document: the symbol with the requested heads; node N of the whole symbol is named ``nodeN``.
        arrays: the parameters by variable.
    """

    def __init__(self, frameworks: Any, request: Any, folder: Path, write: Any) -> None:  # noqa: ANN401 - JSON
        self.frameworks = frameworks
        self.request = request
        self.folder = folder
        self.write = write
        self.mxnet = frameworks.mxnet
        self.float64 = load("float64_graph")
        document = json.loads(self.mxnet.sym.load(str(folder / request["symbol"])).tojson())
        for index, name in request["nodes"]:
            if document["nodes"][index]["name"] != name:
                raise ValueError(f"node {index} is {document['nodes'][index]['name']}, not {name}")
        for index, node in enumerate(document["nodes"]):
            if node["op"] != "null":  # MXNet allows several nodes with the same name
                node["name"] = node_name(index)
        heads = [
            *request["compared"],
            *(head for head in request["heads"] if head not in request["compared"]),
        ]
        document["heads"] = [[*head, 0] for head in heads]
        free_labels(document, request["labelled"])
        self.document = json.loads(self.mxnet.sym.load_json(json.dumps(document)).tojson())
        stored = self.mxnet.nd.load(request["params"]) if request["variables"] else {}
        self.arrays = {variable: stored.pop(name) for variable, name in request["variables"].items()}

    def all(self) -> dict[str, Any]:
        """Run everything, float64 first: parameters are rounded in place."""
        answer: dict[str, Any] = {"replaced": {}, "rewriting": 0.0}
        runs = sorted(enumerate(self.request["runs"]), key=lambda each: each[1]["dtype"], reverse=True)
        for number, run in runs:
            values = self.values(run["dtype"], run["inputs"])
            if not self.request["stream"]:
                self.forward(self.symbol(), values, number)
                continue
            rewriting, rewritten, others = self.rewritten(values, run["dtype"])
            answer["replaced"] = {node_index(name): operator for name, operator in rewriting.replaced.items()}
            if run["dtype"] == "float64":
                self.forward(rewritten, others, number)
            else:
                heads = self.forward(self.symbol(), self.with_labels(values), number)
                answer["rewriting"] = max(answer["rewriting"], self.difference(heads, rewritten, others))
        if answer["replaced"] and all(run["dtype"] == "float64" for _, run in runs):
            values = self.values("float32", runs[0][1]["inputs"])
            heads = self.forward(self.symbol(), self.with_labels(values), None)
            answer["rewriting"] = self.difference(heads, *self.rewritten(values, "float32")[1:])
        return answer

    def symbol(self) -> Any:  # noqa: ANN401 - MXNet has no types
        """Return the symbol as it is."""
        return self.mxnet.sym.load_json(json.dumps(self.document))

    def values(self, dtype: str, inputs: dict[str, str]) -> dict[str, Any]:
        """Return parameters and inputs in a precision, to which the parameters are rounded for good."""
        for name, array in self.arrays.items():  # one by one: never two copies of all of them
            self.arrays[name] = array.astype(dtype, copy=False)
        read = self.frameworks.numpy.load
        given = {
            name: self.mxnet.nd.array(read(self.folder / file), dtype=dtype) for name, file in inputs.items()
        }
        return {**self.arrays, **given}

    def rewritten(self, values: dict[str, Any], dtype: str) -> Any:  # noqa: ANN401 - MXNet has no types
        """Return the rewriting, its symbol, and the values with its constants."""
        symbol = self.symbol()
        single = frozenset(map(node_name, self.request["single"]))
        rewriting = self.float64.Rewriting(self.document, self.shapes(symbol, values), dtype, single)
        constants = {
            name: self.mxnet.nd.array(array, dtype=dtype) for name, array in rewriting.constants.items()
        }
        return rewriting, self.mxnet.sym.load_json(rewriting.document()), {**values, **constants}

    def shapes(self, symbol: Any, values: dict[str, Any]) -> dict[Any, Any]:  # noqa: ANN401 - MXNet has no types
        """Return the shape of every output, by (node, output)."""
        internals = symbol.get_internals()
        known = {name: values[name].shape for name in symbol.list_inputs() if name in values}
        _, outputs, _ = internals.infer_shape(**known)
        return dict(zip(entries(internals), outputs))  # noqa: B905 - Python 3.8

    def with_labels(self, values: dict[str, Any]) -> dict[str, Any]:
        """Return the values with zeros for the variables that have none: labels."""
        symbol = self.symbol()
        known = {name: values[name].shape for name in symbol.list_inputs() if name in values}
        shapes, _, _ = symbol.infer_shape(**known)
        named = zip(symbol.list_arguments(), shapes)  # noqa: B905 - as above
        return {**{name: self.mxnet.nd.zeros(shape) for name, shape in named if name not in values}, **values}

    def forward(self, symbol: Any, values: Any, number: Any) -> Any:  # noqa: ANN401 - as above
        """Run a symbol and return its heads; write the outputs of the nodes if the run has a number."""
        executor = symbol.bind(
            self.mxnet.cpu(),
            {name: values[name] for name in symbol.list_arguments()},
            grad_req="null",
            aux_states={name: values[name] for name in symbol.list_auxiliary_states()},
        )
        if number is None:
            return [output.asnumpy() for output in executor.forward(is_train=False)]
        self.write.mark(begin=number)
        monitor = OutputMonitor(
            self.frameworks, self.requested(symbol), lambda *each: self.write.output(number, *each)
        )
        executor.set_monitor_callback(monitor.keep)
        heads = [output.asnumpy() for output in executor.forward(is_train=False)]
        monitor.require_complete()
        self.write.mark(end=number)
        return heads

    def requested(self, symbol: Any) -> dict[str, tuple[int, int]]:  # noqa: ANN401 - as above
        """Return (node of the whole symbol, output) of each requested output by MXNet's name."""
        internals = symbol.get_internals()
        nodes = json.loads(internals.tojson())["nodes"]
        wanted = {node_name(index): index for index, _ in self.request["nodes"]}
        found = {}
        for (node, output), name in zip(entries(internals), internals.list_outputs()):  # noqa: B905 - as above
            own, _, further = nodes[node]["name"].partition("__output")
            if nodes[node]["op"] != "null" and own in wanted:
                found[name] = (wanted[own], int(further or output))
        return found

    def difference(self, heads: Any, symbol: Any, values: Any) -> float:  # noqa: ANN401 - as above
        """Return the largest difference between outputs and a symbol's, relative to the largest value."""
        numpy = self.frameworks.numpy
        largest = 0.0
        others = self.forward(symbol, values, None)
        for one, other in list(zip(heads, others))[: len(self.request["compared"])]:  # noqa: B905 - as above
            same = (one == other) | ((one != one) & (other != other))  # noqa: PLR0124 - NaN
            scale = float(numpy.abs(one[numpy.isfinite(one)]).max(initial=0.0)) or 1.0
            far = float(numpy.abs(one.astype("float64") - other).max(where=~same, initial=0.0)) / scale
            largest = max(largest, min(LARGEST, far))
        return largest


class OutputMonitor:
    """Writes the requested outputs while an executor computes them.

    Attributes:
        requested: (node, output) by MXNet's name; those that are written are removed.
        write: writes an output: its node, its number, its array.
        error: the first error in the callback.
    """

    def __init__(self, frameworks: Any, requested: dict[str, tuple[int, int]], write: Any) -> None:  # noqa: ANN401
        self.mxnet = frameworks.mxnet
        self.requested = requested
        self.write = write
        self.error: Exception | None = None

    def keep(self, name: bytes, handle: Any) -> None:  # noqa: ANN401 - MXNet's
        """Write an output. Errors are stored, because MXNet loses exceptions raised in a callback."""
        # Made even if it is not requested: an NDArray frees the handle.
        array = self.mxnet.nd.NDArray(ctypes.cast(handle, self.mxnet.base.NDArrayHandle), writable=False)
        entry = self.requested.pop(name.decode(), None)
        if entry is None or self.error is not None:
            return
        try:
            self.write(*entry, array.asnumpy())
        except Exception as error:  # noqa: BLE001 - raised again after the executor has ended
            self.error = error

    def require_complete(self) -> None:
        """Check that every requested output was computed and written.

        Raises:
            ValueError: if one was not computed.
            Exception: the first error in the callback.
        """
        if self.error is not None:
            raise self.error
        if self.requested:
            raise ValueError(f"MXNet did not compute {sorted(self.requested)}")


def with_names(message: str, nodes: Any) -> str:  # noqa: ANN401 - JSON
    """Return a message of MXNet with the names that nodes have in the graph's file."""
    names = dict(nodes)
    return re.sub(r"\bnode(\d+)\b", lambda match: names.get(int(match[1]), match[0]), message)


def free_labels(document: Any, labelled: list[int]) -> None:  # noqa: ANN401 - JSON
    """Replace labels that nodes compute by variables: they have no effect at inference."""
    nodes = document["nodes"]
    computed = [index for index in labelled if nodes[nodes[index]["inputs"][-1][0]]["op"] != "null"]
    shift = len(computed)
    for node in nodes:
        node["inputs"] = [[entry[0] + shift, entry[1], 0] for entry in node["inputs"]]
    for place, index in enumerate(computed):
        nodes[index]["inputs"][-1] = [place, 0, 0]
    document["heads"] = [[head[0] + shift, head[1], 0] for head in document["heads"]]
    document["nodes"] = [
        {"op": "null", "name": f"label{place}", "inputs": []} for place in range(shift)
    ] + nodes
    document["arg_nodes"] = [place for place, node in enumerate(document["nodes"]) if node["op"] == "null"]
    document.pop("node_row_ptr", None)


def entries(internals: Any) -> list[tuple[int, int]]:  # noqa: ANN401 - as above
    """Return (node, output) of every output, in MXNet's order."""
    return [(entry[0], entry[1]) for entry in json.loads(internals.tojson())["heads"]]


def node_name(index: int) -> str:
    """Return the name of a node of the whole symbol."""
    return f"node{index}"


def node_index(name: str) -> int:
    """Return the index of a node in the whole symbol, from its name."""
    return int(name[len("node") :])


if __name__ == "__main__":
    sys.path.pop(0)  # this file's folder must not precede the installed packages
    gluon_child = load("gluon_child")
    threading.Thread(target=gluon_child.end_with_parent, daemon=True).start()
    with os.fdopen(os.dup(1), "wb") as standard_output:
        os.dup2(2, 1)  # what MXNet prints goes to the log
        main(Path(sys.argv[1]), standard_output)
    sys.stderr.flush()
    os._exit(0)  # skips MXNet's shutdown, which takes up to a second
