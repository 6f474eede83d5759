"""Atomic writes, temporary files, and checks of input and output files."""

from __future__ import annotations

import atexit
import contextlib
import functools
import hashlib
import os
import shutil
import stat
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from converter.errors import ArtifactError, ConversionError, StorageError
from converter.storage import locks

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from contextlib import AbstractContextManager

# Device, inode, size, mtime and ctime in ns. Programs can set the mtime back, but not the ctime.
FileSnapshot = tuple[int, int, int, int, int]
CHANGED = "the file was changed while it was read"
ATTEMPTS = 10  # to create a file in a folder that another process may be removing


def os_reason(error: OSError) -> str:
    """Return the operating system's message, such as ``No space left on device``."""
    return error.strerror or str(error)


@contextlib.contextmanager
def reading(file: Path | str) -> Iterator[None]:
    """Raise an ``OSError`` as a ``StorageError`` that names the file.

    Raises:
        StorageError: in place of the ``OSError``.
    """
    try:
        yield
    except OSError as error:
        raise StorageError(f"{visible(file)}: {os_reason(error)}") from error


@contextlib.contextmanager
def writing(place: Path) -> Iterator[None]:
    """Raise an ``OSError`` as a ``StorageError`` that names the file or folder that cannot be written.

    Raises:
        StorageError: in place of the ``OSError``.
    """
    try:
        yield
    except OSError as error:
        raise StorageError(f"{visible(place)}: cannot be written: {os_reason(error)}") from error


def visible(place: Path | str) -> Path | str:
    """Return a path for a message: in place of a temporary file or folder, the folder that contains it."""
    parts = Path(place).parts
    hidden = [number for number, part in enumerate(parts) if locks.TEMPORARY.fullmatch(part)]
    return Path(*parts[: hidden[0]]) if hidden else place


def temporary(folder: Path) -> AbstractContextManager[Path]:
    """Create an empty hidden file in ``folder``, and delete it on exit unless it was renamed.

    A missing folder is created, and deleted on exit if it is empty. Stale temporary files in the folder
    are deleted when the process uses it first.

    Raises:
        StorageError: if the file cannot be created.
    """
    return _temporary_path(folder, Path.touch, Path.unlink)


def temporary_folder(parent: Path) -> AbstractContextManager[Path]:
    """Create an empty hidden folder in ``parent``, as ``temporary`` creates a file.

    Raises:
        StorageError: if the folder cannot be created.
    """
    return _temporary_path(parent, Path.mkdir, shutil.rmtree)


@contextlib.contextmanager
def temp_dir() -> Iterator[Path]:
    """Create a private folder in the system's folder for temporary files, which ``TMPDIR`` can select.

    Raises:
        StorageError: if the folder cannot be created.
    """
    try:
        parent = Path(tempfile.gettempdir())
    except OSError as error:
        raise StorageError(
            f"no folder for temporary files: {os_reason(error)}\nSet TMPDIR to a writable folder."
        ) from error
    with temporary_folder(parent) as folder:
        folder.chmod(stat.S_IRWXU)
        yield folder


@contextlib.contextmanager
def _temporary_path(
    folder: Path, make: Callable[[Path], None], remove: Callable[[Path], object]
) -> Iterator[Path]:
    """Create and lock a path with a unique name in a folder; remove it and empty new folders on exit."""
    paths: list[Path] = []
    new_folders: list[Path] = []
    cleanup = functools.partial(_remove, remove, paths, new_folders)
    with contextlib.ExitStack() as stack:
        # The exception of a signal can also prevent the exit of this block.
        atexit.register(cleanup)
        stack.callback(_finish, cleanup)
        with writing(folder):
            new_folders += [parent for parent in (folder, *folder.parents) if not parent.exists()]
            _sweep_once(folder)
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


_sweep_once = functools.cache(locks.sweep)  # listing a folder for each of its files would be quadratic


def _finish(cleanup: Callable[[], None]) -> None:
    """Clean up now; if a signal interrupts that, again when the process exits."""
    cleanup()
    atexit.unregister(cleanup)


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
        StorageError: if they cannot.
    """
    with temporary(folder):
        pass


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Lock a folder against other runs that publish files in it.

    Raises:
        StorageError: if the folder does not exist.
    """
    with contextlib.ExitStack() as stack:
        with writing(folder):
            stack.enter_context(locks.held(folder))
        yield


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
        ArtifactError: if ``destination`` must not be overwritten.
        StorageError: if it cannot be written.
    """
    with writing(destination):
        flush(part)
        if overwrite:
            require_free(destination, overwrite=True)
            part.replace(destination)
        else:
            try:
                os.link(part, destination)  # never replaces a file
            except FileExistsError as error:
                raise _exists_error(destination) from error
            except OSError:  # no hard links: a file created at this moment is overwritten
                require_free(destination, overwrite=False)
                part.replace(destination)
        flush_folder(destination.parent)


def require_regular(path: Path) -> os.stat_result:
    """Return the status of a regular file.

    Raises:
        StorageError: if it is a folder, a pipe or a device, or does not exist.
    """
    with reading(path):
        status = path.stat()
    if not stat.S_ISREG(status.st_mode):
        raise StorageError(f"{path}: not a regular file")
    return status


def is_folder(path: Path) -> bool:
    """Return whether a path is a folder; False if that cannot be determined."""
    return os.path.isdir(path)  # noqa: PTH112 - Path.is_dir raises if the path is too long or hidden


def exists(path: Path) -> bool:
    """Return whether a path exists; False if that cannot be determined."""
    return os.path.exists(path)  # noqa: PTH110 - Path.exists raises if the path is too long or hidden


def snapshot(path: Path) -> FileSnapshot:
    """Return a snapshot of a file, by which changes are detected.

    Raises:
        StorageError: if it is not a regular file.
    """
    return snapshot_of(require_regular(path))


def snapshot_of(status: os.stat_result) -> FileSnapshot:
    """Return the snapshot of a file from its status."""
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns


@contextlib.contextmanager
def unchanged(path: Path) -> Iterator[None]:
    """Check on exit that a file has not changed since entry.

    Raises:
        StorageError: if it has; replaces any ``ConversionError`` from the block.
    """
    before = snapshot(path)
    try:
        yield
    except ConversionError:
        require_same(before, path)
        raise
    require_same(before, path)


def require_same(before: FileSnapshot, path: Path) -> None:
    """Check that a file has not changed since a snapshot.

    Raises:
        StorageError: if it has, or no longer exists.
    """
    if snapshot(path) != before:
        raise StorageError(f"{path}: {CHANGED}")


def require_free(path: Path, *, overwrite: bool) -> None:
    """Check that a path does not exist or, with ``overwrite``, that it is at most a regular file.

    Raises:
        ArtifactError: if it exists, or with ``overwrite`` if it is a folder, a link or a device.
        StorageError: if that cannot be determined.
    """
    with reading(path):
        try:
            mode = path.lstat().st_mode
        except FileNotFoundError:
            return
    if not stat.S_ISREG(mode):
        raise ArtifactError(f"{path}: exists and is not a regular file")
    if not overwrite:
        raise _exists_error(path)


def _exists_error(path: Path) -> ArtifactError:
    return ArtifactError(f"{path}: exists; use --force to overwrite it")


def require_other(path: Path, sources: Iterable[Path | None]) -> None:
    """Check that an output would not overwrite an input, which may be the only copy.

    Raises:
        ArtifactError: if ``path`` is one of the ``sources``.
    """
    for source in filter(None, sources):
        with contextlib.suppress(OSError):  # a missing file cannot be overwritten
            if os.path.samestat(path.lstat(), source.stat()):
                raise ArtifactError(f"{path}: the output would overwrite an input")


def read_small(path: Path, limit: int) -> bytes:
    """Read a file of at most ``limit`` bytes.

    Raises:
        StorageError: if it is longer, not a regular file, or cannot be read.
    """
    require_regular(path)
    with reading(path), path.open("rb") as stream:
        require_size(path, os.fstat(stream.fileno()).st_size, limit)  # `read(limit)` would allocate the limit
        content = stream.read()
    require_size(path, len(content), limit)
    return content


def require_size(place: Path | str, size: int, limit: int) -> None:
    """Check that a file is small enough to be read at once.

    Raises:
        StorageError: if it has more than ``limit`` bytes.
    """
    if size > limit:
        raise StorageError(f"{place}: more than {limit} bytes")


def sha256(path: Path) -> str:
    """Return a file's SHA-256.

    Raises:
        StorageError: if the file cannot be read.
    """
    with reading(path), path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def file_name(path: Path) -> str:
    """Return a file's name as text, with undecodable bytes escaped."""
    return os.fsencode(path.name).decode(errors="backslashreplace")


def write_text(path: Path, text: str) -> None:
    """Write a text file atomically; a missing folder is created.

    Raises:
        StorageError: if it cannot be written.
    """
    with temporary(path.parent) as part, writing(path):
        part.write_text(text, encoding="utf-8")
        part.replace(path)
