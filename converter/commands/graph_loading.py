"""Loads any MXNet graph with its parameters, generates its module and proves it."""

from __future__ import annotations

import ast
import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from converter import names
from converter.choices import ReferenceChoice
from converter.commands import graph_parameters
from converter.errors import MappingError, ReferenceFailedError, ReferenceUnavailableError, SymbolError
from converter.formats import precision
from converter.formats.params import open_params
from converter.graphs import codegen, pruning, rewriting
from converter.manifests import graph_builder
from converter.manifests.graph_builder import ConvertedSource
from converter.parity import graph_inputs, graph_proof
from converter.parity.graph_proof import ConvertedGraph
from converter.progress import silent
from converter.sources import params_file

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from converter.formats.file_arrays import Arrays
    from converter.graphs.graph import Graph
    from converter.manifests.schema import ParityRecord
    from converter.manifests.source_records import SourceRecord
    from converter.networks.recorded_parameters import MatchedNetwork
    from converter.parity.graph_outputs import Run
    from converter.parity.graph_proof import Side
    from converter.parity.graph_rows import GraphProof
    from converter.parity.options import ParityOptions
    from converter.parity.runner import ReferencePlan
    from converter.progress import Progress
    from converter.references import ReferenceName
    from converter.sources.params_file import ParamsFile


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenedGraph:
    """A graph.

    Attributes:
        original: as it was read.
        whole: without casts between floating types.
        pruned: its part for inference.
    """

    original: Graph
    whole: Graph
    pruned: pruning.InferenceGraph


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadedGraph:
    """A graph with its parameters, and the module generated from it.

    Attributes:
        source: the graph as it was read, and the parameters.
        converted: the graph and the module.
        arrays: the parameters by variable, in the types of the file.
    """

    source: ConvertedSource
    converted: ConvertedGraph
    arrays: Arrays


@dataclass(frozen=True, slots=True, kw_only=True)
class ProvenGraph:
    """A proof.

    Attributes:
        record: its record in the manifest.
        proof: the comparisons, None if nothing was compared.
        runs: the dtype and the inputs of each run.
    """

    record: ParityRecord
    proof: GraphProof | None = None
    runs: Sequence[Run] = ()


def prepare(original: Graph, output: str | None = None) -> OpenedGraph:
    """Remove what inference does not need from a graph.

    Args:
        original: the graph.
        output: the name of a node; the network then ends in it.

    Raises:
        SymbolError: if it has no such node, or if every output depends on a label.
    """
    casts = rewriting.casts(original)
    whole = rewriting.bypass(original, casts) if casts else original
    return OpenedGraph(original=original, whole=whole, pruned=pruning.prune(whole, output))


def prepare_recorded(original: Graph, source: SourceRecord) -> OpenedGraph:
    """Prepare the graph that a manifest records.

    Raises:
        SymbolError: if it is another one.
    """
    found = hashlib.sha256(original.content).hexdigest()
    if found != source.symbol_sha256:
        raise SymbolError(
            f"{original.file}: another graph: expected SHA-256 {source.symbol_sha256}, found {found}"
        )
    return prepare(original, source.graph.output if source.graph else None)


def load(graph: OpenedGraph, file: ParamsFile, recorded: MatchedNetwork | None = None) -> LoadedGraph:
    """Match a graph with its parameters and generate its module.

    Args:
        graph: the graph.
        file: the parameters.
        recorded: the recorded network that the graph is of, None for the graph of a file.

    Raises:
        MappingError: if parameters are missing, do not fit or are not finite.
        SymbolError: if operators cannot be converted.
    """
    whole, pruned = graph.whole, graph.pruned
    params = open_params(file.path, name=str(file.user_path))
    variables = (
        {name: graph_parameters.variable(name) for name in params.arrays}
        if recorded is None
        else recorded.variables
    )
    matched = graph_parameters.match(pruned.graph, params.arrays, variables, str(file.user_path))
    shapes = {name: tuple(array.shape) for name, array in matched.items()}
    module = codegen.generate(pruned.graph, shapes, whole.name)
    _require_valid(module.source, whole.file)
    _require_one_type({name: matched[name] for name in module.tensors}, str(file.user_path))
    require_finite(matched, str(file.user_path))
    parameters = {name: precision.widen(array) for name, array in matched.items()}
    return LoadedGraph(
        source=ConvertedSource(
            graph=graph.original,
            file=file,
            params=params,
            variables=variables,
            has_casts=graph.original is not whole,
            network=None if recorded is None else recorded.network,
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


def _require_one_type(parameters: Arrays, file: str) -> None:
    """Check that PyTorch computes with the parameters as they are: all floating, and float64 only alone.

    Raises:
        MappingError: with a parameter of another type.
    """
    types = {name: array.dtype for name, array in parameters.items()}
    doubles = [name for name, dtype in types.items() if dtype == np.float64]
    others = [name for name, dtype in types.items() if dtype.kind in "biu"]
    if len(doubles) < len(types):
        others += doubles
    if others:
        first = others[0]
        raise MappingError(
            f"{file}: {names.printable(first)} is {types[first]}, and PyTorch computes with one floating type"
        )


def require_finite(parameters: Arrays, file: str) -> None:
    """Check that all parameters are finite.

    Raises:
        MappingError: with every parameter that is not.
    """
    if infinite := [name for name, array in parameters.items() if not np.isfinite(np.asarray(array)).all()]:
        lines = [f"{file}: these parameters contain NaN or infinity", *names.collapse(infinite)]
        raise MappingError("\n  ".join(lines))


def require_source(source: ConvertedSource) -> None:
    """Check that the parameters have not changed, and that a file with a published file's name is that file.

    Raises:
        SourceError: if it is not.
        StorageError: if they have.
    """
    if source.network is not None:
        params_file.verify_published_sha1(source.file, source.network.published)
    params_file.require_unchanged(source.file)


def runs(
    converted: ConvertedGraph, options: ParityOptions, shapes: Mapping[str, Sequence[int]] | None = None
) -> list[Run]:
    """Return the dtype and the inputs of each run of a proof; none if no proof is requested.

    Args:
        converted: the graph and the module.
        options: the sizes and precisions.
        shapes: the shapes of inputs, by name; the others are derived from the graph.

    Raises:
        UsageError: if the shape of an input is unknown.
    """
    if options.reference == ReferenceChoice.none:
        return []
    sizes = [probe.size if options.sizes else None for probe in options.probes]
    inputs = {size: graph_inputs.shapes(converted, size, shapes) for size in dict.fromkeys(sizes)}
    return [
        (probe.dtype, graph_inputs.values(converted, inputs[size], probe.dtype))
        for probe, size in zip(options.probes, sizes, strict=True)
    ]


def prove(
    converted: ConvertedGraph,
    plan: ReferencePlan | None,
    runs: Sequence[Run],
    progress: Progress,
    side: Side | None = None,
) -> ProvenGraph:
    """Compare the module with MXNet, or with the graph on arrays.

    Args:
        converted: the graph and the module.
        plan: the references to try, None for no proof.
        runs: the dtype and the inputs of each run.
        progress: called as nodes are compared.
        side: what is compared with the graph; by default the module with the graph's parameters.

    Raises:
        ParityError: if they differ.
    """
    if plan is None:
        return ProvenGraph(record=graph_builder.UNPROVEN)
    proof, reference = compare(converted, runs, plan, side, progress)
    proof.require()
    return ProvenGraph(record=graph_builder.parity(proof, reference, runs), proof=proof, runs=runs)


def compare(
    converted: ConvertedGraph,
    runs: Sequence[Run],
    plan: ReferencePlan,
    side: Side | None = None,
    progress: Progress = silent,
) -> tuple[GraphProof, ReferenceName]:
    """Return the comparison of a network with the graph, and what ran the graph.

    Args:
        converted: the graph and the module.
        runs: the dtype and the inputs of each run.
        plan: the references to try.
        side: what is compared with the graph; by default the module with the graph's parameters.
        progress: called as nodes are compared.
    """
    if plan.python is not None:
        try:
            return graph_proof.prove(converted, runs, plan.python, side, progress), "gluon"
        except ReferenceUnavailableError as error:
            # A graph that MXNet refuses is not proven by less.
            if not plan.fallback or isinstance(error, ReferenceFailedError):
                raise
    return graph_proof.prove_on_arrays(converted, runs, side, progress), "numpy"
