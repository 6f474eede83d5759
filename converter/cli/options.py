"""Options that several commands share, and the functions that check and convert them."""

from __future__ import annotations

import itertools
import re
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from converter.choices import ReferenceChoice

if TYPE_CHECKING:
    from converter.networks.loading import ParamsSource
    from converter.parity.runner import ParityOptions

AUTO = "auto"


class ReferenceOption(StrEnum):
    """The references of `gluon2torch parity`, which needs one."""

    auto = "auto"
    gluon = "gluon"
    numpy = "numpy"


class ProofDtypeOption(StrEnum):
    """The precisions that a proof can run in."""

    float64 = "float64"
    float32 = "float32"


def read_size(text: str) -> tuple[int, int]:
    """Parse an input size, ``224`` or ``97x131`` with the height first, in pixels.

    Raises:
        BadParameter: if the text is not a size, or the size is out of range.
    """
    from converter.parity.result import LARGEST, SMALLEST

    match = re.fullmatch(r"(\d{1,5})(?:[x×](\d{1,5}))?", text)
    height, width = (int(match[1]), int(match[2] or match[1])) if match else (0, 0)
    if not (SMALLEST <= height <= LARGEST and SMALLEST <= width <= LARGEST):
        raise typer.BadParameter(
            f"{text!r} is no size: write 224, or 97x131 (height x width), {SMALLEST} to {LARGEST} pixels"
        )
    return height, width


Name = Annotated[
    str,
    typer.Argument(help="The model; `gluon2torch list` shows them all. `auto`: the file's tensors tell it."),
]
Params = Annotated[
    Path | None,
    typer.Option(
        help="A .params file, or a .gz, .zip, .mar, .tar or .tar.gz of one. Without it: GluonCV's cache, "
        "then a download.",
        dir_okay=False,
    ),
]
Symbol = Annotated[
    Path | None,
    typer.Option(
        help="The network's graph, a -symbol.json file. Without it: the graph in the same archive or folder "
        "that has the same parameters, if there is one.",
        dir_okay=False,
    ),
]
Random = Annotated[
    int | None,
    typer.Option(
        metavar="SEED", min=0, help="Make random parameters from a seed and take those; no network."
    ),
]
Reference = Annotated[
    ReferenceChoice,
    typer.Option(help="What to prove the result against; `auto` is GluonCV where it runs, else numpy."),
]
Size = Annotated[
    list[Any] | None,
    typer.Option(
        parser=read_size,
        metavar="H[xW]",
        show_default="65x95",
        help="Input size of the proof; may be repeated.",
    ),
]
Dtypes = Annotated[
    list[ProofDtypeOption] | None,
    typer.Option(
        "--proof-dtype",
        metavar="TYPE",
        show_default="both",
        help="Precision of the proof, float64 or float32; may be repeated.",
    ),
]
GluonPython = Annotated[
    Path | None,
    typer.Option(envvar="GLUON_PYTHON", help="An interpreter that has MXNet and GluonCV."),
]


def params_source(
    name: str, params: Path | None, random: int | None, symbol: Path | None = None
) -> ParamsSource:
    """Return the source of the parameters.

    Raises:
        CatalogError: if the model is unknown.
    """
    from converter.networks import catalog
    from converter.networks.loading import ParamsSource

    return ParamsSource(None if name == AUTO else catalog.find(name), params, random, symbol)


def check_params_source(
    name: str, params: Path | None, random: int | None, symbol: Path | None = None
) -> None:
    """Refuse a call that names two sources of the parameters, or needs a file and names none.

    Raises:
        BadParameter: if the options contradict each other or one is missing.
    """
    if params is not None and random is not None:
        raise typer.BadParameter("--params and --random exclude each other")
    if params is None and name == AUTO:
        raise typer.BadParameter("auto tells the model by a file: --params FILE")
    if params is None and symbol is not None:
        raise typer.BadParameter("--symbol belongs to a file: --params FILE")
    if Path(name).is_file():
        raise typer.BadParameter(
            f"{name} is a file, where a model is named; auto --params {name} tells which"
        )


def parity_options(
    choice: ReferenceChoice,
    sizes: list[tuple[int, int]] | None,
    dtypes: list[ProofDtypeOption] | None,
    gluon_python: Path | None,
) -> ParityOptions:
    """Return the options of a proof, with a probe for each size in each precision."""
    from converter.parity.runner import DEFAULT_PROBES, ParityOptions
    from converter.references.probes import Probe

    chosen_sizes = dict.fromkeys(sizes or [probe.size for probe in DEFAULT_PROBES])
    chosen_dtypes = dict.fromkeys(dtypes or [ProofDtypeOption(probe.dtype) for probe in DEFAULT_PROBES])
    pairs = itertools.product(chosen_dtypes, chosen_sizes)
    return ParityOptions(choice, tuple(Probe(dtype.value, size) for dtype, size in pairs), gluon_python)


def refuse_unused(
    reference: ReferenceChoice, sizes: list[tuple[int, int]] | None, dtypes: list[ProofDtypeOption] | None
) -> None:
    """Refuse sizes and precisions of a proof if there is no reference.

    Raises:
        BadParameter: if any is given with ``--reference none``.
    """
    if reference is ReferenceChoice.none and (sizes or dtypes):
        raise typer.BadParameter("--size and --proof-dtype are of the proof, and --reference none makes none")
