"""Our reader and writer against files that MXNet itself wrote."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from converter import catalog, preparation
from converter.errors import DialectError
from converter.params import read_params, write_params

if TYPE_CHECKING:
    from pathlib import Path


def test_every_type_and_shape_is_read_bit_for_bit(gluon_files: Path) -> None:
    found = read_params(gluon_files / "kinds.params")
    with np.load(gluon_files / "kinds.npz") as expected:
        assert list(found) == list(expected)
        for name, array in expected.items():
            assert found[name].dtype == array.dtype
            assert found[name].shape == array.shape
            assert found[name].tobytes() == array.tobytes()


@pytest.mark.parametrize("name", ["kinds", "ten-classes", "gluon_resnext50_32x4d"])
def test_a_file_of_mxnets_is_written_back_byte_for_byte(gluon_files: Path, tmp_path: Path, name: str) -> None:
    original = gluon_files / f"{name}.params"
    with (tmp_path / "again").open("wb") as stream:
        write_params(stream, read_params(original))
    assert (tmp_path / "again").read_bytes() == original.read_bytes()


@pytest.mark.parametrize(("file", "dialect"), [("prefix.params", "prefix"), ("export-0000.params", "export")])
def test_the_other_dialects_are_refused_by_name(gluon_files: Path, file: str, dialect: str) -> None:
    with pytest.raises(DialectError, match=f"names in the {dialect} style, as "):
        preparation.prepare(catalog.find("gluon_resnext50_32x4d"), gluon_files / file)
