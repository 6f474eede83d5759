"""Check that a parity report is about the weights that it is published with."""

from __future__ import annotations

from typing import TYPE_CHECKING

from converter.choices import ReferenceChoice
from converter.errors import PublicationError
from converter.manifests.schema import TrainedManifest
from converter.parity import graph_rows, report
from converter.parity.result import LAYER_LIMITS, LIMITS
from converter.storage import disk

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from converter.manifests.converted_file import ConvertedFile
    from converter.manifests.schema import Manifest
    from converter.networks.catalog import Model
    from converter.parity.json_report import CheckRow, Document


def read(path: Path, converted_files: Iterable[ConvertedFile]) -> bytes:
    """Read a parity report of these weights.

    Raises:
        ReportError: if the file is not a report.
        PublicationError: if it is about other weights, or if they differ.
        StorageError: if it cannot be read.
    """
    page = disk.read_small(path, report.MAX_BYTES)
    document = report.parse(page, path)
    for converted in converted_files:
        _require_match(path, document, converted)
    return page


def _require_match(path: Path, document: Document, converted: ConvertedFile) -> None:
    manifest, model = converted.manifest, converted.model
    if isinstance(manifest, TrainedManifest):
        raise PublicationError(f"{path}: not a report of {converted.path.name}, which was trained further")
    agrees = _agrees(document, manifest.artifact.tensors if model is None else len(model.mapping.tensors))
    if agrees:
        agrees = all(
            _agrees_with_graph(check, manifest) if model is None else _check_agrees(check, model)
            for check in document.checks
        )
    pairs = [
        ("model", manifest.model, document.model),
        ("result", "agrees", "agrees" if agrees else "differs"),
        ("SHA-256 of the graph", str(manifest.source.symbol_sha256), str(document.source.symbol_sha256)),
        ("SHA-1 of the parameters", manifest.source.sha1, document.source.sha1),
    ]
    # A report on the conversion itself, without a file, is about weights that were not rounded.
    if document.weights is not None or manifest.narrowing is not None:
        actual = document.weights.sha256 if document.weights else "weights that were not rounded"
        pairs.append(("SHA-256 of the weights", manifest.artifact.sha256, actual))
    for what, expected, actual in pairs:
        if expected != actual:
            raise PublicationError(
                f"{path}: not a report of {converted.path.name}: {what}: expected {expected}, found {actual}"
            )


def _agrees(document: Document, tensors: int) -> bool:
    """Return whether the numbers of a report confirm its verdict."""
    return (
        document.agrees
        and document.reference.name != ReferenceChoice.none
        and document.tensors.compared == tensors
        and not (document.tensors.different or document.vacuous_layers or document.diagnosis)
        and bool(document.checks)
    )


def _agrees_with_graph(check: CheckRow, manifest: Manifest) -> bool:
    """Return whether every decisive output of a graph agrees within our own limit.

    The manifest says whether MXNet computes some nodes in float32 only, and whether outputs are not decisive.
    """
    if check.dtype not in LAYER_LIMITS:
        return False
    nodes = [each.nodes for each in manifest.parity.checks if each.nodes]
    limit = graph_rows.limit(check.dtype, single=any(each.single for each in nodes))
    may_differ = any(each.undecided for each in nodes)
    return (
        check.agrees
        and any(row.decisive for row in check.layers)
        and all(
            row.agrees and row.relative is not None and 0 <= row.relative <= limit
            for row in check.layers
            if row.decisive or not may_differ
        )
    )


def _check_agrees(check: CheckRow, model: Model) -> bool:
    """Return whether every layer of the model was compared once, and agrees."""
    layers = model.mapping.layers
    limits = {layer.target: LAYER_LIMITS.get(check.dtype, 0) for layer in layers}
    limits[layers[-1].target] = LIMITS.get(check.dtype, 0)
    compared = sorted((row.source, row.target) for row in check.layers)
    return (
        check.agrees
        and compared == sorted((layer.source, layer.target) for layer in layers)
        and all(
            row.agrees and row.relative is not None and 0 <= row.relative <= limits[row.target]
            for row in check.layers
        )
    )
