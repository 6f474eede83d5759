from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from converter.errors import ConversionError, PublicationError, StorageError
from converter.publishing import sums

if TYPE_CHECKING:
    from pathlib import Path

HASH = "0123456789abcdef" * 4


def test_sums_are_read_by_name(tmp_path: Path) -> None:
    (tmp_path / "SHA256SUMS").write_text(f"{HASH}  a b.txt\n{HASH[::-1]}  c\n")
    assert sums.read(tmp_path) == {"a b.txt": HASH, "c": HASH[::-1]}


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("", 1),
        (f"{HASH}  a\n\n{HASH}  b\n", 2),
        (f"{HASH}  a\n{HASH}  a\n", 2),
        (f"{HASH}  a\n{HASH}  SHA256SUMS\n", 2),
        (f"{HASH}  a\n{HASH}  model.sig\n", 2),
        (f"{HASH}  ../a\n", 1),
        (f"{HASH}  /etc/passwd\n", 1),
        (f"{HASH}  a\\b\n", 1),
        (f"{HASH.upper()}  a\n", 1),
        (f"{HASH[1:]}  a\n", 1),
        (f"{HASH} *a\n", 1),
        (f"{HASH}  a\r\n", 1),
    ],
)
def test_invalid_line_is_named(tmp_path: Path, text: str, number: int) -> None:
    (tmp_path / "SHA256SUMS").write_text(text, newline="")
    with pytest.raises(
        PublicationError, match=f"line {number}: expected a SHA-256 and the name of another file, found "
    ):
        sums.read(tmp_path)


@pytest.mark.parametrize(
    ("content", "error", "message"),
    [
        (b"\xff", PublicationError, "not UTF-8 text: "),
        (bytes(sums.MAX_BYTES + 1), StorageError, "more than 1048576 bytes"),
    ],
)
def test_unreadable_list_is_refused(
    tmp_path: Path, content: bytes, error: type[ConversionError], message: str
) -> None:
    (tmp_path / "SHA256SUMS").write_bytes(content)
    with pytest.raises(error, match=message):
        sums.read(tmp_path)


def test_missing_list_is_named(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="SHA256SUMS: No such file"):
        sums.read(tmp_path)
