"""Convert a PyTorch checkpoint to a ``.params`` file that GluonCV loads, and prove it.

The file has the names, the order and the bytes that ``net.save_parameters`` writes, so converting such a
file to PyTorch and back restores it byte for byte.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from msgspec import Struct

from converter.choices import Precision, ReferenceChoice
from converter.commands import generated_reverse, parity_check
from converter.commands.arguments import choice, optional_path, to_path, to_weights
from converter.errors import ArtifactError, CheckpointError, ParityError, PrecisionError
from converter.formats import array_comparison, precision
from converter.formats.params import open_params, write_params
from converter.formats.state_dicts import TOP_LEVEL, Location
from converter.manifests import builder, converted_file, converted_weights, target_weights
from converter.manifests.schema import Manifest, ParityRecord
from converter.networks import catalog, detection, state_dicts
from converter.networks.selection import ParamsSource
from converter.parity import runner
from converter.parity.options import ParityOptions
from converter.parity.result import NOT_COMPARED, require_passed
from converter.progress import silent
from converter.sources import params_file
from converter.storage import disk

if TYPE_CHECKING:
    from os import PathLike
    from pathlib import Path

    from converter.formats.file_arrays import Arrays
    from converter.manifests.converted_weights import ConvertedWeights
    from converter.manifests.schema import AnyManifest
    from converter.networks.catalog import Model
    from converter.parity.result import ParityResult
    from converter.progress import Progress

HINT = "select one with --model"


@dataclass(frozen=True, slots=True, kw_only=True)
class ToGluonRequest:
    """What to convert and how.

    Attributes:
        weights: the checkpoint.
        out: the ``.params`` file to write.
        model: the model, None to detect it from the tensors.
        key: the key of the state dict in the checkpoint, None to detect it.
        symbol: the graph of a generated module, None for the one next to the checkpoint.
        options: how to prove the conversion.
        precision: type of the written weights.
        overwrite: whether ``out`` may be replaced.
    """

    weights: Path
    out: Path
    model: Model | None = None
    key: str | None = None
    symbol: Path | None = None
    options: ParityOptions = ParityOptions()
    precision: Precision = Precision.keep
    overwrite: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class ToGluonResult:
    """The written file.

    Attributes:
        name: the name of the model or of the generated module.
        model: the model, None for a generated module.
        sha1: SHA-1 of the file.
        size: size in bytes.
        tensors: number of tensors.
        dtypes: types of the tensors.
        parity: comparison of the file with the checkpoint.
        source_sha1: SHA-1 of the file that the weights were converted from, None if no manifest records it.
        location: where the weights are in the checkpoint.
    """

    name: str
    model: Model | None
    sha1: str
    size: int
    tensors: int
    dtypes: tuple[str, ...]
    parity: ParityRecord
    source_sha1: str | None
    location: Location = TOP_LEVEL

    @property
    def published_sha1(self) -> str | None:
        """SHA-1 of GluonCV's published file of the model, None if there is none."""
        return self.model.entry.params_sha1 or None if self.model else None

    @property
    def is_published(self) -> bool:
        """Whether the file is GluonCV's published one, byte for byte."""
        return self.sha1 == self.published_sha1

    @property
    def is_original(self) -> bool:
        """Whether the file is the one that the weights were converted from, byte for byte."""
        return self.sha1 == self.source_sha1


@dataclass(frozen=True, slots=True, kw_only=True)
class _WrittenParams:
    """A written and proven file, as in ``ToGluonResult``, with its arrays."""

    name: str
    model: Model | None
    params: Arrays
    location: Location
    source_sha1: str | None
    parity: ParityRecord


class Original(Struct, frozen=True, kw_only=True):
    """A file that the written one is compared with: its SHA-1, and whether both are byte-identical."""

    sha1: str | None
    same: bool


class WrittenParams(Struct, frozen=True, kw_only=True):
    """The JSON document of `gluon2torch to-gluon`."""

    model: str
    file: str
    sha1: str
    bytes: int
    tensors: int
    published: Original
    origin: Original
    state_dict: Location
    parity: ParityRecord


def to_gluon(  # noqa: PLR0913 - the options of the command
    weights: str | PathLike[str],
    out: str | PathLike[str],
    *,
    model: str | None = None,
    key: str | None = None,
    symbol: str | PathLike[str] | None = None,
    dtype: str = "keep",
    overwrite: bool = False,
    options: ParityOptions = ParityOptions(),
    progress: Progress = silent,
) -> ToGluonResult:
    """Write a PyTorch checkpoint as a ``.params`` file that GluonCV loads, and prove it.

    Nothing appears at ``out`` unless every step succeeds.

    Args:
        weights: ``.safetensors`` or ``.pth`` file, or a folder that contains one.
        out: the ``.params`` file to write.
        model: the model's name; by default it is detected from the tensors.
        key: the key of the state dict in a ``.pth``, with dots between nested keys; by default it is
            detected.
        symbol: graph of a generated module, for the proof; by default the one next to the checkpoint.
        dtype: type of the written weights: "keep", "float32", "float16" or "bfloat16".
        overwrite: whether ``out`` may be replaced.
        options: how to prove the conversion.
        progress: called with a step, the amount done and the total.

    Raises:
        UsageError: if an argument is not valid.
        ConversionError: if a step fails; each kind of failure has its own subclass.
    """
    request = ToGluonRequest(
        weights=to_weights(weights),
        out=to_path(out),
        model=None if model is None else catalog.find(model),
        key=key,
        symbol=optional_path(symbol),
        options=options,
        precision=choice(Precision, "dtype", dtype),
        overwrite=overwrite,
    )
    return run(request, progress)


def run(request: ToGluonRequest, progress: Progress = silent) -> ToGluonResult:
    """Run a conversion to Gluon.

    Raises:
        ConversionError: if a step fails.
    """
    _require_free(request)
    runner.resolve_reference(request.options)  # refuses, before any work, a reference that cannot run
    with disk.temporary(request.out.parent) as part:
        with disk.unchanged(request.weights):
            converted = converted_weights.find(request.weights, request.key)
            if converted is not None:  # with another network's names or settings, also if a model is named
                target_weights.refuse(request.weights, converted.target)
            if converted is not None and request.model is None:
                written = _write_generated(request, part, converted)
            else:
                written = _write_native(request, part, progress)
        sha1, size = params_file.sha1(part, progress), part.stat().st_size
        disk.place(part, request.out, overwrite=request.overwrite)
    return ToGluonResult(
        name=written.name,
        model=written.model,
        sha1=sha1,
        size=size,
        tensors=len(written.params),
        dtypes=tuple(dict.fromkeys(str(array.dtype) for array in written.params.values())),
        parity=written.parity,
        source_sha1=written.source_sha1,
        location=written.location,
    )


def document(result: ToGluonResult, out: Path) -> WrittenParams:
    """Return the JSON document."""
    return WrittenParams(
        model=result.name,
        file=disk.file_name(out),
        sha1=result.sha1,
        bytes=result.size,
        tensors=result.tensors,
        published=Original(sha1=result.published_sha1, same=result.is_published),
        origin=Original(sha1=result.source_sha1, same=result.is_original),
        state_dict=result.location,
        parity=result.parity,
    )


def _write_native(request: ToGluonRequest, part: Path, progress: Progress) -> _WrittenParams:
    """Write and prove a checkpoint of a named network."""
    manifest = converted_file.find_manifest(request.weights)
    model, params, location = _write(request, part, manifest)
    return _WrittenParams(
        name=model.name,
        model=model,
        params=params,
        location=location,
        source_sha1=manifest.source.sha1 if isinstance(manifest, Manifest) else None,
        parity=builder.parity(_prove(request, model, part, progress)),
    )


def _write_generated(request: ToGluonRequest, part: Path, weights: ConvertedWeights) -> _WrittenParams:
    """Write and prove the weights of a generated module."""
    manifest = weights.manifest
    params = generated_reverse.params(weights, str(request.weights), request.precision)
    _write_params(request, part, params)
    return _WrittenParams(
        name=manifest.model,
        model=None,
        params=params,
        location=weights.location,
        source_sha1=manifest.source.sha1 if weights.converted else None,
        parity=generated_reverse.prove(part, request.weights, manifest, request.symbol, request.options),
    )


def _write(
    request: ToGluonRequest, part: Path, manifest: AnyManifest | None
) -> tuple[Model, Arrays, Location]:
    """Write the arrays to a file; return their model, the arrays by Gluon names, and their location."""
    checkpoint = state_dicts.read(request.weights, request.key)
    arrays = checkpoint.arrays
    model = request.model or _identify(arrays, str(request.weights))
    model = detection.with_config_of(model, arrays, allow_headless=True)
    model = converted_file.with_recorded_stride(model, manifest)
    gluon_arrays = state_dicts.to_gluon(model, arrays, str(request.weights))
    params = precision.cast(gluon_arrays, request.precision)
    if not precision.lossless(gluon_arrays, params):
        raise PrecisionError(
            f"{request.weights}: these weights do not fit {request.precision} without rounding"
        )
    _write_params(request, part, params)
    return model, params, checkpoint.location


def _write_params(request: ToGluonRequest, part: Path, params: Arrays) -> None:
    with disk.writing(request.out), part.open("wb") as stream:
        write_params(stream, params)
    _require_reads_back(part, params)


def _require_free(request: ToGluonRequest) -> None:
    """Refuse to overwrite the checkpoint itself, and other files unless ``overwrite`` is set."""
    disk.require_other(request.out, (request.weights,))
    disk.require_free(request.out, overwrite=request.overwrite)


def _identify(arrays: Arrays, file: str) -> Model:
    if any(name.endswith("gamma") for name in arrays):
        raise CheckpointError(
            f"{file}: has Gluon's parameter names already; to convert it: convert auto OUT --params {file}"
        )
    return detection.require_one(detection.match_torch(arrays), arrays.values(), file, hint=HINT)


def _require_reads_back(part: Path, params: Arrays) -> None:
    arrays = open_params(part).arrays
    differences = (
        array_comparison.compare(name, arrays[name], array)
        for name, array in params.items()
        if name in arrays
    )
    if list(arrays) != list(params) or any(differences):
        raise ArtifactError("read-back check failed: the file differs from what was written")


def _prove(request: ToGluonRequest, model: Model, part: Path, progress: Progress) -> ParityResult:
    """Compare the written file, read by the reference, with the checkpoint in our module."""
    if request.options.reference == ReferenceChoice.none:
        return NOT_COMPARED
    has_head = model.config.num_classes > 0
    source = ParamsSource(
        model if has_head else model.with_config(num_classes=1),
        part,
        search_graph=False,  # graphs in the folder are unrelated
        backbone=not has_head,
        output_stride=model.config.output_stride,
    )
    comparison = parity_check.run(
        parity_check.ComparisonRequest(
            source=source, weights=request.weights, key=request.key, options=request.options
        ),
        progress,
    )
    if comparison.tensors:
        raise ParityError("\n  ".join(["tensors differ", *map(str, comparison.tensors)]))
    require_passed(comparison.proof, comparison.diagnosis)
    return comparison.proof
