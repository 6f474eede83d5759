from __future__ import annotations

import numpy as np
import pytest

from converter.errors import ParityError
from converter.networks.mapping import Layer
from converter.parity.result import (
    LARGEST,
    LAYER_LIMITS,
    LIMITS,
    NOT_COMPARED,
    SMALLEST,
    LayerDiff,
    ParityResult,
    ProbeResult,
    Statistics,
    require_passed,
)
from converter.references.probes import Probe

PROBE = Probe("float64", (65, 97))
ANY = Statistics(0.0, 1.0)


def row(relative: float, name: str = "body.0", limit: float = 1e-12) -> LayerDiff:
    return LayerDiff(Layer(name, name, "conv", "stem"), limit, relative, relative, ANY, ANY)


def test_probe_input_is_deterministic_in_every_dtype() -> None:
    double, single = PROBE.input(), Probe("float32", (65, 97)).input()
    assert double.shape == (1, 3, 65, 97)
    assert double.dtype == np.float64
    assert np.array_equal(double, PROBE.input())
    assert np.array_equal(double.astype(np.float32), single)


def test_seed_changes_the_input() -> None:
    assert (Probe("float64", (65, 97), seed=1).input() != PROBE.input()).all()


@pytest.mark.parametrize("dtype", LIMITS)
def test_limit_decides_agreement(dtype: str) -> None:
    limit = LIMITS[dtype]
    assert row(limit, limit=limit).agrees
    assert not row(limit * 1.001, limit=limit).agrees
    assert not row(float("nan"), limit=limit).agrees


def test_first_differing_layer_precedes_the_worst() -> None:
    check = ProbeResult(PROBE, (row(1e-15, "a"), row(1e-3, "b"), row(7.0, "c")))
    assert not check.agrees
    assert check.first_mismatch == row(1e-3, "b")
    assert check.worst == row(7.0, "c")


def test_worst_layer_has_the_largest_difference_and_its_own_limit() -> None:
    check = ProbeResult(PROBE, (row(1e-6, "a", limit=1e-4), row(9e-7, "b", limit=1e-6)))
    assert check.worst == row(1e-6, "a", limit=1e-4)


def test_failed_module_does_not_agree() -> None:
    assert ProbeResult(PROBE, (row(0.0),)).agrees
    assert not ProbeResult(PROBE, (row(0.0),), failure="the module failed").agrees


def test_strictest_failed_check_is_decisive() -> None:
    single = ProbeResult(Probe("float32", (65, 97)), (row(1.0),))
    double = ProbeResult(PROBE, (row(1.0),))
    assert ParityResult("numpy", {}, (single, double)).decisive is double
    assert ParityResult("numpy", {}, (single,)).decisive is single


def test_one_failed_check_raises_and_all_are_shown() -> None:
    good, bad = (
        ProbeResult(PROBE, (row(2e-15),)),
        ProbeResult(Probe("float32", (224, 224)), (row(0.2, limit=1e-5),)),
    )
    expected = (
        r"does not agree with the reference\n"
        r"  float64 at 65x97  1 layers agree, largest difference / deviation 2e-15 \(limit 1e-12\)\n"
        r"  float32 at 224x224  1 of 1 layers differ, largest difference / deviation 0\.2 \(limit 1e-05\)"
        r"  FAILED\n"
        r"it is the weather$"
    )
    with pytest.raises(ParityError, match=expected):
        require_passed(ParityResult("numpy", {}, (good, bad)), "it is the weather")
    require_passed(ParityResult("numpy", {}, (good,)), None)


def test_vacuous_layer_raises() -> None:
    blind = ParityResult(
        "numpy", {}, (ProbeResult(PROBE, (row(0.0),), vacuous_layers=("features.4.0.body.7",)),)
    )
    assert not blind.passed
    with pytest.raises(ParityError, match=r"do not depend on their weights(.*\n)*  features\.4\.0\.body\.7"):
        require_passed(blind, None)


def test_missing_checks_do_not_pass() -> None:
    assert not NOT_COMPARED.passed


def test_limits_match_the_documentation() -> None:
    assert LIMITS == {"float64": 1e-12, "float32": 1e-5}
    assert LAYER_LIMITS == {"float64": 1e-12, "float32": 1e-4}
    assert (SMALLEST, LARGEST) == (32, 2048)


def test_failed_check_is_decisive_over_a_stricter_passed_one() -> None:
    failed = ProbeResult(Probe("float32", (65, 97)), (row(1.0),))
    passed = ProbeResult(PROBE, (row(1e-15),))
    for checks in ((failed, passed), (passed, failed)):
        assert ParityResult("numpy", {}, checks).decisive is failed
