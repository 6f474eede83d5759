from __future__ import annotations

import functools
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import pytest
from torch import nn

from converter.errors import ParityError
from converter.networks import catalog, matching
from converter.networks.mapping import Layer
from converter.networks.synthetic import random_params
from converter.parity import comparison, execution
from converter.parity.result import LAYER_LIMITS, LIMITS, ParityResult
from converter.references import LayerOutput, numpy
from converter.references.probes import Probe

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator
    from typing import Unpack

    import torch

    from converter.dtypes import Array
    from converter.graphs.graph import Settings
    from converter.networks.catalog import Model
    from converter.networks.mapping import Mapping
    from converter.parity.comparison import Network, Visit

PROBE = Probe("float64", (33, 33))
PROBES = (Probe("float32", (33, 33)), PROBE)
LAYER = Layer("output", "fc", "dense", "head")
LOGITS = np.array([[-1.0, 0.0, 1.0, 2.0]])


def test_finite_values_with_an_infinite_mean_are_finite() -> None:
    huge = np.full((1, 4), 1.7e308)
    assert comparison.layer_diff(LAYER, 1e-12, huge, huge).remark == ""
    huge[0, 0] = np.inf
    assert comparison.layer_diff(LAYER, 1e-12, huge, huge).remark == "not finite in the reference"


def test_difference_is_relative_to_the_references_deviation() -> None:
    row = comparison.layer_diff(LAYER, 1e-12, 3 * LOGITS, 3 * LOGITS + 0.3)
    assert row.max_abs == pytest.approx(0.3)
    assert row.relative == pytest.approx(0.3 / (3 * LOGITS.std()))
    assert row.reference.mean == pytest.approx(1.5)
    assert row.module.mean == pytest.approx(1.8)
    assert row.reference.deviation == pytest.approx(row.module.deviation)


def test_two_values_are_relative_to_their_deviation() -> None:
    row = comparison.layer_diff(LAYER, 1.0, np.array([[99.0, 101.0]]), np.array([[99.0, 101.5]]))
    assert row.relative == pytest.approx(0.5)


def test_single_value_is_relative_to_its_size() -> None:
    one = np.array([[-4.0]])
    assert comparison.layer_diff(LAYER, 1e-12, one, one + 1).relative == pytest.approx(0.25)


@pytest.mark.parametrize(("apart", "agrees"), [(0.0, True), (1e-300, False), (1e300, False)])
def test_constant_output_must_be_equal(apart: float, agrees: bool) -> None:
    constant = np.zeros((1, 4))
    assert comparison.layer_diff(LAYER, 1e-12, constant, constant + apart).agrees == agrees


DENORMAL = np.random.Generator(np.random.PCG64(0)).standard_normal((1, 8)) * 1e-40


@pytest.mark.parametrize(("dtype", "limit", "agrees"), [("float32", 1e-4, True), ("float64", 1e-12, False)])
def test_denormal_outputs_are_relative_to_the_smallest_normal(dtype: str, limit: float, agrees: bool) -> None:
    one = DENORMAL.astype(dtype)
    row = comparison.layer_diff(LAYER, limit, one, (DENORMAL * 1.001).astype(dtype))
    assert row.max_abs > 0
    assert row.agrees == agrees
    assert not comparison.layer_diff(LAYER, limit, one, one + np.dtype(dtype).type(1e-34)).agrees


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_nonfinite_outputs_never_agree(value: float) -> None:
    broken = np.where(LOGITS == 0, value, LOGITS)
    of_module = comparison.layer_diff(LAYER, 1e-12, LOGITS, broken)
    of_both = comparison.layer_diff(LAYER, 1e-12, broken, broken)
    assert (of_module.agrees, of_module.remark) == (False, "not finite in the module")
    assert (of_both.agrees, of_both.remark) == (False, "not finite in the reference")


def test_deviation_does_not_overflow_in_float32() -> None:
    huge = (LOGITS * 1e30).astype(np.float32)
    row = comparison.layer_diff(LAYER, 1e-5, huge, huge * np.float32(1.1))
    assert row.relative == pytest.approx(0.1 * 2 / LOGITS.std(), rel=1e-5)


def test_outputs_of_another_shape_or_dtype_never_agree() -> None:
    shape = comparison.layer_diff(LAYER, 1e-12, LOGITS, LOGITS[:, :3])
    dtype = comparison.layer_diff(LAYER, 1e-12, LOGITS, LOGITS.astype(np.float32))
    assert (shape.agrees, shape.remark) == (False, "shape (1, 4) in the reference, (1, 3) in the module")
    assert (dtype.agrees, dtype.remark) == (False, "float64 in the reference, float32 in the module")


def prove(model: Model, mapping: Mapping, params: dict[str, Array]) -> ParityResult:
    state = matching.rename(mapping, params, model.shapes, "tiny")
    watched = execution.hook_layers(execution.build(state, model.config), mapping)
    return comparison.compare(numpy.NumpyRun(params, PROBES), watched, mapping, params)


def test_correct_conversion_agrees_in_every_layer_in_order(
    tiny: Model, tiny_mapping: Mapping, tiny_params: dict[str, Array]
) -> None:
    proof = prove(tiny, tiny_mapping, tiny_params)
    assert proof.passed
    for check, probe in zip(proof.checks, PROBES, strict=True):
        assert [row.layer for row in check.rows] == list(tiny_mapping.layers)
        assert [row.limit for row in check.rows[:-1]] == [LAYER_LIMITS[probe.dtype]] * (len(check.rows) - 1)
        assert check.rows[-1].limit == LIMITS[probe.dtype]
        assert all(row.reference.deviation > 0 for row in check.rows)


def test_squeeze_excitation_agrees_in_every_layer() -> None:
    known = catalog.find("gluon_senet154")
    model = replace(known, config=replace(known.config, depths=(1, 1, 1, 1), num_classes=10))
    params = random_params(model.mapping, model.shapes, seed=0)
    proof = prove(model, model.mapping, params)
    assert proof.passed
    assert len(proof.checks[0].rows) == len(model.mapping.layers)
    weight = next(name for name in params if name.endswith("se.2.bias"))
    params[weight] = params[weight] + np.float32(1)  # changes the reference only
    state = matching.rename(
        model.mapping, random_params(model.mapping, model.shapes, seed=0), model.shapes, ""
    )
    watched = execution.hook_layers(execution.build(state, model.config), model.mapping)
    assert not comparison.compare(numpy.NumpyRun(params, PROBES), watched, model.mapping, params).passed


@pytest.mark.parametrize(
    ("name", "factor", "blind"),
    [
        ("features.7.0.body.7.gamma", 0, "features.7.0.body.7"),
        ("features.7.0.body.7.gamma", 1e-30, "features.7.0.body.7"),
        ("features.7.0.body.6.weight", 0, "features.7.0.body.6"),
        ("output.weight", 0, "output"),
        ("output.bias", 1e20, "output"),
    ],
)
def test_layer_dominated_by_its_bias_is_vacuous(
    tiny: Model, tiny_mapping: Mapping, tiny_params: dict[str, Array], name: str, factor: float, blind: str
) -> None:
    tiny_params[name] *= np.float32(factor)
    proof = prove(tiny, tiny_mapping, tiny_params)
    assert proof.decisive is None
    assert blind in proof.vacuous_layers
    assert not proof.passed


KINDS = ["gluon_resnext50_32x4d", "gluon_resnet18_v1b", "gluon_resnet50_v1d", "gluon_senet154"]


def small(name: str, **changes: Unpack[catalog.ConfigChanges]) -> Model:
    """Return a network of a kind with two blocks in the stages that may be dilated."""
    model = catalog.find(name)
    config = replace(model.config, depths=(1, 1, 2, 2), cardinality=min(model.config.cardinality, 2))
    return replace(model, config=config).with_config(**changes)


@functools.lru_cache(1)  # for several comparisons of one module
def parameters(model: Model) -> dict[str, Array]:
    return random_params(model.mapping, model.shapes, seed=0)


def compare_strides(reference: Model, module: Model) -> ParityResult:
    """Compare a reference and a module with the same parameters and other output strides."""
    params = parameters(module)
    state = matching.rename(module.mapping, params, module.shapes, "tiny")
    watched = execution.hook_layers(execution.build(state, module.config), module.mapping)
    probes = tuple(replace(probe, channels=module.config.in_chans) for probe in PROBES)
    run = numpy.NumpyRun(params, probes, reference.config.output_stride)
    return comparison.compare(run, watched, module.mapping, params)


@pytest.mark.parametrize("output_stride", [8, 16])
@pytest.mark.parametrize("name", KINDS)
def test_dilated_network_agrees_with_its_own_output_stride_only(name: str, output_stride: int) -> None:
    dilated = small(name, output_stride=output_stride, num_classes=10)
    assert compare_strides(dilated, dilated).passed
    for stride in {8, 16, 32} - {output_stride}:
        check = compare_strides(dilated.with_config(output_stride=stride), dilated).decisive
        assert check is not None
        assert check.first_mismatch is not None
        assert check.first_mismatch.settings


@pytest.mark.parametrize("name", ["gluon_resnet18_v1b", "gluon_resnet50_v1b"])
def test_first_block_of_a_dilated_stage_with_the_stages_dilation_differs(name: str) -> None:
    model = small(name, output_stride=8, num_classes=10)
    params = random_params(model.mapping, model.shapes, seed=0)
    state = matching.rename(model.mapping, params, model.shapes, "tiny")
    module = execution.build(state, model.config)
    conv = module.get_submodule("layer4.0.conv1" if "18" in name else "layer4.0.conv2")
    assert isinstance(conv, nn.Conv2d)
    assert conv.dilation == (2, 2)
    conv.dilation = conv.padding = (4, 4)
    watched = execution.hook_layers(module, model.mapping)
    check = comparison.compare(numpy.NumpyRun(params, PROBES, 8), watched, model.mapping, params).decisive
    assert check is not None
    assert check.first_mismatch is not None
    assert check.first_mismatch.layer.target.startswith("layer4.0.conv")
    assert check.first_mismatch.settings == (("padding", 2, 4), ("dilation", 2, 4))


@pytest.mark.parametrize("in_chans", [1, 4])
def test_other_input_channels_agree(in_chans: int) -> None:
    model = small("gluon_resnet50_v1s", in_chans=in_chans)
    assert compare_strides(model, model).passed


@pytest.mark.parametrize("name", KINDS)
def test_network_without_a_head_agrees_up_to_the_pooled_features(name: str) -> None:
    model = small(name, num_classes=0)
    proof = compare_strides(model, model)
    assert proof.passed
    for check in proof.checks:
        assert check.rows[-1].layer.target == "avgpool"
        assert check.rows[-1].limit == LIMITS[check.probe.dtype]


def test_network_without_a_head_that_returns_something_else_fails() -> None:
    model = small("gluon_resnet18_v1b", num_classes=0)
    params = random_params(model.mapping, model.shapes, seed=0)
    state = matching.rename(model.mapping, params, model.shapes, "tiny")
    module = execution.build(state, model.config)
    module.fc = Doubled()
    proof = comparison.compare(
        numpy.NumpyRun(params, PROBES), execution.hook_layers(module, model.mapping), model.mapping, params
    )
    assert {check.failure for check in proof.checks} == {
        "the module does not return the output of its last layer, avgpool"
    }


class Doubled(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return 2 * x


def test_head_with_one_class_can_be_proven(
    tiny: Model, tiny_mapping: Mapping, tiny_params: dict[str, Array]
) -> None:
    tiny_params |= {name: tiny_params[name][:1].copy() for name in ("output.weight", "output.bias")}
    assert prove(tiny.with_config(num_classes=1), tiny_mapping, tiny_params).passed


@dataclass
class RepeatingModule:
    """A module that shows some of its layers several times or not at all."""

    inner: Network
    times: dict[str, int]

    @property
    def layers(self) -> Collection[str]:
        return self.inner.layers

    def run(self, probe: Probe, visit: Visit) -> str:
        def repeat(name: str, output: Array, settings: Settings) -> None:
            for _ in range(self.times.get(name, 1)):
                visit(name, output, settings)

        return self.inner.run(probe, repeat)


def compare_partial(
    model: Model, mapping: Mapping, params: dict[str, Array], times: dict[str, int]
) -> ParityResult:
    state = matching.rename(mapping, params, model.shapes, "tiny")
    watched = execution.hook_layers(execution.build(state, model.config), mapping)
    return comparison.compare(
        numpy.NumpyRun(params, (PROBE,)), RepeatingModule(watched, times), mapping, params
    )


def test_layer_that_is_never_computed_fails(
    tiny: Model, tiny_mapping: Mapping, tiny_params: dict[str, Array]
) -> None:
    (check,) = compare_partial(tiny, tiny_mapping, tiny_params, {"layer1.0.bn2": 0}).checks
    assert check.failure == "the module never computed layer1.0.bn2"
    assert not check.agrees


def test_layer_computed_twice_is_refused(
    tiny: Model, tiny_mapping: Mapping, tiny_params: dict[str, Array]
) -> None:
    with pytest.raises(
        ParityError, match=r"does not compute features\.4\.0\.body\.4, or the module computes it more"
    ):
        compare_partial(tiny, tiny_mapping, tiny_params, {"layer1.0.bn2": 2})


def test_failing_module_keeps_its_earlier_outputs(
    tiny: Model, tiny_mapping: Mapping, tiny_params: dict[str, Array]
) -> None:
    state = matching.rename(tiny_mapping, tiny_params, tiny.shapes, "tiny")
    module = execution.build(state, tiny.config)
    module.get_submodule("layer2.0.conv2").stride = (1, 1)  # type: ignore[assignment]
    watched = execution.hook_layers(module, tiny_mapping)
    proof = comparison.compare(numpy.NumpyRun(tiny_params, (PROBE,)), watched, tiny_mapping, tiny_params)
    (check,) = proof.checks
    assert check.failure.startswith("the module failed: ")
    assert check.first_mismatch is not None
    assert check.first_mismatch.layer.target == "layer2.0.conv2"
    assert check.first_mismatch.settings == (("stride", 2, 1),)


def test_outputs_are_released_when_taken() -> None:
    def outputs() -> Iterator[LayerOutput]:
        for name in ("a", "b", "c"):
            yield LayerOutput(name, np.zeros(1), {})

    waiting = comparison._Outputs(outputs())
    assert waiting.take("b").layer == "b"
    assert waiting.waiting.keys() == {"a"}
    assert waiting.take("a").layer == "a"
    assert waiting.waiting == {}
    with pytest.raises(ParityError, match="the reference does not compute d"):
        waiting.take("d")
