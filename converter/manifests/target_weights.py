"""Recognize weights for an existing module, which most commands do not take."""

from __future__ import annotations

from typing import TYPE_CHECKING

from converter.errors import ArtifactError
from converter.targets import specification

if TYPE_CHECKING:
    from pathlib import Path

    from converter.manifests.target_records import TargetRecord


def refuse(path: Path, target: TargetRecord | None) -> None:
    """Refuse weights for an existing module.

    Args:
        path: their file.
        target: the module; None for other weights, which are not refused.

    Raises:
        ArtifactError: with the expression that builds the module.
    """
    if target is not None:
        raise ArtifactError(
            f"{path}: weights for {target.name}, which this command does not take\n"
            f"  built by  {expression(target)}\n"
            "  try       gluon2torch verify, or the module itself"
        )


def expression(target: TargetRecord) -> str:
    """Return the Python expression that builds a module."""
    return specification.parse(target.name, target.arguments).expression
