"""What a network's input is, and its description under timm's keys; needs no torch."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypedDict

from . import names, weight_files
from .config import COLOURS, CONFIGS, Config

if TYPE_CHECKING:
    from os import PathLike

    from .features import Features
    from .resnext import ResNeXt
    from .weight_files import RecordedInput

FIRST_CONVS = {"7x7": "conv1", "deep": "conv1.0", "small": "conv1"}  # by stem
CLASSIFIER = "fc"
log = logging.getLogger("resnext_torch")


class DataConfig(TypedDict):
    """The input that a network expects, under timm's keys.

    Attributes:
        input_size: (channels, h, w) in pixels.
        crop_pct: the fraction of the resized image's short side that the crop keeps.
        mean: means of the channels, in the order RGB, on a scale from 0 to 1.
        std: standard deviations of the channels, likewise.
    """

    input_size: tuple[int, int, int]
    interpolation: str
    crop_pct: float
    crop_mode: str
    mean: tuple[float, ...]
    std: tuple[float, ...]


IMAGENET = DataConfig(
    input_size=(COLOURS, 224, 224),
    interpolation="bicubic",
    crop_pct=0.875,
    crop_mode="center",
    mean=(0.485, 0.456, 0.406),
    std=(0.229, 0.224, 0.225),
)
# Source: scripts/classification/cifar/train_cifar10.py, dmlc/gluon-cv 56777561.
CIFAR = DataConfig(
    input_size=(COLOURS, 32, 32),
    interpolation="bicubic",
    crop_pct=1.0,
    crop_mode="center",
    mean=(0.4914, 0.4822, 0.4465),
    std=(0.2023, 0.1994, 0.2010),
)


def resolve_data_config(  # noqa: PLR0913 - timm's arguments, by keyword
    args: Mapping[str, Any] | str | Config | ResNeXt | Features | None = None,
    weights: str | PathLike[str] | None = None,
    *,
    model: str | Config | ResNeXt | Features | None = None,
    pretrained_cfg: Mapping[str, Any] | None = None,
    use_test_size: bool = False,
    verbose: bool = False,
) -> DataConfig:
    """Return the input that a network expects.

    Args:
        args: settings that take the place of the network's, as in timm: ``input_size``, or ``img_size`` and
            ``in_chans``, ``interpolation``, ``crop_pct``, ``crop_mode``, ``mean`` and ``std``; other keys
            and None are ignored. Or the network itself, as ``model``.
        weights: file of the weights. If its manifest records a normalization that was exported with the
            network, or the size of the images that it was trained on, these take the place of the defaults.
        model: a network, its name or configuration; None for the ImageNet networks.
        pretrained_cfg: the description of the input in place of ``model.pretrained_cfg``.
        use_test_size: whether to take ``test_input_size`` and ``test_crop_pct`` of the description, if it
            has them.
        verbose: whether to log the result.

    Raises:
        KeyError: if there is no network of that name.
        ValueError: if a setting has another number of values than the input has channels.
    """
    if args is not None and not isinstance(args, Mapping):
        args, model = None, args
    described: DataConfig | Mapping[str, Any] = pretrained_cfg or _described(model)
    values = {key: described.get(key) or default for key, default in IMAGENET.items()}
    if use_test_size:
        values |= {key: described.get(f"test_{key}") or values[key] for key in ("input_size", "crop_pct")}
    if weights is not None:
        values |= weight_files.recorded_input(Path(weights))
    resolved = _with_settings(values, args or {}, None if model is None else _config(model).in_chans)
    if verbose:
        for key, value in resolved.items():
            log.info("%s: %s", key, value)
    return resolved


def resolve_model_data_config(
    model: str | Config | ResNeXt | Features,
    args: Mapping[str, Any] | None = None,
    pretrained_cfg: Mapping[str, Any] | None = None,
    *,
    use_test_size: bool = False,
    verbose: bool = False,
) -> DataConfig:
    """Return the input that a network expects: ``resolve_data_config`` with the network first, as in timm."""
    return resolve_data_config(
        args, model=model, pretrained_cfg=pretrained_cfg, use_test_size=use_test_size, verbose=verbose
    )


def pool_size(config: Config, input_size: tuple[int, int, int] | None = None) -> tuple[int, int]:
    """Return the height and width of the last pool's input for an image of this or the network's size."""
    _, height, width = input_size or defaults(config)["input_size"]
    reduction = config.levels[-1].reduction
    return height // reduction, width // reduction


def defaults(config: Config) -> DataConfig:
    """Return the input of a network of this configuration, from its definition alone."""
    settings = CIFAR if config.stem == "small" else IMAGENET
    _, height, width = settings["input_size"]
    return DataConfig(**{**settings, "input_size": (config.in_chans, height, width)})


def describe(config: Config, recorded: RecordedInput | None = None) -> dict[str, Any]:
    """Return the description of a network and its input that timm calls ``pretrained_cfg``.

    Args:
        config: the network.
        recorded: settings of the images in place of the defaults.
    """
    return {
        **defaults(config),
        **(recorded or {}),
        "fixed_input_size": False,
        "num_classes": config.num_classes,
        "pool_size": pool_size(config),
        "first_conv": FIRST_CONVS[config.stem],
        "classifier": CLASSIFIER,
    }


def _described(model: str | Config | ResNeXt | Features | None) -> DataConfig | Mapping[str, Any]:
    if model is None:
        return IMAGENET
    if isinstance(model, str | Config):
        return defaults(_config(model))
    network: Any = model
    described: Mapping[str, Any] = network.pretrained_cfg
    return described


def _with_settings(values: dict[str, Any], args: Mapping[str, Any], in_chans: int | None) -> DataConfig:
    """Return the described input with the caller's settings in place of it."""
    channels, height, width = values["input_size"]
    channels = in_chans or channels
    if args.get("input_size"):
        channels, height, width = args["input_size"]
    elif args.get("img_size"):
        channels = args.get("in_chans") or args.get("chans") or channels
        height = width = args["img_size"]
    values = {**values, "input_size": (channels, height, width)}
    for key in ("interpolation", "crop_pct", "crop_mode"):
        values[key] = args.get(key) or values[key]
    for key in ("mean", "std"):
        values[key] = tuple(values[key])
        if args.get(key):
            given = tuple(args[key])
            if len(given) not in {1, channels}:
                raise ValueError(f"{key}: expected 1 value or {channels}, found {len(given)}")
            values[key] = given * (channels // len(given))
    resolved: Any = {key: values[key] for key in IMAGENET}
    config: DataConfig = resolved
    return config


def _config(model: str | Config | ResNeXt | Features) -> Config:
    if isinstance(model, str):
        return CONFIGS[names.resolve(model)]
    if isinstance(model, Config):
        return model
    network: Any = model
    config: Config = getattr(network, "model", network).config  # Features has the network in `model`
    return config
