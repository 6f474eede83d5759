"""What a network costs and how its input is made; what is computed is kept from what GluonCV published."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from converter.files import artifact
from resnext_torch import resolve_data_config

if TYPE_CHECKING:
    from torch import Tensor, nn

    from converter.models.catalog import Model
    from resnext_torch import DataConfig

SOURCE = "GluonCV model zoo, ImageNet-1k validation, 224 px centre crop"
SOURCE_URL = "https://cv.gluon.ai/model_zoo/classification.html"
CONVENTION = "convolutions and the dense layer, one multiply-add each; nothing else is counted"
FLOPS_PER_MULTIPLY_ADD = 2


@dataclass(frozen=True, slots=True)
class Cost:
    """What one image costs: multiply-adds, and the elements that these layers put out, as timm counts."""

    multiply_adds: int
    activations: int

    @property
    def flops(self) -> int:
        """Floating-point operations, a multiplication and an addition being two."""
        return FLOPS_PER_MULTIPLY_ADD * self.multiply_adds


def preprocessing(model: Model) -> DataConfig:
    """Return what a model's input is made like."""
    return resolve_data_config(model.config)


def pool_size(model: Model) -> tuple[int, int]:
    """Return the height and width that the last pool sees of an image of the model's input size."""
    _, height, width = preprocessing(model)["input_size"]
    reduction = model.config.levels[-1].reduction
    return height // reduction, width // reduction


def cost(model: Model) -> Cost:
    """Return what one image of the model's input size costs, from a forward without any numbers.

    Counted are convolutions and the dense layer: torch's own counter counts those and no other here.
    """
    import torch  # noqa: PLC0415 - takes more than a second
    from torch import nn  # noqa: PLC0415 - as above
    from torch.utils.flop_counter import FlopCounterMode  # noqa: PLC0415 - as above

    from resnext_torch import ResNeXt  # noqa: PLC0415 - imports torch

    with torch.device("meta"):
        module = ResNeXt(model.config).eval()
        image = torch.empty(1, *preprocessing(model)["input_size"])
    put_out: list[int] = []

    def count(_module: nn.Module, _inputs: object, output: Tensor) -> None:
        put_out.append(output.numel())

    for layer in module.modules():
        if isinstance(layer, nn.Conv2d | nn.Linear):
            layer.register_forward_hook(count)
    with FlopCounterMode(display=False) as counter, torch.inference_mode():
        module(image)
    return Cost(counter.get_total_flops() // FLOPS_PER_MULTIPLY_ADD, sum(put_out))


def file_bytes(model: Model) -> int:
    """Return the size of the model's float32 file, its header included."""
    counters = set(model.mapping.target_only)
    state = {
        name: np.broadcast_to(np.zeros((), np.int64 if name in counters else np.float32), shape)
        for name, shape in model.shapes.items()
    }
    header, _ = artifact.layout(state)
    return len(header) + sum(array.nbytes for array in state.values())


def document(model: Model) -> dict[str, Any]:
    """Return the figures for programs: what was computed apart from what was published."""
    found, seen = cost(model), preprocessing(model)
    return {
        "computed": {
            "parameters": model.parameters,
            "multiply_adds": found.multiply_adds,
            "activations": found.activations,
            "file_bytes": file_bytes(model),
            "convention": CONVENTION,
        },
        "input": {
            "size": list(seen["input_size"]),
            "crop_pct": seen["crop_pct"],
            "interpolation": seen["interpolation"],
        },
        "published_source": None if model.entry.top1 is None else SOURCE,
    }
