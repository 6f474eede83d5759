"""MXNet as the reference: a child process runs GluonCV's network of a name, or a graph.

It is started early and asked for its outputs later. It leaves them in a temporary folder, from where they are
mapped into memory one by one.
"""

from __future__ import annotations

import contextlib
import importlib.util
import json
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from converter.errors import ReferenceFailedError, ReferenceUnavailableError
from converter.graphs.operators import NO_FLOAT64
from converter.references import LayerOutput
from converter.storage import disk

if TYPE_CHECKING:
    from collections.abc import Iterator

    from converter.graphs.graph import Graph, Settings
    from converter.networks.catalog import Model
    from converter.networks.wiring import Wiring
    from converter.references.probes import Probe

NAME = "gluon"
CHILD = Path(__file__).with_name("gluon_child.py")
VERSIONED = ("gluoncv", "mxnet", "numpy", "python")
SAID = "said.txt"
SYMBOL = "symbol.json"  # the graph, in the child's folder
ROOM = 1 << 16  # bytes; where fewer are free, the disk is full
PATIENCE_SECONDS = 1800  # for one more output: the slowest layer at 2048 pixels takes a minute, in float64
SAID_CHARACTERS = 2000  # of the child's last words, in an error


@dataclass(frozen=True, slots=True, kw_only=True)
class GluonRequest:
    """What MXNet shall run.

    Attributes:
        layers: the layers whose outputs will be asked for, by structural names.
        document: what to run, as the child reads it.
        symbol: the graph, None for GluonCV's own network.
        settings: the hyper-parameters of the layers of a graph; the child tells those of GluonCV's network.
    """

    layers: tuple[str, ...]
    document: dict[str, Any]
    symbol: bytes | None = None
    settings: tuple[Settings, ...] = ()


@dataclass(frozen=True, slots=True)
class GluonRun:
    """MXNet at work in ``folder``."""

    process: subprocess.Popen[bytes]
    folder: Path
    request: GluonRequest
    probes: tuple[Probe, ...]
    name: str = NAME

    def outputs(self, number: int) -> Iterator[LayerOutput]:
        """Wait for the child, and return the layers' outputs for one probe.

        Errors: ``ReferenceUnavailableError`` where MXNet cannot be imported, fails, or answers nonsense.
        """
        with self._reply() as reply:
            layers = self.request.layers
            settings = self.request.settings or [dict(found) for found in reply["settings"]]
            files = [self.folder / f"{number}-{layer}.npy" for layer in range(len(layers))]
            arrays = [np.load(file, mmap_mode="r") for file in files]
            found = [LayerOutput(*triple) for triple in zip(layers, arrays, settings, strict=True)]
        return iter(found)

    def versions(self) -> dict[str, str]:
        """Wait for the child, and return the versions of what computed the outputs.

        Errors: as of ``outputs``.
        """
        with self._reply() as reply:
            return {name: str(reply["versions"][name]) for name in VERSIONED}

    @contextlib.contextmanager
    def _reply(self) -> Iterator[dict[str, Any]]:
        status = self._wait()
        try:
            reply = json.loads((self.folder / "reply.json").read_text(encoding="utf-8"))
            if "unavailable" in reply:
                raise unavailable(reply["unavailable"])
            if status != 0:
                raise ReferenceFailedError(str(unavailable(f"it ended with status {status}")))
            yield reply
        except (OSError, ValueError, KeyError, TypeError, AttributeError, EOFError) as error:
            if shutil.disk_usage(self.folder).free < ROOM:  # then its last words found none either
                raise ReferenceFailedError(f"{self.folder}: GluonCV's outputs filled the disk") from error
            said = (self.folder / SAID).read_text(errors="replace")[-SAID_CHARACTERS:]
            failed = unavailable(f"it ended with status {status} and said:\n{said or '(nothing)'}")
            raise ReferenceFailedError(str(failed)) from error

    def _wait(self) -> int:
        """Return the child's exit status; any run takes as long as it needs, if it gets on.

        Errors: ``ReferenceFailedError`` where no output comes for too long.
        """
        outputs = -1
        while True:
            try:
                return self.process.wait(PATIENCE_SECONDS)
            except subprocess.TimeoutExpired:
                before, outputs = outputs, len(list(self.folder.glob("*.npy")))
                if outputs == before:
                    reason = f"it gave no output for {PATIENCE_SECONDS} seconds"
                    raise ReferenceFailedError(str(unavailable(reason))) from None


def find_python(chosen: Path | None) -> Path:
    """Return the interpreter that shall run GluonCV: the one chosen, by path or name, or our own.

    Errors: ``ReferenceUnavailableError`` where it does not exist, or ours has no MXNet.
    """
    if chosen is not None:
        program = shutil.which(chosen)
        if program is None:
            raise unavailable(f"{chosen} is not an executable")
        return Path(program)
    absent = [name for name in ("mxnet", "gluoncv") if importlib.util.find_spec(name) is None]
    if absent:
        raise unavailable(f"{' and '.join(absent)} not installed for {sys.executable}")
    return Path(sys.executable)


def require_float64(graph: Graph) -> None:
    """Refuse a graph of operators that MXNet does not compute in float64, or not with its precision.

    Raises:
        ReferenceUnavailableError: with the operators' names.
    """
    operators = sorted({node.operator for node in graph.nodes} & NO_FLOAT64)
    if operators:
        raise ReferenceUnavailableError(
            f"{graph.file}: MXNet does not compute {' and '.join(operators)} in float64\n"
            "  --reference numpy       our own forward, wired as the graph is\n"
            "  --proof-dtype float32   MXNet, in float32 only"
        )


def network_request(model: Model, params: Path, layers: tuple[str, ...]) -> GluonRequest:
    """Ask for GluonCV's own network; ``params`` is a file that it can load."""
    document = {
        "model": model.entry.gluon,
        "classes": model.config.num_classes,
        "params": str(params.resolve()),
        "layers": layers,
    }
    return GluonRequest(layers=layers, document=document)


def graph_request(
    wiring: Wiring, params: Path, names: dict[str, str], layers: tuple[str, ...]
) -> GluonRequest:
    """Ask for a graph, cut off after the last layer.

    Args:
        wiring: the graph.
        params: a file that MXNet can load.
        names: the names in that file by structural names.
        layers: the layers, by structural names; the last is where the graph is cut off.
    """
    nodes = wiring.graph.nodes
    document = {
        "symbol": SYMBOL,
        "data": wiring.data,
        "params": str(params.resolve()),
        "variables": {variable: names[tensor] for tensor, variable in wiring.variables.items()},
        "nodes": [[wiring.nodes[layer], nodes[wiring.nodes[layer]].name] for layer in layers],
    }
    settings = tuple(wiring.settings[layer] for layer in layers)
    return GluonRequest(layers=layers, document=document, symbol=wiring.graph.content, settings=settings)


@contextlib.contextmanager
def start(python: Path, request: GluonRequest, probes: tuple[Probe, ...]) -> Iterator[GluonRun]:
    """Start MXNet's forward for all probes; on leaving the child and its outputs are gone.

    Args:
        python: the interpreter that has MXNet and GluonCV.
        request: what to run.
        probes: the inputs.
    """
    with disk.temp_dir() as folder:
        with disk.wrap_os_error(folder):
            if request.symbol is not None:
                (folder / SYMBOL).write_bytes(request.symbol)
            _write_request(folder, request.document, probes)
            said = (folder / SAID).open("wb")
        with said, _startable(python):
            process = subprocess.Popen(  # noqa: S603 - the interpreter is the user's choice
                [python, CHILD, folder],
                stdin=subprocess.PIPE,  # never written to: when it ends we are dead, and the child goes
                stdout=said,
                stderr=said,
                # Warnings that the user makes errors would stop packages as old as these.
                env={name: value for name, value in os.environ.items() if name != "PYTHONWARNINGS"},
            )
        try:
            yield GluonRun(process, folder, request, probes)
        finally:
            process.kill()
            process.communicate()


@contextlib.contextmanager
def _startable(python: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise unavailable(f"{python} cannot be started: {error.strerror or error}") from error


def unavailable(reason: str) -> ReferenceUnavailableError:
    """Say why GluonCV cannot run, and what to do."""
    return ReferenceUnavailableError(
        f"no proof: GluonCV cannot run here: {reason}\n"
        "Three ways out:\n"
        "  --reference numpy           our own forward of the same parameters, which needs no MXNet\n"
        "  an interpreter with MXNet   our extra `gluon`: mxnet==1.9.1 and gluoncv==0.10.5.post0, on Linux\n"
        "                              x86-64; another Python: --gluon-python PATH, GLUON_PYTHON=PATH\n"
        "  convert --reference none    write the file without a proof; its manifest says so"
    )


def _write_request(folder: Path, request: dict[str, Any], probes: tuple[Probe, ...]) -> None:
    runs = [{"dtype": probe.dtype, "input": f"input-{number}.npy"} for number, probe in enumerate(probes)]
    for run, probe in zip(runs, probes, strict=True):
        np.save(folder / run["input"], probe.input())
    (folder / "request.json").write_text(json.dumps({**request, "runs": runs}))
