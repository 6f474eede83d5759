from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
from typer.testing import CliRunner

from converter.cli.app import app
from converter.commands import conversion
from converter.networks import catalog
from converter.networks.selection import ParamsSource
from converter.parity.options import ParityOptions

if TYPE_CHECKING:
    from pathlib import Path

    from typer.testing import Result

NAME = "gluon_cifar_resnext29_32x4d"


@pytest.fixture(scope="session")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    request = conversion.ConversionRequest(
        source=ParamsSource(catalog.find(NAME), seed=0),
        out=tmp_path_factory.mktemp("verify"),
        options=ParityOptions("none"),
    )
    return conversion.run(request).artifact


@pytest.fixture
def file(original: Path, tmp_path: Path) -> Path:
    """Return a copy that a test may modify."""
    for path in (original, original.with_suffix(".json")):
        shutil.copy(path, tmp_path)
    return tmp_path / original.name


def run(*arguments: object) -> Result:
    return CliRunner().invoke(app, ["verify", *map(str, arguments)])


def test_passing_checks_and_what_they_prove_are_shown(file: Path) -> None:
    result = run(file)
    assert result.exit_code == 0
    assert f"passed   {file.name}  bytes: {file.stat().st_size}" in result.stdout
    assert f"verified {file}: all 8 checks passed" in result.stdout
    assert "proves   the files are unchanged since the hashes were written" in result.stdout
    assert "unproven who wrote the files: whoever changes a file can change its hash too" in result.stdout
    assert "unproven that the proof in the manifest was really run; to check, convert again" in result.stdout


def test_failing_check_shows_expected_and_found(file: Path) -> None:
    size = file.stat().st_size
    with file.open("ab") as stream:
        stream.write(b"x")
    result = run(file.parent)
    assert result.exit_code == 1
    assert f"failed   {file.name}  bytes: expected {size}, found {size + 1}" in result.stdout
    assert f"refused  {file.parent}: 4 of 6 checks failed" in result.stdout
    assert result.stdout.splitlines()[-1] == f"next     gluon2torch inspect {file.parent}"
    assert "proves" not in result.stdout


def test_json_is_alone_on_stdout(file: Path) -> None:
    result = run(file, "--json")
    document = json.loads(result.stdout)
    assert (result.exit_code, document["holds"], document["signed"]) == (0, True, False)
    assert document["checks"][1] == {
        "place": file.name,
        "what": "name",
        "expected": file.name,
        "found": file.name,
        "holds": True,
    }
    assert [text.partition(":")[0].partition(";")[0] for text in document["does_not_prove"]] == [
        "who wrote the files",
        "that the proof in the manifest was really run",
    ]
    file.unlink()
    result = run(file.parent, "--json")
    assert (result.exit_code, result.stdout) == (1, "")
    assert "contains neither a converted file nor a published folder" in result.stderr


def test_terminal_escape_sequences_are_escaped(file: Path) -> None:
    (file.parent / "a\x1b[2Jb").touch()
    result = run(file.parent)
    assert "a\\x1b[2Jb" in result.stdout
    assert "\x1b" not in result.stdout


@pytest.mark.skipif(sys.platform in {"win32", "darwin"}, reason="needs byte file names")
def test_undecodable_file_names_are_escaped_in_json(file: Path) -> None:
    folder = file.parent / os.fsdecode(b"bad\xff")
    folder.mkdir()
    for path in (file, file.with_suffix(".json")):
        path.rename(folder / path.name)
    (folder / os.fsdecode(b"\xfe.txt")).touch()
    command = [sys.executable, "-m", "converter", "verify", str(folder), "--json"]
    completed = subprocess.run(
        command, env={**os.environ, "PYTHONIOENCODING": "utf-8:strict"}, capture_output=True, check=True
    )
    document = json.loads(completed.stdout)
    assert document["path"] == rf"{file.parent}/bad\xff"
    assert document["checks"][-1]["place"] == r"\xfe.txt"


def test_key_without_model_signing_is_refused(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "model_signing", None)
    result = run(file, "--key", "ours.pub")
    assert result.exit_code == 1
    assert "signatures need model-signing: pip install 'gluon2torch[sign]'" in result.stderr


def test_folder_is_published_signed_and_verified(file: Path, tmp_path: Path) -> None:
    pytest.importorskip("model_signing")
    pytest.importorskip("cryptography")
    from test_signature import ec, write  # noqa: PLC0415 - skipped where the package is missing

    ours, theirs = write(tmp_path, "ours", ec.generate_private_key(ec.SECP256R1()))
    folder = tmp_path / "published"
    options = ["--allow-random", "--allow-unproven", "--sign-key", str(ours), "--json"]
    published = CliRunner().invoke(app, ["publish", str(file), str(folder), *options])
    assert json.loads(published.stdout)[0]["signed"] is True
    result = run(folder, "--key", theirs)
    assert result.exit_code == 0
    assert "proves   the holder of the key signed exactly these files" in result.stdout
    assert "who wrote the files" not in result.stdout
    (folder / "model.sig").unlink()
    result = run(folder, "--key", theirs)
    assert result.exit_code == 1
    assert f"found {folder / 'model.sig'}: no such file" in result.stdout
