"""Converts parameters for an existing module by a table of its layers, without a graph."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING

from converter import names
from converter.commands import graph_parameters, target_conversion
from converter.commands.graph_export import MoreFiles
from converter.commands.graph_loading import require_finite
from converter.commands.target_conversion import TargetFiles
from converter.errors import MappingError
from converter.formats import artifact
from converter.formats.params import open_params
from converter.manifests import graph_builder
from converter.manifests.source_records import SourceRecord
from converter.manifests.target_builder import AlignedTarget, TargetSource
from converter.manifests.target_records import LayerTableRecord
from converter.networks import recorded_detection
from converter.sources import params_file
from converter.targets import adaptation

if TYPE_CHECKING:
    from pathlib import Path

    from converter.commands.target_conversion import WrittenTarget
    from converter.formats.file_arrays import Arrays
    from converter.progress import Progress
    from converter.sources.params_file import ParamsFile
    from converter.targets.layer_table import TableFile

MAX_LINES = 8  # of an error


def convert(file: ParamsFile, folder: Path, table: TableFile, progress: Progress) -> WrittenTarget:
    """Rename parameters by a table and write them; nothing is proven, because nothing says what they compute.

    Args:
        file: the parameters, with the names in the table.
        folder: the output folder.
        table: the table.
        progress: called with a step, the amount done and the total.

    Raises:
        MappingError: if the parameters are not exactly those in the table, or do not fit the module.
        TargetError: if the module cannot be built.
    """
    params = open_params(file.path, name=str(file.user_path))
    variables = {name: graph_parameters.variable(name) for name in params.arrays}
    arrays = {variables[name]: array for name, array in params.arrays.items()}
    _require_names(table, arrays, params.arrays, file)
    require_finite(arrays, str(file.user_path))
    aligned = _aligned(table, arrays)
    record = SourceRecord(
        file=file.name,
        sha1=file.sha1,
        official=False,
        archive=file.archive,
        container=params.container,
        records=tuple(params.records),
    )
    with artifact.draft(folder, aligned.state, progress) as draft:
        artifact.verify(draft, aligned.state)
        params_file.require_unchanged(file)
        more = MoreFiles(paths={}, pth=None, exports=())
        files = TargetFiles(folder=folder, draft=draft, more=more, inputs=(file.user_path,))
        source = TargetSource(record=record, variables=variables)
        return target_conversion.publish(source, aligned, files, graph_builder.UNPROVEN)


def _aligned(table: TableFile, arrays: Arrays) -> AlignedTarget:
    from converter.targets import building, state  # noqa: PLC0415 - import torch

    module = building.build(table.target)
    adaptation.apply(module, table.table.adaptations)
    plan = table.plan({name: tuple(tensor.shape) for name, tensor in module.state_dict().items()})
    weights = state.state_arrays(module, plan.assignments, arrays, table.table.fixed_gammas)
    return AlignedTarget(
        target=table.target,
        plan=plan,
        layers=table.layers,
        alignment=None,
        adaptations=table.table.adaptations,
        state=dict(weights),
        table=LayerTableRecord(file=table.file, sha256=table.sha256),
    )


def _require_names(table: TableFile, arrays: Arrays, stored: Arrays, file: ParamsFile) -> None:
    """Check that parameters have exactly the names in a table.

    Args:
        table: the table.
        arrays: the parameters by the graph's variables.
        stored: the same by their names in the file.
        file: the file.

    Raises:
        MappingError: with those that are missing or unknown.
    """
    expected = {*table.names, *table.table.folded_biases}
    if lines := names.differences(sorted(expected - arrays.keys()), sorted(arrays.keys() - expected)):
        headline = f"{file.user_path}: its parameters are not those in {table.file}"
        steps = [] if expected & arrays.keys() else _steps(stored, file)
        raise MappingError("\n  ".join([headline, *names.shorten(lines, MAX_LINES), *steps]))


def _steps(stored: Arrays, file: ParamsFile) -> list[str]:
    """Return what converts parameters whose names are of another style than those in a table, if anything."""
    path = str(file.user_path)
    network = recorded_detection.detect(stored, file.sha1, path)
    command = f"convert {network} OUT --params {shlex.quote(path)}"
    return [f"try  {command}, with the same --mapping: it reads names of any style"] if network else []
