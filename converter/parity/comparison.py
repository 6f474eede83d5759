"""The comparison: the same input through the reference and through a module, layer by layer."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Protocol

import numpy as np

from converter import names
from converter.errors import ParityError
from converter.parity.result import LAYER_LIMITS, LIMITS, LayerDiff, ParityResult, ProbeResult, Statistics

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator

    from converter.dtypes import Array
    from converter.formats.file_arrays import Arrays
    from converter.graphs.graph import Settings
    from converter.networks.mapping import Layer, Mapping
    from converter.references import LayerOutput
    from converter.references.probes import Probe

    Visit = Callable[[str, Array, Settings], None]  # a layer's name in PyTorch, its output, how it is set

# How far a layer's output must reach beyond its bias, in deviations, to show that its weights matter.
MIN_SIGHT = 1e-5
# Outputs of a smaller deviation are made of denormal numbers, which have fewer digits and which CPUs round
# differently: their differences are measured by this, the smallest normal number over the epsilon.
SMALLEST_SCALES = {dtype: float(np.finfo(dtype).smallest_normal / np.finfo(dtype).eps) for dtype in LIMITS}


class Reference(Protocol):
    """A forward of the source parameters: GluonCV's, or our own."""

    @property
    def name(self) -> str:
        """What the manifest calls it."""

    @property
    def probes(self) -> tuple[Probe, ...]:
        """The inputs."""

    def outputs(self, number: int) -> Iterator[LayerOutput]:
        """Return what every layer gave for a probe, by the probe's number."""

    def versions(self) -> dict[str, str]:
        """Return what the outputs were computed with."""


class Network(Protocol):
    """The module under test."""

    @property
    def layers(self) -> Collection[str]:
        """The layers whose outputs it can show."""

    def run(self, probe: Probe, visit: Visit) -> str:
        """Send a probe through it, and show each layer to ``visit`` when it has been computed.

        Return why it did not run to its end, or an empty string.
        """


def compare(reference: Reference, network: Network, mapping: Mapping, params: Arrays) -> ParityResult:
    """Send every probe through both sides, and compare the outputs of every layer that both can show.

    ``params`` are Gluon's arrays by Gluon's names.
    Errors: ``ReferenceUnavailableError``; ``ParityError`` where the reference lacks a layer.
    """
    layers = {layer.target: layer for layer in mapping.layers if layer.target in network.layers}
    biases = _biases(mapping, params)
    checks = {}
    # The strictest first: a module that goes to a lower precision does not come back as it was.
    for number, probe in sorted(enumerate(reference.probes), key=lambda pair: LIMITS[pair[1].dtype]):
        limits = dict.fromkeys(layers, LAYER_LIMITS[probe.dtype])
        limits[mapping.layers[-1].target] = LIMITS[probe.dtype]
        comparison = _Comparison(layers, biases, limits, _Outputs(reference.outputs(number)))
        failure = network.run(probe, comparison.visit)
        checks[number] = comparison.check(probe, failure)
    in_order = tuple(checks[number] for number in range(len(checks)))
    return ParityResult(reference.name, reference.versions(), in_order)


def layer_diff(
    layer: Layer,
    limit: float,
    reference: Array,
    module: Array,
    settings: tuple[tuple[str, object, object], ...] = (),
) -> LayerDiff:
    """Compare two outputs of one layer, in float64."""
    both = _statistics(reference), _statistics(module)
    remark = _incomparable(reference, module)
    if remark:
        return LayerDiff(layer, limit, np.inf, np.inf, *both, settings, remark)
    max_abs = _largest(reference, module)
    yardstick = max(_yardstick(both[0], reference), SMALLEST_SCALES[str(reference.dtype)])
    relative = max_abs / yardstick if yardstick else math.inf if max_abs else 0.0
    return LayerDiff(layer, limit, max_abs, relative, *both, settings)


class _Outputs:
    """The reference's outputs by name: computed as far as they are asked for, and let go when they are taken.

    Both sides go through the network in nearly the same order, so that few of them wait.
    """

    def __init__(self, outputs: Iterator[LayerOutput]) -> None:
        self.outputs = outputs
        self.waiting: dict[str, LayerOutput] = {}

    def take(self, layer: str) -> LayerOutput:
        while layer not in self.waiting:
            output = next(self.outputs, None)
            if output is None:
                raise ParityError(
                    f"the reference does not compute {layer}, or the module does more than once"
                )
            self.waiting[output.layer] = output
        return self.waiting.pop(layer)


class _Comparison:
    """One probe's rows, collected while the module runs."""

    def __init__(
        self,
        layers: dict[str, Layer],
        biases: dict[str, Array | None],
        limits: dict[str, float],
        outputs: _Outputs,
    ) -> None:
        self.layers = layers
        self.biases = biases
        self.limits = limits
        self.outputs = outputs
        self.rows: dict[str, LayerDiff] = {}
        self.blind: list[str] = []

    def visit(self, name: str, output: Array, settings: Settings) -> None:
        layer = self.layers[name]
        expected = self.outputs.take(layer.source)
        row = layer_diff(
            layer, self.limits[name], expected.array, output, _different_settings(expected.settings, settings)
        )
        self.rows[name] = row
        if layer.source in self.biases and not _depends_on_weights(
            expected.array, row, self.biases[layer.source]
        ):
            self.blind.append(layer.source)

    def check(self, probe: Probe, failure: str) -> ProbeResult:
        unseen = [layer.target for name, layer in self.layers.items() if name not in self.rows]
        if unseen and not failure:
            failure = f"the module never computed {', '.join(names.collapse(unseen))}"
        rows = tuple(self.rows[name] for name in self.layers if name in self.rows)
        return ProbeResult(probe, rows, tuple(self.blind), failure)


def _biases(mapping: Mapping, params: Arrays) -> dict[str, Array | None]:
    """Return for every layer with weights what it adds to its output at the end."""
    biases: dict[str, Array | None] = {tensor.layer.source: None for tensor in mapping.tensors}
    added = (tensor for tensor in mapping.tensors if tensor.target_role == "bias")
    return biases | {tensor.layer.source: np.asarray(params[tensor.source]) for tensor in added}


def _depends_on_weights(output: Array, row: LayerDiff, bias: Array | None) -> bool:
    """Return whether a layer's output is more than its bias, and so shows the weights and what came in."""
    if bias is not None:
        output = output - bias.reshape(-1, *[1] * (output.ndim - 2))
    return bool(np.abs(output).max() > MIN_SIGHT * _yardstick(row.reference, output))


def _different_settings(reference: Settings, module: Settings) -> tuple[tuple[str, object, object], ...]:
    return tuple(
        (name, value, module[name])
        for name, value in reference.items()
        if name in module and module[name] != value
    )


def _incomparable(reference: Array, module: Array) -> str:
    if reference.shape != module.shape:
        return f"shape {reference.shape} in the reference, {module.shape} in the module"
    if reference.dtype != module.dtype:
        return f"{reference.dtype} in the reference, {module.dtype} in the module"
    if not np.isfinite(reference).all():
        return "not finite in the reference"
    return "" if np.isfinite(module).all() else "not finite in the module"


def _statistics(output: Array) -> Statistics:
    with np.errstate(all="ignore"):  # what is not finite is remarked
        return Statistics(float(output.mean(dtype=np.float64)), float(output.std(dtype=np.float64)))


def _yardstick(reference: Statistics, output: Array) -> float:
    """Return the standard deviation; of a single value, which has none, its size."""
    return reference.deviation if output.size > 1 else abs(reference.mean)


def _largest(reference: Array, module: Array) -> float:
    apart = np.subtract(reference, module, dtype=np.float64)
    return float(np.abs(apart, out=apart).max())
