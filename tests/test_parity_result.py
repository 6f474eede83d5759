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


def test_a_probe_is_the_same_input_every_time_and_in_every_precision() -> None:
    double, single = PROBE.input(), Probe("float32", (65, 97)).input()
    assert double.shape == (1, 3, 65, 97)
    assert double.dtype == np.float64
    assert np.array_equal(double, PROBE.input())
    assert np.array_equal(double.astype(np.float32), single)


def test_another_seed_is_another_input() -> None:
    assert (Probe("float64", (65, 97), seed=1).input() != PROBE.input()).all()


@pytest.mark.parametrize("dtype", LIMITS)
def test_the_limit_decides(dtype: str) -> None:
    limit = LIMITS[dtype]
    assert row(limit, limit=limit).agrees
    assert not row(limit * 1.001, limit=limit).agrees
    assert not row(float("nan"), limit=limit).agrees


def test_the_first_layer_apart_is_named_and_not_the_worst() -> None:
    check = ProbeResult(PROBE, (row(1e-15, "a"), row(1e-3, "b"), row(7.0, "c")))
    assert not check.agrees
    assert check.first_apart == row(1e-3, "b")
    assert check.worst == row(7.0, "c")


def test_the_worst_layer_is_the_one_that_differs_most_and_has_its_own_limit() -> None:
    check = ProbeResult(PROBE, (row(1e-6, "a", limit=1e-4), row(9e-7, "b", limit=1e-6)))
    assert check.worst == row(1e-6, "a", limit=1e-4)


def test_a_module_that_stops_does_not_agree() -> None:
    assert ProbeResult(PROBE, (row(0.0),)).agrees
    assert not ProbeResult(PROBE, (row(0.0),), failure="the module stops").agrees


def test_the_strictest_failed_check_decides() -> None:
    single = ProbeResult(Probe("float32", (65, 97)), (row(1.0),))
    double = ProbeResult(PROBE, (row(1.0),))
    assert ParityResult("numpy", {}, (single, double)).decisive is double
    assert ParityResult("numpy", {}, (single,)).decisive is single


def test_one_failed_check_of_many_refuses_and_all_are_shown() -> None:
    good, bad = (
        ProbeResult(PROBE, (row(2e-15),)),
        ProbeResult(Probe("float32", (224, 224)), (row(0.2, limit=1e-5),)),
    )
    expected = (
        r"does not agree with the reference\n"
        r"  float64 at 65x97  1 layers agree, at most 2e-15 of the deviation \(limit 1e-12\)\n"
        r"  float32 at 224x224  1 of 1 layers apart, at most 0\.2 of .* \(limit 1e-05\)  FAILED\n"
        r"it is the weather$"
    )
    with pytest.raises(ParityError, match=expected):
        require_passed(ParityResult("numpy", {}, (good, bad)), "it is the weather")
    require_passed(ParityResult("numpy", {}, (good,)), None)


def test_a_layer_that_nothing_can_be_seen_of_refuses() -> None:
    blind = ParityResult("numpy", {}, (ProbeResult(PROBE, (row(0.0),), blind=("features.4.0.body.7",)),))
    assert not blind.passed
    with pytest.raises(ParityError, match=r"do not depend on their inputs(.*\n)*  features\.4\.0\.body\.7"):
        require_passed(blind, None)


def test_no_check_is_no_proof() -> None:
    assert not NOT_COMPARED.passed


def test_limits_are_those_of_the_documentation() -> None:
    assert LIMITS == {"float64": 1e-12, "float32": 1e-5}
    assert LAYER_LIMITS == {"float64": 1e-12, "float32": 1e-4}
    assert (SMALLEST, LARGEST) == (32, 2048)


def test_failed_check_decides_before_a_stricter_one_that_passed() -> None:
    failed = ProbeResult(Probe("float32", (65, 97)), (row(1.0),))
    passed = ProbeResult(PROBE, (row(1e-15),))
    for checks in ((failed, passed), (passed, failed)):
        assert ParityResult("numpy", {}, checks).decisive is failed
