"""Say in one sentence what a file or folder is, and what to do with it."""

from __future__ import annotations

import re
import shlex
from collections import Counter
from dataclasses import replace
from typing import TYPE_CHECKING

from converter.choices import PredictionTask
from converter.formats import detect
from converter.formats.kinds import GLUON, PACKED, PYTORCH, Kind
from converter.graphs import candidates
from converter.manifests import target_weights
from converter.networks import families
from resnext_torch.config import COLOURS

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from converter.commands.inspection_result import FolderEntry, GraphSummary, Inspection
    from converter.errors import ConversionError
    from converter.manifests.converted_weights import ConvertedWeights
    from converter.networks.catalog import Model

NOUNS = {
    **dict.fromkeys(GLUON, "parameter file"),
    **dict.fromkeys(PACKED, "archive"),
    **dict.fromkeys(PYTORCH, "PyTorch checkpoint"),
    Kind.graph: "graph",
}
STEP = re.compile(r"  try +(?P<step>.+)")  # the last line of an error
COMMAND = re.compile(
    r"[:;] (?:try )?(?P<command>(?:gluon2torch|resnext_torch)(?:(?! converts| describes| with ).)+)$"
)
EARLIER = "pass a checkpoint from before they appeared"
KNOWN = "gluon2torch list"
MAX_OPERATORS = 5  # that a verdict names


def next_command(inspection: Inspection) -> str:
    """Return the next command: that at the end of the verdict if there is no other, or `gluon2torch list`."""
    match = COMMAND.search(inspection.verdict)
    return inspection.step or (match["command"] if match else KNOWN)


def step_of_converted(weights: ConvertedWeights, path: Path) -> str:
    """Return the next command for the weights of a converted graph: ``predict`` if it takes the network."""
    file, target = shlex.quote(str(path)), weights.target
    network = weights.manifest.source.network
    family = families.find(network) if network else None
    is_run = target is None or target_weights.parse(target, str(path)).is_packaged
    if family is not None and family.task in {*PredictionTask} and is_run:
        return f"gluon2torch predict IMAGE --weights {file}"
    return f"gluon2torch verify {file}" if weights.converted else ""


def with_refusal(inspection: Inspection, error: ConversionError) -> Inspection:
    """Add the verdict and the details of the error that ``convert`` would raise."""
    reason, *details = str(error).removeprefix(f"{inspection.file}: ").split("\n")
    if details and (match := STEP.fullmatch(details[-1])):
        reason, details = f"{reason}; try {match['step']}", details[:-1]
    return replace(inspection, verdict=reason, remark="\n".join(details).strip() or None)


def with_recorded_network(inspection: Inspection, path: Path, name: str) -> Inspection:
    """Add the recorded network of parameters, of which a model is at most the backbone."""
    file = shlex.quote(str(path))
    verdict = f"parameters of GluonCV's {name}: gluon2torch convert {name} OUT --params {file}"
    return replace(inspection, network=name, verdict=verdict, remark=None, models=(), wrapping=None)


def of_weights(inspection: Inspection, path: Path) -> str:
    """Return the verdict about a weight file whose contents were read, or a packed file that was not."""
    file = shlex.quote(str(path))
    if inspection.tensors is None:
        return f"large {inspection.archive} file, not unpacked: gluon2torch inspect --full {file}"
    what = "PyTorch checkpoint" if inspection.container in PYTORCH else "parameters"
    if not inspection.models:
        return f"{what} of no supported network: {KNOWN}"
    if inspection.is_converted or inspection.is_trained:
        how = "trained" if inspection.is_trained else "converted"
        return f"{how} weights of {_networks(inspection)}: {_use(inspection.models[0], path)}"
    what = f"{what} of {_networks(inspection)}"
    if inspection.container in PYTORCH:
        step = f"gluon2torch to-gluon {file} OUT.params"
        return f"{what}: {'unpack it, and pass the file inside' if inspection.archive else step}"
    if obstacle := _obstacle(inspection):
        return f"{what}, {obstacle}"
    name = "auto" if len(inspection.models) == 1 else "NAME"
    return f"{what}: gluon2torch convert {name} OUT{_backbone(inspection)} --params {file}"


def _use(model: Model, path: Path) -> str:
    """Return how to run a converted network: ``predict`` needs a head, and inputs that are images."""
    config = model.config
    if config.num_classes and config.in_chans == COLOURS:
        return f"gluon2torch predict IMAGE --weights {shlex.quote(str(path))}"
    features = "" if config.num_classes else ", features_only=True"
    return f"resnext_torch.create_model({model.name!r}, {str(path)!r}{features})"


def _obstacle(inspection: Inspection) -> str:
    """Return why ``convert`` refuses parameters of a known network, "" if it does not."""
    if inspection.graph_differences:
        return "with another graph, which convert refuses: the graph's differences are listed below"
    unusable = sum(row.not_finite for row in inspection.statistics or ())
    if unusable:
        return f"with {unusable:,} values that are not finite, which convert refuses: {EARLIER}"
    return ""


def _backbone(inspection: Inspection) -> str:
    """Return the option of ``convert`` for a network without a head."""
    return "" if inspection.models[0].config.num_classes else " --backbone"


def of_graph(inspection: Inspection, path: Path) -> str:
    """Return the verdict about a graph."""
    params = detect.parameters_of(path)
    file, name = shlex.quote(str(path)), shlex.quote(str(params[0])) if params else "PARAMS"
    if inspection.graph_differences:
        return (
            f"graph that differs from the network in {params[0].name}: gluon2torch convert {file} OUT "
            f"--params {name} converts the graph, convert auto refuses the pair. Differences:"
        )
    if not inspection.models:
        return f"graph of no named network{_graph_step(inspection.summary, f'{file} OUT --params {name}')}"
    command = f"gluon2torch convert auto OUT{_backbone(inspection)} --params {name} --symbol {file}"
    return f"graph of {_networks(inspection)}: {command}"


def with_graph_of_other_network(inspection: Inspection, summary: GraphSummary, command: str) -> Inspection:
    """Add the graph of parameters that contain no named network.

    Args:
        inspection: the inspection of the parameters.
        summary: the contents of their graph.
        command: the command that converts it.
    """
    step = _graph_step(summary, command.removeprefix("convert "))
    verdict = f"parameters of no named network, with their graph{step}"
    return replace(inspection, summary=summary, verdict=verdict, remark=None)


def _graph_step(summary: GraphSummary | None, arguments: str) -> str:
    """Return the end of a verdict: the command that converts a graph, or why none does."""
    if summary is None or summary.is_convertible:
        return f": gluon2torch convert {arguments}"
    if summary.obstacle:
        return ", for training only: gluon2torch convert with --output NODE converts the part before its loss"
    operators = [*dict.fromkeys(each.operator for each in summary.unsupported)]
    more = f" and {len(operators) - MAX_OPERATORS} more" if len(operators) > MAX_OPERATORS else ""
    return (
        f", with operators that cannot be converted ({', '.join(operators[:MAX_OPERATORS])}{more}): "
        f"gluon2torch convert {arguments} --output NODE converts the part before them"
    )


def of_folder(folder: Path, entries: Sequence[FolderEntry]) -> str:
    """Return the verdict about a folder."""
    counts = Counter(_noun(entry) for entry in entries)
    params = [entry for entry in entries if entry.kind in GLUON | PACKED]
    if not counts:
        return "folder without files of networks: pass the folder or file of the parameters"
    listing = ", ".join(f"{count} {noun}{'s' if count > 1 else ''}" for noun, count in counts.items())
    what = f"folder with {listing}"
    if len(params) == 1:
        path = shlex.quote(str(folder / params[0].name))
        return f"{what}: gluon2torch convert auto OUT --params {path}"
    if epochs := _epochs(params):
        place = shlex.quote(str(folder))
        return f"{what}: gluon2torch convert auto OUT --params {place} --epoch {epochs[-1]}"
    if any(entry.is_converted or entry.is_trained for entry in entries) and not params:
        return f"{what}: gluon2torch verify {shlex.quote(str(folder))}"
    return f"{what}: gluon2torch inspect FILE describes one of them"


def _epochs(params: Sequence[FolderEntry]) -> list[int]:
    """Return the epochs of the parameters, sorted; empty unless all are epochs of one export."""
    matches = [candidates.EXPORTED.fullmatch(entry.name) for entry in params]
    found = [match for match in matches if match and match["epoch"]]
    if len(found) < len(params) or len({match["prefix"] for match in found}) != 1:
        return []
    return sorted(int(match["epoch"][1:]) for match in found)


def _noun(entry: FolderEntry) -> str:
    if entry.is_converted or entry.is_trained:
        return "trained file" if entry.is_trained else "converted file"
    if entry.kind is None:
        return "class list"
    return NOUNS.get(entry.kind, "other file")


def _networks(inspection: Inspection) -> str:
    """Return the networks, where they are in the file, and their classes."""
    first, *others = inspection.models
    wrapping = inspection.wrapping
    networks = " or ".join(
        [wrapping.description if wrapping else first.name, *(each.name for each in others)]
    )
    classes = first.config.num_classes
    if not classes:
        return networks if wrapping else f"the backbone of {networks} without a head"
    return f"{networks}, {classes} class{'es' if classes > 1 else ''}"
