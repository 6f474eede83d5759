"""Convert a PyTorch checkpoint to a ``.params`` file that GluonCV loads, and prove it.

The file has the names, the order and the bytes that ``net.save_parameters`` writes, so converting such a
file to PyTorch and back restores it byte for byte.
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
    """What to convert and how.

    Attributes:
        weights: the checkpoint.
        out: the ``.params`` file to write.
        model: the model, None to detect it from the tensors.
        terms: how to prove the conversion.
        precision: type of the written weights.
        overwrite: whether ``out`` may be replaced.
    """

    weights: Path
    out: Path
    model: Model | None = None
    terms: ParityOptions = ParityOptions()
    precision: Precision = Precision.keep
    overwrite: bool = False


@dataclass(frozen=True, slots=True)
class ToGluonResult:
    """The written file.

    Attributes:
        model: the model.
        sha1: SHA-1 of the file.
        size: size in bytes.
        tensors: number of tensors.
        dtypes: types of the tensors.
        proof: comparison of the file with the checkpoint.
        origin: SHA-1 of the file that the weights were converted from, None if no manifest records it.
    """

    model: Model
    sha1: str
    size: int
    tensors: int
    dtypes: tuple[str, ...]
    proof: ParityResult
    origin: str | None

    @property
    def is_published(self) -> bool:
        """Whether the file is GluonCV's published one, byte for byte."""
        return self.sha1 == self.model.entry.params_sha1

    @property
    def is_original(self) -> bool:
        """Whether the file is the one that the weights were converted from, byte for byte."""
        return self.sha1 == self.origin


def to_gluon(request: ToGluonRequest, progress: Progress = silent) -> ToGluonResult:
    """Write a checkpoint as GluonCV would. Nothing appears at ``out`` unless every step succeeds.

    Raises:
        ConversionError: if a step fails; each kind of failure has its own subclass.
    """
    _require_free(request)
    with disk.temporary(request.out.parent) as part:
        with disk.unchanged(request.weights, CheckpointError):
            manifest = schema.read_summary(request.weights)
            model, params = _write(request, part)
            proof = _prove(request, model, part, progress)
        sha1, size = params_file.sha1(part, progress), part.stat().st_size
        disk.place(part, request.out, overwrite=request.overwrite)
    dtypes = tuple(dict.fromkeys(str(array.dtype) for array in params.values()))
    return ToGluonResult(
        model, sha1, size, len(params), dtypes, proof, (manifest.source.sha1 or None) if manifest else None
    )


def _write(request: ToGluonRequest, part: Path) -> tuple[Model, Arrays]:
    """Write the checkpoint's arrays to a file; return their model and the arrays by Gluon names."""
    arrays = checkpoint.read(request.weights)
    model = request.model or _identify(arrays, str(request.weights))
    model = detection.with_classes_of(model, arrays.get(HEAD))
    try:
        state = matching.complete(model.mapping, arrays, model.shapes, str(request.weights))
    except MappingError as error:
        raise detection.with_suggestions(error, model, detection.match_torch(arrays)) from error
    gluon_arrays = {tensor.source: state[tensor.target] for tensor in model.mapping.tensors}
    params = precision.cast(gluon_arrays, request.precision)
    if not precision.lossless(gluon_arrays, params):
        raise PrecisionError(f"{request.weights}: {request.precision} cannot hold these weights as they are")
    # Refuses values that no network has.
    matching.rename(model.mapping, params, model.shapes, str(request.weights))
    with disk.wrap_os_error(request.out), part.open("wb") as stream:
        write_params(stream, params)
    _require_reads_back(part, params)
    return model, params


def _require_free(request: ToGluonRequest) -> None:
    """Refuse to overwrite the checkpoint itself, and other files unless ``overwrite`` is set."""
    disk.require_free(request.out, overwrite=True)
    if request.out.exists() and request.weights.exists() and request.out.samefile(request.weights):
        raise ArtifactError(f"{request.out}: is the checkpoint itself")
    disk.require_free(request.out, overwrite=request.overwrite)


def _identify(arrays: Arrays, file: str) -> Model:
    if any(name.endswith("gamma") for name in arrays):
        raise CheckpointError(f"{file}: these are Gluon's names already; `convert auto` reads them")
    return detection.require_one(detection.match_torch(arrays), arrays.values(), file, question=QUESTION)


def _require_reads_back(part: Path, params: Arrays) -> None:
    arrays = open_params(part).arrays
    differences = (
        array_comparison.compare(name, arrays[name], array)
        for name, array in params.items()
        if name in arrays
    )
    if list(arrays) != list(params) or any(differences):
        raise ArtifactError("read back: the file differs from what was written")


def _prove(request: ToGluonRequest, model: Model, part: Path, progress: Progress) -> ParityResult:
    """Compare the written file, read by the reference, with the checkpoint in our module."""
    if request.terms.choice is ReferenceChoice.none:
        return NOT_COMPARED
    origin = ParamsSource(model, part, search_graph=False)  # graphs in the folder are unrelated
    comparison = parity_check.compare(
        parity_check.ComparisonRequest(origin, request.weights, terms=request.terms), progress
    )
    if comparison.tensors:
        raise ParityError("\n  ".join(["tensors differ", *map(str, comparison.tensors)]))
    require_passed(comparison.proof, comparison.diagnosis)
    return comparison.proof
