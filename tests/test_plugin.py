"""The pytest plugin: the fixture and the marker, in projects of their own."""

from __future__ import annotations

import importlib.metadata
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from safetensors.torch import save_file

from converter.networks import catalog, matching
from converter.parity import execution
from converter.testing import plugin

if TYPE_CHECKING:
    from collections.abc import Callable

    from converter.dtypes import Array
    from converter.networks.catalog import Model
    from converter.networks.mapping import Mapping

pytest_plugins = ["pytester"]

ROOT = Path(__file__).parents[1]
OPTIONS = 'reference="numpy", sizes=[(33, 47)], dtypes=["float32"]'
MARKED = f"""
import pytest

@pytest.mark.gluon_parity("tiny", "holiday.params", "weights", {OPTIONS})
def test_weights_are_gluons(gluon_parity):
    document = gluon_parity()
    assert (document["agrees"], document["weights"]["file"]) == (True, "tiny.safetensors")
"""


@pytest.fixture
def project(
    pytester: pytest.Pytester,
    tiny: Model,
    tiny_mapping: Mapping,
    tiny_params: dict[str, Array],
    write: Callable[[dict[str, Array]], Path],
    monkeypatch: pytest.MonkeyPatch,
) -> pytest.Pytester:
    """Return a project with converted weights; of installed plugins, it has none."""
    monkeypatch.setattr(catalog, "models", lambda: {tiny.name: tiny})
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
    write(tiny_params).rename(pytester.path / "holiday.params")
    state = matching.rename(tiny_mapping, tiny_params, tiny.shapes, "tiny")
    pytester.mkdir("weights")
    save_file(execution.build(state, tiny.config).state_dict(), pytester.path / "weights/tiny.safetensors")
    return pytester


def run(project: pytest.Pytester, *arguments: str) -> pytest.RunResult:
    """Run the tests of a project in this process, whose catalog has the tiny model."""
    return project.runpytest_inprocess("-p", plugin.__name__, *arguments)


def test_marked_test_compares_its_weights(project: pytest.Pytester) -> None:
    project.makepyfile(MARKED)
    run(project, "--strict-markers").assert_outcomes(passed=1)


def test_failure_shows_the_callers_line_and_the_layer(project: pytest.Pytester) -> None:
    changed = f"""
    import torch
    from safetensors.torch import load_file, save_file

    def test_weights_are_gluons(gluon_parity):
        state = load_file("weights/tiny.safetensors")
        save_file(state | {{"fc.bias": state["fc.bias"] + 1}}, "changed.safetensors")
        gluon_parity("tiny", "holiday.params", "changed.safetensors", {OPTIONS})
    """
    project.makepyfile(changed)
    result = run(project, "--tb=short")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*test_failure*.py:*: in test_weights_are_gluons", "*1 tensor differs"])
    result.stdout.no_fnmatch_line("*assertion.py*")


def test_argument_of_the_call_overrides_the_marker(project: pytest.Pytester) -> None:
    project.makepyfile(MARKED.replace("gluon_parity()", 'gluon_parity(dtypes=["float16"])'))
    result = run(project)
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*UsageError: `dtypes`: expected float64 or float32, found 'float16'"])


def test_marker_of_a_module_is_a_default(project: pytest.Pytester) -> None:
    module = f"""
    import pytest
    pytestmark = pytest.mark.gluon_parity("tiny", "holiday.params", {OPTIONS})

    def test_conversion(gluon_parity):
        assert gluon_parity()["weights"] is None

    def test_other():
        pass
    """
    project.makepyfile(module)
    run(project).assert_outcomes(passed=2)


def test_marked_test_without_the_fixture_is_refused(project: pytest.Pytester) -> None:
    project.makepyfile(MARKED.replace("gluons(gluon_parity)", "gluons()"))
    result = run(project)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(
        [
            "*::test_weights_are_gluons: has the marker gluon_parity without the fixture, so *",
            "*try         def test_weights_are_gluons(gluon_parity): gluon_parity()",
        ]
    )


def test_pytest_finds_the_plugin_by_its_entry_point() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    ((name, value),) = project["entry-points"]["pytest11"].items()
    assert importlib.metadata.EntryPoint(name, value, "pytest11").load() is plugin
