"""The names of all GluonCV models, and the SHA-1s of the parameters that GluonCV published."""

from __future__ import annotations

from functools import cache

from converter.networks import mapping

FILE = "gluoncv/models.toml"


@cache
def published_sha1s() -> dict[str, str]:
    """Return {name: SHA-1 of the published parameters}, "" if none were published."""
    return mapping.load(mapping.folder() / FILE)[0]


def published_name(sha1: str) -> str | None:
    """Return the model whose published parameters have this SHA-1, None if there is none."""
    return {published: name for name, published in published_sha1s().items() if published}.get(sha1)
