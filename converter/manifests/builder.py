"""Build the manifest of an artifact from its source, mapping and proof, without timestamps."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import PurePath
from typing import TYPE_CHECKING

import msgspec

from converter import __version__, names
from converter.errors import ArtifactError, StorageError
from converter.manifests import schema, strength
from converter.manifests.schema import (
    ArtifactRecord,
    CheckRecord,
    ExportRecord,
    LogitsRecord,
    Manifest,
    MappingRecord,
    ModelArguments,
    NewerManifestError,
    ParityRecord,
    PthRecord,
    RoundingRecord,
    WorstLayerRecord,
)
from converter.manifests.source_records import HubRecord, PreprocessingRecord, SourceRecord, WrappingRecord
from converter.parity.result import NOT_COMPARED

if TYPE_CHECKING:
    from pathlib import Path

    from converter.manifests.strength import Claim
    from converter.networks.catalog import Model
    from converter.networks.loading import LoadedModel
    from converter.networks.preparation import ExportedNormalization
    from converter.networks.wrappings import Wrapping
    from converter.parity.result import ParityResult, ProbeResult
    from converter.parity.rounding import RoundingReport


@dataclass(frozen=True, slots=True, kw_only=True)
class WrittenFile:
    """A written file: its final name, SHA-256 and size in bytes."""

    name: str
    sha256: str
    size: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Output:
    """What a conversion wrote.

    Attributes:
        artifact: the ``.safetensors``.
        dtypes: types of the weights in it.
        pth: the ``.pth`` next to it, None if none was written.
        exports: the exported files next to it.
        labels: class names.
    """

    artifact: WrittenFile
    dtypes: tuple[str, ...]
    pth: WrittenFile | None = None
    exports: tuple[ExportRecord, ...] = ()
    labels: tuple[str, ...] = ()


def build(
    loaded: LoadedModel, output: Output, proof: ParityResult, rounding: RoundingReport | None
) -> Manifest:
    """Build the manifest of an artifact.

    Args:
        loaded: the parameters and their model.
        output: what was written.
        proof: comparison of the weights; if they were rounded, of the weights before rounding.
        rounding: effect of rounding on the logits, None if the weights were not rounded.
    """
    model, artifact, pth = loaded.model, output.artifact, output.pth
    return Manifest(
        model=model.name,
        source=_source(loaded),
        mapping=MappingRecord(file=loaded.mapping.file, sha256=loaded.mapping.sha256),
        artifact=ArtifactRecord(
            file=artifact.name,
            sha256=artifact.sha256,
            bytes=artifact.size,
            dtypes=output.dtypes,
            tensors=len(model.shapes),
            parameters=model.parameters,
            pth=PthRecord(file=pth.name, sha256=pth.sha256, bytes=pth.size) if pth else None,
            exports=output.exports,
        ),
        parity=parity(proof if rounding is None else NOT_COMPARED),
        labels=output.labels or None,
        model_args=msgspec.convert(model.arguments, ModelArguments) if model.arguments else None,
        version=__version__,
        narrowing=_rounding(rounding, proof) if rounding else None,
        schema_version=schema.VERSION,
    )


def _source(loaded: LoadedModel) -> SourceRecord:
    source = loaded.source
    file, graph = source.params_file, source.graph
    return SourceRecord(
        file=file.name,
        sha1=file.sha1,
        official=file.is_published(loaded.model.published),
        archive=file.archive,
        container=source.content.container,
        records=tuple(source.content.records),
        dialect=source.naming.dialect,
        symbol=graph.name if graph else None,
        symbol_sha256=hashlib.sha256(graph.content).hexdigest() if graph else None,
        final_softmax=source.wiring.softmax if source.wiring else None,
        fixed_gammas=tuple(names.collapse(source.fixed_gammas)),
        casts=source.wiring is not None and source.wiring.casts,
        wrapping=wrapping(source.wrapping, source.twins, loaded.model),
        preprocessing=preprocessing(source.preprocessing),
        hub=HubRecord(repository=file.hub.repository, revision=file.hub.revision) if file.hub else None,
    )


def wrapping(found: Wrapping | None, twins: tuple[str, ...], model: Model) -> WrappingRecord | None:
    """Return how a file differs from GluonCV's own, None if it does not."""
    if found is None and not twins:
        return None
    description = found.describe() if found else model.name
    if twins:
        description += ", with equal arrays under arg: and aux:"
    return WrappingRecord(
        description=description,
        unused=tuple(names.collapse([*(found.rest if found else ()), *twins])),
        zeros=found.zeros if found else (),
    )


def preprocessing(found: ExportedNormalization | None) -> PreprocessingRecord | None:
    """Return the record of the normalization that was exported with a network, None if there is none."""
    return None if found is None else PreprocessingRecord(mean=found.mean, std=found.std)


def parity(proof: ParityResult) -> ParityRecord:
    """Return the record of a proof."""
    return ParityRecord(
        proven=proof.passed,
        reference=proof.reference,
        versions=proof.versions,
        checks=tuple(_check(check) for check in proof.checks),
        definition=proof.definition,
    )


def _check(check: ProbeResult) -> CheckRecord:
    logits, worst = check.rows[-1], check.worst
    return CheckRecord(
        dtype=check.probe.dtype,
        size=check.probe.label,
        seed=check.probe.seed,
        limit=check.limit,
        layers=len(check.rows),
        max_abs=logits.max_abs,
        relative=logits.relative,
        worst=WorstLayerRecord(layer=worst.layer.source, relative=worst.relative, limit=worst.limit),
    )


def _rounding(rounding: RoundingReport, proof: ParityResult) -> RoundingRecord:
    return RoundingRecord(
        dtype=rounding.precision.value,
        before=parity(proof),
        logits=LogitsRecord(
            dtype=rounding.probe.dtype,
            size=rounding.probe.label,
            seed=rounding.probe.seed,
            max_abs=rounding.max_abs,
            relative=rounding.relative,
        ),
    )


def require_no_loss(path: Path, manifest: Manifest) -> None:
    """Refuse to replace a manifest of the same bytes that has a stronger proof, more files or labels.

    Raises:
        ArtifactError: if any of these would be lost, or if the manifest is of another network with these
            weights or has a newer schema.
    """
    try:
        previous, _ = schema.read(path)
    except NewerManifestError:
        raise
    except (ArtifactError, StorageError):
        return  # no manifest that could be lost
    loss = []
    if previous.model_args != manifest.model_args:
        arguments = msgspec.to_builtins(previous.model_args) or {}
        listing = ", ".join(f"{name}={value}" for name, value in arguments.items())
        loss.append(f"the model arguments {listing}" if listing else "the default model arguments")
    if (previous.target and previous.target.identity) != (manifest.target and manifest.target.identity):
        loss.append("another target, other arguments or other settings")
    final, before = _claims(manifest.parity), _claims(_before(manifest))
    lost = (_claims(previous.parity) - final) | (_claims(_before(previous)) - final - before)
    if lost:
        loss.append(f"a proof in {' and '.join(map(str, sorted(strength.strongest(lost))))}")
    if previous.artifact.pth and not manifest.artifact.pth:
        loss.append("a .pth")
    exported = {PurePath(record.file).suffix for record in previous.artifact.exports}
    exported -= {PurePath(record.file).suffix for record in manifest.artifact.exports}
    loss += [f"a {suffix}" for suffix in sorted(exported)]
    if previous.labels and manifest.labels != previous.labels:
        loss.append("class names")
    normalization = previous.source.preprocessing
    if normalization and normalization != manifest.source.preprocessing:
        loss.append("an exported normalization")
    if loss:
        listing = " and ".join(loss)
        raise ArtifactError(
            f"{path}: already describes the same weights with {listing}, which this run would discard\n"
            "repeat the earlier run's options (--reference, --format, --labels, --output-stride, --target), "
            "or choose another folder"
        )


def _before(manifest: Manifest) -> ParityRecord:
    """Return the proof of the weights before rounding; an empty one if they were not rounded."""
    return manifest.narrowing.before if manifest.narrowing else parity(NOT_COMPARED)


def _claims(proof: ParityRecord) -> set[Claim]:
    """Return what a proof claims: agreement with which reference, in which precision, at any input size."""
    return strength.without_sizes(strength.claims(proof))
