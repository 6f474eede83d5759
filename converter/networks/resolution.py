"""Resolves the user's selection to the network that a file's parameters belong to."""

from __future__ import annotations

from typing import TYPE_CHECKING

from converter.networks import catalog, detection, location, verdicts

if TYPE_CHECKING:
    from collections.abc import Collection

    from converter.formats.file_arrays import Arrays
    from converter.graphs.graph import Graph
    from converter.networks.location import Location
    from converter.networks.selection import ParamsSource
    from converter.sources.params_file import ParamsFile


def find_usable(source: ParamsSource, arrays: Arrays, file: ParamsFile) -> list[Location]:
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
    if locations[0].has_unusable_head and not source.backbone:
        raise verdicts.difference(arrays, name, source.model or catalog.find(locations[0].model.name))
    if source.model is None:
        if not all(each.has_own_strides for each in locations):
            raise verdicts.own_strides(locations[0], name)
        return locations
    detection.require_not_another(source.model, locations[0].naming)
    if locations[0].is_backbone and not source.backbone:
        raise verdicts.without_head(locations[0], name)
    return locations


def choose(
    locations: Collection[Location], arrays: Arrays, graph: Graph | None, file: ParamsFile
) -> Location:
    """Return the network that the parameters belong to.

    Raises:
        MappingError: if several networks match, or if the prefix belongs to another network.
    """
    by_model = {each.model.name: each for each in locations}
    first = next(iter(locations))
    chosen = detection.choose_model(
        [each.model for each in locations],
        arrays,
        first.naming,
        graph,
        lambda model: file.is_published(model.published),
    )
    return by_model[chosen.name]
