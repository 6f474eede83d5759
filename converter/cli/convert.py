"""`convert`: convert a model and prove the result."""

from __future__ import annotations

import os
import shlex
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from converter.choices import ExportFormat, Precision, ReferenceChoice
from converter.cli import console, graph, options

if TYPE_CHECKING:
    from rich.console import Console

    from converter.commands import conversion
    from converter.manifests.schema import RoundingRecord
    from converter.manifests.source_records import SourceRecord


class OutputFormat(StrEnum):
    """A format to write; safetensors is always written."""

    safetensors = "safetensors"
    pth = "pth"
    onnx = "onnx"
    pt2 = "pt2"


def convert(  # noqa: PLR0913 - the options of the command line
    name: options.Name,
    out: Annotated[
        Path, typer.Argument(metavar="OUT", help="Output folder; created if missing.", file_okay=False)
    ],
    *,
    params: options.Params = None,
    source: options.From = None,
    epoch: options.Epoch = None,
    symbol: options.Symbol = None,
    output_stride: options.OutputStride = None,
    random: options.Random = None,
    backbone: options.Backbone = False,
    dtype: Annotated[
        Precision, typer.Option(help="Type of the written weights; `keep` keeps the type of each tensor.")
    ] = Precision.keep,
    formats: Annotated[
        list[OutputFormat] | None,
        typer.Option(
            "--format",
            help="A file to write in addition: `pth` for torch.hub; `onnx` and `pt2` (torch.export) "
            "contain the network in float32; repeatable.",
            show_default="safetensors only",
        ),
    ] = None,
    labels: Annotated[
        Path | None,
        typer.Option(
            help="File with the class names of a fine-tuned model: one per line, or a JSON list.",
            dir_okay=False,
        ),
    ] = None,
    output: options.Output = None,
    inputs: options.Inputs = None,
    target: options.Target = None,
    target_args: options.TargetArgs = None,
    adapt: options.Adapt = False,
    mapping: options.Mapping = None,
    save_mapping: options.SaveMapping = None,
    reference: options.Reference = ReferenceChoice.auto,
    size: options.Size = None,
    proof_dtype: options.Dtypes = None,
    gluon_python: options.GluonPython = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print only the manifest on stdout.")] = False,
    verbose: options.Verbose = False,
) -> None:
    """Convert a model or any MXNet graph to PyTorch and prove that the outputs match.

    Writes OUT/NAME-<sha256[:8]>.safetensors, and a manifest of the same name with
    .json. In place of NAME, give the graph of any other network: a -symbol.json,
    its prefix, a folder or an archive. This also writes NAME.py, the network as a
    PyTorch module. `auto` does so if the parameters fit no model and their graph
    is next to them. With --target, the weights are for a module of timm, of
    torchvision or of your own, and are proven on it.

    Exits with 0 if the files were written, 1 with the reason if not, 2 on a usage
    error.
    """
    from converter.commands import automatic_conversion
    from converter.commands.graph_conversion import GraphConversionResult
    from converter.manifests import schema

    pth = OutputFormat.pth in (formats or ())
    exports = [each for each in formats or () if each in {*ExportFormat}]
    by_table = name == options.AUTO and mapping is not None
    if by_table or _is_graph(
        name, has_params=(params, source, random) != (None, None, None), verbose=verbose
    ):
        given = {
            "from": source,
            "symbol": symbol,
            "labels": labels,
            "backbone": backbone or None,
            "output_stride": output_stride,
        }
        graph.require_options(given, dtype)
        with console.refusals(verbose=verbose):
            parity = options.parity_options(reference, size, proof_dtype, gluon_python)
        graph.convert(
            None if by_table else name,
            out,
            params=params,
            random=random,
            epoch=epoch,
            output=output,
            inputs=options.input_shapes(inputs),
            pth=pth,
            exports=exports,
            target=graph.TargetChoice(
                name=target,
                arguments=options.target_arguments(target_args),
                adapt=adapt,
                mapping=mapping,
                save=save_mapping,
            ),
            parity=parity,
            as_json=as_json,
            verbose=verbose,
        )
        return
    of_graph = {
        "--output": output,
        "--input": inputs,
        "--target": target,
        "--target-args": target_args,
        "--adapt": adapt or None,
        "--mapping": mapping,
        "--save-mapping": save_mapping,
    }
    for option, value in of_graph.items():
        if value is not None:
            with console.refusals(verbose=verbose):
                reason = _graph_option_refusal(name, option, params)
            raise typer.BadParameter(reason, param_hint=option)
    if epoch is not None and name != options.AUTO:
        raise typer.BadParameter("requires a graph in place of NAME, or auto", param_hint="--epoch")
    with console.refusals(verbose=verbose), console.progress() as progress:
        # Two networks run side by side: idle threads of one must not occupy cores that the other needs.
        os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
        result = automatic_conversion.convert(
            name,
            out,
            params=params,
            epoch=epoch,
            source=source,
            random=random,
            symbol=symbol,
            backbone=backbone,
            output_stride=options.stride(output_stride),
            labels=labels,
            dtype=dtype,
            pth=pth,
            exports=exports,
            options=options.parity_options(reference, size, proof_dtype, gluon_python),
            progress=progress,
        )
    if isinstance(result, GraphConversionResult):
        graph.print_result(result, as_json=as_json, is_automatic=True)
        return
    if as_json:
        typer.echo(schema.encode(result.manifest), nl=False)
    screen = console.lines(stderr=as_json)
    if name == options.AUTO or result.model.arguments:
        screen.print(f"[green]model[/]   {result.model}")
    _summary(result, screen)


def _graph_option_refusal(name: str, option: str, params: Path | None) -> str:
    """Return why an option of a graph cannot be used with a model.

    Raises:
        CatalogError: if there is no such model.
        ConversionError: if the parameters cannot be read, or are those of several networks.
    """
    from converter.commands import automatic_conversion
    from converter.networks import catalog

    if name == options.AUTO:
        command = None
        if params is not None and params.is_file():
            command = automatic_conversion.graph_command(params)
        hint = f": {command}, with the same options" if command else ""
        return f"requires the name of a network of GluonCV or a graph in place of auto{hint}"
    model = catalog.find(name)
    if option in {"--output", "--input"}:
        return "requires a graph in place of NAME"
    return f"{name} is a native model, whose tensor names are already timm's ({model.name}): omit {option}"


def _is_graph(name: str, *, has_params: bool, verbose: bool) -> bool:
    from converter.networks import graph_argument

    with console.refusals(verbose=verbose):
        return graph_argument.is_meant(name, has_params=has_params)


def _summary(result: conversion.ConversionResult, screen: Console) -> None:
    """Print the source, the graph, the proof, the written files and the next command."""
    manifest = result.manifest
    source, proof, artifact = manifest.source, manifest.parity, manifest.artifact
    publication = "the published file" if source.official else "not a published file"
    screen.print(
        f"[green]read[/]    {console.word(source.file)}: {source.dialect} names, "
        f"SHA-1 {source.sha1[:8]} ({publication})"
    )
    if source.hub:
        place = f"rebuilt from hf-hub:{source.hub.repository}@{source.hub.revision[:8]}"
        screen.print(f"[green]from[/]    {console.word(place)}")
    for label, text in console.wrapping_lines(source.wrapping).items():
        screen.print(f"[yellow]{label:7}[/] {console.word(text)}")
    screen.print(f"[green]graph[/]   {console.word(_graph_text(source, proven=proof.proven))}")
    if source.preprocessing:
        remark = "recorded in the manifest, not part of the network"
        screen.print(f"[yellow]images[/]  {console.preprocessing(source.preprocessing)}: {remark}")
    if result.class_list:
        screen.print(f"[green]labels[/]  {console.word(result.class_list)}")
    if source.fixed_gammas:
        text = f"{', '.join(source.fixed_gammas)}: written as 1, because {source.symbol} sets fix_gamma"
        screen.print(f"[yellow]fixed[/]   {console.word(text)}")
    if manifest.narrowing:
        _print_rounding(manifest.narrowing, screen)
    elif proof.proven:
        screen.print(f"[green]proven[/]  {console.proven(proof)}")
    else:
        screen.print("[yellow]unproven[/] the outputs were not compared (--reference none)")
    screen.print(
        f"[green]wrote[/]   {console.word(result.artifact)} "
        f"({artifact.bytes / console.MEGABYTE:.1f} MB, {artifact.tensors} tensors) and its manifest"
    )
    console.print_more_files(result.more, artifact.exports, screen)
    weights = _weights_option(result.artifact)
    if result.model.classifies_images:
        screen.print(f"[blue]next[/]    gluon2torch predict IMAGE --weights {weights}")
    else:
        features = "" if result.model.config.num_classes else ", features_only=True"
        call = f'resnext_torch.create_model("{result.model.name}", "{result.artifact}"{features})'
        screen.print(f"[blue]next[/]    {console.word(call)}")


def _graph_text(source: SourceRecord, *, proven: bool) -> str:
    """Describe the graph of the parameters, or its absence."""
    if source.symbol is None:
        return f"none found; {'compared with' if proven else 'assumed to be'} GluonCV's own definition"
    remark = "; its final softmax is not converted" if source.final_softmax else ""
    remark += "; its casts between floating types are not converted" if source.casts else ""
    return f"{source.symbol}: operators, wiring and settings match{remark}"


def _weights_option(artifact: Path) -> str:
    """Return the folder of an artifact, or the artifact if the folder contains others, quoted for a shell."""
    is_only_one = len(list(artifact.parent.glob("*.safetensors"))) == 1
    return console.word(shlex.quote(f"{artifact.parent}/" if is_only_one else str(artifact)))


def _print_rounding(rounding: RoundingRecord, screen: Console) -> None:
    """Print the effect of rounding on the logits, and the proof of the weights before rounding."""
    before, logits = rounding.before, rounding.logits
    if before.proven:
        screen.print(f"[green]proven[/]  before rounding: {console.proven(before)}")
    screen.print(
        f"[yellow]rounded[/] to {rounding.dtype}: the logits change by up to {logits.relative:.1e} of "
        f"their standard deviation at {logits.size}; the written weights are not proven"
    )
