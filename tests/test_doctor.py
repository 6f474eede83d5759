"""`doctor`: installed packages, references that run, folders."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import json
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from packaging.requirements import Requirement
from typer.testing import CliRunner

import converter
from converter.cli.app import app
from converter.commands import doctor
from converter.networks import catalog

if TYPE_CHECKING:
    from collections.abc import Callable

PROJECT = tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text(encoding="utf-8"))["project"]
WITHOUT_MXNET = """
import importlib.util, sys
importlib.util.find_spec = lambda name: None
import converter
report = converter.doctor()
assert report.packages
print(*sys.modules)
"""
LIBRARY = "OSError: libgomp.so.1: cannot open shared object file: No such file or directory"


@pytest.fixture(autouse=True)
def no_gluon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("GLUON_PYTHON", raising=False)
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)


@pytest.fixture
def interpreter(tmp_path: Path) -> Callable[[object], Path]:
    """Return a function that writes a program which answers as the child process with GluonCV does."""

    def write(reply: object) -> Path:
        program = tmp_path / "python"
        program.write_text(f"#!/bin/sh\ncat > \"$2/reply.json\" <<'end'\n{json.dumps(reply)}\nend\n")
        program.chmod(0o755)
        return program

    return write


def names(requirements: list[str]) -> set[str]:
    return {Requirement(requirement).name for requirement in requirements}


def test_tables_are_those_of_the_project() -> None:
    extras: dict[str, list[str]] = PROJECT["optional-dependencies"]
    assert set(doctor.REQUIRED) == names(PROJECT["dependencies"])
    assert {name: set(packages) for name, (_, packages) in doctor.EXTRAS.items()} == {
        name: names(requirements) for name, requirements in extras.items() if name != "all"
    }


def test_report_has_the_installed_versions() -> None:
    report = converter.doctor()
    assert (report.ready, report.executable, report.version) == (True, sys.executable, converter.__version__)
    assert report.verdict == "models can be converted, and proven against the built-in NumPy reference"
    versions = {package.name: package.version for package in report.packages}
    assert versions["torch"] == importlib.metadata.version("torch")
    gluon, numpy = report.references
    assert (gluon.runs, gluon.detail) == (False, f"mxnet and gluoncv not installed in {sys.executable}")
    assert (numpy.runs, numpy.versions) == (True, {"numpy": versions["numpy"]})


def test_missing_package_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "REQUIRED", ("numpy", "no-such-package"))
    result = CliRunner().invoke(app, ["doctor"])
    assert result.exit_code == 1
    first, *_, last = result.stdout.splitlines()
    assert first == "broken    not installed: no-such-package"
    assert last == "next      pip install no-such-package"


def test_missing_extra_is_reported_with_its_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "EXTRAS", {"sign": ("verify --key", ("no-such-package",))})
    result = CliRunner().invoke(app, ["doctor"])
    assert 'missing   sign: verify --key: pip install "gluon2torch[sign]"\n' in result.stdout
    assert result.exit_code == 0


def test_neither_torch_nor_numpy_is_imported() -> None:
    done = subprocess.run([sys.executable, "-c", WITHOUT_MXNET], capture_output=True, text=True, check=True)
    assert "converter.commands.doctor" in done.stdout.split()
    assert not {"torch", "numpy", "requests"} & set(done.stdout.split())


@pytest.mark.skipif(sys.platform == "win32", reason="needs a shell")
def test_gluon_is_started(interpreter: Callable[[object], Path], monkeypatch: pytest.MonkeyPatch) -> None:
    python = interpreter({"versions": {"mxnet": "1.9.1", "gluoncv": "0.10.5"}})
    monkeypatch.setenv("GLUON_PYTHON", str(python))
    report = converter.doctor()
    assert report.verdict == "models can be converted, and proven against GluonCV"
    assert report.references[0].versions == {"mxnet": "1.9.1", "gluoncv": "0.10.5"}
    assert report.references[0].detail == str(python)


@pytest.mark.skipif(sys.platform == "win32", reason="needs a shell")
def test_missing_system_library_is_named(
    interpreter: Callable[[object], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GLUON_PYTHON", str(interpreter({"unavailable": LIBRARY})))
    report = converter.doctor()
    assert not report.ready
    assert report.references[0].detail == f"{LIBRARY}; Debian: apt-get install libgomp1 libquadmath0"


def test_unusable_interpreter_makes_it_exit_1(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("GLUON_PYTHON", str(tmp_path / "python9"))
    result = CliRunner().invoke(app, ["doctor"])
    assert result.exit_code == 1
    assert f"absent    --reference gluon: {tmp_path}/python9 is not an executable\n" in result.stdout
    assert result.stdout.splitlines()[-1].endswith("--reference numpy")


def test_published_files_in_the_cache_are_counted(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("MXNET_HOME", str(tmp_path))
    assert not converter.doctor().folders[0].exists
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / catalog.find("gluon_resnet18_v1b").official_file).write_bytes(b"12345")
    (tmp_path / "models" / "other.params").write_bytes(b"1")
    cache = converter.doctor().folders[0]
    assert (cache.path, cache.files, cache.bytes) == (str(tmp_path / "models"), 1, 5)
    assert "1 published files, 0.0 MB" in CliRunner().invoke(app, ["doctor"]).stdout


@pytest.mark.skipif(sys.platform == "win32", reason="the home folder has another variable")
@pytest.mark.parametrize(
    ("variables", "place"),
    [
        ({}, "home/.cache/huggingface/hub"),
        ({"XDG_CACHE_HOME": "xdg"}, "xdg/huggingface/hub"),
        ({"XDG_CACHE_HOME": "xdg", "HF_HOME": "hf"}, "hf/hub"),
        ({"HF_HOME": "hf", "HF_HUB_CACHE": "cache"}, "cache"),
    ],
)
def test_cache_of_the_hub_is_where_its_client_has_it(
    variables: dict[str, str], place: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The rules of huggingface_hub's documentation."""
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    for name in ("XDG_CACHE_HOME", "HF_HOME", "HF_HUB_CACHE"):
        monkeypatch.delenv(name, raising=False)
    for name, folder in variables.items():
        monkeypatch.setenv(name, str(tmp_path / folder))
    (tmp_path / place).mkdir(parents=True)
    cache = next(folder for folder in converter.doctor().folders if folder.purpose == "the Hub's cache")
    assert (Path(cache.path), cache.exists) == (tmp_path / place, True)


def test_json_is_the_report() -> None:
    document = json.loads(CliRunner().invoke(app, ["doctor", "--json"]).stdout)
    assert document["ready"] is True
    assert [reference["name"] for reference in document["references"]] == ["gluon", "numpy"]
    assert {feature["name"] for feature in document["features"]} == doctor.EXTRAS.keys()
