"""Builds the module of a target without random numbers: every weight is replaced later."""

from __future__ import annotations

import contextlib
import functools
import inspect
import warnings
from typing import TYPE_CHECKING, Any

import torch
from torch import nn
from torch.overrides import TorchFunctionMode, resolve_name

from converter.errors import MappingError, TargetError
from converter.targets import adaptation
from converter.targets.specification import resolved

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from converter.targets.adaptation import Adaptation
    from converter.targets.specification import Target

INITIALIZATIONS = "torch.nn.init."
RANDOM = {"normal_", "uniform_", "trunc_normal_"}


class WithoutInitialization(TorchFunctionMode):
    """A context in which new parameters are zeros, and are not filled with random numbers."""

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: object,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:  # noqa: ANN401 - whatever the function returns
        """Call a function, unless it fills a tensor with random numbers."""
        options = kwargs or {}
        if _is_random(func):
            return args[0] if args else options["tensor"]
        return (torch.zeros if func is torch.empty else func)(*args, **options)


@functools.lru_cache(1024)  # resolve_name looks in a list of all of torch's functions
def _is_random(func: Callable[..., Any]) -> bool:
    """Return whether a function of torch fills a tensor with initial values."""
    name = resolve_name(func) or ""
    return name.startswith(INITIALIZATIONS) or name.rpartition(".")[2] in RANDOM


def build(target: Target, *, initialize: bool = False) -> nn.Module:
    """Return the module of a target, in evaluation mode.

    Args:
        target: the target.
        initialize: whether its tensors get their random initial values, which takes time.

    Raises:
        TargetError: if it cannot be built, or is not a module.
    """
    with resolved(target) as function, warnings.catch_warnings():
        _require_builder(function, target)
        warnings.simplefilter("ignore")  # about initial values, which are replaced
        with (
            _foreign(
                lambda reason: f"{target.text} cannot be built: {reason}\n  called  {target.expression}"
            ),
            contextlib.nullcontext() if initialize else WithoutInitialization(),
        ):
            module = function(**target.arguments)
    if not isinstance(module, nn.Module):
        raise TargetError(f"{target.text}: expected a torch.nn.Module, found {type(module).__name__}")
    return module.eval()


def load(
    target: Target,
    adaptations: Iterable[Adaptation],
    state: Mapping[str, torch.Tensor],
    dtype: str,
    *,
    initialize: bool = False,
) -> nn.Module:
    """Return the module of a target with weights, in a precision and in evaluation mode.

    Args:
        target: the target.
        adaptations: the settings that are changed on it.
        state: its state dict.
        dtype: the precision.
        initialize: whether tensors that are not in the state dict are random, as for a user, and not zero.

    Raises:
        TargetError: if it cannot be built, or lacks a setting.
        MappingError: if the weights do not fit it.
    """
    module = build(target, initialize=initialize)
    adaptation.apply(module, adaptations)
    module = module.to(getattr(torch, dtype))
    try:
        module.load_state_dict(state, strict=True)
    except RuntimeError as error:
        raise MappingError(f"the weights do not fit {target.text}: {error}") from error
    return module.eval()


def _require_builder(function: Callable[..., object], target: Target) -> None:
    """Refuse a callable that cannot build a module, such as ``os:system``, before it is called.

    Raises:
        TargetError: if it is neither a class of modules nor a function in Python.
    """
    if isinstance(function, type):
        is_builder, kind = issubclass(function, nn.Module), f"the class {function.__name__}"
    else:
        is_builder = inspect.isfunction(function) or inspect.ismethod(function)
        kind = type(function).__name__
    if not is_builder:
        raise TargetError(
            f"{target.text}: expected a class of torch.nn.Module or a Python function, found {kind}"
        )


def run(module: nn.Module, inputs: Sequence[torch.Tensor], title: str) -> object:
    """Return what a module returns.

    Raises:
        TargetError: if it does not take the inputs.
    """
    shapes = " and ".join(str(tuple(each.shape)) for each in inputs)

    def describe(reason: str) -> str:
        return (
            f"{title} does not take an input of shape {shapes}\n"
            f"  found  {reason}\n  try    another --size, or --input NAME=SHAPE"
        )

    with _foreign(describe), torch.no_grad():
        return module(*inputs)


@contextlib.contextmanager
def _foreign(describe: Callable[[str], str]) -> Iterator[None]:
    """Turn what the code of an existing module raises into an error of its own.

    Args:
        describe: returns the message for a reason.

    Raises:
        TargetError: with the message.
    """
    try:
        yield
    except Exception as error:  # foreign code raises anything
        reason = f"{type(error).__name__}: {error}".partition("\n")[0]
        raise TargetError(describe(reason)) from error
