"""A manifest records what the proof of a graph was given, and the later commands use it."""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING

import graph_files
import pytest
from graph_building import Network, variable

import converter
from converter.commands import automatic_conversion, reverse_conversion
from converter.commands.graph_comparison import compare_graph
from converter.commands.graph_conversion import convert_graph
from converter.commands.verification import verify
from converter.errors import ArtifactError, UsageError
from converter.formats.params import write_params
from converter.manifests import artifact_checks, schema
from converter.parity.options import ParityOptions

if TYPE_CHECKING:
    from pathlib import Path

NUMPY = ParityOptions("numpy", dtypes=["float64"])


def words() -> Network:
    """Return a network of a table of words, whose number is not in the graph, cut into two."""
    network = Network()
    network.nodes += [variable("words"), variable("table")]
    network.shapes["table"] = (7, 4)
    x = network.apply("Embedding", "embedded", "words", "table", input_dim="7", output_dim="4")
    network.apply("SliceChannel", "split", x, num_outputs="2", axis="2")
    return network


@pytest.fixture
def graph(tmp_path: Path) -> Path:
    """Return a graph that ends in a node with several outputs, and that has a parameter behind it."""
    network = words()
    network.dense("fc1", network.apply("elemwise_add", "sum", "split:0", "split:1"), 8, 3)
    path = tmp_path / "words-symbol.json"
    path.write_bytes(network.build("fc1").content)
    with (tmp_path / "words-0000.params").open("wb") as stream:
        write_params(stream, graph_files.parameters(network))
    return path


def convert(graph: Path, output: str | None = "split") -> Path:
    result = convert_graph(
        graph, graph.parent / "out", output=output, input_shapes={"words": (1, 4)}, options=NUMPY
    )
    return result.artifact


@pytest.mark.parametrize("output", ["split", "split_output", "fc1", None])
def test_way_back_uses_the_recorded_output_and_shapes(graph: Path, output: str | None) -> None:
    weights = convert(graph, output)
    manifest, _ = schema.read(weights.with_suffix(".json"))
    assert manifest.source.graph
    assert manifest.source.graph.output == (output and output.removesuffix("_output"))
    assert manifest.input_shapes == {"words": (1, 4)}
    back = graph.parent / "back.params"
    result = reverse_conversion.to_gluon(weights, back, symbol=graph, options=NUMPY)
    assert result.parity.proven
    assert result.parity.checks[0].inputs == {"words": (1, 4)}


def test_comparison_uses_the_recorded_output_and_shapes(graph: Path) -> None:
    weights = convert(graph)
    result = compare_graph(graph, weights=weights, options=NUMPY)
    assert [row.node for row in result.proof.rows if not row.layer] == ["split", "split"]
    assert {name: array.shape for name, array in result.runs[0][1].items()} == {"words": (1, 4)}


def test_options_precede_the_recorded_ones(graph: Path) -> None:
    weights = convert(graph)
    result = compare_graph(
        graph, weights=weights, output="embedded", input_shapes={"words": (2, 3)}, options=NUMPY
    )
    assert [row.node for row in result.proof.rows if not row.layer] == ["embedded"]
    assert result.runs[0][1]["words"].shape == (2, 3)


def test_options_of_another_graph_are_not_used(graph: Path) -> None:
    """The manifest is of these tensors, but of a graph with another content."""
    weights = convert(graph)
    graph.write_text(graph.read_text() + "\n")
    with pytest.raises(UsageError, match="unknown  the shape of words"):
        compare_graph(graph, weights=weights, options=NUMPY)


def test_automatic_conversion_names_the_command_that_takes_shapes(graph: Path) -> None:
    params = graph.parent / "words-0000.params"
    with pytest.raises(UsageError) as error:
        automatic_conversion.convert("auto", graph.parent / "out", params=params, options=NUMPY)
    option, command = str(error.value).splitlines()[-2:]
    assert "--input words=1x16" in option
    assert command == f"  with     convert {graph} OUT --params {params}"


@pytest.mark.parametrize("relative", [2e-4, -1.0])
def test_manifest_of_replaced_operators_that_differ_is_refused(graph: Path, relative: float) -> None:
    weights = convert(graph)
    manifest = weights.with_suffix(".json")
    document = json.loads(manifest.read_text())
    for accepted in (0.0, 1e-4):
        document["parity"]["replaced"] = {"operators": ["LRN"], "relative": accepted}
        manifest.write_text(json.dumps(document))
        artifact_checks.read(weights)
    document["parity"]["replaced"]["relative"] = relative
    manifest.write_text(json.dumps(document))
    with pytest.raises(ArtifactError, match=r"operators in place of LRN differ by .* expected at most 1e-04"):
        artifact_checks.read(weights)


@pytest.fixture
def doctored(graph: Path) -> Path:
    """Return weights next to a module that computes something else, with its hash in the manifest."""
    weights = convert(graph)
    manifest, module = weights.with_suffix(".json"), weights.with_name("words.py")
    source = module.read_text()
    assert source.count("6") > 0
    module.write_text(source.replace("6", "5"))
    document = json.loads(manifest.read_text())
    document["module"]["sha256"] = hashlib.sha256(module.read_bytes()).hexdigest()
    manifest.write_text(json.dumps(document))
    assert verify(weights.parent).holds  # hashes alone show nothing
    return weights


def test_module_that_is_not_of_the_graph_is_refused(doctored: Path, graph: Path) -> None:
    back = graph.parent / "back.params"
    with pytest.raises(ArtifactError, match="its manifest is of another module than the graph gives"):
        compare_graph(graph, weights=doctored, options=NUMPY)
    with pytest.raises(ArtifactError, match="its manifest is of another module than the graph gives"):
        reverse_conversion.to_gluon(doctored, back, symbol=graph, options=NUMPY)
    assert not back.exists()


def test_changed_module_next_to_the_weights_is_refused(graph: Path) -> None:
    weights = convert(graph)
    module = weights.with_name("words.py")
    module.write_text(module.read_text() + "\n")
    for output in (None, "split"):  # the output named again is no other one
        with pytest.raises(ArtifactError, match=r"words\.py: not the module that was generated"):
            compare_graph(graph, weights=weights, output=output, options=NUMPY)
    module.unlink()
    assert compare_graph(graph, weights=weights, options=NUMPY).proof.passed


def test_changed_module_is_refused_for_the_graphs_own_output(graph: Path) -> None:
    weights = convert(graph, None)
    module = weights.with_name("words.py")
    module.write_text(module.read_text() + "\n")
    with pytest.raises(ArtifactError, match=r"words\.py: not the module that was generated"):
        compare_graph(graph, weights=weights, output="fc1", options=NUMPY)


def test_module_of_a_renamed_graph_is_recognised(graph: Path) -> None:
    weights = convert(graph)
    renamed, params = graph.with_name("other-symbol.json"), graph.with_name("words-0000.params")
    graph.rename(renamed)
    assert compare_graph(renamed, params=params, weights=weights, options=NUMPY).proof.passed


def test_module_of_another_version_is_refused(doctored: Path, graph: Path) -> None:
    manifest = doctored.with_suffix(".json")
    manifest.write_text(manifest.read_text().replace(converter.__version__, "0.1.9"))
    with pytest.raises(
        ArtifactError, match=r"another module than the graph gives\n  written by  gluon2torch 0\.1\.9"
    ):
        compare_graph(graph, weights=doctored, options=NUMPY)
