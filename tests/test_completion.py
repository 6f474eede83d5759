"""Completion in the shell, by typer's own mechanism: names of models, in both programs."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from converter.networks import catalog

PROGRAM = """
import sys
from converter import __main__
try:
    __main__.{program}()
finally:
    print(*sys.modules, file=sys.stderr)
"""
RESNEXT = [
    *("gluon_resnext50_32x4d", "gluon_resnext101_32x4d"),
    *("gluon_resnext101_64x4d", "gluon_resnext101e_64x4d"),
]


def complete(line: str, shell: str = "bash") -> subprocess.CompletedProcess[str]:
    """Complete the last word of a line; imported modules are on stderr."""
    program = line.split(maxsplit=1)[0]
    variables = {
        f"_{program.upper()}_COMPLETE": f"complete_{shell}",
        "COMP_WORDS": line,
        "COMP_CWORD": str(len(line.split(" ")) - 1),
        "_TYPER_COMPLETE_ARGS": line,
        "_TYPER_COMPLETE_FISH_ACTION": "get-args",
    }
    return subprocess.run(
        [sys.executable, "-c", PROGRAM.format(program=program)],
        env=os.environ | variables,
        capture_output=True,
        text=True,
        check=False,
    )


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
    assert complete(line).stdout.split() == RESNEXT


@pytest.mark.parametrize("shell", ["zsh", "fish"])
def test_other_shells_complete_the_same_names(shell: str) -> None:
    answer = complete("convert gluon_resnext", shell).stdout
    assert [name for name in catalog.models() if name in answer] == RESNEXT


def test_completion_imports_neither_torch_nor_numpy() -> None:
    imported = set(complete("convert gluon_resnext").stderr.split())
    assert "converter.networks.catalog" in imported
    assert not {"torch", "numpy", "mxnet", "requests"} & imported


def test_files_are_left_to_the_shell() -> None:
    assert complete("convert gluon_resnext50_32x4d ou").stdout.strip() == ""
    assert complete("convert model-sym").stdout.strip() == ""


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


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("gluon2torch list squeeze", ["squeezenet1.0", "squeezenet1.1"]),
        ("gluon2torch list --family yolo", ["yolo_v3"]),
        ("gluon2torch list --family x", ["xception"]),
        ("gluon2torch list --task p", ["pose"]),
    ],
)
def test_list_completes_gluoncvs_models_families_and_tasks(line: str, words: list[str]) -> None:
    done = complete(line)
    assert done.stdout.split() == words
    assert not {"torch", "numpy", "mxnet", "requests"} & set(done.stderr.split())


def test_auto_is_completed_where_it_is_a_name() -> None:
    assert complete("convert a").stdout.split() == ["auto"]
    assert "auto" not in complete("gluon2torch list a").stdout.split()


@pytest.mark.parametrize("program", ["convert", "gluon2torch"])
def test_both_programs_install_completion(program: str) -> None:
    module = f"from converter import __main__; __main__.{program}()"
    command = [sys.executable, "-c", module, "--show-completion", "bash"]
    environment = os.environ | {"_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION": "1"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert f"_{program.upper()}_COMPLETE=complete_bash" in done.stdout
