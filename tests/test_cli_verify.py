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
from converter.networks.loading import ParamsSource
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
    """A copy that a test may spoil."""
    for path in (original, original.with_suffix(".json")):
        shutil.copy(path, tmp_path)
    return tmp_path / original.name


def run(*arguments: object) -> Result:
    return CliRunner().invoke(app, ["verify", *map(str, arguments)])


def test_what_holds_is_said_line_by_line_and_what_that_proves(file: Path) -> None:
    result = run(file)
    assert result.exit_code == 0
    assert f"holds    {file.name}  bytes: {file.stat().st_size}" in result.stdout
    assert f"verified {file}: all 8 checks hold" in result.stdout
    assert "proves   nothing changed since the hashes were written" in result.stdout
    assert "not      who wrote them: whoever changes a file can change the hash" in result.stdout
    assert "not      that the manifest's proof was ever run" in result.stdout


def test_what_fails_is_said_with_what_was_expected(file: Path) -> None:
    size = file.stat().st_size
    with file.open("ab") as stream:
        stream.write(b"x")
    result = run(file.parent)
    assert result.exit_code == 1
    assert f"fails    {file.name}  bytes: {size} expected, {size + 1} found" in result.stdout
    assert f"refused  {file.parent}: 4 of 6 checks fail" in result.stdout
    assert "proves" not in result.stdout


def test_programs_get_json_and_nothing_else(file: Path) -> None:
    result = run(file, "--json")
    found = json.loads(result.stdout)
    assert (result.exit_code, found["holds"], found["signed"]) == (0, True, False)
    assert found["checks"][1] == {
        "place": file.name,
        "what": "name",
        "expected": file.name,
        "found": file.name,
        "holds": True,
    }
    assert [text.partition(":")[0] for text in found["does_not_prove"]] == [
        "who wrote them",
        "that the manifest's proof was ever run",
    ]
    file.unlink()
    result = run(file.parent, "--json")
    assert (result.exit_code, result.stdout) == (1, "")
    assert "neither a converted file nor a published folder is in it" in result.stderr


def test_what_steers_a_terminal_is_not_printed(file: Path) -> None:
    (file.parent / "a\x1b[2Jb").touch()
    result = run(file.parent)
    assert "a\\x1b[2Jb" in result.stdout
    assert "\x1b" not in result.stdout


@pytest.mark.skipif(sys.platform in {"win32", "darwin"}, reason="there every name is text")
def test_names_that_are_no_text_are_json_all_the_same(file: Path) -> None:
    folder = file.parent / os.fsdecode(b"bad\xff")
    folder.mkdir()
    for path in (file, file.with_suffix(".json")):
        path.rename(folder / path.name)
    (folder / os.fsdecode(b"\xfe.txt")).touch()
    command = [sys.executable, "-m", "converter", "verify", str(folder), "--json"]
    said = subprocess.run(
        command, env={**os.environ, "PYTHONIOENCODING": "utf-8:strict"}, capture_output=True, check=True
    )
    found = json.loads(said.stdout)
    assert found["path"] == rf"{file.parent}/bad\xff"
    assert found["checks"][-1]["place"] == r"\xfe.txt"


def test_without_the_package_a_key_is_refused(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "model_signing", None)
    result = run(file, "--key", "ours.pub")
    assert result.exit_code == 1
    assert "signatures need model-signing: pip install 'gluon2torch[sign]'" in result.stderr


def test_a_folder_is_published_signed_and_verified(file: Path, tmp_path: Path) -> None:
    pytest.importorskip("model_signing")
    pytest.importorskip("cryptography")
    from test_signature import ec, write  # noqa: PLC0415 - skipped where the package is not

    ours, theirs = write(tmp_path, "ours", ec.generate_private_key(ec.SECP256R1()))
    folder = tmp_path / "published"
    options = ["--allow-random", "--allow-unproven", "--sign-key", str(ours), "--json"]
    published = CliRunner().invoke(app, ["publish", str(file), str(folder), *options])
    assert json.loads(published.stdout)[0]["signed"] is True
    result = run(folder, "--key", theirs)
    assert result.exit_code == 0
    assert "proves   the holder of the key signed exactly these files" in result.stdout
    assert "who wrote them" not in result.stdout
    (folder / "model.sig").unlink()
    result = run(folder, "--key", theirs)
    assert result.exit_code == 1
    assert "model.sig: no such file found" in result.stdout
