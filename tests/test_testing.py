from __future__ import annotations

import contextlib
import copy
import functools
import json
from typing import TYPE_CHECKING, Any

import pytest
import torch
from torch import nn

from converter import testing
from converter.errors import (
    CatalogError,
    CheckpointError,
    MappingError,
    ReferenceUnavailableError,
    StorageError,
)
from converter.networks import catalog, matching
from converter.parity import execution

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from converter.dtypes import Array
    from converter.networks.catalog import Model
    from converter.networks.mapping import Mapping

assert_parity = functools.partial(
    testing.assert_parity, "tiny", reference="numpy", sizes=[(33, 47)], dtypes=["float32"]
)


@pytest.fixture(autouse=True)
def tiny_catalog(tiny: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    """Reduce the catalog to the tiny model."""
    monkeypatch.setattr(catalog, "models", lambda: {tiny.name: tiny})


@pytest.fixture
def params(tiny_params: dict[str, Array], write: Callable[[dict[str, Array]], Path]) -> Path:
    return write(tiny_params)


@pytest.fixture
def module(tiny: Model, tiny_mapping: Mapping, tiny_params: dict[str, Array]) -> nn.Module:
    """Return the converted network in training mode, as a user may pass it."""
    state = matching.rename(tiny_mapping, tiny_params, tiny.shapes, "tiny")
    return execution.build(state, tiny.config).train()


def change_eps(module: nn.Module) -> None:
    assert isinstance(module.bn1, nn.BatchNorm2d)
    module.bn1.eps = 1e-3


def test_parameters_agree_with_their_own_conversion(params: Path) -> None:
    report = assert_parity(params)
    assert (report["agrees"], report["model"], report["weights"]) == (True, "tiny", None)


def test_parameters_agree_with_a_checkpoint(params: Path, module: nn.Module, tmp_path: Path) -> None:
    torch.save(module.state_dict(), tmp_path / "trained.pth")
    report = assert_parity(str(params), str(tmp_path / "trained.pth"))
    assert (report["agrees"], report["weights"]["file"]) == (True, "trained.pth")


def test_weights_may_be_a_folder(params: Path, module: nn.Module, tmp_path: Path) -> None:
    folder = tmp_path / "weights"
    folder.mkdir()
    with pytest.raises(CheckpointError, match=r"weights: expected a \.safetensors or .* found none"):
        assert_parity(params, folder)
    torch.save(module.state_dict(), folder / "trained.pth")
    assert assert_parity(params, str(folder))["weights"]["file"] == "trained.pth"


def test_parameters_agree_with_a_module(params: Path, module: nn.Module) -> None:
    assert assert_parity(params, module=module)["agrees"]


def test_every_size_is_compared_in_every_dtype(params: Path) -> None:
    report = assert_parity(params, sizes=[(33, 47), (32, 32)], dtypes=["float64", "float32"])
    assert [(check["dtype"], check["size"]) for check in report["checks"]] == [
        ("float64", "33x47"),
        ("float64", "32x32"),
        ("float32", "33x47"),
        ("float32", "32x32"),
    ]
    assert report["reference"]["name"] == "numpy"


def test_default_is_one_odd_size_in_both_dtypes(params: Path) -> None:
    report = testing.assert_parity("tiny", params, reference="numpy")
    assert [(check["dtype"], check["size"]) for check in report["checks"]] == [
        ("float32", "65x95"),
        ("float64", "65x95"),
    ]


def test_failure_names_the_layer_and_suspects(params: Path, module: nn.Module) -> None:
    change_eps(module)
    expected = (
        r"^the module and holiday\.params: 102 of 102 tensors equal, .* 0 of 1 checks passed\n"
        r"float32 at 33x47: \d+ of 48 layers differ, .*\n"
        r"  first mismatch  features\.1 → bn1 \(batchnorm\), float32 at 33x47: .*\n(.*\n)*"
        r"    suspect    eps: 1e-05 in the reference, 0\.001 in the module$"
    )
    with pytest.raises(AssertionError, match=expected):
        assert_parity(params, module=module)


def test_changed_checkpoint_fails_with_its_tensor(params: Path, module: nn.Module, tmp_path: Path) -> None:
    state = module.state_dict()
    torch.save(state | {"fc.bias": state["fc.bias"] + 1}, tmp_path / "trained.pth")
    expected = (
        r"^trained\.pth and (.*\n)+1 tensor differs\n  fc\.bias  10 of 10 elements differ, by up to 1\.0"
    )
    with pytest.raises(AssertionError, match=expected):
        assert_parity(params, tmp_path / "trained.pth")


@pytest.mark.parametrize(
    ("change", "outcome"),
    [
        (id, contextlib.nullcontext()),
        (change_eps, pytest.raises(AssertionError, match="0 of 1 checks passed")),
    ],
    ids=["agreeing", "differing"],
)
def test_users_module_is_not_changed(
    change: Callable[[nn.Module], object],
    outcome: contextlib.AbstractContextManager[Any],
    params: Path,
    module: nn.Module,
) -> None:
    change(module)
    before = copy.deepcopy(module.state_dict())
    with outcome:
        assert_parity(params, module=module, dtypes=["float64"])
    after = module.state_dict()
    assert after.keys() == before.keys()
    assert all(torch.equal(after[name], tensor) for name, tensor in before.items())
    assert all(after[name].dtype == tensor.dtype for name, tensor in before.items())
    assert all(part.training and not part._forward_hooks for part in module.modules())
    assert all(parameter.requires_grad for parameter in module.parameters())


def test_report_is_written_before_a_failure_is_raised(
    params: Path, module: nn.Module, tmp_path: Path
) -> None:
    change_eps(module)
    with pytest.raises(AssertionError, match="0 of 1 checks passed"):
        assert_parity(params, module=module, report_file=str(tmp_path / "reports" / "parity.html"))
    assert "<title>differs: tiny</title>" in (tmp_path / "reports" / "parity.html").read_text()


def test_no_report_is_written_without_a_path(params: Path, tmp_path: Path) -> None:
    before = set(tmp_path.iterdir())
    assert_parity(params)
    assert set(tmp_path.iterdir()) == before


def test_result_is_json_serialisable(params: Path) -> None:
    report = assert_parity(params)
    assert json.loads(json.dumps(report, allow_nan=False)) == report


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"weights": "trained.pth", "module": nn.Identity()},
            "`weights` and `module` cannot be used",
        ),
        ({"reference": "caffe"}, "`reference`: expected auto, gluon, numpy, none, found 'caffe'"),
        ({"reference": "none"}, "`sizes` and `dtypes` require a reference"),
        ({"dtypes": ["float16"]}, "`dtypes`: expected float64 or float32, found 'float16'"),
        ({"dtypes": "int8"}, "`dtypes`: expected float64 or float32, found 'int8'"),
    ],
)
def test_invalid_arguments_are_refused(options: dict[str, Any], message: str, params: Path) -> None:
    with pytest.raises(ValueError, match=message):
        assert_parity(params, **options)


def test_incomparable_inputs_raise_errors_instead_of_failing(params: Path, tmp_path: Path) -> None:
    with pytest.raises(CatalogError, match="unknown model 'tinny'; did you mean tiny"):
        testing.assert_parity("tinny", params)
    with pytest.raises(StorageError, match=r"none\.pth: No such file"):
        assert_parity(params, tmp_path / "none.pth")
    with pytest.raises(MappingError, match="the module: the names do not match the model"):
        assert_parity(params, module=nn.Identity())
    with pytest.raises(ReferenceUnavailableError, match="no-python is not an executable"):
        assert_parity(params, reference="gluon", gluon_python=tmp_path / "no-python")
