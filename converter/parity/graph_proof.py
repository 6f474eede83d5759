"""Compares a generated module with MXNet's outputs of its graph: end to end, and node by node."""

from __future__ import annotations

import itertools
import platform
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, TypeVar

import numpy as np

from converter.errors import ParityError
from converter.graphs.graph import VARIABLE, after_discrete
from converter.parity.comparison import STEP
from converter.parity.graph_outputs import ArrayOutputs, MXNetOutputs
from converter.parity.graph_rows import GraphProof, GraphRow
from converter.parity.run_comparison import GeneratedSide
from converter.progress import silent
from converter.references import symbol

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from contextlib import AbstractContextManager
    from pathlib import Path

    from converter.dtypes import Array
    from converter.formats.file_arrays import Arrays
    from converter.graphs.codegen import GeneratedModule
    from converter.graphs.graph import Graph
    from converter.graphs.pruning import InferenceGraph
    from converter.parity.graph_outputs import GraphReference, Run
    from converter.progress import Progress

T = TypeVar("T")


class Comparison(Protocol):
    """The comparison of one run.

    Attributes:
        heads: the reference's outputs, by their places, once the rows are there.
    """

    heads: dict[int, Array]

    def rows(self, outputs: Iterator[tuple[int, tuple[Array, ...]]]) -> list[GraphRow]:
        """Compare the reference's outputs as they come."""


class Side(Protocol):
    """What is compared with a graph."""

    def begin(self, run: int, dtype: str, inputs: Mapping[str, Array]) -> AbstractContextManager[Comparison]:
        """Run the module, and return the comparison of what it computed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ConvertedGraph:
    """A graph with parameters, and the module generated from it.

    Attributes:
        whole: the whole graph, which MXNet runs.
        pruned: its part for inference.
        module: the module generated from that part.
        parameters: the values of the graph's parameters.
    """

    whole: Graph
    pruned: InferenceGraph
    module: GeneratedModule
    parameters: Arrays


def prove(
    converted: ConvertedGraph,
    runs: Sequence[Run],
    python: Path,
    side: Side | None = None,
    progress: Progress = silent,
) -> GraphProof:
    """Run a graph in MXNet and the generated source in PyTorch, and compare them.

    Args:
        converted: the graph and the module.
        runs: the dtype and the inputs of each run.
        python: an interpreter with MXNet.
        side: what is compared with the graph; by default the module with the graph's parameters.
        progress: as in ``compare``.

    Raises:
        ReferenceUnavailableError: if MXNet cannot run.
        ReferenceFailedError: if MXNet refuses the graph or the inputs.
        ParityError: if the module does not take the inputs, if its outputs are not finite, or if an operator
            that is replaced in float64 is not compared with the original in float32.
    """
    with symbol.start(python, request(converted, runs)) as child:
        rows, heads = compare(converted, runs, MXNetOutputs(child, converted.pruned), side, progress)
        versions, replaced, rewriting = child.reply()
    if all(dtype == "float64" for dtype, _ in runs):
        _require_originals(converted.pruned, replaced)
    operators = tuple(sorted(set(replaced.values())))
    return GraphProof(
        comparisons=rows, versions=versions, heads=heads, replaced=operators, rewriting=rewriting
    )


def _require_originals(pruned: InferenceGraph, replaced: Mapping[int, str]) -> None:
    """Check that no replaced operator comes after a discrete one: float64 alone does not prove it.

    Raises:
        ParityError: with the operators that do.
    """
    undecided = {pruned.origins[index] for index in after_discrete(pruned.graph.nodes)}
    if operators := sorted({operator for index, operator in replaced.items() if index in undecided}):
        raise ParityError(
            f"a proof in float64 alone does not cover {', '.join(operators)}\n"
            "  reason  after an operator that sorts or selects, MXNet's own are compared in float32 only\n"
            "  try     --proof-dtype float64 --proof-dtype float32"
        )


def prove_on_arrays(
    converted: ConvertedGraph,
    runs: Sequence[Run],
    side: Side | None = None,
    progress: Progress = silent,
) -> GraphProof:
    """Run a graph on arrays and the generated source in PyTorch, and compare them.

    Args:
        converted: the graph and the module.
        runs: the dtype and the inputs of each run.

    Raises:
        ParityError: if the module does not take the inputs, if its outputs are not finite, or if the
            arrays need more memory than there is.
    """
    versions = {"numpy": np.__version__, "python": platform.python_version()}
    reference = ArrayOutputs(converted.pruned.graph, converted.parameters, runs)
    try:
        rows, heads = compare(converted, runs, reference, side, progress)
    except MemoryError as error:
        raise ParityError(f"{converted.whole.file}: not enough memory for the graph on arrays") from error
    return GraphProof(comparisons=rows, versions=versions, heads=heads)


def compare(
    converted: ConvertedGraph,
    runs: Sequence[Run],
    reference: GraphReference,
    side: Side | None = None,
    progress: Progress = silent,
) -> tuple[tuple[GraphRow, ...], tuple[tuple[Array, ...], ...]]:
    """Compare a generated module with a reference in every run; return the reference's outputs, too.

    Args:
        converted: the graph and the module.
        runs: the dtype and the inputs of each run.
        reference: the expected outputs.
        side: as in ``prove``.
        progress: called with "proving", the number of compared nodes of all runs and their total.

    Raises:
        ParityError: if the module does not take the inputs, if its outputs are not finite, or if the
            reference lacks a node.
    """
    side = side or GeneratedSide(converted)
    rows: dict[int, list[GraphRow]] = {}
    heads: dict[int, tuple[Array, ...]] = {}
    nodes = sum(node.operation.kind != VARIABLE for node in converted.pruned.graph.nodes)
    done, total = itertools.count(1), nodes * len(runs)
    progress(STEP, 0, total)
    for number in reference.order:
        outputs = reference.outputs(number)  # first: if the reference refuses the inputs, that is the error
        reported = _with_progress(outputs, lambda: progress(STEP, next(done), total))
        rows[number], heads[number] = _compare_run(side, number, runs[number], reported)
    in_order = sorted(rows)
    return tuple(row for number in in_order for row in rows[number]), tuple(heads[each] for each in in_order)


def _compare_run(
    side: Side, number: int, run: Run, outputs: Iterator[tuple[int, tuple[Array, ...]]]
) -> tuple[list[GraphRow], tuple[Array, ...]]:
    """Compare one run; its network is released before that of the next one is built."""
    dtype, inputs = run
    with side.begin(number, dtype, inputs) as comparison:
        rows = comparison.rows(outputs)
        return rows, tuple(comparison.heads[place] for place in sorted(comparison.heads))


def _with_progress(outputs: Iterator[T], report: Callable[[], None]) -> Iterator[T]:
    """Yield the outputs, and report each once it was taken and the next one is asked for."""
    for output in outputs:
        yield output
        report()


def request(converted: ConvertedGraph, runs: Sequence[Run]) -> symbol.SymbolRequest:
    """Return the request to run the inference part of a graph in MXNet.

    The rewriting is compared in the outputs; those that depend on a discrete operator are replaced by what
    it and the nodes after it take from the nodes that do not.
    """
    origins, graph = converted.pruned.origins, converted.pruned.graph
    operators = {index for index, node in enumerate(graph.nodes) if node.operation.kind != VARIABLE}
    after = after_discrete(graph.nodes)
    inputs = [entry for index in sorted(after) for entry in graph.nodes[index].inputs]
    ends = [*graph.outputs, *(entry for entry in inputs if entry[0] in operators)]
    compared = dict.fromkeys(entry for entry in ends if entry[0] not in after)
    return symbol.SymbolRequest(
        graph=converted.whole,
        parameters=converted.parameters,
        heads=[(origins[index], number) for index, number in graph.outputs],
        compared=[(origins[index], number) for index, number in compared],
        nodes=[origins[index] for index in sorted(operators)],
        single=[
            origins[index]
            for index in sorted(operators)
            if graph.nodes[index].operation.precision == "float32"
        ],
        labelled=[index for index, node in enumerate(converted.whole.nodes) if node.operation.takes_label],
        runs=runs,
    )
