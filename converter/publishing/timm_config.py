"""Build ``config.json``, from which timm builds, loads and adapts the network of a folder."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from converter.networks import figures
from resnext_torch import names
from resnext_torch.data_config import CLASSIFIER, FIRST_CONVS, DataConfig, pool_size

if TYPE_CHECKING:
    from converter.networks.catalog import Model
    from resnext_torch.weight_files import RecordedInput


def architecture(model: Model) -> str | None:
    """Return timm's name of a network, None if timm lacks it.

    timm's dilated networks pool over 2×2 in a pooled shortcut, where GluonCV's do not pool.
    """
    is_dilated = "output_stride" in model.arguments
    return (
        None
        if is_dilated and model.config.shortcut_pool != "never"
        else names.TIMM_ARCHITECTURES.get(model.name)
    )


def document(
    model: Model, labels: tuple[str, ...] | None, recorded: RecordedInput | None = None
) -> dict[str, Any]:
    """Return the configuration, without ``architecture`` if timm lacks the network.

    timm ignores unknown keys, except in ``pretrained_cfg``, where they are errors.

    Args:
        model: the model.
        labels: the class names.
        recorded: settings of the images in place of the model's defaults.
    """
    preprocessing = DataConfig(**{**figures.preprocessing(model), **(recorded or {})})
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
            "pool_size": list(pool_size(model.config, preprocessing["input_size"])),
            "first_conv": FIRST_CONVS[model.config.stem],
            "classifier": CLASSIFIER,
        },
    }
