"""Checkpoints as training programs leave them: below keys, behind prefixes, beside other entries."""

from __future__ import annotations

import argparse
import json
from typing import TYPE_CHECKING, Any

import pytest
import safetensors.torch
import torch
from typer.testing import CliRunner, Result

import converter
from converter.cli.app import app
from converter.errors import CheckpointError, MappingError, NoStateDictError, UsageError
from converter.formats.state_dicts import Location
from converter.networks import catalog, matching, state_dicts
from converter.parity.options import ParityOptions

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from converter.dtypes import Array
    from converter.networks.catalog import Model

    State = dict[str, torch.Tensor]
    Save = Callable[[object], Path]

NONE = ParityOptions("none")
NUMPY = ParityOptions("numpy", sizes=[(33, 47)], dtypes=["float64"])
EXTRA = torch.ones(3)


@pytest.fixture(autouse=True)
def tiny_catalog(tiny: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    """Reduce the catalog to the tiny model."""
    monkeypatch.setattr(catalog, "models", lambda: {tiny.name: tiny})
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.delenv("GLUON_PYTHON", raising=False)


@pytest.fixture
def state(tiny: Model, tiny_params: dict[str, Array]) -> State:
    arrays = matching.rename(tiny.mapping, tiny_params, tiny.shapes, "tiny")
    return {name: torch.tensor(array) for name, array in arrays.items()}


@pytest.fixture
def save(tmp_path: Path) -> Save:
    def save_file(content: object) -> Path:
        torch.save(content, tmp_path / "last.ckpt")
        return tmp_path / "last.ckpt"

    return save_file


def prefixed(prefix: str, state: State) -> State:
    return {prefix + name: tensor for name, tensor in state.items()}


def doubled(state: State) -> State:
    return {name: tensor * 2 for name, tensor in state.items()}


WRAPPINGS: dict[str, tuple[Callable[[State], object], Location]] = {
    "plain": (lambda state: state, Location()),
    "DataParallel": (lambda state: prefixed("module.", state), Location(prefix="module.")),
    "torch.compile": (lambda state: prefixed("_orig_mod.", state), Location(prefix="_orig_mod.")),
    "nested prefixes": (lambda state: prefixed("net.module.0.", state), Location(prefix="net.module.0.")),
    "Lightning": (
        lambda state: {
            "epoch": 1,
            "global_step": 10,
            "pytorch-lightning_version": "2.2",
            "state_dict": prefixed("model.", state),
            "optimizer_states": [{"state": {0: {"exp_avg": EXTRA}}}],
            "hyper_parameters": {"lr": 0.1},
        },
        Location(key="state_dict", prefix="model."),
    ),
    "Lightning with a loss and a metric": (
        lambda state: {
            "state_dict": {
                "criterion.weight": EXTRA,
                **prefixed("model.", state),
                "metric.total": torch.tensor(3),
            }
        },
        Location(key="state_dict", prefix="model.", ignored=("criterion.weight", "metric.total")),
    ),
    "torchvision's references": (
        lambda state: {"model": state, "optimizer": {"state": {0: {"momentum": EXTRA}}}, "lr_scheduler": {}},
        Location(key="model"),
    ),
    "timm": (
        lambda state: {"epoch": 3, "state_dict": state, "args": argparse.Namespace(lr=0.1), "metric": 77.0},
        Location(key="state_dict"),
    ),
    "unusual key": (lambda state: {"acc": 93.1, "net": state}, Location(key="net")),
    "nested key": (lambda state: {"ema": {"decay": 0.9, "module": state}}, Location(key="ema.module")),
    "without counters": (
        lambda state: prefixed("model.", {n: t for n, t in state.items() if not n.endswith("tracked")}),
        Location(prefix="model."),
    ),
}


@pytest.mark.parametrize(("wrap", "location"), WRAPPINGS.values(), ids=WRAPPINGS)
def test_weights_are_located_and_converted_back(
    wrap: Callable[[State], object],
    location: Location,
    state: State,
    save: Save,
    write: Callable[[dict[str, Array]], Path],
    tiny_params: dict[str, Array],
    tmp_path: Path,
) -> None:
    result = converter.to_gluon(save(wrap(state)), tmp_path / "back.params", options=NONE)
    assert result.location == location
    assert (tmp_path / "back.params").read_bytes() == write(tiny_params).read_bytes()


def test_prefix_is_removed_in_safetensors_too(state: State, tmp_path: Path) -> None:
    safetensors.torch.save_file(prefixed("backbone.", state), tmp_path / "a.safetensors")
    checkpoint = state_dicts.read(tmp_path / "a.safetensors")
    assert checkpoint.location == Location(prefix="backbone.")
    assert checkpoint.arrays.keys() == state.keys()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda state: state | {"model.extra.weight": EXTRA}, r"\n  unexpected  extra\.weight"),
        (
            lambda state: {n: t for n, t in state.items() if n != "model.fc.bias"},
            r"\n  missing     fc\.bias$",
        ),
        (
            lambda state: (
                {"criterion.weight": EXTRA} | {n: t for n, t in state.items() if n != "model.fc.bias"}
            ),
            r"\n  unexpected  criterion\.weight",
        ),
    ],
    ids=["another entry behind the prefix", "missing entry", "missing entry and one without the prefix"],
)
def test_entries_are_ignored_only_if_the_others_are_exactly_a_network(
    change: Callable[[State], State], message: str, state: State, save: Save, tmp_path: Path
) -> None:
    path = save({"state_dict": change(prefixed("model.", state))})
    with pytest.raises(MappingError, match=message):
        converter.to_gluon(path, tmp_path / "back.params", model="tiny", options=NONE)
    assert not (tmp_path / "back.params").exists()


@pytest.fixture
def averaged(state: State, save: Save) -> Path:
    """Return a checkpoint of the weights and of their moving average, which is twice as large."""
    return save({"state_dict": state, "state_dict_ema": doubled(state), "epoch": 1})


TWO = r"last\.ckpt: contains more than one state dict\n  state_dict\n  state_dict_ema\n.* --key state_dict$"


def test_two_state_dicts_are_listed_and_one_is_selected(averaged: Path, state: State, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=TWO):
        converter.to_gluon(averaged, tmp_path / "back.params", options=NONE)
    result = converter.to_gluon(averaged, tmp_path / "back.params", key="state_dict_ema", options=NONE)
    assert result.location == Location(key="state_dict_ema")
    weights = state_dicts.read(averaged, "state_dict_ema").arrays["fc.weight"]
    assert torch.equal(torch.tensor(weights), 2 * state["fc.weight"])
    assert torch.equal(
        torch.tensor(state_dicts.read(averaged, "state_dict").arrays["fc.weight"]), state["fc.weight"]
    )


def test_two_keys_of_one_state_dict_are_ambiguous(state: State, save: Save) -> None:
    with pytest.raises(CheckpointError, match=TWO):
        state_dicts.read(save({"state_dict": state, "state_dict_ema": state}))


def test_two_prefixes_are_listed_and_one_is_selected(state: State, save: Save) -> None:
    path = save({"state_dict": prefixed("model.", state) | prefixed("ema.net.", doubled(state))})
    with pytest.raises(
        CheckpointError, match=r"one state dict\n  state_dict\.model\n  state_dict\.ema\.net\n  select"
    ):
        state_dicts.read(path)
    for key in ("state_dict.ema", "state_dict.ema.net"):
        checkpoint = state_dicts.read(path, key)
        assert checkpoint.location.prefix == "ema.net."
        assert torch.equal(torch.tensor(checkpoint.arrays["fc.bias"]), 2 * state["fc.bias"])


def test_state_dict_of_another_network_is_not_ambiguous(state: State, save: Save) -> None:
    path = save({"model": {"head.weight": EXTRA}, "model_ema": state})
    assert state_dicts.read(path).location == Location(key="model_ema")
    assert list(state_dicts.read(path, "model").arrays) == ["head.weight"]


def test_usual_keys_without_a_known_network_are_ambiguous(save: Save) -> None:
    with pytest.raises(CheckpointError, match=r"one state dict\n  model\n  model_ema\n"):
        state_dicts.read(save({"model": {"a": EXTRA}, "model_ema": {"a": EXTRA}}))


@pytest.mark.parametrize("key", ["ema", "state_dict.ema", "state_dict_", "epoch", "", "."])
def test_missing_key_is_refused_with_the_existing_ones(key: str, averaged: Path) -> None:
    with pytest.raises(
        NoStateDictError, match=r"has no state dict .*\n  state_dict\n  state_dict_ema\n  select one of these"
    ):
        state_dicts.read(averaged, key)


def test_key_for_a_file_without_keys_is_refused(
    state: State, save: Save, write: Callable[[dict[str, Array]], Path], tiny_params: dict[str, Array]
) -> None:
    with pytest.raises(
        NoStateDictError, match=r"has no state dict model\n  its tensors have no key: leave out"
    ):
        state_dicts.read(save(state), "model")
    with pytest.raises(NoStateDictError, match=r"has no state dict model: it is a \.params file; leave out"):
        state_dicts.read(write(tiny_params), "model")
    with pytest.raises(NoStateDictError, match=r"it is a \.params file"):
        converter.inspect(write(tiny_params), key="model")


def test_prefix_of_an_unknown_network_is_kept(save: Save) -> None:
    names = ["net.fc.weight", "net.a", "net.b"]
    assert list(state_dicts.read(save(dict.fromkeys(names, EXTRA))).arrays) == names


def test_numbers_as_names_are_refused(save: Save) -> None:
    with pytest.raises(CheckpointError, match="expected names of type str, found int"):
        state_dicts.read(save({1: EXTRA}))


def run(*arguments: object) -> Result:
    return CliRunner().invoke(app, list(map(str, arguments)))


def test_to_gluon_prints_what_was_read(state: State, save: Save, tmp_path: Path) -> None:
    path = save({"state_dict": {"criterion.weight": EXTRA} | prefixed("model.", state)})
    result = run("to-gluon", path, tmp_path / "back.params", "--reference", "none", "--json")
    assert json.loads(result.stdout)["state_dict"] == {
        "key": "state_dict",
        "prefix": "model.",
        "ignored": ["criterion.weight"],
    }
    read = "read    state dict state_dict; prefix model. removed from the names; ignored criterion.weight\n"
    assert read in result.stderr


def test_nothing_is_printed_about_a_plain_state_dict(state: State, save: Save, tmp_path: Path) -> None:
    assert "read " not in run("to-gluon", save(state), tmp_path / "a.params", "--reference", "none").stdout


def test_every_command_takes_the_key(
    averaged: Path, write: Callable[[dict[str, Array]], Path], tiny_params: dict[str, Array], tmp_path: Path
) -> None:
    params = write(tiny_params)
    parity = ["parity", "tiny", "--params", params, "--weights", averaged, "--reference", "numpy"]
    commands: list[list[Any]] = [
        ["inspect", averaged],
        ["to-gluon", averaged, tmp_path / "back.params", "--reference", "none"],
        [*parity, "--size", "33x47", "--proof-dtype", "float64"],
        ["diff", averaged, params],
    ]
    for command in commands:
        refused = run(*command)
        assert (refused.exit_code, "--key state_dict\n" in refused.stderr) == (1, True)
        done = run(*command, "--key", "state_dict")
        assert (done.exit_code, "state dict state_dict" in done.stdout) == (0, True)
    assert run(*commands[2], "--key", "state_dict_ema").exit_code == 1  # negative control: other weights


def test_parity_records_the_state_dict(
    averaged: Path, write: Callable[[dict[str, Array]], Path], tiny_params: dict[str, Array]
) -> None:
    comparison = converter.compare(
        "tiny", params=write(tiny_params), weights=averaged, key="state_dict", options=NUMPY
    )
    assert comparison.passed
    assert comparison.weights is not None
    assert comparison.weights.location == Location(key="state_dict")
    with pytest.raises(UsageError, match="`key` requires `weights`"):
        converter.compare("tiny", params=write(tiny_params), key="state_dict", options=NUMPY)


def test_inspection_records_the_state_dict(averaged: Path) -> None:
    with pytest.raises(CheckpointError, match=TWO):
        converter.inspect(averaged)
    assert converter.inspect(averaged, key="state_dict").location == Location(key="state_dict")
    document = json.loads(run("inspect", averaged, "--key", "state_dict", "--json").stdout)
    assert document["state_dict"] == {"key": "state_dict", "prefix": None, "ignored": []}


def test_diff_applies_the_key_to_each_file_that_has_it(averaged: Path, state: State, tmp_path: Path) -> None:
    safetensors.torch.save_file(state, tmp_path / "a.safetensors")
    for files in ([averaged, tmp_path / "a.safetensors"], [tmp_path / "a.safetensors", averaged]):
        assert converter.diff(*files, key="state_dict").identical
        assert not converter.diff(*files, key="state_dict_ema").identical
        with pytest.raises(NoStateDictError, match="has no state dict model"):
            converter.diff(tmp_path / "a.safetensors", tmp_path / "a.safetensors", key="model")


def test_diff_counts_ignored_entries_as_differences(state: State, save: Save, tmp_path: Path) -> None:
    safetensors.torch.save_file(state, tmp_path / "a.safetensors")
    path = save({"criterion.weight": EXTRA} | prefixed("model.", state))
    assert converter.diff(path, tmp_path / "a.safetensors").only_first == ("criterion.weight",)
    assert converter.diff(tmp_path / "a.safetensors", path).only_second == ("criterion.weight",)
    assert converter.diff(save(prefixed("model.", state)), tmp_path / "a.safetensors").identical


def test_location_of_many_ignored_entries_is_one_short_line() -> None:
    location = Location(ignored=tuple(f"m{number}x.a\n" for number in range(9)))
    assert str(location) == r"ignored m0x.a\n, m1x.a\n, m2x.a\n, and 6 more"
    assert not str(Location())
