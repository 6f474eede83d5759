"""Options of the commands that run a network on images."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from converter.choices import Backend, Device, Preprocessing
from converter.cli import console

if TYPE_CHECKING:
    from rich.console import Console
    from torch import nn

    from converter.exports.onnx_network import OnnxNetwork

Weights = Annotated[
    Path, typer.Option(help="Converted .safetensors or .pth file, or a folder that contains one.")
]
Recipe = Annotated[
    Preprocessing,
    typer.Option(help="Image preprocessing: `bicubic` as in timm, `gluon` as in GluonCV."),
]
BatchSize = Annotated[int, typer.Option(min=1, help="Number of images per batch.")]
Where = Annotated[Device, typer.Option(help="Device that runs the network; `auto` is a GPU if available.")]
Library = Annotated[
    Backend,
    typer.Option(help="Library that runs the network; `onnxruntime` runs a checked export, on the CPU."),
]

Json = Annotated[bool, typer.Option("--json", help="Print only the result on stdout, as JSON.")]


def show_export(network: nn.Module | OnnxNetwork, screen: Console, width: int) -> None:
    """Print the file that runs in place of the network, if one does, and how far it differs."""
    from converter.exports.onnx_network import OnnxNetwork

    if isinstance(network, OnnxNetwork):
        agreement = f"outputs agree with torch to {network.record.relative:.1e}"
        screen.print(f"[bold]{'onnx':{width}}[/]{console.word(str(network.file))}: {agreement}")
