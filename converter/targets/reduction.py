"""Reduces a module to its layers, by recording a run."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from converter.graphs.alignment import structure
from converter.graphs.alignment.reduction import (
    GLOBAL_POOL,
    LEAKY,
    POOLS,
    SPATIAL,
    per_axis,
    pool_settings,
    without_padding,
)
from converter.graphs.alignment.structure import (
    BIAS,
    MEAN,
    VARIANCE,
    WEIGHT,
    AlignedLayer,
    AlignedStep,
    Structure,
)
from converter.targets import building
from converter.targets.recording import LayerCalls, Recorder, outputs_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import torch
    from torch import nn

    from converter.graphs.alignment.structure import Setting, Sources
    from converter.targets.recording import Call

KINDS = {
    **dict.fromkeys(("conv1d", "conv2d", "conv3d"), structure.CONVOLUTION),
    **dict.fromkeys(("conv_transpose1d", "conv_transpose2d", "conv_transpose3d"), structure.TRANSPOSED),
    "linear": structure.DENSE,
    "batch_norm": structure.BATCH_NORM,
    "layer_norm": "LayerNorm",
    "group_norm": "GroupNorm",
    "instance_norm": "InstanceNorm",
    "prelu": structure.PRELU,
    "embedding": structure.EMBEDDING,
}
STEPS = {
    **dict.fromkeys(("max_pool1d", "max_pool2d", "max_pool3d"), POOLS["max"]),
    **dict.fromkeys(("avg_pool1d", "avg_pool2d", "avg_pool3d"), POOLS["avg"]),
    **dict.fromkeys(
        ("adaptive_avg_pool1d", "adaptive_avg_pool2d", "adaptive_avg_pool3d", "mean"), GLOBAL_POOL
    ),
    "leaky_relu": LEAKY,
}
ROLES = (WEIGHT, BIAS, MEAN, VARIANCE)
USUAL = {"padding": 0, "output_padding": 0, "dilation": 1, "groups": 1, "ceil_mode": False}
DEFAULTS: dict[str, dict[str, Setting]] = {
    structure.CONVOLUTION: {name: USUAL.get(name, 1) for name in ("stride", "padding", "dilation", "groups")},
    structure.TRANSPOSED: {
        name: USUAL.get(name, 1) for name in ("stride", "padding", "output_padding", "dilation", "groups")
    },
    **{kind: {"eps": 1e-5} for kind in (structure.BATCH_NORM, "LayerNorm", "GroupNorm", "InstanceNorm")},
    POOLS["max"]: {"padding": 0, "ceil_mode": False},
    POOLS["avg"]: {"padding": 0, "ceil_mode": False},
    LEAKY: {"negative_slope": 0.01},
}


def reduce(module: nn.Module, inputs: Sequence[torch.Tensor], title: str) -> Structure:
    """Return the structure of a module.

    Args:
        module: the module, in evaluation mode.
        inputs: what it is run on.
        title: its name in messages.
    """
    run = _Run(LayerCalls(module))
    for number, tensor in enumerate(inputs):
        run.store(tensor, (frozenset({~number}),))
    with Recorder(run.observe).running(module):
        result = building.run(module, inputs, title)
    return Structure(
        title=title,
        layers=tuple(run.layers),
        steps=tuple(run.steps),
        outputs=tuple(run.sources.get(id(each), ()) for each in outputs_of(result)),
    )


@dataclass(slots=True)
class _Run:
    """What a run has called so far.

    Attributes:
        calls: finds the calls that are layers.
        layers: the layers.
        steps: the other operations with settings.
        sources: where each tensor comes from, by identity.
        kept: the tensors, which must live on: their identities are not given to others.
        padded: those that were padded, by identity.
    """

    calls: LayerCalls
    layers: list[AlignedLayer] = field(default_factory=list)
    steps: list[AlignedStep] = field(default_factory=list)
    sources: dict[int, Sources] = field(default_factory=dict)
    kept: list[torch.Tensor] = field(default_factory=list)
    padded: set[int] = field(default_factory=set)

    def store(self, tensor: torch.Tensor, sources: Sources) -> None:
        """Store where a tensor comes from."""
        self.sources[id(tensor)] = sources
        self.kept.append(tensor)

    def observe(self, call: Call) -> None:
        """Add a call."""
        number = self.calls.number(call)
        sources = self._sources(call)
        if number is not None:
            layer = self._layer(call, sources)
            if any(id(tensor) in self.padded for tensor in call.inputs):
                layer = replace(layer, settings=without_padding(layer.settings))
            self.layers.append(layer)
            sources = (frozenset({number}),)
        elif call.function in STEPS:
            kind = STEPS[call.function]
            axes = call.inputs[0].dim() - 2
            settings: dict[str, Setting] | None = dict(_settings(call, kind, axes))
            if settings and kind in POOLS.values():
                counted = bool(call.arguments.get("count_include_pad", True))
                settings = pool_settings(kind, settings, count_include_pad=counted)
            if settings is not None:
                self.steps.append(
                    AlignedStep(
                        name=call.owner, kind=kind, sources=sources, settings=settings, owner=call.owner
                    )
                )
        if call.function == "pad":
            self.padded.update(map(id, call.outputs))
        for tensor in call.outputs:
            if id(tensor) not in self.calls.names:
                self.store(tensor, sources)

    def _sources(self, call: Call) -> Sources:
        parts = [self.sources.get(id(tensor), ()) for tensor in call.inputs]
        if call.function == "cat":
            return tuple(itertools.chain.from_iterable(parts))
        return structure.merge(parts)

    def _layer(self, call: Call, sources: Sources) -> AlignedLayer:
        kind = KINDS.get(call.function)
        given = {role: call.arguments[role] for role in ROLES if call.arguments.get(role) is not None}
        if kind is None or any(id(tensor) not in self.calls.names for tensor in given.values()):
            kind = f"parameter of {call.function}"
            parameters = [tensor for tensor in call.inputs if id(tensor) in self.calls.names]
            given = {f"parameter {number}": tensor for number, tensor in enumerate(parameters)}
        tensors = {role: self.calls.names[id(tensor)] for role, tensor in given.items()}
        shapes = {role: tuple(tensor.shape) for role, tensor in given.items()}
        first = next(iter(tensors.values()))
        return AlignedLayer(
            name=first.rpartition(".")[0] or first,
            kind=kind,
            tensors=tensors,
            shapes=shapes,
            sources=sources,
            settings=dict(_settings(call, kind, len(next(iter(shapes.values()))) - 2)),
            place=len(self.layers),
            owner=call.owner,
        )


def _settings(call: Call, kind: str, axes: int) -> Iterator[tuple[str, Setting]]:
    """Yield the settings that are compared, with one number for each axis."""
    if kind in POOLS.values():
        size = call.arguments["kernel_size"]
        yield "kernel_size", per_axis("kernel_size", size, axes)
        yield "stride", per_axis("stride", call.arguments.get("stride") or size, axes)
    for name, default in DEFAULTS.get(kind, {}).items():
        value = call.arguments.get(name, default)
        yield name, per_axis(name, value, axes) if name in SPATIAL else value
