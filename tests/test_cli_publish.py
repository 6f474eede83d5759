from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest
import typer
from typer.testing import CliRunner

from converter.cli.publish import publish
from converter.commands import conversion
from converter.errors import HubError
from converter.networks import catalog
from converter.networks.selection import ParamsSource
from converter.parity.options import ParityOptions
from converter.publishing import hub

if TYPE_CHECKING:
    from pathlib import Path

    from typer.testing import Result

NAME = "gluon_cifar_resnext29_32x4d"
ALLOWED = ("--allow-random", "--allow-unproven")
URL = "https://hub.example/org/tiny/commit/1234"

command = typer.Typer()
command.command()(publish)


@pytest.fixture(autouse=True)
def wide(monkeypatch: pytest.MonkeyPatch) -> None:
    """Print as in a wide terminal."""
    monkeypatch.setenv("COLUMNS", "200")


@pytest.fixture(scope="session")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    request = conversion.ConversionRequest(
        source=ParamsSource(catalog.find(NAME), seed=0),
        out=tmp_path_factory.mktemp("cli"),
        options=ParityOptions("none"),
    )
    return conversion.run(request).artifact


@dataclass
class Uploads:
    """Record uploads instead of making them; ``failure`` is the hub's error message, if any."""

    sent: list[tuple[Path, str, bool]]
    failure: str = ""

    def push(self, folder: Path, repo: str, *, private: bool) -> str:
        if self.failure:
            raise HubError(self.failure)
        self.sent.append((folder, repo, private))
        return URL


@pytest.fixture
def uploads(monkeypatch: pytest.MonkeyPatch) -> Uploads:
    recorder = Uploads([])
    monkeypatch.setattr(hub, "push", recorder.push)
    monkeypatch.setenv("HF_TOKEN", "hf_of_the_test")
    return recorder


def run(*arguments: object) -> Result:
    return CliRunner().invoke(command, [*map(str, arguments)])


def test_file_is_published_as_a_folder(file: Path, tmp_path: Path) -> None:
    result = run(file, tmp_path / "out", *ALLOWED)
    assert result.exit_code == 0
    assert f"published  {tmp_path / 'out'}: {NAME}: blocks 3-3-3" in result.stdout
    assert "warning    random weights, allowed by --allow-random; the model card says so" in result.stdout
    assert "warning    unproven weights, allowed by --allow-unproven; the model card says so" in result.stdout
    assert (tmp_path / "out" / "model.safetensors").read_bytes() == file.read_bytes()


def test_json_is_alone_on_stdout(file: Path, tmp_path: Path) -> None:
    result = run(file, tmp_path / "out", *ALLOWED, "--json")
    (document,) = json.loads(result.stdout)
    assert document["sha256"].startswith(file.stem[-8:])
    assert {key: value for key, value in document.items() if key != "sha256"} == {
        "model": NAME,
        "folder": str(tmp_path / "out"),
        "proven": False,
        "official": False,
        "random": True,
        "signed": False,
        "commit": None,
        "trained": False,
    }
    assert "published" in result.stderr


def test_random_weights_are_refused(file: Path, tmp_path: Path) -> None:
    result = run(file, tmp_path / "out", "--allow-unproven")
    assert result.exit_code == 1
    assert "refused" in result.stderr
    assert "random weights; --allow-random publishes them, marked as random" in result.stderr
    assert not (tmp_path / "out").exists()


def test_folder_is_replaced_only_with_force(file: Path, tmp_path: Path) -> None:
    assert [run(file, tmp_path / "out", *ALLOWED, *force).exit_code for force in ((), (), ("--force",))] == [
        0,
        1,
        0,
    ]


def test_licence_is_on_the_card(file: Path, tmp_path: Path) -> None:
    run(file, tmp_path / "out", *ALLOWED, "--license", "cc-by-nc-4.0")
    assert 'license: "cc-by-nc-4.0"' in (tmp_path / "out" / "README.md").read_text()


def test_push_uploads_the_folder(file: Path, tmp_path: Path, uploads: Uploads) -> None:
    result = run(file, tmp_path / "out", *ALLOWED, "--push", "org/tiny", "--private", "--json")
    assert uploads.sent == [(tmp_path / "out", "org/tiny", True)]
    assert json.loads(result.stdout)[0]["commit"] == URL


def test_nothing_is_uploaded_without_push(file: Path, tmp_path: Path, uploads: Uploads) -> None:
    assert run(file, tmp_path / "out", *ALLOWED).exit_code == 0
    assert uploads.sent == []


def test_hub_error_is_shown_and_the_folder_stays(file: Path, tmp_path: Path, uploads: Uploads) -> None:
    uploads.failure = "org/tiny: the upload failed: the Hub answered 403: no write access"
    result = run(file, tmp_path / "out", *ALLOWED, "--push", "org/tiny")
    assert result.exit_code == 1
    assert "refused  org/tiny: the upload failed: the Hub answered 403: no write access" in result.stderr
    assert (tmp_path / "out" / "model.safetensors").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["out"], "at least one converted file and the folder to create are required"),
        (["a", "b", "out", "--report", "r.html"], "require a single converted file"),
        (["a", "b", "out", "--push", "org/name"], "require a single converted file"),
        (["a", "out", "--push", "name"], "--push: expected ORG/NAME, found 'name'"),
        (["a", "out", "--private"], "--private requires --push"),
    ],
)
def test_usage_error_exits_2(arguments: list[str], message: str) -> None:
    result = run(*arguments)
    assert result.exit_code == 2
    assert message in result.stderr
