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

    Networks for several data sets may differ in nothing but the number of classes: the one with that of the
    file is named, or else the first.

    Args:
        arrays: the parameters by their names in the file.
        sha1: the file's SHA-1, which decides if GluonCV published it.
        file: the file, for messages.

    Raises:
        MappingError: if the parameters are those of several networks whose graphs differ.
    """
    published = gluoncv_models.published_name(sha1)
    if published in _candidates(len(arrays)):
        return published
    matches = [*_matches(arrays, file)]
    if not matches:
        return None
    first = matches[0].network
    if any(each.network.graph != first.graph for each in matches):
        fitting = [each.network.name for each in matches]
        headline = f"{file}: the parameters fit {len(fitting)} networks whose graphs differ"
        step = f"try  convert {fitting[0]} OUT --params FILE, with the name of yours"
        raise MappingError("\n  ".join([headline, *names.shorten(fitting), step]))
    exact = [each.network.name for each in matches if not each.has_other_classes]
    return exact[0] if exact else first.name


def _matches(arrays: Arrays, file: str) -> Iterator[MatchedNetwork]:
    for name in _candidates(len(arrays)):
        try:
            yield recorded_parameters.match(recorded_graphs.load(name), arrays, file)
        except (DialectError, MappingError):
            continue


def _candidates(count: int) -> list[str]:
    """Return the networks with this number of parameters, without those that convert natively."""
    native = catalog.by_gluon_name()
    return [
        name
        for name, entry in recorded_index.index().items()
        if count in entry.counts and name not in native and not entry.unsupported
    ]
