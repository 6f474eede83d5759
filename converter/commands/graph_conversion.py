"""Converts any MXNet graph: a generated module, its weights, the proof and a manifest."""

from __future__ import annotations

import ast
import contextlib
import hashlib
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from converter import names
from converter.commands import graph_parameters
from converter.commands.arguments import to_path
from converter.errors import MappingError, ReferenceUnavailableError, SymbolError, UsageError
from converter.formats import artifact, precision
from converter.formats.detect import GRAPH_SUFFIX
from converter.formats.params import open_params
from converter.graphs import codegen, pruning, reader, rewriting
from converter.manifests import graph_builder, schema
from converter.manifests.builder import WrittenFile
from converter.manifests.graph_builder import GraphSource
from converter.parity import graph_proof, runner
from converter.parity.graph_proof import ConvertedGraph
from converter.parity.options import ParityOptions
from converter.progress import silent
from converter.sources import params_file
from converter.storage import disk

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from os import PathLike
    from pathlib import Path

    from converter.dtypes import Array
    from converter.formats.artifact import ArtifactDraft
    from converter.formats.file_arrays import Arrays
    from converter.graphs.graph import Graph
    from converter.manifests.schema import Manifest, ParityRecord
    from converter.parity.graph_proof import GraphProof
    from converter.parity.runner import ReferencePlan
    from converter.progress import Progress
    from converter.references import ReferenceName
    from converter.sources.params_file import ParamsFile


@dataclass(frozen=True, slots=True, kw_only=True)
class GraphConversionResult:
    """The written files and the manifest."""

    artifact: Path
    module: Path
    manifest_file: Path
    manifest: Manifest


@dataclass(frozen=True, slots=True, kw_only=True)
class _Loaded:
    """A graph with its parameters, and the module generated from it.

    Attributes:
        source: the graph as it was read, and the parameters.
        converted: the graph and the module.
        arrays: the parameters by variable, in the types of the file.
    """

    source: GraphSource
    converted: ConvertedGraph
    arrays: Arrays


def convert_graph(  # noqa: PLR0913 - the options of the command
    graph: str | PathLike[str],
    out: str | PathLike[str],
    *,
    params: str | PathLike[str],
    output: str | None = None,
    options: ParityOptions = ParityOptions(),
    progress: Progress = silent,
) -> GraphConversionResult:
    """Convert a graph to a PyTorch module and prove it; nothing appears in ``out`` if a step fails.

    Args:
        graph: the ``-symbol.json`` file.
        out: output folder, created if it does not exist.
        params: its ``.params`` file, or an archive of one.
        output: the name of a node; the network then ends in it.
        options: how to prove the conversion.
        progress: called with a step, the amount done and the total.

    Raises:
        UsageError: if the graph has other inputs than one image, and a proof is requested.
        ConversionError: if a step fails; each kind of failure has its own subclass.
    """
    folder = to_path(out)
    plan = runner.resolve_reference(options)
    disk.require_writable(folder)
    original = reader.read(to_path(graph))
    casts = rewriting.casts(original)
    whole = rewriting.bypass(original, casts) if casts else original
    pruned = pruning.prune(whole, output)
    with disk.temp_dir() as unpacked:
        file = params_file.from_file(to_path(params), unpacked, progress)
        loaded = _load(original, whole, pruned, file)
        state = dict(graph_proof.state_arrays(loaded.converted.module, loaded.arrays))
        with artifact.draft(folder, state, progress) as draft:
            artifact.verify(draft, state)
            record = _prove(loaded, plan, progress)
            params_file.require_unchanged(file)
            return _publish(folder, loaded, draft, record)


def _load(original: Graph, whole: Graph, pruned: pruning.InferenceGraph, file: ParamsFile) -> _Loaded:
    params = open_params(file.path, name=str(file.user_path))
    variables = {name: graph_parameters.PREFIX.sub("", name, count=1) for name in params.arrays}
    matched = graph_parameters.match(pruned.graph, params.arrays, str(file.user_path))
    shapes = {name: tuple(array.shape) for name, array in matched.items()}
    module = codegen.generate(pruned.graph, shapes, whole.name)
    _require_valid(module.source, whole.file)
    _require_finite(matched, str(file.user_path))
    parameters = {name: precision.widen(array) for name, array in matched.items()}
    return _Loaded(
        source=GraphSource(
            graph=original,
            file=file,
            params=params,
            variables=variables,
            has_casts=original is not whole,
        ),
        converted=ConvertedGraph(whole=whole, pruned=pruned, module=module, parameters=parameters),
        arrays=matched,
    )


def _require_valid(source: str, file: str) -> None:
    """Check that the source is valid Python.

    Raises:
        SymbolError: if it is not.
    """
    try:
        ast.parse(source)
    except SyntaxError as error:
        raise SymbolError(
            f"{file}: the generated source is not valid Python, which is a bug: {error}"
        ) from error


def _require_finite(parameters: Arrays, file: str) -> None:
    """Check that all parameters are finite.

    Raises:
        MappingError: with every parameter that is not.
    """
    if infinite := [name for name, array in parameters.items() if not np.isfinite(np.asarray(array)).all()]:
        lines = [f"{file}: these parameters contain NaN or infinity", *names.collapse(infinite)]
        raise MappingError("\n  ".join(lines))


def _prove(loaded: _Loaded, plan: ReferencePlan | None, progress: Progress) -> ParityRecord:
    """Compare the module with MXNet, or with the graph on arrays.

    Raises:
        ParityError: if they differ.
    """
    if plan is None:
        return graph_builder.UNPROVEN
    converted = loaded.converted
    runs = [(probe.dtype, _inputs(converted, probe.size, probe.dtype)) for probe in plan.probes]
    progress("proving", 1, 2)
    proof, reference = _run_proof(converted, runs, plan)
    proof.require()
    progress("proving", 2, 2)
    return graph_builder.parity(proof, reference, runs)


def _run_proof(
    converted: ConvertedGraph, runs: Sequence[tuple[str, Mapping[str, Array]]], plan: ReferencePlan
) -> tuple[GraphProof, ReferenceName]:
    """Return the comparison, and what it was with."""
    if plan.python is not None:
        try:
            return graph_proof.prove(converted, runs, plan.python), "gluon"
        except ReferenceUnavailableError:
            if not plan.fallback:
                raise
    return graph_proof.prove_on_arrays(converted, runs), "numpy"


def _inputs(converted: ConvertedGraph, size: tuple[int, int], dtype: str) -> dict[str, Array]:
    """Return a random image for the only input of a graph."""
    graph, module = converted.pruned.graph, converted.module
    if len(module.inputs) != 1:
        raise UsageError(
            f"{graph.file}: cannot be proven: its inputs are {', '.join(module.inputs) or '(none)'}\n"
            "  expected  one image\n"
            "  try       --reference none writes the files without a proof",
            "reference",
        )
    shapes = {name: array.shape for name, array in converted.parameters.items()}
    (name,) = module.inputs
    generator = np.random.Generator(np.random.PCG64(0))
    shape = (1, graph_parameters.channels(graph, name, shapes), *size)
    return {name: generator.standard_normal(shape).astype(dtype)}


def _publish(
    folder: Path, loaded: _Loaded, draft: ArtifactDraft, parity: ParityRecord
) -> GraphConversionResult:
    """Give the files their final names, unless that would overwrite an input."""
    converted, file = loaded.converted, loaded.source.file
    stem = name(converted.whole.name)
    source = converted.module.source.encode()
    weights, code = folder / artifact.file_name(stem, draft.sha256), folder / f"{stem}.py"
    written = (
        WrittenFile(name=weights.name, sha256=draft.sha256, size=draft.size),
        WrittenFile(name=code.name, sha256=hashlib.sha256(source).hexdigest(), size=len(source)),
    )
    manifest = graph_builder.build(loaded.source, converted, written, draft.dtypes, parity)
    manifest_file = weights.with_suffix(".json")
    for path in (weights, manifest_file, code):
        disk.require_other(path, (file.user_path, converted.whole.path))
    with _temporary(folder, source) as temporary, disk.locked(folder):
        artifact.publish(draft, weights, schema.encode(manifest), {temporary: code})
    return GraphConversionResult(
        artifact=weights, module=code, manifest_file=manifest_file, manifest=manifest
    )


@contextlib.contextmanager
def _temporary(folder: Path, content: bytes) -> Iterator[Path]:
    with disk.temporary(folder) as path:
        with disk.writing(folder):
            path.write_bytes(content)
        yield path


def name(file: str) -> str:
    """Return the name of the module of a graph's file: an identifier, without MXNet's suffix."""
    stem = file.removesuffix(GRAPH_SUFFIX).removesuffix(".json")
    return re.sub(r"[^A-Za-z0-9_]+", "_", stem)[:100].strip("_") or "network"
