"""`inspect` of the graph of any network: what converts, what does not, and with which command."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import numpy as np
import pytest
from generated_modules import random_parameters
from graph_building import Network, variable
from symbols import inserted
from test_archives import zipped
from typer.testing import CliRunner

from converter.cli.app import app
from converter.commands import graph_summary, inspection
from converter.formats.params import write_params
from converter.graphs import parameter_shapes, reader
from converter.networks import catalog

if TYPE_CHECKING:
    from pathlib import Path

    from converter.graphs.graph import Graph
    from converter.networks.catalog import Model


@pytest.fixture(autouse=True)
def tiny_catalog(tiny: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    """Reduce the catalog to the tiny model."""
    monkeypatch.setattr(catalog, "models", lambda: {tiny.name: tiny})


@pytest.fixture
def net() -> Network:
    """Return a network with a label, and an output for training."""
    network = Network()
    x = network.norm("bn0", network.conv("conv0", "data", 3, 4), 4)
    x = network.dense("fc1", network.apply("Pooling", "pool", x, global_pool="True", pool_type="avg"), 4, 2)
    network.nodes.append(variable("softmax_label"))
    network.apply("SoftmaxOutput", "softmax", x, "softmax_label")
    network.apply("MakeLoss", "loss", network.apply("elemwise_mul", "product", x, "softmax_label"))
    return network


@pytest.fixture
def graph(net: Network) -> Graph:
    return net.build("softmax", "loss")


@pytest.fixture
def folder(net: Network, graph: Graph, tmp_path: Path) -> Path:
    place = tmp_path / "export"
    place.mkdir()
    (place / "net-symbol.json").write_bytes(graph.content)
    with (place / "net-0000.params").open("wb") as stream:
        arrays = random_parameters(net.shapes)
        write_params(stream, {name: array.astype(np.float32) for name, array in arrays.items()})
    return place


def printed(path: Path, *options: str) -> list[str]:
    result = CliRunner().invoke(app, ["inspect", str(path), *options])
    assert (result.exit_code, result.stderr) == (0, "")
    return result.stdout.splitlines()


def test_summary_describes_what_is_converted(graph: Graph) -> None:
    summary = graph_summary.summarize(graph)
    assert (summary.inputs, summary.outputs) == (("data",), ("softmax",))
    assert (summary.labels, summary.dropped) == (("softmax_label",), ("loss",))
    assert dict(summary.operators)["MakeLoss"] == 1
    assert (summary.parameters, summary.is_convertible) == (7, True)
    assert summary.shapes["conv0_weight"] == (4, None, 3, 3)
    assert summary.shapes["fc1_bias"] == (2,)
    assert summary.shapes["bn0_gamma"] == (4,)


def test_sizes_after_other_operators_are_unknown(net: Network) -> None:
    net.norm("bn1", net.apply("slice_axis", "part", "conv0", axis="1", begin="0", end="2"), 2)
    net.apply("LeakyReLU", "slope", "bn1", "slope_gamma", act_type="prelu")
    net.nodes.insert(0, variable("slope_gamma"))
    shapes = graph_summary.summarize(net.build("slope")).shapes
    assert (shapes["bn1_gamma"], shapes["slope_gamma"]) == ((None,), None)


def test_graph_without_labels_leaves_out_nothing(net: Network) -> None:
    summary = graph_summary.summarize(net.build("fc1"))
    assert (summary.labels, summary.dropped, summary.casts, summary.obstacle) == ((), (), 0, "")


def test_casts_are_counted(graph: Graph) -> None:
    content = inserted(json.loads(graph.content), "conv0_weight", "amp_cast", {"dtype": "float16"})
    cast = reader.parse(json.dumps(content).encode(), file="net", name="net")
    summary = graph_summary.summarize(cast)
    assert (summary.casts, summary.parameters) == (1, 7)
    assert summary.shapes["conv0_weight"] == (4, None, 3, 3)


@pytest.mark.parametrize("place", ["net-symbol.json", "net"])
def test_graph_and_its_prefix_are_described(place: str, folder: Path) -> None:
    verdict, *lines = printed(folder / place, "--names")
    graph, params = folder / "net-symbol.json", folder / "net-0000.params"
    assert verdict == f"graph of no named network: gluon2torch convert {graph} OUT --params {params}"
    assert "inputs     data" in lines
    assert "outputs    softmax" in lines
    assert "left out   labels: softmax_label; outputs for training: loss" in lines
    assert lines[-8:-1] == [
        "  conv0_weight (4, …, 3, 3)",
        "  bn0_gamma (4,)",
        "  bn0_beta (4,)",
        "  bn0_moving_mean (4,)",
        "  bn0_moving_var (4,)",
        "  fc1_weight (2, …)",
        "  fc1_bias (2,)",
    ]


def test_document_lists_parameters_and_unsupported_operators(folder: Path, net: Network) -> None:
    net.apply("Custom", "mine", "fc1", op_type="x")
    net.apply("Custom", "other", "mine", op_type="x")
    (folder / "net-symbol.json").write_bytes(net.build("other").content)
    verdict, *lines = printed(folder / "net-symbol.json")
    assert verdict.startswith("graph of no named network, with operators that cannot be converted (Custom): ")
    assert verdict.endswith("--output NODE converts the part before them")
    (refused,) = (line for line in lines if line.startswith("refused"))
    assert refused.startswith("refused    Custom: runs Python code")
    assert refused.endswith("(nodes: 2, first mine)")
    summary = json.loads("\n".join(printed(folder / "net-symbol.json", "--json")))["summary"]
    (unsupported,) = summary["unsupported"]
    assert (unsupported["operator"], unsupported["nodes"]) == ("Custom", ["mine", "other"])
    assert summary["shapes"]["conv0_weight"] == [4, None, 3, 3]


def test_graph_for_training_has_nothing_to_convert(net: Network, tmp_path: Path) -> None:
    path = tmp_path / "net-symbol.json"
    net.apply("elemwise_mul", "likelihood", "softmax", "softmax_label")
    path.write_bytes(net.build("likelihood").content)
    verdict, *lines = printed(path)
    assert verdict == (
        "graph of no named network, for training only: "
        "gluon2torch convert with --output NODE converts the part before its loss"
    )
    assert any(line.startswith("training   every output depends on a label or a loss") for line in lines)


def test_parameters_next_to_their_graph_convert(folder: Path) -> None:
    graph, params = folder / "net-symbol.json", folder / "net-0000.params"
    verdict, *lines = printed(params)
    assert verdict == (
        f"parameters of no named network, with their graph: gluon2torch convert {graph} OUT --params {params}"
    )
    assert "operators  1 Convolution" in next(line for line in lines if line.startswith("operators"))
    graph.unlink()
    assert "no named network" not in printed(params)[0]


def test_archive_of_a_graph_and_parameters_converts(folder: Path, tmp_path: Path) -> None:
    packed = tmp_path / "model.mar"
    packed.write_bytes(zipped(*((path.name, path.read_bytes()) for path in folder.iterdir())))
    verdict, *lines = printed(packed, "--names")
    assert verdict == f"parameters of no named network, with their graph: gluon2torch convert {packed} OUT"
    assert "outputs    softmax" in lines
    assert "  fc1_bias (2,)" in lines


def test_folder_shows_its_only_graph(folder: Path) -> None:
    verdict, *lines = printed(folder)
    params = folder / "net-0000.params"
    assert verdict == (
        f"folder with 1 parameter file, 1 graph: gluon2torch convert auto OUT --params {params}"
    )
    assert "outputs    softmax" in lines
    (folder / "net-0012.params").write_bytes(params.read_bytes())
    assert printed(folder)[0].endswith(f"gluon2torch convert auto OUT --params {folder} --epoch 12")
    (folder / "other-symbol.json").write_bytes((folder / "net-symbol.json").read_bytes())
    assert inspection.inspect(folder).summary is None


def test_names_require_a_graph(folder: Path) -> None:
    (folder / "net-symbol.json").unlink()
    result = CliRunner().invoke(app, ["inspect", str(folder / "net-0000.params"), "--names"])
    assert (result.exit_code, "--names" in result.stderr) == (2, True)


@pytest.mark.parametrize(
    ("declared", "expected"),
    [
        ("(4, 3, 3, 3)", (4, 3, 3, 3)),
        ("[4L, 3L, 3L, 3L]", (4, 3, 3, 3)),
        ("(0, -1, 3, 3)", (4, None, 3, 3)),
        ("(4, 3)", (4, None, 3, 3)),
        ("evil", (4, None, 3, 3)),
    ],
)
def test_declared_sizes_complete_those_of_the_operator(
    declared: str, expected: tuple[int | None, ...], graph: Graph
) -> None:
    content = json.loads(graph.content)
    node = next(node for node in content["nodes"] if node["name"] == "conv0_weight")
    node["attrs"] = {"__shape__": declared}
    parsed = reader.parse(json.dumps(content).encode(), file="net", name="net")
    assert parameter_shapes.find(parsed, ["conv0_weight"]) == {"conv0_weight": expected}
