"""``layer_weights``: layers take their weights from a state dict while they run."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from converter.parity import layer_weights

STATE = {
    "linear.weight": torch.randn(3, 2, generator=torch.Generator().manual_seed(0)),
    "linear.bias": torch.arange(3.0),
    "scale": torch.full((1,), 2.0),
}


class Scaled(nn.Module):
    """A layer, and a parameter that no layer has."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(2, 3)
        self.scale = nn.Parameter(torch.empty(1))

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.linear(x) * self.scale
        return y


@pytest.fixture
def streamed() -> nn.Module:
    network = Scaled()
    layer_weights.attach(network, STATE, {"linear"})
    return network.double()


def test_only_the_named_layers_wait_for_their_weights(streamed: nn.Module) -> None:
    held = {name: not tensor.is_meta for name, tensor in streamed.state_dict().items()}
    assert held == {"scale": True, "linear.weight": False, "linear.bias": False}
    built = Scaled()
    built.load_state_dict(STATE)
    x = torch.ones(1, 2, dtype=torch.float64)
    assert torch.equal(streamed(x), built.double()(x))
    assert streamed.get_parameter("linear.weight").is_meta


def test_tensor_of_a_waiting_layer_is_read_in_the_precision_of_the_network(streamed: nn.Module) -> None:
    for name, expected in STATE.items():
        assert torch.equal(layer_weights.tensor(streamed, name), expected.double())


def test_float64_is_not_rounded_on_the_way() -> None:
    network, state = Scaled(), {name: tensor.double() / 3 for name, tensor in STATE.items()}
    layer_weights.attach(network, state, {"linear"}, torch.float64)
    built = Scaled().double()
    built.load_state_dict(state)
    x = torch.ones(1, 2, dtype=torch.float64)
    assert torch.equal(network(x), built(x))
    assert torch.equal(layer_weights.tensor(network, "scale"), state["scale"])


def test_each_run_reads_the_weights_again() -> None:
    network, state = Scaled(), {name: tensor.clone() for name, tensor in STATE.items()}
    layer_weights.attach(network, state, {"linear"})
    x = torch.zeros(1, 2)
    before = network(x)
    state["linear.bias"] += 1
    assert torch.equal(network(x), before + 2)


def test_other_names_and_shapes_are_refused() -> None:
    with pytest.raises(RuntimeError, match=r'Missing key\(s\) in state_dict: "scale"'):
        layer_weights.attach(Scaled(), {name: STATE[name] for name in ("linear.weight", "linear.bias")})
    with pytest.raises(RuntimeError, match="size mismatch for scale"):
        layer_weights.attach(Scaled(), STATE | {"scale": torch.zeros(2)})
