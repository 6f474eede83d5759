"""Find the classifier among the parameters that are not part of a network's backbone."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from converter.networks.detection import HEAD_DIMENSIONS

if TYPE_CHECKING:
    from converter.formats.file_arrays import AnyArray, Arrays

LAYER = re.compile(r"(?P<layer>.+)[._](?P<role>[a-z]+)")
DENSE = re.compile(r"(.*[._])?dense[0-9]+")  # an index-based name


@dataclass(frozen=True, slots=True, kw_only=True)
class Head:
    """A dense layer that classifies the features of a backbone.

    Attributes:
        layer: its name in the file.
        names: {role: name in the file}; a layer without a bias has none.
        unused: the names of other dense layers on the same features, which the network does not use.
    """

    layer: str
    names: dict[str, str]
    unused: tuple[str, ...] = ()


def find(rest: Arrays, own: str, features: int) -> Head | None:
    """Return the head among the parameters besides the backbone, None if it is not certain which one it is.

    A network uses the head in its own place; other dense layers on the features are unused, unless they may
    follow the head, because it returns as many values as there are features. Elsewhere, a single dense layer
    with a bias is the head if it is all that there is; without a bias it may be an embedding, unless it is
    named as a dense layer.

    Args:
        rest: the parameters that are not part of the backbone, by their names in the file.
        own: the name of the layer in the network's own place.
        features: the number of features that the backbone returns.
    """
    layers: dict[str, dict[str, str]] = {}
    for name in rest:
        if (match := LAYER.fullmatch(name)) is None:
            return None
        layers.setdefault(match["layer"], {})[match["role"]] = name
    if not all(
        _is_dense({role: rest[name] for role, name in roles.items()}, features) for roles in layers.values()
    ):
        return None
    is_own = own in layers
    layer = own if is_own else next(iter(layers), "")
    if not is_own and (len(layers) != 1 or not ("bias" in layers[layer] or DENSE.fullmatch(layer))):
        return None
    if len(layers) > 1 and rest[layers[layer]["weight"]].shape[0] == features:
        return None
    unused = tuple(name for other, roles in layers.items() if other != layer for name in roles.values())
    return Head(layer=layer, names=layers[layer], unused=unused)


def names_of(layer: str, rest: Arrays) -> list[str]:
    """Return the names of a layer's arrays."""
    matches = ((name, LAYER.fullmatch(name)) for name in rest)
    return [name for name, match in matches if match and match["layer"] == layer]


def _is_dense(arrays: dict[str, AnyArray], features: int) -> bool:
    """Return whether a layer's arrays are those of a dense layer that takes the features."""
    weight, bias = arrays.get("weight"), arrays.get("bias")
    if weight is None or not arrays.keys() <= {"weight", "bias"} or weight.ndim != HEAD_DIMENSIONS:
        return False
    return weight.shape[1] == features and (bias is None or bias.shape == weight.shape[:1])
