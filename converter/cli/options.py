"""Options that several commands share, and the functions that check and convert them."""

from __future__ import annotations

import re
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from converter.choices import ReferenceChoice

if TYPE_CHECKING:
    from converter.parity.options import ParityOptions

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


class OutputStrideOption(StrEnum):
    """The output strides of the networks, except CIFAR's."""

    eight = "8"
    sixteen = "16"
    thirty_two = "32"


def read_size(text: str) -> tuple[int, int]:
    """Parse an input size, ``224`` or ``97x131`` with the height first, in pixels.

    Raises:
        BadParameter: if the text is not a size.
    """
    match = re.fullmatch(r"(\d{1,5})(?:[x×](\d{1,5}))?", text)
    if match is None:
        raise typer.BadParameter(f"{text!r} is not a valid size: expected H or HxW, such as 224 or 97x131")
    return int(match[1]), int(match[2] or match[1])


def complete_model(incomplete: str) -> list[str]:
    """Return the names of models for a word in the shell."""
    from converter.networks import catalog

    return catalog.completions(incomplete)


def complete_listed(incomplete: str) -> list[str]:
    """Return the names of models, also of those in GluonCV only, for a word in the shell."""
    from converter.networks import zoo

    return zoo.completions(incomplete)


def complete_family(incomplete: str) -> list[str]:
    """Return the names of families for a word in the shell."""
    from converter.networks import families

    return [name for name in families.families() if name.startswith(incomplete)]


def complete_name(incomplete: str) -> list[str]:
    """Return the names of models, or `auto`, for a word in the shell."""
    return [*([AUTO] if AUTO.startswith(incomplete) else []), *complete_model(incomplete)]


Name = Annotated[
    str,
    typer.Argument(
        metavar="NAME|GRAPH",
        help="Model name, as shown by `gluon2torch list`; `auto` detects the model from the tensors. Or "
        "a graph: a -symbol.json, its prefix, a folder or an archive.",
        autocompletion=complete_name,
    ),
]
Params = Annotated[
    Path | None,
    typer.Option(
        help="Gluon parameters: a .params file, or a .gz, .zip, .mar, .tar or .tar.gz that contains one.",
        show_default="GluonCV's cache, then download",
    ),
]
From = Annotated[
    str | None,
    typer.Option(
        "--from",
        metavar="hf-hub:ORG/NAME[@REVISION]",
        help="Checkpoint on the Hugging Face Hub, used instead of Gluon parameters; needs the extra hub.",
    ),
]
Symbol = Annotated[
    Path | None,
    typer.Option(
        help="Graph of the network, a -symbol.json file.",
        show_default="graph with the same parameters in the same folder or archive, if any",
        dir_okay=False,
    ),
]
OutputStride = Annotated[
    OutputStrideOption | None,
    typer.Option(
        help="Output stride of the network; 8 or 16 if it is dilated.",
        show_default="that of the graph, else 32",
    ),
]
Random = Annotated[
    int | None,
    typer.Option(metavar="SEED", min=0, help="Seed for random parameters, used instead of real ones."),
]
Backbone = Annotated[
    bool,
    typer.Option(
        "--backbone",
        help="Take the network without its head, also out of a detector or a segmentation network.",
    ),
]
Reference = Annotated[
    ReferenceChoice,
    typer.Option(help="Reference to compare with; `auto` is GluonCV if it can run, else numpy."),
]
Size = Annotated[
    list[Any] | None,
    typer.Option(
        parser=read_size,
        metavar="H[xW]",
        show_default="65x95",
        help="Input size of the proof, height x width in pixels; repeatable.",
    ),
]
Dtypes = Annotated[
    list[ProofDtypeOption] | None,
    typer.Option(
        "--proof-dtype",
        metavar="TYPE",
        show_default="both",
        help="Precision of the proof, float64 or float32; repeatable.",
    ),
]
GluonPython = Annotated[
    Path | None,
    typer.Option(
        envvar="GLUON_PYTHON",
        help="Python interpreter with MXNet and GluonCV.",
        show_default="the current interpreter",
    ),
]
Key = Annotated[
    str | None,
    typer.Option(
        metavar="KEY",
        help="Key of the state dict in a checkpoint that contains several; dots separate nested keys.",
        show_default="detected from the names of the tensors",
    ),
]
Verbose = Annotated[
    bool, typer.Option("--verbose", help="Print error messages in full, not only their first lines.")
]


Epoch = Annotated[
    int | None,
    typer.Option(min=0, help="Epoch of the parameters, the number in their file name, if there are several."),
]
Output = Annotated[
    str | None,
    typer.Option(metavar="NODE", help="Of a graph: the node in which the network ends, e.g. fc1."),
]
Inputs = Annotated[
    list[str] | None,
    typer.Option(
        "--input",
        metavar="NAME=SHAPE",
        help="Of a graph: the shape of an input in the proof, e.g. data=1x3x224x224; repeatable.",
        show_default="derived from the graph and --size",
    ),
]


Target = Annotated[
    str | None,
    typer.Option(
        metavar="timm[:NAME]|torchvision[:NAME]|package.module:NAME",
        help="Write the weights for an existing PyTorch module: a model of timm or torchvision, or a "
        "callable that returns a module. `timm` or `torchvision` alone selects the model that matches "
        "a GluonCV network.",
        show_default="a generated module",
    ),
]
TargetArgs = Annotated[
    str | None,
    typer.Option(metavar="JSON", help="Keyword arguments of the target, e.g. '{\"num_classes\": 10}'."),
]
Adapt = Annotated[
    bool,
    typer.Option(
        "--adapt",
        help="On the target, set eps, slopes, strides, paddings, dilations, and kernel sizes and ceil_mode "
        "of pools as the graph has them; the manifest lists them. A table (--mapping, `timm`, "
        "`torchvision`) includes such settings.",
    ),
]

Mapping = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE.toml",
        help="With a target: use this layer table, written by --save-mapping, instead of a search.",
        dir_okay=False,
    ),
]
SaveMapping = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE.toml", help="Of a target: write the table of its layers to this file.", dir_okay=False
    ),
]


def target_arguments(text: str | None) -> dict[str, Any] | None:
    """Return the keyword arguments in a JSON object; None without any.

    Raises:
        BadParameter: if the text is not a JSON object.
    """
    if text is None:
        return None
    import json

    try:
        document = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise typer.BadParameter(f"not JSON: {error}", param_hint="--target-args") from error
    if not isinstance(document, dict):
        raise typer.BadParameter(
            "expected a JSON object, such as '{\"num_classes\": 10}'", param_hint="--target-args"
        )
    return document


def stride(option: OutputStrideOption | None) -> int | None:
    """Return an output stride as a number."""
    return None if option is None else int(option)


def input_shapes(options: list[str] | None) -> dict[str, tuple[int, ...]] | None:
    """Return the shapes of the options ``NAME=1x3x224x224``, by name; None without any.

    Raises:
        BadParameter: with the option that has another form.
    """
    shapes = {}
    for option in options or ():
        match = re.fullmatch(r"(.+)=(\d{1,5}(?:[x×]\d{1,5})*)", option)
        if match is None or 0 in (shape := tuple(map(int, re.split("[x×]", match[2])))):
            raise typer.BadParameter(
                f"{option!r} is not NAME=SHAPE, such as data=1x3x224x224", param_hint="--input"
            )
        if match[1] in shapes:
            raise typer.BadParameter(f"{match[1]} has two shapes", param_hint="--input")
        shapes[match[1]] = shape
    return shapes or None


def parity_options(
    reference: str,
    sizes: list[tuple[int, int]] | None,
    dtypes: list[ProofDtypeOption] | None,
    gluon_python: Path | None,
) -> ParityOptions:
    """Return the options of a proof."""
    from converter.parity.options import ParityOptions

    return ParityOptions(reference, sizes=sizes or (), dtypes=dtypes or (), gluon_python=gluon_python)
