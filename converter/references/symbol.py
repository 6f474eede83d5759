"""The MXNet reference for any graph: a child process runs its symbol and saves the outputs."""

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

CHILD = Path(__file__).with_name("symbol_child.py")
SYMBOL, PARAMS = "symbol.json", "parameters.params"
OWN_KERNELS = {"MXNET_MKLDNN_ENABLED": "0"}  # oneDNN's SoftmaxOutput differs from MXNet's own


class _SymbolReply(msgspec.Struct, frozen=True):
    """The child's reply."""

    unavailable: str = ""
    versions: dict[str, str] = {}
    replaced: tuple[str, ...] = ()
    rewriting: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class SymbolRequest:
    """What the child process runs and saves.

    Attributes:
        graph: the whole graph.
        parameters: the values of its variables, without inputs and labels.
        heads: the entries of the outputs.
        nodes: the indices of the nodes whose first outputs are saved.
        runs: the dtype and the inputs by name of each run.
    """

    graph: Graph
    parameters: Arrays
    heads: Sequence[Entry]
    nodes: Sequence[int]
    runs: Sequence[tuple[str, Mapping[str, Array]]]


@dataclass(frozen=True, slots=True, kw_only=True)
class SymbolOutputs:
    """The outputs of a finished child process.

    Attributes:
        folder: the folder of its files.
        versions: the versions of MXNet, GluonCV, NumPy and Python.
        replaced: the operators that were replaced for float64.
        rewriting: the largest relative difference that this makes in float32.
    """

    folder: Path
    versions: dict[str, str]
    replaced: tuple[str, ...]
    rewriting: float

    def node(self, run: int, index: int) -> Array:
        """Return the first output of a node."""
        array: Array = np.load(self.folder / f"{run}-{index}.npy", mmap_mode="r")
        return array

    def head(self, run: int, number: int) -> Array:
        """Return an output of the graph."""
        array: Array = np.load(self.folder / f"{run}-head-{number}.npy", mmap_mode="r")
        return array


@contextlib.contextmanager
def run(python: Path, request: SymbolRequest) -> Iterator[SymbolOutputs]:
    """Yield MXNet's outputs of a graph; the files are deleted afterwards.

    Args:
        python: an interpreter with MXNet and GluonCV.
        request: the run.

    Raises:
        ReferenceUnavailableError: if MXNet cannot be started.
        ReferenceFailedError: if MXNet fails; with the end of its log.
    """
    with disk.temp_dir() as folder:
        with disk.writing(folder):
            _write(folder, request)
        with child_process.start(python, CHILD, folder, OWN_KERNELS) as child:
            reply = child.reply(_SymbolReply)
        yield SymbolOutputs(
            folder=folder, versions=reply.versions, replaced=reply.replaced, rewriting=reply.rewriting
        )


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
    document = {
        "symbol": SYMBOL,
        "params": str((folder / PARAMS).resolve()),
        "variables": {name: name for name in request.parameters},
        "heads": [list(entry) for entry in request.heads],
        "nodes": [[index, request.graph.nodes[index].name] for index in request.nodes],
        "runs": runs,
    }
    (folder / "request.json").write_text(json.dumps(document))
