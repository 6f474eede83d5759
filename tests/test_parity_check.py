from __future__ import annotations

import hashlib
import shutil
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
from torch import nn

from converter.commands import parity_check
from converter.commands.parity_check import ComparisonRequest
from converter.errors import CheckpointError, MappingError, ReferenceUnavailableError, SourceError
from converter.formats.params import write_params
from converter.networks import matching
from converter.networks.loading import ParamsSource
from converter.parity import checkpoint_comparison, execution
from converter.parity.options import ParityOptions

if TYPE_CHECKING:
    from collections.abc import Callable

    from converter.dtypes import Array
    from converter.networks.catalog import Model
    from converter.networks.mapping import Mapping
    from converter.parity.checkpoint_comparison import CheckpointComparison

TERMS = ParityOptions("numpy", sizes=[(33, 47)], dtypes=["float32"])
NAME = "layer1.0.conv2.weight"


@pytest.fixture
def origin(
    tiny: Model, tiny_params: dict[str, Array], write: Callable[[dict[str, Array]], Path]
) -> ParamsSource:
    return ParamsSource(tiny, write(tiny_params))


@pytest.fixture
def state(tiny: Model, tiny_mapping: Mapping, tiny_params: dict[str, Array]) -> dict[str, Array]:
    return matching.rename(tiny_mapping, tiny_params, tiny.shapes, "tiny")


@pytest.fixture
def save(tmp_path: Path) -> Callable[[dict[str, Array]], Path]:
    """Write a state dict to a ``.pth`` file and return its path."""

    def save_file(state: dict[str, Array]) -> Path:
        path = tmp_path / "trained.pth"
        torch.save({name: torch.tensor(array) for name, array in state.items()}, path)
        return path

    return save_file


def compare(
    origin: ParamsSource, weights: Path | None = None, module: nn.Module | None = None
) -> CheckpointComparison:
    return parity_check.run(ComparisonRequest(source=origin, weights=weights, module=module, options=TERMS))


def require_passed(found: CheckpointComparison, layers: int = 48) -> None:
    assert found.passed
    assert (found.tensors, found.diagnosis) == ((), None)
    (check,) = found.proof.checks
    assert (check.agrees, len(check.rows), check.probe) == (True, layers, TERMS.probes[0])


def test_parameters_agree_with_their_own_conversion(origin: ParamsSource) -> None:
    found = compare(origin)
    require_passed(found)
    assert found.weights is None
    assert found.prepared.reading.source.name == "holiday.params"


def test_parameters_made_from_a_seed_agree_too(tiny: Model) -> None:
    found = compare(ParamsSource(tiny, seed=1))
    require_passed(found)
    assert found.prepared.reading.source.name == "tiny.random-1.params"


def test_parameters_agree_with_a_checkpoint_which_is_named_by_its_hash(
    origin: ParamsSource, state: dict[str, Array], save: Callable[[dict[str, Array]], Path]
) -> None:
    path = save(state)
    found = compare(origin, path)
    require_passed(found)
    assert found.weights == checkpoint_comparison.WeightsFile(
        "trained.pth", hashlib.sha256(path.read_bytes()).hexdigest()
    )


def test_the_checkpoint_may_have_gluons_names(
    origin: ParamsSource, tmp_path: Path, tiny_params: dict[str, Array]
) -> None:
    with (tmp_path / "other.params").open("wb") as stream:
        write_params(stream, tiny_params)
    require_passed(compare(origin, tmp_path / "other.params"))


def test_a_checkpoint_may_lack_pytorchs_counters(
    origin: ParamsSource, state: dict[str, Array], save: Callable[[dict[str, Array]], Path]
) -> None:
    without = {name: array for name, array in state.items() if not name.endswith("num_batches_tracked")}
    require_passed(compare(origin, save(without)))


def test_the_same_values_in_float64_are_the_same(
    origin: ParamsSource, state: dict[str, Array], save: Callable[[dict[str, Array]], Path]
) -> None:
    wide = {name: array.astype(np.float64) if array.ndim else array for name, array in state.items()}
    require_passed(compare(origin, save(wide)))


def test_parameters_agree_with_a_module(tiny: Model, origin: ParamsSource, state: dict[str, Array]) -> None:
    found = compare(origin, module=execution.build(state, tiny.config))
    require_passed(found)
    assert found.weights is None


def test_a_module_may_lack_a_layer_without_weights(
    tiny: Model, origin: ParamsSource, state: dict[str, Array]
) -> None:
    module = execution.build(state, tiny.config)
    pool = module.avgpool
    del module.avgpool
    object.__setattr__(module, "avgpool", pool)  # no submodule any more, and called all the same
    require_passed(compare(origin, module=module), layers=47)


def test_a_bit_that_no_output_shows_is_found(
    origin: ParamsSource, state: dict[str, Array], save: Callable[[dict[str, Array]], Path]
) -> None:
    changed = state[NAME].copy()
    changed.flat[0] = np.nextafter(changed.flat[0], np.float32(9))
    found = compare(origin, save(state | {NAME: changed}))
    assert found.proof.passed
    assert not found.passed
    assert [(apart.name, apart.count) for apart in found.tensors] == [(NAME, 1)]


def test_a_difference_is_found_and_not_raised(
    origin: ParamsSource, state: dict[str, Array], save: Callable[[dict[str, Array]], Path]
) -> None:
    found = compare(origin, save(state | {NAME: -state[NAME]}))
    assert not found.passed
    assert [apart.name for apart in found.tensors] == [NAME]
    assert found.diagnosis is not None
    assert found.diagnosis.row.layer.target == "layer1.0.conv2"


def test_a_module_that_is_built_otherwise_is_found(
    tiny: Model, origin: ParamsSource, state: dict[str, Array]
) -> None:
    module = execution.build(state, tiny.config)
    assert isinstance(module.bn1, nn.BatchNorm2d)
    module.bn1.eps = 1e-3
    found = compare(origin, module=module)
    assert not found.passed
    assert found.tensors == ()
    assert found.diagnosis is not None
    assert found.diagnosis.suspicions == ("eps: 1e-05 in the reference, 0.001 in the module",)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda state: state.pop("fc.bias"), r"trained\.pth: the names .*\n  missing     fc\.bias$"),
        (lambda state: state.update(x=np.zeros(1)), r"trained\.pth: the names .*\n  unexpected  x$"),
        (
            lambda state: state.update({"fc.bias": np.zeros(3)}),
            r"trained\.pth: .*\n  fc\.bias: floats of shape \(10,\) expected, float64 of shape \(3,\) found$",
        ),
        (
            lambda state: state.update({"fc.bias": np.zeros(10, np.int64)}),
            r"trained\.pth: .*\n  fc\.bias: floats of shape \(10,\) expected, int64 of shape \(10,\) found$",
        ),
    ],
    ids=["missing", "unexpected", "shape", "type"],
)
def test_a_checkpoint_of_another_model_is_refused(
    change: Callable[[dict[str, Array]], object],
    message: str,
    origin: ParamsSource,
    state: dict[str, Array],
    save: Callable[[dict[str, Array]], Path],
) -> None:
    change(state)
    with pytest.raises(MappingError, match=message):
        compare(origin, save(state))


def test_a_module_of_another_model_is_refused(origin: ParamsSource) -> None:
    with pytest.raises(
        MappingError, match=r"the module: the names do not fit the model\n(.*\n)*  unexpected  weight"
    ):
        compare(origin, module=nn.Linear(2, 2))


def test_what_cannot_be_read_is_refused(origin: ParamsSource, tmp_path: Path, tiny: Model) -> None:
    with pytest.raises(CheckpointError, match=r"none\.pth: No such file"):
        compare(origin, tmp_path / "none.pth")
    with pytest.raises(SourceError, match=r"none\.params: No such file"):
        compare(ParamsSource(tiny, tmp_path / "none.params"))


def test_parameters_that_change_meanwhile_are_refused(origin: ParamsSource) -> None:
    def touch(step: str, done: int, _total: int) -> None:
        if step == "comparing" and done == 1 and origin.params:
            origin.params.touch()

    with pytest.raises(SourceError, match="the file was changed while it was read"):
        parity_check.run(ComparisonRequest(source=origin, options=TERMS), touch)


def test_a_checkpoint_that_is_replaced_meanwhile_is_refused(
    origin: ParamsSource, state: dict[str, Array], save: Callable[[dict[str, Array]], Path], tmp_path: Path
) -> None:
    path = save(state)
    other = Path(shutil.copy(path, tmp_path / "other.pth"))

    def replace(step: str, done: int, _total: int) -> None:
        if step == "comparing" and done == 1:
            other.replace(path)

    with pytest.raises(CheckpointError, match=r"trained\.pth: the file was changed while it was read"):
        parity_check.run(ComparisonRequest(source=origin, weights=path, options=TERMS), replace)


def test_no_reference_is_refused_before_anything_is_read(tiny: Model, tmp_path: Path) -> None:
    terms = replace(TERMS, reference="gluon", gluon_python=tmp_path / "no-python")
    with pytest.raises(ReferenceUnavailableError, match="no-python is not an executable"):
        parity_check.run(
            ComparisonRequest(source=ParamsSource(tiny, tmp_path / "none.params"), options=terms)
        )


def test_progress_is_told(origin: ParamsSource) -> None:
    told = []
    parity_check.run(ComparisonRequest(source=origin, options=TERMS), lambda *step: told.append(step))
    assert [step for step in told if step[0] == "comparing"] == [("comparing", done, 2) for done in range(3)]
