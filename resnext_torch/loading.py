"""Networks by their names, with weights from a file or a folder, fitted to other classes and channels."""

from __future__ import annotations

import difflib
import hashlib
import logging
import math
import pickle
import re
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal, overload

import torch

from .config import CONFIGS, HEAD, Config
from .features import Features
from .resnext import ResNeXt

if TYPE_CHECKING:
    from collections.abc import Sequence
    from os import PathLike

    from torch import Tensor

    State = dict[str, Tensor]

HASHED = re.compile(r".+-(?P<sha256>[0-9a-fA-F]{8,64})\.(safetensors|pth)")
SUMS = "SHA256SUMS"
PUBLISHED = "model.safetensors"  # in a folder as the Hugging Face hub has it
FIRST = ("conv1.weight", "conv1.0.weight")
COLOURS = 3  # the channels of an image
log = logging.getLogger("resnext_torch")


class WeightsError(ValueError):
    """The weights are not there, not whole, or not those of the network."""


@overload
def create_model(
    name: str,
    weights: str | PathLike[str] | None = None,
    *,
    num_classes: int | None = None,
    in_chans: int = COLOURS,
    features_only: Literal[False] = False,
) -> ResNeXt: ...


@overload
def create_model(
    name: str,
    weights: str | PathLike[str] | None = None,
    *,
    num_classes: int | None = None,
    in_chans: int = COLOURS,
    features_only: Literal[True],
    out_indices: Sequence[int] | None = None,
) -> Features: ...


def create_model(  # noqa: PLR0913 - timm's arguments, by keyword
    name: str,
    weights: str | PathLike[str] | None = None,
    *,
    num_classes: int | None = None,
    in_chans: int = COLOURS,
    features_only: bool = False,
    out_indices: Sequence[int] | None = None,
) -> ResNeXt | Features:
    """Build the network of that name: freshly initialised, or with weights from a file or a folder.

    A head of another size than ``num_classes`` is replaced by a fresh one; without ``num_classes`` the
    file's head stays. The first convolution is fitted to ``in_chans``. ``features_only`` gives the pyramid's
    levels of ``out_indices``, all without, in place of logits.
    Errors: ``KeyError`` for a name that is not in ``list_models()``; ``WeightsError``.
    """
    if name not in CONFIGS:
        near = difflib.get_close_matches(name, CONFIGS, n=1)
        raise KeyError(f"no network {name!r}; {f'did you mean {near[0]}?' if near else 'see list_models()'}")
    if in_chans < 1 or (num_classes or 0) < 0:
        raise ValueError(
            f"in_chans of 1 or more and num_classes of 0 or more expected, {in_chans} and {num_classes}"
        )
    config = replace(CONFIGS[name], in_chans=in_chans)
    if weights is None:
        model = ResNeXt(config if num_classes is None else replace(config, num_classes=num_classes))
    else:
        model = _loaded(config, load(find(Path(weights), name)), num_classes)
    return Features(model, out_indices) if features_only else model


def find(path: Path, name: str) -> Path:
    """Return the file of weights that a path means: itself, or the one of that network in a folder.

    Errors: ``WeightsError`` where there is none, or more than one.
    """
    if not path.is_dir():
        return path
    if (path / PUBLISHED).is_file():
        return path / PUBLISHED
    found = [file for file in sorted(path.glob(f"{name}*")) if HASHED.fullmatch(file.name)]
    found = [file for file in found if file.name[len(name)] in "-."]
    found = [file for file in found if file.suffix == ".safetensors"] or found  # a .pth beside is the same
    if len(found) != 1:
        known = ", ".join(file.name for file in found) or "none"
        raise WeightsError(f"{path}: one file of {name} or {PUBLISHED} expected, {known} found")
    return found[0]


def load(path: Path) -> State:
    """Return the tensors of a ``.safetensors`` or ``.pth`` file, whose hash is checked if its name has one.

    Nothing but tensors is read: no pickle is executed.
    Errors: ``WeightsError``.
    """
    try:
        _require_hash(path)
        if path.suffix == ".pth":
            return _load_torch(path)
        from safetensors import SafetensorError  # noqa: PLC0415 - a .pth does without
        from safetensors.torch import load_file  # noqa: PLC0415 - as above

        try:
            return load_file(path)
        except SafetensorError as error:
            raise WeightsError(f"{path}: {error}") from error
    except OSError as error:
        raise WeightsError(f"{path}: {error.strerror or error}") from error


def _load_torch(path: Path) -> State:
    try:
        found = torch.load(path, map_location="cpu", weights_only=True)
    except (RuntimeError, pickle.UnpicklingError, EOFError, ValueError) as error:
        reason = str(error).partition("\n")[0]
        raise WeightsError(f"{path}: cannot be read as a .pth of weights alone: {reason}") from error
    found = found.get("state_dict", found) if isinstance(found, dict) else None
    if not isinstance(found, dict) or not all(isinstance(tensor, torch.Tensor) for tensor in found.values()):
        raise WeightsError(f"{path}: a state dict expected")
    return {str(name).removeprefix("module."): tensor for name, tensor in found.items()}


def _require_hash(path: Path) -> None:
    """Check a file's SHA-256, where its name has it, or the sums of the folder that it was published in."""
    expected = _expected_hash(path)
    if not expected:
        return
    with path.open("rb") as stream:
        found = hashlib.file_digest(stream, "sha256").hexdigest()
    if not found.startswith(expected):
        raise WeightsError(f"{path}: SHA-256 {expected}… expected, {found[:8]}… found: damaged or renamed")


def _expected_hash(path: Path) -> str:
    if match := HASHED.fullmatch(path.name):
        return match["sha256"].lower()
    sums = path.with_name(SUMS)
    lines = sums.read_text(encoding="utf-8", errors="replace").splitlines() if sums.is_file() else []
    return next((line[:64] for line in lines if line[66:] == path.name), "")


def _loaded(config: Config, state: State, num_classes: int | None) -> ResNeXt:
    """Build the network around tensors; a head of another size becomes a fresh one."""
    head = state.get(HEAD)
    found = config.num_classes if head is None or not head.ndim else len(head)
    state = {name: _fitted(name, tensor, config.in_chans) for name, tensor in state.items()}
    with torch.device("meta"):
        model = ResNeXt(replace(config, num_classes=found))
    try:
        model.load_state_dict(state, strict=True, assign=True)
    except RuntimeError as error:
        raise WeightsError(f"the weights are not this network's: {error}") from error
    if num_classes is not None and num_classes != found:
        log.warning("the head for %d classes is replaced by a fresh one for %d", found, num_classes)
        model.reset_classifier(num_classes)
    return model


def _fitted(name: str, tensor: Tensor, in_chans: int) -> Tensor:
    """Return a tensor in the default type; the first convolution's for ``in_chans`` channels.

    One channel gets the sum of the three; any other number gets them in turn, scaled so that the response to
    channels that are equal stays.
    """
    if not tensor.is_floating_point():
        return tensor
    tensor = tensor.to(torch.get_default_dtype())
    if name not in FIRST or tensor.ndim < 2 or tensor.shape[1] == in_chans:  # noqa: PLR2004 - (out, in, …)
        return tensor
    found = tensor.shape[1]
    if found != COLOURS:
        raise WeightsError(f"{name}: made for {found} channels, which cannot be fitted to {in_chans}")
    log.warning("the first convolution is fitted to %d channels", in_chans)
    if in_chans == 1:
        return tensor.sum(dim=1, keepdim=True)
    repeated = tensor.repeat(1, math.ceil(in_chans / COLOURS), 1, 1)[:, :in_chans]
    return repeated * (COLOURS / in_chans)
