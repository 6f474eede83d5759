"""Atomic writes, temporary files, and checks of input and output files."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import os
import shutil
import stat
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from converter.errors import ArtifactError, ConversionError
from converter.storage import locks

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from contextlib import AbstractContextManager

# Device, inode, size, mtime and ctime in ns. Programs can set the mtime back, but not the ctime.
FileSnapshot = tuple[int, int, int, int, int]
CHANGED = "the file was changed while it was read"
ATTEMPTS = 10  # to create a file in a folder that another process may be removing
_PENDING: dict[Callable[[], None], None] = {}  # pending cleanup callbacks, in order


def temporary(folder: Path) -> AbstractContextManager[Path]:
    """Create an empty hidden file in ``folder``, and delete it on exit unless it was renamed.

    A missing folder is created, and deleted on exit if it is empty. Stale temporary files are deleted.

    Raises:
        ArtifactError: if the file cannot be created.
    """
    return _temporary_path(folder, Path.touch, Path.unlink)


def temporary_folder(parent: Path) -> AbstractContextManager[Path]:
    """Create an empty hidden folder in ``parent``, as ``temporary`` creates a file.

    Raises:
        ArtifactError: if the folder cannot be created.
    """
    return _temporary_path(parent, Path.mkdir, shutil.rmtree)


@contextlib.contextmanager
def temp_dir() -> Iterator[Path]:
    """Create a private folder in the system's folder for temporary files, which ``TMPDIR`` can select.

    Raises:
        ArtifactError: if the folder cannot be created.
    """
    try:
        parent = Path(tempfile.gettempdir())
    except OSError as error:
        raise ArtifactError(f"no room for temporary files: {error.strerror}; TMPDIR names another") from error
    with temporary_folder(parent) as folder:
        folder.chmod(stat.S_IRWXU)
        yield folder


@contextlib.contextmanager
def _temporary_path(
    folder: Path, make: Callable[[Path], None], remove: Callable[[Path], object]
) -> Iterator[Path]:
    """Create and lock a path with a unique name in a folder; remove it and empty new folders on exit."""
    with contextlib.ExitStack() as stack:
        with wrap_os_error(folder):
            paths: list[Path] = []
            absent = [parent for parent in (folder, *folder.parents) if not parent.exists()]
            stack.callback(_register_cleanup(functools.partial(_remove, remove, paths, absent)))
            locks.sweep(folder)
            for attempt in range(1, ATTEMPTS + 1):
                path = folder / locks.temporary_name()
                paths.append(path)  # first, because a signal may arrive after the creation
                try:
                    folder.mkdir(parents=True, exist_ok=True)
                    make(path)
                    stack.enter_context(locks.held(path))
                    break
                except FileNotFoundError:  # another run removed it, or its folder, as stale
                    if attempt == ATTEMPTS:
                        raise
        yield path


def remove_temporary() -> None:
    """Remove all remaining temporary files, at the end of a process that a signal ends.

    The exception of a signal can prevent even the exit of a ``with`` statement.
    """
    for cleanup in reversed(list(_PENDING)):
        _run_cleanup(cleanup)


def _register_cleanup(cleanup: Callable[[], None]) -> Callable[[], None]:
    """Return a function that runs the cleanup; without a call of it, ``remove_temporary`` does."""
    _PENDING[cleanup] = None
    return functools.partial(_run_cleanup, cleanup)


def _run_cleanup(cleanup: Callable[[], None]) -> None:
    cleanup()
    _PENDING.pop(cleanup, None)


def _remove(remove: Callable[[Path], object], paths: list[Path], folders: list[Path]) -> None:
    for path in paths:
        with contextlib.suppress(OSError):  # it was renamed, or the next run removes it
            remove(path)
    for folder in folders:
        with contextlib.suppress(OSError):  # it is not empty, or was removed already
            folder.rmdir()


def require_writable(folder: Path) -> None:
    """Check, before any work, that files can be created in a folder.

    Raises:
        ArtifactError: if they cannot.
    """
    with temporary(folder):
        pass


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Lock a folder against other runs that publish files in it.

    Raises:
        ArtifactError: if the folder does not exist.
    """
    with contextlib.ExitStack() as stack:
        with wrap_os_error(folder):
            stack.enter_context(locks.held(folder))
        yield


@contextlib.contextmanager
def wrap_os_error(place: Path) -> Iterator[None]:
    """Raise an ``OSError`` from writing as an ``ArtifactError`` that names the place."""
    try:
        yield
    except OSError as error:
        raise ArtifactError(f"{place}: cannot be written: {error.strerror or error}") from error


def flush(path: Path) -> None:
    """Flush a file to disk."""
    with path.open("r+b") as stream:
        os.fsync(stream.fileno())


def flush_folder(folder: Path) -> None:
    """Flush renames in a folder to disk, if supported (not by Windows and some network drives)."""
    if not hasattr(os, "O_DIRECTORY"):
        return
    descriptor = os.open(folder, os.O_DIRECTORY)
    try:
        with contextlib.suppress(OSError):
            os.fsync(descriptor)
    finally:
        os.close(descriptor)


def place(part: Path, destination: Path, *, overwrite: bool) -> None:
    """Flush a written file to disk and rename it to ``destination``.

    Raises:
        ArtifactError: if ``destination`` must not be overwritten, or cannot be written.
    """
    with wrap_os_error(destination):
        flush(part)
        if overwrite:
            require_free(destination, overwrite=True)
            part.replace(destination)
        else:
            try:
                os.link(part, destination)  # never replaces a file
            except FileExistsError as error:
                raise ArtifactError(f"{destination}: is there already; --force writes over it") from error
            except OSError:  # no hard links: a file created at this moment is overwritten
                require_free(destination, overwrite=False)
                part.replace(destination)
        flush_folder(destination.parent)


def require_regular(path: Path, error: type[ConversionError]) -> os.stat_result:
    """Return the status of a regular file.

    Raises:
        ConversionError: of type ``error``, if it is a folder, a pipe or a device, or does not exist.
    """
    try:
        status = path.stat()
    except OSError as cause:
        raise error(f"{path}: {cause.strerror or cause}") from cause
    if not stat.S_ISREG(status.st_mode):
        raise error(f"{path}: a file was expected")
    return status


def snapshot(path: Path, error: type[ConversionError]) -> FileSnapshot:
    """Return a snapshot of a file, by which changes are detected.

    Raises:
        ConversionError: of type ``error``, if it is not a regular file.
    """
    return snapshot_of(require_regular(path, error))


def snapshot_of(status: os.stat_result) -> FileSnapshot:
    """Return the snapshot of a file from its status."""
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns


@contextlib.contextmanager
def unchanged(path: Path, error: type[ConversionError]) -> Iterator[None]:
    """Check on exit that a file has not changed since entry.

    Raises:
        ConversionError: of type ``error``, if it has; replaces any ``ConversionError`` from the block.
    """
    before = snapshot(path, error)
    try:
        yield
    except ConversionError:
        _require_same(before, path, error)
        raise
    _require_same(before, path, error)


def _require_same(before: FileSnapshot, path: Path, error: type[ConversionError]) -> None:
    if snapshot(path, error) != before:
        raise error(f"{path}: {CHANGED}")


def require_free(path: Path, *, overwrite: bool) -> None:
    """Check that a path does not exist or, with ``overwrite``, that it is at most a regular file.

    Raises:
        ArtifactError: if it exists, or with ``overwrite`` if it is a folder, a link or a device.
    """
    try:
        mode = path.lstat().st_mode
    except FileNotFoundError:
        return
    except OSError as error:
        raise ArtifactError(f"{path}: {error.strerror or error}") from error
    if not stat.S_ISREG(mode):
        raise ArtifactError(f"{path}: is there and no file")
    if not overwrite:
        raise ArtifactError(f"{path}: is there already; --force writes over it")


def require_other(path: Path, sources: Iterable[Path | None]) -> None:
    """Check that an output would not overwrite an input, which may be the only copy.

    Raises:
        ArtifactError: if ``path`` is one of the ``sources``.
    """
    for source in filter(None, sources):
        with contextlib.suppress(OSError):  # a missing file cannot be overwritten
            if os.path.samestat(path.lstat(), source.stat()):
                raise ArtifactError(f"{path}: is read here, and would be written over")


def read_small(path: Path, limit: int, error: type[ConversionError]) -> bytes:
    """Read a file of at most ``limit`` bytes.

    Raises:
        ConversionError: of type ``error``, if it is longer, not a regular file, or cannot be read.
    """
    require_regular(path, error)
    try:
        with path.open("rb") as stream:
            content = stream.read(limit + 1)
    except OSError as cause:
        raise error(f"{path}: {cause.strerror or cause}") from cause
    if len(content) > limit:
        raise error(f"{path}: more than {limit} bytes")
    return content


def sha256(path: Path, error: type[ConversionError]) -> str:
    """Return a file's SHA-256.

    Raises:
        ConversionError: of type ``error``, if the file cannot be read.
    """
    try:
        with path.open("rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()
    except OSError as cause:
        raise error(f"{path}: {cause.strerror or cause}") from cause


def file_name(path: Path) -> str:
    """Return a file's name as text, with undecodable bytes escaped."""
    return os.fsencode(path.name).decode(errors="backslashreplace")


def write_text(path: Path, text: str) -> None:
    """Write a text file atomically; a missing folder is created.

    Raises:
        ArtifactError: if it cannot be written.
    """
    with temporary(path.parent) as part, wrap_os_error(path):
        part.write_text(text, encoding="utf-8")
        part.replace(path)
