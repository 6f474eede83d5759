"""What is in a folder, whoever made it: files that may be read, and what else was found."""

from __future__ import annotations

import stat
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from converter.errors import VerificationError

MAX_DEPTH = 64  # folders in folders in a folder; what we and the hub write has five


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
    within = [PurePosixPath()]  # folders still to be listed
    while within:
        place = within.pop()
        for entry in names(folder / place):
            inner = place / entry
            path, name = folder / inner, inner.as_posix()
            if name in leave_out:
                left_out.append(name)
            elif reason := _strangeness(path, folder):
                strange[name] = reason
            elif path.is_file():
                files[name] = path
            elif len(inner.parts) > MAX_DEPTH:
                strange[name] = f"a folder within more than {MAX_DEPTH} others"
            elif not path.is_symlink():
                within.append(inner)
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
    try:
        mode = path.stat().st_mode
    except OSError as error:
        return error.strerror or str(error)
    target = path.resolve()
    if not target.is_relative_to(folder.resolve()):
        return f"a link to {target}"
    return None if stat.S_ISREG(mode) or stat.S_ISDIR(mode) else "a pipe, a socket or a device"
