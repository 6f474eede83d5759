"""Without torch, commands that need none work, and the others name the package to install."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import graph_files
import pytest
import torch

from converter.errors import TorchUnavailableError
from converter.formats import torch_package

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[1]
NAME = "gluon_cifar_resnext29_32x4d"
FILE = f"out/{NAME}.random-bcf53d5e.safetensors"
BLOCK = 'import sys\nsys.modules["torch"] = None\n'  # importing it fails, also in child processes
PROGRAM = """
import json, sys
from typer.testing import CliRunner
from converter.cli.app import app
results = []
for line in json.load(sys.stdin):
    result = CliRunner().invoke(app, line.split())
    known = result.exception is None or isinstance(result.exception, SystemExit)
    results.append([result.exit_code if known else repr(result.exception), result.output])
print(json.dumps(results))
"""
RANDOM = f"convert {NAME} out --random 0 --reference none"
WORKING = [
    "list",
    f"summary {NAME}",
    RANDOM,
    f"inspect {FILE}",
    "verify out",
    f"to-gluon {FILE} back.params --reference none",
    "inspect back.params",
    f"diff back.params {FILE}",
    f"publish {FILE} published --allow-random --allow-unproven",
    "verify published",
    "inspect face-symbol.json",
    "convert face-symbol.json graph --params face.params --reference none",
    f"convert-zoo zoo --models {NAME} --random 0 --reference none",
]
PROOF = "a proof needs torch"
REFUSED = {
    f"convert {NAME} other --random 0": PROOF,
    "convert face-symbol.json other --params face.params": PROOF,
    f"to-gluon {FILE} other.params --reference numpy": PROOF,
    f"convert-zoo failed --models {NAME} --random 0": PROOF,
    f"parity {NAME} --random 0": "a comparison needs torch",
    "parity face-symbol.json --params face.params": "a comparison needs torch",
    f"convert {NAME} other --random 0 --reference none --format pth": "--format pth needs torch",
    f"convert {NAME} other --random 0 --reference none --format pt2": "--format pt2 needs torch",
    f"convert {NAME} other --random 0 --reference none --dtype float16": "a rounding --dtype needs torch",
    "inspect a.pth": "a.pth: a .pth needs torch",
    f"diff a.pth {FILE}": "a.pth: a .pth needs torch",
    "to-gluon a.pth other.params --reference none": "a.pth: a .pth needs torch",
    "predict image.jpg --weights out": "a classifier needs torch",
    "evaluate images --weights out": "a classifier needs torch",
}


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, tuple[int | str, str]]]:
    """Run every command in one process; yield the exit status and the output of each."""
    folder, blocked = (tmp_path_factory.mktemp(name) for name in ("work", "blocked"))
    (blocked / "sitecustomize.py").write_text(BLOCK)
    network = graph_files.small_network()
    graph, params = graph_files.save(folder, network, graph_files.parameters(network))
    graph.rename(folder / "face-symbol.json")
    params.rename(folder / "face.params")
    torch.save({"fc.weight": torch.zeros(2, 3)}, folder / "a.pth")
    for name in ("image.jpg", "images/a/image.jpg"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes((ROOT / "examples/image.jpg").read_bytes())
    commands = [*WORKING, *REFUSED]
    path = os.pathsep.join([str(blocked), str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        input=json.dumps(commands),
        cwd=folder,
        env={**os.environ, "PYTHONPATH": path, "COLUMNS": "200"},
        check=True,
        capture_output=True,
        text=True,
    )
    outcomes = zip(commands, map(tuple, json.loads(done.stdout)), strict=True)
    yield dict(outcomes)
    assert [path for path in folder.rglob("other*/**/*") if path.is_file()] == []
    assert not (folder / "other.params").exists()


@pytest.mark.parametrize("command", WORKING)
def test_command_without_a_network_works(command: str, results: dict[str, tuple[int | str, str]]) -> None:
    status, output = results[command]
    assert status == 0, output


@pytest.mark.parametrize("command", REFUSED)
def test_command_that_runs_a_network_names_the_package(
    command: str, results: dict[str, tuple[int | str, str]]
) -> None:
    status, output = results[command]
    assert status == 1, output
    assert REFUSED[command] in output
    assert output.count("pip install torch") == 1
    assert "Traceback" not in output


def test_missing_torch_is_detected_without_importing_it(monkeypatch: pytest.MonkeyPatch) -> None:
    torch_package.require_torch("a proof")
    monkeypatch.setitem(sys.modules, "torch", None)
    assert find_spec("torch") is None
    message = r"^a proof needs torch, which cannot be found\n  try         pip install torch; run less$"
    with pytest.raises(TorchUnavailableError, match=message):
        torch_package.require_torch("a proof", "run less")
