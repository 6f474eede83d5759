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
    from pathlib import Path

    from converter.dtypes import Array
    from converter.graphs.graph import Settings
    from converter.networks.catalog import Model
    from converter.networks.mapping import Mapping

PROBE = Probe("float32", (33, 47))


@pytest.fixture
def state(tiny: Model, tiny_mapping: Mapping, tiny_params: dict[str, Array]) -> dict[str, Array]:
    return matching.rename(tiny_mapping, tiny_params, tiny.shapes, "tiny")


class Seen:
    """A visitor that keeps what it is shown."""

    def __init__(self) -> None:
        self.outputs: dict[str, Array] = {}
        self.settings: dict[str, Settings] = {}

    def __call__(self, name: str, output: Array, settings: Settings) -> None:
        assert name not in self.outputs
        self.outputs[name] = output.copy()
        self.settings[name] = settings


def require_state(module: nn.Module, state: dict[str, Array]) -> None:
    found = execution.arrays(module)
    assert found.keys() == state.keys()
    assert all(np.array_equal(found[name], array) for name, array in state.items())


def test_a_module_is_built_with_a_copy_of_the_arrays(tiny: Model, state: dict[str, Array]) -> None:
    module = execution.build(state, tiny.config)
    require_state(module, state)
    module.get_parameter("fc.bias").data.zero_()
    assert state["fc.bias"].all()


def test_a_module_is_loaded_from_a_file(tiny: Model, state: dict[str, Array], tmp_path: Path) -> None:
    save_file(state, tmp_path / "a.safetensors")
    require_state(execution.load(tmp_path / "a.safetensors", tiny.config), state)


def test_a_module_is_loaded_strictly(tiny: Model, state: dict[str, Array]) -> None:
    del state["fc.bias"]
    with pytest.raises(RuntimeError, match=r'Missing key\(s\) in state_dict: "fc\.bias"'):
        execution.build(state, tiny.config)


def test_the_arrays_of_a_module_are_its_own_memory() -> None:
    module = nn.Linear(2, 2)
    execution.arrays(module)["bias"][:] = 7
    assert (module.bias == 7).all()


def test_every_layer_is_shown_in_the_networks_order_and_in_the_probes_precision(
    tiny: Model, tiny_mapping: Mapping, state: dict[str, Array]
) -> None:
    watched = execution.hook_layers(execution.build(state, tiny.config), tiny_mapping)
    single, double = Seen(), Seen()
    assert watched.run(PROBE, single) == watched.run(Probe("float64", PROBE.size), double) == ""
    assert single.outputs.keys() == double.outputs.keys() == {layer.target for layer in tiny_mapping.layers}
    assert list(single.outputs)[:3] == ["conv1", "bn1", "maxpool"]
    assert list(single.outputs)[-2:] == ["avgpool", "fc"]
    assert {output.dtype.name for output in single.outputs.values()} == {"float32"}
    assert {output.dtype.name for output in double.outputs.values()} == {"float64"}


def test_what_is_shown_is_what_the_module_computes(
    tiny: Model, tiny_mapping: Mapping, state: dict[str, Array]
) -> None:
    module = execution.build(state, tiny.config).eval()
    with torch.inference_mode():
        expected = module(torch.from_numpy(PROBE.input())).numpy()
    seen = Seen()
    execution.hook_layers(module, tiny_mapping).run(PROBE, seen)
    assert np.array_equal(seen.outputs["fc"], expected)


def test_a_layer_is_shown_before_the_next_writes_over_it(
    tiny: Model, tiny_mapping: Mapping, state: dict[str, Array]
) -> None:
    seen = Seen()
    execution.hook_layers(execution.build(state, tiny.config), tiny_mapping).run(PROBE, seen)
    assert (seen.outputs["bn1"] < 0).any()  # the ReLU in place comes after


def test_a_layer_is_shown_as_it_is_set(tiny: Model, tiny_mapping: Mapping, state: dict[str, Array]) -> None:
    seen = Seen()
    execution.hook_layers(execution.build(state, tiny.config), tiny_mapping).run(PROBE, seen)
    grouped = {"kernel": 3, "stride": 2, "padding": 1, "dilation": 1, "groups": 2}
    assert seen.settings["layer2.0.conv2"] == grouped
    assert seen.settings["bn1"] == {"eps": 1e-5}
    pool = {"kernel": 3, "stride": 2, "padding": 1, "dilation": 1, "ceil_mode": False}
    assert seen.settings["maxpool"] == pool
    assert seen.settings["fc"] == seen.settings["layer1.0"] == {}


def test_a_module_is_watched_at_inference_and_left_without_hooks(
    tiny: Model, tiny_mapping: Mapping, state: dict[str, Array]
) -> None:
    module = execution.build(state, tiny.config).train()
    execution.hook_layers(module, tiny_mapping).run(PROBE, Seen())
    assert not module.training
    assert not any(part._forward_hooks for part in module.modules())
    require_state(module, state)  # in training the running means would have moved


def test_a_module_that_stops_says_why_and_has_shown_what_came_before(
    tiny: Model, tiny_mapping: Mapping, state: dict[str, Array]
) -> None:
    module = execution.build(state, tiny.config)
    module.bn1 = nn.BatchNorm2d(7)
    seen = Seen()
    failure = execution.hook_layers(module, tiny_mapping).run(PROBE, seen)
    assert failure.startswith("the module stops: running_mean should contain 64 elements not 7")
    assert list(seen.outputs) == ["conv1"]
    assert not any(part._forward_hooks for part in module.modules())


def test_layers_that_a_module_lacks_are_named(tiny: Model, tiny_mapping: Mapping) -> None:
    with torch.device("meta"):
        module = ResNeXt(tiny.config)
    module.layer2 = nn.Sequential(module.get_submodule("layer2.0"), nn.Identity())
    expected = r"the module has no layer of these names(\n  layer2\.1\.(bn|conv)[123]){6}$"
    with pytest.raises(ParityError, match=expected):
        execution.hook_layers(module, tiny_mapping)


def test_a_layer_without_weights_may_be_missing(tiny: Model, tiny_mapping: Mapping) -> None:
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
        return super().forward(x).mul_(3)  # the head's own output, written over


@pytest.mark.parametrize("kind", [Softened, Blank, Scaled])
def test_a_module_that_returns_something_else_than_its_head_fails(
    tiny: Model, tiny_mapping: Mapping, kind: type[ResNeXt]
) -> None:
    watched = execution.hook_layers(kind(tiny.config), tiny_mapping)
    failure = watched.run(Probe("float32", (33, 33)), lambda *_: None)
    assert failure == "the module returns something else than its last layer, fc, gives"


def test_a_module_whose_output_is_changed_by_a_hook_fails(tiny: Model, tiny_mapping: Mapping) -> None:
    module = ResNeXt(tiny.config)
    watched = execution.hook_layers(module, tiny_mapping)
    assert watched.run(Probe("float32", (33, 33)), lambda *_: None) == ""
    module.register_forward_hook(lambda _module, _inputs, output: output * 3)
    assert "something else" in watched.run(Probe("float32", (33, 33)), lambda *_: None)


def test_a_module_without_weights_is_refused(tiny: Model) -> None:
    with torch.device("meta"):
        module = ResNeXt(tiny.config)
    expected = r"^the module has no weights yet\n  conv1\.weight\n  bn1\.weight\n  bn1\.bias\n"
    with pytest.raises(ParityError, match=expected):
        execution.arrays(module)
