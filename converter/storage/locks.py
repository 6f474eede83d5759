"""Who still works on a file or folder: the system knows, and forgets when the process is dead.

Windows has no such locks, and some network drives refuse them: there nothing is locked, and nothing is dead.
"""

from __future__ import annotations

import contextlib
import os
import re
import secrets
import shutil
import stat
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

if sys.platform != "win32":
    import fcntl

PREFIX = ".convert-"  # of all that is not there to stay
TEMPORARY = re.compile(re.escape(PREFIX) + r"[0-9a-f]{16}\.part")


def temporary_name() -> str:
    """Return a name that nobody has, and by which litter is known."""
    return f"{PREFIX}{secrets.token_hex(8)}.part"


@contextlib.contextmanager
def held(path: Path) -> Iterator[None]:
    """Hold a file or folder against others who hold it, and against ``sweep``; wait until they let go.

    Errors: ``FileNotFoundError`` where it is not there, or no longer.
    """
    with contextlib.ExitStack() as stack:
        if sys.platform != "win32":
            with contextlib.suppress(PermissionError):  # one may write into a folder that one may not read
                descriptor = stack.enter_context(_opened(path))
                with contextlib.suppress(OSError):  # a drive that has no locks
                    fcntl.flock(descriptor, fcntl.LOCK_EX)
            path.stat()  # for it may have been swept while we waited
        yield


def sweep(folder: Path) -> None:
    """Remove the temporary files and folders of ours whose runs are dead.

    What a run holds stays, and so does what is another user's or cannot be removed.
    """
    if sys.platform == "win32":
        return
    with contextlib.suppress(OSError):
        for path in folder.iterdir():
            if TEMPORARY.fullmatch(path.name):
                with contextlib.suppress(OSError):
                    _remove_dead(path)


def _remove_dead(path: Path) -> None:
    """Remove what nobody holds. Errors: ``OSError`` where somebody does, or the system refuses."""
    # No link is followed, and a pipe is not waited for.
    with _opened(path, os.O_NOFOLLOW | os.O_NONBLOCK) as descriptor:
        status = os.fstat(descriptor)
        if status.st_uid != os.getuid():
            return
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if stat.S_ISDIR(status.st_mode):
            shutil.rmtree(path)
        else:
            path.unlink()


@contextlib.contextmanager
def _opened(path: Path, flags: int = 0) -> Iterator[int]:
    descriptor = os.open(path, os.O_RDONLY | flags)
    try:
        yield descriptor
    finally:
        os.close(descriptor)
