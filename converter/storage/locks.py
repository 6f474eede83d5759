"""Advisory locks on files and folders, by which stale temporary files are detected.

The system releases the locks of a process when it ends. Without ``flock`` (Windows, some network
drives), nothing is locked and no file counts as stale.

Why this is not filelock: docs/decisions/0014-one-lock.md.
"""

from __future__ import annotations

import contextlib
import math
import os
import re
import secrets
import shutil
import stat
import sys
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

if sys.platform != "win32":
    import fcntl

PREFIX = ".convert-"  # of the names of all temporary files and folders
TEMPORARY = re.compile(re.escape(PREFIX) + r"[0-9a-f]{16}\.part")
POLL_SECONDS = 0.05  # between attempts to lock


def temporary_name() -> str:
    """Return a new name that ``sweep`` recognises."""
    return f"{PREFIX}{secrets.token_hex(8)}.part"


@contextlib.contextmanager
def held(path: Path, timeout: float = math.inf) -> Iterator[None]:
    """Lock a file or folder, also against ``sweep``; wait until another process releases its lock.

    Raises:
        FileNotFoundError: if the path does not exist, or was removed during the wait.
        TimeoutError: if another process still holds the lock after ``timeout`` seconds.
    """
    with contextlib.ExitStack() as stack:
        if sys.platform != "win32":
            with contextlib.suppress(PermissionError):  # a folder may be writable and not readable
                _lock(stack.enter_context(_descriptor(path)), timeout)
            path.stat()  # it may have been removed during the wait
        yield


def _lock(descriptor: int, timeout: float) -> None:
    deadline = time.monotonic() + timeout
    while sys.platform != "win32":
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > deadline:
                raise TimeoutError from None
            time.sleep(POLL_SECONDS)
        except OSError:  # a drive without locks
            return
        else:
            return


def sweep(folder: Path) -> None:
    """Delete stale temporary files and folders: those that no process has locked.

    Those of other users are kept, and so are those that cannot be deleted.
    """
    if sys.platform == "win32":
        return
    with contextlib.suppress(OSError):
        for path in folder.iterdir():
            if TEMPORARY.fullmatch(path.name):
                with contextlib.suppress(OSError):
                    _remove_stale(path)


def _remove_stale(path: Path) -> None:
    """Delete a temporary file or folder of this user that is not locked.

    Raises:
        OSError: if it is locked, or cannot be deleted.
    """
    # These flags do not follow a link, and do not wait for a pipe.
    with _descriptor(path, os.O_NOFOLLOW | os.O_NONBLOCK) as descriptor:
        status = os.fstat(descriptor)
        if status.st_uid != os.getuid():
            return
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if stat.S_ISDIR(status.st_mode):
            shutil.rmtree(path)
        else:
            path.unlink()


@contextlib.contextmanager
def _descriptor(path: Path, flags: int = 0) -> Iterator[int]:
    descriptor = os.open(path, os.O_RDONLY | flags)
    try:
        yield descriptor
    finally:
        os.close(descriptor)
