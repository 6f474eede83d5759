"""Reduces a graph to its layers."""

from __future__ import annotations

import itertools
from dataclasses import replace
from typing import TYPE_CHECKING

from converter.graphs import operators
from converter.graphs.alignment import structure
from converter.graphs.alignment.structure import AlignedLayer, AlignedStep, Sources, Structure
from converter.graphs.graph import VARIABLE
from converter.graphs.operators.registry import MXNET

if TYPE_CHECKING:
    from collections.abc import Mapping

    from converter.graphs.alignment.structure import Setting
    from converter.graphs.graph import Graph, Node
    from converter.graphs.operators.code import Shape

KINDS = {
    operators.CONVOLUTION: structure.CONVOLUTION,
    f"{MXNET}Convolution": structure.CONVOLUTION,
    f"{MXNET}Deconvolution": structure.TRANSPOSED,
    operators.DENSE: structure.DENSE,
    operators.BATCH_NORM: structure.BATCH_NORM,
    f"{MXNET}LeakyReLU": structure.PRELU,
    f"{MXNET}LayerNorm": "LayerNorm",
    f"{MXNET}GroupNorm": "GroupNorm",
    f"{MXNET}InstanceNorm": "InstanceNorm",
    f"{MXNET}Embedding": structure.EMBEDDING,
}
ROLES = {"gamma": structure.WEIGHT, "beta": structure.BIAS}  # the other roles have PyTorch's names
SETTINGS = {  # PyTorch's argument, by the names of our settings and of MXNet's attributes
    **{name: name for name in ("stride", "padding", "dilation", "groups", "eps")},
    "dilate": "dilation",
    "pad": "padding",
    "num_group": "groups",
    "adj": "output_padding",
}
SPATIAL = ("stride", "padding", "dilation", "output_padding", "kernel_size")  # one number for each axis
USUAL = {"stride": 1, "dilation": 1}
POOLS = {"max": "max pool", "avg": "average pool"}
GLOBAL_POOL = "global pool"  # has no settings, and takes the place of an average pool
LEAKY = "leaky ReLU"
PADS = ("Pad", "pad")
PASSES = {operators.IDENTITY, operators.DROPOUT}  # at inference their output is their input
CONCATENATIONS = ("Concat", "concat")


def reduce(graph: Graph, shapes: Mapping[str, Shape], title: str) -> Structure:
    """Return the structure of a graph for inference.

    Args:
        graph: the graph.
        shapes: the shapes of its parameters; the other variables are its inputs.
        title: its name in messages.
    """
    layers: list[AlignedLayer] = []
    steps: list[AlignedStep] = []
    values: dict[int, Sources] = {}
    numbers: dict[int, int] = {}  # of the layer that a node is, or passes on
    inputs = itertools.count()
    for index, node in enumerate(graph.nodes):
        if node.operation.kind == VARIABLE:
            values[index] = () if node.name in shapes else (frozenset({~next(inputs)}),)
            continue
        names = [graph.nodes[source].name for source, _ in node.inputs]
        sources = _sources(node, values)
        if any(name in shapes for name in names):
            direct = numbers.get(node.inputs[0][0])
            numbers[index] = len(layers)
            is_padded = graph.nodes[node.inputs[0][0]].operator in PADS
            layer = _layer(index, node, names, shapes, sources)
            settings = without_padding(layer.settings) if is_padded else layer.settings
            layers.append(replace(layer, direct=direct, settings=settings))
            values[index] = (frozenset({numbers[index]}),)
            continue
        values[index] = sources
        if node.operation.kind in PASSES and node.inputs[0][0] in numbers:
            numbers[index] = numbers[node.inputs[0][0]]
        if found := _settings_of_step(node):
            kind, settings = found
            steps.append(AlignedStep(name=node.name, kind=kind, sources=sources, settings=settings))
    return Structure(
        title=title,
        layers=tuple(layers),
        steps=tuple(steps),
        outputs=tuple(values[index] for index, _ in graph.outputs),
    )


def _sources(node: Node, values: Mapping[int, Sources]) -> Sources:
    """Return what a node is computed from; the parts of a concatenation one after another."""
    parts = [values[source] for place, (source, _) in enumerate(node.inputs) if not _is_shape(node, place)]
    if node.operator in CONCATENATIONS:
        return tuple(itertools.chain.from_iterable(parts))
    return structure.merge(parts)


def _is_shape(node: Node, place: int) -> bool:
    return place in node.operation.shapes_only


def _layer(
    index: int, node: Node, names: list[str], shapes: Mapping[str, Shape], sources: Sources
) -> AlignedLayer:
    """Return the layer of a node; one that takes a parameter in an unusual place is of its own kind."""
    roles = [ROLES.get(role, role) for role in node.operation.roles]
    places = names[len(names) - len(roles) :]
    is_usual = node.operation.kind in KINDS and roles and all(name in shapes for name in places)
    if not is_usual:
        parameters = [name for name in names if name in shapes]
        roles, places = [f"parameter {number}" for number in range(len(parameters))], parameters
    tensors = dict(zip(roles, places, strict=True))
    axes = len(shapes[places[0]]) - 2
    return AlignedLayer(
        name=node.name,
        kind=KINDS[node.operation.kind] if is_usual else f"MXNet's {node.operator}",
        tensors=tensors,
        shapes={role: tuple(shapes[name]) for role, name in tensors.items()},
        sources=sources,
        settings=_settings(node, axes) if is_usual else {},
        place=index,
    )


def _settings(node: Node, axes: int) -> dict[str, Setting]:
    """Return the settings of a layer, with one number for each of its axes."""
    return {
        SETTINGS[name]: per_axis(SETTINGS[name], value, axes)  # type: ignore[arg-type] # no None in them
        for name, value in node.operation.settings.items()
        if name in SETTINGS
    }


def _settings_of_step(node: Node) -> tuple[str, dict[str, Setting]] | None:
    """Return the kind and the settings of a pool or a leaky ReLU, None for other operations."""
    settings = node.operation.settings
    if is_global_pool(node):
        return GLOBAL_POOL, {}
    if node.operation.kind == operators.POOLING and settings["pool"] in POOLS:
        names = {"kernel": "kernel_size", "stride": "stride", "padding": "padding", "ceil_mode": "ceil_mode"}
        found = {names[key]: per_axis(names[key], settings[key], 2) for key in names}  # type: ignore[arg-type]
        kind = POOLS[str(settings["pool"])]
        pool = pool_settings(kind, found, count_include_pad=bool(settings.get("count_include_pad", True)))
        return (kind, pool) if pool else None
    if node.operation.kind == f"{MXNET}LeakyReLU" and settings.get("act_type", "leaky") == "leaky":
        slope = settings.get("slope", 0.25)
        return LEAKY, {"negative_slope": float(slope)} if isinstance(slope, int | float) else {}
    return None


def is_global_pool(node: Node) -> bool:
    """Return whether a node averages, or takes the largest of, each channel."""
    is_mean = node.operator == "mean"
    return is_mean or (node.operation.kind == operators.POOLING and bool(node.operation.settings["global"]))


def pool_settings(
    kind: str, settings: dict[str, Setting], *, count_include_pad: bool
) -> dict[str, Setting] | None:
    """Return the settings of a pool that have an effect; None if it returns its input.

    Args:
        kind: the kind of the pool.
        settings: its settings, with one number for each axis.
        count_include_pad: whether an average counts the padding.
    """
    kernel, stride, padding = (_ints(settings[name]) for name in ("kernel_size", "stride", "padding"))
    if {*kernel, *stride} == {1}:
        return None
    every_window = {*stride} == {1}  # then no last window is incomplete
    found = {**settings, "ceil_mode": bool(settings["ceil_mode"]) and not every_window}
    if kind == POOLS["avg"] and any(padding):
        found["count_include_pad"] = count_include_pad
    return found


def without_padding(settings: Mapping[str, Setting]) -> dict[str, Setting]:
    """Return settings without the padding, which another operation before the layer may have added."""
    return {name: value for name, value in settings.items() if name != "padding"}


def _ints(value: Setting) -> tuple[int, ...]:
    return value if isinstance(value, tuple) else ()


def per_axis(name: str, value: Setting, axes: int) -> Setting:
    """Return a spatial setting with one number for each axis, and others as they are."""
    if name not in SPATIAL or isinstance(value, str | float):
        return value
    if isinstance(value, tuple | list):
        return tuple(value) or (USUAL.get(name, 0),) * axes  # MXNet's empty tuple is the default
    return (value,) * axes
