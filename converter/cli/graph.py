"""`convert GRAPH`: convert any MXNet graph to a PyTorch module and prove the result."""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import typer

from converter import names
from converter.choices import Precision
from converter.cli import console

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from rich.console import Console

    from converter.commands.graph_conversion import GraphConversionResult
    from converter.manifests.graph_records import GraphRecord, NodesRecord
    from converter.manifests.target_records import TargetRecord
    from converter.parity.options import ParityOptions

MAX_LINES = 6  # of a list
LABELS_HINT = ": pass the class names to gluon2torch predict --labels"


@dataclass(frozen=True, slots=True, kw_only=True)
class TargetChoice:
    """The module that the weights are for.

    Attributes:
        name: None for the generated one.
        arguments: those that it is built with.
        adapt: whether to change its settings.
        mapping: the table of its layers.
        save: the file that the table is written to.
    """

    name: str | None
    arguments: Mapping[str, Any] | None
    adapt: bool
    mapping: Path | None
    save: Path | None


def require_options(given: Mapping[str, object], dtype: Precision) -> None:
    """Refuse the options that a graph does not have.

    Raises:
        BadParameter: with the option.
    """
    for name, value in {**given, "dtype": None if dtype is Precision.keep else dtype}.items():
        if value is not None:
            hint = LABELS_HINT if name == "labels" else ""
            raise typer.BadParameter(
                f"cannot be used with a graph{hint}", param_hint=f"--{name.replace('_', '-')}"
            )


def convert(  # noqa: PLR0913 - the options of the command line
    name: str | None,
    out: Path,
    *,
    params: Path | None,
    random: int | None,
    epoch: int | None,
    output: str | None,
    inputs: Mapping[str, tuple[int, ...]] | None,
    pth: bool,
    exports: Sequence[str],
    target: TargetChoice,
    parity: ParityOptions,
    as_json: bool,
    verbose: bool,
) -> None:
    """Convert a graph and print the result."""
    from converter.commands import graph_conversion

    with console.refusals(verbose=verbose), console.progress() as progress:
        result = graph_conversion.convert_graph(
            name,
            out,
            params=params,
            random=random,
            epoch=epoch,
            output=output,
            input_shapes=inputs,
            pth=pth,
            exports=exports,
            target=target.name,
            target_args=target.arguments,
            adapt=target.adapt,
            mapping=target.mapping,
            save_mapping=target.save,
            options=parity,
            progress=progress,
        )
    print_result(result, as_json=as_json)


def print_result(result: GraphConversionResult, *, as_json: bool, is_automatic: bool = False) -> None:
    """Print a result.

    Args:
        result: the result.
        as_json: whether to print the manifest on stdout, and the rest on stderr.
        is_automatic: whether the user did not pass a graph in place of a model's name.
    """
    from converter.manifests import schema

    if as_json:
        typer.echo(schema.encode(result.manifest), nl=False)
    screen = console.lines(stderr=as_json)
    if is_automatic:
        network = result.manifest.source.network
        text = f"{network}: detected from the parameters" if network else "unknown: converted from its graph"
        screen.print(f"[yellow]model[/]   {console.word(text)}")
    _summary(result, screen)


def _summary(result: GraphConversionResult, screen: Console) -> None:
    """Print the inputs and outputs, what was left out, the proof and the written files."""
    source, proof = result.manifest.source, result.manifest.parity
    name = str(source.symbol)
    if source.network is not None:
        publication = "the published file" if source.official else "not a published file"
        screen.print(
            f"[green]read[/]    {console.word(source.file)}: SHA-1 {source.sha1[:8]} ({publication})"
        )
        name = f"GluonCV's {source.network}, recorded"
    if source.graph is not None:
        _describe(name, source.graph, screen)
    if source.casts:
        screen.print("[yellow]left out[/] casts between floating types")
    if result.manifest.target is not None:
        _describe_target(result.manifest.target, screen)
    if proof.proven:
        screen.print(f"[green]proven[/]  {console.proven(proof)}")
        for check in proof.checks:
            if check.nodes is not None:
                _describe_nodes(check.dtype, check.nodes, screen)
    else:
        screen.print("[yellow]unproven[/] the outputs were not compared (--reference none)")
    if result.module is not None:
        screen.print(f"[green]wrote[/]   {console.word(result.module)}")
    screen.print(f"[green]wrote[/]   {console.word(result.artifact)} and its manifest")
    console.print_more_files(result.more, result.manifest.artifact.exports, screen)
    if result.manifest.target is not None:
        _print_next_of_target(result.manifest.target, result.artifact, screen)
        return
    name, folder = result.manifest.model, shlex.quote(str(result.artifact.parent))
    statements = f"import {name}; print({name}.load('{result.artifact.name}'))"
    command = f'cd {folder} && python -c "{statements}"'
    screen.print(f"[blue]next[/]    {console.word(command)}")


def _describe_target(target: TargetRecord, screen: Console) -> None:
    """Print what was aligned, the rules that were applied, and the settings that were changed or differ."""
    from converter.graphs.alignment import rules
    from converter.manifests import target_weights

    symmetric = f", {target.symmetric} of them by their order" if target.symmetric else ""
    screen.print(f"[green]aligned[/] {target.layers} layers with {console.word(target.name)}{symmetric}")
    for record in target.rules:
        text = f"{rules.DESCRIPTIONS[record.rule]}: {_some(record.layers)}"
        screen.print(f"[yellow]rule[/]    {record.rule}: {console.word(text)}")
    for (setting, value), modules in target_weights.changes(target).items():
        screen.print(f"[yellow]adapted[/] {setting} = {value!r}: {console.word(_some(modules))}")
    for line in names.shorten(list(target.differences), MAX_LINES):
        screen.print(f"[yellow]differs[/] {console.word(line)}")


def _some(layers: Sequence[str]) -> str:
    return ", ".join(names.shorten(names.collapse(layers), MAX_LINES))


def _print_next_of_target(target: TargetRecord, weights: Path, screen: Console) -> None:
    """Print the statements that load the weights into the module."""
    from converter.manifests import target_weights
    from converter.targets import adaptation

    module = target_weights.parse(target, str(weights))
    lines = [f"import safetensors.torch, {module.package}", f"model = {module.expression}"]
    for (setting, value), modules in target_weights.changes(target).items():
        lines += adaptation.statement_for_all(modules, setting, value)
    lines.append(f"model.load_state_dict(safetensors.torch.load_file({str(weights)!r}))")
    lines.append("model.eval()")
    for line in lines:  # code: all of it, with its own line breaks
        screen.print(f"[blue]next[/]    {console.word(line)}", soft_wrap=True)


def _describe_nodes(dtype: str, nodes: NodesRecord, screen: Console) -> None:
    """Print the comparison node by node."""
    screen.print(
        f"[green]proven[/]  {dtype}: {nodes.compared} nodes one by one, the worst to {nodes.relative:.1e}"
    )
    if nodes.undecided:
        text = "outputs after operators that sort or select differ; their nodes are proven"
        screen.print(f"[yellow]differs[/] {dtype}: {nodes.undecided} {text}")
    if nodes.single:
        text = "computed by MXNet in float32 only, compared to 1e-6"
        screen.print(f"[yellow]float32[/] {console.word(', '.join(nodes.single))}: {text}")


def _describe(name: str, graph: GraphRecord, screen: Console) -> None:
    """Print the inputs and outputs of a graph, and what was left out."""
    wiring = f"{', '.join(graph.inputs)} → {', '.join(graph.outputs)}"
    screen.print(f"[green]graph[/]   {console.word(name)}: {console.word(wiring)}")
    for label, left_out in (("labels", graph.labels), ("outputs", graph.dropped)):
        if left_out:
            screen.print(f"[yellow]left out[/] {label} for training: {console.word(', '.join(left_out))}")
