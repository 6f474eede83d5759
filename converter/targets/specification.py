"""Finds the callable that builds a module: ``timm:NAME``, ``torchvision:NAME``, ``package.module:NAME``."""

from __future__ import annotations

import contextlib
import importlib
import inspect
import keyword
import operator
import re
import sys
from dataclasses import dataclass, field
from importlib import metadata
from typing import TYPE_CHECKING, Any

from converter import names
from converter.errors import TargetError, UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from types import ModuleType

FORM = re.compile(r"(?P<module>[A-Za-z_][\w.]*):(?P<name>[A-Za-z_][\w.-]*)", re.ASCII)
TIMM, TORCHVISION = "timm", "torchvision"
MODEL_PACKAGES = (TIMM, TORCHVISION)  # a name of theirs is that of a model
# Arguments of timm and torchvision that read other weights, which those of the graph replace.
WEIGHTS = ("pretrained", "pretrained_backbone", "weights", "weights_backbone", "checkpoint_path")
MAX_NAMES = 5  # of an error


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """An existing module.

    Attributes:
        text: how it was requested.
        package: the Python module before the colon.
        name: the name after it.
        arguments: the keyword arguments of the callable.
    """

    text: str
    package: str
    name: str
    arguments: Mapping[str, Any] = field(default_factory=dict)

    @property
    def is_packaged(self) -> bool:
        """Whether it is a model of timm or torchvision, by its name there."""
        return self.package in MODEL_PACKAGES

    @property
    def versions(self) -> dict[str, str]:
        """The version of the package, if it is an installed one, and of torch."""
        found = {}
        for package in (self.package.partition(".")[0], "torch"):
            with contextlib.suppress(metadata.PackageNotFoundError):
                found[package] = metadata.version(package)
        return found

    @property
    def expression(self) -> str:
        """The Python expression that builds the module."""
        options = "".join(f", {key}={value!r}" for key, value in self.arguments.items())
        if self.package == TIMM:
            return f"timm.create_model({self.name!r}{options})"
        if self.package == TORCHVISION:
            return f"torchvision.models.get_model({self.name!r}{options})"
        return f"{self.package}.{self.name}({options.removeprefix(', ')})"


def parse(text: str, arguments: Mapping[str, Any] | None = None) -> Target:
    """Read a target.

    Raises:
        UsageError: if the text has another form, if an argument has no valid name, or if one asks for other
            weights.
    """
    match = FORM.fullmatch(text)
    if match is None:
        raise UsageError(
            f"`target`: expected timm:NAME, torchvision:NAME or package.module:NAME, "
            f"found {names.printable(names.clipped(text))}",
            "target",
        )
    given = dict(arguments or {})
    package = match["module"]
    if wrong := [key for key in given if not key.isidentifier() or keyword.iskeyword(key)]:
        found = names.printable(names.clipped(wrong[0]))
        raise UsageError(f"`target_args`: {found} is not the name of an argument", "target_args")
    if package in MODEL_PACKAGES and (asked := [key for key in WEIGHTS if given.get(key)]):
        raise UsageError(
            f"`target_args`: {asked[0]} asks for other weights than those of the graph", "target_args"
        )
    return Target(text=text, package=package, name=match["name"], arguments=given)


@contextlib.contextmanager
def resolved(target: Target) -> Iterator[Callable[..., object]]:
    """Yield the callable of a target; those of the user can be in the current folder.

    Raises:
        TargetError: if the package is not installed or has no such name.
    """
    before = sys.path[:]
    if not target.is_packaged:  # timm tries to import packages that may be missing: not from the folder
        sys.path.append("")  # last, so that nothing in the folder hides an installed package
    try:
        yield _find(target)
    finally:
        sys.path[:] = before


def _find(target: Target) -> Callable[..., object]:
    if target.package == TIMM:
        return _of_timm(target.name)
    if target.package == TORCHVISION:
        return _of_torchvision(target.name)
    module = _import(target.package)
    try:
        found: object = operator.attrgetter(target.name)(module)
    except AttributeError as error:
        raise _unknown(f"{target.package} has no {target.name}", target.name, dir(module)) from error
    if not callable(found):
        raise TargetError(f"{target.text}: not a callable, but {type(found).__name__}")
    return found


def _of_timm(name: str) -> Callable[..., object]:
    timm = _import(TIMM)
    if not timm.is_model(name):
        raise _unknown(f"timm has no model {name}", name, timm.list_models())

    def build(**arguments: object) -> object:
        return timm.create_model(name, **arguments)

    return build


def _of_torchvision(name: str) -> Callable[..., object]:
    models = _import(f"{TORCHVISION}.models")
    if name.lower() not in models.list_models():
        raise _unknown(f"torchvision has no model {name}", name, models.list_models())
    builder: Callable[..., object] = models.get_model_builder(name)
    has_backbone = "weights_backbone" in inspect.signature(builder).parameters

    def build(**arguments: object) -> object:
        return builder(**({"weights_backbone": None} if has_backbone else {}), **arguments)

    return build


def _import(name: str) -> ModuleType:
    """Import a Python module.

    Raises:
        TargetError: if it does not exist or cannot be imported.
    """
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        missing = str(error.name)
        if name != missing and not name.startswith(f"{missing}."):
            raise TargetError(f"{name} cannot be imported: it needs {missing}, which is missing") from error
        package = name.partition(".")[0]
        hint = f"pip install {package}" if package in MODEL_PACKAGES else "run in the folder that has it"
        raise TargetError(f"{missing} is not installed\n  try  {hint}") from error
    except (ImportError, SyntaxError) as error:
        raise TargetError(f"{name} cannot be imported: {error}") from error


def _unknown(message: str, name: str, known: list[str]) -> TargetError:
    """Return the error for an unknown name, with the nearest known ones."""
    import difflib  # noqa: PLC0415 - for a failure only

    nearest = difflib.get_close_matches(name, known, MAX_NAMES)
    return TargetError("\n".join([message, *(f"  try  {each}" for each in nearest)]))
