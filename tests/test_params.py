from __future__ import annotations

import contextlib
import re
import struct
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays_of
from records import ENCODED, HEADER, KINDS, MAGICS, MIXED, VALUES, encode_names, ndarray_list, record

from converter.dtypes import BFLOAT16, BY_MXNET
from converter.errors import ParamsError, StorageError
from converter.formats.file_arrays import FileArray
from converter.formats.params import load_params, open_params, write_params

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from converter.dtypes import Array

SMALLEST_RECORD = 21  # bytes: a legacy record of one byte
same_path = settings(suppress_health_check=[HealthCheck.function_scoped_fixture])


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "holiday.params"


@pytest.mark.parametrize("kind", KINDS)
def test_every_record_kind_is_read_as_documented(path: Path, kind: str) -> None:
    path.write_bytes(ENCODED[kind])
    params = open_params(path)
    assert (params.container, params.records) == ("ndarray-list", (kind,))
    assert list(params.arrays) == ["a.b"]
    assert params.arrays["a.b"].dtype == np.float32
    assert np.array_equal(params.arrays["a.b"], [[0, 1, 2], [3, 4, 5]])


def test_file_is_written_as_documented(path: Path) -> None:
    with path.open("wb") as stream:
        write_params(stream, {"a.b": VALUES})
    assert path.read_bytes() == ENCODED["V2"]


def test_mixed_record_kinds_are_read_from_one_file(path: Path) -> None:
    path.write_bytes(ndarray_list({"old": record("legacy"), "new": record("V2"), "older": record("legacy")}))
    params = open_params(path)
    assert params.records == ("legacy", "V2")
    assert [name for name, array in params.arrays.items() if np.array_equal(array, VALUES)] == [
        "old",
        "new",
        "older",
    ]


def test_smallest_records_are_read(path: Path) -> None:
    small = record("legacy", (1,), type_number=3, data=b"\7")
    path.write_bytes(ndarray_list({f"{number}": small for number in range(100)}))
    assert sum(int(array[0]) for array in load_params(path).values()) == 700


def test_empty_shape_in_a_v3_record_is_a_scalar(path: Path) -> None:
    path.write_bytes(
        ndarray_list({"scale": record("V3", (), data=struct.pack("<f", 3.5)), "w": record("V3")})
    )
    arrays = load_params(path)
    assert arrays["scale"].shape == ()
    assert float(arrays["scale"]) == 3.5
    assert np.array_equal(arrays["w"], VALUES)


def test_scalar_makes_every_record_v3(path: Path) -> None:
    with path.open("wb") as stream:
        write_params(stream, {"scale": np.array(3.5, np.float32), "w": VALUES})
    assert open_params(path).records == ("V3",)
    arrays = load_params(path)
    assert arrays["scale"].shape == ()
    assert float(arrays["scale"]) == 3.5


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("type_number", "layout", "value"),
    [
        (0, "<f", 1.5),
        (1, "<d", 1.5),
        (2, "<e", 1.5),
        (3, "<B", 200),
        (4, "<i", -70_000),
        (5, "<b", -100),
        (6, "<q", -(2**40)),
        (7, "<?", True),
        (8, "<h", -300),
        (9, "<H", 60_000),
        (10, "<I", 2**31),
        (11, "<Q", 2**63),
        (12, "<H", 0x3FC0),  # the upper half of a float32 1.5
    ],
)
def test_every_mxnet_type_number_is_read(
    path: Path, kind: str, type_number: int, layout: str, value: float
) -> None:
    data = struct.pack(layout, value)
    path.write_bytes(ndarray_list({"w": record(kind, (1,), type_number=type_number, data=data)}))
    (array,) = load_params(path).values()
    assert array.dtype == BY_MXNET[type_number]
    assert array.item() == (1.5 if array.dtype == BFLOAT16 else value)


@pytest.mark.parametrize("kind", KINDS)
def test_arrays_stay_in_the_file_until_read(path: Path, kind: str) -> None:
    path.write_bytes(ENCODED[kind])
    array = open_params(path).arrays["a.b"]
    assert isinstance(array, FileArray)
    assert (array.dtype, array.shape) == (VALUES.dtype, VALUES.shape)
    assert np.array_equal(array, VALUES)


@same_path
@given(
    st.dictionaries(
        st.text(min_size=1, max_size=20).filter(lambda name: name.isprintable()),
        st.sampled_from(list(BY_MXNET.values())).flatmap(
            lambda dtype: arrays_of.arrays(
                np.dtype(f"u{dtype.itemsize}"), arrays_of.array_shapes(max_dims=4, max_side=3)
            ).map(lambda bits: bits.astype("?") if dtype == np.bool_ else bits.view(dtype))
        ),
        min_size=1,
        max_size=4,
    )
)
def test_written_arrays_are_read_back(path: Path, arrays: dict[str, Array]) -> None:
    with path.open("wb") as stream:
        write_params(stream, arrays)
    result = load_params(path)
    assert list(result) == list(arrays)
    for name, array in arrays.items():
        assert (result[name].dtype, result[name].shape) == (array.dtype, array.shape)
        assert result[name].tobytes() == array.tobytes()


@pytest.mark.parametrize(
    ("kind", "length"), [(kind, length) for kind in KINDS for length in range(1, len(ENCODED[kind]))]
)
def test_file_truncated_anywhere_is_refused(path: Path, kind: str, length: int) -> None:
    path.write_bytes(ENCODED[kind][:length])
    message = r".* needs \d+ bytes, but only \d+ are left; is the file truncated\?\n  try         the same "
    if 0 <= length - len(HEADER) < SMALLEST_RECORD:
        message = f"the header declares 1 arrays; the limit for {length - len(HEADER)} bytes is 0$"
    with pytest.raises(ParamsError, match=rf"holiday\.params: byte \d+: {message}") as refused:
        load_params(path)
    (offset,) = re.findall(r"byte (\d+):", str(refused.value))
    assert int(offset) <= length


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "the file is empty"),
        (b"\x1f\x8b" + MIXED, r"byte 0: not a \.params file: it begins with b"),
        (b"\0" * 24, r"byte 0: not a \.params file: it begins with b"),
        (b"hello", r"byte 0: not a \.params file: it begins with b'hello'"),
        (ENCODED["V2"] + b"\0", "byte 107: 1 bytes after the end"),
        (struct.pack("<QQQQ", 0x112, 0, 0, 0), "byte 16: the file contains no arrays"),
        (struct.pack("<QQQ", 0x112, 0, 2**60), "byte 16: the header declares 1152921504606846976 arrays"),
        (HEADER + record() + encode_names(), "byte 88: the arrays have no names"),
        (HEADER + record() + encode_names(b"a", b"b"), "byte 88: 1 arrays but 2 names"),
        (HEADER + record() + encode_names(b"a" * 513), "byte 96: name 0 declares 513 bytes"),
        (HEADER + record() + encode_names(b"a\xff"), "byte 104: name 0 is not UTF-8: invalid start byte"),
        (
            struct.pack("<QQQ", 0x112, 0, 2) + record() * 2 + encode_names(b"a"),
            "byte 152: 2 arrays but 1 names",
        ),
        (
            struct.pack("<QQQ", 0x112, 0, 3) + record() * 3 + encode_names(b"a", b"b", b"a"),
            "byte 216: duplicate names: a$",
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_invalid_list_is_refused_with_its_offset(path: Path, content: bytes, message: str) -> None:
    path.write_bytes(content)
    with pytest.raises(ParamsError, match=message):
        load_params(path)


@pytest.mark.parametrize(
    ("invalid", "message"),
    [
        (struct.pack("<I", 0xDEADBEEF), "24: array 0 is not a record: it begins with 0xdeadbeef"),
        (record("legacy", (1,) * 33), "24: array 0 is not a record: it begins with 0x00000021"),
        (record("V1", (1,) * 33), "28: array 0 has 33 dimensions; up to 32"),
        (record("V2", (1,) * 33), "32: array 0 has 33 dimensions; up to 32"),
        (record("V3", (1,) * 33), "32: array 0 has 33 dimensions; up to 32"),
        (struct.pack("<Iii", MAGICS["V2"], 0, -1), "32: array 0 has -1 dimensions"),
        (record("legacy", ()), "24: array 0 is empty"),
        (record("V1", ()), "28: array 0 is empty"),
        (record("V2", ()), "32: array 0 is empty"),
        (record("legacy", (2, 0)), r"24: array 0 has the shape \(2, 0\)"),
        (record("V1", (2, 0)), r"28: array 0 has the shape \(2, 0\)"),
        (record("V2", (2, -3)), r"32: array 0 has the shape \(2, -3\)"),
        (record("V3", (-2, -3)), r"32: array 0 has the shape \(-2, -3\)"),
        (record("V2", (2**62, 2**62)), rf"64: array 0, float32 \({2**62}, {2**62}\), needs {2**126} bytes"),
        (record("V2", storage=1), "28: array 0 is row_sparse; only dense arrays are supported"),
        (record("V2", storage=2), "28: array 0 is csr"),
        (record("V3", storage=2), "28: array 0 is csr"),
        (record("V2", storage=-1), "28: array 0 is of storage type -1"),
        (record("V2", storage=9), "28: array 0 is of storage type 9"),
        (record("legacy", type_number=13), "44: array 0 has the unknown dtype code 13"),
        (record("V1", type_number=13), "56: array 0 has the unknown dtype code 13"),
        (record("V2", type_number=13), "60: array 0 has the unknown dtype code 13"),
        (record("V3", type_number=-1), "60: array 0 has the unknown dtype code -1"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_invalid_record_is_refused_with_its_offset(path: Path, invalid: bytes, message: str) -> None:
    path.write_bytes(HEADER + invalid + encode_names(b"a"))
    with pytest.raises(ParamsError, match=f"holiday.params: byte {message}"):
        load_params(path)


def test_maximum_name_length_and_dimensions_are_read(path: Path) -> None:
    path.write_bytes(ndarray_list({"a" * 512: record("V2", (1,) * 31 + (6,))}))
    assert {name: array.shape for name, array in load_params(path).items()} == {"a" * 512: (1,) * 31 + (6,)}


@same_path
@given(st.binary(max_size=200) | st.binary(max_size=120).map(lambda tail: HEADER + tail))
def test_random_bytes_are_refused(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    with pytest.raises(ParamsError, match=r"holiday\.params"):
        load_params(path)


@same_path
@given(st.lists(st.tuples(st.integers(0, len(MIXED) - 1), st.integers(1, 255)), min_size=1, max_size=6))
def test_damaged_bytes_are_read_or_refused(path: Path, damage: list[tuple[int, int]]) -> None:
    content = bytearray(MIXED)
    for place, difference in damage:
        content[place] ^= difference
    path.write_bytes(content)
    with contextlib.suppress(ParamsError):
        load_params(path)


def test_folder_or_missing_file_is_refused(tmp_path: Path, path: Path) -> None:
    with pytest.raises(StorageError, match="No such file"):
        load_params(path)
    with pytest.raises(StorageError, match="Is a directory"):
        load_params(tmp_path)


@pytest.mark.parametrize("dtype", BY_MXNET.values(), ids=str)
def test_file_rewritten_in_order_is_identical(
    write: Callable[[dict[str, Array]], Path], dtype: np.dtype[np.generic], tmp_path: Path
) -> None:
    bits = np.arange(24, dtype=f"u{dtype.itemsize}").reshape(2, 3, 4)
    array = bits.astype("?") if dtype == np.bool_ else bits.view(dtype)
    first = write({"z": array, "a": array.T, "m": array[:, ::2]})
    again = tmp_path / "again.params"
    with again.open("wb") as stream:
        write_params(stream, load_params(first))
    assert again.read_bytes() == first.read_bytes()
