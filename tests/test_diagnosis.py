from __future__ import annotations

import re
from typing import TYPE_CHECKING

import numpy as np
import pytest
import reading
from torch import Tensor, nn
from torch.nn import functional

from converter.parity import diagnosis, execution, runner
from converter.references import numpy
from converter.references.probes import Probe

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from converter.dtypes import Array
    from converter.formats.file_arrays import Arrays
    from converter.networks.catalog import Model
    from converter.networks.loading import LoadedModel
    from converter.parity.diagnosis import Diagnosis

SIZE = (33, 47)
EQUAL = "its tensors and settings are equal; check "


@pytest.fixture
def prepared(
    tiny: Model, tiny_params: dict[str, Array], write: Callable[[dict[str, Array]], Path]
) -> LoadedModel:
    return reading.prepare(tiny, write(tiny_params))


def diagnose(
    prepared: LoadedModel,
    changes: Arrays | None = None,
    change: Callable[[nn.Module], object] = id,
    dtypes: tuple[str, ...] = ("float64",),
) -> Diagnosis | None:
    """Return the diagnosis of our module with some arrays replaced or changed by a function."""
    state = {**prepared.state, **(changes or {})}
    module = execution.build(state, prepared.model.config)
    change(module)
    reference = numpy.NumpyRun(prepared.params, tuple(Probe(dtype, SIZE) for dtype in dtypes))
    proof = runner.prove((reference,), execution.hook_layers(module, prepared.mapping), prepared)
    return diagnosis.diagnose(proof, prepared, state)


def assert_diagnosis(result: Diagnosis | None, layer: str, *suspicions: str) -> None:
    assert result is not None
    assert (result.row.layer.target, result.suspicions) == (layer, suspicions)


def test_agreeing_networks_have_no_diagnosis(prepared: LoadedModel) -> None:
    assert diagnose(prepared) is None


def test_swapped_tensors_of_a_layer_are_named(prepared: LoadedModel) -> None:
    state = prepared.state
    result = diagnose(prepared, {"bn1.weight": state["bn1.bias"], "bn1.bias": state["bn1.weight"]})
    assert_diagnosis(
        result,
        "bn1",
        "bn1.weight has the values of Gluon's features.1.beta, not of its features.1.gamma",
        "bn1.bias has the values of Gluon's features.1.gamma, not of its features.1.beta",
    )


def test_swapped_layers_are_named_at_the_first_difference(prepared: LoadedModel) -> None:
    one, other = "layer1.0.bn1.running_var", "layer1.0.bn2.running_var"
    result = diagnose(prepared, {one: prepared.state[other], other: prepared.state[one]})
    name, other_name = "features.4.0.body.1.running_var", "features.4.0.body.4.running_var"
    assert_diagnosis(
        result, "layer1.0.bn1", f"{one} has the values of Gluon's {other_name}, not of its {name}"
    )


def test_permuted_groups_are_recognised(prepared: LoadedModel) -> None:
    name = "layer1.0.conv2.weight"
    result = diagnose(prepared, {name: np.roll(np.asarray(prepared.state[name]), 4, axis=0)})
    assert result is not None
    (suspicion,) = result.suspicions
    assert suspicion.startswith(f"{name}: 288 of 288 elements differ, by up to ")
    assert suspicion.endswith("; the same values in a different order")


def test_changed_weight_is_counted(prepared: LoadedModel) -> None:
    changed = np.array(prepared.state["fc.bias"])
    changed[3] += 0.5
    result = diagnose(prepared, {"fc.bias": changed})
    assert_diagnosis(result, "fc", "fc.bias: 1 of 10 elements differ, by up to 5.0e-01")


@pytest.mark.parametrize(
    ("name", "value", "layer", "suspicion"),
    [
        ("bn1", nn.BatchNorm2d(64, 1e-3), "bn1", "eps: 1e-05 in the reference, 0.001 in the module"),
        ("layer2.0.conv2.stride", (1, 1), "layer2.0.conv2", "stride: 2 in the reference, 1 in the module"),
        ("maxpool.padding", 0, "maxpool", "padding: 1 in the reference, 0 in the module"),
    ],
)
def test_different_setting_is_shown_with_both_values(
    name: str, value: object, layer: str, suspicion: str, prepared: LoadedModel
) -> None:
    def change(module: nn.Module) -> None:
        if isinstance(value, nn.Module):
            value.load_state_dict(module.get_submodule(name).state_dict())
        parent, _, attribute = name.rpartition(".")
        setattr(module.get_submodule(parent), attribute, value)

    assert_diagnosis(diagnose(prepared, change=change), layer, suspicion)


class Pool(nn.Module):
    """A pool without readable settings, which pads with zeros."""

    def forward(self, x: Tensor) -> Tensor:
        return functional.max_pool2d(functional.pad(x - 1, (1, 1, 1, 1)), 3, 2)


class BatchStatistics(nn.BatchNorm2d):
    """Normalise by the statistics of the input instead of the running ones."""

    def forward(self, x: Tensor) -> Tensor:
        return functional.batch_norm(x, None, None, self.weight, self.bias, training=True, eps=self.eps)


class WithoutBias(nn.Linear):
    """A layer with a bias that it does not add."""

    def forward(self, x: Tensor) -> Tensor:
        return functional.linear(x, self.weight)


def without_relu(module: nn.Module) -> None:
    module.get_submodule("layer1.0").relu = nn.Identity()


def with_another_pool(module: nn.Module) -> None:
    module.maxpool = Pool()


def with_batch_statistics(module: nn.Module) -> None:
    other = BatchStatistics(64)
    other.load_state_dict(module.get_submodule("bn1").state_dict())
    module.bn1 = other


def without_bias(module: nn.Module) -> None:
    head = module.get_submodule("fc")
    outputs, inputs = head.get_parameter("weight").shape
    other = WithoutBias(inputs, outputs)
    other.load_state_dict(head.state_dict())
    module.fc = other


def with_another_sum(module: nn.Module) -> None:
    module.get_submodule("layer1.0").register_forward_hook(lambda _module, _inputs, output: output + 1)


@pytest.mark.parametrize(
    ("change", "layer", "suspicion"),
    [
        (with_another_pool, "maxpool", "check its rounding, its padding, and the ReLU before it"),
        (with_another_sum, "layer1.0", "check the addition of the shortcut, and the ReLU after it"),
        (
            without_relu,
            "layer1.0.conv2",
            EQUAL + "its input (the ReLU, pool or addition before it), and its line in the mapping",
        ),
        (
            with_batch_statistics,
            "bn1",
            EQUAL + "the order of its parameters in the mapping, and its layer type",
        ),
        (without_bias, "fc", EQUAL + "its bias, and its layer type"),
    ],
)
def test_hint_depends_on_the_layer_kind(
    change: Callable[[nn.Module], None], layer: str, suspicion: str, prepared: LoadedModel
) -> None:
    assert_diagnosis(diagnose(prepared, change=change), layer, suspicion)


def test_float64_checkpoint_is_not_suspected(prepared: LoadedModel) -> None:
    wide = {name: np.asarray(prepared.state[name], np.float64) for name in ("bn1.weight", "bn1.running_var")}
    result = diagnose(prepared, wide, lambda module: setattr(module.get_submodule("bn1"), "eps", 1e-3))
    assert_diagnosis(result, "bn1", "eps: 1e-05 in the reference, 0.001 in the module")


def test_swapped_tensors_are_recognised_in_float64(prepared: LoadedModel) -> None:
    result = diagnose(prepared, {"bn1.bias": np.asarray(prepared.state["bn1.running_mean"], np.float64)})
    assert_diagnosis(
        result,
        "bn1",
        "bn1.bias has the values of Gluon's features.1.running_mean, not of its features.1.beta",
    )


def test_strictest_check_determines_the_first_differing_layer(prepared: LoadedModel) -> None:
    slightly = {"conv1.weight": np.asarray(prepared.state["conv1.weight"]) * np.float32(1 + 1e-6)}
    assert diagnose(prepared, slightly, dtypes=("float32",)) is None  # within the limits of float32
    result = diagnose(prepared, slightly, dtypes=("float32", "float64"))
    assert result is not None
    assert (result.probe.dtype, result.row.layer.target) == ("float64", "conv1")


def test_diagnosis_is_formatted_as_a_few_lines(prepared: LoadedModel) -> None:
    result = diagnose(prepared, {"bn1.bias": np.asarray(prepared.state["bn1.bias"]) + np.float32(1)})
    expected = (
        r"  first mismatch  features\.1 → bn1 \(batchnorm\), .* at 33x47: "
        r"largest difference 1, difference / deviation \S+\n"
        r"    reference  mean \S+, deviation \S+\n"
        r"    module     mean \S+, deviation \S+\n"
        r"    suspect    bn1\.bias: 64 of 64 elements differ, by up to 1\.0e\+00"
    )
    assert re.fullmatch(expected, str(result))


def test_nonfinite_outputs_are_reported(prepared: LoadedModel) -> None:
    result = diagnose(prepared, {"fc.bias": np.full(10, np.nan, np.float32)})
    assert "features" not in str(result)
    assert str(result).startswith(
        "  first mismatch  output → fc (dense), float64 at 33x47: not finite in the module\n"
    )
    assert str(result).endswith("    suspect    fc.bias: 10 of 10 elements differ, some not finite")
