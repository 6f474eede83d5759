from __future__ import annotations

import gzip
import hashlib
import json
import re
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import safetensors.numpy
from typer.testing import CliRunner

from converter.cli.app import app
from converter.commands import inspection, inspection_verdict
from converter.commands.inspection_result import Inspection
from converter.errors import MappingError
from converter.networks import catalog, matching

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from typer.testing import Result

    from converter.dtypes import Array
    from converter.networks.catalog import Model

    Write = Callable[[dict[str, Array]], Path]

BOX = re.compile(r"│|\x1b\[[\d;]*m")  # typer's box, coloured under GitHub Actions
STEM_GAMMA = ["stem", "gamma", "64"]


@pytest.fixture(autouse=True)
def tiny_catalog(tiny: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    """Reduce the catalog to the tiny model and set a wide terminal."""
    monkeypatch.setattr(catalog, "models", lambda: {tiny.name: tiny})
    monkeypatch.setenv("COLUMNS", "200")


def run(path: Path, *options: str) -> Result:
    return CliRunner().invoke(app, ["inspect", str(path), *options])


def parse(text: str) -> dict[str, Any]:
    """Parse strict JSON, without NaN and infinity."""

    def refuse(constant: str) -> None:
        raise ValueError(f"{constant} is no JSON")

    document: dict[str, Any] = json.loads(text, parse_constant=refuse)
    return document


def lines(text: str) -> dict[str, str]:
    """Return the printed lines after the verdict by their labels."""
    return {line[:10].strip(): line[11:] for line in text.splitlines()[1:] if line[:10].strip()}


def verdict(path: Path) -> str:
    return f"parameters of tiny, 10 classes: gluon2torch convert auto OUT --params {path}"


def test_headers_are_shown_line_by_line(tiny_params: dict[str, Array], write: Write) -> None:
    path = write(tiny_params)
    result = run(path)
    assert (result.exit_code, result.stderr) == (0, "")
    assert result.stdout.splitlines()[0] == verdict(path)
    assert lines(result.stdout) == {
        "file": f"holiday.params, {path.stat().st_size:,} bytes",
        "container": "ndarray-list, V2 records",
        "names": "structural",
        "model": "tiny: blocks 1-2-1-1, cardinality 2, width 4, 10 classes",
        "tensors": f"102 (102 float32), {sum(array.size for array in tiny_params.values()):,} values",
        "graph": "none found",
        "next": f"gluon2torch convert auto OUT --params {path}",
    }


def test_pytorch_dtypes_are_shown(tiny: Model, tiny_params: dict[str, Array], tmp_path: Path) -> None:
    state = matching.rename(tiny.mapping, tiny_params, tiny.shapes, "tiny")
    state["fc.bias"] = state["fc.bias"].astype(np.float16)
    safetensors.numpy.save_file(state, tmp_path / "a.safetensors")
    shown = lines(run(tmp_path / "a.safetensors").stdout)
    assert (shown["container"], shown["names"]) == ("safetensors", "PyTorch")
    counters = len(tiny.mapping.target_only)
    assert shown["tensors"].startswith(f"{102 + counters} (101 float32, {counters} int64, 1 float16), ")


def test_unknown_model_and_naming_style_are_shown(write: Write) -> None:
    text = run(write({"w": np.ones(3, np.float32)})).stdout
    assert text.startswith("parameters of no supported network: these names follow no supported naming style")
    shown = lines(text)
    assert shown["model"] == "unknown; closest match: tiny"
    assert shown["note"] == "w"
    assert "names" not in shown
    assert shown["next"] == "gluon2torch list"


def test_full_shows_the_sha1_and_a_table(tiny_params: dict[str, Array], write: Write) -> None:
    path = write(tiny_params)
    result = run(path, "--full")
    digest = hashlib.sha1(path.read_bytes(), usedforsecurity=False).hexdigest()
    assert lines(result.stdout)["SHA-1"] == f"{digest}, not published by GluonCV"
    rows = [line.split() for line in result.stdout.splitlines()]
    gamma = tiny_params["features.1.gamma"].astype(np.float64)
    figures = [f"{value:.2g}" for value in (gamma.mean(), gamma.std(), gamma.min(), gamma.max())]
    assert [*STEM_GAMMA, *figures] in rows
    assert ["part", "role", "values", "mean", "std", "min", "max"] in rows
    assert "not finite" not in result.stdout


def test_published_file_is_named(
    tiny_params: dict[str, Array], write: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(inspection, "_published_model", lambda _: "tiny")
    assert lines(run(write(tiny_params), "--full").stdout)["SHA-1"].endswith(", published by GluonCV as tiny")


def test_nonfinite_values_are_counted_and_json_stays_strict(
    tiny_params: dict[str, Array], write: Write
) -> None:
    tiny_params["output.bias"][:3] = np.nan, np.inf, -np.inf
    path = write(tiny_params)
    assert "not finite head bias: 3 values" in run(path, "--full").stdout.splitlines()
    rows = parse(run(path, "--full", "--json").stdout)["statistics"]
    assert {(row["part"], row["role"]): row["not_finite"] for row in rows if row["not_finite"]} == {
        ("head", "bias"): 3
    }


@pytest.mark.parametrize("full", [False, True])
def test_json_is_strict_and_alone_on_stdout(full: bool, tiny_params: dict[str, Array], write: Write) -> None:
    path = write(tiny_params)
    result = run(path, "--json", *(["--full"] if full else []))
    assert (result.exit_code, result.stderr) == (0, "")
    document = parse(result.stdout)
    statistics, sha1 = document.pop("statistics"), document.pop("sha1")
    assert (statistics is not None, sha1 is not None) == (full, full)
    assert document == {
        "file": "holiday.params",
        "bytes": path.stat().st_size,
        "archive": None,
        "container": "ndarray-list",
        "records": ["V2"],
        "dialect": "structural",
        "prefix": None,
        "models": [
            {
                "model": "tiny",
                "depths": [1, 2, 1, 1],
                "cardinality": 2,
                "width": 4,
                "classes": 10,
                "channels": 3,
                "output_stride": 32,
            }
        ],
        "module": None,
        "network": None,
        "nearest": None,
        "dtypes": {"float32": 102},
        "tensors": 102,
        "numbers": sum(array.size for array in tiny_params.values()),
        "official": False if full else None,
        "remark": None,
        "graph": None,
        "graph_differences": [],
        "state_dict": {"key": None, "prefix": None, "ignored": []},
        "wrapping": None,
        "preprocessing": None,
        "kind": "ndarray-list",
        "converted": False,
        "trained": False,
        "verdict": verdict(path),
        "values": sum(array.size for array in tiny_params.values()),
        "summary": None,
        "entries": None,
        "others": 0,
    }


def test_large_compressed_file_needs_full(
    tiny_params: dict[str, Array], write: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    packed = tmp_path / "packed.gz"
    packed.write_bytes(gzip.compress(write(tiny_params).read_bytes(), 1))
    small = lines(run(packed).stdout)
    assert (small["container"], "note" in small) == ("gzip, ndarray-list, V2 records", False)
    monkeypatch.setattr(inspection, "MAX_UNPACKED", write(tiny_params).stat().st_size - 1)
    large = run(packed).stdout
    assert large.startswith(f"large gzip file, not unpacked: gluon2torch inspect --full {packed}\n")
    assert lines(large) == {
        "file": f"packed.gz, {packed.stat().st_size:,} bytes",
        "container": "gzip",
        "note": "packed; use --full to read the contents",
        "next": f"gluon2torch inspect --full {packed}",
    }
    complete = lines(run(packed, "--full").stdout)
    assert (complete["container"], "note" in complete) == ("gzip, ndarray-list, V2 records", False)


def test_unreadable_file_exits_1_with_the_reason(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"hello")
    for path, message in ((tmp_path / "a", "begins with b'hello'"), (tmp_path / "b", "No such file")):
        result = run(path)
        assert (result.exit_code, result.stdout) == (1, "")
        assert result.stderr.startswith(f"refused  {path}: ")
        assert message in result.stderr


def test_unknown_option_is_a_usage_error(tmp_path: Path) -> None:
    result = run(tmp_path / "a", "--deep")
    assert (result.exit_code, result.stdout) == (2, "")
    assert "No such option: --deep" in " ".join(BOX.sub("", result.stderr).split())


def test_help_shows_every_option_and_the_exit_statuses() -> None:
    result = CliRunner().invoke(app, ["inspect", "--help"])
    assert result.exit_code == 0
    text = " ".join(BOX.sub("", result.stdout).split())
    assert all(option in text for option in ("--full", "--json"))
    assert "Exits with 0 if the file can be read, 1 with the reason if not" in text


EVIL = "\x1b[31m[bold]evil\x9b"


@pytest.mark.parametrize("full", [False, True])
def test_escape_sequences_in_names_are_escaped(full: bool, write: Write, tmp_path: Path) -> None:
    path = write({f"a.{EVIL}\n": np.array([1, np.nan], np.float32)}).rename(tmp_path / f"{EVIL}.params")
    options = ["--full"] if full else []
    result = run(path, *options)
    assert result.exit_code == 0
    assert not {"\x1b", "\x9b"} & set(result.stdout)
    assert r"\x1b[31m[bold]evil\x9b.params, " in result.stdout
    assert ("not finite all other: 1 values" in result.stdout) is full
    actual = run(path, *options, "--json").stdout
    assert "\x1b" not in actual
    assert parse(actual)["file"] == f"{EVIL}.params"


def test_escape_sequences_in_unrecognised_names_are_escaped(write: Write) -> None:
    result = run(write({f"{EVIL}\nSHA-1      forged": np.ones(2, np.float32)}))
    assert not {"\x1b", "\x9b"} & set(result.stdout)
    assert r"\x1b[31m[bold]evil\x9b" in result.stdout


def test_full_reaches_the_inspection(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    requests = []

    def record(path: Path, *, full: bool, **_: object) -> None:
        requests.append((path, full))
        raise MappingError("enough")

    monkeypatch.setattr(inspection, "inspect", record)
    assert run(tmp_path / "a").stderr == "refused  enough\n"
    run(tmp_path / "b", "--full")
    assert requests == [(tmp_path / "a", False), (tmp_path / "b", True)]


@pytest.mark.parametrize(
    ("verdict", "command"),
    [
        (
            "parameters of tiny: gluon2torch convert auto OUT --params a",
            "gluon2torch convert auto OUT --params a",
        ),
        ("not weights; try gluon2torch inspect --full 'a b'", "gluon2torch inspect --full 'a b'"),
        ("folder: gluon2torch inspect FILE describes one of them", "gluon2torch list"),
        ("graph: gluon2torch convert g OUT --output NODE converts the part before", "gluon2torch list"),
        ("not a checkpoint", "gluon2torch list"),
    ],
)
def test_next_command_is_that_of_the_verdict(verdict: str, command: str) -> None:
    result = Inspection(file="a", size=1, verdict=verdict)
    assert inspection_verdict.next_command(result) == command
    assert (
        inspection_verdict.next_command(replace(result, step="gluon2torch verify a"))
        == "gluon2torch verify a"
    )
