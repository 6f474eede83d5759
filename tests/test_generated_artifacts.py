"""The commands for converted files work on modules that were generated from graphs, too."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import sys
from typing import TYPE_CHECKING, Any

import generated_modules
import graph_files
import msgspec
import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from converter import testing
from converter.cli import app
from converter.commands import diff, graph_comparison, inspection, publication, reverse_conversion
from converter.commands.graph_conversion import convert_graph
from converter.commands.verification import verify
from converter.errors import (
    ArtifactError,
    ClassifierError,
    ConversionError,
    MappingError,
    ParityError,
    PrecisionError,
    PublicationError,
    StorageError,
    SymbolError,
    UsageError,
)
from converter.formats.params import load_params
from converter.manifests import artifact_checks, schema
from converter.parity import generated_network, report
from converter.parity.options import ParityOptions
from converter.publishing import parity_report
from converter.vision import classifier

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from converter.formats.file_arrays import Arrays
    from converter.graphs.codegen import GeneratedModule

NUMPY = ParityOptions("numpy", sizes=[32], dtypes=["float64"])
UNPROVEN = ParityOptions("none")


@pytest.fixture(scope="session")
def originals(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with a graph, its parameters as MXNet's Module names them, and the converted files."""
    folder = tmp_path_factory.mktemp("generated")
    network = graph_files.small_network()
    arrays = graph_files.parameters(network)
    for name in arrays:
        if name.endswith("gamma"):  # MXNet's Module leaves ones in the gammas that it fixes
            arrays[name] = np.ones_like(arrays[name])
    named = {
        f"{'aux' if name.endswith(('moving_mean', 'moving_var')) else 'arg'}:{name}": array
        for name, array in arrays.items()
    }
    graph, params = graph_files.save(folder, network, named)
    convert_graph(graph, folder, params=params, options=NUMPY)
    return folder


@pytest.fixture
def folder(originals: Path, tmp_path: Path) -> Path:
    """Return a copy that a test may change."""
    return shutil.copytree(originals, tmp_path / "out")


@pytest.fixture
def weights(folder: Path) -> Path:
    (path,) = folder.glob("*.safetensors")
    return path


@pytest.fixture
def edit(weights: Path) -> Callable[..., None]:
    """Return a function that changes the manifest at a path of keys."""

    def change(*keys: str, value: object) -> None:
        path = weights.with_suffix(".json")
        document = json.loads(path.read_text())
        place: Any = document
        for key in keys[:-1]:
            place = place[key]
        place[keys[-1]] = value
        path.write_text(json.dumps(document))

    return change


def failures(path: Path) -> set[str]:
    return {check.what for check in verify(path).checks if check.holds is False}


def test_converted_module_is_verified(weights: Path) -> None:
    result = verify(weights)
    assert result.holds
    checked = {(check.place.rpartition(".")[2], check.what) for check in result.checks}
    assert checked >= {("py", "sha256"), ("safetensors", "sha256"), ("safetensors", "tensors")}


def test_changed_module_is_detected(weights: Path, folder: Path) -> None:
    module = folder / "face_net.py"
    module.write_text(module.read_text().replace("1e-05", "1e-03") + "\n")
    assert failures(weights) == {"sha256"}
    module.unlink()
    assert failures(weights) == {"file"}


CHANGES: dict[str, tuple[tuple[str, ...], object]] = {
    "a tensor of another name": (("names",), [{"source": "a", "target": "b"}]),
    "a tensor named twice": (("names",), [{"source": "a", "target": "b"}, {"source": "c", "target": "b"}]),
    "another number of parameters": (("artifact", "parameters"), 7),
    "no graph": (("source", "graph"), None),
    "no hash of the graph": (("source", "symbol_sha256"), None),
    "a mapping": (("mapping",), {"file": "resnext.toml", "sha256": "0" * 64}),
    "model arguments": (("model_args",), {"in_chans": 1}),
    "GluonCV's own file": (("source", "official"), True),
    "another kind": (("kind",), "native"),
    "another model": (("model",), "other"),
    "class names": (("labels",), ["cat"]),
    "an unknown kind": (("kind",), "trained"),
    "no module": (("module",), None),
    "a module elsewhere": (("module", "file"), "../face_net.py"),
    "a proof of no checks": (("parity", "checks"), []),
    "a proof of GluonCV's definition": (("parity", "definition"), "gluoncv"),
}


@pytest.mark.parametrize(("keys", "value"), CHANGES.values(), ids=CHANGES)
def test_manifest_that_is_not_of_these_files_is_refused(
    keys: tuple[str, ...], value: object, weights: Path, edit: Callable[..., None]
) -> None:
    artifact_checks.read(weights)
    edit(*keys, value=value)
    with pytest.raises(ArtifactError):
        artifact_checks.read(weights)


CHECKS: dict[str, dict[str, Any]] = {
    "beyond the limit": {"worst": {"layer": "bn0", "relative": 1e-11, "limit": 1e-4}},
    "outputs beyond the limit": {"relative": 1e-11, "max_abs": 1e-11},
    "another limit": {"limit": 1e-3},
    "no layer": {"layers": 0},
    "other inputs": {"inputs": {"image": [1, 1, 32, 32]}},
    "no inputs": {"inputs": {}},
    "an empty input": {"inputs": {"data": [0, 1, 32, 32]}},
    "a size": {"size": "32x32"},
    "a node beyond the limit": {"nodes": {"compared": 9, "node": "bn0", "relative": 1e-7, "limit": 1e-4}},
    "no node": {"nodes": {"compared": 0, "node": "", "relative": 0.0, "limit": 1e-12}},
}


@pytest.mark.parametrize("change", CHECKS.values(), ids=CHECKS)
def test_contradictory_proof_is_refused(
    change: dict[str, Any], weights: Path, edit: Callable[..., None]
) -> None:
    (check,) = json.loads(weights.with_suffix(".json").read_text())["parity"]["checks"]
    edit("parity", "checks", value=[check | change])
    with pytest.raises(ArtifactError):
        artifact_checks.read(weights)


def publish(weights: Path, folder: Path, **options: Any) -> Path:  # noqa: ANN401 - options of the command
    publication.publish(weights, folder, **options)
    return folder


def test_published_folder_contains_the_module(weights: Path, tmp_path: Path) -> None:
    published = publish(weights, tmp_path / "published")
    assert {path.name for path in published.iterdir()} == {
        *("README.md", "SHA256SUMS", "config.json", "face_net.py", "manifest.json", "model.safetensors")
    }
    assert json.loads((published / "config.json").read_text()) == {
        "module": "face_net.py",
        "inputs": {"data": [1, 1, 32, 32]},
        "outputs": ["softmax"],
    }
    result = verify(published)
    assert result.holds
    assert not [check for check in result.checks if check.actual == "not written by publish"]
    network = generated_modules.load_source((published / "face_net.py").read_text())["load"](
        str(published / "model.safetensors")
    )
    (output,) = generated_modules.outputs(network, np.zeros((1, 1, 32, 32), np.float32))
    assert output.shape == (1, 5)


def test_code_of_the_card_runs(weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    published = publish(weights, tmp_path / "published")
    code = (published / "README.md").read_text().partition("```python\n")[2].partition("```")[0]
    monkeypatch.chdir(published)
    monkeypatch.syspath_prepend(published)
    names: dict[str, Any] = {}
    exec(code, names)  # noqa: S102 - what is tested
    assert names["outputs"].shape == (1, 5)


def test_card_escapes_names_of_the_graph(weights: Path, tmp_path: Path, edit: Callable[..., None]) -> None:
    edit("source", "graph", "labels", value=["<script>|`x`"])
    card = (publish(weights, tmp_path / "published") / "README.md").read_text()
    assert "&#60;script&#62;&#124;&#96;x&#96;" in card
    assert "<script>" not in card


def test_changed_module_in_a_published_folder_is_detected(weights: Path, tmp_path: Path) -> None:
    published = publish(weights, tmp_path / "published")
    module, sums = published / "face_net.py", published / "SHA256SUMS"
    before = hashlib.sha256(module.read_bytes()).hexdigest()
    module.write_text("import os\n" + module.read_text())
    assert failures(published) == {"sum", "sha256"}
    sums.write_text(sums.read_text().replace(before, hashlib.sha256(module.read_bytes()).hexdigest()))
    assert failures(published) == {"sha256"}


def test_published_folder_can_be_replaced(weights: Path, tmp_path: Path) -> None:
    published = publish(weights, tmp_path / "published")
    publish(weights, published, force=True)
    (published / "notes.py").write_text("")
    with pytest.raises(PublicationError, match=r"files that publish did not write: notes\.py"):
        publish(weights, published, force=True)


def test_unproven_module_is_published_only_if_allowed(folder: Path, tmp_path: Path) -> None:
    graph, params = folder / "face net-symbol.json", folder / "face net-0000.params"
    unproven = convert_graph(graph, tmp_path / "unproven", params=params, options=UNPROVEN).artifact
    with pytest.raises(PublicationError, match="unproven according to its manifest"):
        publish(unproven, tmp_path / "published")
    card = publish(unproven, tmp_path / "published", allow_unproven=True) / "README.md"
    assert "**UNPROVEN.**" in card.read_text()


def reverse(weights: Path, out: Path, **options: Any) -> reverse_conversion.ToGluonResult:  # noqa: ANN401
    return reverse_conversion.to_gluon(weights, out, **{"options": NUMPY, **options})


def test_params_are_restored_byte_for_byte(weights: Path, folder: Path, tmp_path: Path) -> None:
    result = reverse(weights, tmp_path / "back.params")
    assert result.is_original
    assert result.parity.proven
    assert (tmp_path / "back.params").read_bytes() == (folder / "face net-0000.params").read_bytes()


def test_trained_weights_are_converted_and_proven(weights: Path, folder: Path, tmp_path: Path) -> None:
    state = load_file(weights)
    state["fc1.bias"] += 1
    counters = {
        name.replace("running_mean", "num_batches_tracked"): torch.tensor(3)
        for name in state
        if name.endswith("running_mean")
    }
    torch.save({"model": state | counters, "epoch": 3}, folder / "trained.pth")
    result = reverse(folder / "trained.pth", tmp_path / "back.params")
    assert (result.parity.proven, result.is_original) == (True, False)
    before, after = load_params(folder / "face net-0000.params"), load_params(tmp_path / "back.params")
    assert list(after) == list(before)
    assert [name for name in before if (before[name] != after[name]).any()] == ["arg:fc1_bias"]


def test_graph_of_the_proof_must_be_the_converted_one(weights: Path, folder: Path, tmp_path: Path) -> None:
    graph = folder / "face net-symbol.json"
    other = tmp_path / "other-symbol.json"
    other.write_text(graph.read_text().replace('"(1, 1)"', '"(1,1)"'))
    with pytest.raises(SymbolError, match="another graph: expected SHA-256"):
        reverse(weights, tmp_path / "back.params", symbol=other)
    graph.unlink()
    with pytest.raises(SymbolError, match=r"face net-symbol\.json: missing; the proof runs the graph"):
        reverse(weights, tmp_path / "back.params")
    assert not (tmp_path / "back.params").exists()
    assert not reverse(weights, tmp_path / "back.params", options=UNPROVEN).parity.proven


def test_exchanged_names_in_the_manifest_are_refused(
    weights: Path, tmp_path: Path, edit: Callable[..., None]
) -> None:
    names = json.loads(weights.with_suffix(".json").read_text())["names"]
    one, other = (
        next(each for each in names if each["target"] == f"stage1.unit{unit}.conv1.weight") for unit in (1, 2)
    )
    one["target"], other["target"] = other["target"], one["target"]
    edit("names", value=names)
    with pytest.raises(ArtifactError, match="its manifest has other names than this version gives the graph"):
        reverse(weights, tmp_path / "back.params")


def test_way_back_refuses_to_round(weights: Path, tmp_path: Path) -> None:
    with pytest.raises(PrecisionError, match="do not fit float16 without rounding"):
        reverse(weights, tmp_path / "back.params", dtype="float16")


SIZE: dict[str, Any] = {"reference": "numpy", "sizes": [32], "dtypes": ["float64"]}


def test_conversion_agrees_with_its_graph(folder: Path) -> None:
    document = testing.assert_parity(folder / "face net-symbol.json", **SIZE)
    assert (document["model"], document["agrees"], document["beside"]) == ("face_net", True, "the conversion")
    assert document["reference"]["definition"] == "graph"
    (check,) = document["checks"]
    assert {row["source"] for row in check["layers"]} >= {"conv0", "stage1_unit2_bn2", "softmax"}
    assert all(row["relative"] <= row["limit"] == 1e-12 for row in check["layers"])


def test_weights_agree_with_their_graph(weights: Path, folder: Path) -> None:
    document = testing.assert_parity(folder / "face net", weights=weights, **SIZE)
    assert document["weights"]["file"] == weights.name
    assert document["tensors"] == {"compared": len(load_file(weights)), "apart": []}


def test_changed_weights_differ_from_the_graph(weights: Path, folder: Path) -> None:
    state = load_file(weights)
    state["stage1.unit2.conv1.weight"] *= 1.001
    torch.save(state, folder / "trained.pth")
    with pytest.raises(AssertionError) as error:
        testing.assert_parity(folder / "face net", weights=folder / "trained.pth", **SIZE)
    text = str(error.value)
    assert "1 tensor differs" in text
    assert "first mismatch in float64: stage1_unit2_conv1 (Convolution) → stage1.unit2.conv1" in text
    assert "the weights differ: stage1.unit2.conv1.weight" in text


def test_module_is_compared_with_the_graph(weights: Path, folder: Path) -> None:
    network = generated_modules.load_source((folder / "face_net.py").read_text())["load"](str(weights))
    assert testing.assert_parity(folder / "face net", module=network.train(), **SIZE)["agrees"]
    network.get_submodule("stage1.unit1.bn2").eps = 1e-2
    with pytest.raises(AssertionError, match=r"first mismatch in float64: stage1_unit1_bn2 \(BatchNorm\)"):
        testing.assert_parity(folder / "face net", module=network, **SIZE)
    del network.fc1
    with pytest.raises(MappingError, match=r"the module has no fc1\.weight"):
        testing.assert_parity(folder / "face net", module=network, **SIZE)


def test_options_of_models_do_not_apply_to_graphs(folder: Path) -> None:
    with pytest.raises(UsageError, match="`symbol` requires a model"):
        testing.assert_parity(folder / "face net", symbol=folder / "face net-symbol.json", **SIZE)
    with pytest.raises(UsageError, match="`output` requires a graph"):
        testing.assert_parity("gluon_resnet18_v1b", folder / "x.params", output="fc1", **SIZE)


def test_report_of_a_graph_is_published_with_it(weights: Path, folder: Path, tmp_path: Path) -> None:
    page = tmp_path / "parity.html"
    testing.assert_parity(folder / "face net", weights=weights, report_file=page, **SIZE)
    assert "face net-symbol.json" in page.read_text()
    published = publish(weights, tmp_path / "published", report=page)
    assert (published / "parity.html").read_bytes() == page.read_bytes()
    assert verify(published).holds
    page.write_text(re.sub(r"\"relative\":[^,]+", '"relative":0.5', page.read_text(), count=1))
    with pytest.raises(PublicationError, match="not a report of"):
        publish(weights, tmp_path / "other", report=page)


@pytest.mark.parametrize(
    ("relative", "decisive", "single", "undecided", "agrees"),
    [
        (1e-13, True, (), 0, True),
        (1e-8, True, (), 0, False),
        (1e-8, True, ("x",), 0, True),  # MXNet computes in float32
        (1e-5, True, ("x",), 0, False),
        (0.5, False, (), 1, True),  # after a sort
        (0.5, False, (), 0, False),  # the manifest has no such output
    ],
)
def test_rows_of_a_report_are_held_to_the_limits_of_the_graph(
    weights: Path,
    folder: Path,
    tmp_path: Path,
    relative: float,
    decisive: bool,
    single: tuple[str, ...],
    undecided: int,
    agrees: bool,
) -> None:
    page = tmp_path / "parity.html"
    testing.assert_parity(folder / "face net", weights=weights, report_file=page, **SIZE)
    check = next(each for each in report.parse(page.read_bytes(), page).checks if each.dtype == "float64")
    first = msgspec.structs.replace(check.layers[0], relative=relative, decisive=decisive)
    changed = msgspec.structs.replace(check, layers=(first, *check.layers[1:]))
    manifest, _ = schema.read(weights.with_suffix(".json"))
    record = manifest.parity.checks[0]
    assert record.nodes is not None
    nodes = msgspec.structs.replace(record.nodes, single=single, undecided=undecided)
    parity = msgspec.structs.replace(manifest.parity, checks=(msgspec.structs.replace(record, nodes=nodes),))
    assert (
        parity_report._agrees_with_graph(changed, msgspec.structs.replace(manifest, parity=parity)) is agrees
    )


def run(*arguments: object, monkeypatch: pytest.MonkeyPatch) -> int:
    monkeypatch.setattr(sys, "argv", ["gluon2torch", *map(str, arguments)])
    with pytest.raises(SystemExit) as exit_info:
        app.app()
    return int(exit_info.value.code or 0)


def test_command_compares_a_graph(
    weights: Path, folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ("--reference", "numpy", "--size", "32", "--proof-dtype", "float64")
    arguments = ("parity", folder / "face net-symbol.json", "--weights", weights)
    assert run(*arguments, *options, "--json", monkeypatch=monkeypatch) == 0
    assert json.loads(capsys.readouterr().out)["agrees"]
    assert run(*arguments, *options, "--output", "fc1", monkeypatch=monkeypatch) == 0
    assert "agrees" in capsys.readouterr().out
    assert run(*arguments, *options, "--backbone", monkeypatch=monkeypatch) == 2


def test_diff_relates_the_names_by_the_manifest(weights: Path, folder: Path) -> None:
    params = folder / "face net-0000.params"
    for pair in ((weights, params), (params, weights)):
        result = diff.diff(*pair)
        assert (result.identical, result.compared) == (True, len(load_file(weights)))
        assert result.mapping == f"{weights.stem}.json"
        assert result.network == str(folder / "face net-symbol.json")
    state = load_file(weights)
    state["fc1.bias"] += 1
    torch.save(state, folder / "trained.pth")
    result = diff.diff(folder / "trained.pth", params)
    assert [tensor.name for tensor in result.different] == ["arg:fc1_bias"]


def test_diff_names_no_graph_that_was_not_converted(weights: Path, folder: Path) -> None:
    graph = folder / "face net-symbol.json"
    graph.write_text(graph.read_text() + "\n")
    assert diff.diff(weights, folder / "face net-0000.params").network is None
    graph.unlink()
    assert diff.diff(weights, folder / "face net-0000.params").network is None


def test_inspection_says_how_the_module_is_loaded(weights: Path, folder: Path) -> None:
    found = inspection.inspect(weights)
    assert found.verdict.startswith(
        "weights of face_net.py, generated from face net-symbol.json: import face_net"
    )
    assert (found.is_converted, found.nearest) == (True, None)
    assert found.step == f"gluon2torch verify {weights}"  # predict does not know what the graph is for
    torch.save({"state_dict": load_file(weights)}, folder / "trained.pth")
    trained = inspection.inspect(folder / "trained.pth")
    assert trained.module == "face_net.py, generated from face net-symbol.json"
    assert (trained.is_converted, trained.location.key) == (False, "state_dict")
    assert not trained.step


def test_predict_refuses_a_module_whose_preprocessing_is_unknown(weights: Path) -> None:
    with pytest.raises(
        ClassifierError, match=r"does not say how images are preprocessed\n  found +weights of face"
    ):
        classifier.load(classifier.ClassifierOptions(weights=weights))


def test_weights_of_another_network_are_not_taken_for_the_module(
    weights: Path, folder: Path, tmp_path: Path
) -> None:
    state = load_file(weights)
    del state["fc1.bias"]
    save_file(state, folder / "other.safetensors")
    with pytest.raises(ConversionError):
        reverse(folder / "other.safetensors", tmp_path / "back.params")


def test_weights_of_16_bits_keep_their_type(tmp_path: Path) -> None:
    network = graph_files.small_network()
    arrays = graph_files.parameters(network)
    halves = {name: array.astype(np.float16) for name, array in arrays.items()}
    halves |= {name: np.ones_like(array) for name, array in halves.items() if name.endswith("gamma")}
    graph, params = graph_files.save(tmp_path, network, halves)
    result = convert_graph(graph, tmp_path, params=params, options=NUMPY)
    assert result.manifest.artifact.dtypes == ("float16",)
    assert result.module
    loaded = generated_modules.load_source(result.module.read_text())["load"](str(result.artifact))
    assert {tensor.dtype for tensor in loaded.parameters()} == {torch.float32}
    np.testing.assert_array_equal(loaded.state_dict()["fc1.weight"].numpy(), halves["fc1_weight"])
    assert reverse(result.artifact, tmp_path / "back.params").is_original


def test_weights_that_change_during_a_comparison_are_refused(weights: Path, tmp_path: Path) -> None:
    """They are read at the beginning; the document would have the hash of what they became."""
    (graph,), (params,) = weights.parent.glob("*-symbol.json"), weights.parent.glob("*.params")
    pth = tmp_path / "weights.pth"
    torch.save(load_file(weights), pth)

    def overwrite(_step: str, _done: int, _total: int) -> None:
        torch.save({name: tensor * 0 for name, tensor in load_file(weights).items()}, pth)

    with pytest.raises(StorageError, match="the file was changed while it was read"):
        graph_comparison.compare_graph(graph, params=params, weights=pth, options=NUMPY, progress=overwrite)


def test_changed_parameters_fail_the_proof_of_the_way_back(
    weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stream = generated_network.stream

    def changed(module: GeneratedModule, state: Arrays, dtype: str) -> torch.nn.Module:
        return stream(module, {**state, "fc1.bias": np.asarray(state["fc1.bias"]) + 1}, dtype)

    monkeypatch.setattr(generated_network, "stream", changed)
    with pytest.raises(ParityError, match="differs from the graph"):
        reverse(weights, tmp_path / "back.params")
    assert not (tmp_path / "back.params").exists()
