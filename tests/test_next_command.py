"""Every command ends with the likely next command, which exists."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING

import pytest
from typer.testing import CliRunner

from converter.cli.app import COMMANDS, app
from converter.commands import conversion, reverse_conversion
from converter.commands.graph_conversion import convert_graph
from converter.formats.params import write_params
from converter.networks import recorded_graphs, recorded_sources
from converter.parity.options import ParityOptions

if TYPE_CHECKING:
    from pathlib import Path

NAME = "gluon_cifar_resnext29_32x4d"
RANDOM = ["--random", "0", "--reference", "none"]


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A converted file."""
    out = tmp_path_factory.mktemp("next") / "my out"
    result = CliRunner().invoke(app, ["convert", NAME, str(out), *RANDOM])
    assert result.exit_code == 0, result.stderr
    (artifact,) = out.glob("*.safetensors")
    return artifact


def following(*arguments: object) -> list[str]:
    """Run a command and return the words of the command that it prints last."""
    result = CliRunner().invoke(app, [*map(str, arguments)])
    assert result.exit_code == 0, result.stderr
    label, *words = shlex.split(result.stdout.splitlines()[-1])
    assert label == "next"
    return words


def test_next_commands_exist(weights: Path, tmp_path: Path) -> None:
    published = tmp_path / "published"
    publish = ["publish", weights, published, "--allow-random", "--allow-unproven"]
    ends = [
        following("list"),
        following("summary", NAME),
        following("doctor"),
        following("inspect", weights),
        following("verify", weights),
        following("diff", weights, weights),
        following("to-gluon", weights, tmp_path / "back.params", "--reference", "none"),
        following("convert-zoo", tmp_path / "zoo", "--models", NAME, *RANDOM),
        following(*publish),
    ]
    assert {words[0] for words in ends} == {"gluon2torch", "convert"}
    assert {words[1] for words in ends if words[0] == "gluon2torch"} <= COMMANDS.keys()
    assert ends[-1] == ["gluon2torch", "verify", str(published)]


def test_paths_with_spaces_are_quoted(weights: Path) -> None:
    assert following("verify", weights) == ["gluon2torch", "predict", "IMAGE", "--weights", str(weights)]
    assert following("verify", weights.parent)[-1] == str(weights.parent)


def test_network_that_predict_cannot_run_is_inspected(tmp_path: Path) -> None:
    made = conversion.convert(NAME, tmp_path, random=0, backbone=True, options=ParityOptions("none"))
    assert following("verify", made.artifact) == ["gluon2torch", "inspect", str(made.artifact)]


def test_diff_of_a_recorded_network_is_continued_by_its_name(tmp_path: Path) -> None:
    made = convert_graph("mobilenet0.25", tmp_path, random=0, options=ParityOptions("none"))
    params = tmp_path / "back.params"
    reverse_conversion.to_gluon(made.artifact, params, options=ParityOptions("none"))
    words = following("diff", made.artifact, params)
    expected = ["parity", "mobilenet0.25", "--params", str(params), "--weights", str(made.artifact)]
    assert words == ["gluon2torch", *expected]
    words += ["--reference", "numpy", "--size", "32", "--proof-dtype", "float64"]
    assert CliRunner().invoke(app, words[1:]).exit_code == 0


def test_weights_of_a_recorded_network_are_used_with_predict(tmp_path: Path) -> None:
    made = convert_graph("mobilenet0.25", tmp_path, random=0, options=ParityOptions("none"))
    assert following("inspect", made.artifact) == [
        "gluon2torch",
        "predict",
        "IMAGE",
        "--weights",
        str(made.artifact),
    ]


def test_diff_of_weights_for_an_existing_module_is_continued_by_inspect(tmp_path: Path) -> None:
    target = {"target": "torchvision:squeezenet1_0", "options": ParityOptions("none")}
    made = convert_graph("squeezenet1.0", tmp_path, random=0, **target)  # type: ignore[arg-type]
    params = tmp_path / "source.params"
    network = recorded_graphs.load("squeezenet1.0")
    with params.open("wb") as stream:
        write_params(stream, recorded_sources.random_arrays(network, 0))
    assert following("diff", params, made.artifact) == ["gluon2torch", "inspect", str(made.artifact)]
    convert = ["gluon2torch", "convert", "squeezenet1.0", "OUT", "--params", str(params)]
    assert following("inspect", params) == [*convert, "--target", "torchvision"]
