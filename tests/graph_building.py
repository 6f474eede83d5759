"""Builds small graphs for tests."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from converter.graphs import reader

if TYPE_CHECKING:
    from converter.graphs.graph import Graph

Described = tuple[str, str, dict[str, str], list[str]]  # operator, name, attributes, names of inputs


def build(*nodes: Described, heads: list[str]) -> Graph:
    """Return a graph whose nodes have different names; ``split:1`` is the second output of ``split``."""
    index = {name: number for number, (_, name, _, _) in enumerate(nodes)}

    def entry(name: str) -> list[int]:
        node, _, output = name.rpartition(":") if ":" in name and name not in index else (name, "", "0")
        return [index[node], int(output), 0]

    content: dict[str, Any] = {
        "nodes": [
            {"op": operator, "name": name, "attrs": attributes, "inputs": [entry(each) for each in inputs]}
            for operator, name, attributes, inputs in nodes
        ],
        "arg_nodes": [number for number, (operator, _, _, _) in enumerate(nodes) if operator == "null"],
        "heads": [entry(name) for name in heads],
        "attrs": {"mxnet_version": ["int", 10901]},
    }
    return reader.parse(json.dumps(content).encode(), file="net-symbol.json", name="net-symbol.json")


def variable(name: str) -> Described:
    return ("null", name, {}, [])


class Network:
    """A graph that grows by layers.

    Attributes:
        nodes: its nodes.
        shapes: the shapes of its parameters.
    """

    def __init__(self) -> None:
        self.nodes: list[Described] = [variable("data")]
        self.shapes: dict[str, tuple[int, ...]] = {}

    def conv(self, name: str, source: str, inputs: int, outputs: int, stride: int = 1) -> str:
        """Add a 3×3 convolution."""
        attributes = {"kernel": "(3, 3)", "num_filter": str(outputs), "pad": "(1, 1)", "no_bias": "True"}
        self._layer(
            "Convolution",
            name,
            attributes | {"stride": f"({stride}, {stride})"},
            source,
            {"weight": (outputs, inputs, 3, 3)},
        )
        return name

    def convolution(
        self,
        name: str,
        source: str,
        inputs: int,
        outputs: int,
        *,
        bias: bool,
        kernel: int = 1,
        stride: int = 1,
        pad: int = 0,
        groups: int = 1,
    ) -> str:
        """Add any convolution."""
        attributes = {
            "kernel": f"({kernel}, {kernel})",
            "stride": f"({stride}, {stride})",
            "pad": f"({pad}, {pad})",
            "num_filter": str(outputs),
            "num_group": str(groups),
            "no_bias": str(not bias),
        }
        shapes: dict[str, tuple[int, ...]] = {"weight": (outputs, inputs // groups, kernel, kernel)}
        self._layer("Convolution", name, attributes, source, shapes | ({"bias": (outputs,)} if bias else {}))
        return name

    def norm(self, name: str, source: str, channels: int, **attributes: str) -> str:
        """Add a BatchNorm."""
        shapes: dict[str, tuple[int, ...]] = dict.fromkeys(
            ("gamma", "beta", "moving_mean", "moving_var"), (channels,)
        )
        self._layer("BatchNorm", name, attributes, source, shapes)
        return name

    def dense(self, name: str, source: str, inputs: int, outputs: int) -> str:
        """Add a dense layer."""
        shapes: dict[str, tuple[int, ...]] = {"weight": (outputs, inputs), "bias": (outputs,)}
        self._layer("FullyConnected", name, {"num_hidden": str(outputs)}, source, shapes)
        return name

    def apply(self, operator: str, name: str, *sources: str, **attributes: str) -> str:
        """Add an operator without parameters."""
        self.nodes.append((operator, name, attributes, [*sources]))
        return name

    def residual(self, scope: str, source: str, inputs: int, outputs: int, stride: int = 1) -> str:
        """Add a residual block of two convolutions, with a projection if it changes the shape."""
        x = self.norm(f"{scope}_bn1", self.conv(f"{scope}_conv1", source, inputs, outputs, stride), outputs)
        x = self.apply("Activation", f"{scope}_relu1", x, act_type="relu")
        x = self.norm(f"{scope}_bn2", self.conv(f"{scope}_conv2", x, outputs, outputs), outputs)
        if inputs != outputs:
            source = self.conv(f"{scope}_sc", source, inputs, outputs, stride)
        x = self.apply("elemwise_add", f"{scope}_plus", x, source)
        return self.apply("Activation", f"{scope}_relu2", x, act_type="relu")

    def build(self, *heads: str) -> Graph:
        """Return the graph."""
        return build(*self.nodes, heads=[*heads])

    def _layer(
        self,
        operator: str,
        name: str,
        attributes: dict[str, str],
        source: str,
        shapes: dict[str, tuple[int, ...]],
    ) -> None:
        for role, shape in shapes.items():
            self.nodes.append(variable(f"{name}_{role}"))
            self.shapes[f"{name}_{role}"] = shape
        self.nodes.append((operator, name, attributes, [source, *(f"{name}_{role}" for role in shapes)]))
