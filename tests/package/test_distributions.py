"""Wheel and sdist: their contents, and a conversion in an environment that holds nothing else.

Run by `nox -s package`. Builds from this checkout and installs from the network.
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
MODEL = "gluon_cifar_resnext29_32x4d"  # the smallest
FIRST_LEVEL = re.compile(r"^[^/]+/")
PROGRAMS = Path("Scripts" if os.name == "nt" else "bin")
BARE_ENVIRONMENT = {
    name: os.environ[name] for name in os.environ if not name.startswith(("PYTHON", "VIRTUAL_ENV"))
}


def tracked_files() -> set[str]:
    """Return the files of the checkout that git tracks or would track."""
    listing = subprocess.check_output(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"],  # noqa: S607 - the user's own git
        cwd=ROOT,
        text=True,
    )
    return {name for name in listing.splitlines() if (ROOT / name).is_file()}


def build(source: Path, out: Path, kind: str) -> Path:
    """Build a distribution from a folder of sources."""
    subprocess.check_call([sys.executable, "-m", "hatchling", "build", "-t", kind, "-d", out], cwd=source)
    (built,) = out.glob("*.whl" if kind == "wheel" else "*.tar.gz")
    return built


def sdist_files(sdist: Path) -> set[str]:
    with tarfile.open(sdist) as archive:
        return {FIRST_LEVEL.sub("", member.name) for member in archive if member.isfile()}


def wheel_files(wheel: Path) -> set[str]:
    """Return the files in a wheel, those of its metadata by their last names."""
    with zipfile.ZipFile(wheel) as archive:
        return {re.sub(r"^gluon2torch-[^/]+\.dist-info/", "", name) for name in archive.namelist()}


def expected_wheel_files(files: set[str]) -> set[str]:
    """Return the files that a wheel of these sources should hold."""
    packages = {name for name in files if name.startswith(("converter/", "resnext_torch/"))}
    mappings = {f"converter/{name}" for name in files if name.startswith("mappings/")}
    return packages | mappings | {"METADATA", "RECORD", "WHEEL", "entry_points.txt", "licenses/LICENSE"}


@pytest.fixture(scope="module")
def sdist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(ROOT, tmp_path_factory.mktemp("sdist"), "sdist")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(ROOT, tmp_path_factory.mktemp("wheel"), "wheel")


def test_sdist_holds_exactly_the_tracked_files(sdist: Path) -> None:
    assert sdist_files(sdist) == tracked_files() | {"PKG-INFO"}


def test_wheel_holds_exactly_packages_and_mapping_tables(wheel: Path) -> None:
    assert wheel_files(wheel) == expected_wheel_files(tracked_files())


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
def test_data_file_is_in_the_wheel(wheel: Path, name: str) -> None:
    assert name in wheel_files(wheel)


def test_wheel_offers_the_converter_of_published_weights(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        (name,) = (name for name in archive.namelist() if name.endswith(".dist-info/entry_points.txt"))
        entry_points = archive.read(name).decode()
    assert "[resnext_torch.pretrained]\ngluoncv = converter.commands.pretrained:provide\n" in entry_points


def extract(sdist: Path, folder: Path) -> Path:
    """Unpack an sdist; return the folder of its sources."""
    with tarfile.open(sdist) as archive:
        archive.extractall(folder)  # noqa: S202 - our own; Python before 3.11.4 has no `filter`
    (sources,) = folder.iterdir()
    return sources


def test_wheel_from_sdist_is_byte_identical(sdist: Path, wheel: Path, tmp_path: Path) -> None:
    again = build(extract(sdist, tmp_path / "sources"), tmp_path / "built", "wheel")
    assert again.read_bytes() == wheel.read_bytes()


def test_stray_file_and_missing_table_are_detected(sdist: Path, tmp_path: Path) -> None:
    sources = extract(sdist, tmp_path / "sources")
    (sources / "converter" / "litter.txt").touch()
    (sources / "mappings" / "senet.toml").unlink()
    files = wheel_files(build(sources, tmp_path / "built", "wheel"))
    assert files ^ expected_wheel_files(tracked_files()) == {
        "converter/litter.txt",
        "converter/mappings/senet.toml",
    }


def run_bare(folder: Path, *command: str | Path) -> str:
    """Run a program in its own folder, without this process's Python environment."""
    folder.mkdir(exist_ok=True)
    return subprocess.check_output(command, cwd=folder, env=BARE_ENVIRONMENT, text=True)


@pytest.mark.parametrize("kind", ["wheel", "sdist"])
def test_installed_distribution_converts_and_proves(
    kind: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    distribution: Path = request.getfixturevalue(kind)
    environment, job = tmp_path / "env", tmp_path / "job"
    programs, torch = environment / PROGRAMS, PYPROJECT["dependency-groups"]["torch"]
    uv = (sys.executable, "-m", "uv", "--quiet")
    run_bare(job, *uv, "venv", "--python", sys.executable, environment)
    run_bare(job, *uv, "pip", "install", "--python", programs / "python", distribution, *torch)
    printed = run_bare(job, programs / "convert", MODEL, "out/", "--random", "0")
    assert "layers against the built-in NumPy reference: max error " in printed
    artifact, manifest = sorted((job / "out").iterdir(), key=lambda path: path.suffix, reverse=True)
    assert artifact.name.startswith(f"{MODEL}.random-")
    assert json.loads(manifest.read_text())["artifact"]["file"] == artifact.name
    assert MODEL in run_bare(job, programs / "gluon2torch", "list", MODEL)
    named = run_bare(job, programs / "convert", "mobilenet0.25", "named/", "--random", "0")
    assert "GluonCV's mobilenet0.25, recorded" in named
    report = (programs / "gluon2torch", "parity", MODEL, "--random", "0", "--report", "a.html")
    done = subprocess.run(report, cwd=job, env=BARE_ENVIRONMENT, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (1, "")
    assert 'pip install "gluon2torch[report]"' in done.stderr
    (version,) = re.findall(r"^gluon2torch-(.+?)(?:-py3|\.tar)", distribution.name)
    assert run_bare(job, programs / "gluon2torch", "--version") == f"gluon2torch {version}\n"
    shutil.rmtree(environment)  # gigabytes
