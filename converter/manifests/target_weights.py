"""Recognize weights for an existing module, which most commands do not take."""

from __future__ import annotations

from typing import TYPE_CHECKING

from converter import names
from converter.errors import ArtifactError, UsageError
from converter.targets import specification

if TYPE_CHECKING:
    from pathlib import Path

    from converter.manifests.target_records import TargetRecord
    from converter.targets.adaptation import Value
    from converter.targets.specification import Target


def refuse(path: Path, target: TargetRecord | None) -> None:
    """Refuse weights for an existing module.

    Args:
        path: their file.
        target: the module; None for other weights, which are not refused.

    Raises:
        ArtifactError: with what builds the module.
    """
    if target is not None:
        raise ArtifactError(
            f"{path}: weights for {target.name}, which this command does not take\n"
            f"  built by  {description(target, str(path))}\n"
            "  try       gluon2torch verify, or the module itself"
        )


def changes(target: TargetRecord) -> dict[tuple[str, Value], list[str]]:
    """Return the modules on which each setting is changed to each value."""
    changed: dict[tuple[str, Value], list[str]] = {}
    for each in target.adaptations:
        changed.setdefault((each.setting, each.value), []).append(each.module)
    return changed


def parse(target: TargetRecord, file: str) -> Target:
    """Return the module that a manifest names.

    Args:
        target: its record.
        file: the file of the weights, for messages.

    Raises:
        ArtifactError: if its arguments are not those of a callable, or ask for other weights.
    """
    try:
        return specification.parse(target.name, target.arguments)
    except UsageError as error:
        reason = str(error).removeprefix("`target_args`: ")
        raise ArtifactError(f"{file}: the target in its manifest: {reason}") from error


def description(target: TargetRecord, file: str) -> str:
    """Return the Python expression that builds a module, and the settings that must be changed then.

    Raises:
        ArtifactError: as ``parse``.
    """
    settings = [
        f"{setting} = {value!r} of {', '.join(names.collapse(modules))}"
        for (setting, value), modules in changes(target).items()
    ]
    return ", then ".join([parse(target, file).expression, *settings])
