"""The tests' MXNet programs run in forks as they run in processes of their own."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import generated_modules
import mxnet_forks
import numpy as np
import pytest
from graph_building import Network, variable

from converter.references import symbol

if TYPE_CHECKING:
    from converter.dtypes import Array
    from converter.graphs.graph import Graph

FAILS = "import sys\nsys.stdout.write('out of order')\nsys.exit(3)\n"
KILLED = "import os, signal\nos.kill(os.getpid(), signal.SIGKILL)\n"
WAITS = "import os, sys, time\nos.read(0, 1)\nopen(sys.argv[1], 'w').close()\ntime.sleep(600)\n"


def program(folder: Path, text: str) -> Path:
    path = folder / "program.py"
    path.write_text(text)
    return path


def network() -> tuple[Graph, dict[str, Array]]:
    """Return a network that ends in SoftmaxOutput, which oneDNN computes otherwise than MXNet."""
    net = Network()
    net.nodes.append(variable("softmax_label"))
    x = net.dense("fc1", net.norm("bn0", net.conv("conv0", "data", 3, 8), 8), 8 * 12 * 10, 5)
    net.apply("SoftmaxOutput", "softmax", x, "softmax_label")
    return net.build("softmax"), generated_modules.random_parameters(net.shapes)


def outputs(python: Path) -> dict[str, bytes]:
    """Return the output of every node in both precisions."""
    graph, parameters = network()
    images = np.random.Generator(np.random.PCG64(1)).normal(0, 1, (2, 3, 12, 10))
    nodes = [index for index, node in enumerate(graph.nodes) if node.operator != "null"]
    request = symbol.SymbolRequest(
        graph=graph,
        parameters=parameters,
        heads=graph.outputs,
        compared=graph.outputs,
        nodes=nodes,
        runs=[(dtype, {"data": images.astype(dtype)}) for dtype in ("float64", "float32")],
    )
    found: dict[str, bytes] = {}
    with symbol.start(python, request) as run:
        for number in run.order:
            for node, output, array in run.outputs(number):
                found[f"{number}-{node}-{output}"] = array.tobytes()
    return found


def test_fork_computes_what_a_new_process_computes(tmp_path: Path) -> None:
    new = tmp_path / "python"
    new.write_text(f'#!/bin/sh\nexec {sys.executable} "$@"\n')
    new.chmod(0o755)
    computed = outputs(new)
    assert len(computed) == 8
    assert outputs(Path(sys.executable)) == computed


def test_failure_of_a_program_is_an_error_with_its_output(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(subprocess.CalledProcessError, match="status 3"):
        mxnet_forks.run(program(tmp_path, FAILS))
    assert capsys.readouterr().err == "out of order"


def test_killed_program_has_its_signal_as_status(tmp_path: Path) -> None:
    assert mxnet_forks.status(program(tmp_path, KILLED)) == -9


def test_standard_input_ends_with_the_parents_end_and_killing_is_immediate(tmp_path: Path) -> None:
    ended = tmp_path / "ended"
    fork = mxnet_forks.start([str(program(tmp_path, WAITS)), str(ended)], tmp_path / "log", {})
    with pytest.raises(subprocess.TimeoutExpired):
        fork.wait(0.2)
    assert not ended.exists()
    fork.stdin.close()
    while not ended.exists():
        assert fork.returncode is None
        time.sleep(0.01)
    fork.kill()
    assert fork.returncode == -9
