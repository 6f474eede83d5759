"""Registers MXNet's operators: one function per operator, whose keyword parameters are its schema.

The names, types and defaults of the parameters are those of MXNet's attributes. An attribute that is not
in the signature is an error, as in MXNet. The function returns the operation: what it computes, as PyTorch
code and on arrays.
"""

from __future__ import annotations

import functools
import inspect
import typing
from dataclasses import replace
from typing import TYPE_CHECKING

from converter.graphs.graph import Operation
from converter.graphs.operators import attributes as values
from converter.graphs.operators import refusals

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from converter.graphs.graph import Settings, Value
    from converter.graphs.operators.code import Code, Compute

# The kind of an operator that the named networks do not have is its name in MXNet with this prefix, so
# that it never equals one of the kinds that they have.
MXNET = "MXNet's "

_SCHEMAS: dict[str, Callable[..., Operation]] = {}
_OTHER_AXES: dict[str, Callable[..., Operation]] = {}  # of inputs that are no images, by the same names
# Attributes that MXNet accepts and does not read: these operators take none.
UNREAD = {"zeros_like": ("dtype",), "ones_like": ("dtype",)}
SPATIAL = ("kernel", "stride", "dilate", "pad", "adj")  # attributes with a number for each axis
IMAGE_AXES = 2  # height and width


def operator(*names: str) -> Callable[[Callable[..., Operation]], Callable[..., Operation]]:
    """Register a function as the schema of an operator, under MXNet's names."""

    def register(function: Callable[..., Operation]) -> Callable[..., Operation]:
        _SCHEMAS.update(dict.fromkeys(names, function))
        return function

    return register


def other_axes(*names: str) -> Callable[[Callable[..., Operation]], Callable[..., Operation]]:
    """Register a function as the schema of operators on inputs with one or three axes after the channels."""

    def register(function: Callable[..., Operation]) -> Callable[..., Operation]:
        _OTHER_AXES.update(dict.fromkeys(names, function))
        return function

    return register


def other(
    name: str,
    code: Code,
    compute: Compute,
    *,
    roles: tuple[str, ...] = (),
    data_inputs: int | None = 1,
    outputs: int = 1,
    rank: int | None = None,
    keeps_rank: bool = False,
    shapes_only: tuple[int, ...] = (),
    typed_by: int = 0,
    integers: tuple[int, ...] | None = None,
    index_input: int | None = None,
    length_input: int | None = None,
    floating_only: bool = False,
) -> Operation:
    """Return an operation that no named network has; ``parse`` adds its attributes as its settings.

    Args:
        name: the operator's name in MXNet 1.9.1.
        code: the operation as PyTorch code.
        compute: the operation on arrays.
        roles: the roles of its parameters.
        data_inputs: the number of its data inputs, None if any number is allowed.
        outputs: the number of its outputs.
        rank: the number of axes of its output, None if unknown.
        keeps_rank: whether its output has as many axes as its inputs.
        shapes_only: the inputs of which only the shape counts.
        typed_by: the input whose type, integer or floating, its outputs have.
        integers: the outputs that are integers, None if ``typed_by`` decides.
        index_input: the input that contains indices into an axis of a table, None without one.
        length_input: the input that contains lengths of the sequences in the first one, None without one.
        floating_only: whether integers as inputs are refused.
    """
    return Operation(
        kind=MXNET + name,
        code=code,
        compute=compute,
        roles=roles,
        data_inputs=data_inputs,
        outputs=outputs,
        rank=rank,
        keeps_rank=keeps_rank,
        shapes_only=shapes_only,
        typed_by=typed_by,
        integers=integers,
        index_input=index_input,
        length_input=length_input,
        floating_only=floating_only,
    )


def refuse(name: str, reason: str, data_inputs: int | None = None) -> Operation:
    """Return an operation that cannot be converted.

    Args:
        name: the operator's name in MXNet 1.9.1.
        reason: the attribute, its value and what is supported.
        data_inputs: the number of its inputs, None if any number is allowed.
    """
    return Operation(kind=MXNET + name, data_inputs=data_inputs, refused=reason)


def parse(name: str, attributes: Mapping[str, str]) -> Operation:
    """Return the operation of an operator with the attributes of a symbol file.

    The attributes of an unknown operator are not parsed, and its operation has no code.

    Raises:
        ValueError: if an attribute is unknown, missing or malformed; the message names it.
    """
    function = _OTHER_AXES[name] if _has_other_axes(name, attributes) else schema(name)
    if function is None:
        return Operation(
            kind=f"{MXNET}{name}",
            data_inputs=None,
            settings=dict(attributes),
            refused=refusals.REASONS.get(name, ""),
            is_loss=name in refusals.LOSSES,
        )
    fields = _fields(function)
    attributes = {key: text for key, text in attributes.items() if key not in UNREAD.get(name, ())}
    if unknown := sorted(attributes.keys() - fields.keys()):
        raise ValueError(f"{name} has no attribute {unknown[0]!r}")
    parsed = {key: values.parse(key, text, fields[key][0]) for key, text in attributes.items()}
    arguments = {
        key: value
        for key, value in parsed.items()
        if value is not None or (attributes[key] == "None" and values.allows_none(fields[key][0]))
    }
    required = [key for key, (_, default) in fields.items() if default is inspect.Parameter.empty]
    if missing := [key for key in required if key not in arguments]:
        raise ValueError(f"{name} requires the attribute {missing[0]!r}")
    operation = function(**arguments)
    if operation.outputs < 1:
        raise ValueError(f"{name} has no outputs")
    if operation.kind.startswith(MXNET) and not operation.settings:
        return replace(operation, settings=_settings(fields, arguments))
    return operation


def schema(name: str) -> Callable[..., Operation] | None:
    """Return the schema of an operator, None if it is unknown."""
    return _SCHEMAS.get(name)


def schemas() -> dict[str, frozenset[str]]:
    """Return the attributes of every known operator, by MXNet's names."""
    return {name: frozenset(_fields(function)) for name, function in _SCHEMAS.items()}


def names() -> dict[Callable[..., Operation], list[str]]:
    """Return MXNet's names of each schema, in the order of registration."""
    found: dict[Callable[..., Operation], list[str]] = {}
    for name, function in _SCHEMAS.items():
        found.setdefault(function, []).append(name)
    return found


def types(name: str) -> dict[str, object]:
    """Return the type of every attribute of a known operator."""
    return {key: kind for key, (kind, _) in _fields(_SCHEMAS[name]).items()}


def defaults() -> dict[str, dict[str, object]]:
    """Return the default of every optional attribute, by MXNet's names."""
    return {
        name: {
            key: default
            for key, (_, default) in _fields(function).items()
            if default is not inspect.Parameter.empty
        }
        for name, function in _SCHEMAS.items()
    }


def _has_other_axes(name: str, attributes: Mapping[str, str]) -> bool:
    """Return whether the attributes of an operator have one or three numbers each."""
    if name not in _OTHER_AXES or "kernel" not in attributes:
        return False
    texts = [attributes[key] for key in SPATIAL if attributes.get(key, "None") not in {"None", "()", "[]"}]
    counts = {len(text.strip("()[], ").split(",")) for text in texts}
    return len(counts) == 1 and counts != {IMAGE_AXES} and texts[0].lstrip()[:1] in {"(", "["}


def _settings(fields: Mapping[str, tuple[object, object]], arguments: Mapping[str, Value | None]) -> Settings:
    """Return the attributes with their defaults; None is written as text."""
    every = {key: arguments.get(key, default) for key, (_, default) in fields.items()}
    return {key: "None" if value is None else typing.cast("Value", value) for key, value in every.items()}


@functools.cache
def _fields(function: Callable[..., Operation]) -> dict[str, tuple[object, object]]:
    """Return (type, default) of each attribute."""
    hints = typing.get_type_hints(function)
    parameters = inspect.signature(function).parameters
    return {name: (hints[name], parameter.default) for name, parameter in parameters.items()}
