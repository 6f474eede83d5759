from __future__ import annotations

import errno
import hashlib
import json
import os
import re
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from converter.choices import Precision
from converter.cli.app import app
from converter.commands import conversion, reverse_conversion
from converter.errors import MappingError
from converter.formats.params import write_params
from converter.networks import catalog, matching
from converter.networks.selection import ParamsSource
from converter.parity.options import ParityOptions

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path
    from typing import BinaryIO

    from typer.testing import Result

    from converter.dtypes import Array
    from converter.networks.catalog import Model

    Write = Callable[[dict[str, Array]], Path]

EXISTING = b"what was there"
BOX = re.compile(r"│|\x1b\[[\d;]*m")  # typer's box, coloured under GitHub Actions
FAST = ["--reference", "numpy", "--size", "33x47", "--proof-dtype", "float64"]
NONE = ["--reference", "none"]


@pytest.fixture(autouse=True)
def tiny_catalog(tiny: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    """Reduce the catalog to the tiny model and set a wide terminal."""
    monkeypatch.setattr(catalog, "models", lambda: {tiny.name: tiny})
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.delenv("GLUON_PYTHON", raising=False)


@pytest.fixture
def state(tiny: Model, tiny_params: dict[str, Array]) -> dict[str, torch.Tensor]:
    arrays = matching.rename(tiny.mapping, tiny_params, tiny.shapes, "tiny")
    return {name: torch.tensor(array) for name, array in arrays.items()}


@pytest.fixture
def weights(state: dict[str, torch.Tensor], tmp_path: Path) -> Path:
    torch.save(state, tmp_path / "trained.pth")
    return tmp_path / "trained.pth"


@pytest.fixture
def back(tmp_path: Path) -> Path:
    """Return the output path, in a folder of its own so that leftovers are noticed."""
    (tmp_path / "back").mkdir()
    return tmp_path / "back" / "back.params"


def run(weights: Path, back: Path, *options: str) -> Result:
    return CliRunner().invoke(app, ["to-gluon", str(weights), str(back), *options])


def sha1(path: Path) -> str:
    return hashlib.sha1(path.read_bytes(), usedforsecurity=False).hexdigest()


def parse(text: str) -> dict[str, Any]:
    """Parse strict JSON, without NaN and infinity."""

    def refuse(constant: str) -> None:
        raise ValueError(f"{constant} is no JSON")

    document: dict[str, Any] = json.loads(text, parse_constant=refuse)
    return document


def test_summary_is_printed_line_by_line(weights: Path, back: Path) -> None:
    result = run(weights, back, *FAST)
    assert (result.exit_code, result.stderr) == (0, "")
    actual, proven, wrote, other, following = result.stdout.splitlines()
    assert actual == "model   tiny: blocks 1-2-1-1, cardinality 2, width 4, 10 classes"
    assert re.fullmatch(
        r"proven  48 layers against the built-in NumPy reference: "
        r"max error \d\.\de-1\d in float64 at 33x47",
        proven,
    )
    size = back.stat().st_size / 1e6
    assert wrote == f"wrote   {back} ({size:.1f} MB, 102 arrays), SHA-1 {sha1(back)}"
    assert other.startswith("differs from the file that GluonCV published, SHA-1 4ecf62e2")
    assert following == f"next    gluon2torch diff {weights} {back}"


def test_drive_without_hard_links_is_supported(
    weights: Path, back: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError(errno.EPERM, os.strerror(errno.EPERM))

    monkeypatch.setattr("os.link", refuse)
    assert run(weights, back, "--reference", "none").exit_code == 0
    again = run(weights, back, "--reference", "none")
    assert (again.exit_code, "exists; use --force" in again.stderr) == (1, True)
    assert [path.name for path in back.parent.iterdir()] == [back.name]


def test_unproven_file_is_reported_as_unproven(weights: Path, back: Path) -> None:
    lines = run(weights, back, *NONE).stdout.splitlines()
    assert lines[1] == "unproven the outputs were not compared (--reference none)"
    assert not any(line.startswith("proven") for line in lines)


def test_published_file_is_recognised(
    tiny: Model,
    tiny_params: dict[str, Array],
    write: Write,
    weights: Path,
    back: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    published = replace_sha1(tiny, sha1(write(tiny_params)))
    monkeypatch.setattr(catalog, "models", lambda: {"tiny": published})
    assert run(weights, back, *NONE).stdout.splitlines()[-2] == (
        "same    as the file that GluonCV published, byte for byte"
    )
    assert parse(run(weights, back, *NONE, "--force", "--json").stdout)["published"] == {
        "sha1": sha1(back),
        "same": True,
    }


def test_model_without_a_sha1_has_no_file_line(
    tiny: Model, weights: Path, back: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(catalog, "models", lambda: {"tiny": replace_sha1(tiny, "")})
    result = run(weights, back, *NONE)
    assert not any("GluonCV published" in line for line in result.stdout.splitlines())
    document = parse(run(weights, back, *NONE, "--force", "--json").stdout)
    assert document["published"] == {"sha1": None, "same": False}


def replace_sha1(model: Model, published: str) -> Model:
    fields = {name: getattr(model.entry, name) for name in model.entry.__struct_fields__}
    return replace(model, entry=catalog.Entry(**{**fields, "params_sha1": published}))


def test_original_source_file_is_recognised(
    tiny_params: dict[str, Array], write: Write, back: Path, tmp_path: Path
) -> None:
    params = write(tiny_params)
    request = conversion.ConversionRequest(
        source=ParamsSource(None, params), out=tmp_path / "out", options=ParityOptions("none")
    )
    result = conversion.run(request)
    assert run(result.artifact, back, *NONE).stdout.splitlines()[-2] == (
        "same    as the file that these weights were converted from, byte for byte"
    )
    manifest = json.loads(result.manifest_file.read_text())
    manifest["source"]["sha1"] = "0" * 40
    result.manifest_file.write_text(json.dumps(manifest))
    assert run(result.artifact, back, *NONE, "--force").stdout.splitlines()[-2] == (
        f"differs from the file that these weights were converted from, SHA-1 {0:040x}"
    )


def test_json_is_strict_and_alone_on_stdout(weights: Path, back: Path) -> None:
    result = run(weights, back, *FAST, "--json")
    assert result.exit_code == 0
    document = parse(result.stdout)
    parity = document.pop("parity")
    assert document == {
        "model": "tiny",
        "file": "back.params",
        "sha1": sha1(back),
        "bytes": back.stat().st_size,
        "tensors": 102,
        "published": {"sha1": "4ecf62e29336e0cbc5a2f844652635a330928b5a", "same": False},
        "origin": {"sha1": None, "same": False},
        "state_dict": {"key": None, "prefix": None, "ignored": []},
    }
    assert (parity["proven"], parity["reference"]) == (True, "numpy")
    assert [(check["dtype"], check["size"]) for check in parity["checks"]] == [("float64", "33x47")]
    assert result.stderr.startswith("model   tiny")  # the summary still goes to stderr


def test_existing_file_needs_force(weights: Path, back: Path) -> None:
    back.write_bytes(EXISTING)
    result = run(weights, back, *NONE)
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr == f"refused  {back}: exists; use --force to overwrite it\n"
    assert back.read_bytes() == EXISTING
    assert run(weights, back, *NONE, "--force").exit_code == 0
    assert back.read_bytes() != EXISTING
    assert list(back.parent.iterdir()) == [back]


def write_with_flipped_bit(stream: BinaryIO, arrays: dict[str, Array]) -> None:
    """Write the parameters with one bit of one value flipped."""
    changed = {name: array.copy() for name, array in arrays.items()}
    changed["output.bias"].view(np.uint32)[2] ^= 1
    write_params(stream, changed)


@pytest.mark.parametrize("before", [None, EXISTING], ids=["no file", "existing file"])
def test_refusal_keeps_the_existing_file(
    before: bytes | None, weights: Path, back: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if before is not None:
        back.write_bytes(before)
    monkeypatch.setattr(reverse_conversion, "write_params", write_with_flipped_bit)
    result = run(weights, back, *NONE, "--force")
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr == "refused  read-back check failed: the file differs from what was written\n"
    assert [path.read_bytes() for path in back.parent.iterdir()] == ([before] if before else [])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--model", "tinny"], "unknown model 'tinny'; did you mean tiny?"),
        (["--dtype", "float16"], "trained.pth: these weights do not fit float16 without rounding"),
        (["--reference", "gluon", "--gluon-python", "no-python"], "no-python is not an executable"),
    ],
)
def test_impossible_conversion_exits_1_with_the_reason_on_stderr(
    options: list[str], message: str, weights: Path, back: Path
) -> None:
    result = run(weights, back, *options)
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr.startswith("refused  ")
    assert message in result.stderr
    assert list(back.parent.iterdir()) == []


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--dtype", "float64"], "'float64' is not one of 'keep', 'float32', 'float16', 'bfloat16'"),
        (["--reference", "keras"], "'keras' is not one of 'auto', 'gluon', 'numpy', 'none'"),
        ([*NONE, "--size", "64"], "--size and --proof-dtype require a reference"),
        (["--size", "12"], "--size: expected 32 to 2048 pixels, found 12"),
    ],
)
def test_usage_error_exits_2(options: list[str], message: str, weights: Path, back: Path) -> None:
    result = run(weights, back, *options)
    assert (result.exit_code, result.stdout) == (2, "")
    assert message in " ".join(BOX.sub("", result.stderr).split())


def test_missing_weights_are_refused(back: Path, tmp_path: Path) -> None:
    result = run(tmp_path / "none.pth", back)
    assert (result.exit_code, result.stdout) == (1, "")
    assert "none.pth: No such file" in result.stderr


def test_help_shows_every_option_and_the_exit_statuses() -> None:
    result = CliRunner().invoke(app, ["to-gluon", "--help"])
    assert result.exit_code == 0
    for option in ("--model", "--dtype", "--force", "--reference", "--size", "--proof-dtype", "--json"):
        assert option in result.stdout
    assert "Exits with 0 if the file was written, 1 with the reason if not" in " ".join(
        BOX.sub("", result.stdout).split()
    )


def test_escape_sequences_in_a_file_name_are_escaped(weights: Path, tmp_path: Path) -> None:
    evil = tmp_path / "\x1b[31m[bold]evil\x9b\n.params"
    shown = run(weights, evil, *NONE).stdout
    refused = run(weights, evil, *NONE).stderr
    for text in (shown, refused):
        assert not {"\x1b", "\x9b"} & set(text)
        assert r"\x1b[31m[bold]evil\x9b" in text
    result = run(weights, evil, *NONE, "--force", "--json")
    assert "\x1b" not in result.stdout
    assert parse(result.stdout)["file"] == evil.name


def test_every_option_reaches_the_reverse_conversion(
    weights: Path, back: Path, tiny: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    requests = []

    def record(request: reverse_conversion.ToGluonRequest, _: object) -> None:
        requests.append(request)
        raise MappingError("enough")

    monkeypatch.setattr(reverse_conversion, "run", record)
    python = tmp_path / "python9"
    run(weights, back)
    proof_options = ["--reference", "gluon", "--size", "97x131", "--proof-dtype", "float64"]
    options = ["--model", "tiny", "--dtype", "bfloat16", "--force", "--gluon-python", str(python)]
    assert run(weights, back, *proof_options, *options).stderr == "refused  enough\n"
    proof = ParityOptions("gluon", sizes=[(97, 131)], dtypes=["float64"], gluon_python=python)
    assert requests == [
        reverse_conversion.ToGluonRequest(weights=weights, out=back),
        reverse_conversion.ToGluonRequest(
            weights=weights,
            out=back,
            model=tiny,
            options=proof,
            precision=Precision.bfloat16,
            overwrite=True,
        ),
    ]
