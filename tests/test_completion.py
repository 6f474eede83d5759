"""Completion in the shell, by typer's own mechanism: names of models, in both programs."""

from __future__ import annotations

import itertools
import json
import os
import subprocess
import sys

import pytest
from typer.testing import CliRunner

from converter.cli.app import app, convert_app
from converter.networks import catalog

PROGRAM = """
import contextlib, json, os, sys
from converter import __main__
for program, variables in json.loads(sys.argv[1]):
    os.environ.update(variables)
    with contextlib.suppress(SystemExit):
        getattr(__main__, program)()
print(*sys.modules, file=sys.stderr)
"""
APPS = {"convert": convert_app, "gluon2torch": app}
RESNEXT = [
    *("gluon_resnext50_32x4d", "gluon_resnext101_32x4d"),
    *("gluon_resnext101_64x4d", "gluon_resnext101e_64x4d"),
]
LISTED = {
    "gluon2torch list squeeze": ["squeezenet1.0", "squeezenet1.1"],
    "gluon2torch list --family yolo": ["yolo_v3"],
    "gluon2torch list --family x": ["xception"],
    "gluon2torch list --task p": ["pose"],
}


def request(line: str, shell: str = "bash") -> tuple[str, dict[str, str]]:
    """Return the program of a line, and the variables by which a shell completes the last word."""
    program = line.split(maxsplit=1)[0]
    return program, {
        f"_{program.upper()}_COMPLETE": f"complete_{shell}",
        "COMP_WORDS": line,
        "COMP_CWORD": str(len(line.split(" ")) - 1),
        "_TYPER_COMPLETE_ARGS": line,
        "_TYPER_COMPLETE_FISH_ACTION": "get-args",
    }


def complete(line: str, shell: str = "bash") -> str:
    """Complete the last word of a line."""
    program, variables = request(line, shell)
    result = CliRunner().invoke(APPS[program], [], env=variables, prog_name=program)
    assert result.exit_code == 0, result.exception
    return result.stdout


def complete_in_one_process(*lines: str) -> tuple[list[str], set[str]]:
    """Complete the last word of each line by the programs' entry points; return the words and the imports."""
    command = [sys.executable, "-c", PROGRAM, json.dumps([*map(request, lines)])]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return done.stdout.split(), set(done.stderr.split())


@pytest.mark.parametrize(
    "line",
    [
        "convert gluon_resnext",
        "gluon2torch convert gluon_resnext",
        "gluon2torch parity gluon_resnext",
        "gluon2torch list gluon_resnext",
        "gluon2torch convert-zoo out --models gluon_resnext",
        "gluon2torch to-gluon a.pth out --model gluon_resnext",
    ],
)
def test_names_of_models_are_completed(line: str) -> None:
    assert complete(line).split() == RESNEXT


@pytest.mark.parametrize("shell", ["zsh", "fish"])
def test_other_shells_complete_the_same_names(shell: str) -> None:
    answer = complete("convert gluon_resnext", shell)
    assert [name for name in catalog.models() if name in answer] == RESNEXT


def test_completion_imports_neither_torch_nor_numpy() -> None:
    words, imported = complete_in_one_process("convert gluon_resnext", *LISTED)
    assert words == [*RESNEXT, *itertools.chain.from_iterable(LISTED.values())]
    assert "converter.networks.catalog" in imported
    assert not {"torch", "numpy", "mxnet", "requests"} & imported


def test_files_are_left_to_the_shell() -> None:
    assert complete("convert gluon_resnext50_32x4d ou").strip() == ""
    assert complete("convert model-sym").strip() == ""


@pytest.mark.parametrize(
    ("prefix", "names"),
    [
        ("gluon_senet", ["gluon_senet154", "gluon_senet154e"]),
        ("senet", ["senet_154", "senet_154e"]),
        ("x", []),
    ],
)
def test_gluoncvs_names_complete_if_no_own_name_does(prefix: str, names: list[str]) -> None:
    assert catalog.completions(prefix) == names


@pytest.mark.parametrize(("line", "words"), LISTED.items())
def test_list_completes_gluoncvs_models_families_and_tasks(line: str, words: list[str]) -> None:
    assert complete(line).split() == words


def test_auto_is_completed_where_it_is_a_name() -> None:
    assert complete("convert a").split() == ["auto"]
    assert "auto" not in complete("gluon2torch list a").split()


@pytest.mark.parametrize("program", ["convert", "gluon2torch"])
def test_both_programs_install_completion(program: str) -> None:
    module = f"from converter import __main__; __main__.{program}()"
    command = [sys.executable, "-c", module, "--show-completion", "bash"]
    environment = os.environ | {"_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION": "1"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert f"_{program.upper()}_COMPLETE=complete_bash" in done.stdout
