from __future__ import annotations

import functools
import os
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from converter.formats.params import write_params
from converter.networks import catalog, synthetic

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from converter.dtypes import Array
    from converter.networks.catalog import Model
    from converter.networks.mapping import Mapping

# Set before torch and typer are imported, which read them on import.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # two networks run alternately: see cli/convert.py
os.environ["HF_HUB_OFFLINE"] = "1"  # no test reaches the Hugging Face Hub; see hub_server.py
os.environ.pop("GITHUB_ACTIONS", None)  # otherwise typer colours errors and test output is annotated


@pytest.fixture(scope="session")
def tiny() -> Model:
    """Return a ResNeXt-14 (2×4d) with ten classes: every kind of layer and block, in 11 MB."""
    model = catalog.find("gluon_resnext50_32x4d")
    config = replace(model.config, depths=(1, 2, 1, 1), cardinality=2, num_classes=10)
    return replace(model, name="tiny", config=config)


@pytest.fixture(scope="session")
def tiny_mapping(tiny: Model) -> Mapping:
    return tiny.mapping


@pytest.fixture
def tiny_params(tiny: Model, tiny_mapping: Mapping) -> dict[str, Array]:
    return synthetic.random_params(tiny_mapping, tiny.shapes, seed=0)


@pytest.fixture
def write(tmp_path: Path) -> Callable[[dict[str, Array]], Path]:
    """Return a function that writes arrays to a ``.params`` file and returns its path."""

    def write_file(arrays: dict[str, Array]) -> Path:
        path = tmp_path / "holiday.params"
        with path.open("wb") as stream:
            write_params(stream, arrays)
        return path

    return write_file


@pytest.fixture
def in_memory(tmp_path: Path) -> Iterator[Path]:
    """Yield an in-memory folder if possible, for tests that write hundreds of times."""
    memory = Path("/dev/shm")  # noqa: S108 - the folder made in it has a name of its own
    with tempfile.TemporaryDirectory(dir=memory if memory.is_dir() else tmp_path) as folder:
        yield Path(folder)


@pytest.fixture(scope="session")
def onnx_operators() -> Iterator[None]:
    """Parse the operators of torch's exporter once for all exports; it takes a second."""
    from torch.onnx._internal.exporter._registration import ONNXRegistry  # noqa: PLC0415 - imports torch

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            ONNXRegistry, "from_torchlib", staticmethod(functools.cache(ONNXRegistry.from_torchlib))
        )
        yield


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print how many mutations each check detected, and the outcomes of edited graphs, if any ran."""
    reports = [report for outcome in ("passed", "failed") for report in terminalreporter.getreports(outcome)]
    edits = [value for report in reports for name, value in report.user_properties if name == "edits"]
    if edits:
        total, accepted, different, wrong = map(sum, zip(*edits, strict=True))
        terminalreporter.section("edited graphs")
        terminalreporter.write_line(f"{total} edits, {total - wrong} either equal or refused")
        terminalreporter.write_line(f"{accepted} accepted; {different} compute something else in MXNet")
    mutations = [value for report in reports for name, value in report.user_properties if name == "mutation"]
    if mutations:
        from mutations import summary  # noqa: PLC0415 - imports torch, which takes more than a second

        terminalreporter.section("mutations")
        for line in summary(mutations):
            terminalreporter.write_line(line)
