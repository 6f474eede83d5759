"""Compare the outputs of a reference and a module for the same inputs, layer by layer."""

from __future__ import annotations

import itertools
import math
from dataclasses import replace
from typing import TYPE_CHECKING, Protocol

import numpy as np

from converter import names
from converter.errors import ParityError
from converter.parity import samples
from converter.parity.result import LAYER_LIMITS, LIMITS, LayerDiff, ParityResult, ProbeResult, Statistics
from converter.progress import silent

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator

    from converter.dtypes import Array
    from converter.formats.file_arrays import Arrays
    from converter.graphs.graph import Settings
    from converter.networks.mapping import Layer, Mapping
    from converter.progress import Progress
    from converter.references import LayerOutput, ReferenceName
    from converter.references.probes import Probe

    Visit = Callable[[str, Array, Settings], None]  # a layer's PyTorch name, its output, its settings

# Least magnitude of a layer's output without its bias, in standard deviations of the output, that shows
# that its weights matter.
MIN_WEIGHT_EFFECT = 1e-5
STEP = "proving"  # of the progress
# Least scale that differences are divided by: the smallest normal number over epsilon. Outputs of a
# smaller standard deviation hold denormal numbers, which have fewer digits and which CPUs round differently.
SMALLEST_SCALES = {dtype: float(np.finfo(dtype).smallest_normal / np.finfo(dtype).eps) for dtype in LIMITS}


class Reference(Protocol):
    """A forward pass of the source parameters, by MXNet or by numpy."""

    @property
    def name(self) -> ReferenceName:
        """Name in the manifest."""

    @property
    def probes(self) -> tuple[Probe, ...]:
        """The inputs."""

    def outputs(self, number: int) -> Iterator[LayerOutput]:
        """Return every layer's output for the probe at index ``number``."""

    def versions(self) -> dict[str, str]:
        """Return the versions of the packages that computed the outputs."""


class Network(Protocol):
    """The module under test."""

    @property
    def layers(self) -> Collection[str]:
        """Names of the layers whose outputs are accessible."""

    def run(self, probe: Probe, visit: Visit) -> str:
        """Run the network on a probe and call ``visit`` with each layer's output once it is computed.

        Returns:
            Why the run failed, or an empty string.
        """


def compare(
    reference: Reference,
    network: Network,
    mapping: Mapping,
    params: Arrays,
    progress: Progress = silent,
) -> ParityResult:
    """Compare the outputs of every layer that both sides expose, for every probe.

    Args:
        reference: runs the source parameters.
        network: the module under test.
        mapping: pairs the layers of both sides.
        params: Gluon arrays by Gluon names.
        progress: called with "proving", the number of compared layers of all probes and their total.

    Raises:
        ReferenceUnavailableError: if the reference cannot run.
        ParityError: if the reference does not compute a layer.
    """
    layers = {layer.target: layer for layer in mapping.layers if layer.target in network.layers}
    biases = _biases(mapping, params)
    done, total = itertools.count(1), len(layers) * len(reference.probes)
    progress(STEP, 0, total)
    checks = {}
    # Highest precision first: a module cast to a lower precision loses digits of its weights.
    for number, probe in sorted(enumerate(reference.probes), key=lambda pair: LIMITS[pair[1].dtype]):
        limits = dict.fromkeys(layers, LAYER_LIMITS[probe.dtype])
        limits[mapping.layers[-1].target] = LIMITS[probe.dtype]
        outputs = _Outputs(reference.outputs(number))
        comparison = _Comparison(layers, biases, limits, outputs, lambda: progress(STEP, next(done), total))
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
    """Compare two outputs of one layer, in float64.

    Args:
        layer: the layer.
        limit: largest relative difference that passes.
        reference: output of the reference.
        module: output of the module.
        settings: hyperparameters that differ: (name, value in the reference, value in the module).

    Shape:
        ``reference`` and ``module``: any; a difference in shape or type is a mismatch.
    """
    statistics = statistics_of(reference), statistics_of(module)
    remark = _incompatibility(reference, module, statistics)
    if remark:
        return LayerDiff(layer, limit, np.inf, np.inf, *statistics, settings, remark)
    max_abs = _largest_difference(reference, module)
    scale = max(_scale(statistics[0], reference), SMALLEST_SCALES[str(reference.dtype)])
    return LayerDiff(layer, limit, max_abs, max_abs / scale, *statistics, settings)


class _Outputs:
    """The reference's outputs by layer name.

    Outputs are computed on demand and released once taken. Both sides compute the layers in nearly the
    same order, so few outputs wait at a time.
    """

    def __init__(self, outputs: Iterator[LayerOutput]) -> None:
        self.outputs = outputs
        self.waiting: dict[str, LayerOutput] = {}

    def take(self, layer: str) -> LayerOutput:
        while layer not in self.waiting:
            output = next(self.outputs, None)
            if output is None:
                raise ParityError(
                    f"the reference does not compute {layer}, or the module computes it more than once"
                )
            self.waiting[output.layer] = output
        return self.waiting.pop(layer)


class _Comparison:
    """The comparison of one probe, filled while the module runs."""

    def __init__(
        self,
        layers: dict[str, Layer],
        biases: dict[str, Array | None],
        limits: dict[str, float],
        outputs: _Outputs,
        on_row: Callable[[], None],
    ) -> None:
        self.layers = layers
        self.biases = biases
        self.limits = limits
        self.outputs = outputs
        self.on_row = on_row
        self.rows: dict[str, LayerDiff] = {}
        self.sampled = 0
        self.vacuous_layers: list[str] = []

    def visit(self, name: str, output: Array, settings: Settings) -> None:
        layer = self.layers[name]
        expected = self.outputs.take(layer.source)
        row = layer_diff(
            layer, self.limits[name], expected.array, output, _different_settings(expected.settings, settings)
        )
        if not row.agrees and self.sampled < samples.MAX_LAYERS:
            row = replace(row, samples=samples.select(expected.array, output))
            self.sampled += 1
        self.rows[name] = row
        self.on_row()
        if layer.source in self.biases and not depends_on_weights(
            expected.array, row.reference, self.biases[layer.source]
        ):
            self.vacuous_layers.append(layer.source)

    def check(self, probe: Probe, failure: str) -> ProbeResult:
        missing = [layer.target for name, layer in self.layers.items() if name not in self.rows]
        if missing and not failure:
            failure = f"the module never computed {', '.join(names.collapse(missing))}"
        rows = tuple(self.rows[name] for name in self.layers if name in self.rows)
        return ProbeResult(probe, rows, tuple(self.vacuous_layers), failure)


def _biases(mapping: Mapping, params: Arrays) -> dict[str, Array | None]:
    """Return the bias of each layer with weights by its Gluon name, None for a layer without bias."""
    biases: dict[str, Array | None] = {tensor.layer.source: None for tensor in mapping.tensors}
    bias_tensors = (tensor for tensor in mapping.tensors if tensor.target_role == "bias")
    return biases | {tensor.layer.source: np.asarray(params[tensor.source]) for tensor in bias_tensors}


def depends_on_weights(output: Array, statistics: Statistics, bias: Array | None) -> bool:
    """Return whether a layer's output exceeds its bias, and so depends on its weights and its input.

    Args:
        output: the output.
        statistics: its statistics.
        bias: the bias, None for a layer without one.

    Shape:
        ``output``: (n, channels, …); ``bias``: (channels,)
    """
    if bias is not None:
        output = output - bias.reshape(-1, *[1] * (output.ndim - 2))
    return bool(np.abs(output).max() > MIN_WEIGHT_EFFECT * _scale(statistics, output))


def _different_settings(reference: Settings, module: Settings) -> tuple[tuple[str, object, object], ...]:
    return tuple(
        (name, value, module[name])
        for name, value in reference.items()
        if name in module and module[name] != value
    )


def _incompatibility(reference: Array, module: Array, statistics: tuple[Statistics, Statistics]) -> str:
    if reference.shape != module.shape:
        return f"shape {reference.shape} in the reference, {module.shape} in the module"
    if reference.dtype != module.dtype:
        return f"{reference.dtype} in the reference, {module.dtype} in the module"
    if not _is_finite(reference, statistics[0]):
        return "not finite in the reference"
    return "" if _is_finite(module, statistics[1]) else "not finite in the module"


def _is_finite(output: Array, statistics: Statistics) -> bool:
    """Return whether all values are finite, usually from their mean."""
    return math.isfinite(statistics.mean) or bool(np.isfinite(output).all())


def statistics_of(output: Array) -> Statistics:
    """Return the mean and the standard deviation of an output, in float64; NaN if it is empty.

    Equal to ``mean`` and ``std`` of numpy to the bit, but ``std`` would compute the mean again.
    """
    if not output.size:
        return Statistics(math.nan, math.nan)
    with np.errstate(all="ignore"):  # infinities and NaNs are values like others
        mean = output.mean(dtype=np.float64)
        distances = np.asarray(np.subtract(output, mean, dtype=np.float64))
        variance = np.square(distances, out=distances).mean()
        return Statistics(float(mean), float(np.sqrt(variance)))


def _scale(reference: Statistics, output: Array) -> float:
    """Return the standard deviation, or the magnitude of a single value, which has no deviation."""
    return reference.deviation if output.size > 1 else abs(reference.mean)


def _largest_difference(reference: Array, module: Array) -> float:
    difference = np.subtract(reference, module, dtype=np.float64)
    return float(np.abs(difference, out=difference).max())
