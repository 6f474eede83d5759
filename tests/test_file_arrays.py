"""Arrays in a file behave like numpy's and read their values on demand."""

from __future__ import annotations

import os
import sys
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import numpy as np
import pytest

from converter.dtypes import BY_SAFETENSORS
from converter.errors import StorageError
from converter.formats.file_arrays import PIECE, FileArray, PieceReader, SourceFile

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from converter.dtypes import Array
    from converter.formats.file_arrays import AnyArray

NUMBERS = np.arange(24, dtype="<f4").reshape(2, 3, 4)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "holiday.params"


def write_file(path: Path, content: bytes) -> SourceFile:
    path.write_bytes(content)
    return SourceFile(path, path.name)


@pytest.mark.parametrize("dtype", BY_SAFETENSORS.values(), ids=str)
def test_array_is_read_bit_for_bit_at_any_offset(path: Path, dtype: np.dtype[np.generic]) -> None:
    array: Array = (np.arange(6) % 2).astype(dtype).reshape(2, 3)
    for offset in range(9):  # aligned and unaligned
        result = FileArray(write_file(path, bytes(offset) + array.tobytes()), offset, dtype, (2, 3))
        assert (result.ndim, result.size, result.nbytes) == (array.ndim, array.size, array.nbytes)
        numbers = np.asarray(result)
        assert (numbers.dtype, numbers.shape, numbers.tobytes()) == (dtype, (2, 3), array.tobytes())
        assert numbers.flags.aligned


@pytest.mark.parametrize("shape", [(), (1,), (0, 3), (24,), (2, 3, 4)])
def test_array_has_the_declared_shape(path: Path, shape: tuple[int, ...]) -> None:
    values = np.asarray(FileArray(write_file(path, NUMBERS.tobytes()), 0, NUMBERS.dtype, shape))
    assert values.shape == shape
    assert np.array_equal(values.reshape(-1), NUMBERS.reshape(-1)[: values.size])


def test_fortran_order_is_converted_to_c_order(path: Path) -> None:
    values = np.asarray(
        FileArray(write_file(path, NUMBERS.tobytes("F")), 0, NUMBERS.dtype, (2, 3, 4), fortran=True)
    )
    assert np.array_equal(values, NUMBERS)
    assert values.flags.c_contiguous


def test_each_read_returns_new_memory(path: Path) -> None:
    array = FileArray(write_file(path, NUMBERS.tobytes()), 0, NUMBERS.dtype, NUMBERS.shape)
    first = np.asarray(array)
    first[...] = 7
    assert np.array_equal(np.asarray(array), NUMBERS)


def test_asarray_converts_dtypes_and_refuses_copy_false(path: Path) -> None:
    array = FileArray(write_file(path, NUMBERS.tobytes()), 0, NUMBERS.dtype, NUMBERS.shape)
    assert np.asarray(array, np.float64).dtype == np.float64
    assert np.array_equal(np.asarray(array, np.float64), NUMBERS)
    with pytest.raises(ValueError, match="copy=False is impossible"):
        array.__array__(copy=False)


@pytest.mark.parametrize("size", [0, 95])
def test_truncated_file_is_refused(path: Path, size: int) -> None:
    path.write_bytes(NUMBERS.tobytes())
    array = FileArray(SourceFile(path, "its name"), 0, NUMBERS.dtype, NUMBERS.shape)
    os.truncate(path, size)
    with pytest.raises(StorageError, match=r"^its name: the file was changed while it was read$"):
        np.asarray(array)


def test_os_errors_are_reported_with_the_file_name(path: Path) -> None:
    storage = write_file(path, NUMBERS.tobytes())
    with pytest.raises(StorageError, match=r"^holiday\.params: Invalid argument$"):
        storage.fill(memoryview(bytearray(4)), -1)
    with pytest.raises(StorageError, match=r"^x: No such file or directory$"):
        SourceFile(path.with_name("nothing"), "x")


@pytest.mark.parametrize("read", [np.asarray, lambda array: array.storage.opened().__enter__()])
def test_replaced_file_is_refused(path: Path, read: Callable[[FileArray], object]) -> None:
    array = FileArray(write_file(path, NUMBERS.tobytes()), 0, NUMBERS.dtype, NUMBERS.shape)
    path.with_suffix(".new").write_bytes(NUMBERS.tobytes())
    path.with_suffix(".new").replace(path)
    with pytest.raises(StorageError, match=r"^holiday\.params: the file was changed while it was read$"):
        read(array)


@pytest.mark.parametrize("rows", [0, 1, PIECE // 4, PIECE // 4 + 1, 3 * PIECE // 4 - 5])
@pytest.mark.parametrize("kind", ["stored", "first axis innermost", "in memory", "in memory, transposed"])
def test_pieces_join_to_the_array(path: Path, rows: int, kind: str) -> None:
    array = np.frombuffer(np.random.default_rng(0).bytes(4 * rows), np.uint8).reshape(rows, 4)
    storage = write_file(path, b"7 bytes" + array.tobytes("F" if "first" in kind else "C"))
    arrays: dict[str, AnyArray] = {
        "stored": FileArray(storage, 7, array.dtype, array.shape),
        "first axis innermost": FileArray(storage, 7, array.dtype, array.shape, fortran=True),
        "in memory": array,
        "in memory, transposed": np.asfortranarray(array),
    }
    reader = PieceReader()
    for _ in range(2):
        pieces = [bytes(piece) for piece in reader.pieces(arrays[kind])]
        assert b"".join(pieces) == array.tobytes()
        assert all(0 < len(piece) <= PIECE for piece in pieces)


def test_pieces_reuse_two_buffers(path: Path) -> None:
    content = np.repeat(np.arange(4, dtype=np.uint8), PIECE)
    pieces = list(
        PieceReader().pieces(FileArray(write_file(path, content.tobytes()), 0, content.dtype, content.shape))
    )
    assert [set(piece) for piece in pieces] == [{2}, {3}] * 2


@pytest.mark.skipif(sys.platform != "linux", reason="needs /proc")
def test_no_file_stays_open(path: Path) -> None:
    before = os.listdir("/proc/self/fd")  # noqa: PTH208 - includes the listing's own descriptor
    array = FileArray(write_file(path, NUMBERS.tobytes()), 0, NUMBERS.dtype, NUMBERS.shape)
    assert np.array_equal(array, NUMBERS)
    assert os.listdir("/proc/self/fd") == before  # noqa: PTH208 - as above


def test_concurrent_reads_are_independent(path: Path) -> None:
    rows = np.repeat(np.arange(64, dtype="<f4")[:, None], 5000, axis=1)
    storage = write_file(path, rows.tobytes())
    arrays = [FileArray(storage, number * 20_000, rows.dtype, (5000,)) for number in range(64)] * 8
    with ThreadPoolExecutor(8) as threads:
        read_back = list(threads.map(lambda array: set(np.asarray(array).tolist()), arrays))
    assert read_back == [{float(number)} for number in range(64)] * 8
