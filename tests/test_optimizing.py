"""``optimize`` picks the fastest configuration of a network, and only ones with the same logits."""

from __future__ import annotations

import math
import shutil
from typing import TYPE_CHECKING, Any

import pytest
import torch
from torch import Tensor, nn

from resnext_torch import fuse, fusing, optimize, optimizing
from resnext_torch.resnext import ResNeXt

if TYPE_CHECKING:
    from collections.abc import Callable

    from converter.networks.catalog import Model

    Network = Callable[[Tensor], Tensor]

LIMITS = {"other": 1e-3}


@pytest.fixture
def network(tiny: Model) -> ResNeXt:
    torch.manual_seed(0)
    return ResNeXt(tiny.config).eval()


@pytest.fixture
def images() -> Tensor:
    return torch.randn(2, 3, 64, 48, generator=torch.Generator().manual_seed(1))


def test_fastest_candidate_gives_the_logits_of_the_network(network: ResNeXt, images: Tensor) -> None:
    result = optimize(network, images, try_compile=False)
    assert [each.name for each in result.candidates] == ["unchanged", "fused", "fused, channels_last"]
    assert result.chosen.seconds == min(each.seconds for each in result.candidates)
    assert result.speedup == result.candidates[0].seconds / result.chosen.seconds
    logits = result.network(images)
    assert not logits.requires_grad
    difference = (logits - network(images)).abs().max() / logits.std()
    assert difference <= 1e-4  # measured 4e-6
    marks = [line.startswith("*") for line in str(result).splitlines()]
    assert marks == [each is result.chosen for each in result.candidates]


@pytest.mark.skipif(shutil.which("g++") is None, reason="needs a C++ compiler")
def test_compiled_network_gives_the_logits_of_the_network(network: ResNeXt, images: Tensor) -> None:
    compiled = optimize(network, images).candidates[3:]
    assert [each.name for each in compiled] == ["fused, compiled", "fused, channels_last, compiled"]
    assert [each.rejected for each in compiled] == ["", ""]
    assert all(math.isfinite(each.seconds) and 0 < each.error <= 1e-4 for each in compiled)


def test_candidate_that_does_not_run_here_is_rejected(
    network: ResNeXt, images: Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    def compile_(_module: nn.Module, **_options: Any) -> Network:  # noqa: ANN401 - as torch.compile
        def run(_images: Tensor) -> Tensor:
            error: Any = RuntimeError("backend='inductor' raised:\nno C++ compiler\nSet a variable for more")
            error.inner_exception = OSError("no C++ compiler")  # as BackendCompilerFailed has it
            raise error

        return run

    monkeypatch.setattr(torch, "compile", compile_)
    result = optimize(network, images)
    *_, failed, _ = result.candidates
    assert failed.rejected == "does not run here: no C++ compiler"
    assert result.chosen.name in {"unchanged", "fused", "fused, channels_last"}
    assert failed.rejected in str(result)


@pytest.mark.parametrize(
    "other",
    [lambda x: 1.01 * x, lambda x: x.clamp(-8, 8), lambda x: torch.full_like(x, math.nan)],
    ids=["scaled", "clipped", "NaN"],
)
def test_candidate_with_other_logits_is_rejected(other: Network, images: Tensor) -> None:
    """The clip differs for the larger batch only."""
    networks: dict[str, Network] = {"first": lambda x: x, "other": other}
    result = optimizing.select(networks, images, LIMITS)
    assert "its logits differ by" in result.candidates[1].rejected
    assert result.chosen.name == "first"
    networks["other"] = lambda x: x + 0
    assert not optimizing.select(networks, images, LIMITS).candidates[1].rejected


def test_faster_candidate_is_chosen(images: Tensor) -> None:
    def slow(x: Tensor) -> Tensor:
        for _ in range(200):
            x = x + 0
        return x

    assert optimizing.select({"first": slow, "other": lambda x: x + 0}, images, LIMITS).chosen.name == "other"


def test_bfloat16_is_tried_on_request_and_its_error_is_reported(network: ResNeXt, images: Tensor) -> None:
    candidates = optimize(network, images, try_compile=False, try_bfloat16=True).candidates
    assert [each.name for each in candidates][3:] == ["fused, bfloat16", "fused, channels_last, bfloat16"]
    errors = [each.error for each in candidates]
    assert min(errors[3:]) > 10 * max(errors[:3])


def test_large_values_that_overflow_in_half_precision_are_not_compared(network: ResNeXt) -> None:
    network.half()
    with torch.no_grad():
        network.get_parameter("fc.weight").fill_(100)
    image = torch.ones(1, 3, 64, 64, dtype=torch.float16)
    with torch.inference_mode():
        assert network(image).isfinite().all()
        assert not network(fusing.LARGE * image).isfinite().all()
    result = optimize(network, image, try_compile=False)
    assert [each.rejected for each in result.candidates] == [""] * 3


def test_network_in_half_precision_is_optimized(network: ResNeXt, images: Tensor) -> None:
    result = optimize(network.bfloat16(), images.bfloat16(), try_compile=False)
    assert [each.rejected for each in result.candidates] == [""] * 3


def test_logits_that_are_not_finite_are_refused(network: ResNeXt, images: Tensor) -> None:
    with pytest.raises(ValueError, match="the network's logits are not finite for these images"):
        optimize(network, images * math.nan, try_compile=False)


def test_network_of_another_package_is_refused() -> None:
    for function in (fuse, optimize):
        with pytest.raises(TypeError, match="expected a network of resnext_torch, found Identity"):
            function(nn.Identity())  # type: ignore[arg-type]


def test_network_in_training_mode_is_refused(network: ResNeXt) -> None:
    with pytest.raises(ValueError, match=r"cannot optimize a network in training mode; call eval\(\) first"):
        optimize(network.train())
