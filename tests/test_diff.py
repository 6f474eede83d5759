from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import safetensors.numpy
import torch

from converter.commands import diff
from converter.errors import CheckpointError, ParamsError, StorageError
from converter.formats.array_comparison import TensorDiff
from converter.formats.params import write_params
from converter.networks import matching

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from converter.dtypes import Array
    from converter.networks.catalog import Model
    from converter.networks.mapping import Mapping

FORMATS = ["params", "pth", "safetensors"]
NAME = "layer1.0.bn1.weight"
OTHER_NAN = np.array([0x7FC00001], np.uint32).view(np.float32)


def single(*values: float) -> Array:
    return np.array(values, np.float32)


def expected(compared: int = 1, **fields: Any) -> diff.CheckpointDiff:  # noqa: ANN401 - fields
    """Return a result without differences, but for the given fields."""
    equal: dict[str, Any] = {"only_first": (), "only_second": (), "different": ()}
    return diff.CheckpointDiff(compared=compared, **equal | fields)


@pytest.fixture
def state(tiny: Model, tiny_mapping: Mapping, tiny_params: dict[str, Array]) -> dict[str, Array]:
    return matching.rename(tiny_mapping, tiny_params, tiny.shapes, "tiny")


@pytest.fixture
def save(tmp_path: Path) -> Callable[[str, dict[str, Array]], Path]:
    """Return a function that writes arrays in the format of the file's suffix and returns the path."""

    def save_file(name: str, arrays: dict[str, Array]) -> Path:
        path = tmp_path / name
        if path.suffix == ".params":
            with path.open("wb") as stream:
                write_params(stream, arrays)
        elif path.suffix == ".pth":
            torch.save({key: torch.tensor(array) for key, array in arrays.items()}, path)
        else:
            safetensors.numpy.save_file(arrays, path)
        return path

    return save_file


@pytest.mark.parametrize("first", FORMATS)
@pytest.mark.parametrize("second", FORMATS)
def test_same_network_is_identical_in_every_format(
    first: str,
    second: str,
    tiny_params: dict[str, Array],
    state: dict[str, Array],
    save: Callable[[str, dict[str, Array]], Path],
) -> None:
    one, other = (
        save(f"{number}.{ending}", tiny_params if ending == "params" else state)
        for number, ending in enumerate((first, second))
    )
    comparison = diff.diff(one, other)
    counters = len(state) - len(tiny_params)
    assert comparison.identical
    if (first == "params") != (second == "params"):
        named = {"mapping": "resnext.toml", "counters": counters, "network": "auto"}
        assert comparison == expected(len(tiny_params), **named)
    else:
        assert comparison == expected(len(tiny_params if first == "params" else state))


@pytest.mark.parametrize("ending", FORMATS)
@pytest.mark.parametrize(
    ("changed", "message"),
    [
        (np.nextafter(single(1, 2), single(3)), "2 of 2 elements differ, by up to 2.4e-07"),
        (single(1, 3), "1 of 2 elements differ, by up to 1.0e+00"),
        (single(1, np.inf), "1 of 2 elements differ, some not finite"),
        (np.array([1.0, 2.0]), "float32 vs float64, equal values"),
        (np.array([1.0, 2.5]), "float32 vs float64, 1 of 2 elements differ, by up to 5.0e-01"),
        (single(1, 2).reshape(2, 1), "shape (2,) vs (2, 1)"),
    ],
)
def test_difference_in_values_dtype_or_shape_is_described(
    ending: str, changed: Array, message: str, save: Callable[[str, dict[str, Array]], Path]
) -> None:
    arrays: dict[str, Array] = {NAME: single(1, 2), "fc.bias": single(0)}
    comparison = diff.diff(save(f"a.{ending}", arrays), save(f"b.{ending}", arrays | {NAME: changed}))
    assert not comparison.identical
    assert [(difference.name, str(difference)) for difference in comparison.different] == [(NAME, message)]
    assert (comparison.compared, comparison.only_first, comparison.only_second) == (2, (), ())


@pytest.mark.parametrize(
    ("one", "other"), [(0.0, -0.0), (np.nan, OTHER_NAN[0])], ids=["signed zeros", "NaN payloads"]
)
def test_signed_zeros_and_nan_payloads_differ(
    one: float, other: float, save: Callable[[str, dict[str, Array]], Path]
) -> None:
    first, second = save("a.pth", {NAME: single(one)}), save("b.pth", {NAME: single(other)})
    (difference,) = diff.diff(first, second).different
    assert difference.count == 1
    assert diff.diff(first, first).identical


def test_names_on_one_side_are_listed(save: Callable[[str, dict[str, Array]], Path]) -> None:
    zero = single(0)
    first, second = save("a.pth", {"a": zero, "b": zero}), save("b.pth", {"b": zero, "c": zero, "d": zero})
    assert diff.diff(first, second) == expected(only_first=("a",), only_second=("c", "d"))


@pytest.mark.parametrize(
    "found",
    [
        expected(only_first=("a",)),
        expected(only_second=("a",)),
        expected(different=(TensorDiff("a", ((), ()), ("float32", "float64"), 0, 1, 0.0),)),
    ],
)
def test_any_difference_makes_checkpoints_differ(found: diff.CheckpointDiff) -> None:
    assert not found.identical
    assert expected().identical


def test_differing_tensor_has_its_pytorch_name_on_either_side(
    tiny_params: dict[str, Array], state: dict[str, Array], save: Callable[[str, dict[str, Array]], Path]
) -> None:
    torchs = save("a.safetensors", state)
    del tiny_params["output.bias"]
    tiny_params["features.4.0.body.1.gamma"] = -tiny_params["features.4.0.body.1.gamma"]
    gluons = save("b.params", tiny_params)
    forwards, backwards = diff.diff(torchs, gluons), diff.diff(gluons, torchs)
    assert (
        [difference.name for difference in forwards.different]
        == [difference.name for difference in backwards.different]
        == [NAME]
    )
    assert forwards.only_first == backwards.only_second == ("fc.bias",)
    assert forwards.only_second == backwards.only_first == ()


def test_batch_counters_are_compared_between_pytorch_files(
    state: dict[str, Array], save: Callable[[str, dict[str, Array]], Path]
) -> None:
    trained = state | {"bn1.num_batches_tracked": np.array(7)}
    (difference,) = diff.diff(save("a.pth", state), save("b.pth", trained)).different
    assert difference.name == "bn1.num_batches_tracked"


@pytest.mark.parametrize("other", [{"net.0.weight": single(0)}, {}])
def test_disjoint_names_are_refused(
    other: dict[str, Array], state: dict[str, Array], save: Callable[[str, dict[str, Array]], Path]
) -> None:
    first, second = save("a.safetensors", state), save("b.safetensors", other)
    expected = (
        r"a\.safetensors and .*b\.safetensors: no tensor names in common, and no mapping relates them\n"
        rf"  a\.safetensors has .*\n  b\.safetensors has {next(iter(other), 'nothing')}$"
    )
    with pytest.raises(CheckpointError, match=expected):
        diff.diff(first, second)


def test_unreadable_file_is_refused(
    tiny_params: dict[str, Array], save: Callable[[str, dict[str, Array]], Path]
) -> None:
    path = save("a.params", tiny_params)
    with pytest.raises(StorageError, match=r"none\.pth: No such file"):
        diff.diff(path, path.with_name("none.pth"))
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(ParamsError, match=r"a\.params: byte 16: the header declares 102 arrays"):
        diff.diff(path, path)
