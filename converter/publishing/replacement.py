"""Put a published folder in its place, and keep the one that it replaces until it is there."""

from __future__ import annotations

import contextlib
import shutil
from typing import TYPE_CHECKING

from converter.errors import PublicationError
from converter.publishing import published_files
from converter.storage import disk, locks

if TYPE_CHECKING:
    from pathlib import Path


def require_replaceable(folder: Path, *, force: bool) -> None:
    """Refuse a folder that is not empty, or with ``force`` one with files that are not ours."""
    if folder.is_symlink() or (folder.exists() and not folder.is_dir()):
        raise PublicationError(f"{folder}: exists and is not a folder")
    names = {path.name for path in folder.iterdir()} if folder.is_dir() else set()
    if names and not force:
        raise PublicationError(f"{folder}: not empty; --force replaces a folder that publish wrote")
    if names and (others := names - published_files.unchanged(folder)):
        listing = ", ".join(sorted(others))
        raise PublicationError(
            f"{folder}: not replaced: it contains files that publish did not write: {listing}"
        )


def _backup_path(folder: Path) -> Path:
    """Return where a folder is kept while another one takes its name."""
    return folder.parent / f"{locks.PREFIX}{folder.name}.old"


def _restore(folder: Path) -> None:
    """Move a folder back from its backup, unless its name is taken."""
    with contextlib.suppress(OSError):
        _backup_path(folder).replace(folder)


def _discard(folder: Path) -> None:
    """Remove a folder; if the process is killed meanwhile, the rest has a temporary folder's name."""
    temporary = folder.with_name(locks.temporary_name())
    with contextlib.suppress(OSError):
        folder.replace(temporary)
        shutil.rmtree(temporary, ignore_errors=True)


def place(draft: Path, folder: Path, *, force: bool) -> None:
    """Move a draft to its folder's name; an existing folder is removed once the new one is in place."""
    backup = _backup_path(folder)
    with disk.writing(folder), disk.locked(folder.parent), contextlib.ExitStack() as undo:
        _restore(folder)
        require_replaceable(folder, force=force)
        if folder.exists():
            require_replaceable(backup, force=True)  # left by a run that was killed after replacing it
            _discard(backup)
            folder.replace(backup)
            undo.callback(_restore, folder)
            require_replaceable(backup, force=force)  # again: it may have changed before the rename
        draft.replace(folder)
        undo.pop_all()
        disk.flush_folder(folder.parent)
        _discard(backup)


def restore_moved(folder: Path) -> None:
    """Move a folder back that a killed run had moved away."""
    if _backup_path(folder).is_dir():
        with disk.locked(folder.parent):
            _restore(folder)
