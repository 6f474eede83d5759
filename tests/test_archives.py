from __future__ import annotations

import gzip
import hashlib
import io
import stat
import struct
import tracemalloc
import zipfile
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch

from converter.errors import SourceError, StorageError
from converter.formats import archives, detect
from converter.formats.kinds import PACKED
from converter.formats.params import load_params, write_params
from converter.progress import silent

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

WEIGHT = np.arange(600, dtype=np.float32).reshape(20, 30)
CENTRAL = b"PK\x01\x02"
LIMIT = 1 << 26  # the unpacking limit of a small archive
PACKERS = (zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA)


def params() -> bytes:
    stream = io.BytesIO()
    write_params(stream, {"w": WEIGHT})
    return stream.getvalue()


CONTENT = params()


def zipped(*members: tuple[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", method) as archive:
        for name, content in members:
            archive.writestr(name, content)
    return stream.getvalue()


def zip_with_link(content: bytes) -> bytes:
    """Return a zip whose single member is marked as a symbolic link."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        member = zipfile.ZipInfo("holiday.params")
        member.external_attr = (stat.S_IFLNK | 0o777) << 16
        archive.writestr(member, content)
    return stream.getvalue()


def with_declared_size(archive: bytes, size: int) -> bytes:
    """Return a zip whose last member declares another size."""
    place = archive.rindex(CENTRAL) + 24
    return archive[:place] + struct.pack("<I", size) + archive[place + 4 :]


def marked_encrypted(archive: bytes) -> bytes:
    """Return a zip whose single member is marked as encrypted in both of its headers."""
    directory = archive.index(CENTRAL)
    return archive[:6] + b"\1" + archive[7 : directory + 8] + b"\1" + archive[directory + 9 :]


def with_flipped_byte(archive: bytes, place: int) -> bytes:
    spoilt_bytes = bytearray(archive)
    spoilt_bytes[place] ^= 0xFF
    return bytes(spoilt_bytes)


def with_invalid_block(archive: bytes, place: int) -> bytes:
    """Return an archive whose deflate stream, starting at ``place``, has a block of the reserved type."""
    spoilt_bytes = bytearray(archive)
    spoilt_bytes[place] |= 0b110
    return bytes(spoilt_bytes)


@pytest.fixture
def packed(tmp_path: Path) -> Path:
    return tmp_path / "downloads" / "holiday"


@pytest.fixture
def unpacked(tmp_path: Path) -> Path:
    (tmp_path / "downloads").mkdir()
    return tmp_path / "downloads" / "unpacked"


@pytest.mark.parametrize(
    ("content", "kind"),
    [
        (gzip.compress(CONTENT), "gzip"),
        (gzip.compress(CONTENT[:100]) + gzip.compress(CONTENT[100:]), "gzip"),
        (zipped(("holiday.params", CONTENT), method=zipfile.ZIP_STORED), "zip"),
        (zipped(("holiday.params", CONTENT)), "zip"),
        (zipped(("a/b/holiday.params", CONTENT)), "zip"),
        (zipped(("README", b"of a model"), ("holiday.params", CONTENT), ("symbol.json", b"{}")), "zip"),
        (zipped(("__MACOSX/._holiday.params", b"fork"), ("holiday.params", CONTENT)), "zip"),
        (zipped(("../../holiday.params", CONTENT)), "zip"),
        (zipped(("/holiday.params", CONTENT)), "zip"),
        (zip_with_link(CONTENT), "zip"),
    ],
    ids=[
        "gzip",
        "gzip of two members",
        "stored",
        "deflated",
        "in folders",
        "among others",
        "resource fork",
        "path traversal",
        "absolute path",
        "link",
    ],
)
def test_single_params_member_is_unpacked_to_the_destination_only(
    packed: Path, unpacked: Path, tmp_path: Path, content: bytes, kind: str
) -> None:
    packed.write_bytes(content)
    updates: list[tuple[str, int, int]] = []
    sha1 = archives.unpack(packed, unpacked, lambda *progress: updates.append(progress)).sha1
    assert detect.kind(packed) == kind
    assert sha1 == hashlib.sha1(CONTENT, usedforsecurity=False).hexdigest()
    assert unpacked.read_bytes() == CONTENT
    assert np.array_equal(load_params(unpacked)["w"], WEIGHT)
    assert {path for path in tmp_path.rglob("*") if path.is_file()} == {packed, unpacked}
    assert updates[-1][:2] == ("unpacking", len(CONTENT))


NO_ZIP = "cannot be unpacked: File is not a zip file"
NO_PARAMS = r"expected a zip with exactly one \.params, found 0"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", NO_ZIP),
        (b"\x1f", NO_ZIP),
        (CONTENT, NO_ZIP),
        (zipped(("w.npy", b"array")), NO_PARAMS),
        (zipped(("README", CONTENT)), NO_PARAMS),
        (zipped(("__MACOSX/._holiday.params", b"fork")), NO_PARAMS),
        (zipped(("holiday.params", CONTENT))[:-30], NO_ZIP),
    ],
    ids=["empty", "one byte", "ndarray list", "npz", "no params", "resource fork only", "truncated"],
)
def test_archive_without_params_is_refused(
    packed: Path, unpacked: Path, content: bytes, message: str
) -> None:
    packed.write_bytes(content)
    assert detect.kind(packed) not in PACKED
    with pytest.raises(SourceError, match=f"downloads/holiday: {message}$"):
        archives.unpack(packed, unpacked, silent)
    assert not unpacked.exists()


@pytest.mark.parametrize("compressed", [False, True])
def test_npz_is_not_an_archive(packed: Path, unpacked: Path, *, compressed: bool) -> None:
    with packed.open("wb") as stream:
        (np.savez_compressed if compressed else np.savez)(stream, w=WEIGHT)
    assert zipfile.is_zipfile(packed)
    assert detect.kind(packed) not in PACKED
    assert not unpacked.exists()


def test_torch_checkpoint_is_not_an_archive(packed: Path, unpacked: Path) -> None:
    torch.save({"w.params": torch.zeros(3)}, packed)
    assert zipfile.is_zipfile(packed)
    assert detect.kind(packed) not in PACKED
    assert not unpacked.exists()


def test_missing_file_and_folder_are_refused(packed: Path, unpacked: Path) -> None:
    with pytest.raises(StorageError, match="downloads/holiday: No such file"):
        detect.kind(packed)
    with pytest.raises(StorageError, match="downloads: a folder, not a file"):
        detect.kind(unpacked.parent)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (
            zipped(("a.params", CONTENT), ("b.params", CONTENT)),
            r"expected a zip with exactly one \.params, found 2\n  a\.params\n  b\.params\n  unpack",
        ),
        (marked_encrypted(zipped(("a.params", CONTENT))), "cannot be unpacked: .* is encrypted"),
        (with_declared_size(zipped(("a.params", CONTENT)), 2**31), r"its \.params declares 2147483648 bytes"),
        (zipped(("a.params", bytes(LIMIT + 1))), rf"its \.params declares {LIMIT + 1} bytes"),
        (
            with_declared_size(zipped(("a.params", CONTENT)), 1000),
            r"cannot be unpacked: Bad CRC-32 .*a\.params",
        ),
        (
            with_declared_size(zipped(("a.params", CONTENT), method=0), 1000),
            r"cannot be unpacked: Bad CRC-32 .*a\.pa",
        ),
        (with_invalid_block(zipped(("a.params", CONTENT)), 38), "cannot be unpacked: Error -3 .* block type"),
        (
            with_flipped_byte(zipped(("a.params", CONTENT), method=0), 60),
            r"cannot be unpacked: Bad CRC-32 .*a\.params",
        ),
        (gzip.compress(CONTENT)[:-9], "cannot be unpacked: Compressed file ended before"),
        (gzip.compress(CONTENT)[:2], "cannot be unpacked: Compressed file ended before"),
        (with_flipped_byte(gzip.compress(CONTENT), -8), "cannot be unpacked: CRC check failed"),
        (with_flipped_byte(gzip.compress(CONTENT), -4), "cannot be unpacked: Incorrect length"),
        (with_invalid_block(gzip.compress(CONTENT), 10), "cannot be unpacked: Error -3 .* block type"),
        (gzip.compress(CONTENT) + b"more", r"cannot be unpacked: Not a gzipped file \(b'mo'\)"),
        (gzip.compress(CONTENT) + gzip.compress(CONTENT)[:-9], "cannot be unpacked: Compressed file ended"),
        (gzip.compress(bytes(LIMIT + 1), 1), f"unpacks to more than {LIMIT} bytes"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_damaged_encrypted_or_oversized_archive_is_refused(
    packed: Path, unpacked: Path, content: bytes, message: str
) -> None:
    packed.write_bytes(content)
    with pytest.raises(SourceError, match=f"downloads/holiday: {message}"):
        archives.unpack(packed, unpacked, silent)


@pytest.mark.parametrize("method", PACKERS)
def test_member_larger_than_declared_does_not_fill_memory(packed: Path, unpacked: Path, method: int) -> None:
    packed.write_bytes(with_declared_size(zipped(("a.params", bytes(LIMIT)), method=method), 1000))
    tracemalloc.start()
    try:
        with pytest.raises(SourceError, match="downloads/holiday: "):
            archives.unpack(packed, unpacked, silent)
        assert tracemalloc.get_traced_memory()[1] < LIMIT // 4
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(
    ("pack", "message"),
    [
        (
            lambda content: zipped(("a.params", content)),
            rf"its \.params declares {len(CONTENT) + 1} bytes; the limit is {len(CONTENT)}$",
        ),
        (gzip.compress, f"unpacks to more than {len(CONTENT)} bytes"),
    ],
    ids=["zip", "gzip"],
)
def test_archive_at_the_limit_is_unpacked(
    packed: Path,
    unpacked: Path,
    monkeypatch: pytest.MonkeyPatch,
    pack: Callable[[bytes], bytes],
    message: str,
) -> None:
    monkeypatch.setattr(archives, "SMALL", len(CONTENT))
    monkeypatch.setattr(archives, "MAX_RATIO", 1)
    packed.write_bytes(pack(CONTENT))
    archives.unpack(packed, unpacked, silent)
    assert unpacked.read_bytes() == CONTENT
    packed.write_bytes(pack(CONTENT + b"\0"))
    with pytest.raises(SourceError, match=f"downloads/holiday: {message}$"):
        archives.unpack(packed, unpacked, silent)


@pytest.mark.parametrize(("size", "limit"), [(0, 1 << 26), (1 << 20, 100 << 20), (1 << 29, 1 << 31)])
def test_unpacking_limit_grows_with_the_archive_up_to_a_maximum(size: int, limit: int) -> None:
    assert archives.packed_limit(size) == limit


@pytest.mark.parametrize("other", ["w.npy", "archive/data.pkl"])
def test_zip_of_two_formats_is_refused(tmp_path: Path, other: str) -> None:
    path = tmp_path / "two.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(other, b"")
        archive.writestr("x.params", b"")
    with pytest.raises(
        SourceError, match=rf"two\.zip: ambiguous zip: contains both a \.params and '{other}'"
    ):
        detect.kind(path)
