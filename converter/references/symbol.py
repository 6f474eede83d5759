"""The MXNet reference for any graph: a child process runs its symbol and streams the outputs of its nodes."""

from __future__ import annotations

import contextlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
import numpy as np

from converter.formats.params import write_params
from converter.references import child_process
from converter.storage import disk

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from converter.dtypes import Array
    from converter.formats.file_arrays import Arrays
    from converter.graphs.graph import Entry, Graph
    from converter.references.child_process import ChildProcess

CHILD = Path(__file__).with_name("symbol_child.py")
SYMBOL, PARAMS = "symbol.json", "parameters.params"
OWN_KERNELS = {"MXNET_MKLDNN_ENABLED": "0"}  # oneDNN's SoftmaxOutput differs from MXNet's own
# MXNet's RNN fails in float32 without oneDNN. With it, the others compute something else, or fail.
NEEDS_ONEDNN = {"RNN"}
NO_ONEDNN = {"Deconvolution", "Softmax", "SoftmaxOutput"}


class _SymbolReply(msgspec.Struct, frozen=True):
    """The child's reply."""

    unavailable: str = ""
    versions: dict[str, str] = {}
    replaced: dict[int, str] = {}
    rewriting: float = 0.0


class _Message(msgspec.Struct, frozen=True):
    """A line of the child's stream: the begin or the end of a run, or an output of a node."""

    begin: int | None = None
    end: int | None = None
    node: int = 0
    output: int = 0
    dtype: str = ""
    shape: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class SymbolRequest:
    """What the child process runs and streams.

    Attributes:
        graph: the whole graph.
        parameters: the values of its variables, without inputs and labels.
        heads: the entries up to which it is run.
        compared: the entries in which the graph and its rewriting for float64 are compared.
        nodes: the indices of the nodes whose outputs are streamed.
        single: the indices of the nodes that MXNet computes in float32 only.
        labelled: the indices of the nodes whose last input is a label, which has no effect.
        runs: the dtype and the inputs by name of each run.
    """

    graph: Graph
    parameters: Arrays
    heads: Sequence[Entry]
    compared: Sequence[Entry]
    nodes: Sequence[int]
    single: Sequence[int] = ()
    labelled: Sequence[int] = ()
    runs: Sequence[tuple[str, Mapping[str, Array]]]


@dataclass(frozen=True, slots=True)
class SymbolRun:
    """A running child process.

    Attributes:
        child: the process.
        request: the requested run.
    """

    child: ChildProcess
    request: SymbolRequest

    @property
    def order(self) -> list[int]:
        """The numbers of the runs in the order in which they can be read: the wider precision first."""
        runs = self.request.runs
        return sorted(range(len(runs)), key=lambda number: runs[number][0], reverse=True)

    def outputs(self, number: int) -> Iterator[tuple[int, int, Array]]:
        """Wait until a run begins, and return (node, number of the output, output) as they are computed.

        Raises:
            ReferenceUnavailableError: if MXNet cannot be imported.
            ReferenceFailedError: if MXNet refuses the graph or the inputs; with the end of its log.
        """
        if self._message().begin != number:
            raise self.child.failure()
        return self._outputs(number)

    def _outputs(self, number: int) -> Iterator[tuple[int, int, Array]]:
        while (message := self._message()).end is None:
            dtype = np.dtype(message.dtype)
            size = dtype.itemsize * int(np.prod(message.shape, dtype=np.int64))
            content = self.child.read(size)
            if message.begin is not None or len(content) != size:
                raise self.child.failure()
            yield message.node, message.output, np.frombuffer(content, dtype).reshape(message.shape)
        if message.end != number:
            raise self.child.failure()

    def _message(self) -> _Message:
        line = self.child.read()
        if not line:  # the child has ended: its reply contains the reason
            self.child.reply(_SymbolReply)
            raise self.child.failure()
        try:
            return msgspec.json.decode(line, type=_Message)
        except msgspec.DecodeError as error:
            raise self.child.failure() from error

    def reply(self) -> tuple[dict[str, str], dict[int, str], float]:
        """Wait for the end of the child.

        Returns:
            The versions of MXNet, GluonCV, NumPy and Python; the operators that were replaced for float64,
            by the index of the node; the largest relative difference that this makes in float32.
        """
        reply = self.child.reply(_SymbolReply)
        return reply.versions, reply.replaced, reply.rewriting


@contextlib.contextmanager
def start(python: Path, request: SymbolRequest) -> Iterator[SymbolRun]:
    """Start MXNet on a graph; on exit the child is killed.

    Args:
        python: an interpreter with MXNet and GluonCV.
        request: the run.

    Raises:
        ReferenceUnavailableError: if the interpreter cannot be started.
    """
    with disk.temp_dir() as folder:
        with disk.writing(folder):
            _write(folder, request)
        operators = {node.operator for node in request.graph.nodes}
        uses_onednn = not operators.isdisjoint(NEEDS_ONEDNN) and operators.isdisjoint(NO_ONEDNN)
        variables = {} if uses_onednn else OWN_KERNELS
        with child_process.start(python, CHILD, folder, variables, streamed=True) as child:
            yield SymbolRun(child, request)


def document(
    graph: Graph, params: Path, variables: Mapping[str, str], nodes: Sequence[int], heads: Sequence[Entry]
) -> dict[str, object]:
    """Return a request in the child's format, which has no runs and no stream.

    Args:
        graph: the whole graph, whose content is written to ``SYMBOL``.
        params: a file that MXNet can load.
        variables: the names of the graph's parameters in that file.
        nodes: the indices of the requested nodes.
        heads: the entries up to which the graph is run.
    """
    return {
        "symbol": SYMBOL,
        "params": str(params.resolve()),
        "variables": dict(variables),
        "heads": [list(entry) for entry in heads],
        "compared": [],
        "nodes": [[index, graph.nodes[index].name] for index in nodes],
        "single": [],
        "labelled": [],
        "stream": False,
    }


def _write(folder: Path, request: SymbolRequest) -> None:
    (folder / SYMBOL).write_bytes(request.graph.content)
    with (folder / PARAMS).open("wb") as stream:
        write_params(stream, request.parameters)
    runs = []
    for number, (dtype, inputs) in enumerate(request.runs):
        files = {name: f"input-{number}-{place}.npy" for place, name in enumerate(inputs)}
        for name, file in files.items():
            np.save(folder / file, inputs[name])
        runs.append({"dtype": dtype, "inputs": files})
    variables = {name: name for name in request.parameters}
    whole = {
        **document(request.graph, folder / PARAMS, variables, request.nodes, request.heads),
        "compared": [list(entry) for entry in request.compared],
        "single": list(request.single),
        "labelled": list(request.labelled),
        "stream": True,
        "runs": runs,
    }
    (folder / "request.json").write_text(json.dumps(whole))
