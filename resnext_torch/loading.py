"""Create networks by name and load weights, also for other numbers of classes and channels."""

from __future__ import annotations

import hashlib
import logging
import math
import pickle
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal, overload

import torch

from . import names, weight_files
from .config import COLOURS, CONFIGS, HEAD, Config
from .features import Features
from .resnext import ResNeXt
from .weight_files import HASHED, SUMS, WeightsError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from os import PathLike

    from torch import Tensor

    State = dict[str, Tensor]

FIRST = ("conv1.weight", "conv1.0.weight")
log = logging.getLogger("resnext_torch")


@overload
def create_model(
    name: str,
    weights: str | PathLike[str] | None = None,
    *,
    num_classes: int | None = None,
    in_chans: int | None = None,
    output_stride: int | None = None,
    features_only: Literal[False] = False,
) -> ResNeXt: ...


@overload
def create_model(
    name: str,
    weights: str | PathLike[str] | None = None,
    *,
    num_classes: int | None = None,
    in_chans: int | None = None,
    output_stride: int | None = None,
    features_only: Literal[True],
    out_indices: Sequence[int] | None = None,
) -> Features: ...


def create_model(  # noqa: PLR0913 - timm's arguments, by keyword
    name: str,
    weights: str | PathLike[str] | None = None,
    *,
    num_classes: int | None = None,
    in_chans: int | None = None,
    output_stride: int | None = None,
    features_only: bool = False,
    out_indices: Sequence[int] | None = None,
) -> ResNeXt | Features:
    """Create a network, with initial weights or with weights from a file.

    Args:
        name: one of ``list_models()``, or GluonCV's name of it, such as ``resnet50_v1d``.
        weights: a file, or a folder that contains one for this network.
        num_classes: size of the head; without a head (0) the network returns pooled features. If the
            file's head has another size, it is replaced by a new one. By default the file's head is kept.
        in_chans: channels of the input. The weights of the first convolution are adapted to it. By
            default those of the file, or 3.
        output_stride: 8, 16 or 32, as in ``Config``. By default that in the manifest which gluon2torch
            wrote next to the file, or 32.
        features_only: return the feature pyramid instead of logits.
        out_indices: the levels of the pyramid, by default all.

    Raises:
        KeyError: if there is no network of that name.
        ValueError: if ``in_chans`` is less than 1, ``num_classes`` less than 0, or if the network cannot
            have the output stride.
        IndexError: if a level in ``out_indices`` does not exist.
        WeightsError: if the weights are missing, damaged, or of another network.
    """
    name = names.resolve(name)
    if (in_chans is not None and in_chans < 1) or (num_classes or 0) < 0:
        raise ValueError(f"expected in_chans >= 1 and num_classes >= 0, found {in_chans} and {num_classes}")
    path = None if weights is None else weight_files.find(Path(weights), name)
    if path is not None and output_stride is None:
        output_stride = weight_files.arguments(path).get("output_stride")
    config = CONFIGS[name] if output_stride is None else replace(CONFIGS[name], output_stride=output_stride)
    if path is None:
        classes = config.num_classes if num_classes is None else num_classes
        model = ResNeXt(replace(config, in_chans=in_chans or COLOURS, num_classes=classes))
    else:
        model = _model_with_weights(config, load(path), num_classes, in_chans)
        if num_classes is None and not model.config.num_classes and not features_only:
            log.warning("the weights have no head, so the network returns pooled features")
    return Features(model, out_indices) if features_only else model


def load(path: Path) -> State:
    """Return the tensors of a ``.safetensors`` or ``.pth`` file.

    The SHA-256 is verified if the file name or the folder's SHA256SUMS contains it. A ``.pth`` is loaded
    with ``weights_only=True``: no pickle is executed.

    Raises:
        WeightsError: if the file cannot be read, or its hash is wrong.
    """
    try:
        _require_hash(path)
        if path.suffix == ".pth":
            return _load_torch(path)
        from safetensors import SafetensorError  # noqa: PLC0415 - not needed for a .pth
        from safetensors.torch import load_file  # noqa: PLC0415 - as above

        try:
            return load_file(path)
        except SafetensorError as error:
            raise WeightsError(f"{path}: {error}") from error
    except OSError as error:
        raise WeightsError(f"{path}: {error.strerror or error}") from error


def _load_torch(path: Path) -> State:
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except (RuntimeError, pickle.UnpicklingError, EOFError, ValueError) as error:
        reason = str(error).partition("\n")[0]
        raise WeightsError(f"{path}: cannot be loaded with weights_only=True: {reason}") from error
    state = state.get("state_dict", state) if isinstance(state, dict) else None
    if not isinstance(state, dict) or not all(isinstance(tensor, torch.Tensor) for tensor in state.values()):
        raise WeightsError(f"{path}: expected a state dict of tensors")
    return {str(name).removeprefix("module."): tensor for name, tensor in state.items()}


def _require_hash(path: Path) -> None:
    """Verify a file's SHA-256, if its name or the folder's SHA256SUMS contains it.

    Raises:
        WeightsError: if the hash differs.
    """
    expected = _expected_hash(path)
    if not expected:
        return
    with path.open("rb") as stream:
        sha256 = hashlib.file_digest(stream, "sha256").hexdigest()
    if not sha256.startswith(expected):
        raise WeightsError(f"{path}: damaged or renamed: expected SHA-256 {expected}…, found {sha256[:8]}…")


def _expected_hash(path: Path) -> str:
    if match := HASHED.fullmatch(path.name):
        return match["sha256"].lower()
    sums = path.with_name(SUMS)
    lines = sums.read_text(encoding="utf-8", errors="replace").splitlines() if sums.is_file() else []
    return next((line[:64] for line in lines if line[66:] == path.name), "")


def _model_with_weights(
    config: Config, state: State, num_classes: int | None, in_chans: int | None
) -> ResNeXt:
    """Build a network with the given tensors, and replace the head if it has another size.

    Raises:
        WeightsError: if the tensors are not the network's.
    """
    head = state.get(HEAD)
    classes = 0 if head is None else len(head) if head.ndim else config.num_classes
    if in_chans is None:
        conv = next((state[name] for name in FIRST if name in state), None)
        in_chans = COLOURS if conv is None or conv.ndim < 2 else conv.shape[1]  # noqa: PLR2004 - (out, in, …)
    state = {name: _adapt(name, tensor, in_chans) for name, tensor in state.items()}
    with torch.device("meta"):
        model = ResNeXt(replace(config, num_classes=classes, in_chans=in_chans))
    try:
        model.load_state_dict(state, strict=True, assign=True)
    except RuntimeError as error:
        raise WeightsError(f"the weights do not match the network: {error}") from error
    if num_classes is not None and num_classes != classes:
        if not num_classes:
            log.warning("removed the head for %d classes", classes)
        elif not classes:
            log.warning("added a new head for %d classes, because the weights have none", num_classes)
        else:
            log.warning("replaced the head for %d classes by a new one for %d", classes, num_classes)
        model.reset_classifier(num_classes)
    return model


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
