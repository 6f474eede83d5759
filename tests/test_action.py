"""The GitHub Action: its inputs are options of the command, and its shell steps run."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import graph_files
import pytest
import yaml
from test_docs import command_options
from test_workflows import actions, unpinned

ROOT = Path(__file__).parents[1]
NAME = "gluon_cifar_resnext29_32x4d"
INPUT = re.compile(r"\$\{\{ inputs\.(\w+) \}\}")
NOT_OPTIONS = {"model", "artifact"}
BASH = shutil.which("bash") or ""


def load(path: str) -> dict[str, Any]:
    result: dict[str, Any] = yaml.safe_load((ROOT / path).read_text(encoding="utf-8"))
    return result


@pytest.fixture(scope="module")
def action() -> dict[str, Any]:
    return load("action.yml")


def step(action: dict[str, Any], name: str) -> dict[str, Any]:
    (result,) = (each for each in action["runs"]["steps"] if each.get("id") == name)
    assert result["shell"] == "bash"
    found: dict[str, Any] = result
    return found


@pytest.fixture
def runner(tmp_path: Path) -> dict[str, str]:
    """The variables of a runner that has the action's environment already."""
    program = tmp_path / "temp/gluon2torch/bin/gluon2torch"
    program.parent.mkdir(parents=True)
    program.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m converter "$@"\n')
    program.chmod(0o755)
    names = {"GITHUB_OUTPUT": "output", "GITHUB_STEP_SUMMARY": "summary.md", "RUNNER_TEMP": "temp"}
    paths = {name: str(tmp_path / file) for name, file in names.items()}
    return {**os.environ, **paths, "GITHUB_ACTIONS": "true", "PYTHONPATH": str(ROOT)}


def run(
    step: dict[str, Any], inputs: dict[str, str], runner: dict[str, str], folder: Path
) -> subprocess.CompletedProcess[str]:
    """Run a shell step as the runner does, with the inputs in place of expressions."""
    variables = {
        name: INPUT.sub(lambda match: inputs[match[1]], value) for name, value in step.get("env", {}).items()
    }
    command = [BASH, "--noprofile", "--norc", "-eo", "pipefail", "-c", step["run"]]
    environment = {**runner, **variables}
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)


def defaults(action: dict[str, Any], **given: str) -> dict[str, str]:
    return {name: given.get(name, each.get("default", "")) for name, each in action["inputs"].items()}


def test_inputs_are_options_of_the_command(action: dict[str, Any]) -> None:
    inputs = action["inputs"].keys()
    assert {f"--{name}" for name in inputs - NOT_OPTIONS} <= command_options("parity")
    text = (ROOT / "action.yml").read_text(encoding="utf-8")
    assert set(re.findall(r"inputs\.(\w+)", text)) == inputs
    assert [name for name, each in action["inputs"].items() if each.get("required")] == ["model"]


def test_shell_steps_take_inputs_from_variables(action: dict[str, Any]) -> None:
    """An expression in a script would run what an input contains."""
    scripts = [each["run"] for each in action["runs"]["steps"] if "run" in each]
    assert [script for script in scripts if "${{" in script] == []
    variables = step(action, "parity")["env"]
    assert {value for value in variables.values() if not INPUT.fullmatch(value)} == set()
    assert variables.keys() <= set(re.findall(r"[A-Z]+", step(action, "parity")["run"]))


def test_actions_are_pinned_by_commit() -> None:
    text = (ROOT / "action.yml").read_text(encoding="utf-8")
    assert len(actions(text)) == 3
    assert unpinned(text) == []


def test_installed_versions_are_those_of_the_project(action: dict[str, Any]) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    script = step(action, "install")["run"]
    assert project["dependency-groups"]["torch"] == re.findall(r"torch==[\d.]+", script)
    (extras,) = re.findall(r'"\$SOURCE\[(.+)\]"', script)
    assert set(extras.split(",")) <= project["project"]["optional-dependencies"].keys()


def test_our_workflow_runs_the_action_with_known_inputs(action: dict[str, Any]) -> None:
    steps = load(".github/workflows/ci.yml")["jobs"]["start"]["steps"]
    (used,) = (each for each in steps if each.get("uses") == "./")
    assert used["with"].keys() <= action["inputs"].keys()
    assert (ROOT / used["with"]["params"]).is_file()


def test_workflow_of_a_user_has_five_lines_and_known_inputs(action: dict[str, Any]) -> None:
    text = (ROOT / "docs/examples/parity.yml").read_text(encoding="utf-8")
    assert len([line for line in text.splitlines() if not line.startswith("#")]) == 5
    (used,) = load("docs/examples/parity.yml")["jobs"]["parity"]["steps"]
    assert used["with"].keys() <= action["inputs"].keys()
    assert used["uses"].startswith("OWNER/gluon2torch@")


@pytest.mark.skipif(not BASH, reason="needs bash")
@pytest.mark.parametrize(("checked_out", "checkout"), [(True, "false"), (False, "true")])
def test_checkout_is_left_out_if_a_step_did_it(
    action: dict[str, Any], runner: dict[str, str], tmp_path: Path, *, checked_out: bool, checkout: str
) -> None:
    if checked_out:
        (tmp_path / ".git").mkdir()
    assert run(step(action, "workspace"), {}, runner, tmp_path).returncode == 0
    assert (tmp_path / "output").read_text() == f"checkout={checkout}\n"


@pytest.mark.skipif(not BASH, reason="needs bash")
def test_parity_step_compares_and_writes_the_report(
    action: dict[str, Any], runner: dict[str, str], tmp_path: Path
) -> None:
    network = graph_files.small_network()
    graph, params = graph_files.save(tmp_path, network, graph_files.parameters(network))
    inputs = defaults(action, model=graph.name, params=params.name, reference="numpy", size="32")
    done = run(step(action, "parity"), inputs, runner, tmp_path)
    assert done.returncode == 0, done.stderr
    assert "<title>agrees: " in (tmp_path / "parity.html").read_text(encoding="utf-8")
    assert "float64 at 1x1x32x32" in (tmp_path / "summary.md").read_text(encoding="utf-8")
    assert "parity of face_net" in (tmp_path / "summary.md").read_text(encoding="utf-8")


@pytest.mark.skipif(not BASH, reason="needs bash")
def test_parity_step_fails_with_the_command(
    action: dict[str, Any], runner: dict[str, str], tmp_path: Path
) -> None:
    inputs = defaults(action, model=NAME, params="none.params", reference="numpy")
    done = run(step(action, "parity"), inputs, runner, tmp_path)
    assert (done.returncode, done.stdout) == (1, "")
    assert "none.params: No such file or directory" in done.stderr
