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
from converter.errors import (
    MappingError,
    ReferenceUnavailableError,
    StorageError,
)
from converter.formats.params import write_params
from converter.networks import matching
from converter.networks.selection import ParamsSource
from converter.parity import checkpoint_comparison, execution
from converter.parity.options import ParityOptions

if TYPE_CHECKING:
    from collections.abc import Callable

    from converter.dtypes import Array
    from converter.networks.catalog import Model
    from converter.networks.mapping import Mapping
    from converter.parity.checkpoint_comparison import CheckpointComparison

OPTIONS = ParityOptions("numpy", sizes=[(33, 47)], dtypes=["float32"])
NAME = "layer1.0.conv2.weight"


@pytest.fixture
def source(
    tiny: Model, tiny_params: dict[str, Array], write: Callable[[dict[str, Array]], Path]
) -> ParamsSource:
    return ParamsSource(tiny, write(tiny_params))


@pytest.fixture
def state(tiny: Model, tiny_mapping: Mapping, tiny_params: dict[str, Array]) -> dict[str, Array]:
    return matching.rename(tiny_mapping, tiny_params, tiny.shapes, "tiny")


@pytest.fixture
def save(tmp_path: Path) -> Callable[[dict[str, Array]], Path]:
    """Return a function that writes a state dict to a ``.pth`` file and returns its path."""

    def save_file(state: dict[str, Array]) -> Path:
        path = tmp_path / "trained.pth"
        torch.save({name: torch.tensor(array) for name, array in state.items()}, path)
        return path

    return save_file


def compare(
    source: ParamsSource, weights: Path | None = None, module: nn.Module | None = None
) -> CheckpointComparison:
    return parity_check.run(ComparisonRequest(source=source, weights=weights, module=module, options=OPTIONS))


def assert_passed(comparison: CheckpointComparison, layers: int = 48) -> None:
    assert comparison.passed
    assert (comparison.tensors, comparison.diagnosis) == ((), None)
    (check,) = comparison.proof.checks
    assert (check.agrees, len(check.rows), check.probe) == (True, layers, OPTIONS.probes[0])


def test_parameters_agree_with_their_own_conversion(source: ParamsSource) -> None:
    comparison = compare(source)
    assert_passed(comparison)
    assert comparison.weights is None
    assert comparison.loaded.source.params_file.name == "holiday.params"


def test_seeded_parameters_agree(tiny: Model) -> None:
    comparison = compare(ParamsSource(tiny, seed=1))
    assert_passed(comparison)
    assert comparison.loaded.source.params_file.name == "tiny.random-1.params"


def test_checkpoint_agrees_and_is_identified_by_its_hash(
    source: ParamsSource, state: dict[str, Array], save: Callable[[dict[str, Array]], Path]
) -> None:
    path = save(state)
    comparison = compare(source, path)
    assert_passed(comparison)
    assert comparison.weights == checkpoint_comparison.WeightsFile(
        "trained.pth", hashlib.sha256(path.read_bytes()).hexdigest()
    )


def test_checkpoint_may_have_gluon_names(
    source: ParamsSource, tmp_path: Path, tiny_params: dict[str, Array]
) -> None:
    with (tmp_path / "other.params").open("wb") as stream:
        write_params(stream, tiny_params)
    assert_passed(compare(source, tmp_path / "other.params"))


def test_checkpoint_may_lack_batch_counters(
    source: ParamsSource, state: dict[str, Array], save: Callable[[dict[str, Array]], Path]
) -> None:
    without = {name: array for name, array in state.items() if not name.endswith("num_batches_tracked")}
    assert_passed(compare(source, save(without)))


def test_same_values_in_float64_agree(
    source: ParamsSource, state: dict[str, Array], save: Callable[[dict[str, Array]], Path]
) -> None:
    wide = {name: array.astype(np.float64) if array.ndim else array for name, array in state.items()}
    assert_passed(compare(source, save(wide)))


def test_parameters_agree_with_a_module(tiny: Model, source: ParamsSource, state: dict[str, Array]) -> None:
    comparison = compare(source, module=execution.build(state, tiny.config))
    assert_passed(comparison)
    assert comparison.weights is None


def test_module_may_lack_a_layer_without_weights(
    tiny: Model, source: ParamsSource, state: dict[str, Array]
) -> None:
    module = execution.build(state, tiny.config)
    pool = module.avgpool
    del module.avgpool
    object.__setattr__(module, "avgpool", pool)  # no longer a submodule, but still called
    assert_passed(compare(source, module=module), layers=47)


def test_bit_that_no_output_shows_is_detected(
    source: ParamsSource, state: dict[str, Array], save: Callable[[dict[str, Array]], Path]
) -> None:
    changed = state[NAME].copy()
    changed.flat[0] = np.nextafter(changed.flat[0], np.float32(9))
    comparison = compare(source, save(state | {NAME: changed}))
    assert comparison.proof.passed
    assert not comparison.passed
    assert [(difference.name, difference.count) for difference in comparison.tensors] == [(NAME, 1)]


def test_difference_is_returned_not_raised(
    source: ParamsSource, state: dict[str, Array], save: Callable[[dict[str, Array]], Path]
) -> None:
    comparison = compare(source, save(state | {NAME: -state[NAME]}))
    assert not comparison.passed
    assert [difference.name for difference in comparison.tensors] == [NAME]
    assert comparison.diagnosis is not None
    assert comparison.diagnosis.row.layer.target == "layer1.0.conv2"


def test_module_with_another_setting_is_detected(
    tiny: Model, source: ParamsSource, state: dict[str, Array]
) -> None:
    module = execution.build(state, tiny.config)
    assert isinstance(module.bn1, nn.BatchNorm2d)
    module.bn1.eps = 1e-3
    comparison = compare(source, module=module)
    assert not comparison.passed
    assert comparison.tensors == ()
    assert comparison.diagnosis is not None
    assert comparison.diagnosis.suspicions == ("eps: 1e-05 in the reference, 0.001 in the module",)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda state: state.pop("fc.bias"), r"trained\.pth: the names .*\n  missing     fc\.bias$"),
        (lambda state: state.update(x=np.zeros(1)), r"trained\.pth: the names .*\n  unexpected  x$"),
        (
            lambda state: state.update({"fc.bias": np.zeros(3)}),
            r"trained\.pth: .*\n  fc\.bias: expected floats of shape \(10,\), found float64 of shape \(3,\)$",
        ),
        (
            lambda state: state.update({"fc.bias": np.zeros(10, np.int64)}),
            r"trained\.pth: .*\n  fc\.bias: expected floats of shape \(10,\), found int64 of shape \(10,\)$",
        ),
    ],
    ids=["missing", "unexpected", "shape", "type"],
)
def test_checkpoint_of_another_model_is_refused(
    change: Callable[[dict[str, Array]], object],
    message: str,
    source: ParamsSource,
    state: dict[str, Array],
    save: Callable[[dict[str, Array]], Path],
) -> None:
    change(state)
    with pytest.raises(MappingError, match=message):
        compare(source, save(state))


def test_module_of_another_model_is_refused(source: ParamsSource) -> None:
    with pytest.raises(
        MappingError, match=r"the module: the names do not match the model\n(.*\n)*  unexpected  weight"
    ):
        compare(source, module=nn.Linear(2, 2))


def test_missing_files_are_refused(source: ParamsSource, tmp_path: Path, tiny: Model) -> None:
    with pytest.raises(StorageError, match=r"none\.pth: No such file"):
        compare(source, tmp_path / "none.pth")
    with pytest.raises(StorageError, match=r"none\.params: No such file"):
        compare(ParamsSource(tiny, tmp_path / "none.params"))


def test_parameters_changed_while_comparing_are_refused(source: ParamsSource) -> None:
    def touch(step: str, done: int, _total: int) -> None:
        if step == "comparing" and done == 1 and source.params:
            source.params.touch()

    with pytest.raises(StorageError, match="the file was changed while it was read"):
        parity_check.run(ComparisonRequest(source=source, options=OPTIONS), touch)


def test_checkpoint_replaced_while_comparing_is_refused(
    source: ParamsSource,
    state: dict[str, Array],
    save: Callable[[dict[str, Array]], Path],
    tmp_path: Path,
) -> None:
    path = save(state)
    other = Path(shutil.copy(path, tmp_path / "other.pth"))

    def replace(step: str, done: int, _total: int) -> None:
        if step == "comparing" and done == 1:
            other.replace(path)

    with pytest.raises(StorageError, match=r"trained\.pth: the file was changed while it was read"):
        parity_check.run(ComparisonRequest(source=source, weights=path, options=OPTIONS), replace)


def test_missing_reference_is_refused_before_reading(tiny: Model, tmp_path: Path) -> None:
    options = replace(OPTIONS, reference="gluon", gluon_python=tmp_path / "no-python")
    with pytest.raises(ReferenceUnavailableError, match="no-python is not an executable"):
        parity_check.run(
            ComparisonRequest(source=ParamsSource(tiny, tmp_path / "none.params"), options=options)
        )


def test_progress_is_reported(source: ParamsSource) -> None:
    steps = []
    request = ComparisonRequest(source=source, options=OPTIONS)
    proof = parity_check.run(request, lambda *step: steps.append(step)).proof
    counts = {name: [step[1:] for step in steps if step[0] == name] for name in ("comparing", "proving")}
    layers = len(proof.checks) * len(proof.checks[0].rows)
    assert counts["comparing"] == [(done, 102) for done in range(1, 103)]
    assert counts["proving"] == [(done, layers) for done in range(layers + 1)]
