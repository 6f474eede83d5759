"""Messages about names that are not those of a model in the catalog."""

from __future__ import annotations

from converter.networks import gluoncv_models, recorded_index
from resnext_torch import names


def describe_gluoncv(name: str) -> str:
    """Return the message about a network of GluonCV that is not in the catalog, with what can be done."""
    if reason := recorded_index.refusal(name):
        return f"{name} is a GluonCV network that cannot be converted by its name: {reason}"
    return (
        f"{name} is a GluonCV network that is converted from its recorded graph: convert {name} OUT, "
        f"or converter.convert_graph({name!r}, OUT)"
    )


def describe_unknown(name: str, native: dict[str, str]) -> str:
    """Return the message about an unknown name, with a suggestion if it is incomplete or misspelt.

    Another network is never suggested for the name of a GluonCV model, nor one with other numbers.

    Args:
        name: the name.
        native: {GluonCV's name: our name} of the native models.
    """
    plain = name.lower().removeprefix(names.PREFIX)
    own = native | {own_name.removeprefix(names.PREFIX): own_name for own_name in native.values()}
    if plain in gluoncv_models.published_sha1s() and plain not in native:
        is_spelled = name == name.lower()
        return describe_gluoncv(plain) if is_spelled else f"unknown model {name!r}; did you mean {plain}?"
    suggestion = own.get(plain) or names.TIMM_NAMES.get(plain) or names.complete(plain, own)
    if suggestion is None and (correction := names.correct(plain, {*own, *gluoncv_models.published_sha1s()})):
        suggestion = own.get(correction, correction)
    if suggestion is None:
        return f"unknown model {name!r}; gluon2torch list shows the models"
    return f"unknown model {name!r}; did you mean {suggestion}?"
