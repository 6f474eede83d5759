"""Create networks by name and load weights, also for other numbers of classes and channels."""

from __future__ import annotations

import logging
import math
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypedDict, Unpack, overload

import torch

from . import data_config, detection, sources, weight_files
from .class_names import IMAGENET_CLASSES
from .config import COLOURS, CONFIGS
from .detection import FIRST
from .features import Features
from .resnext import ResNeXt
from .state_files import load
from .weight_files import WeightsError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from os import PathLike

    from torch import Tensor

    from .sources import Source
    from .state_files import State

log = logging.getLogger("resnext_torch")


class ModelOptions(TypedDict, total=False):
    """The arguments of ``create_model`` that networks and backbones have in common."""

    pretrained: bool
    checkpoint_path: str | PathLike[str] | None
    num_classes: int | None
    in_chans: int | None
    output_stride: int | None
    drop_rate: float | None
    global_pool: str | None
    cache_dir: str | PathLike[str] | None


@overload
def create_model(
    name: str | None = None,
    weights: str | PathLike[str] | bool | None = None,
    *,
    features_only: Literal[False] = False,
    **options: Unpack[ModelOptions],
) -> ResNeXt: ...


@overload
def create_model(
    name: str | None = None,
    weights: str | PathLike[str] | bool | None = None,
    *,
    features_only: Literal[True],
    out_indices: Sequence[int] | None = None,
    **options: Unpack[ModelOptions],
) -> Features: ...


def create_model(  # noqa: PLR0913 - timm's arguments, by keyword
    name: str | None = None,
    weights: str | PathLike[str] | bool | None = None,
    *,
    pretrained: bool = False,
    checkpoint_path: str | PathLike[str] | None = None,
    num_classes: int | None = None,
    in_chans: int | None = None,
    output_stride: int | None = None,
    drop_rate: float | None = None,
    global_pool: str | None = None,
    cache_dir: str | PathLike[str] | None = None,
    features_only: bool = False,
    out_indices: Sequence[int] | None = None,
) -> ResNeXt | Features:
    """Create a network, with initial weights or with weights from a file, GluonCV or the Hugging Face Hub.

    Args:
        name: one of ``list_models()``, or GluonCV's name of it, such as ``resnet50_v1d``; or a published
            folder, ``hf-hub:ORG/NAME`` or ``local-dir:PATH``. If None, detected from ``weights``.
        weights: a file, or a folder that contains one for this network. True or False in its place is
            ``pretrained``, as in timm.
        pretrained: whether to load the weights that belong to the name: those that GluonCV published, from
            a proven file in the cache or by a conversion into it, or those of the published folder.
        checkpoint_path: a file or folder of weights to load strictly into the finished network.
        num_classes: size of the head; without a head (0) the network returns pooled features. If the
            file's head has another size, it is replaced by a new one. By default the file's head is kept.
        in_chans: channels of the input. The weights of the first convolution are adapted to it. By
            default those of the file, or 3.
        output_stride: 8, 16 or 32, as in ``Config``. By default that in the manifest which gluon2torch
            wrote next to the file, or 32.
        drop_rate: dropout rate before the head.
        global_pool: "avg", "max", "avgmax", "catavgmax" or "", as in ``Config``.
        cache_dir: the cache of downloaded and converted files. By default that of huggingface_hub, and
            ``checkpoints/gluon2torch`` in that of torch.
        features_only: return the feature pyramid instead of logits.
        out_indices: the levels of the pyramid, by default all.

    Raises:
        KeyError: if there is no network of that name.
        ValueError: if an argument has a value that the network cannot have, or if arguments contradict
            each other.
        IndexError: if a level in ``out_indices`` does not exist.
        WeightsError: if the weights are missing, damaged, or of another network.
    """
    file, is_pretrained = (None, weights) if isinstance(weights, bool) else (weights, pretrained)
    if (in_chans is not None and in_chans < 1) or (num_classes or 0) < 0:
        raise ValueError(f"expected in_chans >= 1 and num_classes >= 0, found {in_chans} and {num_classes}")
    source = sources.resolve(name, file, cache_dir, is_pretrained=is_pretrained)
    state = None if source.path is None else load(source.path)
    resolved = source.name or detection.detect(_shapes(state or {}), Path(source.path or ""))
    checkpoint = None if checkpoint_path is None else weight_files.find(Path(checkpoint_path), resolved)
    recorded = ({} if checkpoint is None else weight_files.arguments(checkpoint)) | source.arguments
    options = _given(dropout=recorded.pop("drop_rate", None), **recorded)
    options |= _given(output_stride=output_stride, dropout=drop_rate, global_pool=global_pool)
    if state is None:
        options |= _given(num_classes=num_classes, in_chans=in_chans)
        model = ResNeXt(replace(CONFIGS[resolved], **options))
    else:
        model = _model_with_weights(resolved, state, num_classes, in_chans, options)
    _describe(model, resolved, source, state)
    if checkpoint is not None:
        _load_strictly(model, checkpoint)
    elif state is not None and num_classes is None and not model.num_classes and not features_only:
        log.warning("the weights have no head, so the network returns pooled features")
    return Features(model, out_indices) if features_only else model


def _given(**arguments: Any) -> dict[str, Any]:  # noqa: ANN401 - of several types
    """Return the arguments that are not None."""
    return {key: value for key, value in arguments.items() if value is not None}


def _shapes(state: State) -> dict[str, tuple[int, ...]]:
    return {name: tuple(tensor.shape) for name, tensor in state.items()}


def _model_with_weights(
    name: str, state: State, num_classes: int | None, in_chans: int | None, options: dict[str, Any]
) -> ResNeXt:
    """Build a network with the given tensors, and replace the head if it has another size.

    Raises:
        WeightsError: if the tensors are not the network's.
    """
    shapes = _shapes(state)
    classes = detection.classes(shapes)
    in_chans = in_chans or detection.input_channels(shapes)
    new_head = num_classes is not None and num_classes != classes
    loaded = options | ({"global_pool": "avg"} if new_head else {})
    state = {key: _adapt(key, tensor, in_chans) for key, tensor in state.items()}
    loaded |= {"num_classes": classes, "in_chans": in_chans}
    with torch.device("meta"):
        model = ResNeXt(replace(CONFIGS[name], **loaded))
    try:
        model.load_state_dict(state, strict=True, assign=True)
    except RuntimeError as error:
        raise WeightsError(f"the weights do not match the network: {error}") from error
    if num_classes is not None and new_head:
        if not num_classes:
            log.warning("removed the head for %d classes", classes)
        elif not classes:
            log.warning("added a new head for %d classes, because the weights have none", num_classes)
        else:
            log.warning("replaced the head for %d classes by a new one for %d", classes, num_classes)
        model.reset_classifier(num_classes, options.get("global_pool"))
    return model


def _describe(model: ResNeXt, name: str, source: Source, state: State | None) -> None:
    """Record in a network where its weights come from, what they were trained for, and their classes."""
    config, described = CONFIGS[name], source.described
    if state is not None:
        shapes = _shapes(state)
        classes, in_chans = detection.classes(shapes), detection.input_channels(shapes)
        config = replace(config, num_classes=classes, in_chans=in_chans)
    model.pretrained_cfg = data_config.describe(config) | {"architecture": name}
    if described is not None:
        model.pretrained_cfg |= weight_files.recorded_input(described) | weight_files.description(described)
        if labels := weight_files.class_names(described):
            model.pretrained_cfg["label_names"] = labels
    model.pretrained_cfg |= source.origin
    if source.path is not None and config.num_classes == model.num_classes:
        _name_classes(model, source.path)


def _name_classes(model: ResNeXt, path: Path) -> None:
    """Take over the class names that are recorded for a file.

    Raises:
        WeightsError: if their number is not that of the classes.
    """
    labels = weight_files.class_names(path)
    if labels and len(labels) != model.num_classes:
        raise WeightsError(f"{path}: the head has {model.num_classes} classes, but {len(labels)} have names")
    model.class_list = labels or ("imagenet" if model.num_classes == IMAGENET_CLASSES else ())


def _load_strictly(model: ResNeXt, path: Path) -> None:
    """Load a checkpoint into a network.

    Raises:
        WeightsError: if it cannot be read or does not match.
    """
    try:
        model.load_state_dict(load(path), strict=True)
    except RuntimeError as error:
        raise WeightsError(f"{path}: the weights do not match the network: {error}") from error
    _name_classes(model, path)


def _adapt(name: str, tensor: Tensor, in_chans: int) -> Tensor:
    """Return a tensor in the default dtype; adapt the first convolution to ``in_chans`` channels.

    For one channel, the weights of the three channels are summed. For other numbers, they are repeated
    and scaled, which keeps the response to equal channels.

    Raises:
        WeightsError: if the first convolution has neither 3 nor ``in_chans`` input channels.
    """
    if not tensor.is_floating_point():
        return tensor
    tensor = tensor.to(torch.get_default_dtype())
    if name not in FIRST or tensor.ndim < 2 or tensor.shape[1] == in_chans:  # noqa: PLR2004 - (out, in, …)
        return tensor
    channels = tensor.shape[1]
    if channels != COLOURS:
        raise WeightsError(f"{name}: cannot adapt {channels} input channels to {in_chans}")
    log.warning("adapted the first convolution to %d channels", in_chans)
    if in_chans == 1:
        return tensor.sum(dim=1, keepdim=True)
    repeated = tensor.repeat(1, math.ceil(in_chans / COLOURS), 1, 1)[:, :in_chans]
    return repeated * (COLOURS / in_chans)
