"""Our reader and writer against files written by MXNet itself."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from converter.dtypes import BFLOAT16
from converter.errors import ParamsError
from converter.formats.params import load_params, open_params, write_params

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize(
    ("file", "record"),
    [("kinds", "V2"), ("legacy", "legacy"), ("v1", "V1"), ("np-shape", "V3"), ("np-array", "V3")],
)
def test_every_dtype_and_shape_is_read_as_mxnet_reads_it(gluon_files: Path, file: str, record: str) -> None:
    params = open_params(gluon_files / f"{file}.params")
    assert params.records == (record,)
    with np.load(gluon_files / f"{file}.npz") as expected:
        assert list(params.arrays) == list(expected)
        for name, array in expected.items():
            assert params.arrays[name].dtype == array.dtype
            assert params.arrays[name].shape == array.shape
            assert np.asarray(params.arrays[name]).tobytes() == array.tobytes()


def test_files_hold_every_mxnet_1_dtype_with_scalars(gluon_files: Path) -> None:
    arrays = load_params(gluon_files / "np-shape.params").values()
    scalars = {array.dtype.name for array in arrays if array.shape == ()}
    assert scalars == {array.dtype.name for array in arrays if array.shape != ()}
    assert scalars == {"float32", "float64", "float16", "uint8", "int32", "int8", "int64", "bool"}


def test_bfloat16_is_read_bit_for_bit(gluon_files: Path) -> None:
    array = load_params(gluon_files / "bfloat16.params")["w"]
    assert array.dtype == BFLOAT16
    with np.load(gluon_files / "bfloat16.npz") as expected:
        assert np.array_equal(array.view(np.uint16), expected["bits"])
        assert np.array_equal(array.astype(np.float32), expected["values"])
        assert not np.array_equal(array.view(np.float16), expected["values"])


@pytest.mark.parametrize(
    "name", ["kinds", "bfloat16", "np-shape", "np-array", "ten-classes", "gluon_resnext50_32x4d"]
)
def test_mxnet_file_is_rewritten_byte_for_byte(gluon_files: Path, tmp_path: Path, name: str) -> None:
    original = gluon_files / f"{name}.params"
    with (tmp_path / "again").open("wb") as stream:
        write_params(stream, load_params(original))
    assert (tmp_path / "again").read_bytes() == original.read_bytes()


@pytest.mark.parametrize("name", ["legacy", "v1"])
def test_older_records_are_rewritten_as_current_mxnet_does(
    gluon_files: Path, tmp_path: Path, name: str
) -> None:
    with (tmp_path / "again").open("wb") as stream:
        write_params(stream, load_params(gluon_files / f"{name}.params"))
    assert (tmp_path / "again").read_bytes() == (gluon_files / "kinds.params").read_bytes()


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("row_sparse", "byte 28: array 0 is row_sparse; only dense arrays are supported"),
        ("csr", "byte 28: array 0 is csr; only dense arrays are supported"),
        ("unnamed", r"byte 2000: the arrays have no names"),
        ("none", "byte 32: array 0 is empty"),
        ("empty", r"byte 32: array 0 has the shape \(0, 3\); every dimension must be at least 1"),
    ],
)
def test_unsupported_arrays_are_refused_with_their_offset(gluon_files: Path, name: str, message: str) -> None:
    with pytest.raises(ParamsError, match=rf"{name}\.params: {message}"):
        load_params(gluon_files / f"{name}.params")
