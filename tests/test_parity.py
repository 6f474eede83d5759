from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from converter import artifact, matching, parity
from converter.errors import ParityError
from converter.parity import LIMITS, Check, Probe
from converter.progress import silent

if TYPE_CHECKING:
    from pathlib import Path

    from converter.catalog import Model
    from converter.mapping import Mapping
    from converter.params import Array
    from resnext_torch import ResNeXt

PROBE = Probe("float64", (65, 97))
LOGITS = np.array([[-1.0, 0.0, 1.0, 2.0]])


def test_a_probe_is_the_same_input_every_time_and_in_every_precision() -> None:
    double, single = PROBE.input(), Probe("float32", (65, 97)).input()
    assert double.shape == (1, 3, 65, 97)
    assert double.dtype == np.float64
    assert np.array_equal(double, PROBE.input())
    assert np.array_equal(double.astype(np.float32), single)


def test_another_seed_is_another_input() -> None:
    assert (Probe("float64", (65, 97), seed=1).input() != PROBE.input()).all()


def test_the_difference_is_measured_against_the_references_deviation() -> None:
    check = parity.compare(PROBE, 3 * LOGITS, 3 * LOGITS + 0.3)
    assert check.max_abs == pytest.approx(0.3)
    assert check.relative == pytest.approx(0.3 / (3 * LOGITS.std()))


@pytest.mark.parametrize("dtype", LIMITS)
def test_the_limit_decides(dtype: str) -> None:
    probe, limit = Probe(dtype, (65, 97)), LIMITS[dtype]
    assert Check(probe, 1.0, limit).passed
    assert not Check(probe, 1.0, limit * 1.001).passed
    assert not Check(probe, 1.0, float("nan")).passed


def test_one_failed_check_of_many_refuses_and_all_are_shown() -> None:
    checks = (Check(PROBE, 1e-15, 2e-15), Check(Probe("float32", (224, 224)), 0.1, 0.2))
    expected = (
        r"does not agree with the reference\n"
        r"  float64 at 65x97  2\.0e-15 .*\(limit 1e-12\)\n"
        r"  float32 at 224x224  2\.0e-01 .*\(limit 1e-05\)  FAILED$"
    )
    with pytest.raises(ParityError, match=expected):
        parity.require_passed(checks)
    parity.require_passed(checks[:1])


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_outputs_that_are_not_finite_prove_nothing(value: float) -> None:
    broken = np.where(LOGITS == 0, value, LOGITS)
    with pytest.raises(ParityError, match="the output of the PyTorch module is not finite"):
        parity.compare(PROBE, LOGITS, broken)
    with pytest.raises(ParityError, match="the output of the reference is not finite"):
        parity.compare(PROBE, broken, broken)


@pytest.mark.parametrize("constant", [np.ones((1, 4)), np.ones((1, 1))])
def test_logits_without_a_spread_prove_nothing(constant: Array) -> None:
    with pytest.raises(ParityError, match=r"standard deviation 0\.0 of the logits: nothing to measure by"):
        parity.compare(PROBE, constant, constant)


def test_a_spread_is_finite_even_where_float32_would_overflow() -> None:
    huge = (LOGITS * 1e30).astype(np.float32)
    check = parity.compare(Probe("float32", (65, 97)), huge, huge * np.float32(1.1))
    assert check.relative == pytest.approx(0.1 * 2 / LOGITS.std(), rel=1e-5)


def test_outputs_of_another_shape_or_type_are_refused() -> None:
    with pytest.raises(ParityError, match=r"of the reference is float64 \(1, 4\), not float64 \(1, 3\)"):
        parity.compare(PROBE, LOGITS, LOGITS[:, :3])
    with pytest.raises(ParityError, match=r"of the reference is float32 \(1, 4\), not float64"):
        parity.compare(PROBE, LOGITS.astype(np.float32), LOGITS)
    with pytest.raises(ParityError, match=r"of the PyTorch module is float32 \(1, 4\), not float64"):
        parity.compare(PROBE, LOGITS, LOGITS.astype(np.float32))


def load(tiny: Model, tiny_mapping: Mapping, params: dict[str, Array], folder: Path) -> ResNeXt:
    state = matching.rename(tiny_mapping, params, tiny.shapes, "tiny")
    with artifact.draft(folder, state, silent) as written:
        return parity.load_module(written.path, tiny.config)


def test_every_weight_of_a_healthy_network_is_seen(
    tiny: Model, tiny_mapping: Mapping, tiny_params: dict[str, Array], tmp_path: Path
) -> None:
    assert parity.blind_weights(load(tiny, tiny_mapping, tiny_params, tmp_path), tiny_mapping) == []
    parity.require_sight([])


@pytest.mark.parametrize(
    ("name", "factor", "blind"),
    [
        ("features.7.0.body.7.gamma", 0, "features.7.0.body.6.weight"),
        ("features.7.0.body.7.gamma", 1e-30, "features.7.0.body.0.weight"),
        ("features.7.0.body.6.weight", 0, "features.7.0.body.3.weight"),
        ("output.weight", 0, "features.0.weight"),
        ("output.bias", 1e20, "output.weight"),
    ],
)
def test_a_weight_that_is_switched_off_cannot_be_proven(
    tiny: Model,
    tiny_mapping: Mapping,
    tiny_params: dict[str, Array],
    tmp_path: Path,
    name: str,
    factor: float,
    blind: str,
) -> None:
    tiny_params[name] *= np.float32(factor)
    found = parity.blind_weights(load(tiny, tiny_mapping, tiny_params, tmp_path), tiny_mapping)
    assert blind in found
    with pytest.raises(ParityError, match="the output does not depend on these"):
        parity.require_sight(found)
