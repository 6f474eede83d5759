"""List an untrusted folder: the files that may be read, and the entries that must not."""

from __future__ import annotations

import stat
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from converter.storage import disk

MAX_DEPTH = 64  # of nested folders; ours and those of the hub have five levels


@dataclass(frozen=True, slots=True)
class Folder:
    """The contents of a folder; names are relative to it, with ``/`` as the separator.

    Attributes:
        files: the regular files, by name.
        excluded: the excluded names that exist.
        refused: the entries that must not be read (links out of the folder, pipes, devices), with the
            reason.
    """

    files: dict[str, Path]
    excluded: tuple[str, ...]
    refused: dict[str, str]


def read(folder: Path, leave_out: tuple[str, ...] = ()) -> Folder:
    """List a folder and its subfolders, except the names in ``leave_out``.

    Raises:
        StorageError: if a folder cannot be listed.
    """
    files: dict[str, Path] = {}
    excluded: list[str] = []
    refused: dict[str, str] = {}
    pending = [PurePosixPath()]  # folders to list
    while pending:
        place = pending.pop()
        for entry in names(folder / place):
            inner = place / entry
            path, name = folder / inner, inner.as_posix()
            if name in leave_out:
                excluded.append(name)
            elif reason := refusal(path, folder):
                refused[name] = reason
            elif path.is_file():
                files[name] = path
            elif len(inner.parts) > MAX_DEPTH:
                refused[name] = f"a folder within more than {MAX_DEPTH} others"
            elif not path.is_symlink():
                pending.append(inner)
    return Folder(dict(sorted(files.items())), tuple(sorted(excluded)), dict(sorted(refused.items())))


def is_folder(path: Path) -> bool:
    """Return whether a path is a folder, or a link to one.

    Raises:
        StorageError: if that cannot be determined.
    """
    with disk.reading(path):
        return path.is_dir()


def names(folder: Path) -> tuple[str, ...]:
    """Return the sorted names of a folder's entries, without those of subfolders.

    Raises:
        StorageError: if the folder cannot be listed.
    """
    with disk.reading(folder):
        return tuple(sorted(path.name for path in folder.iterdir()))


def refusal(path: Path, folder: Path) -> str | None:
    """Return why a path must not be read; None for files, folders, and links to those in ``folder``."""
    try:
        mode = path.stat().st_mode
    except OSError as error:
        return disk.os_reason(error)
    target = path.resolve()
    if not target.is_relative_to(folder.resolve()):
        return f"a link to {target}"
    return None if stat.S_ISREG(mode) or stat.S_ISDIR(mode) else "a pipe, a socket or a device"
