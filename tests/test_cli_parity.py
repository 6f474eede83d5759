from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from converter.cli.app import app
from converter.commands import parity_check
from converter.errors import MappingError
from converter.networks import catalog, matching
from converter.networks.selection import ParamsSource
from converter.parity.options import ParityOptions

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from typer.testing import Result

    from converter.dtypes import Array
    from converter.networks.catalog import Model
    from converter.networks.mapping import Mapping

NAME = "gluon_resnext50_32x4d"
PARTS = ["stem", "layer1", "layer2", "layer3", "layer4", "head"]
LAYERS = ["3", "9", "16", "9", "9", "2"]
BOX = re.compile(r"│|\x1b\[[\d;]*m")  # typer's box, coloured under GitHub Actions
FAST = ["--reference", "numpy", "--size", "33x47", "--proof-dtype", "float32"]


@pytest.fixture(autouse=True)
def outside_of_github(monkeypatch: pytest.MonkeyPatch) -> None:
    """Unset GitHub's variables and set a wide terminal; the tests of GitHub set them themselves."""
    monkeypatch.setenv("COLUMNS", "200")
    for name in ("GITHUB_ACTIONS", "GITHUB_STEP_SUMMARY", "GLUON_PYTHON"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def name(tiny: Model, monkeypatch: pytest.MonkeyPatch) -> str:
    """Return the name of the tiny model, the only one in the catalog."""
    monkeypatch.setattr(catalog, "models", lambda: {tiny.name: tiny})
    return tiny.name


@pytest.fixture
def run(
    name: str, tiny_params: dict[str, Array], write: Callable[[dict[str, Array]], Path]
) -> Callable[..., Result]:
    """Return a function that runs the command on the tiny model's parameters."""
    path = write(tiny_params)

    def parity(*options: str) -> Result:
        return CliRunner().invoke(app, ["parity", name, "--params", str(path), *FAST, *options])

    return parity


@pytest.fixture
def save(
    tiny: Model, tiny_mapping: Mapping, tiny_params: dict[str, Array], tmp_path: Path
) -> Callable[[dict[str, float]], str]:
    """Return a function that writes the converted weights, some shifted by a number, and returns the path."""

    def save_file(added: dict[str, float]) -> str:
        state = matching.rename(tiny_mapping, tiny_params, tiny.shapes, "tiny")
        state |= {name: state[name] + np.float32(number) for name, number in added.items()}
        torch.save({name: torch.tensor(array) for name, array in state.items()}, tmp_path / "trained.pth")
        return str(tmp_path / "trained.pth")

    return save_file


def parse(text: str) -> dict[str, Any]:
    """Parse strict JSON, without NaN and infinity."""

    def refuse(constant: str) -> None:
        raise ValueError(f"{constant} is no JSON")

    document: dict[str, Any] = json.loads(text, parse_constant=refuse)
    return document


def table(text: str) -> dict[str, list[str]]:
    """Return the rows of the table of parts."""
    return {row[0]: row[1:] for row in map(str.split, text.splitlines()) if row and row[0] in PARTS}


def test_agreement_exits_0_with_a_table_and_a_verdict(run: Callable[..., Result]) -> None:
    result = run()
    assert (result.exit_code, result.stderr) == (0, "")
    rows = table(result.stdout)
    assert list(rows) == PARTS
    assert [layers for layers, _ in rows.values()] == LAYERS
    assert all(0 < float(number) <= 1e-4 for _, number in rows.values())
    assert "max error: largest difference / standard deviation" in result.stdout
    assert result.stdout.splitlines()[-2] == (
        "agrees   the conversion and holiday.params: 102 of 102 tensors equal, "
        "48 layers compared with the built-in NumPy reference, 1 of 1 checks passed"
    )
    following = r"next     convert tiny OUT --params \S+/holiday\.params"
    assert re.fullmatch(following, result.stdout.splitlines()[-1])


def test_catalog_model_agrees_on_random_parameters() -> None:
    result = CliRunner().invoke(app, ["parity", NAME, "--random", "0", *FAST])
    assert result.exit_code == 0
    assert f"{NAME}.random-0.params: 267 of 267 tensors equal, 125 layers compared" in result.stdout


def test_difference_exits_1_with_the_layer_and_suspects(
    run: Callable[..., Result], save: Callable[[dict[str, float]], str]
) -> None:
    result = run("--weights", save({"bn1.bias": 1}))
    assert (result.exit_code, result.stderr) == (1, "")
    lines = result.stdout.splitlines()
    assert "1 tensor differs" in lines
    assert "  bn1.bias  64 of 64 elements differ, by up to 1.0e+00" in lines
    assert any(
        line.startswith("  first mismatch  features.1 → bn1 (batchnorm), float32 at 33x47: ")
        for line in lines
    )
    assert "    suspect    bn1.bias: 64 of 64 elements differ, by up to 1.0e+00" in lines
    assert re.fullmatch(r"next     gluon2torch diff \S+/holiday\.params \S+/trained\.pth", lines[-1])
    assert lines[-2].startswith("differs  trained.pth and holiday.params: 101 of 102 tensors equal, ")
    assert lines[-2].endswith(" 0 of 1 checks passed")


def test_nonfinite_output_is_shown_as_infinity(
    run: Callable[..., Result], save: Callable[[dict[str, float]], str]
) -> None:
    weights = save({"fc.bias": np.inf})
    assert table(run("--weights", weights).stdout)["head"] == ["2", "∞"]
    row = parse(run("--weights", weights, "--json").stdout)["checks"][0]["layers"][-1]
    assert (row["target"], row["relative"], row["remark"]) == ("fc", None, "not finite in the module")


@pytest.mark.parametrize(("added", "status"), [({}, 0), ({"bn1.bias": 1}, 1)], ids=["agreeing", "differing"])
def test_json_is_strict_and_alone_on_stdout(
    added: dict[str, float], status: int, run: Callable[..., Result], save: Callable[[dict[str, float]], str]
) -> None:
    result = run("--weights", save(added), "--json")
    assert result.exit_code == status
    document = parse(result.stdout)
    assert document["agrees"] is (status == 0)
    assert [row["target"] for row in document["checks"][0]["layers"]][-2:] == ["avgpool", "fc"]
    assert list(table(result.stderr)) == PARTS  # the table still goes to stderr


def test_each_size_and_dtype_is_a_column(run: Callable[..., Result]) -> None:
    result = run("--size", "32", "--proof-dtype", "float64")
    assert [len(numbers) for _, *numbers in table(result.stdout).values()] == [4] * 6
    header = next(line for line in result.stdout.splitlines() if "layers" in line)
    columns = "part layers float32 33x47 float32 32x32 float64 33x47 float64 32x32"
    assert " ".join(header.split()) == columns


@pytest.mark.parametrize(("added", "title"), [({}, "agrees"), ({"bn1.bias": 1}, "differs")])
def test_report_is_written_for_agreement_and_difference(
    added: dict[str, float],
    title: str,
    run: Callable[..., Result],
    save: Callable[[dict[str, float]], str],
    tmp_path: Path,
) -> None:
    run("--weights", save(added), "--report", str(tmp_path / "new" / "report.html"))
    assert f"<title>{title}: tiny</title>" in (tmp_path / "new" / "report.html").read_text()


def test_unwritable_report_is_refused_before_any_work(run: Callable[..., Result], tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    result = run("--report", str(tmp_path / "file" / "report.html"))
    assert result.exit_code == 1
    assert not result.stdout
    assert result.stderr == f"refused  {tmp_path}/file: cannot be written: File exists\n"


def test_github_summary_is_appended_and_differences_are_annotated(
    run: Callable[..., Result],
    save: Callable[[dict[str, float]], str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(tmp_path / "summary.md"))
    agreeing, differing = run(), run("--weights", save({"bn1.bias": 1}), "--json")
    summary = (tmp_path / "summary.md").read_text()
    assert "### ✅ parity of tiny\n" in summary
    assert "### ❌ parity of tiny\n" in summary
    assert "::error" not in agreeing.stdout + agreeing.stderr
    assert not parse(differing.stdout)["agrees"]
    assert "\n::error title=parity of tiny::trained.pth and holiday.params: 101 of" in differing.stderr


@pytest.mark.usefixtures("name")
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["tinny", "--random", "0"], "unknown model 'tinny'; did you mean tiny?"),
        (["tiny", "--params", "none.params"], "none.params: No such file or directory"),
        (["tiny", "--random", "0", "--weights", "none.pth"], "none.pth: No such file or directory"),
        (
            ["tiny", "--random", "0", "--reference", "gluon", "--gluon-python", "no-python"],
            "no-python is not an executable",
        ),
    ],
)
def test_incomparable_files_exit_1_with_the_reason_on_stderr(arguments: list[str], message: str) -> None:
    result = CliRunner().invoke(app, ["parity", *FAST, *arguments])
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr.startswith("refused  ")
    assert message in result.stderr


def test_weights_of_another_model_are_refused(run: Callable[..., Result], tmp_path: Path) -> None:
    torch.save({"net.weight": torch.zeros(1)}, tmp_path / "other.pth")
    result = run("--weights", str(tmp_path / "other.pth"))
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr.startswith(f"refused  {tmp_path}/other.pth: the names do not match the model\n")
    assert "  unexpected  net.weight" in result.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--random", "0", "--params", "a.params"], "--params and --random cannot be used together"),
        (["--reference", "none"], "'none' is not one of 'auto', 'gluon', 'numpy'"),
        (["--size", "12"], "expected 32 to 2048 pixels"),
        (["--proof-dtype", "int8"], "'int8' is not one of 'float64', 'float32'"),
        (["--report", "."], "is a directory"),
    ],
)
def test_usage_error_exits_2(arguments: list[str], message: str) -> None:
    result = CliRunner().invoke(app, ["parity", NAME, *arguments])
    assert (result.exit_code, result.stdout) == (2, "")
    assert message in " ".join(BOX.sub("", result.stderr).split())


def test_every_option_reaches_the_comparison(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    requests = []

    def record(request: parity_check.ComparisonRequest, _: object) -> None:
        requests.append(request)
        raise MappingError("enough")

    monkeypatch.setattr(parity_check, "run", record)
    options = [
        "--weights",
        "a.pth",
        "--size",
        "97x131",
        "--proof-dtype",
        "float64",
        "--gluon-python",
        "python9",
    ]
    params, weights, python = (tmp_path / "a.params", tmp_path / "a.pth", tmp_path / "python9")
    options = [str(tmp_path / option) if option in {"a.pth", "python9"} else option for option in options]
    CliRunner().invoke(app, ["parity", NAME, "--params", str(params), "--reference", "gluon", *options])
    CliRunner().invoke(app, ["parity", NAME, "--random", "5"])
    model = catalog.find(NAME)
    proof = ParityOptions("gluon", sizes=[(97, 131)], dtypes=["float64"], gluon_python=python)
    assert requests == [
        parity_check.ComparisonRequest(source=ParamsSource(model, params), weights=weights, options=proof),
        parity_check.ComparisonRequest(source=ParamsSource(model, seed=5), options=ParityOptions("auto")),
    ]


@pytest.mark.parametrize("option", ["--params", "--weights"])
def test_report_does_not_overwrite_an_input(tmp_path: Path, option: str) -> None:
    path = tmp_path / "weights.html"
    path.write_bytes(b"weights")
    given = [option, str(path), *(["--random", "0"] if option == "--weights" else [])]
    result = CliRunner().invoke(app, ["parity", NAME, *given, "--report", str(path)])
    assert result.exit_code == 1
    assert "weights.html: the output would overwrite an input" in result.stderr
    assert path.read_bytes() == b"weights"
