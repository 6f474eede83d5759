"""Writes the files next to a generated module that were requested: a ``.pth``, ONNX, a program of torch."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from converter.errors import UsageError
from converter.exports import exporting
from converter.exports.exporting import DEFAULT_SIZE, ExportSource, ReferenceRun
from converter.formats import artifact, program_file, torch_file
from converter.graphs.codegen.identifiers import unique
from converter.graphs.graph import after_discrete
from converter.manifests.schema import PthRecord
from converter.parity import generated_network, graph_inputs

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator
    from pathlib import Path

    from converter.choices import ExportFormat
    from converter.commands.graph_loading import ProvenGraph
    from converter.dtypes import Array
    from converter.formats.file_arrays import Arrays
    from converter.manifests.schema import ExportRecord
    from converter.parity.graph_proof import ConvertedGraph


@dataclass(frozen=True, slots=True, kw_only=True)
class WrittenWeights:
    """Weights that were written.

    Attributes:
        stem: the start of the name of their file.
        sha256: SHA-256 of the file.
        pth: the state dict, if a ``.pth`` is requested.
    """

    stem: str
    sha256: str
    pth: Arrays | None


@dataclass(frozen=True, slots=True, kw_only=True)
class MoreFiles:
    """Files next to the weights, under temporary names.

    Attributes:
        paths: the files, with their final names.
        pth: the entry of the ``.pth`` in the manifest.
        exports: those of the exported files.
    """

    paths: dict[Path, str]
    pth: PthRecord | None
    exports: tuple[ExportRecord, ...]


@contextlib.contextmanager
def draft(
    folder: Path,
    converted: ConvertedGraph,
    weights: WrittenWeights,
    formats: Collection[ExportFormat],
    proof: ProvenGraph,
) -> Iterator[MoreFiles]:
    """Write the requested files under temporary names, and delete them on exit unless renamed.

    Args:
        folder: the output folder.
        converted: the graph and the module.
        weights: the weights that were written.
        formats: the formats of the whole network.
        proof: the proof, whose outputs the files are compared with.

    Raises:
        ExportError: if a file cannot be written, or computes something else than expected.
        StorageError: if the folder cannot be written.
    """
    paths: dict[Path, str] = {}
    with contextlib.ExitStack() as stack:
        exports: tuple[ExportRecord, ...] = ()
        if formats:
            source = _source(converted, _reference_run(proof), weights)
            exported = stack.enter_context(exporting.draft(folder, formats, source))
            paths.update({path: final for each in exported for path, final in each.paths.items()})
            exports = tuple(each.record for each in exported)
        pth = None
        if weights.pth is not None:
            written = stack.enter_context(torch_file.draft(folder, weights.pth))
            paths[written.path] = artifact.file_name(weights.stem, written.sha256, torch_file.SUFFIX)
            pth = PthRecord(file=paths[written.path], sha256=written.sha256, bytes=written.size)
        yield MoreFiles(paths=paths, pth=pth, exports=exports)


def _reference_run(proven: ProvenGraph) -> ReferenceRun | None:
    """Return a run of a proof with one input, the first in float32 if there is one."""
    if proven.proof is None or proven.record.reference == "none":
        return None
    number = next((number for number, (dtype, _) in enumerate(proven.runs) if dtype == "float32"), 0)
    inputs = [*proven.runs[number][1].values()]
    if len(inputs) != 1:
        return None
    return ReferenceRun(
        image=inputs[0].astype(np.float32),
        outputs=proven.proof.heads[number],
        reference=proven.record.reference,
    )


def _source(converted: ConvertedGraph, run: ReferenceRun | None, weights: WrittenWeights) -> ExportSource:
    """Return a generated module as what is exported.

    Raises:
        UsageError: if the module has other inputs than one image.
    """
    graph, module = converted.pruned.graph, converted.module
    if len(module.inputs) != 1:
        raise UsageError(
            f"{graph.file}: cannot be exported: its inputs are {', '.join(module.inputs) or '(none)'}\n"
            "  expected  one image",
            "exports",
        )
    state = dict(generated_network.state_arrays(module, converted.parameters))
    network = generated_network.build(module.source, state, "float32")
    image = run.image if run else _image(converted)
    # There a rounding may select other elements: float32 is held to the module in float32.
    is_discrete = not after_discrete(graph.nodes).isdisjoint(index for index, _ in graph.outputs)
    if run is None or is_discrete:
        run = ReferenceRun(image=image, outputs=program_file.outputs(network, image), reference="module")
    taken: dict[str, int] = {}
    return ExportSource(
        network=network,
        stem=weights.stem,
        sha256=weights.sha256,
        inputs=module.inputs,
        outputs=tuple(unique(graph.nodes[index].name, taken) for index, _ in graph.outputs),
        image=run.image,
        expected=run.outputs,
        reference=run.reference,
    )


def _image(converted: ConvertedGraph) -> Array:
    size = (DEFAULT_SIZE, DEFAULT_SIZE)
    (image,) = graph_inputs.values(converted, graph_inputs.shapes(converted, size), "float32").values()
    return image
