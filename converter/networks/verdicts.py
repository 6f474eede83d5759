"""Say what a file's parameters are if they are not those of the requested network."""

from __future__ import annotations

import itertools
import re
from typing import TYPE_CHECKING

import numpy as np

from converter import names
from converter.errors import ConversionError, DialectError, MappingError
from converter.networks import detection, location, matching, naming_styles

if TYPE_CHECKING:
    from collections.abc import Collection

    from converter.formats.file_arrays import Arrays
    from converter.networks.catalog import Model
    from converter.networks.location import LocatedNetwork

GAMMA = re.compile(r"(?P<layer>.+[._])gamma")
STATISTICS = ("running_mean", "running_var")
NO_NETWORK = "parameters of no supported network"
GRAPH = "  try         its graph, if there is a -symbol.json: convert GRAPH OUT --params FILE"
BACKBONE = "  try         --backbone, which converts the network without a head"


def no_match(arrays: Arrays, file: str, requested: Model | None) -> ConversionError:
    """Return the error for parameters that do not match the requested network, or any.

    Args:
        arrays: the parameters by their names in the file.
        file: the file, for messages.
        requested: the network that the user selected, None for any.
    """
    if requested is not None and (others := location.locate(arrays, file)):
        verdict = " or ".join(dict.fromkeys(each.describe() for each in others))
        lines = str(difference(arrays, file, requested)).splitlines()[1:]
        models = " or ".join(dict.fromkeys(each.model.name for each in others))
        hint = f"  try         {models} in place of {requested.name}, or auto"
        return MappingError("\n".join([f"{file}: these are the tensors of {verdict}", *lines, hint]))
    verdict = (
        quantized(arrays)
        or _channels_last(arrays, file)
        or _without_statistics(arrays, file)
        or _of_symbol_api(arrays)
    )
    if verdict:
        return MappingError(f"{file}: {verdict}")
    return _closest(arrays, file) if requested is None else difference(arrays, file, requested)


def _closest(arrays: Arrays, file: str) -> ConversionError:
    """Return the error that names the closest network, and lists how the parameters differ from it."""
    model = detection.nearest([array.shape for array in arrays.values()])
    error = difference(arrays, file, model)
    reason, *lines = str(error).removeprefix(f"{file}: ").split("\n")
    if isinstance(error, DialectError):
        return DialectError("\n".join([f"{file}: {NO_NETWORK}: {reason}", *lines, GRAPH]))
    headline = f"{file}: {NO_NETWORK}; the closest is {model.name}"
    return MappingError("\n".join([headline, *_alternating(lines), GRAPH]))


def _alternating(lines: list[str]) -> list[str]:
    """Return lines in which missing and unexpected names alternate, so that the first lines show both."""
    unexpected = [line for line in lines if line.lstrip().startswith("unexpected")]
    others = [line for line in lines if not line.lstrip().startswith("unexpected")]
    pairs = itertools.zip_longest(others, unexpected)
    return [line for pair in pairs for line in pair if line is not None]


def difference(arrays: Arrays, file: str, model: Model) -> ConversionError:
    """Return the error that lists how parameters differ from a network's."""
    try:
        naming = naming_styles.read(arrays, file)
        params = {name: arrays[file_name] for name, file_name in naming.resolve(model.mapping).items()}
        model = detection.with_config_of(model, params)
        matching.rename(model.mapping, params, model.shapes, file)
    except (DialectError, MappingError) as error:
        return error
    return MappingError(f"{file}: the tensors do not match {model.name}")


def other_head(found: LocatedNetwork, arrays: Arrays, file: str, model: Model) -> MappingError:
    """Return the error for a network whose head has other arrays than the network's own."""
    _, *lines = str(difference(arrays, file, model)).split("\n")
    headline = f"{file}: {found.model.name} with a head that does not fit its backbone"
    return MappingError("\n".join([headline, *lines, BACKBONE]))


def without_head(found: LocatedNetwork, file: str) -> MappingError:
    """Return the error for parameters that contain a requested network's backbone and not its head."""
    rest = found.wrapping.rest if found.wrapping else ()
    lines = [f"{file}: contains {found.describe()}"]
    lines += [f"  other       {name}" for name in rest]
    return MappingError("\n".join([*lines, BACKBONE]))


def backbone_of(found: LocatedNetwork, network: str, file: str) -> MappingError:
    """Return the error for parameters of a recorded network, in which a model is only the backbone."""
    return MappingError(
        f"{file}: parameters of GluonCV's {network}, whose backbone is {found.model.name}\n"
        f"  try         {network} in place of auto\n"
        f"  or          --backbone, which takes the backbone alone"
    )


def more_parameters(found: LocatedNetwork, file: str) -> MappingError:
    """Return the error for a whole network with other parameters, which may change what it computes."""
    rest = found.wrapping.rest if found.wrapping else ()
    own = found.wrapping.own_head_names if found.wrapping else ()
    others = [name for name in rest if name not in own]
    count = f"{len(others)} other parameter{'s' if len(others) > 1 else ''}"
    lines = [f"{file}: {found.model.name} with {count} that it may depend on"]
    lines += [f"  other       {name}" for name in others]
    return MappingError("\n".join([*lines, BACKBONE]))


def several(found: Collection[LocatedNetwork], file: str) -> MappingError:
    """Return the error for parameters that contain a network several times."""
    lines = [
        f"{file}: contains {len(found)} networks",
        *(f"  network     {each.describe()}" for each in found),
    ]
    return MappingError("\n".join([*lines, "  try         a file that contains one of them"]))


def own_strides(found: LocatedNetwork, file: str) -> MappingError:
    """Return the error for a backbone that its network runs with other strides than the model has."""
    return MappingError(
        f"{file}: contains {found.describe()}\n"
        "  try         --backbone, which converts it with the strides of the model"
    )


def quantized(arrays: Arrays) -> str:
    """Return the verdict for int8 parameters, or ""."""
    count = sum(array.dtype == np.int8 for array in arrays.values())
    verb = "is" if count == 1 else "are"
    return (
        f"parameters of a network quantized to int8: {count} of {len(arrays)} arrays {verb} int8\n"
        "  try         the float parameters from which it was quantized"
        if count
        else ""
    )


def _of_symbol_api(arrays: Arrays) -> str:
    """Return the verdict for names of MXNet's symbol API, or "".

    Its BatchNorms have a moving mean, where Gluon's have a running mean.
    """
    plain = naming_styles.plain(arrays)
    if any("." in name for name in plain) or not any(map(naming_styles.MOVING.search, plain)):
        return ""
    own = {*naming_styles.parameters(plain)}
    foreign = [name for name in plain if name not in own]
    if not foreign:
        return ""
    headline = "parameters of a network that was built with MXNet's symbol API, not a supported network"
    return "\n".join([headline, *(f"  other       {name}" for name in names.shorten(foreign)), GRAPH])


def _channels_last(arrays: Arrays, file: str) -> str:
    def shape(axes: tuple[int, ...]) -> tuple[int, ...]:
        return (axes[0], axes[3], axes[1], axes[2]) if len(axes) == detection.CONV_DIMENSIONS else axes

    return _identify_by_shapes(
        {name: shape(array.shape) for name, array in arrays.items()},
        arrays,
        file,
        "{}, in the layout NHWC: the weights of its convolutions are (out, height, width, in)\n"
        "  try         transpose these weights with weight.transpose(0, 3, 1, 2), and save them again",
    )


def _without_statistics(arrays: Arrays, file: str) -> str:
    shapes = {name: array.shape for name, array in arrays.items()}
    gammas = [(match["layer"], name) for name in arrays if (match := GAMMA.fullmatch(name))]
    added = {f"{layer}{role}": shapes[name] for layer, name in gammas for role in STATISTICS}
    if not added or added.keys() & shapes.keys():
        return ""
    return _identify_by_shapes(
        shapes | added,
        arrays,
        file,
        f"{{}} without running statistics, or with another normalization in place of its {len(gammas)} "
        "BatchNorms\n"
        "  expected    a BatchNorm has them; GroupNorm, as in GluonCV's resnet50_v1b_gn, is not supported\n"
        "  try         net.save_parameters, which saves all parameters, or net.export",
    )


def _identify_by_shapes(shapes: dict[str, tuple[int, ...]], arrays: Arrays, file: str, text: str) -> str:
    """Return the verdict for arrays that a network would have in these other shapes, or ""."""
    zero = np.zeros((), np.float32)
    alike = {name: np.broadcast_to(zero, shape) for name, shape in shapes.items()}
    if all(shapes[name] == array.shape for name, array in arrays.items()) and len(shapes) == len(arrays):
        return ""
    found = location.locate(alike, file)
    return text.format(" or ".join(each.describe() for each in found)) if found else ""
