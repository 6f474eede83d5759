"""Optional dependencies: what the extras contain, and what happens without them."""

from __future__ import annotations

import importlib.metadata
import sys
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from packaging.requirements import Requirement
from typer.testing import CliRunner

from converter.cli.app import app
from converter.commands import publication
from converter.errors import PublicationError, ReportError
from converter.parity import report
from converter.testing import assert_parity

if TYPE_CHECKING:
    from collections.abc import Iterator

PROJECT = tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text(encoding="utf-8"))["project"]
EXTRAS: dict[str, list[str]] = PROJECT["optional-dependencies"]
MXNET_NUMPY = "1.26.4"  # the last numpy below 2, as mxnet requires


def requirements(*extras: str) -> Iterator[Requirement]:
    """Yield the requirements of extras; those of ``all`` name the others."""
    for extra in extras:
        for requirement in map(Requirement, EXTRAS[extra]):
            if requirement.name == PROJECT["name"]:
                yield from requirements(*sorted(requirement.extras))
            else:
                yield requirement


def accepts_numpy(requirement: str, version: str) -> bool:
    """Return whether a package's requirement on another package allows this version of numpy."""
    parsed = Requirement(requirement)
    applies = parsed.marker is None or parsed.marker.evaluate({"extra": ""})
    return parsed.name != "numpy" or not applies or version in parsed.specifier


def test_core_needs_no_report_library() -> None:
    core = {Requirement(line).name for line in PROJECT["dependencies"]}
    assert core.isdisjoint({"altair", "jinja2", "vl-convert-python", "opencv-python-headless"})


def test_all_contains_every_other_extra() -> None:
    others = set(map(str, requirements(*(EXTRAS.keys() - {"all"}))))
    assert set(map(str, requirements("all"))) == others


def test_report_extra_lists_the_modules_that_are_required() -> None:
    distributions = {Requirement(line).name for line in EXTRAS["report"]}
    assert distributions == {"altair", "jinja2", "vl-convert-python"}
    assert set(report.LIBRARIES) == {"altair", "jinja2", "vl_convert"}


def test_vision_excludes_opencv_that_needs_numpy_2() -> None:
    (opencv,) = (each for each in requirements("vision") if each.name == "opencv-python-headless")
    assert "4.11.0.86" in opencv.specifier
    assert not any(version in opencv.specifier for version in ("4.12.0.88", "4.14.0.94", "5.0.0.93"))


@pytest.mark.parametrize("required", sorted(set(map(str, requirements("vision", "train", "report")))))
def test_extra_accepts_the_numpy_of_mxnet(required: str) -> None:
    """Extras that are installed next to `gluon` must not need numpy 2."""
    requirement = Requirement(required)
    try:
        installed = importlib.metadata.distribution(requirement.name)
    except importlib.metadata.PackageNotFoundError:
        pytest.skip(f"{requirement.name} is not installed")
    if installed.version not in requirement.specifier:
        pytest.skip(f"{requirement.name} {installed.version} is not a version that the extra installs")
    assert [line for line in installed.requires or [] if not accepts_numpy(line, MXNET_NUMPY)] == []


@pytest.mark.parametrize(
    ("requirement", "accepted"),
    [
        ("numpy>=2; python_version >= '3.9'", False),
        ("numpy>=2; python_version < '3.9'", True),
        ("numpy>=2; extra == 'dev'", True),
        ("numpy>=1.23.5", True),
        ("scipy>=2", True),
    ],
)
def test_requirement_on_numpy_2_is_detected(requirement: str, *, accepted: bool) -> None:
    assert accepts_numpy(requirement, MXNET_NUMPY) is accepted


REPORT_MESSAGE = (
    r"an HTML report needs altair, which cannot be found\n"
    r'  try         pip install "gluon2torch\[report\]"$'
)


@pytest.fixture
def no_altair(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "altair", None)


@pytest.mark.usefixtures("no_altair")
def test_missing_report_library_raises_before_the_comparison(tmp_path: Path) -> None:
    with pytest.raises(ReportError, match=REPORT_MESSAGE):
        assert_parity("gluon_resnext50_32x4d", tmp_path / "missing.params", report_file=tmp_path / "a.html")


@pytest.mark.usefixtures("no_altair")
def test_parity_without_report_libraries_names_the_extra(tmp_path: Path) -> None:
    arguments = ["gluon_resnext50_32x4d", "--random", "0", "--report", str(tmp_path / "new" / "a.html")]
    result = CliRunner().invoke(app, ["parity", *arguments])
    assert (result.exit_code, result.stdout) == (1, "")
    assert 'pip install "gluon2torch[report]"' in result.stderr
    assert not (tmp_path / "new").exists()


def test_publishing_without_jinja2_names_the_extra(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "jinja2", None)
    message = (
        r'a model card needs jinja2, which cannot be found\n  try         pip install "gluon2torch\[hub\]"$'
    )
    with pytest.raises(PublicationError, match=message):
        publication.publish(tmp_path / "missing.safetensors", tmp_path / "published")
    assert list(tmp_path.iterdir()) == []
