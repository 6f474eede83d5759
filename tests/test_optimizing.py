"""``optimize`` returns the fastest way to run a network, and only ways with the same logits."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import torch
from torch import Tensor, nn

from resnext_torch import optimize, optimizing
from resnext_torch.resnext import ResNeXt

if TYPE_CHECKING:
    from collections.abc import Callable

    from converter.networks.catalog import Model

    Way = Callable[[Tensor], Tensor]


@pytest.fixture
def network(tiny: Model) -> ResNeXt:
    torch.manual_seed(0)
    return ResNeXt(tiny.config).eval()


@pytest.fixture
def images() -> Tensor:
    return torch.randn(2, 3, 64, 48, generator=torch.Generator().manual_seed(1))


def test_fastest_way_gives_the_logits_of_the_network(network: ResNeXt, images: Tensor) -> None:
    result = optimize(network, images, compiled=False)
    names = [way.name for way in result.ways]
    assert names == ["unchanged", "fused", "fused, channels_last"]
    assert result.way.seconds == min(way.seconds for way in result.ways if way.seconds)
    assert result.speedup >= 1
    with torch.inference_mode():
        torch.testing.assert_close(result.network(images), network(images), rtol=1e-3, atol=1e-4)
    assert result.ways[0].error == 0
    lines = str(result).splitlines()
    assert [line.startswith("*") for line in lines] == [way is result.way for way in result.ways]


def test_compiled_network_is_measured(
    network: ResNeXt, images: Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = []

    def compile_(module: nn.Module, **options: Any) -> nn.Module:  # noqa: ANN401 - as torch.compile
        calls.append(options)
        return module

    monkeypatch.setattr(torch, "compile", compile_)
    result = optimize(network, images)
    assert [way.name for way in result.ways][3:] == ["fused, compiled", "fused, channels_last, compiled"]
    assert all(way.seconds for way in result.ways)
    assert calls == [{"options": {"freezing": True}}] * 2


def test_way_that_does_not_run_here_is_left_out(
    network: ResNeXt, images: Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    def compile_(_module: nn.Module, **_options: object) -> Way:
        def run(_images: Tensor) -> Tensor:
            raise RuntimeError("no C++ compiler\nin the path")

        return run

    monkeypatch.setattr(torch, "compile", compile_)
    *_, failed, _ = optimize(network, images).ways
    assert (failed.seconds, failed.reason) == (None, "does not run here: no C++ compiler")


def test_way_with_other_logits_is_left_out(
    network: ResNeXt, images: Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    def wrong(way: Way) -> Way:
        return lambda images: way(images) * 1.01

    monkeypatch.setattr(optimizing, "_channels_last", wrong)
    result = optimize(network, images, compiled=False)
    assert result.way.name != "fused, channels_last"
    assert result.ways[2].seconds is None
    assert "its logits differ by" in result.ways[2].reason


def test_bfloat16_is_tried_on_request_and_its_error_is_reported(network: ResNeXt, images: Tensor) -> None:
    result = optimize(network, images, compiled=False, bfloat16=True)
    assert [way.name for way in result.ways][3:] == ["fused, bfloat16", "fused, channels_last, bfloat16"]
    errors = [way.error or 0 for way in result.ways]
    assert min(errors[3:]) > 10 * max(errors[:3])


def test_network_in_training_mode_is_refused(network: ResNeXt) -> None:
    with pytest.raises(ValueError, match=r"cannot optimize a network in training mode; call eval\(\) first"):
        optimize(network.train())
