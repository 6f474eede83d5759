from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
from safetensors.numpy import save_file
from torch import nn

from converter.errors import ParityError
from converter.networks import matching
from converter.parity import execution
from converter.references.probes import Probe
from resnext_torch import ResNeXt

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from converter.dtypes import Array
    from converter.graphs.graph import Settings
    from converter.networks.catalog import Model
    from converter.networks.mapping import Mapping
    from resnext_torch import Config

PROBE = Probe("float32", (33, 47))


@pytest.fixture
def state(tiny: Model, tiny_mapping: Mapping, tiny_params: dict[str, Array]) -> dict[str, Array]:
    return matching.rename(tiny_mapping, tiny_params, tiny.shapes, "tiny")


class RecordingVisitor:
    """A visitor that records outputs and settings."""

    def __init__(self) -> None:
        self.outputs: dict[str, Array] = {}
        self.settings: dict[str, Settings] = {}

    def __call__(self, name: str, output: Array, settings: Settings) -> None:
        assert name not in self.outputs
        self.outputs[name] = output.copy()
        self.settings[name] = settings


def assert_state(module: nn.Module, state: dict[str, Array]) -> None:
    result = execution.arrays(module)
    assert result.keys() == state.keys()
    assert all(np.array_equal(result[name], array) for name, array in state.items())


def test_built_module_holds_a_copy_of_the_arrays(tiny: Model, state: dict[str, Array]) -> None:
    module = execution.build(state, tiny.config)
    assert_state(module, state)
    module.get_parameter("fc.bias").data.zero_()
    assert state["fc.bias"].all()


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_layers_of_a_loaded_module_have_their_weights_while_they_run(
    dtype: str, tiny: Model, tiny_mapping: Mapping, state: dict[str, Array], tmp_path: Path
) -> None:
    save_file(state, tmp_path / "a.safetensors")
    loaded = execution.load(tmp_path / "a.safetensors", tiny.config)
    built, streamed = RecordingVisitor(), RecordingVisitor()
    held: list[set[str]] = []

    def watch(name: str, output: Array, settings: Settings) -> None:
        streamed(name, output, settings)
        tensors = {**dict(loaded.named_parameters()), **dict(loaded.named_buffers())}
        held.append({key.rpartition(".")[0] for key, tensor in tensors.items() if not tensor.is_meta})

    probe = Probe(dtype, PROBE.size)
    assert execution.hook_layers(loaded, tiny_mapping).run(probe, watch) == ""
    assert execution.hook_layers(execution.build(state, tiny.config), tiny_mapping).run(probe, built) == ""
    assert held == [set()] * len(tiny_mapping.layers)  # a layer's own are released before its output is seen
    assert streamed.outputs.keys() == built.outputs.keys()
    assert all(np.array_equal(streamed.outputs[name], output) for name, output in built.outputs.items())


def test_failed_layer_releases_its_weights(
    tiny: Model, tiny_mapping: Mapping, state: dict[str, Array]
) -> None:
    module = execution.stream(state, tiny.config)
    failure = execution.hook_layers(module, tiny_mapping).run(Probe("float32", (33, 47), channels=5), print)
    assert "expected input[1, 5, 33, 47] to have 3 channels" in failure
    assert module.get_parameter("conv1.weight").is_meta


@pytest.mark.parametrize("make", [execution.build, execution.stream])
def test_state_is_loaded_strictly(
    make: Callable[[dict[str, Array], Config], nn.Module], tiny: Model, state: dict[str, Array]
) -> None:
    del state["fc.bias"]
    with pytest.raises(RuntimeError, match=r'Missing key\(s\) in state_dict: "fc\.bias"'):
        make(state, tiny.config)


@pytest.mark.parametrize("make", [execution.build, execution.stream])
def test_shapes_are_those_of_the_layers(
    make: Callable[[dict[str, Array], Config], nn.Module], tiny: Model, state: dict[str, Array]
) -> None:
    state["fc.bias"] = np.zeros(11, np.float32)
    with pytest.raises(RuntimeError, match=r"size mismatch for fc\.bias"):
        make(state, tiny.config)


def test_arrays_share_memory_with_the_module() -> None:
    module = nn.Linear(2, 2)
    execution.arrays(module)["bias"][:] = 7
    assert (module.bias == 7).all()


def test_visitor_receives_every_layer_in_order_and_the_probes_dtype(
    tiny: Model, tiny_mapping: Mapping, state: dict[str, Array]
) -> None:
    watched = execution.hook_layers(execution.build(state, tiny.config), tiny_mapping)
    single, double = RecordingVisitor(), RecordingVisitor()
    assert watched.run(PROBE, single) == watched.run(Probe("float64", PROBE.size), double) == ""
    assert single.outputs.keys() == double.outputs.keys() == {layer.target for layer in tiny_mapping.layers}
    assert list(single.outputs)[:3] == ["conv1", "bn1", "maxpool"]
    assert list(single.outputs)[-2:] == ["avgpool", "fc"]
    assert {output.dtype.name for output in single.outputs.values()} == {"float32"}
    assert {output.dtype.name for output in double.outputs.values()} == {"float64"}


def test_visitor_receives_the_modules_outputs(
    tiny: Model, tiny_mapping: Mapping, state: dict[str, Array]
) -> None:
    module = execution.build(state, tiny.config).eval()
    with torch.inference_mode():
        expected = module(torch.from_numpy(PROBE.input())).numpy()
    seen = RecordingVisitor()
    execution.hook_layers(module, tiny_mapping).run(PROBE, seen)
    assert np.array_equal(seen.outputs["fc"], expected)


def test_visitor_receives_outputs_before_in_place_operations(
    tiny: Model, tiny_mapping: Mapping, state: dict[str, Array]
) -> None:
    seen = RecordingVisitor()
    execution.hook_layers(execution.build(state, tiny.config), tiny_mapping).run(PROBE, seen)
    assert (seen.outputs["bn1"] < 0).any()  # the in-place ReLU comes after


def test_visitor_receives_layer_settings(tiny: Model, tiny_mapping: Mapping, state: dict[str, Array]) -> None:
    seen = RecordingVisitor()
    execution.hook_layers(execution.build(state, tiny.config), tiny_mapping).run(PROBE, seen)
    grouped = {"kernel": 3, "stride": 2, "padding": 1, "dilation": 1, "groups": 2}
    assert seen.settings["layer2.0.conv2"] == grouped
    assert seen.settings["bn1"] == {"eps": 1e-5}
    pool = {"kernel": 3, "stride": 2, "padding": 1, "dilation": 1, "ceil_mode": False}
    assert seen.settings["maxpool"] == pool
    assert seen.settings["fc"] == seen.settings["layer1.0"] == {}


def test_run_uses_eval_mode_and_removes_its_hooks(
    tiny: Model, tiny_mapping: Mapping, state: dict[str, Array]
) -> None:
    module = execution.build(state, tiny.config).train()
    execution.hook_layers(module, tiny_mapping).run(PROBE, RecordingVisitor())
    assert not module.training
    assert not any(part._forward_hooks for part in module.modules())
    assert_state(module, state)  # training mode would have changed the running means


def test_failing_module_reports_the_error_after_earlier_layers(
    tiny: Model, tiny_mapping: Mapping, state: dict[str, Array]
) -> None:
    module = execution.build(state, tiny.config)
    module.bn1 = nn.BatchNorm2d(7)
    seen = RecordingVisitor()
    failure = execution.hook_layers(module, tiny_mapping).run(PROBE, seen)
    assert failure.startswith("the module failed: running_mean should contain 64 elements not 7")
    assert list(seen.outputs) == ["conv1"]
    assert not any(part._forward_hooks for part in module.modules())


def test_missing_layers_are_named(tiny: Model, tiny_mapping: Mapping) -> None:
    with torch.device("meta"):
        module = ResNeXt(tiny.config)
    module.layer2 = nn.Sequential(module.get_submodule("layer2.0"), nn.Identity())
    expected = r"the module has no layers with these names(\n  layer2\.1\.(bn|conv)[123]){6}$"
    with pytest.raises(ParityError, match=expected):
        execution.hook_layers(module, tiny_mapping)


def test_layer_without_weights_may_be_missing(tiny: Model, tiny_mapping: Mapping) -> None:
    with torch.device("meta"):
        module = ResNeXt(tiny.config)
    del module.avgpool
    watched = execution.hook_layers(module, tiny_mapping)
    assert {layer.target for layer in tiny_mapping.layers} - watched.layers.keys() == {"avgpool"}


class Softened(ResNeXt):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return super().forward(x).softmax(1)


class Blank(ResNeXt):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.zeros_like(super().forward(x))


class Scaled(ResNeXt):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return super().forward(x).mul_(3)  # overwrites the head's own output


@pytest.mark.parametrize("kind", [Softened, Blank, Scaled])
def test_module_that_does_not_return_its_head_fails(
    tiny: Model, tiny_mapping: Mapping, kind: type[ResNeXt]
) -> None:
    watched = execution.hook_layers(kind(tiny.config), tiny_mapping)
    failure = watched.run(Probe("float32", (33, 33)), lambda *_: None)
    assert failure == "the module does not return the output of its last layer, fc"


def test_output_changed_by_a_hook_fails(tiny: Model, tiny_mapping: Mapping) -> None:
    module = ResNeXt(tiny.config)
    watched = execution.hook_layers(module, tiny_mapping)
    assert watched.run(Probe("float32", (33, 33)), lambda *_: None) == ""
    module.register_forward_hook(lambda _module, _inputs, output: output * 3)
    assert (
        watched.run(Probe("float32", (33, 33)), lambda *_: None)
        == "the module does not return the output of its last layer, fc"
    )


def test_module_on_the_meta_device_is_refused(tiny: Model) -> None:
    with torch.device("meta"):
        module = ResNeXt(tiny.config)
    expected = (
        r"^these tensors of the module are on the meta device, without values\n"
        r"  conv1\.weight\n  bn1\.weight\n  bn1\.bias\n"
    )
    with pytest.raises(ParityError, match=expected):
        execution.arrays(module)
