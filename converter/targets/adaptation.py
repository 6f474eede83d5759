"""Sets attributes of layers, such as eps and strides, on a module as a graph has them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from converter.errors import TargetError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from torch import nn

    from converter.graphs.alignment.settings import SettingDifference

Value = bool | int | float | tuple[int, ...]
# The attributes of PyTorch's layers that may be set; sizes of weights are not among them.
ADAPTED = (
    *("eps", "negative_slope"),
    *("stride", "padding", "dilation"),
    *("kernel_size", "ceil_mode"),  # of pools
)
ROW = 4  # names in a line of code


@dataclass(frozen=True, slots=True, kw_only=True)
class Adaptation:
    """A setting that must be changed on a module before it computes what was proven.

    Attributes:
        module: the name of the module in the network, "" for the network itself.
        setting: the attribute.
        value: its new value.
    """

    module: str
    setting: str
    value: Value


def statement(module: str, setting: str, value: object) -> str:
    """Return the Python statement that changes a setting of a module in ``model``."""
    place = f"model.get_submodule({module!r})" if module else "model"
    return f"{place}.{setting} = {value!r}"


def statement_for_all(modules: Sequence[str], setting: str, value: object) -> list[str]:
    """Return the lines of the Python statement that changes a setting of several modules in ``model``."""
    if len(modules) == 1:
        return [statement(modules[0], setting, value)]
    rows = [modules[start : start + ROW] for start in range(0, len(modules), ROW)]
    return [
        "for name in (",
        *(f"    {', '.join(map(repr, row))}," for row in rows),
        "):",
        f"    model.get_submodule(name).{setting} = {value!r}",
    ]


def choose(module: nn.Module, differences: Iterable[SettingDifference]) -> tuple[Adaptation, ...]:
    """Return the adaptations that remove differences: those of settings that are attributes."""
    found = {}
    for each in differences:
        value = each.expected
        if each.setting in ADAPTED and isinstance(value, int | float | tuple) and has_setting(module, each):
            found[each.owner, each.setting] = Adaptation(module=each.owner, setting=each.setting, value=value)
    return tuple(found.values())


def has_setting(module: nn.Module, difference: SettingDifference) -> bool:
    """Return whether a setting is an attribute of the called module, with the value that was used."""
    owner = module.get_submodule(difference.owner)
    value = getattr(owner, difference.setting, None)
    sizes = value if isinstance(value, tuple | list) else (value,)
    used = difference.found if isinstance(difference.found, tuple) else (difference.found,)
    return bool(difference.setting) and set(sizes) == set(used)


def apply(module: nn.Module, adaptations: Iterable[Adaptation]) -> None:
    """Change the settings of a module.

    Raises:
        TargetError: if the module lacks one, if it is not in ``ADAPTED``, or if one layer gets two values.
    """
    values: dict[tuple[int, str], Value] = {}
    for each in adaptations:
        if each.setting not in ADAPTED:
            raise TargetError(f"cannot set {each.setting}: only {', '.join(ADAPTED)} can be changed")
        try:
            owner = module.get_submodule(each.module)
        except AttributeError as error:
            raise TargetError(f"the module has no {each.module}, whose {each.setting} is set") from error
        if not hasattr(owner, each.setting):
            raise TargetError(f"{each.module or 'the module'} has no {each.setting}")
        if values.setdefault((id(owner), each.setting), each.value) != each.value:
            raise TargetError(
                f"{each.module}: {each.setting} is set to two values: the layer has another name, too"
            )
        setattr(owner, each.setting, each.value)
