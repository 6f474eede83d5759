"""Check with its ``config.json`` that a checkpoint of the Hub belongs to a network.

The tensors do not show it: timm has networks with the same tensors and other outputs, such as those that blur
before they subsample (``resnetblur50``, ``resnetaa50d``).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from converter.errors import SourceError
from converter.names import clipped, printable
from converter.sources.hub import CONFIGURATION, WEIGHTS
from resnext_torch.names import TIMM_ARCHITECTURES, TIMM_NAMES

if TYPE_CHECKING:
    from converter.networks.catalog import Model

# Arguments that the tensors show, or that have no effect on the outputs of a trained network.
WITHOUT_EFFECT = {"drop_path_rate", "drop_rate", "in_chans", "num_classes"}
STRIDE = "output_stride"
DEFAULTS = {"global_pool": "avg"}


class _Configuration(msgspec.Struct, frozen=True):
    """The entries that determine the network, under timm's keys."""

    architecture: str | None = None
    model_args: dict[str, Any] | None = None


def require_network(model: Model, content: bytes, place: str, output_stride: int | None) -> None:
    """Check that a configuration describes a model.

    Args:
        model: the model that has the tensors.
        content: the ``config.json``.
        place: its repository, for messages.
        output_stride: the output stride that the user selected.

    Raises:
        SourceError: if it describes another network, or one with another output stride.
    """
    try:
        configuration = msgspec.json.decode(content, type=_Configuration)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        reason = printable(clipped(str(error)))
        raise SourceError(f"{place}: {CONFIGURATION} does not describe a network: {reason}") from error
    name = configuration.architecture
    if name is not None and TIMM_NAMES.get(name, name) != model.name:
        raise _other_network(model, name, place)
    _require_arguments(model, configuration, place, output_stride)


def _other_network(model: Model, name: str, place: str) -> SourceError:
    found, expected = printable(clipped(name)), TIMM_ARCHITECTURES.get(model.name, model.name)
    return SourceError(
        f"{place}: weights of {found}, not of {model.name}, whose tensors are the same\n"
        f"  expected  architecture {expected} in {CONFIGURATION}, found {found}\n"
        f"  try       gluon2torch to-gluon {WEIGHTS} FILE --model {model.name}, if the network is the same"
    )


def _require_arguments(
    model: Model, configuration: _Configuration, place: str, output_stride: int | None
) -> None:
    """Check the arguments that timm builds the network with.

    Raises:
        SourceError: if the outputs depend on one that is not supported, or on another output stride.
    """
    arguments = configuration.model_args or {}
    others = [
        f"{printable(clipped(name))}={value!r:.80}"
        for name, value in arguments.items()
        if name not in {*WITHOUT_EFFECT, STRIDE} and not (name in DEFAULTS and DEFAULTS[name] == value)
    ]
    if others:
        raise SourceError(
            f"{place}: {CONFIGURATION} has arguments that are not supported: {', '.join(others)}"
        )
    stride = arguments.get(STRIDE)
    if stride is None:
        return
    own = model.config.output_strides[-1]
    if stride != (output_stride or own):
        hint = f"\n  try       --output-stride {stride}" if stride in model.config.output_strides else ""
        raise SourceError(
            f"{place}: {CONFIGURATION} has the output stride {stride!r:.80}, not {output_stride or own}{hint}"
        )
    is_timms = configuration.architecture in TIMM_NAMES
    if stride != own and is_timms and model.config.shortcut_pool != "never":
        raise SourceError(f"{place}: timm's dilated {model.name} pools in its shortcuts, GluonCV's does not")
