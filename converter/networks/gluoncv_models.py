"""The names of all GluonCV models, covered or not, and the message about a name that is not covered."""

from __future__ import annotations

import difflib
import re
from functools import cache

from converter.networks import mapping

FILE = "gluoncv/models.toml"
PREFIX = "gluon_"  # of our names, where GluonCV's have none
SIMILARITY = 0.85  # of a name and its misspelling; one letter of ours changes less
NUMBER = re.compile(r"\d+")
LIST = "try gluon2torch list"


@cache
def published_sha1s() -> dict[str, str]:
    """Return {name: SHA-1 of the published parameters}, "" if none were published."""
    return mapping.load(mapping.folder() / FILE)[0]


def published_name(sha1: str) -> str | None:
    """Return the model whose published parameters have this SHA-1, None if there is none."""
    return {published: name for name, published in published_sha1s().items() if published}.get(sha1)


def not_covered(name: str) -> str:
    """Return the message about a model that exists in GluonCV only."""
    return f"{name} is a GluonCV model that gluon2torch does not cover; {LIST}"


def describe_unknown(name: str, covered: dict[str, str]) -> str:
    """Return the message about an unknown name, with a suggestion if it is incomplete or misspelt.

    Another network is never suggested for the name of a GluonCV model, nor one with other numbers.

    Args:
        name: the name.
        covered: {GluonCV's name: our name} of the covered models.
    """
    plain = name.lower().removeprefix(PREFIX)
    own = covered | {own_name.removeprefix(PREFIX): own_name for own_name in covered.values()}
    if plain in published_sha1s() and plain not in covered:
        return not_covered(plain)
    suggestion = own.get(plain) or _completion(plain, own) or _correction(plain, own)
    if suggestion is None:
        return f"unknown model {name!r}; the models are {', '.join(covered.values())}"
    remark = (
        "" if suggestion in own.values() else f" It is in GluonCV, but gluon2torch does not cover it; {LIST}"
    )
    return f"unknown model {name!r}; did you mean {suggestion}?{remark}"


def _completion(plain: str, own: dict[str, str]) -> str | None:
    """Return the first of our models that begins with the name: v1b for a ResNet without a version.

    The name contains at least the family, and no number in part: resnet10 is not resnet101.
    """
    for candidate, name in own.items():
        rest = candidate.removeprefix(plain)
        is_part = len(rest) < len(candidate) and not (plain[-1].isdigit() and rest[:1].isdigit())
        if is_part and len(plain) >= len(NUMBER.split(candidate)[0]):
            return name
    return None


def _correction(plain: str, own: dict[str, str]) -> str | None:
    """Return the model, ours or one of GluonCV only, whose name differs by a typing error."""
    numbers = NUMBER.findall(plain)
    candidates = [name for name in {*own, *published_sha1s()} if NUMBER.findall(name) == numbers]
    matches = difflib.get_close_matches(plain, candidates, n=1, cutoff=SIMILARITY)
    return own.get(matches[0], matches[0]) if matches else None
