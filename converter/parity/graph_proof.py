"""Compares the source of a generated module with MXNet's outputs of its graph, layer by layer."""

from __future__ import annotations

import functools
import platform
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from converter.errors import MappingError, ParityError
from converter.graphs import execute
from converter.references import symbol

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    import torch

    from converter.dtypes import Array
    from converter.formats.file_arrays import AnyArray, Arrays
    from converter.graphs.codegen import GeneratedModule
    from converter.graphs.graph import Graph
    from converter.graphs.pruning import InferenceGraph

LIMITS = {"float64": 1e-12, "float32": 1e-4}  # of the relative error, as for named networks
REWRITING_LIMIT = 1e-4  # of the difference that replaced operators make in MXNet's float32


@dataclass(frozen=True, slots=True)
class GraphRow:
    """The comparison of one output.

    Attributes:
        dtype: the dtype in which both sides ran.
        node: the name of the node.
        layer: the name of the layer in the module, "" for an output of the network.
        max_abs: the largest difference.
        relative: the largest difference, relative to the reference's standard deviation.
        run: the number of the run.
    """

    dtype: str
    node: str
    layer: str
    max_abs: float
    relative: float
    run: int = 0

    @property
    def passed(self) -> bool:
        """Whether the difference is within the limit of its dtype."""
        return self.relative <= LIMITS[self.dtype]


@dataclass(frozen=True, slots=True)
class GraphProof:
    """The comparison of a generated module with its graph.

    Attributes:
        rows: the comparisons, in the order of the network; the outputs of the network last.
        versions: the versions of MXNet, GluonCV, NumPy and Python.
        replaced: the operators that MXNet does not compute in float64, and other operators replaced.
        rewriting: the largest relative difference that this makes in float32.
    """

    rows: tuple[GraphRow, ...]
    versions: dict[str, str]
    replaced: tuple[str, ...]
    rewriting: float

    @property
    def passed(self) -> bool:
        """Whether every difference is within its limit."""
        return all(row.passed for row in self.rows) and self.rewriting <= REWRITING_LIMIT

    @property
    def first_mismatch(self) -> GraphRow | None:
        """The first comparison that failed."""
        return next((row for row in self.rows if not row.passed), None)

    def of_run(self, run: int) -> list[GraphRow]:
        """Return the comparisons of one run."""
        return [row for row in self.rows if row.run == run]

    def worst(self, dtype: str) -> float:
        """Return the largest relative difference in a dtype."""
        return max((row.relative for row in self.rows if row.dtype == dtype), default=0.0)

    def require(self) -> None:
        """Check that the proof holds.

        Raises:
            ParityError: with the first layer that differs.
        """
        if self.rewriting > REWRITING_LIMIT:
            raise ParityError(
                f"MXNet's outputs differ by {self.rewriting:.1e} once {', '.join(self.replaced)} are replaced"
            )
        if row := self.first_mismatch:
            raise ParityError(
                f"the generated module differs from the graph in {row.dtype}\n"
                f"  first at  {row.node} → {row.layer or 'the output'}\n"
                f"  expected  a relative error of at most {LIMITS[row.dtype]:.0e}\n"
                f"  found     {row.relative:.1e}"
            )


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
    converted: ConvertedGraph, runs: Sequence[tuple[str, Mapping[str, Array]]], python: Path
) -> GraphProof:
    """Run a graph in MXNet and the generated source in PyTorch, and compare them.

    Args:
        converted: the graph and the module.
        runs: the dtype and the inputs of each run.
        python: an interpreter with MXNet.

    Raises:
        ReferenceUnavailableError: if MXNet cannot run.
    """
    graph, pruned, module = converted.whole, converted.pruned, converted.module
    layers = _first_uses(module.layers)
    request = symbol.SymbolRequest(
        graph=graph,
        parameters=converted.parameters,
        heads=[(pruned.origins[index], number) for index, number in pruned.graph.outputs],
        nodes=[pruned.origins[index] for index in layers],
        runs=runs,
    )
    with symbol.run(python, request) as reference:
        rows: list[GraphRow] = []
        for number, (dtype, inputs) in enumerate(runs):
            net = load(module, converted.parameters, dtype)
            computed, heads = _outputs(net, [inputs[name] for name in module.inputs], list(layers.values()))
            for index, layer in layers.items():
                node = pruned.origins[index]
                difference = _difference(reference.node(number, node), computed[layer])
                rows.append(GraphRow(dtype, graph.nodes[node].name, layer, *difference, number))
            for place, head in enumerate(heads):
                difference = _difference(reference.head(number, place), head)
                node = request.heads[place][0]
                rows.append(GraphRow(dtype, graph.nodes[node].name, "", *difference, number))
        return GraphProof(tuple(rows), reference.versions, reference.replaced, reference.rewriting)


def prove_on_arrays(converted: ConvertedGraph, runs: Sequence[tuple[str, Mapping[str, Array]]]) -> GraphProof:
    """Run a graph on arrays and the generated source in PyTorch, and compare them.

    Args:
        converted: the graph and the module.
        runs: the dtype and the inputs of each run.
    """
    module, graph = converted.module, converted.pruned.graph
    layers = _first_uses(module.layers)
    rows: list[GraphRow] = []
    for number, (dtype, inputs) in enumerate(runs):
        net = load(module, converted.parameters, dtype)
        computed, heads = _outputs(net, [inputs[name] for name in module.inputs], list(layers.values()))
        last: list[GraphRow] = []
        for index, arrays in execute.run(graph, inputs, converted.parameters):
            name = graph.nodes[index].name
            if index in layers:
                difference = _difference(arrays[0], computed[layers[index]])
                rows.append(GraphRow(dtype, name, layers[index], *difference, number))
            for head, (node, output) in zip(heads, graph.outputs, strict=True):
                if node == index:
                    last.append(GraphRow(dtype, name, "", *_difference(arrays[output], head), number))
        rows += last
    versions = {"numpy": np.__version__, "python": platform.python_version()}
    return GraphProof(tuple(rows), versions, (), 0.0)


def load(module: GeneratedModule, parameters: Arrays, dtype: str) -> torch.nn.Module:
    """Return the network of a generated module with parameters, in evaluation mode."""
    import torch  # noqa: PLC0415 - when a network runs and not before

    names: dict[str, Any] = {"__name__": "generated"}
    exec(compile(module.source, "generated module", "exec"), names)  # noqa: S102 - our own code: see decision 18
    net: torch.nn.Module = names["Network"]()
    net.to(getattr(torch, dtype))
    state = {name: torch.from_numpy(np.asarray(array)) for name, array in state_arrays(module, parameters)}
    try:
        net.load_state_dict(state)
    except RuntimeError as error:
        raise MappingError(f"the parameters do not fit the graph: {error}") from error
    return net.eval()


def state_arrays(module: GeneratedModule, parameters: Arrays) -> Iterator[tuple[str, AnyArray]]:
    """Yield the state dict of a generated module; gammas that MXNet fixes are ones."""
    for variable, name in module.tensors.items():
        array = parameters[variable]
        yield name, np.ones(array.shape, array.dtype) if variable in module.ones else array


def _first_uses(layers: Mapping[int, str]) -> dict[int, str]:
    """Return the layers with the first node that uses each."""
    first: dict[str, int] = {}
    for index, layer in layers.items():
        first.setdefault(layer, index)
    return {index: layer for layer, index in first.items()}


def _outputs(
    net: torch.nn.Module, inputs: list[Array], layers: list[str]
) -> tuple[dict[str, Array], list[Array]]:
    """Return the first output of each layer, and the outputs of the network."""
    import torch  # noqa: PLC0415 - as above

    computed: dict[str, Array] = {}

    def keep(layer: str, _module: object, _inputs: object, output: torch.Tensor) -> None:
        computed.setdefault(layer, output.numpy())

    for layer in layers:
        net.get_submodule(layer).register_forward_hook(functools.partial(keep, layer))
    try:
        with torch.no_grad():
            result = net(*(torch.from_numpy(np.asarray(array)) for array in inputs))
    except RuntimeError as error:
        shapes = " and ".join(str(array.shape) for array in inputs)
        raise ParityError(
            f"the generated module does not take an input of shape {shapes}\n"
            f"  found       {str(error).partition(chr(10))[0]}\n"
            "  try         another --size, or --reference none, which writes the files without a proof"
        ) from error
    heads = [each.numpy() for each in (result if isinstance(result, tuple) else (result,))]
    if not all(np.isfinite(head).all() for head in heads):
        raise ParityError("the outputs are not finite, which proves nothing")
    return computed, heads


def _difference(reference: Array, output: Array) -> tuple[float, float]:
    """Return the largest difference, and the same relative to the reference's standard deviation."""
    if reference.shape != output.shape:
        return float("inf"), float("inf")
    with np.errstate(all="ignore"):  # a max pool of nothing is the least number
        same = (reference == output) | (np.isnan(reference) & np.isnan(output))
        worst = float(np.max(np.abs(reference.astype(np.float64) - output), where=~same, initial=0.0))
        wide = reference.astype(np.float64)
        scale = float(np.std(wide)) or float(
            np.max(np.abs(wide), initial=0.0)
        )  # a single number has no deviation
    if worst == 0:
        return 0.0, 0.0
    return worst, worst / scale if scale > 0 and np.isfinite(worst) else float("inf")
