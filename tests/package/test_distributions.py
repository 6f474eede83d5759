"""What users install: a wheel and an sdist that hold what they should, and work where nothing else is.

`nox -s package` runs these. They build from this checkout, and install from the network.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
MODEL = "gluon_resnext101_64x4d"
FIRST_LEVEL = re.compile(r"^[^/]+/")
PROGRAMS = Path("Scripts" if os.name == "nt" else "bin")
BARE = {name: os.environ[name] for name in os.environ if not name.startswith(("PYTHON", "VIRTUAL_ENV"))}


def kept() -> set[str]:
    """Return the files of the checkout that git keeps, or would."""
    listing = subprocess.check_output(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"],  # noqa: S607 - the user's own
        cwd=ROOT,
        text=True,
    )
    return {name for name in listing.splitlines() if (ROOT / name).is_file()}


def build(source: Path, out: Path, kind: str) -> Path:
    """Build a distribution from a folder of sources."""
    subprocess.check_call([sys.executable, "-m", "hatchling", "build", "-t", kind, "-d", out], cwd=source)
    (built,) = out.glob("*.whl" if kind == "wheel" else "*.tar.gz")
    return built


def in_sdist(sdist: Path) -> set[str]:
    with tarfile.open(sdist) as archive:
        return {FIRST_LEVEL.sub("", member.name) for member in archive if member.isfile()}


def in_wheel(wheel: Path) -> set[str]:
    """Return the files in a wheel, its own metadata by their last names."""
    with zipfile.ZipFile(wheel) as archive:
        return {re.sub(r"^gluon2torch-[^/]+\.dist-info/", "", name) for name in archive.namelist()}


def installed_by(files: set[str]) -> set[str]:
    """Return what a wheel of these sources holds."""
    packages = {name for name in files if name.startswith(("converter/", "resnext_torch/"))}
    mappings = {f"converter/{name}" for name in files if name.startswith("mappings/")}
    return packages | mappings | {"METADATA", "RECORD", "WHEEL", "entry_points.txt", "licenses/LICENSE"}


@pytest.fixture(scope="module")
def sdist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(ROOT, tmp_path_factory.mktemp("sdist"), "sdist")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(ROOT, tmp_path_factory.mktemp("wheel"), "wheel")


def test_the_sdist_holds_what_git_keeps_and_no_litter(sdist: Path) -> None:
    assert in_sdist(sdist) == kept() | {"PKG-INFO"}


def test_the_wheel_holds_both_packages_with_their_tables_and_no_litter(wheel: Path) -> None:
    assert in_wheel(wheel) == installed_by(kept())


@pytest.mark.parametrize(
    "name",
    [
        "converter/mappings/resnext.toml",
        "converter/parity/templates/report.html",
        "converter/publishing/families.toml",
        "converter/publishing/templates/card.md",
        "converter/py.typed",
        "resnext_torch/py.typed",
        "licenses/LICENSE",
    ],
)
def test_what_is_no_module_is_in_the_wheel_too(wheel: Path, name: str) -> None:
    assert name in in_wheel(wheel)


def unpacked(sdist: Path, folder: Path) -> Path:
    """Unpack an sdist; return the folder of its sources."""
    with tarfile.open(sdist) as archive:
        archive.extractall(folder, filter="data")
    (sources,) = folder.iterdir()
    return sources


def test_the_sdist_builds_the_same_wheel_byte_for_byte(sdist: Path, wheel: Path, tmp_path: Path) -> None:
    again = build(unpacked(sdist, tmp_path / "sources"), tmp_path / "built", "wheel")
    assert again.read_bytes() == wheel.read_bytes()


def test_litter_and_a_missing_table_would_be_seen(sdist: Path, tmp_path: Path) -> None:
    sources = unpacked(sdist, tmp_path / "sources")
    (sources / "converter" / "litter.txt").touch()
    (sources / "mappings" / "senet.toml").unlink()
    found = in_wheel(build(sources, tmp_path / "built", "wheel"))
    assert found ^ installed_by(kept()) == {"converter/litter.txt", "converter/mappings/senet.toml"}


def called(folder: Path, *command: str | Path) -> str:
    """Run a program in a folder of its own, without what this process knows of Python."""
    folder.mkdir(exist_ok=True)
    return subprocess.check_output(command, cwd=folder, env=BARE, text=True)


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What both environments take their gigabytes from, by hard links."""
    return tmp_path_factory.mktemp("cache")


@pytest.mark.parametrize("kind", ["wheel", "sdist"])
def test_it_does_the_main_job_where_nothing_else_is(
    kind: str, request: pytest.FixtureRequest, cache: Path, tmp_path: Path
) -> None:
    distribution: Path = request.getfixturevalue(kind)
    environment, job = tmp_path / "env", tmp_path / "job"
    programs, torch = environment / PROGRAMS, PYPROJECT["dependency-groups"]["torch"]
    uv = (sys.executable, "-m", "uv", "--quiet", "--cache-dir", cache)
    called(job, *uv, "venv", "--python", sys.executable, environment)
    called(job, *uv, "pip", "install", "--python", programs / "python", distribution, *torch)
    printed = called(job, programs / "convert", MODEL, "out/", "--random", "0")
    assert "proven  against our numpy forward" in printed
    artifact, manifest = sorted((job / "out").iterdir(), key=lambda path: path.suffix, reverse=True)
    assert artifact.name.startswith(f"{MODEL}.random-")
    assert json.loads(manifest.read_text())["artifact"]["file"] == artifact.name
    assert MODEL in called(job, programs / "gluon2torch", "list")
    (version,) = re.findall(r"^gluon2torch-(.+?)(?:-py3|\.tar)", distribution.name)
    assert called(job, programs / "gluon2torch", "--version") == f"gluon2torch {version}\n"
    shutil.rmtree(environment)  # gigabytes
