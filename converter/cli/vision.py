"""Options of the commands that run a network on images."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from converter.choices import Device, Preprocessing

Weights = Annotated[
    Path, typer.Option(help="A converted .safetensors, a .pth, or a folder with one of them.")
]
Recipe = Annotated[
    Preprocessing,
    typer.Option(help="How images are prepared: `bicubic`, as timm does, or `gluon`, as GluonCV did."),
]
BatchSize = Annotated[int, typer.Option(min=1, help="So many images go through the network at once.")]
Where = Annotated[Device, typer.Option(help="Where the network runs; `auto`: on a GPU where there is one.")]

Json = Annotated[bool, typer.Option("--json", help="Print it as JSON, and nothing else, on stdout.")]
