"""Aligns the structures of a graph and of a module."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from converter.errors import MappingError
from converter.graphs.alignment import parting, refinement, rules, settings

if TYPE_CHECKING:
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
    if len(graph.outputs) != len(module.outputs):
        raise MappingError(
            f"{graph.title} and {module.title} have the same layers, but {len(graph.outputs)} and "
            f"{len(module.outputs)} outputs\n  try  --output NODE, which ends the graph in a node"
        )
    pairs, symmetric = dict(sorted(found[0].items())), found[1]
    return Alignment(
        graph=graph,
        module=module,
        pairs=pairs,
        symmetric=symmetric,
        plan=rules.plan(graph, module, pairs),
        differences=settings.compare(graph, module, pairs),
    )
