"""How files reach the disk: whole under their names, or not at all."""

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

# Device, inode, size, and the times of the last change: of the content, which can be set back, and of all.
FileSnapshot = tuple[int, int, int, int, int]
CHANGED = "the file was changed while it was read"
ATTEMPTS = 10  # to make a file in a folder that others may remove at that moment
_OWED: dict[Callable[[], None], None] = {}  # what is to be removed when its time has come, in order


def temporary(folder: Path) -> AbstractContextManager[Path]:
    """Make an empty hidden file in ``folder``, itself made if need be; remove it unless it was renamed.

    What dead runs left there goes first.
    Errors: ``ArtifactError`` where that fails.
    """
    return _made(folder, Path.touch, Path.unlink)


def temporary_folder(parent: Path) -> AbstractContextManager[Path]:
    """Make an empty hidden folder in ``parent``, as ``temporary`` makes a file.

    Errors: as of ``temporary``.
    """
    return _made(parent, Path.mkdir, shutil.rmtree)


@contextlib.contextmanager
def temp_dir() -> Iterator[Path]:
    """Make a folder for what is needed while we work, where the system keeps such: ``TMPDIR`` names it.

    Errors: ``ArtifactError``.
    """
    try:
        parent = Path(tempfile.gettempdir())
    except OSError as error:
        raise ArtifactError(f"no room for temporary files: {error.strerror}; TMPDIR names another") from error
    with temporary_folder(parent) as folder:
        folder.chmod(stat.S_IRWXU)
        yield folder


@contextlib.contextmanager
def _made(folder: Path, make: Callable[[Path], None], remove: Callable[[Path], object]) -> Iterator[Path]:
    """Make something in a folder under a name of its own, and hold it; folders made for it go if empty."""
    with contextlib.ExitStack() as stack:
        with wrap_os_error(folder):
            paths: list[Path] = []
            absent = [parent for parent in (folder, *folder.parents) if not parent.exists()]
            stack.callback(_owe(functools.partial(_remove, remove, paths, absent)))
            locks.sweep(folder)
            for attempt in range(1, ATTEMPTS + 1):
                path = folder / locks.temporary_name()
                paths.append(path)  # before it is made, for a signal may come between
                try:
                    folder.mkdir(parents=True, exist_ok=True)
                    make(path)
                    stack.enter_context(locks.held(path))
                    break
                except FileNotFoundError:  # another run has taken the folder, or this, for its litter
                    if attempt == ATTEMPTS:
                        raise
        yield path


def remove_temporary() -> None:
    """Remove what is temporary and still there, at the end of a process that a signal ends.

    An exception that a signal raises may leave even a ``with`` without its end.
    """
    for debt in reversed(list(_OWED)):
        _pay(debt)


def _owe(debt: Callable[[], None]) -> Callable[[], None]:
    """Return what pays a debt, which ``remove_temporary`` does if nobody did."""
    _OWED[debt] = None
    return functools.partial(_pay, debt)


def _pay(debt: Callable[[], None]) -> None:
    debt()
    _OWED.pop(debt, None)


def _remove(remove: Callable[[Path], object], paths: list[Path], folders: list[Path]) -> None:
    for path in paths:
        with contextlib.suppress(OSError):  # it has its final name, or the next run removes it
            remove(path)
    for folder in folders:
        with contextlib.suppress(OSError):  # where something is in one, it stays; or it is gone already
            folder.rmdir()


def require_writable(folder: Path) -> None:
    """Refuse, before any work, a folder into which nothing can be written.

    Errors: ``ArtifactError``.
    """
    with temporary(folder):
        pass


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Let no other run give files their names in a folder meanwhile.

    Errors: ``ArtifactError`` where it is not there.
    """
    with contextlib.ExitStack() as stack:
        with wrap_os_error(folder):
            stack.enter_context(locks.held(folder))
        yield


@contextlib.contextmanager
def wrap_os_error(place: Path) -> Iterator[None]:
    """Turn what the system says about writing into an ``ArtifactError`` that names the place."""
    try:
        yield
    except OSError as error:
        raise ArtifactError(f"{place}: cannot be written: {error.strerror or error}") from error


def flush(path: Path) -> None:
    """Return when the file's bytes are on the disk."""
    with path.open("r+b") as stream:
        os.fsync(stream.fileno())


def flush_folder(folder: Path) -> None:
    """Make the renames last, where system and file system can (Windows and some network drives cannot)."""
    if not hasattr(os, "O_DIRECTORY"):
        return
    descriptor = os.open(folder, os.O_DIRECTORY)
    try:
        with contextlib.suppress(OSError):
            os.fsync(descriptor)
    finally:
        os.close(descriptor)


def place(part: Path, destination: Path, *, overwrite: bool) -> None:
    """Give a written file its name; return when it is on the disk.

    Errors: ``ArtifactError`` where something is there that may not or cannot be written over.
    """
    with wrap_os_error(destination):
        flush(part)
        if overwrite:
            require_free(destination, overwrite=True)
            part.replace(destination)
        else:
            try:
                os.link(part, destination)  # which never takes another's place
            except FileExistsError as error:
                raise ArtifactError(f"{destination}: is there already; --force writes over it") from error
            except OSError:  # a drive that has no links: what appears there at this very moment is lost
                require_free(destination, overwrite=False)
                part.replace(destination)
        flush_folder(destination.parent)


def require_regular(path: Path, error: type[ConversionError]) -> os.stat_result:
    """Return what the system knows of a file; refuse what is none: a folder, a pipe, a device.

    Errors: ``error``.
    """
    try:
        status = path.stat()
    except OSError as cause:
        raise error(f"{path}: {cause.strerror or cause}") from cause
    if not stat.S_ISREG(status.st_mode):
        raise error(f"{path}: a file was expected")
    return status


def snapshot(path: Path, error: type[ConversionError]) -> FileSnapshot:
    """Return by what a file is known to be unchanged.

    Errors: as of ``require_regular``.
    """
    return snapshot_of(require_regular(path, error))


def snapshot_of(status: os.stat_result) -> FileSnapshot:
    """Return the same of a file that is open."""
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns


@contextlib.contextmanager
def unchanged(path: Path, error: type[ConversionError]) -> Iterator[None]:
    """Refuse a file that is another at the end than it was at the beginning.

    Errors: ``error``; also in the place of any other refusal.
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
    """Refuse to write over what is there; with ``overwrite`` over anything but a file, links included.

    Errors: ``ArtifactError``.
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
    """Refuse to write over a file that is read: it may be the only one of its kind.

    Errors: ``ArtifactError``.
    """
    for source in filter(None, sources):
        with contextlib.suppress(OSError):  # what is not there is not written over
            if os.path.samestat(path.lstat(), source.stat()):
                raise ArtifactError(f"{path}: is read here, and would be written over")


def read_small(path: Path, limit: int, error: type[ConversionError]) -> bytes:
    """Read a file of at most ``limit`` bytes.

    Errors: ``error`` where it is longer, is none, or cannot be read.
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

    Errors: ``error`` where it cannot be read.
    """
    try:
        with path.open("rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()
    except OSError as cause:
        raise error(f"{path}: {cause.strerror or cause}") from cause


def file_name(path: Path) -> str:
    """Return a file's name as text, whatever bytes it is made of."""
    return os.fsencode(path.name).decode(errors="backslashreplace")


def write_text(path: Path, text: str) -> None:
    """Write a text file, whole or not at all; its folder is made if need be.

    Errors: ``ArtifactError``.
    """
    with temporary(path.parent) as part, wrap_os_error(path):
        part.write_text(text, encoding="utf-8")
        part.replace(path)
