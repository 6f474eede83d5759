"""Summarize what the conversion of a graph needs and yields, without its parameters."""

from __future__ import annotations

from typing import TYPE_CHECKING

from converter.commands.inspection_result import GraphSummary, UnsupportedOperator
from converter.errors import SymbolError
from converter.graphs import parameter_shapes, pruning, rewriting, support
from converter.networks import naming_styles

if TYPE_CHECKING:
    from converter.graphs.graph import Graph


def summarize(graph: Graph) -> GraphSummary:
    """Return the inputs, outputs, operators and parameters of a graph, as ``convert`` takes them."""
    casts = rewriting.casts(graph)
    whole = rewriting.bypass(graph, casts) if casts else graph
    obstacle = ""
    try:
        pruned = pruning.prune(whole)
    except SymbolError as error:
        pruned = pruning.InferenceGraph(graph=whole, origins=(), labels=(), heads=())
        obstacle = str(error).removeprefix(f"{graph.file}: ")
    kept = pruned.graph
    names = {*kept.parameters, *naming_styles.parameters(kept.variables)}
    parameters = [name for name in kept.variables if name in names]
    return GraphSummary(
        inputs=tuple(name for name in kept.variables if name not in names),
        outputs=tuple(kept.nodes[index].name for index, _ in kept.outputs),
        nodes=len(graph.nodes),
        operators=tuple(support.operator_counts(graph).most_common()),
        parameters=len(parameters),
        labels=pruned.labels,
        dropped=pruned.heads,
        casts=len(casts),
        unsupported=tuple(
            UnsupportedOperator(operator=operator, reason=reason, nodes=tuple(nodes))
            for (operator, reason), nodes in support.unsupported(kept).items()
        ),
        shapes=parameter_shapes.find(kept, parameters),
        obstacle=obstacle,
    )
