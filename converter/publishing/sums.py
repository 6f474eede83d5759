"""SHA256SUMS, the hashes of a folder's files in the form of `sha256sum`."""

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
    """Return the SHA-256 of every file that is listed, by name; no name leads into another folder.

    Neither the list is listed, which cannot know its own hash, nor the signature, which is made of the list.
    Errors: ``PublicationError`` with the line that is none, or names one of these or a file again.
    """
    place = folder / SUMS
    try:
        text = disk.read_small(place, MAX_BYTES, PublicationError).decode()
    except UnicodeDecodeError as error:
        raise PublicationError(f"{place}: no text: {error}") from error
    found: dict[str, str] = {}
    for number, line in enumerate(text.removesuffix("\n").split("\n"), start=1):
        match = LINE.fullmatch(line)
        if match is None or match[2] in {*found, SUMS, SIGNATURE}:
            raise PublicationError(
                f"{place}: line {number}: a SHA-256 and the name of one more file expected, {line!r} found"
            )
        found[match[2]] = match[1]
    return found
