"""MXNet's ``-symbol.json``: a network's operators and how they are set, which no ``.params`` file tells.

Sources: src/nnvm/legacy_json_util.cc and src/operator/nn/{convolution,batch_norm,pooling}-inl.h,
apache/mxnet 1.9.1.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from converter.errors import SymbolError
from converter.files import disk

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path


Value = int | float | bool | str | tuple[int, ...]
Found = dict[str, Value]

MAX_BYTES = 1 << 22  # senet_154's has 0.7 MB; Python's objects take up to twenty times as much
MAX_NODES = 100_000  # a hundred for each array of the largest network here
MAX_VALUE = 100  # characters of an attribute
EXPORTED = re.compile(r"(?P<stem>.+?)(-\d{4})?\.params(\.gz|\.zip)?")
ATTRIBUTES = ("attr", "param", "attrs")  # where files of MXNet 0.8, 0.9 and 1 keep them; the last one wins
VARIABLE = "null"
CONVOLUTION, BATCHNORM, POOLING, DENSE = "Convolution", "BatchNorm", "Pooling", "FullyConnected"
WEIGHTED = {CONVOLUTION, BATCHNORM, DENSE}
OPERATORS = {  # older and newer names of the four that have a say
    **dict.fromkeys(("Convolution", "Convolution_v1", "_npx_convolution"), CONVOLUTION),
    **dict.fromkeys(
        ("BatchNorm", "BatchNorm_v1", "CuDNNBatchNorm", "_contrib_SyncBatchNorm", "_npx_batch_norm"),
        BATCHNORM,
    ),
    **dict.fromkeys(("Pooling", "Pooling_v1", "_npx_pooling"), POOLING),
    **dict.fromkeys(("FullyConnected", "_npx_fully_connected"), DENSE),
}
# What else our networks are made of, by what it does; what is in none of these could change the outputs.
SUM, PRODUCT, GATE, RELU = "sum", "product", "sigmoid", "ReLU"
MEAN, SOFTMAX = "global mean", "softmax"
OTHERS = {
    **dict.fromkeys(("elemwise_add", "_Plus", "_plus", "broadcast_add", "_npi_add"), SUM),
    **dict.fromkeys(("broadcast_mul", "elemwise_mul", "_Mul", "_npi_multiply"), PRODUCT),
    **dict.fromkeys(("sigmoid", "_npx_sigmoid"), GATE),
    **dict.fromkeys(("relu", "_npx_relu"), RELU),
    **dict.fromkeys(("_contrib_AdaptiveAvgPooling2D", "mean", "_npi_mean"), MEAN),
    **dict.fromkeys(("SoftmaxOutput", "softmax", "_npx_softmax"), SOFTMAX),
}
HARMLESS = {
    *(VARIABLE, "Flatten", "flatten", "_copy", "_np_copy", "_npi_copy", "identity"),
    *("Dropout", "_npx_dropout"),  # which does nothing at inference
}
ACTIVATIONS = {"Activation", "_npx_activation"}
ACTIVATED = {"Activation relu": RELU, "Activation sigmoid": GATE}


@dataclass(frozen=True, slots=True)
class Node:
    """One operator of a graph: its settings, omitted ones at MXNet's defaults, and the variables it takes."""

    name: str
    operator: str
    settings: Found
    variables: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Symbol:
    """A graph's operators in its order, those that give its outputs, and the file it was read from."""

    path: Path
    nodes: tuple[Node, ...]
    outputs: tuple[str, ...]

    @property
    def pools(self) -> list[Node]:
        """The pools."""
        return [node for node in self.nodes if node.operator == POOLING]


def beside(params: Path) -> Path | None:
    """Return the symbol file beside exported parameters: ``net-symbol.json`` of ``net-0000.params``."""
    match = EXPORTED.fullmatch(params.name)
    path = params.with_name(f"{match['stem']}-symbol.json") if match else None
    return path if path is not None and path.is_file() else None


def read(path: Path) -> Symbol:
    """Read a graph.

    Errors: ``SymbolError`` with the node that cannot be understood.
    """
    written = disk.read_small(path, MAX_BYTES, SymbolError)
    try:
        content = json.loads(written)
        if len(content["nodes"]) > MAX_NODES:
            raise ValueError(f"more than {MAX_NODES} nodes")  # noqa: TRY301 - said as all that is none
        nodes = [_Raw(path, number, node) for number, node in enumerate(content["nodes"])]
        operators = [node.operator for node in nodes]
        heads = [operators[entry[0]] for entry in content["heads"]]
        return Symbol(path, tuple(_nodes(nodes, operators)), tuple(heads))
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError, OverflowError) as error:
        raise SymbolError(f"{path}: no symbol file: {type(error).__name__}: {error}") from error


@dataclass(frozen=True, slots=True)
class _Raw:
    """One node as it is written."""

    path: Path
    number: int
    node: dict[str, Any]

    @property
    def operator(self) -> str:
        written = str(self.node["op"])
        if written in ACTIVATIONS:
            return f"Activation {self.attributes.get('act_type', '')}"
        return OPERATORS.get(written) or OTHERS.get(written, written)

    @property
    def name(self) -> str:
        return str(self.node["name"])

    @property
    def inputs(self) -> list[int]:
        places = [entry[0] for entry in self.node["inputs"]]
        if not all(isinstance(place, int) and 0 <= place < self.number for place in places):
            raise SymbolError(f"{self.path}: node {self.number}, {self.name}: its inputs are {places}")
        return places

    @property
    def attributes(self) -> dict[str, str]:
        return {key: str(value) for part in ATTRIBUTES for key, value in (self.node.get(part) or {}).items()}

    def value(self, key: str, default: Value, read: Callable[[str], Value]) -> Value:
        text = self.attributes.get(key, "")
        if not text.strip("()[] "):
            return default
        try:
            if len(text) > MAX_VALUE:
                raise ValueError(text)  # noqa: TRY301 - reported as any other that cannot be read
            return read(text)
        except ValueError as error:
            found = f"{text[:MAX_VALUE]!r}"
            raise SymbolError(f"{self.path}: node {self.number}, {self.name}: {key} is {found}") from error


def _nodes(raw: list[_Raw], operators: list[str]) -> Iterator[Node]:
    for node, written in zip(raw, operators, strict=True):
        operator = ACTIVATED.get(written, written)
        if operator in HARMLESS:
            continue
        read = READERS.get(operator)
        variables = tuple(raw[place].name for place in node.inputs[1:] if operators[place] == VARIABLE)
        yield Node(node.name, operator, read(node) if read else {}, variables if operator in WEIGHTED else ())


def _convolution(node: _Raw) -> Found:
    return {
        "kernel": node.value("kernel", 1, _numbers),
        "stride": node.value("stride", 1, _numbers),
        "padding": node.value("pad", 0, _numbers),
        "dilation": node.value("dilate", 1, _numbers),
        "groups": node.value("num_group", 1, int),
        "no_bias": node.value("no_bias", default=False, read=_truth),
        "layout": node.value("layout", "NCHW", str),
    }


def _batchnorm(node: _Raw) -> Found:
    return {
        "eps": node.value("eps", 1e-3, float),
        "momentum": node.value("momentum", 0.9, float),
        "axis": node.value("axis", 1, int),
        "fix_gamma": node.value("fix_gamma", default=True, read=_truth),
    }


def _pool(node: _Raw) -> Found:
    whole = node.value("global_pool", default=False, read=_truth)
    kind = node.value("pool_type", "max", str)
    if whole:
        return {"global": True, "pool": kind}
    return {
        "global": False,
        "pool": kind,
        "layout": node.value("layout", "NCHW", str),
        "kernel": node.value("kernel", 1, _numbers),
        "stride": node.value("stride", 1, _numbers),
        "padding": node.value("pad", 0, _numbers),
        "ceil_mode": node.value("pooling_convention", "valid", str) == "full",
        "count_include_pad": node.value("count_include_pad", default=True, read=_truth),
    }


READERS: dict[str, Callable[[_Raw], Found]] = {
    CONVOLUTION: _convolution,
    BATCHNORM: _batchnorm,
    POOLING: _pool,
    DENSE: lambda node: {"no_bias": node.value("no_bias", default=False, read=_truth)},
}


def _numbers(text: str) -> Value:
    """Read ``(3, 3)``, ``[3,3]``, ``(3L, 3L)`` or ``3``: one number where all are the same."""
    parts = [part for part in re.split(r"[,\s]+", text.strip("()[] ")) if part]
    numbers = tuple(int(part.removesuffix("L")) for part in parts)
    if len(numbers) > 2:  # noqa: PLR2004 - height and width
        raise ValueError(text)
    return numbers[0] if len(set(numbers)) == 1 else numbers


def _truth(text: str) -> bool:
    known = {"true": True, "1": True, "false": False, "0": False, "none": True}
    if text.lower() not in known:
        raise ValueError(text)
    return known[text.lower()]
