from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING

import numpy as np
import pytest

from converter.errors import MappingError
from converter.formats.file_arrays import FileArray, SourceFile
from converter.networks import matching

if TYPE_CHECKING:
    from pathlib import Path

    from converter.dtypes import Array
    from converter.formats.file_arrays import AnyArray
    from converter.networks.catalog import Model
    from converter.networks.mapping import Mapping


def rename(tiny: Model, tiny_mapping: Mapping, params: dict[str, Array]) -> dict[str, Array]:
    return matching.rename(tiny_mapping, params, tiny.shapes, "holiday.params")


def test_arrays_are_renamed_without_a_copy(
    tiny: Model, tiny_mapping: Mapping, tiny_params: dict[str, Array]
) -> None:
    state = rename(tiny, tiny_mapping, tiny_params)
    assert list(state) == list(tiny.shapes)
    for source, target in tiny_mapping.to_target().items():
        assert state[target] is tiny_params[source]


def test_order_in_the_file_does_not_matter(
    tiny: Model, tiny_mapping: Mapping, tiny_params: dict[str, Array]
) -> None:
    shuffled = dict(reversed(tiny_params.items()))
    state = rename(tiny, tiny_mapping, shuffled)
    assert list(state) == list(tiny.shapes)
    assert state["conv1.weight"] is tiny_params["features.0.weight"]


def test_pytorch_counters_are_added_as_int64_zeros(
    tiny: Model, tiny_mapping: Mapping, tiny_params: dict[str, Array]
) -> None:
    counter = rename(tiny, tiny_mapping, tiny_params)["bn1.num_batches_tracked"]
    assert counter.dtype == np.int64
    assert counter.shape == ()
    assert int(counter) == 0


def test_missing_and_unexpected_names_are_listed_with_the_nearest(
    tiny: Model, tiny_mapping: Mapping, tiny_params: dict[str, Array]
) -> None:
    for block in range(2):
        name = f"features.5.{block}.body.7"
        tiny_params[f"{name}.scale"] = tiny_params.pop(f"{name}.gamma")
    del tiny_params["output.bias"]
    expected = """\
holiday.params: the names do not match mappings/resnext.toml
  missing     features.5.{0…1}.body.7.gamma
  missing     output.bias
  unexpected  features.5.{0…1}.body.7.scale      closest match: features.5.{0…1}.body.7.gamma"""
    with pytest.raises(MappingError, match=f"^{re.escape(expected)}$"):
        rename(tiny, tiny_mapping, tiny_params)


def test_wrong_shapes_and_dtypes_are_all_listed(
    tiny: Model, tiny_mapping: Mapping, tiny_params: dict[str, Array]
) -> None:
    tiny_params["features.4.0.body.3.weight"] = np.zeros((8, 8, 3, 3), np.float32)
    for role in ("gamma", "beta"):
        tiny_params[f"features.1.{role}"] = tiny_params[f"features.1.{role}"].astype(np.int32)
    expected = """\
holiday.params: the arrays do not match the model
  features.1.gamma: expected floats, found int32
  features.1.beta: expected floats, found int32
  features.4.0.body.3.weight: expected shape (8, 4, 3, 3), found (8, 8, 3, 3)"""
    with pytest.raises(MappingError, match=f"^{re.escape(expected)}$"):
        rename(tiny, tiny_mapping, tiny_params)


def test_incomplete_mapping_is_refused(
    tiny: Model, tiny_mapping: Mapping, tiny_params: dict[str, Array]
) -> None:
    shapes = tiny.shapes | {"layer1.0.se.weight": (1,)}
    del shapes["fc.bias"]
    with pytest.raises(MappingError, match=r"not mapped    layer1\.0\.se\.weight\n  not in model  fc\.bias"):
        matching.rename(tiny_mapping, tiny_params, shapes, "holiday.params")


def test_arrays_fit_only_their_model(
    tiny: Model, tiny_mapping: Mapping, tiny_params: dict[str, Array]
) -> None:
    assert matching.fits(tiny_mapping, tiny_params, tiny.shapes)
    assert not matching.fits(tiny_mapping, tiny_params, tiny.with_config(num_classes=11).shapes)
    assert not matching.fits(tiny_mapping, tiny_params | {"extra": np.zeros(1, np.float32)}, tiny.shapes)


def test_array_of_another_shape_is_not_read(
    tiny: Model, tiny_mapping: Mapping, tiny_params: dict[str, Array], tmp_path: Path
) -> None:
    (tmp_path / "huge").touch()
    os.truncate(tmp_path / "huge", 1 << 40)  # a sparse file, larger than memory
    storage = SourceFile(tmp_path / "huge", "huge")
    huge = FileArray(storage, 0, np.dtype(np.float32), (1 << 38,))
    params: dict[str, AnyArray] = {**tiny_params, "features.1.gamma": huge}
    expected = r"features\.1\.gamma: expected shape \(64,\), found \(274877906944,\)$"
    with pytest.raises(MappingError, match=expected):
        matching.rename(tiny_mapping, params, tiny.shapes, "holiday.params")


@pytest.mark.parametrize(
    ("name", "array", "message"),
    [
        (
            "fc.bias",
            np.zeros(11, np.float32),
            r"expected floats of shape \(10,\), found float32 of shape \(11,\)",
        ),
        (
            "fc.bias",
            np.zeros(10, np.int32),
            r"expected floats of shape \(10,\), found int32 of shape \(10,\)",
        ),
        (
            "bn1.num_batches_tracked",
            np.zeros(5, np.int64),
            r"expected an integer scalar, found int64 of shape \(5,\)",
        ),
        (
            "bn1.num_batches_tracked",
            np.float32(1.5),
            r"expected an integer scalar, found float32 of shape \(\)",
        ),
    ],
)
def test_state_dict_with_other_shapes_or_dtypes_is_refused(
    name: str, array: Array, message: str, tiny: Model, tiny_mapping: Mapping, tiny_params: dict[str, Array]
) -> None:
    state = rename(tiny, tiny_mapping, tiny_params)
    assert matching.complete(tiny_mapping, state, tiny.shapes, "a.pth").keys() == tiny.shapes.keys()
    with pytest.raises(MappingError, match=f"{name}: {message}"):
        matching.complete(tiny_mapping, {**state, name: np.asarray(array)}, tiny.shapes, "a.pth")
