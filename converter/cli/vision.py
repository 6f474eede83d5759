"""Options of the commands that run a network on images."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from converter.choices import Device, Preprocessing

Weights = Annotated[
    Path, typer.Option(help="Converted .safetensors or .pth file, or a folder that contains one.")
]
Recipe = Annotated[
    Preprocessing,
    typer.Option(help="Image preprocessing: `bicubic` as in timm, `gluon` as in GluonCV."),
]
BatchSize = Annotated[int, typer.Option(min=1, help="Number of images per batch.")]
Where = Annotated[Device, typer.Option(help="Device that runs the network; `auto` is a GPU if available.")]

Json = Annotated[bool, typer.Option("--json", help="Print only the result on stdout, as JSON.")]
