"""``convert auto``: parameters of no model are converted from their graph; those of a model never are."""

from __future__ import annotations

import json
import shutil
from typing import TYPE_CHECKING

import numpy as np
import pytest
from generated_modules import random_parameters
from graph_building import Network
from symbols import changed, symbol
from test_archives import zipped
from typer.testing import CliRunner

from converter.cli.app import convert_app
from converter.commands import automatic_conversion
from converter.commands.graph_conversion import GraphConversionResult
from converter.errors import ConversionError, MappingError, SymbolError, UsageError
from converter.formats.params import write_params
from converter.networks import catalog
from converter.parity.options import ParityOptions

if TYPE_CHECKING:
    from pathlib import Path

    from typer.testing import Result

    from converter.dtypes import Array
    from converter.networks.catalog import Model

UNPROVEN = ParityOptions("none")
NOT_A_MODEL = "model   unknown: converted from its graph"


@pytest.fixture(autouse=True)
def tiny_catalog(tiny: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    """Reduce the catalog to the tiny model."""
    monkeypatch.setattr(catalog, "models", lambda: {tiny.name: tiny})


@pytest.fixture
def net() -> Network:
    network = Network()
    x = network.norm("bn0", network.conv("conv0", "data", 3, 4), 4)
    network.dense("fc1", network.apply("Pooling", "pool", x, global_pool="True", pool_type="avg"), 4, 2)
    return network


@pytest.fixture
def folder(net: Network, tmp_path: Path) -> Path:
    """Return a folder with the graph and the parameters of a network that is no model."""
    place = tmp_path / "export"
    place.mkdir()
    (place / "net-symbol.json").write_bytes(net.build("fc1").content)
    arrays = {name: array.astype(np.float32) for name, array in random_parameters(net.shapes).items()}
    write(place / "net-0000.params", arrays)
    return place


def write(path: Path, arrays: dict[str, Array]) -> Path:
    with path.open("wb") as stream:
        write_params(stream, arrays)
    return path


def convert(*arguments: object) -> Result:
    options = ["--reference", "numpy", "--size", "32", "--proof-dtype", "float64"]
    return CliRunner().invoke(convert_app, [*map(str, arguments), *options])


@pytest.mark.parametrize("place", ["net-0000.params", ".", "packed.mar", "epochs"])
def test_parameters_of_no_model_are_converted_from_their_graph(
    place: str, folder: Path, tmp_path: Path
) -> None:
    files = {path.name: path.read_bytes() for path in folder.iterdir()}
    if place == "packed.mar":
        (folder / place).write_bytes(zipped(*files.items()))
    options: list[object] = []
    if place == "epochs":
        shutil.copytree(folder, folder / place)
        (folder / place / "net-0003.params").write_bytes(files["net-0000.params"])
        options = ["--epoch", "3"]
    result = convert("auto", tmp_path / "out", "--params", folder / place, *options)
    assert (result.exit_code, result.stderr) == (0, "")
    first, second, *_ = result.stdout.splitlines()
    assert (first, second) == (NOT_A_MODEL, "graph   net-symbol.json: data → fc1")
    (manifest,) = (tmp_path / "out").glob("*.json")
    document = json.loads(manifest.read_text())
    assert (document["kind"], document["parity"]["proven"]) == ("generated", True)
    assert document["source"]["file"] == {".": "net-0000.params", "epochs": "net-0003.params"}.get(
        place, place
    )


def test_json_is_exactly_the_manifest(folder: Path, tmp_path: Path) -> None:
    result = convert("auto", tmp_path / "out", "--params", folder / "net-0000.params", "--json")
    (manifest,) = (tmp_path / "out").glob("*.json")
    assert result.stdout == manifest.read_text()
    assert result.stderr.startswith(NOT_A_MODEL)


def test_selected_graph_is_converted(folder: Path, tmp_path: Path) -> None:
    graph = (folder / "net-symbol.json").rename(tmp_path / "other.json")
    params = folder / "net-0000.params"
    result = automatic_conversion.convert(
        "auto", tmp_path / "out", params=params, symbol=graph, options=UNPROVEN
    )
    assert isinstance(result, GraphConversionResult)
    assert result.module
    assert result.module.name == "other.py"


def test_parameters_of_a_model_convert_as_the_model(
    tiny: Model, tiny_params: dict[str, Array], tmp_path: Path
) -> None:
    params = write(tmp_path / "net-0000.params", tiny_params)
    (tmp_path / "net-symbol.json").write_text(json.dumps(symbol(tiny)))
    result = convert("auto", tmp_path / "out", "--params", params)
    assert result.stdout.startswith("model   tiny")
    assert not list((tmp_path / "out").glob("*.py"))


@pytest.mark.parametrize("selected", [False, True])
def test_graph_that_contradicts_a_model_is_refused_with_the_command_that_converts_it(
    selected: bool, tiny: Model, tiny_params: dict[str, Array], tmp_path: Path
) -> None:
    params, graph = write(tmp_path / "net-0000.params", tiny_params), tmp_path / "net-symbol.json"
    graph.write_text(json.dumps(changed(symbol(tiny), "features.1", eps="0.001")))
    options = ["--symbol", graph] if selected else []
    result = convert("auto", tmp_path / "out", "--params", params, *options)
    assert result.exit_code == 1
    assert "features.1: eps 0.001 in the graph, 1e-05 in the model" in result.stderr
    last = result.stderr.splitlines()[-1]
    assert f"convert {graph} OUT --params {params}, which converts the graph as it is" in last
    assert not (tmp_path / "out").exists()
    assert convert(graph, tmp_path / "out", "--params", params).exit_code == 0


def test_packed_graph_that_contradicts_a_model_names_the_archive(
    tiny: Model, tiny_params: dict[str, Array], tmp_path: Path
) -> None:
    content = write(tmp_path / "net-0000.params", tiny_params).read_bytes()
    graph = json.dumps(changed(symbol(tiny), "features.1", eps="0.001")).encode()
    packed = tmp_path / "model.mar"
    packed.write_bytes(zipped(("net-0000.params", content), ("net-symbol.json", graph)))
    with pytest.raises(
        SymbolError, match=r"try +convert .*model\.mar OUT, which converts the graph as it is"
    ):
        automatic_conversion.convert("auto", tmp_path / "out", params=packed, options=UNPROVEN)


def test_named_model_is_never_converted_from_a_graph(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(ConversionError):
        automatic_conversion.convert(
            "tiny", tmp_path / "out", params=folder / "net-0000.params", options=UNPROVEN
        )
    assert not (tmp_path / "out").exists()


def test_without_a_graph_the_message_says_that_one_is_needed(folder: Path, tmp_path: Path) -> None:
    (folder / "net-symbol.json").unlink()
    result = convert("auto", tmp_path / "out", "--params", folder / "net-0000.params")
    assert result.exit_code == 1
    assert "no supported network" in result.stderr or "not a supported network" in result.stderr
    assert result.stderr.splitlines()[-1] == (
        "  try         its graph, if there is a -symbol.json: convert GRAPH OUT --params FILE"
    )


def test_graph_of_other_parameters_is_not_taken(folder: Path, tmp_path: Path) -> None:
    (folder / "net-symbol.json").rename(folder / "other-symbol.json")
    write(folder / "net-0000.params", {"mlp0_weight": np.ones((3, 3), np.float32)})
    with pytest.raises(ConversionError, match="no supported network"):
        automatic_conversion.convert(
            "auto", tmp_path / "out", params=folder / "net-0000.params", options=UNPROVEN
        )


def test_two_graphs_of_the_same_parameters_are_refused(folder: Path, net: Network, tmp_path: Path) -> None:
    (folder / "net-symbol.json").rename(folder / "a-symbol.json")
    net.apply("Activation", "relu", "fc1", act_type="relu")
    (folder / "b-symbol.json").write_bytes(net.build("relu").content)
    with pytest.raises(SymbolError, match="more than one graph matches, and they differ"):
        automatic_conversion.convert(
            "auto", tmp_path / "out", params=folder / "net-0000.params", options=UNPROVEN
        )


@pytest.mark.parametrize("option", [{"output_stride": 8}, {"dtype": "float16"}])
def test_options_of_models_are_refused(option: dict[str, object], folder: Path, tmp_path: Path) -> None:
    params = folder / "net-0000.params"
    (name,) = option
    with pytest.raises(UsageError, match=f"`{name}` cannot be used: .* becomes a generated module"):
        automatic_conversion.convert("auto", tmp_path / "out", params=params, options=UNPROVEN, **option)  # type: ignore[arg-type]
    assert not (tmp_path / "out").exists()


def test_refused_labels_name_the_command_that_takes_them(folder: Path, tmp_path: Path) -> None:
    params = folder / "net-0000.params"
    with pytest.raises(UsageError, match="try  gluon2torch predict --labels"):
        automatic_conversion.convert("auto", tmp_path, params=params, labels=params, options=UNPROVEN)
    with pytest.raises(UsageError) as caught:
        automatic_conversion.convert("auto", tmp_path, params=params, dtype="float16", options=UNPROVEN)
    assert "predict" not in str(caught.value)


def test_backbone_is_never_converted_from_a_graph(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(ConversionError, match="network"):
        automatic_conversion.convert(
            "auto", tmp_path / "out", params=folder / "net-0000.params", backbone=True, options=UNPROVEN
        )


def test_model_with_another_head_is_refused_with_the_command_for_its_graph(
    tiny: Model, tiny_params: dict[str, Array], tmp_path: Path
) -> None:
    model = tiny.with_config(num_classes=3)
    graph = tmp_path / "net-symbol.json"
    graph.write_text(json.dumps(symbol(model)))
    tiny_params["output.weight"] = np.ones((3, 7), np.float32)
    params = write(tmp_path / "net-0000.params", tiny_params)
    with pytest.raises(MappingError, match="with a head that does not fit its backbone") as refused:
        automatic_conversion.convert("auto", tmp_path / "out", params=params, options=UNPROVEN)
    assert str(refused.value).split("\n")[-1] == (
        "  try         --backbone, which converts the network without a head; "
        f"or convert {graph} OUT --params {params}, which converts the graph as it is"
    )
    graph.unlink()
    with pytest.raises(MappingError, match=r"without a head$"):
        automatic_conversion.convert("auto", tmp_path / "out", params=params, options=UNPROVEN)


def test_epoch_requires_a_graph_or_a_folder(folder: Path, tmp_path: Path) -> None:
    params = folder / "net-0000.params"
    for arguments in (("auto", tmp_path, "--params", params), ("tiny", tmp_path, "--random", "0")):
        result = convert(*arguments, "--epoch", "0")
        assert (result.exit_code, "--epoch" in result.stderr) == (2, True)
