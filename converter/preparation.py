"""What conversions and parity checks begin with: a ``.params`` file found, read and laid beside its model."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from converter import precision, published, source
from converter.errors import (
    CheckpointError,
    ConversionError,
    DialectError,
    MappingError,
    ParamsError,
    SourceError,
    SymbolError,
)
from converter.files import checkpoint, disk, params, symbol
from converter.files.checkpoint import Kind
from converter.files.params import Params, write_params
from converter.models import dialects, graph, identification, matching, settings, synthetic

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from converter.files.stored import AnyArray, Arrays
    from converter.files.symbol import Symbol
    from converter.models.catalog import Model
    from converter.models.dialects import Naming
    from converter.models.mapping import Mapping
    from converter.progress import Progress
    from converter.source import Source

READ_BY_MXNET = {"legacy", "V1", "V2"}  # the records that MXNet 1.9 reads as it is


@dataclass(frozen=True, slots=True)
class Origin:
    """Which parameters: a file, a model's seeded random ones, or, with neither, those that were published.

    Without a ``model`` the file's tensors tell it. ``symbol`` is the file's ``-symbol.json``, where that does
    not lie beside it.
    """

    model: Model | None
    params: Path | None = None
    seed: int | None = None
    symbol: Path | None = None


@dataclass(frozen=True, slots=True)
class Reading:
    """What parameters were read from: the file, its contents, and the names in it.

    ``symbol`` is the graph that the model was compared with, ``fixed_gammas`` the arrays that it made ones.
    """

    source: Source
    file: Params
    naming: Naming
    symbol: Path | None = None
    fixed_gammas: tuple[str, ...] = ()

    @property
    def is_gluons(self) -> bool:
        """Whether GluonCV itself, of MXNet 1.9, can load the file and computes with just these numbers."""
        return (
            self.naming.dialect == dialects.STRUCTURAL
            and bool(self.file.records)
            and READ_BY_MXNET.issuperset(self.file.records)
            and all(precision.widened(array) is array for array in self.file.arrays.values())
            and not self.fixed_gammas
        )


@dataclass(frozen=True, slots=True)
class Prepared:
    """Parameters that fit their model, in their file: ``params`` by Gluon's names, ``state`` by PyTorch's."""

    model: Model
    mapping: Mapping
    params: Arrays
    state: Arrays
    reading: Reading

    @contextlib.contextmanager
    def for_gluon(self) -> Iterator[Path]:
        """Give a file that GluonCV can load: the source itself, or, where it cannot, the parameters anew.

        Those that were counted are counted there too: GluonCV itself finds their layers, and not we.
        Errors: ``SourceError`` where that cannot be written.
        """
        if self.reading.is_gluons:
            yield self.reading.source.path
            return
        naming = self.reading.naming
        ours = {file_name: name for name, file_name in naming.resolve(self.mapping).items()}
        names = {name: ours[file_name] for name, file_name in naming.stripped().items()}
        with disk.scratch() as folder:
            path = folder / "for-gluon.params"
            try:
                with path.open("wb") as stream:
                    arrays = {name: self.params[ours] for name, ours in names.items()} or self.params
                    write_params(stream, {name: precision.widened(array) for name, array in arrays.items()})
            except OSError as error:
                raise SourceError(f"{path}: {error.strerror or error}") from error
            yield path


def prepare(origin: Origin, found: Source) -> Prepared:
    """Read a ``.params`` file and lay it beside the model, whose classes are those of the file's head.

    Errors: ``ParamsError``, ``DialectError``, ``SymbolError``, ``MappingError``; the last names the model
    that does fit, or those between which only the user can decide.
    """
    name = str(found.origin)
    _require_no_checkpoint(found)
    file = params.open_params(found.path, name=name)
    if found.archive is None and file.stamp != found.stamp:
        raise SourceError(f"{name}: {disk.CHANGED}")
    naming = dialects.read(file.arrays, name)
    beside = origin.symbol or symbol.beside(found.origin)
    drawn = symbol.read(beside) if beside else None
    if origin.model is None:
        model = identification.identify(file.arrays, naming, drawn, found.is_published)
    else:
        model = origin.model
        identification.require_not_another(model, naming)
    structural = _resolved(model, file.arrays, naming)
    model = identification.with_classes_of(model, identification.gluons_head(model, structural))
    gammas = _compared(drawn, model) if drawn else ()
    structural |= {
        gamma: np.ones(structural[gamma].shape, structural[gamma].dtype)
        for gamma in gammas
        if gamma in structural
    }
    try:
        state = matching.rename(model.mapping, structural, model.shapes, name)
    except MappingError as error:
        raise identification.explained(error, model, identification.of_gluon(file.arrays, naming)) from error
    reading = Reading(found, file, naming, beside, gammas)
    return Prepared(model, model.mapping, structural, state, reading)


@contextlib.contextmanager
def opened(origin: Origin, progress: Progress) -> Iterator[Source]:
    """Find the parameters; what must be made or unpacked lies in a temporary folder while it is needed.

    Errors: ``SourceError``; also in the place of any other refusal, where the file was changed meanwhile.
    """
    with disk.scratch() as folder:
        found = _found(origin, folder, progress)
        try:
            yield found
        except ConversionError:
            source.require_unchanged(found)
            raise


def _found(origin: Origin, folder: Path, progress: Progress) -> Source:
    model = origin.model
    if origin.params is not None:
        return source.from_file(origin.params, folder, progress)
    if model is None:
        raise SourceError("a model that the tensors shall tell needs a file: --params FILE")
    if origin.seed is None:
        return published.take(model, folder, progress)
    path = folder / f"{model.name}.random-{origin.seed}.params"
    return source.from_arrays(  # which keeps no copy of the arrays
        synthetic.random_params(model.mapping, model.shapes, origin.seed), path, progress
    )


def _require_no_checkpoint(found: Source) -> None:
    """Refuse PyTorch's files by what they are, which says more than what is wrong with the first byte."""
    with contextlib.suppress(CheckpointError):  # then it is neither, and the reader says at which byte
        if (kind := checkpoint.kind(found.path)) in {Kind.torch, Kind.safetensors}:
            raise ParamsError(
                f"{found.origin}: a PyTorch checkpoint, {kind}; `gluon2torch to-gluon` goes the other way"
            )


def _compared(drawn: Symbol, model: Model) -> tuple[str, ...]:
    """Return the gammas that a graph fixes.

    Errors: ``SymbolError`` with everything that it has otherwise than the model.
    """
    try:
        apart = graph.disagreements(drawn, model.mapping, settings.of_model(model))
    except (DialectError, MappingError, SymbolError) as error:
        raise SymbolError(f"{drawn.path}: the network is not {model.name}\n  {error}") from error
    if apart:
        raise SymbolError("\n  ".join([f"{drawn.path}: the network is not {model.name}", *apart]))
    return tuple(graph.fixed_gammas(drawn, model.mapping))


def _resolved(model: Model, arrays: Arrays, naming: Naming) -> dict[str, AnyArray]:
    """Return the arrays by structural names."""
    try:
        found = naming.resolve(model.mapping)
    except MappingError as error:
        raise identification.explained(error, model, identification.of_gluon(arrays, naming)) from error
    return {name: arrays[file_name] for name, file_name in found.items()}
