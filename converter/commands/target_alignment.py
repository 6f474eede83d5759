"""Aligns a graph with an existing module, by a search or by a table of layers."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from converter import names
from converter.errors import MappingError, UsageError
from converter.graphs.alignment import alignment, reduction
from converter.manifests.target_builder import AlignedTarget
from converter.manifests.target_records import LayerTableRecord
from converter.targets import adaptation, layer_table, specification, table_writing

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from converter.commands.graph_loading import LoadedGraph
    from converter.dtypes import Array
    from converter.targets.layer_table import TableFile
    from converter.targets.specification import Target


@dataclass(frozen=True, slots=True, kw_only=True)
class TargetOptions:
    """The module that the parameters are converted for.

    Attributes:
        target: the module.
        adapt: whether attributes of layers are set on the instance as the graph has them.
        pth: whether to write the weights as a ``.pth`` too.
        table: the table of layers that takes the place of a search, None without one.
        save: the file that the table of layers is written to, None for none.
    """

    target: Target
    adapt: bool = False
    pth: bool = False
    table: TableFile | None = None
    save: Path | None = None

    def with_classes(self, classes: int | None) -> TargetOptions:
        """Return the options for another number of classes, which only timm and torchvision call alike."""
        if not self.target.is_packaged or "num_classes" in self.target.arguments:
            return self
        arguments = {**self.target.arguments, "num_classes": classes}
        return replace(self, target=replace(self.target, arguments=arguments))


def options(  # noqa: PLR0913 - the options of the command
    text: str | None,
    arguments: Mapping[str, Any] | None = None,
    *,
    adapt: bool = False,
    pth: bool = False,
    mapping: Path | None = None,
    save: Path | None = None,
) -> TargetOptions:
    """Return the options of a conversion.

    Args:
        text: the target, None for that of the table.
        arguments: those that it is built with.
        adapt: whether attributes of layers are set on the instance as the graph has them.
        pth: whether to write the weights as a ``.pth`` too.
        mapping: the table of layers, None to search for the alignment.
        save: the file that the table of layers is written to.

    Raises:
        UsageError: if the target has no valid form, or is not that of the table.
        MappingError: if the table cannot be read.
    """
    if mapping is not None and arguments:
        raise UsageError(
            "`target_args` cannot be used with a table, which has the arguments", "target_args", "mapping"
        )
    table = layer_table.read(mapping) if mapping else None
    target = specification.parse(text, arguments) if text else None
    if table is not None:
        if adapt:
            raise UsageError(
                "`adapt` cannot be used with `mapping`, which has the settings", "adapt", "mapping"
            )
        _require_same(target, table.target)
        target = table.target
    if target is None:
        raise UsageError("`target` or `mapping` is required", "target", "mapping")
    return TargetOptions(target=target, adapt=adapt, pth=pth, table=table, save=save)


def _require_same(requested: Target | None, of_table: Target) -> None:
    """Check that a table selects what the user requested: a table alone must not run code of its choice.

    Raises:
        UsageError: if the request is for another callable, or if there is none and the table's is in neither
            timm nor torchvision.
    """
    if requested is None and not of_table.is_packaged:
        raise UsageError(
            f"`mapping` is for {of_table.text}, which is in neither timm nor torchvision\n"
            f"  try  `target` {of_table.text}, too, if you trust that code: it is run",
            "mapping",
            "target",
        )
    if requested is not None and requested.text != of_table.text:
        raise UsageError(
            f"`mapping` is for {of_table.text}, and `target` is {requested.text}", "mapping", "target"
        )


def align(loaded: LoadedGraph, choices: TargetOptions, inputs: Mapping[str, Array]) -> AlignedTarget:
    """Align a graph with a target, and compute the target's weights.

    Args:
        loaded: the graph with its parameters.
        choices: the target.
        inputs: what the target is run on to find its layers, by name.

    Raises:
        TargetError: if the target cannot be built, or does not take the inputs.
        MappingError: if it has another structure than the graph.
    """
    import torch  # noqa: PLC0415 - when a network runs and not before

    from converter.targets import building, state  # noqa: PLC0415 - import torch
    from converter.targets import reduction as modules  # noqa: PLC0415 - as above

    converted = loaded.converted
    module = building.build(choices.target)
    values = [torch.from_numpy(inputs[name]) for name in converted.module.inputs]
    shapes = {name: tuple(loaded.arrays[name].shape) for name in converted.module.tensors}
    table = choices.table
    if table:
        adaptation.apply(module, table.table.adaptations)
    ours = reduction.reduce(converted.pruned.graph, shapes, converted.whole.name)
    theirs = modules.reduce(module, values, choices.target.text)
    if table:
        sizes = {name: tuple(tensor.shape) for name, tensor in module.state_dict().items()}
        if unknown := [name for name in table.names if name not in shapes]:
            raise MappingError(
                f"{table.file}: {converted.whole.file} has no parameter {names.printable(unknown[0])}"
            )
        found = alignment.by_names(ours, theirs, table.names, table.plan(sizes))
    else:
        found = alignment.align(ours, theirs)
    adaptable = () if table else adaptation.choose(module, found.differences)  # a table has the settings
    chosen = adaptable if choices.adapt else ()
    if chosen:
        adaptation.apply(module, chosen)
        adapted = modules.reduce(module, values, choices.target.text)
        found = alignment.compare_again(found, adapted)
    weights = state.state_arrays(module, found.plan.assignments, loaded.arrays, converted.module.ones)
    return AlignedTarget(
        target=choices.target,
        plan=found.plan,
        layers=len(found.pairs),
        alignment=found,
        adaptations=table.table.adaptations if table else chosen,
        state=dict(weights),
        table=LayerTableRecord(file=table.file, sha256=table.sha256) if table else None,
        adaptable=adaptable,
    )


def mapping_text(loaded: LoadedGraph, aligned: AlignedTarget) -> str:
    """Return the table of layers of an alignment, as TOML."""
    if aligned.alignment is None:
        raise UsageError("`save_mapping` requires a graph", "save_mapping")
    graph = loaded.source.graph
    sha256 = hashlib.sha256(graph.content).hexdigest()
    ones = loaded.converted.module.ones
    return table_writing.write(aligned.alignment, aligned.target, aligned.adaptations, ones, sha256)
