"""Resolves the user's selection to the network that a file's parameters belong to."""

from __future__ import annotations

from typing import TYPE_CHECKING

from converter.errors import MappingError
from converter.networks import catalog, detection, location, verdicts

if TYPE_CHECKING:
    from collections.abc import Collection

    from converter.formats.file_arrays import Arrays
    from converter.graphs.graph import Graph
    from converter.networks.location import LocatedNetwork
    from converter.networks.selection import ParamsSource
    from converter.sources.params_file import ParamsFile


def find_usable(source: ParamsSource, arrays: Arrays, file: ParamsFile) -> list[LocatedNetwork]:
    """Return the networks that match the parameters and that the user's selection allows.

    Raises:
        DialectError: if the names are in none of Gluon's styles.
        MappingError: if no network matches, or only a backbone where the user selected a whole network.
    """
    name = str(file.user_path)
    models = None if source.model is None else [source.model]
    locations = location.locate(arrays, name, models, backbone=source.backbone)
    if not locations:
        raise verdicts.no_match(arrays, name, source.model)
    if len({each.model.name for each in locations}) < len(locations):
        raise verdicts.several(locations, name)
    if not source.backbone and locations[0].is_backbone:
        _require_backbone_suffices(source, arrays, locations[0], name)
    if source.model is None:
        if not all(each.has_own_strides for each in locations):
            raise verdicts.own_strides(locations[0], name)
    else:
        detection.require_not_another(source.model, locations[0].naming)
    return locations


def _require_backbone_suffices(
    source: ParamsSource, arrays: Arrays, found: LocatedNetwork, file: str
) -> None:
    """Check that a file contains a backbone alone, and that the user did not select a whole network.

    Raises:
        MappingError: if the network's own head does not fit, or if the user selected a whole network.
    """
    if reason := verdicts.quantized(arrays):
        raise MappingError(f"{file}: {reason}")
    if found.wrapping is not None and found.wrapping.has_own_head:
        if found.wrapping.own_head_fits:
            raise verdicts.more_parameters(found, file)
        raise verdicts.difference(arrays, file, source.model or catalog.find(found.model.name))
    if source.model is not None:
        raise verdicts.without_head(found, file)


def choose(
    locations: Collection[LocatedNetwork], arrays: Arrays, graph: Graph | None, file: ParamsFile
) -> LocatedNetwork:
    """Return the network that the parameters belong to.

    Raises:
        MappingError: if several networks match.
    """
    first = next(iter(locations))
    chosen = detection.choose_model(
        [each.model for each in locations],
        arrays,
        first.naming,
        graph,
        lambda model: file.is_published(model.published),
    )
    return next(each for each in locations if each.model.name == chosen.name)
