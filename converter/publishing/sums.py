"""Read SHA256SUMS, the hashes of a folder's files in the format of `sha256sum`."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from converter.errors import PublicationError
from converter.publishing.signature import SIGNATURE
from converter.storage import disk

if TYPE_CHECKING:
    from pathlib import Path

SUMS = "SHA256SUMS"
MAX_BYTES = 1 << 20
LINE = re.compile(r"([0-9a-f]{64})  ([^/\\\x00-\x1f]+)")


def read(folder: Path) -> dict[str, str]:
    """Return the SHA-256 of each listed file, by file name without a folder.

    The list cannot include itself, nor the signature, which covers the list.

    Raises:
        StorageError: if the list cannot be read.
        PublicationError: if a line is malformed, repeats a file or names one that must not be listed.
    """
    path = folder / SUMS
    try:
        text = disk.read_small(path, MAX_BYTES).decode()
    except UnicodeDecodeError as error:
        raise PublicationError(f"{path}: not UTF-8 text: {error}") from error
    hashes: dict[str, str] = {}
    for number, line in enumerate(text.removesuffix("\n").split("\n"), start=1):
        match = LINE.fullmatch(line)
        if match is None or match[2] in {*hashes, SUMS, SIGNATURE}:
            raise PublicationError(
                f"{path}: line {number}: expected a SHA-256 and the name of another file, found {line!r}"
            )
        hashes[match[2]] = match[1]
    return hashes
