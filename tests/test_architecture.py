"""The arrows of the house: who may import whom."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

import converter
import resnext_torch

CONVERTER, RESNEXT_TORCH = (Path(package.__file__ or "").parent for package in (converter, resnext_torch))

# Each may import those in the rows above its own, and none beside it.
ROWS = """
background choices cli dtypes errors files graphs models names progress proof publishing reference vision
    cli.signals graphs.graph proof.strength reference.gluon_child
files.locks graphs.operators
checks files.disk files.folders files.partial files.web models.definition
files.archives files.labels files.pickles files.stored graphs.reader models.expressions models.mapping
    publishing.hub publishing.signature vision.images vision.processes
files.cursor tensors
files.download files.ndarray_list files.npz models.dialects proof.verdict publishing.sums
    reference.gluon reference.operators
graph_search precision files.params models.matching models.synthetic models.wiring reference.numpy
files.checkpoint models.catalog models.settings proof.parity
source files.artifact files.torch_file models.identification
proof.network
narrowing
converted published
artifact_checks diff inspection preparation models.figures
manifest proof.diagnosis proof.proving publishing.timm_config vision.classifier
comparison pipeline zoo vision.evaluation vision.prediction
reversal proof.findings
proof.github proof.report publishing.card
testing cli.console cli.options cli.vision publishing.publication
verification
cli.convert cli.diff cli.evaluate cli.inspect cli.listing cli.parity cli.predict cli.publish
    cli.to_gluon cli.verify cli.zoo
cli.app
__main__
"""
LAYERS = [set(row.split()) for row in re.split(r"\n(?! )", ROWS.strip())]
KNOW_RESNEXT_TORCH = {
    "models.catalog",
    "proof.network",
    "models.identification",
    "reversal",
    "vision.classifier",
    "models.figures",
}


def modules() -> dict[str, Path]:
    paths = {
        ".".join(path.relative_to(CONVERTER).with_suffix("").parts): path for path in CONVERTER.rglob("*.py")
    }
    return {name.removesuffix(".__init__"): path for name, path in paths.items() if name != "__init__"}


def imported(path: Path) -> set[str]:
    """Return the dotted names a file imports to run, those under ``TYPE_CHECKING`` left out."""
    tree = ast.parse(path.read_text())
    skipped = {
        id(node)
        for guard in ast.walk(tree)
        if isinstance(guard, ast.If) and ast.unparse(guard.test) == "TYPE_CHECKING"
        for node in ast.walk(guard)
    }
    found = set()
    for node in ast.walk(tree):
        if id(node) in skipped:
            continue
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            origin = "." * node.level + (node.module or "")
            found |= {origin} | {f"{origin}.{alias.name}" for alias in node.names}
    return found


def test_every_module_has_its_place() -> None:
    assert set().union(*LAYERS) == modules().keys()


@pytest.mark.parametrize("name", modules())
def test_nothing_imports_upward_or_sideways(name: str) -> None:
    place = next(number for number, layer in enumerate(LAYERS) if name in layer)
    below = set().union(*LAYERS[:place])
    ours = {
        target.removeprefix("converter.") for target in imported(modules()[name]) if "converter." in target
    }
    assert ours & modules().keys() <= below


@pytest.mark.parametrize("name", modules())
def test_imports_are_absolute_so_that_the_arrows_are_seen(name: str) -> None:
    assert not any(target.startswith(".") for target in imported(modules()[name]))


@pytest.mark.parametrize("name", sorted(modules().keys() - KNOW_RESNEXT_TORCH))
def test_few_know_the_pytorch_module(name: str) -> None:
    assert not any(target.startswith("resnext_torch") for target in imported(modules()[name]))


@pytest.mark.parametrize("path", sorted(RESNEXT_TORCH.glob("*.py")), ids=lambda path: path.stem)
def test_the_pytorch_module_imports_nothing_of_ours(path: Path) -> None:
    assert not any(target.partition(".")[0] in {"converter", "resnext_torch"} for target in imported(path))


def test_the_check_sees_an_arrow_upward(tmp_path: Path) -> None:
    wrong = tmp_path / "wrong.py"
    wrong.write_text("from . import mapping\ndef late():\n    from converter import pipeline\n")
    assert {"converter.pipeline", "..mapping"} <= imported(wrong)
