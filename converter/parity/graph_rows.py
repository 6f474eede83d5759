"""The comparisons of a generated module with its graph."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any

import numpy as np

from converter import names
from converter.errors import ParityError
from converter.parity.comparison import statistics_of
from converter.parity.result import LAYER_LIMITS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from converter.dtypes import Array
    from converter.parity.result import Statistics
    from converter.parity.samples import Samples

SINGLE_LIMIT = 1e-6  # in float64, after an operator that MXNet computes in float32
MAX_LINES = 10  # of an error
VACUOUS = (
    "these layers prove nothing, because their outputs do not depend on their weights; "
    "is the network untrained?"
)
ROUNDINGS = 64
# Masks add -1e30, and max pooling over padding alone returns the least number. Their deviation would hide
# every other difference, so that values beyond this one are compared relative to themselves.
HUGE = 1e9
REWRITING_LIMIT = 1e-4  # of the difference that replaced operators make in MXNet's float32


class Part(StrEnum):
    """What is compared."""

    node = "node by node"  # the outputs of one node, computed from the reference's inputs of that node
    composition = "with its nodes one after another"  # an output of the module, both sides in PyTorch
    end_to_end = "end to end"  # a layer or an output of the module


PLACES = {Part.node: "its expression", Part.composition: "the output", Part.end_to_end: "the output"}


def limit(dtype: str, *, single: bool) -> float:
    """Return the largest relative error that passes.

    Args:
        dtype: the precision of the run.
        single: whether MXNet computes a part of it in float32.
    """
    return max(LAYER_LIMITS[dtype], SINGLE_LIMIT) if single else LAYER_LIMITS[dtype]


@dataclass(frozen=True, slots=True)
class Difference:
    """The difference between two outputs.

    Attributes:
        max_abs: the largest; infinite if the outputs cannot be compared.
        relative: the same, relative to the reference's standard deviation.
        reference: statistics of the reference's output.
        module: statistics of the module's output.
    """

    max_abs: float
    relative: float
    reference: Statistics
    module: Statistics


@dataclass(frozen=True, slots=True, kw_only=True)
class GraphRow:
    """The comparison of one output.

    Attributes:
        dtype: the dtype in which both sides ran.
        node: the name of the node.
        operator: its operator in MXNet.
        layer: the name of the layer in the module, "" for an expression or an output of the network.
        difference: the difference between the outputs.
        run: the number of the run.
        limit: the largest that passes.
        decisive: whether a larger one fails; not after a discrete operator.
        part: what is compared.
        vacuous: whether the output of a layer does not depend on its weights.
        index: the index of the node in the graph for inference.
        samples: values of both outputs, if the comparison failed; None after the first such rows.
    """

    dtype: str
    node: str
    operator: str
    layer: str
    difference: Difference
    run: int = 0
    limit: float
    decisive: bool = True
    part: Part = Part.end_to_end
    vacuous: bool = False
    index: int = 0
    samples: Samples | None = None

    @property
    def relative(self) -> float:
        """The largest difference, relative to the reference's standard deviation."""
        return self.difference.relative

    @property
    def agrees(self) -> bool:
        """Whether the difference is within its limit."""
        return self.relative <= self.limit

    @property
    def passed(self) -> bool:
        """Whether the difference is within its limit, or does not matter."""
        return self.agrees or not self.decisive


@dataclass(frozen=True, slots=True, kw_only=True)
class GraphProof:
    """The comparison of a generated module with its graph.

    Attributes:
        comparisons: all comparisons, in the order of the runs and of the network; the outputs last.
        versions: the versions of MXNet, GluonCV, NumPy and Python.
        replaced: the operators that MXNet does not compute in float64, and other operators replaced.
        rewriting: the largest relative difference that this makes in float32.
        heads: the reference's outputs of the network, of each run.
    """

    comparisons: tuple[GraphRow, ...]
    versions: dict[str, str]
    heads: tuple[tuple[Array, ...], ...] = ()
    replaced: tuple[str, ...] = ()
    rewriting: float = 0.0

    @property
    def rows(self) -> list[GraphRow]:
        """The comparisons end to end."""
        return [row for row in self.comparisons if row.part is Part.end_to_end]

    @property
    def nodes(self) -> list[GraphRow]:
        """The comparisons node by node."""
        return [row for row in self.comparisons if row.part is Part.node]

    @property
    def passed(self) -> bool:
        """Whether every difference is within its limit, and every layer depends on its weights."""
        within = all(row.passed for row in self.comparisons) and self.rewriting <= REWRITING_LIMIT
        return within and not self.vacuous_layers

    @property
    def vacuous_layers(self) -> list[str]:
        """The names of the layers whose outputs do not depend on their weights."""
        return list(dict.fromkeys(row.layer for row in self.comparisons if row.vacuous))

    @property
    def first_mismatch(self) -> GraphRow | None:
        """The first comparison that failed; a node that differs alone comes before its effects."""
        return next((row for row in self.comparisons if not row.passed), None)

    def worst(self, dtype: str) -> float:
        """Return the largest relative difference in a dtype, of those that decide."""
        rows = [row for row in self.comparisons if row.dtype == dtype and row.decisive]
        return max((row.relative for row in rows), default=0.0)

    def require(self, module: str = "the generated module", remarks: Sequence[str] = ()) -> None:
        """Check that the proof holds.

        Args:
            module: what was compared with the graph, in a message.
            remarks: what may explain a difference; the last lines of its message.

        Raises:
            ParityError: with the first node or layer that differs.
        """
        if self.rewriting > REWRITING_LIMIT:
            raise ParityError(
                f"MXNet's outputs differ by {self.rewriting:.1e} once {', '.join(self.replaced)} are replaced"
            )
        if row := self.first_mismatch:
            raise ParityError(
                f"{module} differs from the graph in {row.dtype}\n"
                f"  first at  {names.printable(names.clipped(row.node))} → {row.layer or PLACES[row.part]}\n"
                f"  compared  {row.part}\n"
                f"  expected  a relative error of at most {row.limit:.0e}\n"
                f"  found     {row.relative:.1e}" + "".join(f"\n  {remark}" for remark in remarks)
            )
        if layers := self.vacuous_layers:
            lines = names.shorten(names.collapse(layers), MAX_LINES)
            hint = "to convert without a proof: --reference none"
            raise ParityError("\n  ".join([VACUOUS, *lines, hint]))


def difference(reference: Array, output: Array) -> Difference:
    """Compare two outputs, in float64; those of different shapes are infinitely far apart."""
    statistics = statistics_of(reference), statistics_of(output)
    if reference.shape != output.shape:
        return Difference(float("inf"), float("inf"), *statistics)
    with np.errstate(all="ignore"):  # infinities and NaNs are values like others
        wide = np.atleast_1d(reference.astype(np.float64, copy=False))
        far, sizes = np.abs(wide - output), np.abs(wide)
        largest, max_abs = _largest(sizes), _largest(far)
        if largest < HUGE and np.isfinite(max_abs):  # the usual case, without masks
            scale = _scale(statistics[0].deviation, largest, reference.dtype)
            return Difference(max_abs, _over(np.asarray(max_abs), scale), *statistics)
        far[(reference == output) | (np.isnan(reference) & np.isnan(output))] = 0
        far[np.isnan(far)] = np.inf  # one of the two is not finite
        ordinary = sizes < HUGE
        deviation = float(np.std(wide[ordinary])) if ordinary.any() else 0.0
        scale = _scale(deviation, _largest(sizes[ordinary]), reference.dtype)
        relative = max(_over(far[ordinary], scale), _over(far[~ordinary], sizes[~ordinary]))
    return Difference(_largest(far), relative, *statistics)


def _largest(sizes: Array) -> float:
    return float(np.max(sizes, initial=0.0))


def _over(far: Array, scale: Array | float) -> float:
    """Return the largest of the differences, relative to a scale or to one of each."""
    if not far.any():
        return 0.0
    relative = np.where(far > 0, far / scale, 0.0)
    return float(np.max(np.where(np.isnan(relative), np.inf, relative)))


def _scale(deviation: float, largest: float, dtype: np.dtype[Any]) -> float:
    """Return what a difference is relative to: the standard deviation, or the largest value of a constant.

    An output that varies only by rounding errors counts as constant.

    Args:
        deviation: the standard deviation of the reference's values, without huge ones.
        largest: the largest absolute value among them.
        dtype: the type in which they were computed.
    """
    rounding = float(np.finfo(dtype).eps) if np.issubdtype(dtype, np.floating) else 0.0
    return deviation if deviation > ROUNDINGS * rounding * largest else largest
