"""Provide parameters in a file that MXNet 1.9 can load."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

from converter.formats import precision
from converter.formats.params import write_params
from converter.storage import disk

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from converter.networks.loading import LoadedModel, LoadedParams

READ_BY_MXNET = {"legacy", "V1", "V2"}  # record versions that MXNet 1.9 reads


@dataclass(frozen=True, slots=True)
class MXNetParams:
    """A file that MXNet can load.

    Attributes:
        path: the file.
        names: the names in the file, by structural name.
    """

    path: Path
    names: dict[str, str]


@contextlib.contextmanager
def provide(loaded: LoadedModel) -> Iterator[MXNetParams]:
    """Yield a file that MXNet can load: the source itself, or else a temporary copy.

    A copy for GluonCV's own network keeps index-based names, which GluonCV resolves itself if none is
    missing; any other copy has structural names.

    Raises:
        StorageError: if the copy cannot be written.
    """
    source = loaded.source
    resolved = source.naming.resolve(loaded.mapping)
    is_complete = loaded.params.keys() == resolved.keys()
    in_place = source.wiring is not None or resolved == {name: name for name in source.content.arrays}
    keeps_names = is_complete and in_place
    if keeps_names and _is_read_by_mxnet(source):
        yield MXNetParams(source.params_file.path, resolved)
        return
    has_head = loaded.model.config.num_classes > 0
    copy_names = (
        _index_based_names(source, resolved) if has_head and is_complete and not source.wiring else {}
    )
    copy_names = copy_names or {name: name for name in loaded.params}
    arrays = {name: precision.widen(loaded.params[param]) for name, param in copy_names.items()}
    with disk.temp_dir() as folder:
        path = folder / "for-mxnet.params"
        with disk.writing(path), path.open("wb") as stream:
            write_params(stream, arrays)
        yield MXNetParams(path, {param: name for name, param in copy_names.items()})


def _is_read_by_mxnet(source: LoadedParams) -> bool:
    """Return whether MXNet 1.9 can load the file and compute with its dtypes."""
    return (
        bool(source.content.records)
        and READ_BY_MXNET.issuperset(source.content.records)
        and all(precision.widen(array) is array for array in source.content.arrays.values())
    )


def _index_based_names(source: LoadedParams, resolved: dict[str, str]) -> dict[str, str]:
    """Return the structural names by the names that GluonCV's ``load_parameters`` would look for."""
    structural = {file_name: name for name, file_name in resolved.items()}
    return {name: structural[file_name] for name, file_name in source.naming.stripped().items()}
