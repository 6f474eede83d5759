"""The names of all GluonCV models, covered or not, and the message about a name that is not covered."""

from __future__ import annotations

from functools import cache

from converter.networks import mapping
from resnext_torch import names

FILE = "gluoncv/models.toml"
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
    plain = name.lower().removeprefix(names.PREFIX)
    own = covered | {own_name.removeprefix(names.PREFIX): own_name for own_name in covered.values()}
    if plain in published_sha1s() and plain not in covered:
        return not_covered(plain)
    suggestion = own.get(plain) or names.TIMM_NAMES.get(plain) or names.complete(plain, own)
    if suggestion is None and (correction := names.correct(plain, {*own, *published_sha1s()})):
        suggestion = own.get(correction, correction)
    if suggestion is None:
        return f"unknown model {name!r}; the models are {', '.join(covered.values())}"
    remark = (
        "" if suggestion in own.values() else f" It is in GluonCV, but gluon2torch does not cover it; {LIST}"
    )
    return f"unknown model {name!r}; did you mean {suggestion}?{remark}"
