"""The GitHub workflows: pinned actions, sessions that exist, and a gate that needs every job."""

from __future__ import annotations

import ast
import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[1]
WORKFLOWS = sorted(ROOT.glob(".github/workflows/*.yml"))
USES = re.compile(r"^\s*- uses: (?P<action>.*)$|^\s*uses: (?P<step>.*)$", re.MULTILINE)
PINNED = re.compile(r"\./|[\w.-]+/[\w./-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+")
MATRIX = "${{ matrix.session }}"


def actions(text: str) -> list[str]:
    return [match["action"] or match["step"] for match in USES.finditer(text)]


def unpinned(text: str) -> list[str]:
    """Return the actions that no commit and version pin."""
    return [action for action in actions(text) if not PINNED.fullmatch(action)]


def jobs() -> dict[str, Any]:
    text = (ROOT / ".github/workflows/ci.yml").read_text(encoding="utf-8")
    result: dict[str, Any] = yaml.safe_load(text)["jobs"]
    return result


def sessions() -> set[str]:
    """Return the names of the functions in noxfile.py that are sessions."""
    tree = ast.parse((ROOT / "noxfile.py").read_text(encoding="utf-8"))
    functions = [node for node in tree.body if isinstance(node, ast.FunctionDef)]
    return {
        each.name for each in functions if any("nox.session" in ast.unparse(d) for d in each.decorator_list)
    }


def sessions_run_by(job: dict[str, Any]) -> set[str]:
    """Return the sessions that a job runs, expanded by its matrix."""
    commands = [step["run"] for step in job["steps"] if "run" in step]
    named = {name for command in commands for name in re.findall(r"nox -s (\$\{\{.*?\}\}|[\w-]+)", command)}
    if MATRIX in named:
        matrix = job["strategy"]["matrix"]
        named |= {*matrix["session"], *(each["session"] for each in matrix.get("include", []))}
    return named - {MATRIX}


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_actions_are_pinned_by_commit(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert actions(text)
    assert unpinned(text) == []


@pytest.mark.parametrize(
    "action", ["actions/checkout@v4", "actions/checkout@de0fac2e # v6.0.2", f"actions/checkout@{'a' * 40}"]
)
def test_unpinned_action_is_detected(action: str) -> None:
    assert unpinned(f"    steps:\n      - uses: {action}\n") == [action]
    assert unpinned(f"      - name: a\n        uses: {action}\n") == [action]


def test_gate_needs_every_other_job() -> None:
    gate = jobs()["gate"]
    assert set(gate["needs"]) == jobs().keys() - {"gate"}
    assert gate["if"] == "always()"  # a skipped gate would count as passed


def test_workflow_runs_every_default_session() -> None:
    run = {name for job in jobs().values() for name in sessions_run_by(job)}
    assert run <= sessions()
    (default,) = re.findall(r"nox\.options\.sessions = (\[.*\])", (ROOT / "noxfile.py").read_text())
    assert set(ast.literal_eval(default)) <= run


def test_portable_sessions_run_on_three_systems() -> None:
    matrix = jobs()["portable"]["strategy"]["matrix"]
    assert matrix["os"] == ["ubuntu-latest", "macos-latest", "windows-latest"]
    assert matrix["session"] == ["reproducible", "package"]


def test_tokens_can_only_read() -> None:
    for path in WORKFLOWS:
        workflow = yaml.safe_load(path.read_text(encoding="utf-8"))
        assert workflow["permissions"] == {"contents": "read"}, path


def test_pre_commit_pins_match_the_lint_session() -> None:
    config = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text(encoding="utf-8"))
    hooks = [hook for repo in config["repos"] for hook in repo["hooks"]]
    pins = {pin for hook in hooks for pin in hook["additional_dependencies"]}
    groups = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["dependency-groups"]
    assert {pin for pin in pins if "==" not in pin} == set()
    assert pins <= {*groups["lint"], *groups["types"]}


@pytest.mark.parametrize(
    "path", sorted(ROOT.glob(".github/ISSUE_TEMPLATE/*.yml")), ids=lambda path: path.name
)
def test_issue_forms_have_what_github_requires(path: Path) -> None:
    form = yaml.safe_load(path.read_text(encoding="utf-8"))
    assert {"name", "description", "body"} <= form.keys()
    identifiers = [field["id"] for field in form["body"] if field["type"] != "markdown"]
    assert len(set(identifiers)) == len(identifiers) > 0
    assert all(field["attributes"]["label"] for field in form["body"] if field["type"] != "markdown")
