"""Says which tensor of a module gets which parameters of a graph, by rules that change no output."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from converter.errors import MappingError
from converter.graphs.alignment.structure import BATCH_NORM, BIAS, MEAN, every

if TYPE_CHECKING:
    from collections.abc import Mapping

    from converter.graphs.alignment.structure import AlignedLayer, Structure
    from converter.graphs.operators.code import Shape

RuleName = Literal["zero bias", "folded bias", "reshaped weight"]
ZERO: RuleName = "zero bias"
FOLDED: RuleName = "folded bias"
RESHAPED: RuleName = "reshaped weight"
DESCRIPTIONS: dict[str, str] = {
    ZERO: "a bias that only the module has is zero",
    FOLDED: "a bias that only the graph has is subtracted from the running mean of the BatchNorm after it",
    RESHAPED: "the weight of a dense layer has the shape of a 1×1 convolution, or the reverse",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Assignment:
    """How a tensor of the module is computed.

    Attributes:
        target: its name.
        source: the variable of the graph; None for zeros.
        shape: its shape.
        like: the variable whose type it has.
        minus: the variable that is subtracted, None without one.
    """

    target: str
    source: str | None
    shape: Shape
    like: str
    minus: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """How a module's tensors are computed from a graph's parameters.

    Attributes:
        assignments: by the name of the tensor, in the order of the graph.
        rules: the layers of the graph to which each rule was applied.
        folded: the layers of the graph whose output lacks its bias in the module.
    """

    assignments: dict[str, Assignment]
    rules: dict[RuleName, tuple[str, ...]]
    folded: frozenset[int]


def plan(graph: Structure, module: Structure, pairs: Mapping[int, int]) -> Plan:
    """Return how the tensors of a module are computed.

    Raises:
        MappingError: if a bias has no place in the module, or if a tensor would get two values.
    """
    minus: dict[int, str] = {}
    folded = set()
    for index, other in pairs.items():
        one, theirs = graph.layers[index], module.layers[other]
        if BIAS in one.tensors and BIAS not in theirs.tensors:
            minus.update(dict.fromkeys(_norms(graph, index, theirs), one.tensors[BIAS]))
            folded.add(index)
    assignments: dict[str, Assignment] = {}
    for index, other in pairs.items():
        one, theirs = graph.layers[index], module.layers[other]
        for role, target in theirs.tensors.items():
            _require_source(one, theirs, role)
            added = Assignment(
                target=target,
                source=one.tensors.get(role),
                shape=theirs.shapes[role],
                like=one.tensors.get(role, next(iter(one.tensors.values()))),
                minus=minus.get(index) if role == MEAN else None,
            )
            if assignments.setdefault(target, added) != added:
                raise MappingError(f"{target}: used several times, for different parameters of the graph")
    return Plan(
        assignments=assignments,
        rules=applied(graph, module, pairs),
        folded=frozenset(folded),
    )


def applied(graph: Structure, module: Structure, pairs: Mapping[int, int]) -> dict[RuleName, tuple[str, ...]]:
    """Return the layers of the graph to which each rule is applied."""
    rules: dict[RuleName, dict[str, None]] = defaultdict(dict)
    for index, other in pairs.items():
        one, theirs = graph.layers[index], module.layers[other]
        if BIAS in one.tensors and BIAS not in theirs.tensors:
            rules[FOLDED][one.name] = None
        if BIAS in theirs.tensors and BIAS not in one.tensors:
            rules[ZERO][one.name] = None
        if one.kind != theirs.kind:
            rules[RESHAPED][one.name] = None
    return {name: tuple(layers) for name, layers in rules.items()}


def _norms(graph: Structure, index: int, theirs: AlignedLayer) -> list[int]:
    """Return the BatchNorms that alone take the output of a layer.

    Raises:
        MappingError: if something else takes it, too: its bias has no place.
    """
    readers = [
        (number, layer) for number, layer in enumerate(graph.layers) if index in every([layer.sources])
    ]
    is_output = any(index in every([sources]) for sources in graph.outputs)
    if (
        is_output
        or not readers
        or any(layer.kind != BATCH_NORM or layer.direct != index for _, layer in readers)
    ):
        one = graph.layers[index]
        raise MappingError(
            f"{graph.title}: {one.name} has a bias, and {module_title(theirs)} has none\n"
            "  expected  a BatchNorm right after it, whose running mean can take the bias"
        )
    return [number for number, _ in readers]


def _require_source(one: AlignedLayer, theirs: AlignedLayer, role: str) -> None:
    """Check that a tensor of the module has a parameter, or is a bias.

    Raises:
        MappingError: if it has not, or if a parameter has no tensor.
    """
    unknown = [role] if role not in one.tensors and role != BIAS else []
    unused = [each for each in one.tensors if each not in theirs.tensors and each != BIAS]
    if unknown or unused:
        raise MappingError(
            f"{one.name} and {module_title(theirs)} differ: {one.kind} with {', '.join(one.tensors)} in the "
            f"graph, with {', '.join(theirs.tensors)} in the module"
        )


def module_title(layer: AlignedLayer) -> str:
    """Return a layer of the module in a message."""
    return f"the module's {layer.name}"
