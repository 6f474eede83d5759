from __future__ import annotations

import contextlib
import io
import struct
import tracemalloc
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from converter.errors import ParamsError
from converter.formats import detect
from converter.formats.file_arrays import FileArray
from converter.formats.kinds import Kind
from converter.formats.params import Params, load_params, open_params

if TYPE_CHECKING:
    from collections.abc import Callable

    from converter.dtypes import Array

WEIGHT = np.arange(6, dtype="<f4").reshape(2, 3)
BIAS = np.arange(3, dtype="<i8")
LOCAL, CENTRAL = b"PK\x03\x04", b"PK\x01\x02"
TYPES = ("<f8", "<f4", "<f2", "<u8", "<i8", "<u4", "<i4", "<u2", "<i2", "u1", "i1", "?")


class Pipe(io.RawIOBase):
    """A stream without seek, for which zipfile writes data descriptors, as MXNet 2 does."""

    def __init__(self) -> None:
        self.content = b""

    def writable(self) -> bool:
        return True

    def write(self, content: object) -> int:
        self.content += bytes(content)  # type: ignore[call-overload]  # a buffer
        return memoryview(content).nbytes  # type: ignore[arg-type]  # a buffer


class MarkerPickle:
    """Creates a file when it is unpickled."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[Callable[[Path], None], tuple[Path]]:
        return Path.touch, (self.marker,)


def npy(array: Array) -> bytes:
    stream = io.BytesIO()
    np.save(stream, array)
    return stream.getvalue()


def header(text: str, version: bytes = b"\x01\x00") -> bytes:
    return b"\x93NUMPY" + version + struct.pack("<H", len(text)) + text.encode()


def zipped(*members: tuple[str, bytes], method: int = zipfile.ZIP_STORED) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", method) as archive:
        for name, content in members:
            archive.writestr(name, content)
    return stream.getvalue()


def savez(*, compressed: bool = False, **arrays: Array) -> bytes:
    stream = io.BytesIO()
    (np.savez_compressed if compressed else np.savez)(stream, **arrays)  # type: ignore[arg-type]  # no flag of theirs
    return stream.getvalue()


WHOLE = savez(w=WEIGHT)


def patched(content: bytes, signature: bytes, place: int, value: bytes) -> bytes:
    """Overwrite a field of the last header that begins with a signature."""
    begin = content.rindex(signature) + place
    return content[:begin] + value + content[begin + len(value) :]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "holiday.params"


def test_stored_arrays_stay_in_the_file(path: Path) -> None:
    path.write_bytes(savez(w=WEIGHT, b=BIAS))
    params = open_params(path)
    assert (params.container, params.records) == ("npz", ())
    assert list(params.arrays) == ["w", "b"]
    assert np.array_equal(params.arrays["w"], WEIGHT)
    assert np.array_equal(params.arrays["b"], BIAS)
    assert all(isinstance(array, FileArray) for array in params.arrays.values())


@pytest.mark.parametrize("compressed", [False, True])
@pytest.mark.parametrize("dtype", TYPES)
def test_every_dtype_known_to_mxnet_is_read(path: Path, dtype: str, *, compressed: bool) -> None:
    array = np.arange(12).astype(dtype).reshape(3, 1, 4)
    path.write_bytes(savez(compressed=compressed, w=array))
    values = np.asarray(open_params(path).arrays["w"])
    assert (values.dtype, values.shape) == (array.dtype, array.shape)
    assert values.tobytes() == array.tobytes()


def test_archive_with_data_descriptors_is_read_in_place(path: Path) -> None:
    pipe = Pipe()
    with zipfile.ZipFile(pipe, "w") as archive:
        archive.writestr("w.npy", npy(WEIGHT))
        archive.writestr("b.npy", npy(BIAS))
    assert pipe.content[14:26] == bytes(12)  # no checksum and no sizes before the data
    path.write_bytes(pipe.content)
    arrays = open_params(path).arrays
    assert np.array_equal(arrays["w"], WEIGHT)
    assert np.array_equal(arrays["b"], BIAS)
    assert isinstance(arrays["w"], FileArray)


@pytest.mark.parametrize("compressed", [False, True])
def test_fortran_order_is_converted(path: Path, *, compressed: bool) -> None:
    array = np.asfortranarray(WEIGHT)
    assert b"'fortran_order': True" in npy(array)
    path.write_bytes(savez(compressed=compressed, w=array))
    values = np.asarray(open_params(path).arrays["w"])
    assert values.flags.c_contiguous
    assert np.array_equal(values, WEIGHT)


def test_scalar_is_read(path: Path) -> None:
    path.write_bytes(savez(scale=np.array(3.5, np.float32)))
    scale = open_params(path).arrays["scale"]
    assert scale.shape == ()
    assert np.asarray(scale) == 3.5


def test_header_of_version_2_is_read(path: Path) -> None:
    stream = io.BytesIO()
    np.lib.format.write_array(stream, WEIGHT, version=(2, 0))
    path.write_bytes(zipped(("w.npy", stream.getvalue())))
    assert np.array_equal(open_params(path).arrays["w"], WEIGHT)


def test_pickled_array_is_refused_without_executing(path: Path, tmp_path: Path) -> None:
    marker = tmp_path / "run"
    pickled = np.empty(1, object)
    pickled[0] = MarkerPickle(marker)
    path.write_bytes(savez(w=pickled))
    with pytest.raises(ParamsError, match=r"byte \d+: w\.npy has type object, which MXNet does not support"):
        open_params(path)
    assert not marker.exists()
    with np.load(path, allow_pickle=True) as unsafe:
        unsafe["w"]
    assert marker.exists()


def test_damaged_stored_member_is_refused_unless_verify_is_off(path: Path) -> None:
    content = savez(w=WEIGHT, b=BIAS)
    begin = content.index(WEIGHT.tobytes())
    path.write_bytes(content[:begin] + b"\xff" + content[begin + 1 :])
    member = content.index(b"\x93NUMPY")
    with pytest.raises(ParamsError, match=rf"holiday\.params: byte {member}: w\.npy: wrong checksum"):
        open_params(path)
    assert np.array_equal(open_params(path, verify=False).arrays["b"], BIAS)


@pytest.mark.parametrize(
    ("invalid", "message"),
    [
        (("w.txt", npy(BIAS)), r"'w\.txt' is not a \.npy"),
        (("ok.npy", npy(BIAS)), "'ok' occurs twice"),
    ],
)
@pytest.mark.filterwarnings("ignore:Duplicate name")  # zipfile warns while writing
def test_invalid_member_is_refused_with_its_offset(
    path: Path, invalid: tuple[str, bytes], message: str
) -> None:
    content = zipped(("ok.npy", npy(WEIGHT)), invalid)
    path.write_bytes(content)
    with pytest.raises(ParamsError, match=rf"holiday\.params: byte {content.rindex(LOCAL)}: {message}"):
        open_params(path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (npy(WEIGHT.astype(">f4")), " has type >f4, which MXNet does not support"),
        (npy(WEIGHT.astype("c8")), " has type complex64, which MXNet does not support"),
        (npy(np.array(["a"])), " has type <U1, which MXNet does not support"),
        (npy(np.zeros((0, 3), "f4")), r" has the shape \(0, 3\); every dimension must be at least 1"),
        (npy(WEIGHT)[:-1], r", float32 \(2, 3\), does not match its size of 23 bytes"),
        (npy(WEIGHT) + b"\0", r", float32 \(2, 3\), does not match its size of 25 bytes"),
        (b"no array at all", ": the magic string is not correct"),
        (header("{}", b"\x09\x00"), r": unsupported \.npy version \(9, 0\)"),
        (header("{'descr': '<f4', 'fortran_order': False, 'shape': (1"), ": .*EOF in multi-line statement"),
        (header("{'descr': '<f4', 'fortran_order': False, 'shape': (-1,), }"), r" has the shape \(-1,\)"),
        (header("{'descr': '<f4', 'fortran_order': False}"), ": Header does not contain the correct keys"),
        (header("{'descr': '<f4', 'fortran_order': False, 'shape': (1L,), }"), ": .*created on Python 2"),
        (header("{[]: 1}"), ": .*unhashable type: 'list'"),
        (
            header("-" * 5000 + "1"),
            ": .",
        ),  # nested deeper than Python parses; the message depends on the version
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
@pytest.mark.filterwarnings("ignore:Reading `.npy`")  # from numpy, for files of Python 2
@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_unsupported_array_is_refused_with_name_and_offset(
    path: Path, content: bytes, message: str, method: int
) -> None:
    archive = zipped(("ok.npy", npy(BIAS)), ("w.npy", content), method=method)
    path.write_bytes(archive)
    member = archive.rindex(LOCAL)
    at = member if method == zipfile.ZIP_DEFLATED else archive.index(b"w.npy", member) + len("w.npy")
    with pytest.raises(ParamsError, match=rf"holiday\.params: byte {at}: w\.npy{message}"):
        open_params(path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (zipped(), r"byte 0: not a \.params file: it begins with b'PK\\x05"),
        (savez(w=WEIGHT)[:-30], "byte 0: cannot be read as a zip: File is not a zip file"),
        (patched(savez(w=WEIGHT), CENTRAL, 8, b"\1\0"), r"byte 0: 'w\.npy' is encrypted"),
        (
            patched(savez(w=WEIGHT, b=BIAS), LOCAL, 0, b"PK\x03\x05"),
            r"byte 207: b\.npy: no member header at its offset",
        ),
        (
            patched(savez(w=WEIGHT, b=BIAS), LOCAL, 0, b"OK\x03\x04"),
            r"byte 207: b\.npy: no member header at its offset",
        ),
        (patched(savez(w=WEIGHT), CENTRAL, 20, struct.pack("<II", 9999, 9999)), r"w\.npy needs 9999 bytes"),
        (patched(savez(w=WEIGHT), CENTRAL, 24, struct.pack("<I", 2**31)), "byte 0: its arrays declare"),
        (patched(savez(w=WEIGHT), CENTRAL, 10, b"\x63\0"), "has the unsupported compression method"),
        (patched(savez(w=WEIGHT), b"PK\x05\x06", 16, b"\xff\xff\0\0"), r"byte \d+: "),
        (patched(savez(wé=WEIGHT), CENTRAL, 46, b"\xff"), "byte 0: cannot be read as a zip"),
        (
            patched(savez(compressed=True, w=WEIGHT), CENTRAL, 16, bytes(4)),
            "byte 0: cannot be read as a zip: .*Bad CRC-32 .*w.npy",
        ),
        (
            savez(compressed=True, w=np.zeros((1 << 24) + 1, "f4")),
            "declare more than 67108864 bytes",
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_damaged_encrypted_or_oversized_zip_is_refused(path: Path, content: bytes, message: str) -> None:
    path.write_bytes(content)
    with pytest.raises(ParamsError, match=rf"holiday\.params: .*{message}"):
        open_params(path)


def test_zip_without_members_is_refused(path: Path) -> None:
    header = LOCAL.ljust(30, b"\0")  # identifies the file as a zip
    path.write_bytes(header + zipped())
    with pytest.raises(ParamsError, match=r"holiday\.params: byte 0: the file contains no arrays$"):
        open_params(path)
    path.write_bytes(header + zipped(("w.npy", npy(WEIGHT))))
    assert np.array_equal(open_params(path).arrays["w"], WEIGHT)


@pytest.mark.parametrize("method", [zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_member_larger_than_declared_is_not_unpacked(path: Path, method: int) -> None:
    bomb = zipped(("w.npy", bytes(1 << 26)), method=method)
    path.write_bytes(patched(bomb, CENTRAL, 24, struct.pack("<I", 1000)))
    tracemalloc.start()
    try:
        with pytest.raises(ParamsError, match=r"holiday\.params: byte 0: "):
            open_params(path)
        assert tracemalloc.get_traced_memory()[1] < 1 << 24
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("length", range(8, len(WHOLE)))
def test_truncated_file_is_refused(path: Path, length: int) -> None:
    path.write_bytes(WHOLE)
    assert detect.kind(path) is Kind.npz
    path.write_bytes(WHOLE[:length])
    assert detect.kind(path) is not Kind.npz
    with pytest.raises(ParamsError, match="byte 0: cannot be read as a zip: File is not a zip file"):
        open_params(path)


@pytest.mark.filterwarnings("ignore")  # zipfile and numpy warn before refusing
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=300)
@given(
    st.sampled_from([savez(w=WEIGHT, b=BIAS), savez(compressed=True, w=WEIGHT, b=BIAS)]),
    st.lists(st.tuples(st.integers(0, 999), st.integers(1, 255)), min_size=1, max_size=4),
    st.booleans(),
)
def test_damaged_bytes_are_read_or_refused(
    path: Path, content: bytes, damage: list[tuple[int, int]], verify: bool
) -> None:
    damaged = bytearray(content)
    for place, difference in damage:
        damaged[-1 - place % len(damaged)] ^= difference
    path.write_bytes(damaged)
    with contextlib.suppress(ParamsError):
        assert isinstance(open_params(path, verify=verify), Params)
        load_params(path)


def test_name_that_differs_from_the_members_header_is_refused(path: Path) -> None:
    content = savez(wa=WEIGHT, wb=WEIGHT)
    path.write_bytes(content)
    assert list(load_params(path)) == ["wa", "wb"]
    begin = content.index(b"PK\x01\x02")
    directory = content[begin:].replace(b"wa.npy", b"w?.npy").replace(b"wb.npy", b"wa.npy")
    path.write_bytes(content[:begin] + directory.replace(b"w?.npy", b"wb.npy"))
    with pytest.raises(
        ParamsError, match=r"byte 0: wb\.npy: its header contradicts the directory of the zip"
    ):
        open_params(path)


@pytest.mark.parametrize(("flag", "message"), [(0x20, "is a patch of another file"), (0x40, "is encrypted")])
def test_patch_or_encrypted_member_is_refused(path: Path, flag: int, message: str) -> None:
    begin = WHOLE.index(b"PK\x01\x02") + 8
    (flags,) = struct.unpack_from("<H", WHOLE, begin)
    path.write_bytes(patched(WHOLE, b"PK\x01\x02", 8, struct.pack("<H", flags | flag)))
    with pytest.raises(ParamsError, match=message):
        open_params(path)


def test_stored_member_with_two_sizes_is_refused(path: Path) -> None:
    path.write_bytes(patched(WHOLE, b"PK\x01\x02", 20, struct.pack("<I", 10)))
    with pytest.raises(ParamsError, match="its header contradicts the directory of the zip"):
        open_params(path)
