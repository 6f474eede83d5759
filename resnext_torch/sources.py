"""Resolve the arguments of ``create_model`` to a network and the file of its weights."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from . import hub, names, pretrained, weight_files
from .config import CONFIGS
from .weight_files import WeightsError

if TYPE_CHECKING:
    from os import PathLike

HUB, LOCAL = "hf-hub", "local-dir"  # timm's prefixes of names
OLD_HUB = "hf_hub"  # timm's former prefix


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """A network and its weights.

    Attributes:
        name: the network, None to detect it from the weights.
        path: the file of the weights, None for initial weights.
        described: the file that is described next to it, as ``path`` or not loaded; None without one.
        arguments: the arguments of the network that are recorded for that file.
        origin: where it comes from, under the keys of timm's ``pretrained_cfg``.
    """

    name: str | None
    path: Path | None
    described: Path | None
    arguments: dict[str, Any]
    origin: dict[str, Any]


def resolve(
    name: str | None,
    weights: str | PathLike[str] | None,
    cache_dir: str | PathLike[str] | None,
    *,
    is_pretrained: bool,
) -> Source:
    """Return the network and the file of its weights.

    Args:
        name: a network, ``hf-hub:ORG/NAME`` or ``local-dir:PATH``; None to detect it from ``weights``.
        weights: a file or folder.
        cache_dir: the cache of downloaded and converted files.
        is_pretrained: whether to take the weights that belong to the name.

    Raises:
        KeyError: if there is no network of that name.
        ValueError: if the arguments contradict each other, or do not select a network.
        WeightsError: if the weights cannot be found or provided.
    """
    if weights is not None and is_pretrained:
        raise ValueError("expected weights or pretrained=True, found both")
    if name is None and weights is None:
        raise ValueError("expected the name of a network, or weights to detect it from")
    prefix, _, place = (name or "").partition(":")
    if prefix in {HUB, OLD_HUB, LOCAL} and place:
        if weights is not None:
            raise ValueError(f"expected weights or {prefix}:, found both")
        folder = Path(place) if prefix == LOCAL else hub.download(place, cache_dir, weights=is_pretrained)
        origin = {"source": LOCAL, "file": place} if prefix == LOCAL else {"source": HUB, "hf_hub_id": place}
        return _in_folder(folder, origin, is_pretrained=is_pretrained)
    name = None if name is None else names.resolve(name)
    path = None if weights is None else weight_files.find(Path(weights), name)
    if is_pretrained and name is not None:
        path = pretrained.provide(name, cache_dir)
    recorded = {} if path is None else weight_files.arguments(path)
    origin = {} if path is None else {"file": str(path)}
    return Source(name=name, path=path, described=path, arguments=recorded, origin=origin)


def _in_folder(folder: Path, origin: dict[str, Any], *, is_pretrained: bool) -> Source:
    """Return the network of a published folder, with its weights or without."""
    if not folder.is_dir():
        raise WeightsError(f"{folder}: no such folder")
    name = weight_files.recorded_name(folder)
    path = weight_files.find(folder, None) if is_pretrained else None
    if name is None and path is None:
        raise WeightsError(
            f"{folder}: no {weight_files.CONFIGURATION} or {weight_files.MANIFEST} names a network"
        )
    described = path or folder / weight_files.PUBLISHED
    recorded = weight_files.arguments(described)
    if name is not None and path is None:
        recorded = {"num_classes": weight_files.configuration(folder).get("num_classes"), **recorded}
    _require_same_dilation(folder, name, recorded)
    return Source(name=name, path=path, described=described, arguments=recorded, origin=origin)


def _require_same_dilation(folder: Path, name: str | None, recorded: dict[str, Any]) -> None:
    """Refuse a network of timm that dilates pooled shortcuts, in which ours does not pool."""
    is_timms = weight_files.configuration(folder).get("architecture") in names.TIMM_NAMES
    if is_timms and name and "output_stride" in recorded and CONFIGS[name].shortcut_pool != "never":
        raise WeightsError(f"{folder}: timm's dilated {name} pools in its shortcuts, ours does not; use timm")
