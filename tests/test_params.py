from __future__ import annotations

import struct
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays_of

from converter.errors import ParamsError
from converter.params import DTYPES, read_params, write_params

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from converter.params import Array

HEADER = struct.pack("<QQQ", 0x112, 0, 1)
RECORD = struct.pack("<Iii2qiii", 0xF993FAC9, 0, 2, 2, 3, 1, 0, 0) + np.arange(6, dtype="<f4").tobytes()
NAMES = struct.pack("<QQ", 1, 3) + b"a.b"
WHOLE = HEADER + RECORD + NAMES


def record(
    *, magic: int = 0xF993FAC9, storage: int = 0, shape: tuple[int, ...] = (2, 3), kind: int = 0
) -> bytes:
    layout = f"<Iii{len(shape)}qiii"
    return struct.pack(layout, magic, storage, len(shape), *shape, 1, 0, kind) + b"\0" * 24


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "holiday.params"


def test_the_bytes_of_the_format_are_read_as_documented(path: Path) -> None:
    path.write_bytes(WHOLE)
    arrays = read_params(path)
    assert list(arrays) == ["a.b"]
    assert arrays["a.b"].dtype == np.float32
    assert np.array_equal(arrays["a.b"], [[0, 1, 2], [3, 4, 5]])


def test_the_bytes_of_the_format_are_written_as_documented(path: Path) -> None:
    with path.open("wb") as stream:
        write_params(stream, {"a.b": np.arange(6, dtype=np.float32).reshape(2, 3)})
    assert path.read_bytes() == WHOLE


def test_arrays_are_read_only_views_of_the_file(path: Path) -> None:
    path.write_bytes(WHOLE)
    array = read_params(path)["a.b"]
    assert not array.flags.owndata
    with pytest.raises(ValueError, match="read-only"):
        array[0, 0] = 7


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=50)
@given(
    st.dictionaries(
        st.text(min_size=1, max_size=20).filter(lambda name: name.isprintable()),
        st.sampled_from(list(DTYPES.values())).flatmap(
            lambda dtype: arrays_of.arrays(dtype, arrays_of.array_shapes(max_dims=4, max_side=3))
        ),
        min_size=1,
        max_size=4,
    )
)
def test_what_is_written_is_read(path: Path, arrays: dict[str, Array]) -> None:
    with path.open("wb") as stream:
        write_params(stream, arrays)
    found = read_params(path)
    assert list(found) == list(arrays)
    for name, array in arrays.items():
        assert found[name].dtype == array.dtype
        assert found[name].tobytes() == array.tobytes()


@pytest.mark.parametrize("length", range(1, len(WHOLE)))
def test_a_file_cut_anywhere_is_refused(path: Path, length: int) -> None:
    path.write_bytes(WHOLE[:length])
    with pytest.raises(ParamsError, match=r"holiday\.params: byte \d+: .*(are left|more than)"):
        read_params(path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "the file is empty"),
        (b"PK\x03\x04" + WHOLE, "byte 0: a zip or MXNet 2 npz file"),
        (b"\x1f\x8b" + WHOLE, "byte 0: a gzip file"),
        (b"\0" * 24, r"byte 0: no \.params file: begins with b"),
        (WHOLE + b"\0", "byte 107: 1 bytes after the end"),
        (b"hello", r"byte 0: no \.params file: begins with b'hello'"),
        (struct.pack("<QQQQ", 0x112, 0, 0, 0), "byte 16: the file holds no arrays"),
        (struct.pack("<QQQ", 0x112, 0, 2**60), "byte 16: 1152921504606846976 arrays promised"),
        (HEADER + record(magic=0xF993FAC8), "byte 24: array 0 is a V1 record"),
        (HEADER + record(magic=0xF993FACA), "byte 24: array 0 is a V3 record"),
        (HEADER + record(magic=4), "byte 24: array 0 is a legacy record"),
        (HEADER + record(magic=0xDEADBEEF), "byte 24: array 0 is no record: 0xdeadbeef"),
        (HEADER + record(storage=1), "byte 24: array 0 is row_sparse"),
        (HEADER + record(storage=2), "byte 24: array 0 is csr"),
        (HEADER + record(storage=9), "byte 24: array 0 is of storage type 9"),
        (HEADER + record(shape=()), "byte 24: array 0 has 0 dimensions"),
        (HEADER + record(shape=(1,) * 33), "byte 24: array 0 has 33 dimensions"),
        (HEADER + record(shape=(-2, -3)), r"byte 24: array 0 has the shape \(-2, -3\)"),
        (HEADER + record(shape=(0, 3)), r"byte 24: array 0 has the shape \(0, 3\)"),
        (HEADER + record(shape=(2**62, 2**62)), r"array 0, float32 \(\d+, \d+\), needs \d+ bytes"),
        (HEADER + record(kind=12), "byte 24: array 0 has type number 12"),
        (HEADER + RECORD + struct.pack("<Q", 0), "byte 88: the arrays have no names"),
        (HEADER + RECORD + struct.pack("<Q", 2), "byte 88: 1 arrays but 2 names"),
        (HEADER + RECORD + struct.pack("<QQ", 1, 2**40), "byte 96: name 0 is said to be 1099511627776 bytes"),
        (HEADER + RECORD + struct.pack("<QQ", 1, 1) + b"\xff", "byte 104: name 0 is not UTF-8"),
        (
            struct.pack("<QQQ", 0x112, 0, 2)
            + RECORD * 2
            + struct.pack("<Q", 2)
            + (struct.pack("<Q", 1) + b"a") * 2,
            "byte 152: names that occur twice: a",
        ),
    ],
)
def test_what_is_not_read_is_refused_by_name_and_place(path: Path, content: bytes, message: str) -> None:
    path.write_bytes(content)
    with pytest.raises(ParamsError, match=message):
        read_params(path)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.binary(max_size=200) | st.binary(max_size=120).map(lambda tail: HEADER + tail))
def test_noise_is_refused_and_nothing_else_happens(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    with pytest.raises(ParamsError, match=r"holiday\.params"):
        read_params(path)


def test_a_folder_or_nothing_is_refused(tmp_path: Path, path: Path) -> None:
    with pytest.raises(ParamsError, match="No such file"):
        read_params(path)
    with pytest.raises(ParamsError, match="Is a directory"):
        read_params(tmp_path)


def test_a_file_written_back_in_order_is_the_same_file(
    write: Callable[[dict[str, Array]], Path], tiny_params: dict[str, Array], tmp_path: Path
) -> None:
    first = write(tiny_params)
    with (tmp_path / "again.params").open("wb") as stream:
        write_params(stream, read_params(first))
    assert (tmp_path / "again.params").read_bytes() == first.read_bytes()
