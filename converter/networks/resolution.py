"""Resolve the user's selection to the network that a file's parameters belong to."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

from converter.errors import MappingError
from converter.networks import catalog, detection, location, recorded_detection, verdicts

if TYPE_CHECKING:
    from collections.abc import Collection

    from converter.formats.file_arrays import Arrays
    from converter.graphs.graph import Graph
    from converter.networks.location import LocatedNetwork
    from converter.networks.selection import ParamsSource
    from converter.sources.params_file import ParamsFile


def find_usable(source: ParamsSource, arrays: Arrays, file: str) -> list[LocatedNetwork]:
    """Return the networks that match the parameters and that the user's selection allows.

    Args:
        source: what the user selected.
        arrays: the parameters by their names in the file.
        file: the file, for messages.

    Raises:
        DialectError: if the names are in none of Gluon's styles.
        MappingError: if no network matches, or only a backbone where the user selected a whole network.
    """
    models = None if source.model is None else [source.model]
    locations = location.locate(arrays, file, models, backbone=source.backbone)
    if not locations:
        raise verdicts.no_match(arrays, file, source.model)
    require_usable(locations, source, arrays, file)
    return locations


def require_usable(locations: list[LocatedNetwork], source: ParamsSource, arrays: Arrays, file: str) -> None:
    """Check that the user's selection allows the networks that match the parameters.

    Raises:
        MappingError: if a network occurs twice, if only a backbone matches where the user selected a whole
            network, or if the file's network has other strides or another prefix.
    """
    if _are_several(locations):
        raise verdicts.several(locations, file)
    if not source.backbone and locations[0].is_backbone:
        _require_backbone_suffices(source, arrays, locations[0], file)
    if source.model is not None:
        detection.require_not_another(source.model, locations[0].naming)
    elif not source.backbone and not all(each.has_own_strides for each in locations):
        raise verdicts.own_strides(locations[0], file)


def require_whole(locations: list[LocatedNetwork], arrays: Arrays, file: ParamsFile) -> None:
    """Check that the networks are not the backbones of a recorded network that has all parameters of a file.

    Raises:
        MappingError: if they are, or if several recorded networks have these parameters.
    """
    if all(each.is_backbone for each in locations):
        network = recorded_detection.detect(arrays, file.sha1, str(file.user_path))
        if network is not None:
            raise verdicts.backbone_of(locations[0], network, str(file.user_path))


def _are_several(locations: list[LocatedNetwork]) -> bool:
    """Return whether some of the networks have no parameter in common."""
    used = [{*each.wrapping.names.values()} for each in locations if each.wrapping]
    return any(one.isdisjoint(other) for one, other in itertools.combinations(used, 2))


def _require_backbone_suffices(
    source: ParamsSource, arrays: Arrays, found: LocatedNetwork, file: str
) -> None:
    """Check that a file contains a backbone alone, and that the user did not select a whole network.

    Raises:
        MappingError: if the network's own head does not fit, or if the user selected a whole network.
    """
    if reason := verdicts.quantized(arrays):
        raise MappingError(f"{file}: {reason}")
    if found.wrapping is not None and found.wrapping.own_head_names:
        if found.wrapping.own_head_fits:
            raise verdicts.more_parameters(found, file)
        model = source.model or catalog.find(found.model.name)
        raise verdicts.other_head(found, arrays, file, model)
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
