"""The way back: a PyTorch checkpoint of anyone's to a ``.params`` file that GluonCV loads, and proves.

The file has the names, the order and the bytes that ``net.save_parameters`` writes, so that what came from
such a file is that file again.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from converter.choices import Precision, ReferenceChoice
from converter.commands import parity_check
from converter.errors import ArtifactError, CheckpointError, MappingError, ParityError, PrecisionError
from converter.formats import array_comparison, checkpoint, precision
from converter.formats.params import open_params, write_params
from converter.manifests import schema
from converter.networks import detection, matching
from converter.networks.loading import ParamsSource
from converter.parity.result import NOT_COMPARED, require_passed
from converter.parity.runner import ParityOptions
from converter.progress import silent
from converter.sources import params_file
from converter.storage import disk
from resnext_torch import HEAD

if TYPE_CHECKING:
    from pathlib import Path

    from converter.formats.file_arrays import Arrays
    from converter.networks.catalog import Model
    from converter.parity.result import ParityResult
    from converter.progress import Progress

QUESTION = "which one is it? --model says it"


@dataclass(frozen=True, slots=True)
class ToGluonRequest:
    """Which checkpoint, where to, and how to prove it; of which model, if its tensors do not tell."""

    weights: Path
    out: Path
    model: Model | None = None
    terms: ParityOptions = ParityOptions()
    precision: Precision = Precision.keep
    overwrite: bool = False


@dataclass(frozen=True, slots=True)
class ToGluonResult:
    """What was written. ``origin`` is the SHA-1 of the file that the weights came from, by their manifest."""

    model: Model
    sha1: str
    size: int
    tensors: int
    dtypes: tuple[str, ...]
    proof: ParityResult
    origin: str | None

    @property
    def is_published(self) -> bool:
        """Whether it is the file that GluonCV published, byte for byte."""
        return self.sha1 == self.model.entry.params_sha1

    @property
    def is_original(self) -> bool:
        """Whether it is the file that the weights were converted from, byte for byte."""
        return self.sha1 == self.origin


def to_gluon(request: ToGluonRequest, progress: Progress = silent) -> ToGluonResult:
    """Write a checkpoint as GluonCV would. Nothing appears at ``out`` unless all of it succeeds.

    Errors: ``ConversionError``, of a kind for each thing that can be wrong.
    """
    _require_free(request)
    with disk.temporary(request.out.parent) as part:
        with disk.unchanged(request.weights, CheckpointError):
            manifest = schema.read_summary(request.weights)
            model, params = _written(request, part)
            proof = _prove(request, model, part, progress)
        sha1, size = params_file.sha1(part, progress), part.stat().st_size
        disk.place(part, request.out, overwrite=request.overwrite)
    dtypes = tuple(dict.fromkeys(str(array.dtype) for array in params.values()))
    return ToGluonResult(
        model, sha1, size, len(params), dtypes, proof, (manifest.source.sha1 or None) if manifest else None
    )


def _written(request: ToGluonRequest, part: Path) -> tuple[Model, Arrays]:
    """Write the checkpoint's arrays to a file; return their model and themselves, by Gluon's names."""
    arrays = checkpoint.read(request.weights)
    model = request.model or _identify(arrays, str(request.weights))
    model = detection.with_classes_of(model, arrays.get(HEAD))
    try:
        state = matching.complete(model.mapping, arrays, model.shapes, str(request.weights))
    except MappingError as error:
        raise detection.with_suggestions(error, model, detection.match_torch(arrays)) from error
    named = {tensor.source: state[tensor.target] for tensor in model.mapping.tensors}
    params = precision.cast(named, request.precision)
    if not precision.lossless(named, params):
        raise PrecisionError(f"{request.weights}: {request.precision} cannot hold these weights as they are")
    matching.rename(model.mapping, params, model.shapes, str(request.weights))  # refuses what no network has
    with disk.wrap_os_error(request.out), part.open("wb") as stream:
        write_params(stream, params)
    _require_reads_back(part, params)
    return model, params


def _require_free(request: ToGluonRequest) -> None:
    """Refuse to write over a file: it may be the only one of its kind."""
    disk.require_free(request.out, overwrite=True)
    if request.out.exists() and request.weights.exists() and request.out.samefile(request.weights):
        raise ArtifactError(f"{request.out}: is the checkpoint itself")
    disk.require_free(request.out, overwrite=request.overwrite)


def _identify(arrays: Arrays, file: str) -> Model:
    if any(name.endswith("gamma") for name in arrays):
        raise CheckpointError(f"{file}: these are Gluon's names already; `convert auto` reads them")
    return detection.require_one(detection.match_torch(arrays), arrays.values(), file, question=QUESTION)


def _require_reads_back(part: Path, params: Arrays) -> None:
    found = open_params(part).arrays
    apart = (
        array_comparison.compare(name, found[name], array) for name, array in params.items() if name in found
    )
    if list(found) != list(params) or any(apart):
        raise ArtifactError("read back: the file differs from what was written")


def _prove(request: ToGluonRequest, model: Model, part: Path, progress: Progress) -> ParityResult:
    """Compare the written file, as the reference reads it, with the checkpoint, in our module."""
    if request.terms.choice is ReferenceChoice.none:
        return NOT_COMPARED
    origin = ParamsSource(model, part, search_graph=False)  # graphs in the folder are not of this checkpoint
    found = parity_check.compare(
        parity_check.ComparisonRequest(origin, request.weights, terms=request.terms), progress
    )
    if found.tensors:
        raise ParityError("\n  ".join(["tensors differ", *map(str, found.tensors)]))
    require_passed(found.proof, found.diagnosis)
    return found.proof
