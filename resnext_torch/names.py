"""The names of the networks, GluonCV's and timm's names for them, and suggestions for unknown names."""

from __future__ import annotations

import difflib
import fnmatch
import re
from typing import TYPE_CHECKING

from .config import CONFIGS

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

PREFIX = "gluon_"  # of every network's name
TIMM_TAG = ".gluon_in1k"  # of the networks in timm that have GluonCV's weights
SIMILARITY = 0.85  # of a name and its misspelling; one changed letter leaves more
NUMBER = re.compile(r"\d+")

# GluonCV's other names are ours without the prefix.
OTHER_SPELLINGS = {
    "gluon_seresnext50_32x4d": "se_resnext50_32x4d",
    "gluon_seresnext101_32x4d": "se_resnext101_32x4d",
    "gluon_seresnext101_64x4d": "se_resnext101_64x4d",
    "gluon_seresnext101e_64x4d": "se_resnext101e_64x4d",
    "gluon_senet154": "senet_154",
    "gluon_senet154e": "senet_154e",
}
GLUON_NAMES = {OTHER_SPELLINGS.get(name, name.removeprefix(PREFIX)): name for name in CONFIGS}

# The same networks in timm: the tensor names are equal and, as a test checks, the logits too.
# timm lacks v1e, the `e` variants and the CIFAR networks. Its senet154 differs: docs/senet154.md.
TIMM_ARCHITECTURES = {
    "gluon_resnext50_32x4d": "resnext50_32x4d",
    "gluon_resnext101_32x4d": "resnext101_32x4d",
    "gluon_resnext101_64x4d": "resnext101_64x4d",
    "gluon_seresnext50_32x4d": "seresnext50_32x4d",
    "gluon_seresnext101_32x4d": "seresnext101_32x4d",
    "gluon_seresnext101_64x4d": "seresnext101_64x4d",
    "gluon_resnet18_v1b": "resnet18",
    "gluon_resnet34_v1b": "resnet34",
    "gluon_resnet50_v1b": "resnet50",
    "gluon_resnet101_v1b": "resnet101",
    "gluon_resnet152_v1b": "resnet152",
    "gluon_resnet50_v1c": "resnet50c",
    "gluon_resnet101_v1c": "resnet101c",
    "gluon_resnet152_v1c": "resnet152c",
    "gluon_resnet50_v1d": "resnet50d",
    "gluon_resnet101_v1d": "resnet101d",
    "gluon_resnet152_v1d": "resnet152d",
    "gluon_resnet50_v1s": "resnet50s",
    "gluon_resnet101_v1s": "resnet101s",
    "gluon_resnet152_v1s": "resnet152s",
}
TIMM_NAMES = {architecture: name for name, architecture in TIMM_ARCHITECTURES.items()}
# Networks in timm with GluonCV's weights: the same weights, even where the network differs.
TAGGED = {f"{timm}{TIMM_TAG}": name for timm, name in (TIMM_NAMES | {"senet154": "gluon_senet154"}).items()}

# The same networks in torchvision, under timm's names.
TORCHVISION_ARCHITECTURES = {
    name: TIMM_ARCHITECTURES[name]
    for name in (
        *(f"gluon_resnet{depth}_v1b" for depth in (18, 34, 50, 101, 152)),
        *("gluon_resnext50_32x4d", "gluon_resnext101_64x4d"),
    )
}

# GluonCV published no parameters of these.
UNPUBLISHED = frozenset(
    {
        "gluon_cifar_resnext29_32x4d",
        "gluon_resnet50_v1e",
        "gluon_resnet101_v1e",
        "gluon_resnet152_v1e",
        "gluon_resnext101e_64x4d",
        "gluon_seresnext101e_64x4d",
        "gluon_senet154e",
    }
)


def resolve(name: str) -> str:
    """Return the network of a name: its own, GluonCV's, or timm's with the tag ``gluon_in1k``.

    Raises:
        KeyError: if there is none; with a suggestion if the name is incomplete or misspelt.
    """
    if name in CONFIGS:
        return name
    resolved = GLUON_NAMES.get(name) or TAGGED.get(name)
    if resolved is None:
        raise KeyError(f"unknown network {name!r}; {_hint(name)}")
    return resolved


def list_models(
    filter: str | Iterable[str] = "",  # noqa: A002 - timm's name
    *,
    pretrained: bool = False,
    exclude_filters: str | Iterable[str] = "",
) -> list[str]:
    """Return the names of the networks.

    Args:
        filter: patterns of the names, such as "*50*"; by default all.
        pretrained: whether to return only networks of which GluonCV published weights, those of
            ``create_model(name, pretrained=True)``.
        exclude_filters: patterns of names that are not returned.
    """
    include, exclude = _patterns(filter), _patterns(exclude_filters)
    return [
        name
        for name in CONFIGS
        if (not include or _matches(name, include))
        and not _matches(name, exclude)
        and not (pretrained and name in UNPUBLISHED)
    ]


def complete(name: str, candidates: Mapping[str, str]) -> str | None:
    """Return the network of the first candidate that begins with an incomplete name: the family, or more.

    The name must end in front of an underscore or a number: resnet10 does not begin resnet101, nor does
    resnet50_v1, another network of GluonCV, begin resnet50_v1b.

    Args:
        name: the name in lower case, without the prefix.
        candidates: {name: network}.
    """
    for candidate, network in candidates.items():
        rest = candidate.removeprefix(name)
        is_part = rest[:1] == "_" or (rest[:1].isdigit() and not name[-1:].isdigit())
        if len(rest) < len(candidate) and is_part and len(name) >= len(NUMBER.split(candidate)[0]):
            return network
    return None


def correct(name: str, candidates: Iterable[str]) -> str | None:
    """Return the candidate that differs from a name by a typing error, not by its numbers."""
    numbers = NUMBER.findall(name)
    same_numbers = [candidate for candidate in candidates if NUMBER.findall(candidate) == numbers]
    matches = difflib.get_close_matches(name, same_numbers, n=1, cutoff=SIMILARITY)
    return matches[0] if matches else None


def _hint(name: str) -> str:
    plain = name.lower().removeprefix(PREFIX)
    own = GLUON_NAMES | {candidate.removeprefix(PREFIX): candidate for candidate in CONFIGS}
    suggestion = own.get(plain) or TIMM_NAMES.get(plain) or complete(plain, own)
    if suggestion is None:
        is_incomplete = any(candidate.startswith(plain) for candidate in own)
        suggestion = None if is_incomplete else own.get(correct(plain, own) or "")
    if suggestion:
        return f"did you mean {suggestion}?"
    convert = f"gluon2torch convert {plain} OUT"  # GluonCV's other names are not known here
    return f"see list_models(), or {convert} (--target timm or torchvision) for another network of GluonCV"


def _patterns(patterns: str | Iterable[str]) -> list[str]:
    return [patterns] * bool(patterns) if isinstance(patterns, str) else [*patterns]


def _matches(name: str, patterns: list[str]) -> bool:
    return any(fnmatch.fnmatch(name, pattern) for pattern in patterns)
