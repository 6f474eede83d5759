"""A network's graph beside the model: the same layers, set alike, as many operators of each kind, one output.

How the operators are joined is not compared; that is what a proof is for.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from converter import names
from converter.errors import SymbolError
from converter.files.symbol import (
    BATCHNORM,
    CONVOLUTION,
    DENSE,
    GATE,
    MEAN,
    OPERATORS,
    PRODUCT,
    RELU,
    SOFTMAX,
    SUM,
    WEIGHTED,
)
from converter.models import dialects

if TYPE_CHECKING:
    from converter.files.symbol import Node, Symbol, Value
    from converter.models.mapping import Layer, Mapping, Tensor
    from converter.reference import Settings

# The parameters that each takes, in its order, and what Gluon counts its layers as.
ROLES = {
    CONVOLUTION: ("conv", ("weight", "bias")),
    BATCHNORM: ("batchnorm", ("gamma", "beta", "running_mean", "running_var")),
    DENSE: ("dense", ("weight", "bias")),
}
OUTPUTS = {(DENSE,), (SOFTMAX,)}  # the logits, or, in MXNet's Module, what they are trained with
FIXED: Settings = {"layout": "NCHW", "axis": 1}  # in every network here


def disagreements(symbol: Symbol, mapping: Mapping, settings: dict[str, Settings]) -> list[str]:
    """Return in lines what a graph has otherwise than the model; one that fits has none.

    ``settings`` are the model's hyper-parameters by PyTorch's layer names.
    Errors: ``ConversionError`` where the graph has other layers than the mapping.
    """
    biased = {tensor.layer for tensor in mapping.tensors if tensor.source_role == "bias"}
    found: dict[str, list[str]] = {}
    for layer, node in _pairs(symbol, mapping):
        for name, value in {**FIXED, "no_bias": layer not in biased, **settings[layer.target]}.items():
            if name in node.settings and not _same(node.settings[name], value):
                text = f"{name} {_text(node.settings[name])}, in the model {value}"
                found.setdefault(text, []).append(layer.source)
    return [
        *(f"{pattern}: {text}" for text, layers in found.items() for pattern in names.collapse(layers)),
        *_strange_operators(symbol, mapping),
    ]


def fixed_gammas(symbol: Symbol, mapping: Mapping) -> list[str]:
    """Return the gammas, by their structural names, that MXNet takes for 1 whatever the file says."""
    return [
        f"{layer.source}.gamma" for layer, node in _pairs(symbol, mapping) if node.settings.get("fix_gamma")
    ]


def _strange_operators(symbol: Symbol, mapping: Mapping) -> list[str]:
    """Return what a graph has of other operators than the model, or more or fewer of the same."""
    kinds = Counter(layer.kind for layer in mapping.layers)
    gates = kinds["gate"] // 2
    relus = sum(layer.kind == "conv" and not layer.on_shortcut for layer in mapping.layers) + gates
    expected = {SUM: kinds["block"], PRODUCT: gates, GATE: gates, MEAN: gates, RELU: relus}
    found = Counter(node.operator for node in symbol.nodes)
    counted = {*expected, SOFTMAX, *OPERATORS.values()}
    return [
        *(
            f"{kind}: {count} expected, {found[kind]} found"
            for kind, count in expected.items()
            if found[kind] != count
        ),
        *(f"an operator that the model has not: {operator}" for operator in sorted(found.keys() - counted)),
        *([] if symbol.outputs in OUTPUTS else [f"its outputs are those of {', '.join(symbol.outputs)}"]),
    ]


def _pairs(symbol: Symbol, mapping: Mapping) -> list[tuple[Layer, Node]]:
    """Return every layer that has settings with its node: by its arrays' names, pools by their order."""
    file = str(symbol.path)
    nodes = [node for node in symbol.nodes if node.operator in WEIGHTED]
    variables = dict.fromkeys(variable for node in nodes for variable in node.variables)
    found = {variable: name for name, variable in dialects.read(variables, file).resolve(mapping).items()}
    tensors = {tensor.source: tensor for tensor in mapping.tensors}
    own: dict[Layer | None, list[Tensor]] = {}
    for tensor in mapping.tensors:
        own.setdefault(tensor.layer, []).append(tensor)
    by_layer: dict[Layer, Node] = {}
    strangers = []
    for node in nodes:
        taken = [tensors.get(found[variable]) for variable in node.variables]
        layer = taken[0].layer if taken and taken[0] else None
        if layer is None or taken != own[layer] or not _is_kind(node, layer, own[layer]) or layer in by_layer:
            strangers.append(f"{node.name}, {node.operator} of {', '.join(node.variables) or 'nothing'}")
        else:
            by_layer[layer] = node
    missing = [layer.source for layer in mapping.layers if layer.counter and layer not in by_layer]
    if strangers or missing:
        lines = [f"no layer of the model: {line}" for line in strangers]
        lines += [f"missing: {pattern}" for pattern in names.collapse(missing)]
        raise SymbolError(
            "\n  ".join([f"{file}: its layers are not those of the model", *names.shorten(lines)])
        )
    pools = [layer for layer in mapping.layers if layer.kind == "pool"]
    if len(pools) != len(symbol.pools):
        raise SymbolError(f"{file}: {len(pools)} pools expected, {len(symbol.pools)} found")
    return [*by_layer.items(), *zip(pools, symbol.pools, strict=True)]


def _is_kind(node: Node, layer: Layer, own: list[Tensor]) -> bool:
    """Return whether a node is what the layer is counted as, and takes its arrays in the right places."""
    word, roles = ROLES[node.operator]
    taken = tuple(tensor.source_role for tensor in own)
    return layer.counter is not None and layer.counter[1] == word and taken == roles[: len(taken)]


def _same(found: Value, expected: object) -> bool:
    if isinstance(expected, float) and isinstance(found, float):
        return abs(found - expected) <= 1e-9 * abs(expected)
    return found == expected


def _text(value: Value) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)
