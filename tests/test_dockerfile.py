"""The Dockerfile, as far as it can be checked without Docker: files, stages, versions, extras, user."""

from __future__ import annotations

import json
import re
import tomllib
from pathlib import Path

import pytest
from packaging.specifiers import SpecifierSet

ROOT = Path(__file__).parents[1]
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
PROJECT = PYPROJECT["project"]
DOCKERFILE = (ROOT / "Dockerfile").read_text(encoding="utf-8")
IGNORED = (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
NOT_PACKAGED = {"pyproject.toml", "README.md", "LICENSE", "mappings"}


def instructions(text: str) -> list[tuple[str, str]]:
    """Return the instructions of a Dockerfile and their arguments, with joined lines."""
    lines = re.sub(r"\\\n\s*", "", text).splitlines()
    pairs = [line.partition(" ") for line in lines if line and not line.startswith("#")]
    return [(name, arguments) for name, _, arguments in pairs]


def values(name: str, text: str = DOCKERFILE) -> list[str]:
    return [arguments for instruction, arguments in instructions(text) if instruction == name]


def copied() -> set[str]:
    """Return the files and folders that are copied from the checkout."""
    copies = [line.split() for line in values("COPY") if not line.startswith("--from=")]
    return {source for *sources, _ in copies for source in sources}


def test_instructions_with_continued_lines_are_joined() -> None:
    text = "# a\nFROM b AS c\n\nRUN d && \\\n    e\n"
    assert instructions(text) == [("FROM", "b AS c"), ("RUN", "d && e")]


def test_every_copied_file_exists_and_is_not_ignored() -> None:
    assert [name for name in copied() if not (ROOT / name).exists()] == []
    assert "*" in IGNORED
    assert {line[1:] for line in IGNORED if line.startswith("!")} == copied()


def test_everything_that_a_wheel_contains_is_copied() -> None:
    wheel = PYPROJECT["tool"]["hatch"]["build"]["targets"]["wheel"]
    assert copied() == {*wheel["packages"], *wheel["force-include"], *NOT_PACKAGED}
    assert {PROJECT["readme"], *PROJECT["license-files"]} <= copied()


def test_stages_are_copied_from_by_name() -> None:
    stages = re.findall(r"^FROM \S+ AS (\w+)$", DOCKERFILE, re.MULTILINE)
    assert set(re.findall(r"--from=(\w+)", DOCKERFILE)) == set(stages) == {"build"}


@pytest.mark.parametrize("image", [line.split()[0] for line in values("FROM")])
def test_python_of_the_image_is_one_that_runs_mxnet(image: str) -> None:
    match = re.fullmatch(r"python:(3\.\d+)-slim", image)
    assert match
    assert match[1] in SpecifierSet(PROJECT["requires-python"])
    assert match[1] in SpecifierSet("<3.13")


def test_versions_and_extras_are_those_of_the_project() -> None:
    assert re.findall(r"torch==[\d.]+", DOCKERFILE) == PYPROJECT["dependency-groups"]["torch"]
    extras = re.findall(r"EXTRAS=([\w,]+)", DOCKERFILE)
    assert extras == ["gluon,report", "report"]
    assert {name for line in extras for name in line.split(",")} <= PROJECT["optional-dependencies"].keys()


def test_program_runs_as_another_user_than_root() -> None:
    last_stage = DOCKERFILE[DOCKERFILE.rindex("FROM ") :]
    (user,), (entrypoint,) = values("USER", last_stage), values("ENTRYPOINT", last_stage)
    assert f"useradd --create-home {user}" in last_stage
    (program,) = json.loads(entrypoint)
    assert program in PROJECT["scripts"]
