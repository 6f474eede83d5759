"""The names of ImageNet's classes, from torchvision."""

from __future__ import annotations

IMAGENET_CLASSES = 1000


def imagenet() -> tuple[str, ...]:
    """Return the names of ImageNet's 1000 classes, empty if torchvision is not installed."""
    try:
        from torchvision.models import ResNet50_Weights  # noqa: PLC0415 - optional
    except ImportError:
        return ()
    return tuple(ResNet50_Weights.DEFAULT.meta["categories"])
