"""All readers of external files: how each is called, and how its files are mutated."""

from __future__ import annotations

import contextlib
import os
import signal
from dataclasses import dataclass
from typing import TYPE_CHECKING, NoReturn

import msgspec
import numpy as np
from fuzz import mutation, seeds

from converter.commands import diff, inspection, inspection_document
from converter.errors import ConversionError, SourceError
from converter.formats import detect, labels, params
from converter.formats.kinds import GLUON, PACKED, PYTORCH
from converter.graphs import codegen, pruning, reader
from converter.graphs.codegen import safe_source
from converter.manifests import artifact_checks, converted_file
from converter.networks import catalog, loading, mapping, naming_styles, selection, state_dicts, wiring
from converter.networks.selection import ParamsSource
from converter.progress import silent
from converter.sources import params_file
from converter.sources.partial import PartialDownload

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path
    from types import FrameType

    from fuzz.mutation import Mutate

LIMIT_SECONDS = 10  # for one small file
MODEL = "gluon_cifar_resnext29_32x4d"
UNPACKED = "unpacked.params"


@dataclass(frozen=True, slots=True)
class Target:
    """A reader. ``file`` is its input's name, ``runs`` the number of calls in a campaign.

    ``beside`` are the names of other files that it may create in the folder.
    """

    read: Callable[[Path], object]
    file: str
    seeds: Callable[[], list[bytes]]
    mutate: Mutate
    runs: int
    extra_files: frozenset[str] = frozenset()


class HangError(BaseException):
    """A reader took too long. Not an ``Exception``, so that no reader catches it."""


class StrayError(Exception):
    """A reader created an unexpected file."""


def attempt(target: Target, content: bytes, folder: Path) -> bool:
    """Give a content to a reader; return True if it was read and False if it was refused.

    Raises:
        StrayError: if the reader created an unexpected file.
        Exception: any other error of the reader.
    """
    path = folder / target.file
    path.unlink(missing_ok=True)  # not overwritten: earlier content may still be mapped into memory
    path.write_bytes(content)
    try:
        target.read(path)
    except ConversionError:
        return False
    finally:
        unexpected = set(os.listdir(folder)) - {target.file, *target.extra_files}  # noqa: PTH208 - ten times faster
        if unexpected:
            raise StrayError(f"{sorted(unexpected)} in the reader's folder")
    return True


@contextlib.contextmanager
def limited(seconds: float = LIMIT_SECONDS) -> Iterator[None]:
    """Raise ``HangError`` if the block takes longer."""
    previous = signal.signal(signal.SIGALRM, _hang)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, previous)


def _hang(_number: int, _frame: FrameType | None) -> NoReturn:
    raise HangError


def _params(path: Path) -> None:
    naming_styles.read(params.load_params(path), path.name)


def _packed(path: Path) -> None:
    detect.kind(path)
    source = params_file.from_file(path, path.parent, silent)
    if source.archive:
        params.load_params(source.path)


def _kind(path: Path) -> None:
    if (found := detect.kind(path)) not in GLUON | PACKED | PYTORCH:
        raise SourceError(detect.refusal(path, found))


def _checkpoint(path: Path) -> None:
    for array in state_dicts.read(path).arrays.values():
        np.asarray(array)


def _symbol(path: Path) -> None:
    wiring.match(reader.read(path), catalog.find(MODEL))


class _Shapes(msgspec.Struct):
    """The shapes of parameters, which the seeds contain next to the graph."""

    shapes: dict[str, tuple[int, ...]] = {}


def _code(path: Path) -> None:
    """Generate a module of a graph, and of its part before its last node."""
    graph = reader.read(path)
    try:
        shapes = msgspec.json.decode(graph.content, type=_Shapes).shapes
    except (msgspec.DecodeError, UnicodeDecodeError):
        shapes = {}
    for output in (None, *(node.name for node in graph.nodes[-2:-1])):
        with contextlib.suppress(ConversionError) if output else contextlib.nullcontext():
            pruned = pruning.prune(graph, output)
            safe_source.require_safe(codegen.generate(pruned.graph, shapes, graph.nodes[0].name).source)


def _inspected(path: Path) -> None:
    inspection_document.document(inspection.inspect(path, full=True))


def _manifest(path: Path) -> None:
    weights = path.with_suffix(".safetensors")
    if not weights.exists():
        weights.write_bytes(seeds.safetensors()[0])
    converted_file.find_manifest(weights)
    artifact_checks.read(weights)


def _note(path: Path) -> None:
    download = PartialDownload(path.with_suffix(""))
    download.path.write_bytes(b"PK")
    if download.resume_info() is None:
        raise SourceError(f"{path}: cannot be resumed")


def _stages(path: Path) -> None:
    """Run every command on the file that needs no network."""
    inspection_document.document(inspection.inspect(path, full=True))
    with contextlib.suppress(ConversionError):
        diff.diff(path, path)
    for model in (None, catalog.find(MODEL)):
        with selection.open_source(ParamsSource(model, path), silent) as result:
            loading.load_model(ParamsSource(model, path), result)


TARGETS = {
    "ndarray-list": Target(_params, "a.params", seeds.lists, mutation.flip, 400_000),
    "npz": Target(_params, "a.params", seeds.npzs, mutation.zipped(mutation.words), 200_000),
    "kind": Target(_kind, "a.params", seeds.every_kind, mutation.flip, 200_000),
    "gzip": Target(
        _packed, "a.gz", seeds.gzips, mutation.gzipped(mutation.flip), 80_000, frozenset({UNPACKED})
    ),
    "zip": Target(
        _packed, "a.zip", seeds.zips, mutation.zipped(mutation.flip), 80_000, frozenset({UNPACKED})
    ),
    "tar": Target(_packed, "a.tar", seeds.tars, mutation.flip, 80_000, frozenset({UNPACKED})),
    "tar.gz": Target(
        _packed, "a.tar.gz", seeds.packed_tars, mutation.gzipped(mutation.flip), 40_000, frozenset({UNPACKED})
    ),
    "safetensors": Target(
        _checkpoint, "a.safetensors", seeds.safetensors, mutation.safetensors_header(mutation.words), 200_000
    ),
    "pth": Target(_checkpoint, "a.pth", seeds.pths, mutation.zipped(mutation.flip), 150_000),
    "symbol": Target(_symbol, "a-symbol.json", seeds.symbols, mutation.words, 100_000),
    "code": Target(_code, "a-symbol.json", seeds.graphs, mutation.graph, 100_000),
    "graph": Target(_inspected, "a-symbol.json", seeds.graphs, mutation.graph, 50_000),
    "mapping": Target(
        lambda path: mapping.read(path, "plain", (2, 1)), "a.toml", seeds.tables, mutation.words, 60_000
    ),
    "catalog": Target(catalog._read.__wrapped__, "a.toml", seeds.tables, mutation.words, 40_000),
    "labels": Target(
        lambda path: labels.read(path, 3), "labels.txt", seeds.line_labels, mutation.words, 50_000
    ),
    "labels-json": Target(
        lambda path: labels.read(path, 3), "labels.json", seeds.json_labels, mutation.words, 50_000
    ),
    "manifest": Target(
        _manifest, "weights.json", seeds.manifests, mutation.words, 50_000, frozenset({"weights.safetensors"})
    ),
    "download": Target(_note, "a.part.json", seeds.notes, mutation.words, 50_000, frozenset({"a.part"})),
    "stages": Target(_stages, "a.params", seeds.lists, mutation.flip, 10_000),
}
