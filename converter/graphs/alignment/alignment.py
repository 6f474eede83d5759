"""Aligns the structures of a graph and of a module."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from converter.errors import MappingError
from converter.graphs.alignment import parting, refinement, rules, settings
from converter.graphs.alignment.structure import BIAS, WEIGHT

if TYPE_CHECKING:
    from collections.abc import Mapping

    from converter.graphs.alignment.rules import Plan
    from converter.graphs.alignment.settings import SettingDifference
    from converter.graphs.alignment.structure import Structure


@dataclass(frozen=True, slots=True, kw_only=True)
class Alignment:
    """A graph and a module whose layers correspond.

    Attributes:
        graph: the structure of the graph.
        module: that of the module.
        pairs: the module's layer of each layer of the graph, in the order of the graph.
        symmetric: the number of layers that were paired by the order of computation.
        plan: how the tensors of the module are computed.
        differences: the settings that differ.
    """

    graph: Structure
    module: Structure
    pairs: dict[int, int]
    symmetric: int
    plan: Plan
    differences: tuple[SettingDifference, ...]


def align(graph: Structure, module: Structure) -> Alignment:
    """Align a graph with a module.

    Raises:
        MappingError: if their structures differ, with the first place where they part.
    """
    found = refinement.pair(graph, module)
    if found is None:
        raise MappingError(parting.describe(graph, module))
    _require_outputs(graph, module)
    pairs, symmetric = dict(sorted(found[0].items())), found[1]
    return Alignment(
        graph=graph,
        module=module,
        pairs=pairs,
        symmetric=symmetric,
        plan=rules.plan(graph, module, pairs),
        differences=settings.compare(graph, module, pairs),
    )


def by_names(graph: Structure, module: Structure, names: Mapping[str, str], plan: Plan) -> Alignment:
    """Align a graph with a module by the names of their tensors.

    Args:
        graph: the structure of the graph.
        module: that of the module.
        names: the tensor of the module that each parameter of the graph becomes.
        plan: how the tensors of the module are computed.

    Raises:
        MappingError: if a layer has no partner with these names.
    """
    _require_outputs(graph, module)
    waiting = {index: _tensor(layer.tensors) for index, layer in enumerate(module.layers)}
    pairs: dict[int, int] = {}
    for index, layer in enumerate(graph.layers):
        wanted = names.get(_tensor(layer.tensors))
        partner = next((other for other, tensor in waiting.items() if tensor == wanted), None)
        if partner is None:
            raise MappingError(f"{graph.title}: the table has no line for {layer.describe()}")
        del waiting[partner]
        pairs[index] = partner
    if waiting:
        raise MappingError(f"{module.title}: no line of the table is of {next(iter(waiting.values()))}")
    subtracted = {each.minus for each in plan.assignments.values()} - {None}
    folded = (index for index, layer in enumerate(graph.layers) if layer.tensors.get(BIAS) in subtracted)
    return Alignment(
        graph=graph,
        module=module,
        pairs=pairs,
        symmetric=0,
        plan=replace(plan, folded=frozenset(folded), rules=rules.applied(graph, module, pairs)),
        differences=settings.compare(graph, module, pairs),
    )


def compare_again(found: Alignment, module: Structure) -> Alignment:
    """Return an alignment with the settings that differ now.

    Args:
        found: the alignment.
        module: the structure of its module, of which only settings changed.
    """
    differences = settings.compare(found.graph, module, found.pairs)
    return replace(found, module=module, differences=differences)


def _tensor(tensors: Mapping[str, str]) -> str:
    """Return the name of a layer's weight, or of its first tensor."""
    return tensors.get(WEIGHT) or next(iter(tensors.values()))


def _require_outputs(graph: Structure, module: Structure) -> None:
    """Check that a graph and a module have as many outputs.

    Raises:
        MappingError: if they have not.
    """
    if len(graph.outputs) != len(module.outputs):
        raise MappingError(
            f"{graph.title} has {len(graph.outputs)} outputs, and {module.title} {len(module.outputs)}\n"
            "  try  --output NODE, which ends the graph in a node"
        )
