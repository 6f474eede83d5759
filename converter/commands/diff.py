"""Compare two checkpoints tensor by tensor, whichever names each of them uses."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import PurePath
from typing import TYPE_CHECKING

import msgspec.structs
from msgspec import Struct

from converter.commands.arguments import to_weights
from converter.errors import CheckpointError, DialectError, NoStateDictError
from converter.formats import array_comparison, file_arrays
from converter.formats.array_comparison import TensorDiff  # noqa: TC001 - msgspec reads the annotations
from converter.formats.state_dicts import TOP_LEVEL, Location
from converter.manifests import converted_weights, schema
from converter.networks import detection, graph_argument, naming_styles, state_dicts
from converter.storage import disk

if TYPE_CHECKING:
    from os import PathLike
    from pathlib import Path

    from converter.formats.checkpoint import Checkpoint
    from converter.formats.file_arrays import Arrays
    from converter.manifests.schema import Manifest
    from converter.networks.mapping import Mapping


class CheckpointDiff(Struct, frozen=True, kw_only=True, rename={"different": "apart"}):
    """Differences between two checkpoints.

    Attributes:
        compared: number of tensors on both sides.
        only_first: names of tensors in the first checkpoint only.
        only_second: names of tensors in the second checkpoint only.
        different: tensors that differ in type, shape or bits.
        mapping: mapping file or manifest that relates the names, None if none was needed.
        counters: number of BatchNorm counters that were ignored because Gluon stores none; 0 without a
            mapping.
        state_dicts: where the arrays of both are in their files.
        network: what ``parity`` takes to compare their layers: a model, ``auto`` or a graph; None if it
            cannot compare them, or if the graph is in neither folder.
    """

    compared: int
    only_first: tuple[str, ...]
    only_second: tuple[str, ...]
    different: tuple[TensorDiff, ...]
    mapping: str | None = None
    counters: int = 0
    state_dicts: tuple[Location, Location] = (TOP_LEVEL, TOP_LEVEL)
    network: str | None = None

    @property
    def identical(self) -> bool:
        """Whether both have the same names, types, shapes and bits."""
        return not (self.only_first or self.only_second or self.different)


class DiffRecord(Struct, frozen=True, kw_only=True, rename={"different": "apart"}):
    """The document of ``gluon2torch diff``.

    Attributes:
        identical: whether both have the same names, types, shapes and bits.
        compared: number of tensors on both sides.
        only_first: names of tensors in the first checkpoint only.
        only_second: names of tensors in the second checkpoint only.
        different: tensors that differ in type, shape or bits.
        mapping: mapping file or manifest that relates the names, null if none was needed.
        counters: number of BatchNorm counters that were ignored.
        state_dicts: where the arrays of both are in their files.
        network: what ``parity`` takes to compare their layers, null if it cannot compare them.
    """

    identical: bool
    compared: int
    only_first: tuple[str, ...]
    only_second: tuple[str, ...]
    different: tuple[TensorDiff, ...]
    mapping: str | None
    counters: int
    state_dicts: tuple[Location, Location]
    network: str | None


@dataclass(frozen=True, slots=True)
class _Renamed:
    """The arrays of two checkpoints, by the same names as far as they are related.

    Attributes:
        one: the arrays of the first.
        other: those of the second.
        file: the mapping file or manifest that relates the names, None if none was needed.
        counters: the number of BatchNorm counters that were left out.
        network: what ``parity`` takes to compare the layers, None if it cannot compare them.
    """

    one: Arrays
    other: Arrays
    file: str | None = None
    counters: int = 0
    network: str | None = None


def diff(
    first: str | PathLike[str], second: str | PathLike[str], *, key: str | None = None
) -> CheckpointDiff:
    """Compare two checkpoints tensor by tensor, bit for bit.

    Args:
        first: ``.safetensors``, ``.pth``, or ``.params`` file in any naming style and container; or a folder
            that contains one of the first two.
        second: the other file, of the same kinds.
        key: key of the state dict in a ``.pth``, with dots between nested keys, for each file that has it; by
            default it is detected.

    Raises:
        StorageError: if a file cannot be read, or changes meanwhile.
        CheckpointError: if a file is malformed, if neither file has the key, or if they have no name
            in common.
        ParamsError: if a ``.params`` file is malformed.
        SourceError: if an archive is malformed.
    """
    paths = to_weights(first), to_weights(second)
    with disk.unchanged(paths[0]), disk.unchanged(paths[1]):
        one, other = _read_both(*paths, key)
        arrays = one.arrays, other.arrays
        common = _by_manifests(paths, key, *arrays) or _by_mapping(*arrays)
        return _diff(paths, common, (one.location, other.location))


def document(result: CheckpointDiff) -> DiffRecord:
    """Return the JSON document."""
    return DiffRecord(identical=result.identical, **msgspec.structs.asdict(result))


def _read_both(first: Path, second: Path, key: str | None) -> list[Checkpoint]:
    """Return both checkpoints; the key selects a state dict in each that has it.

    Raises:
        NoStateDictError: if neither has it.
    """
    checkpoints, errors = [], []
    for path in (first, second):
        try:
            checkpoints.append(state_dicts.read(path, key))
        except NoStateDictError as error:
            errors.append(error)
            checkpoints.append(state_dicts.read(path))
    if len(errors) == len(checkpoints):
        raise errors[0]
    return checkpoints


def _by_manifests(paths: tuple[Path, Path], key: str | None, one: Arrays, other: Arrays) -> _Renamed | None:
    """Rename the tensors of a converted graph as in the other file; None if neither file is of one."""
    if manifest := _manifest_of(paths[0], key, one, other):
        mapped, counters = _to_source(one, manifest)
        return _Renamed(mapped, other, _manifest_file(manifest), counters, _graph(manifest, paths))
    if manifest := _manifest_of(paths[1], key, other, one):
        mapped, counters = _to_source(other, manifest)
        return _Renamed(one, mapped, _manifest_file(manifest), counters, _graph(manifest, paths))
    return None


def _graph(manifest: Manifest, paths: tuple[Path, Path]) -> str | None:
    """Return the name of a generated module's recorded network, or its graph in the folder of either file."""
    source = manifest.source
    if manifest.kind != schema.GENERATED:
        return None
    if source.network is not None or source.symbol is None:
        return source.network
    graphs = [path.with_name(PurePath(source.symbol).name) for path in paths]
    own = (graph for graph in graphs if graph.is_file() and disk.sha256(graph) == source.symbol_sha256)
    return next(map(str, own), None)


def _manifest_of(path: Path, key: str | None, weights: Arrays, other: Arrays) -> Manifest | None:
    """Return the manifest of a checkpoint's module, if the other file has the source's names."""
    found = None if weights.keys() == other.keys() else converted_weights.find(path, key)
    if found is None or other.keys().isdisjoint(names.source for names in found.manifest.names):
        return None
    return found.manifest


def _manifest_file(manifest: Manifest) -> str:
    return str(PurePath(manifest.artifact.file).with_suffix(".json"))


def _to_source(arrays: Arrays, manifest: Manifest) -> tuple[Arrays, int]:
    """Return the arrays of a module by the source's names, and the number of the others."""
    source = {names.target: names.source for names in manifest.names}
    renamed = {source[name]: array for name, array in arrays.items() if name in source}
    return renamed, len(arrays) - len(renamed)


def _by_mapping(one: Arrays, other: Arrays) -> _Renamed:
    """Rename the tensors of named networks, if one file has Gluon's names and the other has not."""
    one, other = _to_structural(one, other), _to_structural(other, one)
    if _has_gluon_names(one) == _has_gluon_names(other):
        return _Renamed(one, other)
    gluon, torch = (one, other) if _has_gluon_names(one) else (other, one)
    mapping = detection.match_either(gluon.keys(), torch.keys())
    if mapping is None:
        return _Renamed(one, other)
    counters = sum(name in mapping.target_only for name in (*one, *other))
    renamed = _to_target(one, mapping), _to_target(other, mapping)
    return _Renamed(*renamed, mapping.file, counters, graph_argument.AUTO)


def _diff(
    paths: tuple[Path, Path], renamed: _Renamed, locations: tuple[Location, Location]
) -> CheckpointDiff:
    (first, second), one, other = paths, renamed.one, renamed.other
    if one.keys().isdisjoint(other):
        raise CheckpointError(
            f"{first} and {second}: no tensor names in common, and no mapping relates them\n"
            f"  {first.name} has {_example(one)}\n"
            f"  {second.name} has {_example(other)}"
        )
    both = (name for name in one if name in other)
    with file_arrays.held((*one.values(), *other.values())):
        differences = [array_comparison.compare(name, one[name], other[name]) for name in both]
    return CheckpointDiff(
        compared=len(one.keys() & other.keys()),
        only_first=(*(name for name in one if name not in other), *locations[0].ignored),
        only_second=(*(name for name in other if name not in one), *locations[1].ignored),
        different=tuple(difference for difference in differences if difference is not None),
        mapping=renamed.file,
        counters=renamed.counters,
        state_dicts=locations,
        network=renamed.network,
    )


def _has_gluon_names(arrays: Arrays) -> bool:
    """Return whether the names are Gluon's: its BatchNorms have a gamma, PyTorch's a weight."""
    return any(name.endswith("gamma") for name in arrays)


def _to_structural(arrays: Arrays, other: Arrays) -> Arrays:
    """Return Gluon's arrays by structural names, whatever their naming style; others unchanged.

    If the names match several models, the one with the most names in common with ``other`` is used.
    """
    if not _has_gluon_names(arrays):
        return arrays
    try:
        naming = naming_styles.read(arrays, "")
    except DialectError:
        return arrays
    candidates = [naming.resolve(model.mapping) for model in detection.match_gluon(arrays, naming)]
    names = max(candidates, key=lambda names: len(names.keys() & other), default=naming.structural)
    return {name: arrays[file_name] for name, file_name in names.items()} or arrays


def _to_target(arrays: Arrays, mapping: Mapping) -> Arrays:
    """Return the arrays by PyTorch names, as far as the mapping has them, without PyTorch's counters."""
    target, counters = mapping.to_target(), set(mapping.target_only)
    return {target.get(name, name): array for name, array in arrays.items() if name not in counters}


def _example(arrays: Arrays) -> str:
    return next(iter(arrays), "nothing")
