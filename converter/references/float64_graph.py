"""Rewrites a symbol so that MXNet computes it in float64 with full precision.

Some of MXNet's operators have no float64 kernel, and some round to float32 inside. Each is replaced by other
operators of MXNet that compute the same function; ``symbol_child`` compares both in float32. The converter
itself never reads the rewritten symbol.

This file is run by any Python 3.8 or later, in the same process as ``symbol_child``.
"""

from __future__ import annotations

import ast
import json
import math
import struct
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

    Entry = list[int]  # node, output, version
    Node = dict[str, Any]
    Shape = tuple[int, ...]
    Rule = Callable[["Rewriting", dict[str, str], list[Entry]], Any]

SELU_ALPHA, SELU_SCALE = 1.6732632423543772, 1.0507009873554805
FLOAT32_TYPES = {"float32", "None"}
TYPED = {"_zeros", "_ones", "_full", "_arange", "_eye", "one_hot", "topk", "argsort"}
TYPED |= {"Cast", "cast", "amp_cast"}
RENAMED = {
    "BatchNorm_v1": "BatchNorm",
    "Convolution_v1": "Convolution",
    "CuDNNBatchNorm": "BatchNorm",
    "Pooling_v1": "Pooling",
    "_contrib_SyncBatchNorm": "BatchNorm",
}
TRAINING = {"key", "ndev"}  # attributes that the successor of an operator does not have


def single(text: str) -> float:
    """Return a number rounded to float32, as MXNet stores it."""
    number: float = struct.unpack("f", struct.pack("f", float(text)))[0]
    return number


class Rewriting:
    """A symbol that grows.

    Args:
        document: the symbol, as MXNet's ``tojson()`` writes it.
        shapes: the shape of each output of its nodes, by (node, output).
        dtype: the precision in which it will run.
        single: the names of the nodes that are computed in float32 nevertheless, between casts; the further
            outputs of a node ``name`` are those of nodes ``name__output1`` and so on.

    Attributes:
        nodes: the new nodes.
        places: the new entry of each entry.
        constants: values of new variables, as nested lists, by name.
        replaced: the operators that were replaced, by the name of the node.
    """

    def __init__(
        self,
        document: Node,
        shapes: dict[tuple[int, int], Shape],
        dtype: str = "float64",
        single: frozenset[str] = frozenset(),
    ) -> None:
        self.shapes = shapes
        self.dtype = dtype
        self.single = single if dtype == "float64" else frozenset()
        self.nodes: list[Node] = []
        self.places: dict[tuple[int, int], Entry] = {}
        self.constants: dict[str, Any] = {}
        self.replaced: dict[str, str] = {}
        self.node: Node = {}
        self.index = 0
        for self.index, self.node in enumerate(document["nodes"]):
            self._visit()
        self.heads = [self.places[head[0], head[1]] for head in document["heads"]]

    def document(self) -> str:
        """Return the new symbol as JSON."""
        arguments = [number for number, node in enumerate(self.nodes) if node["op"] == "null"]
        version = {"mxnet_version": ["int", 10901]}
        whole = {"nodes": self.nodes, "arg_nodes": arguments, "heads": self.heads, "attrs": version}
        return json.dumps(whole)

    def _visit(self) -> None:
        node = self.node
        inputs = [self.places[entry[0], entry[1]] for entry in node["inputs"]]
        if node["name"] in self.single:
            self._visit_single(inputs)
            return
        rule = RULES.get(node["op"])
        result = rule(self, node.get("attrs", {}), inputs) if rule else None
        if result is None:
            self._copy(inputs)
        else:
            self.replaced[node["name"]] = node["op"]
            self.nodes[result[0]]["name"] = node["name"]
            self.places[self.index, 0] = result

    def _copy(self, inputs: list[Entry]) -> None:
        """Append the node, in the precision of the run."""
        node, attributes = self.node, dict(self.node.get("attrs", {}))
        if node["op"] in TYPED and attributes.get("dtype", "float32") in FLOAT32_TYPES:
            attributes["dtype"] = self.dtype
        operator = RENAMED.get(node["op"], node["op"])
        if operator != node["op"]:
            self.replaced[node["name"]] = node["op"]
            attributes = {key: text for key, text in attributes.items() if key not in TRAINING}
        self.nodes.append({"op": operator, "name": node["name"], "attrs": attributes, "inputs": inputs})
        for number in range(self._outputs()):
            self.places[self.index, number] = [len(self.nodes) - 1, number, 0]

    def _visit_single(self, inputs: list[Entry]) -> None:
        """Append the node between casts."""
        narrow = [self.add("Cast", entry, dtype="float32") for entry in inputs]
        place = self.add(self.node["op"], *narrow, **self.node.get("attrs", {}))[0]
        for number in range(self._outputs()):
            wide = self.add("Cast", [place, number, 0], dtype="float64")
            self.nodes[wide[0]]["name"] = self.node["name"] + (f"__output{number}" if number else "")
            self.places[self.index, number] = wide

    def _outputs(self) -> int:
        return max([number + 1 for index, number in self.shapes if index == self.index] or [1])

    def add(self, operator: str, *inputs: Entry, **attributes: object) -> Entry:
        """Append a node and return its entry."""
        name = "{}__{}".format(self.node["name"], len(self.nodes))
        texts = {key: str(value) for key, value in attributes.items()}
        self.nodes.append({"op": operator, "name": name, "attrs": texts, "inputs": list(inputs)})
        return [len(self.nodes) - 1, 0, 0]

    def constant(self, values: Any) -> Entry:  # noqa: ANN401 - nested lists
        """Append a variable with a value and return its entry."""
        name = f"float64_constant{len(self.nodes)}"
        self.constants[name] = values
        self.nodes.append({"op": "null", "name": name, "attrs": {}, "inputs": []})
        return [len(self.nodes) - 1, 0, 0]

    def input_shape(self, number: int = 0) -> Shape:
        """Return the shape of an input of the node."""
        entry = self.node["inputs"][number]
        return self.shapes[entry[0], entry[1]]


def leaky_relu(to: Rewriting, attributes: dict[str, str], inputs: list[Entry]) -> Entry:
    """MXNet multiplies the negative side in float32."""
    kind = attributes.get("act_type", "leaky")
    slope = single(attributes.get("slope", "0.25"))
    if kind == "gelu":
        error = to.add("erf", to.add("_mul_scalar", inputs[0], scalar=repr(math.sqrt(0.5))))
        half = to.add("_mul_scalar", inputs[0], scalar=0.5)
        return to.add("elemwise_mul", half, to.add("_plus_scalar", error, scalar=1.0))
    above = to.add("_maximum_scalar", inputs[0], scalar=0.0)
    below = to.add("_minimum_scalar", inputs[0], scalar=0.0)
    if kind == "rrelu":
        lower, upper = attributes.get("lower_bound", "0.125"), attributes.get("upper_bound", "0.334")
        slope = (single(lower) + single(upper)) / 2
    if kind in ("elu", "selu"):
        below = to.add("expm1", below)
        slope = SELU_ALPHA if kind == "selu" else slope
    if kind == "prelu":
        shape = (1, -1) + (1,) * (len(to.input_shape()) - 2)
        below = to.add("broadcast_mul", below, to.add("Reshape", inputs[1], shape=shape))
    else:
        below = to.add("_mul_scalar", below, scalar=repr(slope))
    total = to.add("elemwise_add", above, below)
    return to.add("_mul_scalar", total, scalar=repr(SELU_SCALE)) if kind == "selu" else total


def hard_sigmoid(to: Rewriting, attributes: dict[str, str], inputs: list[Entry]) -> Entry:
    """MXNet computes in float32."""
    alpha, beta = (single(attributes.get(key, usual)) for key, usual in (("alpha", "0.2"), ("beta", "0.5")))
    line = to.add("_plus_scalar", to.add("_mul_scalar", inputs[0], scalar=repr(alpha)), scalar=repr(beta))
    return to.add("_minimum_scalar", to.add("_maximum_scalar", line, scalar=0.0), scalar=1.0)


def softmax_output(to: Rewriting, attributes: dict[str, str], inputs: list[Entry]) -> Entry:
    """MXNet has float64, but needs a label."""
    if attributes.get("multi_output", "False") in ("True", "1", "true"):
        return to.add("softmax", inputs[0], axis=1)
    if attributes.get("preserve_shape", "False") in ("True", "1", "true"):
        return to.add("softmax", inputs[0], axis=-1)
    flat = to.add("softmax", to.add("Flatten", inputs[0]), axis=1)
    return to.add("reshape_like", flat, inputs[0])


def softmax_activation(to: Rewriting, attributes: dict[str, str], inputs: list[Entry]) -> Entry:
    """MXNet has no float64 kernel."""
    return to.add("softmax", inputs[0], axis=1 if attributes.get("mode") == "channel" else -1)


def crop(to: Rewriting, attributes: dict[str, str], inputs: list[Entry]) -> Entry:
    """MXNet has no float64 kernel."""
    top, left = ast.literal_eval(attributes.get("offset", "(0, 0)"))
    height, width = to.input_shape(1)[2:] if len(inputs) > 1 else ast.literal_eval(attributes["h_w"])
    if is_true(attributes, "center_crop"):
        top, left = ((old - new) // 2 for old, new in zip(to.input_shape()[2:], (height, width)))  # noqa: B905 - Python 3.8
    begin, end = (None, None, top, left), (None, None, top + height, left + width)
    return to.add("slice", inputs[0], begin=begin, end=end)


def bilinear_resize(to: Rewriting, attributes: dict[str, str], inputs: list[Entry]) -> Entry:
    """MXNet computes coordinates in float32: multiply by two matrices instead."""
    sizes, new = to.input_shape()[2:], to.shapes[to.index, 0][2:]
    aligned = attributes.get("align_corners", "True") in ("True", "1", "true")
    rows, columns = (
        to.constant(interpolation(size, count, aligned=aligned))
        for size, count in zip(sizes, new)  # noqa: B905 - Python 3.8
    )
    wide = to.add("SwapAxis", to.add("dot", inputs[0], columns), dim1=2, dim2=3)
    return to.add("SwapAxis", to.add("dot", wide, rows), dim1=2, dim2=3)


def interpolation(size: int, count: int, *, aligned: bool) -> list[list[float]]:
    """Return the matrix (size, count) that interpolates linearly."""
    matrix = [[0.0] * count for _ in range(size)]
    for number in range(count):
        if size == count:
            place = float(number)
        elif aligned:
            place = number * (size - 1) / (count - 1) if count > 1 else 0.0
        else:
            place = max(0.0, (number + 0.5) * (size / count if count > 1 else 0.0) - 0.5)
        before = min(int(place), size - 1)
        matrix[before][number] += 1 - (place - before)
        matrix[min(before + 1, size - 1)][number] += place - before
    return matrix


def local_response_norm(to: Rewriting, attributes: dict[str, str], inputs: list[Entry]) -> Entry:
    """MXNet has no float64 kernel: sum over channels by a pool."""
    size = int(attributes["nsize"])
    alpha, beta, knorm = (
        single(attributes.get(key, usual))
        for key, usual in (("alpha", "1e-4"), ("beta", "0.75"), ("knorm", "2"))
    )
    squares = to.add("Reshape", to.add("square", inputs[0]), shape=(0, 1, to.input_shape()[1], -1))
    total = to.add("Pooling", squares, kernel=(size, 1), pad=(size // 2, 0), pool_type="sum")
    scale = to.add(
        "_plus_scalar", to.add("_mul_scalar", total, scalar=repr(alpha / size)), scalar=repr(knorm)
    )
    factor = to.add("reshape_like", to.add("_power_scalar", scale, scalar=repr(-beta)), inputs[0])
    return to.add("elemwise_mul", inputs[0], factor)


def instance_norm(to: Rewriting, attributes: dict[str, str], inputs: list[Entry]) -> Entry:
    """MXNet has no float64 kernel."""
    rank = len(to.input_shape())
    axes, shape = tuple(range(2, rank)), (1, -1) + (1,) * (rank - 2)
    eps = single(attributes.get("eps", "0.001"))
    centered = to.add("broadcast_sub", inputs[0], to.add("mean", inputs[0], axis=axes, keepdims=True))
    variance = to.add("mean", to.add("square", centered), axis=axes, keepdims=True)
    scale = to.add("rsqrt", to.add("_plus_scalar", variance, scalar=repr(eps)))
    gamma, beta = (to.add("Reshape", entry, shape=shape) for entry in inputs[1:])
    scaled = to.add("broadcast_mul", to.add("broadcast_mul", centered, scale), gamma)
    return to.add("broadcast_add", scaled, beta)


def multibox_prior(to: Rewriting, attributes: dict[str, str], _: list[Entry]) -> Entry:
    """MXNet has no float64 kernel, and the output depends on shapes alone."""
    height, width = to.input_shape()[2:]
    sizes, ratios = (singles(attributes.get(key, "(1,)")) for key in ("sizes", "ratios"))
    steps, offsets = (
        singles(attributes.get("steps", "(-1, -1)")),
        singles(attributes.get("offsets", "(.5, .5)")),
    )
    step_y, step_x = (
        step if step > 0 else 1 / size
        for step, size in zip(steps, (height, width))  # noqa: B905 - Python 3.8
    )
    kinds = [(size, ratios[0]) for size in sizes] + [(sizes[0], ratio) for ratio in ratios[1:]]
    halves = [
        (size * height / width * math.sqrt(ratio) / 2, size / math.sqrt(ratio) / 2) for size, ratio in kinds
    ]
    boxes = []
    for row in range(height):
        for column in range(width):
            y, x = (row + offsets[0]) * step_y, (column + offsets[1]) * step_x
            boxes += [[x - wide, y - high, x + wide, y + high] for wide, high in halves]
    if is_true(attributes, "clip"):
        boxes = [[min(max(each, 0.0), 1.0) for each in box] for box in boxes]
    return to.add("_copy", to.constant([boxes]))


def grid_generator(to: Rewriting, attributes: dict[str, str], inputs: list[Entry]) -> Entry:
    """MXNet has no float64 kernel."""
    height, width = to.shapes[to.index, 0][2:]
    rows, columns = (
        [-1 + 2 * place / (size - 1) if size > 1 else -1.0 for place in range(size)]
        for size in (height, width)
    )
    x = [column for _ in rows for column in columns]
    y = [row for row in rows for _ in columns]
    if attributes["transform_type"] == "affine":
        base = to.constant([x, y, [1.0] * len(x)])
        moved = to.add("dot", to.add("Reshape", inputs[0], shape=(-1, 3)), base)
        return to.add("Reshape", moved, shape=(-1, 2, height, width))
    base = to.add("Reshape", to.constant([x, y]), shape=(1, 2, height, width))
    scale = to.add("Reshape", to.constant([2 / (width - 1), 2 / (height - 1)]), shape=(1, 2, 1, 1))
    return to.add("broadcast_add", to.add("broadcast_mul", inputs[0], scale), base)


def data(to: Rewriting, _: dict[str, str], inputs: list[Entry]) -> Entry:
    """Replace a loss that passes its data on, but needs a label."""
    return to.add("_copy", inputs[0])


def logistic(to: Rewriting, _: dict[str, str], inputs: list[Entry]) -> Entry:
    """Replace a loss after a sigmoid, which needs a label."""
    return to.add("sigmoid", inputs[0])


def singles(text: str) -> tuple[float, ...]:
    """Return the numbers of a tuple, rounded to float32."""
    return tuple(single(part) for part in text.strip("()[] ").replace(",", " ").split())


def is_true(attributes: dict[str, str], key: str) -> bool:
    """Return whether an attribute, False by default, is true."""
    return attributes.get(key, "False") in ("True", "1", "true")


RULES: dict[str, Rule] = {
    "BilinearResize2D": bilinear_resize,
    "Crop": crop,
    "GridGenerator": grid_generator,
    "InstanceNorm": instance_norm,
    "LRN": local_response_norm,
    "LeakyReLU": leaky_relu,
    "LinearRegressionOutput": data,
    "LogisticRegressionOutput": logistic,
    "MAERegressionOutput": data,
    "SVMOutput": data,
    "Softmax": softmax_output,
    "SoftmaxActivation": softmax_activation,
    "SoftmaxOutput": softmax_output,
    "_contrib_BilinearResize2D": bilinear_resize,
    "_contrib_MultiBoxPrior": multibox_prior,
    "hard_sigmoid": hard_sigmoid,
}
