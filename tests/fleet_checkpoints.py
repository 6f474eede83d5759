"""Writes small checkpoints of several kinds, and converts them in this process."""

from __future__ import annotations

import tarfile
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import numpy as np
from generated_modules import random_parameters
from graph_building import Network

from converter.commands import fleet
from converter.commands.fleet import FleetRequest
from converter.formats.params import save_params
from converter.networks.synthetic import random_params
from converter.parity.options import ParityOptions

if TYPE_CHECKING:
    from pathlib import Path

    from converter.fleet.rows import FleetSummary, Row
    from converter.networks.catalog import Model

FAST = ParityOptions("numpy", sizes=[32], dtypes=["float64"])
UNPROVEN = ParityOptions("none")


def network(classes: int = 2) -> Network:
    """Return a convolution with a head, which no model is."""
    net = Network()
    x = net.norm("bn0", net.conv("conv0", "data", 3, 4), 4)
    net.dense("fc1", net.apply("Pooling", "pool", x, global_pool="True", pool_type="avg"), 4, classes)
    return net


def write_graph(folder: Path, name: str = "net", classes: int = 2, seed: int = 0) -> Path:
    """Write the graph and the parameters of a small network; return the parameters."""
    folder.mkdir(parents=True, exist_ok=True)
    net = network(classes)
    (folder / f"{name}-symbol.json").write_bytes(net.build("fc1").content)
    arrays = {each: array.astype(np.float32) + seed for each, array in random_parameters(net.shapes).items()}
    save_params(arrays, folder / f"{name}-0000.params")
    return folder / f"{name}-0000.params"


def write_model(path: Path, model: Model, seed: int = 0) -> Path:
    """Write random parameters of a model."""
    path.parent.mkdir(parents=True, exist_ok=True)
    save_params(random_params(model.mapping, model.shapes, seed=seed), path)
    return path


def write_archive(path: Path, folder: Path) -> Path:
    """Write a tar.gz of a graph and its parameters, as SageMaker does."""
    write_graph(folder)
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w:gz") as archive:
        for file in sorted(folder.iterdir()):
            archive.add(file, file.name)
    return path


def convert(source: object, out: object, **options: Any) -> FleetSummary:  # noqa: ANN401 - of several types
    """Convert a fleet in a thread of this process, without a proof unless one is requested."""
    with ThreadPoolExecutor(1) as executor:
        given: dict[str, Any] = {"options": UNPROVEN, "executor": executor, "jobs": 1} | options
        request = FleetRequest(source=str(source), out=str(out), **given)
        return fleet.run(request)


def verdicts(summary: FleetSummary) -> dict[str, str]:
    """Return the verdict of each source."""
    return {row.source: row.verdict.value for row in summary.sources}


def row_of(summary: FleetSummary, source: str) -> Row:
    """Return the row of a source."""
    return next(row for row in summary.sources if row.source == source)
