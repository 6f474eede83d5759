"""What is in a folder, whoever made it: files that may be read, and what else was found."""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass
from pathlib import Path

from converter.errors import VerificationError


@dataclass(frozen=True, slots=True)
class Folder:
    """Files by their names from the folder on, with ``/`` between; ``left_out`` are those not looked into.

    ``strange`` is what must not be read, by name: links that lead out, pipes, devices.
    """

    files: dict[str, Path]
    left_out: tuple[str, ...]
    strange: dict[str, str]


def read(folder: Path, leave_out: tuple[str, ...] = ()) -> Folder:
    """List a folder, those in it too, but for the names to leave out.

    Errors: ``VerificationError`` where it cannot be listed.
    """
    files: dict[str, Path] = {}
    left_out: list[str] = []
    strange: dict[str, str] = {}
    for place, inside, others in os.walk(folder, onerror=_refuse):
        for entry in [*inside, *others]:
            path = Path(place, entry)
            name = path.relative_to(folder).as_posix()
            if name in leave_out:
                left_out.append(name)
            elif reason := _strangeness(path, folder):
                strange[name] = reason
            elif path.is_file():
                files[name] = path
        inside[:] = [
            entry for entry in inside if Path(place, entry).relative_to(folder).as_posix() not in leave_out
        ]
    return Folder(dict(sorted(files.items())), tuple(sorted(left_out)), dict(sorted(strange.items())))


def is_folder(path: Path) -> bool:
    """Return whether a path is a folder, or a link to one.

    Errors: ``VerificationError`` where that cannot be known.
    """
    try:
        return path.is_dir()
    except OSError as error:
        raise VerificationError(f"{path}: {error.strerror or error}") from error


def names(folder: Path) -> tuple[str, ...]:
    """Return what is in a folder itself.

    Errors: ``VerificationError`` where it cannot be listed.
    """
    try:
        return tuple(sorted(path.name for path in folder.iterdir()))
    except OSError as error:
        raise VerificationError(f"{folder}: {error.strerror or error}") from error


def _strangeness(path: Path, folder: Path) -> str | None:
    """Return why something must not be read; None for files, folders, and links to those within."""
    target = path.resolve()
    if not target.is_relative_to(folder.resolve()):
        return f"a link to {target}"
    try:
        mode = path.stat().st_mode
    except OSError as error:
        return error.strerror or str(error)
    return None if stat.S_ISREG(mode) or stat.S_ISDIR(mode) else "a pipe, a socket or a device"


def _refuse(error: OSError) -> None:
    raise VerificationError(f"{error.filename}: {error.strerror or error}") from error
