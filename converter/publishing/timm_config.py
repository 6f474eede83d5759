"""Build ``config.json``, from which timm builds, loads and adapts the network of a folder."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from converter.networks import figures
from resnext_torch.preprocessing import DataConfig

if TYPE_CHECKING:
    from converter.manifests.converted_file import Normalization
    from converter.networks.catalog import Model

# The same networks in timm: the tensor names are equal and, as a test checks, the logits too.
# timm lacks v1e, the `e` variants and the CIFAR networks. Its senet154 differs: docs/senet154.md.
ARCHITECTURES = {
    "gluon_resnext50_32x4d": "resnext50_32x4d",
    "gluon_resnext101_32x4d": "resnext101_32x4d",
    "gluon_resnext101_64x4d": "resnext101_64x4d",
    "gluon_seresnext50_32x4d": "seresnext50_32x4d",
    "gluon_seresnext101_32x4d": "seresnext101_32x4d",
    "gluon_seresnext101_64x4d": "seresnext101_64x4d",
    "gluon_resnet18_v1b": "resnet18",
    "gluon_resnet34_v1b": "resnet34",
    "gluon_resnet50_v1b": "resnet50",
    "gluon_resnet101_v1b": "resnet101",
    "gluon_resnet152_v1b": "resnet152",
    "gluon_resnet50_v1c": "resnet50c",
    "gluon_resnet101_v1c": "resnet101c",
    "gluon_resnet152_v1c": "resnet152c",
    "gluon_resnet50_v1d": "resnet50d",
    "gluon_resnet101_v1d": "resnet101d",
    "gluon_resnet152_v1d": "resnet152d",
    "gluon_resnet50_v1s": "resnet50s",
    "gluon_resnet101_v1s": "resnet101s",
    "gluon_resnet152_v1s": "resnet152s",
}
FIRST_CONVS = {"7x7": "conv1", "deep": "conv1.0", "small": "conv1"}  # by stem
CLASSIFIER = "fc"


def architecture(model: Model) -> str | None:
    """Return timm's name of a network, None if timm lacks it.

    timm's dilated networks pool over 2×2 in a pooled shortcut, where GluonCV's do not pool.
    """
    is_dilated = "output_stride" in model.arguments
    return None if is_dilated and model.config.shortcut_pool != "never" else ARCHITECTURES.get(model.name)


def document(
    model: Model, labels: tuple[str, ...] | None, normalization: Normalization | None = None
) -> dict[str, Any]:
    """Return the configuration, without ``architecture`` if timm lacks the network.

    timm ignores unknown keys, except in ``pretrained_cfg``, where they are errors.

    Args:
        model: the model.
        labels: the class names.
        normalization: the normalization of images in place of the model's default.
    """
    preprocessing = DataConfig(**{**figures.preprocessing(model), **(normalization or {})})
    classes, name = model.config.num_classes, architecture(model)
    return {
        **({"architecture": name} if name else {}),
        **({"model_args": model.arguments} if model.arguments else {}),
        "num_classes": classes,
        "num_features": model.config.features,
        **({"label_names": list(labels)} if labels else {}),
        "pretrained_cfg": {
            "input_size": list(preprocessing["input_size"]),
            "interpolation": preprocessing["interpolation"],
            "crop_pct": preprocessing["crop_pct"],
            "mean": list(preprocessing["mean"]),
            "std": list(preprocessing["std"]),
            "num_classes": classes,
            "pool_size": list(figures.pool_size(model)),
            "first_conv": FIRST_CONVS[model.config.stem],
            "classifier": CLASSIFIER,
        },
    }
