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
from records import HEADER, KINDS, MAGICS, MIXED, VALUES, WHOLE, listed, named, record

from converter.dtypes import BFLOAT16, BY_MXNET
from converter.errors import ParamsError
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
def test_the_bytes_of_every_kind_of_record_are_read_as_documented(path: Path, kind: str) -> None:
    path.write_bytes(WHOLE[kind])
    found = open_params(path)
    assert (found.container, found.records) == ("ndarray-list", (kind,))
    assert list(found.arrays) == ["a.b"]
    assert found.arrays["a.b"].dtype == np.float32
    assert np.array_equal(found.arrays["a.b"], [[0, 1, 2], [3, 4, 5]])


def test_the_bytes_of_the_format_are_written_as_documented(path: Path) -> None:
    with path.open("wb") as stream:
        write_params(stream, {"a.b": VALUES})
    assert path.read_bytes() == WHOLE["V2"]


def test_records_of_several_kinds_are_read_from_one_file(path: Path) -> None:
    path.write_bytes(listed({"old": record("legacy"), "new": record("V2"), "older": record("legacy")}))
    found = open_params(path)
    assert found.records == ("legacy", "V2")
    assert [name for name, array in found.arrays.items() if np.array_equal(array, VALUES)] == [
        "old",
        "new",
        "older",
    ]


def test_a_record_of_one_byte_is_not_too_small_to_be_counted(path: Path) -> None:
    small = record("legacy", (1,), type_number=3, data=b"\7")
    path.write_bytes(listed({f"{number}": small for number in range(100)}))
    assert sum(int(array[0]) for array in load_params(path).values()) == 700


def test_a_shape_without_dimensions_is_a_scalars_in_a_v3_record(path: Path) -> None:
    path.write_bytes(listed({"scale": record("V3", (), data=struct.pack("<f", 3.5)), "w": record("V3")}))
    found = load_params(path)
    assert found["scale"].shape == ()
    assert float(found["scale"]) == 3.5
    assert np.array_equal(found["w"], VALUES)


def test_a_scalar_makes_every_record_v3_for_mxnet_reads_no_mixture(path: Path) -> None:
    with path.open("wb") as stream:
        write_params(stream, {"scale": np.array(3.5, np.float32), "w": VALUES})
    assert open_params(path).records == ("V3",)
    found = load_params(path)
    assert found["scale"].shape == ()
    assert float(found["scale"]) == 3.5


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
        (12, "<H", 0x3FC0),  # the upper half of 1.5
    ],
)
def test_every_type_number_of_mxnets_is_read(
    path: Path, kind: str, type_number: int, layout: str, value: float
) -> None:
    data = struct.pack(layout, value)
    path.write_bytes(listed({"w": record(kind, (1,), type_number=type_number, data=data)}))
    (array,) = load_params(path).values()
    assert array.dtype == BY_MXNET[type_number]
    assert array.item() == (1.5 if array.dtype == BFLOAT16 else value)


@pytest.mark.parametrize("kind", KINDS)
def test_arrays_stay_in_the_file_until_they_are_read(path: Path, kind: str) -> None:
    path.write_bytes(WHOLE[kind])
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
def test_what_is_written_is_read(path: Path, arrays: dict[str, Array]) -> None:
    with path.open("wb") as stream:
        write_params(stream, arrays)
    found = load_params(path)
    assert list(found) == list(arrays)
    for name, array in arrays.items():
        assert (found[name].dtype, found[name].shape) == (array.dtype, array.shape)
        assert found[name].tobytes() == array.tobytes()


@pytest.mark.parametrize(
    ("kind", "length"), [(kind, length) for kind in KINDS for length in range(1, len(WHOLE[kind]))]
)
def test_a_file_cut_anywhere_is_refused_where_it_ends_or_before(path: Path, kind: str, length: int) -> None:
    path.write_bytes(WHOLE[kind][:length])
    message = r".* needs \d+ bytes, \d+ are left; is the file truncated\?$"
    if 0 <= length - len(HEADER) < SMALLEST_RECORD:
        message = f"1 arrays promised, more than 100000 or {length - len(HEADER)} bytes can hold$"
    with pytest.raises(ParamsError, match=rf"holiday\.params: byte \d+: {message}") as refused:
        load_params(path)
    (offset,) = re.findall(r"byte (\d+):", str(refused.value))
    assert int(offset) <= length


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "the file is empty"),
        (b"\x1f\x8b" + MIXED, r"byte 0: no \.params file: begins with b"),
        (b"\0" * 24, r"byte 0: no \.params file: begins with b"),
        (b"hello", r"byte 0: no \.params file: begins with b'hello'"),
        (WHOLE["V2"] + b"\0", "byte 107: 1 bytes after the end"),
        (struct.pack("<QQQQ", 0x112, 0, 0, 0), "byte 16: the file holds no arrays"),
        (struct.pack("<QQQ", 0x112, 0, 2**60), "byte 16: 1152921504606846976 arrays promised"),
        (HEADER + record() + named(), "byte 88: the arrays have no names"),
        (HEADER + record() + named(b"a", b"b"), "byte 88: 1 arrays but 2 names"),
        (HEADER + record() + named(b"a" * 513), "byte 96: name 0 is said to be 513 bytes long"),
        (HEADER + record() + named(b"a\xff"), "byte 104: name 0 is not UTF-8: invalid start byte"),
        (struct.pack("<QQQ", 0x112, 0, 2) + record() * 2 + named(b"a"), "byte 152: 2 arrays but 1 names"),
        (
            struct.pack("<QQQ", 0x112, 0, 3) + record() * 3 + named(b"a", b"b", b"a"),
            "byte 216: names that occur twice: a$",
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_list_that_is_not_one_is_refused_by_place(path: Path, content: bytes, message: str) -> None:
    path.write_bytes(content)
    with pytest.raises(ParamsError, match=message):
        load_params(path)


@pytest.mark.parametrize(
    ("spoilt", "message"),
    [
        (struct.pack("<I", 0xDEADBEEF), "24: array 0 is no record: it begins with 0xdeadbeef"),
        (record("legacy", (1,) * 33), "24: array 0 is no record: it begins with 0x00000021"),
        (record("V1", (1,) * 33), "28: array 0 has 33 dimensions; up to 32"),
        (record("V2", (1,) * 33), "32: array 0 has 33 dimensions; up to 32"),
        (record("V3", (1,) * 33), "32: array 0 has 33 dimensions; up to 32"),
        (struct.pack("<Iii", MAGICS["V2"], 0, -1), "32: array 0 has -1 dimensions"),
        (record("legacy", ()), "24: array 0 is none"),
        (record("V1", ()), "28: array 0 is none"),
        (record("V2", ()), "32: array 0 is none"),
        (record("legacy", (2, 0)), r"24: array 0 has the shape \(2, 0\)"),
        (record("V1", (2, 0)), r"28: array 0 has the shape \(2, 0\)"),
        (record("V2", (2, -3)), r"32: array 0 has the shape \(2, -3\)"),
        (record("V3", (-2, -3)), r"32: array 0 has the shape \(-2, -3\)"),
        (record("V2", (2**62, 2**62)), rf"64: array 0, float32 \({2**62}, {2**62}\), needs {2**126} bytes"),
        (record("V2", storage=1), "28: array 0 is row_sparse; a network's weights are dense"),
        (record("V2", storage=2), "28: array 0 is csr"),
        (record("V3", storage=2), "28: array 0 is csr"),
        (record("V2", storage=-1), "28: array 0 is of storage type -1"),
        (record("V2", storage=9), "28: array 0 is of storage type 9"),
        (record("legacy", type_number=13), "44: array 0 has type number 13, which MXNet has not"),
        (record("V1", type_number=13), "56: array 0 has type number 13"),
        (record("V2", type_number=13), "60: array 0 has type number 13"),
        (record("V3", type_number=-1), "60: array 0 has type number -1"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_record_that_is_not_read_is_refused_by_place(path: Path, spoilt: bytes, message: str) -> None:
    path.write_bytes(HEADER + spoilt + named(b"a"))
    with pytest.raises(ParamsError, match=f"holiday.params: byte {message}"):
        load_params(path)


def test_the_longest_name_and_the_most_dimensions_are_read(path: Path) -> None:
    path.write_bytes(listed({"a" * 512: record("V2", (1,) * 31 + (6,))}))
    assert {name: array.shape for name, array in load_params(path).items()} == {"a" * 512: (1,) * 31 + (6,)}


@same_path
@given(st.binary(max_size=200) | st.binary(max_size=120).map(lambda tail: HEADER + tail))
def test_noise_is_refused_and_nothing_else_happens(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    with pytest.raises(ParamsError, match=r"holiday\.params"):
        load_params(path)


@same_path
@given(st.lists(st.tuples(st.integers(0, len(MIXED) - 1), st.integers(1, 255)), min_size=1, max_size=6))
def test_damaged_bytes_are_read_or_refused_and_nothing_else_happens(
    path: Path, damage: list[tuple[int, int]]
) -> None:
    content = bytearray(MIXED)
    for place, difference in damage:
        content[place] ^= difference
    path.write_bytes(content)
    with contextlib.suppress(ParamsError):
        load_params(path)


def test_a_folder_or_nothing_is_refused(tmp_path: Path, path: Path) -> None:
    with pytest.raises(ParamsError, match="No such file"):
        load_params(path)
    with pytest.raises(ParamsError, match="Is a directory"):
        load_params(tmp_path)


@pytest.mark.parametrize("dtype", BY_MXNET.values(), ids=str)
def test_a_file_written_back_in_order_is_the_same_file(
    write: Callable[[dict[str, Array]], Path], dtype: np.dtype[np.generic], tmp_path: Path
) -> None:
    bits = np.arange(24, dtype=f"u{dtype.itemsize}").reshape(2, 3, 4)
    array = bits.astype("?") if dtype == np.bool_ else bits.view(dtype)
    first = write({"z": array, "a": array.T, "m": array[:, ::2]})
    again = tmp_path / "again.params"
    with again.open("wb") as stream:
        write_params(stream, load_params(first))
    assert again.read_bytes() == first.read_bytes()
