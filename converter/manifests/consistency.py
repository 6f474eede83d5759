"""Refuse manifests that contradict themselves."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from msgspec import UNSET

from converter.errors import ArtifactError
from converter.formats import labels
from converter.manifests.schema import EXISTING, GENERATED, NATIVE, TrainedManifest
from converter.parity.graph_rows import REWRITING_LIMIT, SINGLE_LIMIT
from converter.parity.result import GRAPH, LARGEST, LAYER_LIMITS, LIMITS, SMALLEST

if TYPE_CHECKING:
    from pathlib import Path

    from converter.manifests.schema import AnyManifest, CheckRecord, Manifest, RoundingRecord


def require_consistent(path: Path, manifest: AnyManifest) -> None:
    """Refuse a manifest that contradicts itself: a proof without checks, or beyond its own limits.

    Raises:
        ArtifactError: if the manifest contradicts itself.
        LabelsError: if the class names are not valid.
    """
    labels.require_valid(manifest.labels or (), str(path))
    if isinstance(manifest, TrainedManifest):
        _require_training(path, manifest)
        return
    _require_kind(path, manifest)
    for check in manifest.parity.checks:
        _require_inputs(path, manifest, check)
    if manifest.source.symbol is None and (manifest.source.final_softmax or manifest.source.fixed_gammas):
        raise ArtifactError(f"{path}: describes a graph but names none")
    if manifest.parity.proven:
        _require_proof(path, manifest)
        for check in manifest.parity.checks:
            _require_passed(path, check, *_limits(manifest, check))
            _require_nodes(path, manifest, check)
    if manifest.narrowing is not None:
        _require_rounding(path, manifest, manifest.narrowing)


def _require_training(path: Path, manifest: TrainedManifest) -> None:
    """Refuse impossible metrics, and a base of another model.

    Raises:
        ArtifactError: if the manifest contradicts itself.
    """
    training = manifest.training
    base, metrics = training.base, training.metrics
    if not math.isfinite(metrics.loss) or metrics.top1 > metrics.top5:
        raise ArtifactError(
            f"{path}: contradictory metrics: loss {metrics.loss}, top-1 {metrics.top1}, top-5 {metrics.top5}"
        )
    if manifest.labels is not None and len(manifest.labels) != training.classes:
        raise ArtifactError(f"{path}: {training.classes} classes, but {len(manifest.labels)} class names")
    if manifest.artifact.pth or manifest.artifact.exports:
        raise ArtifactError(f"{path}: a trained file has no .pth and no exported files")
    if base is not None and base.model != manifest.model:
        raise ArtifactError(f"{path}: {manifest.model} cannot be trained from weights of {base.model}")
    if base is not None and base.official and (base.random or base.trained or base.source_sha1 is None):
        raise ArtifactError(f"{path}: its base cannot be GluonCV's published file")


def _require_kind(path: Path, manifest: Manifest) -> None:
    """Refuse a manifest without the parts of its kind, or with those of another.

    Raises:
        ArtifactError: if a part is missing, belongs to another kind, or names a tensor twice.
    """
    source = manifest.source
    native: list[object] = [manifest.mapping]
    options = [
        manifest.model_args,
        manifest.narrowing,
        manifest.labels,
        source.wrapping,
        source.preprocessing,
        None if source.network else source.official or None,
    ]
    graph: list[object] = [source.graph, source.symbol_sha256]
    required: list[object] = native
    others: list[object] = [
        manifest.module,
        manifest.target,
        source.graph,
        source.network,
        manifest.names or None,
    ]
    if manifest.kind == GENERATED:
        required, others = [manifest.module, *graph], [manifest.target, *native, *options]
    elif manifest.kind == EXISTING:
        required, others = [manifest.target, *graph], [manifest.module, *native, *options]
        if manifest.target and manifest.target.table and not manifest.parity.proven:
            required = [manifest.target]  # by a table, without a graph
    if None in required or any(part is not None for part in others):
        raise ArtifactError(f"{path}: does not have exactly the parts of a {manifest.kind} network")
    if manifest.module is not None and manifest.module.file != f"{manifest.model}.py":
        raise ArtifactError(f"{path}: describes {manifest.model}, but its module is {manifest.module.file}")
    if manifest.kind == EXISTING and not manifest.names:
        raise ArtifactError(f"{path}: names no tensor")
    for names in zip(*((names.source, names.target) for names in manifest.names), strict=True):
        if len({*names}) < len(names):
            raise ArtifactError(f"{path}: names a tensor twice")


def _require_inputs(path: Path, manifest: Manifest, check: CheckRecord) -> None:
    """Refuse a check without a size, or of another size than an image's.

    Raises:
        ArtifactError: if the size or the shapes of the inputs are missing or not valid.
    """
    if manifest.kind != NATIVE:
        names = manifest.source.graph.inputs if manifest.source.graph else ()
        shapes = check.inputs or {}
        if (
            check.size
            or shapes.keys() != set(names)
            or any(side < 1 for sides in shapes.values() for side in sides)
        ):
            raise ArtifactError(f"{path}: inputs of a proof: expected {', '.join(names)}, found {shapes}")
        return
    sides = [int(side) for side in (check.size or "").split("x") if side]
    if check.inputs or not sides or not all(SMALLEST <= side <= LARGEST for side in sides):
        raise ArtifactError(
            f"{path}: size of a proof: expected {SMALLEST} to {LARGEST} pixels, found {check.shape}"
        )


def _require_nodes(path: Path, manifest: Manifest, check: CheckRecord) -> None:
    """Refuse a comparison node by node of a module that was not generated.

    Raises:
        ArtifactError: if there is one.
    """
    if manifest.kind == EXISTING and check.nodes is not None:
        raise ArtifactError(f"{path}: claims a comparison of the nodes of a module that was not generated")


def _limits(manifest: Manifest, check: CheckRecord) -> tuple[float, float]:
    """Return our limits of the layers and of the logits, which are the same for a graph."""
    layers = LAYER_LIMITS.get(check.dtype, 0)
    if manifest.kind == NATIVE:
        return layers, LIMITS.get(check.dtype, 0)
    single = check.nodes is not None and bool(check.nodes.single)
    single = single or (manifest.target is not None and bool(manifest.target.single))
    limit = max(layers, SINGLE_LIMIT) if single and layers else layers
    return limit, limit


def _require_rounding(path: Path, manifest: Manifest, rounding: RoundingRecord) -> None:
    """Refuse a rounding to another type than the weights have, or a contradictory proof before it.

    Raises:
        ArtifactError: if the manifest contradicts itself.
    """
    if rounding.dtype not in manifest.artifact.dtypes:
        dtypes = " and ".join(manifest.artifact.dtypes)
        raise ArtifactError(f"{path}: claims rounding to {rounding.dtype}, but the weights are {dtypes}")
    if not (rounding.logits.max_abs >= 0 and rounding.logits.relative >= 0):
        raise ArtifactError(f"{path}: contradictory numbers of the rounding")
    if rounding.before.proven:
        if not rounding.before.checks:
            raise ArtifactError(f"{path}: claims a proof before rounding but lists no checks")
        for check in rounding.before.checks:
            _require_passed(path, check, *_limits(manifest, check))


def _require_proof(path: Path, manifest: Manifest) -> None:
    """Refuse a proof with missing, contradictory or duplicate entries.

    Raises:
        ArtifactError: if an entry is missing, contradicts the manifest or occurs twice.
    """
    proof = manifest.parity
    if proof.reference == "none":
        raise ArtifactError(f"{path}: claims a proof but names no reference")
    if not proof.checks:
        raise ArtifactError(f"{path}: claims a proof but lists no checks")
    if manifest.narrowing is not None:
        raise ArtifactError(f"{path}: claims a proof of weights that were rounded afterwards")
    if proof.definition and (proof.definition == GRAPH) != (manifest.source.symbol is not None):
        raise ArtifactError(
            f"{path}: claims a proof against {proof.definition}, but its graph is {manifest.source.symbol}"
        )
    if manifest.source.symbol_sha256 and proof.definition != GRAPH:
        raise ArtifactError(f"{path}: has a graph, but its proof is not against the graph")
    packages = {"numpy", "torch", *(("mxnet", "gluoncv") if proof.reference == "gluon" else ())}
    if absent := sorted(packages - proof.versions.keys()):
        raise ArtifactError(f"{path}: claims a proof without the version of {' and '.join(absent)}")
    if proof.replaced is not UNSET and not 0 <= proof.replaced.relative <= REWRITING_LIMIT:
        operators = ", ".join(proof.replaced.operators)
        raise ArtifactError(
            f"{path}: claims a proof, but the operators in place of {operators} differ by "
            f"{proof.replaced.relative:.1e}; expected at most {REWRITING_LIMIT:.0e}"
        )
    if len({(check.dtype, check.shape, check.seed) for check in proof.checks}) < len(proof.checks):
        raise ArtifactError(f"{path}: lists the same check twice")


def _require_passed(path: Path, check: CheckRecord, layer_limit: float, limit: float) -> None:
    """Refuse a check that exceeds its own limits or ours.

    Raises:
        ArtifactError: if a limit is exceeded or the numbers contradict each other.
    """
    run = f"in {check.dtype} at {check.shape}"
    layer_limit = min(check.worst.limit, layer_limit)
    if not (check.layers > 0 and 0 <= check.worst.relative <= layer_limit):
        raise ArtifactError(
            f"{path}: claims a proof, but {check.worst.layer} differs by {check.worst.relative:.1e} {run}; "
            f"expected at most {layer_limit:.0e}"
        )
    if not (0 <= check.relative <= limit and check.max_abs >= 0):
        raise ArtifactError(
            f"{path}: claims a proof, but the logits differ by {check.relative:.1e} {run}; "
            f"expected at most {limit:.0e}"
        )
    nodes, is_graph = check.nodes, check.inputs is not None
    if nodes and not (nodes.compared > 0 and 0 <= nodes.relative <= min(nodes.limit, limit)):
        raise ArtifactError(
            f"{path}: claims a proof, but {nodes.node} differs by {nodes.relative:.1e} {run} on its own"
        )
    if (check.limit > limit if is_graph else check.limit != limit) or (check.max_abs > 0) != (
        check.relative > 0
    ):
        raise ArtifactError(f"{path}: contradictory numbers {run}")
