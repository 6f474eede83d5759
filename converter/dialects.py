"""Gluon's naming styles. The structural one, of ``net.save_parameters``, is read; others are refused."""

from __future__ import annotations

from typing import TYPE_CHECKING

from converter.errors import DialectError

if TYPE_CHECKING:
    from collections.abc import Collection

STRUCTURAL = "structural"
_EXPORT_MARKS = ("arg:", "aux:")


def detect(tensor_names: Collection[str]) -> str:
    """Return the naming style: structural, prefix or export.

    All names marked ``arg:`` or ``aux:`` are an export's; else a dot in any name makes them structural.
    """
    if tensor_names and all(name.startswith(_EXPORT_MARKS) for name in tensor_names):
        return "export"
    return STRUCTURAL if any("." in name for name in tensor_names) else "prefix"


def require_structural(tensor_names: Collection[str], file: str) -> None:
    """Refuse every style but the structural.

    Errors: ``DialectError`` with the style that was found and how to make one that is read.
    """
    dialect = detect(tensor_names)
    if dialect != STRUCTURAL:
        example = next(iter(tensor_names), "nothing")
        raise DialectError(
            f"{file}: names in the {dialect} style, as {example}\n"
            "  Structural names, as features.0.weight, are read; net.save_parameters(...) writes them."
        )
