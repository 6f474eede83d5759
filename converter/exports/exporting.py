"""Writes a converted network as ONNX or as a program of torch, and compares what these files compute."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from converter.choices import ExportFormat
from converter.errors import ExportError
from converter.formats import artifact, onnx_file, program_file, torch_package
from converter.manifests.schema import DataRecord, ExportRecord
from converter.parity import graph_rows
from converter.parity.result import LAYER_LIMITS
from converter.storage import disk

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Sequence
    from pathlib import Path
    from typing import Literal

    from torch import nn

    from converter.dtypes import Array
    from converter.formats.program_file import TracedNetwork

DEFAULT_SIZE = 224  # of the images, in pixels, for a network that does not say it
LIMIT = LAYER_LIMITS["float32"]
SUFFIXES = {ExportFormat.onnx: onnx_file.SUFFIX, ExportFormat.pt2: program_file.SUFFIX}
MORE_IMAGES = 3  # of the second comparison, of a network that takes any number


@dataclass(frozen=True, slots=True, kw_only=True)
class ReferenceRun:
    """An image, (1, channels, h, w), and what a reference computes from it."""

    image: Array
    outputs: Sequence[Array]
    reference: Literal["gluon", "numpy", "module"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ExportSource:
    """A network to export, and what it computes.

    Attributes:
        network: the network in float32, in evaluation mode.
        stem: the start of the names of the files.
        sha256: SHA-256 of the weights.
        inputs: the name of its input.
        outputs: the names of its outputs.
        image: an image, (1, channels, h, w).
        expected: the outputs for this image.
        reference: what computed them; "module" is the network itself.
    """

    network: nn.Module
    stem: str
    sha256: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    image: Array
    expected: Sequence[Array]
    reference: Literal["gluon", "numpy", "module"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ExportedFile:
    """A written file that passed its comparison, under a temporary name.

    Attributes:
        record: its entry in the manifest.
        paths: the temporary files, with their final names.
    """

    record: ExportRecord
    paths: dict[Path, str]


def require_packages(formats: Collection[ExportFormat]) -> None:
    """Check, before any work, that the packages for these formats are installed.

    Raises:
        ExportError: if one is missing, with the command that installs them.
        TorchUnavailableError: if torch is missing.
    """
    if formats:
        torch_package.require_torch(f"--format {min(formats)}")
    if ExportFormat.onnx in formats:
        onnx_file.require_packages()


@contextlib.contextmanager
def draft(
    folder: Path, formats: Collection[ExportFormat], source: ExportSource
) -> Iterator[tuple[ExportedFile, ...]]:
    """Write and compare the files under temporary names in ``folder``; delete them on exit unless renamed.

    Raises:
        ExportError: if a file cannot be written, or computes something else than expected.
        StorageError: if the folder cannot be written.
    """
    traced = program_file.trace(source.network, source.image.shape[1:])
    with contextlib.ExitStack() as stack:
        places = {each: stack.enter_context(disk.temporary_folder(folder)) for each in formats}
        yield tuple(_export(source, traced, each, place) for each, place in places.items())


def _export(
    source: ExportSource, traced: TracedNetwork, file_format: ExportFormat, folder: Path
) -> ExportedFile:
    """Write one file to an empty folder, and compare it."""
    suffix = SUFFIXES[file_format]
    # Under the name of the weights: an ONNX file refers to the file of its weights by name.
    path = folder / artifact.file_name(source.stem, source.sha256, suffix)
    is_onnx = file_format is ExportFormat.onnx
    with disk.writing(folder):
        if is_onnx:
            onnx_file.write(traced, path, source.inputs, source.outputs)
        else:
            program_file.write(traced, path)
    relative = _compare(source, path, (onnx_file if is_onnx else program_file).run, dynamic=traced.dynamic)
    sha256, size = disk.sha256(path), path.stat().st_size
    name = artifact.file_name(source.stem, sha256, suffix)
    data = path.with_name(path.name.removesuffix(suffix) + onnx_file.DATA_SUFFIX)
    record = ExportRecord(
        file=name,
        sha256=sha256,
        bytes=size,
        shape=source.image.shape,
        reference=source.reference,
        relative=relative,
        limit=LIMIT,
        versions=onnx_file.versions() if is_onnx else program_file.versions(),
        dynamic_batch=traced.dynamic,
        data=DataRecord(file=data.name, sha256=disk.sha256(data), bytes=data.stat().st_size)
        if data.exists()
        else None,
    )
    paths = {path: name} | ({data: data.name} if data.exists() else {})
    return ExportedFile(record=record, paths=paths)


def _compare(
    source: ExportSource, path: Path, run: Callable[[Path, Array], list[Array]], *, dynamic: bool
) -> float:
    """Return the largest relative difference between what a file computes and what is expected.

    Raises:
        ExportError: if it is larger than the limit.
    """
    cases = [(source.image, list(source.expected))]
    if dynamic:
        generator = np.random.Generator(np.random.PCG64(1))
        images = generator.standard_normal((MORE_IMAGES, *source.image.shape[1:])).astype(np.float32)
        cases.append((images, program_file.outputs(source.network, images)))
    relative = max(_difference(run(path, images), expected) for images, expected in cases)
    if not relative <= LIMIT:
        raise ExportError(
            f"the {path.suffix} computes other outputs than expected, and is not kept\n"
            f"  expected    a relative error of at most {LIMIT:.0e}\n"
            f"  found       {relative:.1e}"
        )
    return relative


def _difference(outputs: list[Array], expected: list[Array]) -> float:
    if len(outputs) != len(expected):
        return float("inf")
    return max(graph_rows.difference(*pair).relative for pair in zip(expected, outputs, strict=True))
