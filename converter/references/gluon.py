"""The MXNet reference: a child process runs a GluonCV network or a graph.

The child is started early and its outputs are read later. It writes them to a temporary folder, from
which they are memory-mapped one by one.
"""

from __future__ import annotations

import contextlib
import importlib.util
import itertools
import json
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np

from converter.errors import ReferenceUnavailableError
from converter.graphs.operators import GLOBAL_AVERAGE, NO_FLOAT64
from converter.progress import silent
from converter.references import LayerOutput, ReferenceName, child_process, symbol
from converter.storage import disk

if TYPE_CHECKING:
    from collections.abc import Iterator

    from converter.graphs.graph import Graph, Settings
    from converter.networks.catalog import Model
    from converter.networks.wiring import Wiring
    from converter.progress import Progress
    from converter.references.child_process import ChildProcess
    from converter.references.probes import Probe

NAME: ReferenceName = "gluon"
CHILD = Path(__file__).with_name("gluon_child.py")
VERSIONED = ("gluoncv", "mxnet", "numpy", "python")
DILATED = (
    8  # the output stride of GluonCV's ResNets with `dilated=True`; its other models have no such option
)


@dataclass(frozen=True, slots=True, kw_only=True)
class GluonRequest:
    """What the child process, which has MXNet, is asked to run and to return.

    Attributes:
        layers: the structural names of the layers whose outputs are requested.
        document: the network or graph to run, in the format of its child.
        symbol: the content of the graph's file, None for GluonCV's own network.
        data: the name of the graph's input.
        settings: the hyper-parameters of a graph's layers; for GluonCV's network the child returns them.
        pool: a global average pool after the last layer, which the graph does not have; "" for none.
    """

    layers: tuple[str, ...]
    document: dict[str, Any]
    symbol: bytes | None = None
    data: str = ""
    settings: tuple[Settings, ...] = ()
    pool: str = ""


class _Reply(msgspec.Struct, frozen=True):
    """The child's reply."""

    unavailable: str = ""
    settings: tuple[dict[str, Any], ...] = ()
    versions: dict[str, str] = {}


@dataclass(frozen=True, slots=True)
class GluonRun:
    """A running MXNet child process.

    Attributes:
        child: the child process.
        request: the requested run.
        probes: the inputs.
        progress: called with "reference", the number of computed outputs and their total.
        name: the name of the reference.
    """

    child: ChildProcess
    request: GluonRequest
    probes: tuple[Probe, ...]
    progress: Progress = silent
    name: ReferenceName = NAME

    def outputs(self, number: int) -> Iterator[LayerOutput]:
        """Wait for the child and return the layers' outputs for one probe.

        Raises:
            ReferenceUnavailableError: if MXNet cannot be imported.
            ReferenceFailedError: if the child fails, stops making progress, or returns an invalid reply.
        """
        layers = self.request.layers
        total = len(layers) * len(self.probes)
        reply = self.child.reply(_Reply, lambda done: self.progress("reference", done, total))
        self.progress("reference", total, total)
        settings = self.request.settings or reply.settings
        files = [self.child.folder / f"{number}-{layer}.npy" for layer in range(len(layers))]
        try:
            arrays = [np.load(file, mmap_mode="r") for file in files]
        except (OSError, ValueError, EOFError) as error:  # missing or incomplete
            raise self.child.failure() from error
        if len(settings) != len(layers):
            raise self.child.failure()
        outputs = itertools.starmap(LayerOutput, zip(layers, arrays, settings, strict=True))
        if not self.request.pool:
            return outputs
        pooled = arrays[-1].mean(axis=(2, 3), keepdims=True)
        return itertools.chain(outputs, [LayerOutput(self.request.pool, pooled, GLOBAL_AVERAGE.settings)])

    def versions(self) -> dict[str, str]:
        """Wait for the child and return its versions of Python, NumPy, MXNet and GluonCV.

        Raises:
            ReferenceUnavailableError: if MXNet cannot be imported.
            ReferenceFailedError: if the child fails, stops making progress, or returns an invalid reply.
        """
        versions = self.child.reply(_Reply).versions
        if not versions.keys() >= set(VERSIONED):
            raise self.child.failure()
        return {name: versions[name] for name in VERSIONED}


def find_python(chosen: Path | None) -> Path:
    """Return the Python interpreter that runs GluonCV.

    Args:
        chosen: a path or the name of a program, None for the current interpreter.

    Raises:
        ReferenceUnavailableError: if the chosen one is not an executable, or if MXNet or GluonCV is not
            installed for the current one.
    """
    if chosen is not None:
        program = shutil.which(chosen)
        if program is None:
            raise child_process.unavailable(f"{chosen} is not an executable")
        return Path(program)
    absent = [name for name in ("mxnet", "gluoncv") if importlib.util.find_spec(name) is None]
    if absent:
        raise child_process.unavailable(f"{' and '.join(absent)} not installed in {sys.executable}")
    return Path(sys.executable)


def import_versions(python: Path) -> dict[str, str]:
    """Import MXNet and GluonCV in an interpreter, and return their versions.

    Raises:
        ReferenceUnavailableError: if they cannot be imported.
        ReferenceFailedError: if the interpreter fails.
    """
    with disk.temp_dir() as folder:
        with disk.writing(folder):
            (folder / "request.json").write_text("{}")
        with child_process.start(python, CHILD, folder) as child:
            return child.reply(_Reply).versions


def require_float64(graph: Graph) -> None:
    """Check that MXNet computes every operator of a graph in float64, with its full precision.

    Raises:
        ReferenceUnavailableError: if it does not; the message names the operators.
    """
    operators = sorted({node.operator for node in graph.nodes} & NO_FLOAT64)
    if operators:
        raise ReferenceUnavailableError(
            f"{graph.file}: MXNet cannot compute {' and '.join(operators)} in float64\n"
            "  --reference numpy       compare with the built-in NumPy reference\n"
            "  --proof-dtype float32   compare with MXNet in float32 only"
        )


def require_network(model: Model) -> None:
    """Check that GluonCV's own model can have the model's output stride.

    Raises:
        ReferenceUnavailableError: if it cannot.
    """
    config = model.config
    strides = {config.output_strides[-1], *([DILATED] if config.cardinality == 1 else [])}
    if config.output_stride not in strides:
        available = " or ".join(map(str, sorted(strides)))
        raise ReferenceUnavailableError(
            f"GluonCV has {model.entry.gluon} with output stride {available} only, "
            f"not {config.output_stride}\n"
            "  --reference numpy   compare with the built-in NumPy reference"
        )


def network_request(model: Model, params: Path, layers: tuple[str, ...]) -> GluonRequest:
    """Return the request to run GluonCV's own network.

    Args:
        model: the model.
        params: a file that MXNet can load.
        layers: the structural names of the requested layers.
    """
    config = model.config
    complete = model.with_config(num_classes=config.num_classes or 1)
    document = {
        "model": model.entry.gluon,
        "options": {
            "classes": complete.config.num_classes,
            **({"dilated": True} if config.output_stride == DILATED else {}),
        },
        "absent": [layer.source for layer in complete.mapping.layers if layer not in model.mapping.layers],
        "params": str(params.resolve()),
        "layers": layers,
    }
    return GluonRequest(layers=layers, document=document)


def graph_request(
    wiring: Wiring, params: Path, names: dict[str, str], layers: tuple[str, ...]
) -> GluonRequest:
    """Return the request to run a graph up to the last requested layer.

    Args:
        wiring: the graph.
        params: a file that MXNet can load.
        names: the names in that file, by structural name.
        layers: the structural names of the requested layers; the pool after the last feature map may be
            absent in the graph.
    """
    computed = tuple(layer for layer in layers if layer in wiring.nodes)
    nodes = [wiring.nodes[layer] for layer in computed]
    variables = {variable: names[tensor] for tensor, variable in wiring.variables.items()}
    settings = tuple(wiring.settings[layer] for layer in computed)
    pool = next((layer for layer in layers if layer not in wiring.nodes), "")
    return GluonRequest(
        layers=computed,
        document=symbol.document(wiring.body, params, variables, nodes, [(nodes[-1], 0)]),
        symbol=wiring.body.content,
        data=wiring.data,
        settings=settings,
        pool=pool,
    )


@contextlib.contextmanager
def start(
    python: Path, request: GluonRequest, probes: tuple[Probe, ...], progress: Progress = silent
) -> Iterator[GluonRun]:
    """Start MXNet's forward pass of all probes; on exit the child is killed and its outputs are deleted.

    Args:
        python: an interpreter with MXNet and GluonCV.
        request: the run.
        probes: the inputs.
        progress: called as outputs are computed.

    Raises:
        ReferenceUnavailableError: if the interpreter cannot be started.
    """
    with disk.temp_dir() as folder:
        with disk.writing(folder):
            _write_request(folder, request, probes)
        script = CHILD if request.symbol is None else symbol.CHILD
        with child_process.start(python, script, folder) as child:
            yield GluonRun(child, request, probes, progress)


def _write_request(folder: Path, request: GluonRequest, probes: tuple[Probe, ...]) -> None:
    runs: list[dict[str, object]] = []
    for number, probe in enumerate(probes):
        file = f"input-{number}.npy"
        np.save(folder / file, probe.input())
        given = {"input": file} if request.symbol is None else {"inputs": {request.data: file}}
        runs.append({"dtype": probe.dtype, **given})
    if request.symbol is not None:
        (folder / symbol.SYMBOL).write_bytes(request.symbol)
    (folder / "request.json").write_text(json.dumps({**request.document, "runs": runs}))
