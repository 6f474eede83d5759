"""Detect which recorded network the parameters of a file are."""

from __future__ import annotations

from typing import TYPE_CHECKING

from converter import names
from converter.errors import DialectError, MappingError
from converter.networks import catalog, gluoncv_models, recorded_graphs, recorded_index, recorded_parameters

if TYPE_CHECKING:
    from collections.abc import Iterator

    from converter.formats.file_arrays import Arrays
    from converter.networks.recorded_parameters import MatchedNetwork


def detect(arrays: Arrays, sha1: str, file: str) -> str | None:
    """Return the name of the network, None if there is none.

    Networks for several data sets may differ in nothing but the number of classes; the first is named.

    Args:
        arrays: the parameters by their names in the file.
        sha1: the file's SHA-1, which decides if GluonCV published it.
        file: the file, for messages.

    Raises:
        MappingError: if the parameters are those of several networks that compute different outputs.
    """
    published = gluoncv_models.published_name(sha1)
    if published in _candidates(len(arrays)):
        return published
    matches = [*_matches(arrays, file)]
    exact = [each for each in matches if each.network.classes == each.network.entry.classes]
    matches = exact or matches
    if not matches:
        return None
    first = matches[0].network
    others = [each.network.name for each in matches if each.network.graph != first.graph]
    if others:
        fitting = names.shorten([first.name, *others])
        headline = f"{file}: the parameters fit several networks with different outputs"
        raise MappingError("\n  ".join([headline, *fitting, "give the network's name instead of auto"]))
    return first.name


def _matches(arrays: Arrays, file: str) -> Iterator[MatchedNetwork]:
    for name in _candidates(len(arrays)):
        try:
            yield recorded_parameters.match(recorded_graphs.load(name), arrays, file)
        except (DialectError, MappingError):
            continue


def _candidates(count: int) -> list[str]:
    """Return the networks with this number of parameters, without those that convert natively."""
    native = {model.entry.gluon for model in catalog.models().values()}
    return [
        name
        for name, entry in recorded_index.index().items()
        if count in entry.counts and name not in native and not entry.unsupported
    ]
