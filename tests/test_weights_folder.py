"""Every command that takes weights takes the folder that contains them, by one rule."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
from typer.testing import CliRunner

from converter.cli.app import app
from converter.commands import conversion, diff, parity_check, publication, reverse_conversion
from converter.errors import CheckpointError
from converter.parity.options import ParityOptions

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

NAME = "gluon_cifar_resnext29_32x4d"
UNPROVEN = ParityOptions("none")
PROGRAM = """
import json, sys
from typer.testing import CliRunner
from converter.cli.app import app
results = [(CliRunner().invoke(app, line), [*sys.modules]) for line in json.loads(sys.argv[1])]
print(json.dumps([(result.exit_code, result.stderr, imported) for result, imported in results]))
"""
NUMPY = ParityOptions("numpy", sizes=[32], dtypes=["float32"])


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with one converted network, as a ``.safetensors`` and a ``.pth``."""
    out = tmp_path_factory.mktemp("weights") / "out"
    conversion.convert(NAME, out, random=0, pth=True, options=UNPROVEN)
    return out


@pytest.fixture(scope="module")
def weights(folder: Path) -> Path:
    (path,) = folder.glob("*.safetensors")
    return path


@pytest.fixture(scope="module")
def two(weights: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with two networks."""
    both = tmp_path_factory.mktemp("two") / "both"
    both.mkdir()
    for name in (weights.name, f"other-{weights.name}"):
        shutil.copy(weights, both / name)
    return both


def publish(path: Path, out: Path) -> str:
    (published,) = publication.publish(path, out / "published", allow_random=True, allow_unproven=True)
    return published.converted.manifest.artifact.sha256


def to_gluon(path: Path, out: Path) -> str:
    return reverse_conversion.to_gluon(path, out / "back.params", options=UNPROVEN).sha1


def compare(path: Path, _: Path) -> str:
    result = parity_check.compare(NAME, random=0, weights=path, options=NUMPY)
    return f"{result.passed} {result.weights.file if result.weights else ''}"


def differ(path: Path, out: Path) -> str:
    other = out / "other.safetensors"
    shutil.copy(path if path.is_file() else next(path.glob("*.safetensors")), other)
    return str(diff.diff(path, other).identical)


COMMANDS: dict[str, Callable[[Path, Path], str]] = {
    "publish": publish,
    "to-gluon": to_gluon,
    "parity": compare,
    "diff": differ,
}


@pytest.mark.parametrize("command", COMMANDS.values(), ids=COMMANDS)
def test_folder_stands_for_its_file(
    command: Callable[[Path, Path], str], folder: Path, weights: Path, tmp_path: Path
) -> None:
    (tmp_path / "file").mkdir()
    (tmp_path / "folder").mkdir()
    assert command(folder, tmp_path / "folder") == command(weights, tmp_path / "file")


def test_published_folder_stands_for_its_file(weights: Path, tmp_path: Path) -> None:
    publish(weights, tmp_path)
    (tmp_path / "other").mkdir()
    assert to_gluon(tmp_path / "published", tmp_path) == to_gluon(weights, tmp_path / "other")
    assert diff.diff(tmp_path / "published", weights).identical


@pytest.mark.parametrize("command", COMMANDS.values(), ids=COMMANDS)
def test_folder_of_two_networks_is_refused(
    command: Callable[[Path, Path], str], two: Path, tmp_path: Path
) -> None:
    with pytest.raises(CheckpointError, match=rf"^two models in {two}/: name one, such as {two}/"):
        command(two, tmp_path)
    assert {path.name for path in tmp_path.iterdir()} <= {"both", "other.safetensors"}


REFUSED = {
    "to-gluon": ("both", "back.params"),
    "publish": ("both", "published"),
    "parity": (NAME, "--random", "0", "--reference", "numpy", "--weights", "both"),
    "diff": ("both", "both"),
    "predict": ("image.jpg", "--weights", "both"),
}


@pytest.fixture(scope="module")
def refusals(two: Path) -> dict[str, tuple[int, str, list[str]]]:
    """Run the commands in turn; return each one's status, its message, and the modules imported so far."""
    (two.parent / "image.jpg").touch()
    lines = [(command, *arguments) for command, arguments in REFUSED.items()]
    command = [sys.executable, "-c", PROGRAM, json.dumps(lines)]
    done = subprocess.check_output(command, text=True, cwd=two.parent)
    return dict(zip(REFUSED, json.loads(done), strict=True))


@pytest.mark.parametrize("command", REFUSED)
def test_folder_is_refused_before_torch_is_imported(
    command: str, refusals: dict[str, tuple[int, str, list[str]]]
) -> None:
    status, message, imported = refusals[command]
    assert status == 1
    assert "two models in" in message
    assert "converter.cli.app" in imported
    assert "torch" not in imported


@pytest.mark.parametrize(
    "arguments",
    [
        ("to-gluon", ".", "back.params"),
        ("publish", ".", "published"),
        ("parity", NAME, "--random", "0", "--reference", "numpy", "--weights", "."),
        ("diff", ".", "."),
    ],
    ids=lambda arguments: arguments[0],
)
def test_folder_without_weights_is_refused(
    arguments: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    result = CliRunner().invoke(app, arguments)
    assert (result.exit_code, result.stdout) == (1, "")
    assert "refused  .: expected a .safetensors or .pth file, found none" in result.stderr
    assert not list(tmp_path.iterdir())
