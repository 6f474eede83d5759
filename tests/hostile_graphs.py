"""Hypothesis strategies of graphs: valid ones with strange names, and hostile ones."""

from __future__ import annotations

import json
import typing
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from hostile_texts import LEAVES, NAMES, SCOPES, VALUES
from hypothesis import strategies as st

from converter.graphs import operators
from converter.graphs.operators import registry
from converter.graphs.operators.attributes import Axes, Bounds, Pair, Single, Size

if TYPE_CHECKING:
    from collections.abc import Callable

    from hypothesis.strategies import DrawFn

    Shape = tuple[int, ...]
    Node = dict[str, Any]
    Entry = list[int]

CHANNELS = 3
IMAGE = (2, CHANNELS, 6, 6)
ANY_NAME = st.one_of(
    st.sampled_from(NAMES),
    st.builds(str.__add__, st.sampled_from(SCOPES), st.sampled_from(LEAVES)),
    st.text(st.characters(exclude_categories=["Cs"]), max_size=8),
)
INTEGERS = ["0", "1", "2", "3", "-1", "-2", "7", "64", "2147483647", "-9223372036854775808"]
NUMBERS = ["0", "1", "0.1", "-0.5", "1e-200", "1e200", "3e38", "-1e38"]
SIZES = ["(3, 3)", "(1, 1)", "(0, 0)", "(2, 1)", "(2, 2)", "(-1, 3)", "(100000, 100000)"]
SEQUENCES = [
    "(0, 2)",
    "(0, -1)",
    "(1, 2, 3)",
    "(0, 0, 0, 0, 1, 1, 2, 2)",
    "(2,)",
    "(-1,)",
    "(64, 1)",
    "()",
    "(3,)",
]
OF_TYPE: dict[object, list[str]] = {
    **dict.fromkeys((int, int | None), INTEGERS),
    **dict.fromkeys((float, float | None, Single, Single | None), NUMBERS),
    **dict.fromkeys((Pair, Size), SIZES),
    **dict.fromkeys((Axes, Axes | None, Bounds), SEQUENCES),
    bool: ["True", "False", "1", "0"],
    str: [
        "max",
        "avg",
        "sum",
        "relu",
        "tanh",
        "softrelu",
        "full",
        "valid",
        "NCHW",
        "NHWC",
        "float16",
        "training",
    ],
}
OPERATORS = sorted(operators.schemas())


@dataclass
class Document:
    """A graph as it is in a file, with the shapes of its parameters."""

    nodes: list[Node] = field(default_factory=list)
    shapes: dict[str, Shape] = field(default_factory=dict)
    heads: list[Entry] = field(default_factory=list)

    def add(self, operator: str, name: str, inputs: list[Entry], **attributes: str) -> Entry:
        self.nodes.append({"op": operator, "name": name, "attrs": attributes, "inputs": inputs})
        return [len(self.nodes) - 1, 0, 0]

    def parameter(self, name: str, shape: Shape) -> Entry:
        while name in self.shapes:
            name += "'"
        self.shapes[name] = shape
        return self.add("null", name, [])

    def content(self) -> bytes:
        document = {"nodes": self.nodes, "heads": self.heads, "attrs": {"mxnet_version": ["int", 10901]}}
        return json.dumps(document).encode()


def _conv(document: Document, name: str, x: Entry, channels: int = CHANNELS) -> Entry:
    weight = document.parameter(f"{name}_weight", (CHANNELS, channels, 3, 3))
    options = {"kernel": "(3, 3)", "num_filter": str(CHANNELS), "pad": "(1, 1)", "no_bias": "True"}
    return document.add("Convolution", name, [x, weight], **options)


def _norm(document: Document, name: str, x: Entry) -> Entry:
    roles = ("gamma", "beta", "moving_mean", "moving_var")
    statistics = [document.parameter(f"{name}_{role}", (CHANNELS,)) for role in roles]
    return document.add("BatchNorm", name, [x, *statistics])


def _prelu(document: Document, name: str, x: Entry) -> Entry:
    gamma = document.parameter(f"{name}_gamma", (CHANNELS,))
    return document.add("LeakyReLU", name, [x, gamma], act_type="prelu")


def _join(document: Document, name: str, x: Entry, y: Entry) -> Entry:
    joined = document.add("Concat", name, [x, y], num_args="2")
    return _conv(document, f"{name}_conv", joined, 2 * CHANNELS)


def _split(document: Document, name: str, x: Entry) -> Entry:
    parts, _, _ = document.add("SliceChannel", name, [x], num_outputs="3")
    return document.add("Concat", name, [[parts, 2, 0], [parts, 0, 0], [parts, 0, 0]], num_args="3")


LAYERS: list[Callable[[Document, str, Entry], Entry]] = [_conv, _conv, _norm, _norm, _prelu, _split]
UNARY: list[tuple[str, dict[str, str]]] = [
    *(
        (name, {})
        for name in ("relu", "sigmoid", "tanh", "identity", "BlockGrad", "softmax", "L2Normalization")
    ),
    ("Activation", {"act_type": "softrelu"}),
    ("_mul_scalar", {"scalar": "0.7"}),
    ("_rminus_scalar", {"scalar": "-0.1"}),
    ("_maximum_scalar", {"scalar": "0.1"}),
    ("clip", {"a_min": "-0.7", "a_max": "0.1"}),
    ("Pooling", {"kernel": "(3, 3)", "pad": "(1, 1)", "pool_type": "max"}),
    ("Pooling", {"kernel": "(3, 3)", "pad": "(1, 1)", "pool_type": "avg", "count_include_pad": "False"}),
    ("SwapAxis", {"dim1": "2", "dim2": "3"}),
    ("reverse", {"axis": "(3,)"}),
    ("Dropout", {"p": "0.5"}),
]
BINARY = ["elemwise_add", "broadcast_mul", "elemwise_sub", "_maximum"]


@st.composite
def valid_graphs(draw: DrawFn) -> Document:
    """Return a graph of supported operators on images of one size, with strange names."""
    document = Document()
    values = [document.add("null", draw(ANY_NAME), [])]
    if draw(st.booleans()):
        name = draw(ANY_NAME.filter(lambda name: name != document.nodes[0]["name"]))
        values.append(document.add("null", name, []))
    document.shapes = dict.fromkeys((node["name"] for node in document.nodes), IMAGE)
    layers: list[Node] = []
    for _ in range(draw(st.integers(1, 9))):
        name, x = draw(ANY_NAME), draw(st.sampled_from(values[-3:]))
        match draw(st.integers(0, 4)):
            case 0 | 1:
                values.append(draw(st.sampled_from(LAYERS))(document, name, x))
                layers += [document.nodes[-1]] if document.nodes[-1]["op"] != "Concat" else []
            case 2:
                operator, attributes = draw(st.sampled_from(UNARY))
                values.append(document.add(operator, name, [x], **attributes))
            case 3 if layers:  # shares the parameters of another layer
                layer = draw(st.sampled_from(layers))
                values.append(document.add(layer["op"], name, [x, *layer["inputs"][1:]], **layer["attrs"]))
            case _:
                y = draw(st.sampled_from(values))
                values.append(
                    _join(document, name, x, y)
                    if draw(st.booleans())
                    else document.add(draw(st.sampled_from(BINARY)), name, [x, y])
                )
    document.heads = [values[-1], *draw(st.lists(st.sampled_from(values), max_size=2))]
    return document


@st.composite
def attributes_of(draw: DrawFn, operator: str) -> dict[str, str]:
    """Return attributes of an operator: the required ones and others, most of them of the right type."""
    types, defaults = registry.types(operator), registry.defaults()[operator]
    required = [key for key in types if key not in defaults and draw(st.integers(0, 9))]
    optional = draw(st.lists(st.sampled_from(sorted(defaults) or ["x"]), unique=True, max_size=3))
    attributes = {}
    for key in [*required, *optional]:
        kind = types.get(key)
        texts = (
            typing.get_args(kind) if typing.get_origin(kind) is typing.Literal else OF_TYPE.get(kind, VALUES)
        )
        attributes[key] = draw(st.sampled_from(texts if draw(st.integers(0, 3)) else VALUES))
    return attributes


@st.composite
def hostile_graphs(draw: DrawFn) -> Document:
    """Return a graph of known operators with strange attributes, inputs, outputs and shapes."""
    document = Document()
    for _ in range(draw(st.integers(1, 5))):
        name = draw(ANY_NAME)
        document.add("null", name, [])
        if draw(st.booleans()):
            document.shapes[name] = tuple(draw(st.lists(st.integers(0, 4), max_size=5)))
    for _ in range(draw(st.integers(1, 4))):
        operator = draw(st.sampled_from(OPERATORS))
        attributes = draw(attributes_of(operator))
        try:
            operation = operators.parse(operator, attributes)
            count = (operation.data_inputs or 1) + len(operation.roles)
        except ValueError:
            count = 1
        last = len(document.nodes) - 1
        numbers = st.one_of(st.integers(0, last), st.integers(max(0, last - 1), last))
        outputs = st.sampled_from([0] * 9 + [1])
        inputs = [[draw(numbers), draw(outputs), 0] for _ in range(min(count, 8))]
        document.add(operator, draw(ANY_NAME), inputs, **attributes)
    document.heads = [[len(document.nodes) - 1, 0, 0]]
    return document
