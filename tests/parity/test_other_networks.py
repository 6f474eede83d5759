"""Dilated networks, other input channels and networks without a head, against real GluonCV."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from torch import nn

from converter.commands import conversion
from converter.errors import ReferenceUnavailableError, SymbolError
from converter.networks import catalog, loading, selection
from converter.networks.selection import ParamsSource
from converter.parity import execution, runner
from converter.parity.options import ParityOptions
from converter.progress import silent
from converter.references.probes import Probe

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from converter.networks.catalog import ConfigChanges
    from converter.parity.result import ParityResult

NAME = "gluon_resnet18_v1b"
PROBES = (Probe("float32", (65, 95)), Probe("float64", (65, 95)))
GLUON = ParityOptions("gluon")


def compare(
    name: str,
    changes: ConfigChanges,
    break_module: Callable[[nn.Module], None] = lambda _: None,
    *,
    fallback: bool = False,
) -> ParityResult:
    """Compare GluonCV's own network with our module, with the same random parameters."""
    model = catalog.find(name).with_config(**changes)
    source = ParamsSource(model, seed=0)
    with selection.open_source(source, silent) as file:
        loaded = loading.load_model(source, file)
        module = execution.build(loaded.state, model.config)
        break_module(module)
        plan = runner.ReferencePlan(probes=PROBES, python=Path(sys.executable), fallback=fallback)
        with runner.start_references(plan, loaded) as references:
            return runner.prove(references, execution.hook_layers(module, loaded.mapping), loaded)


@pytest.mark.parametrize(
    ("name", "changes"),
    [
        ("gluon_resnet18_v1b", {"output_stride": 8, "num_classes": 10}),
        ("gluon_resnet50_v1b", {"output_stride": 8}),
        ("gluon_resnet50_v1s", {"output_stride": 8, "in_chans": 4}),
        ("gluon_resnet50_v1d", {"output_stride": 8}),
        ("gluon_resnet50_v1e", {"output_stride": 8, "in_chans": 1}),
        ("gluon_resnext50_32x4d", {"in_chans": 1}),
        ("gluon_seresnext50_32x4d", {"in_chans": 4}),
        ("gluon_cifar_resnext29_32x4d", {"in_chans": 1}),
    ],
)
def test_network_agrees_with_gluoncvs(name: str, changes: ConfigChanges) -> None:
    proof = compare(name, changes)
    assert (proof.reference, proof.passed) == ("gluon", True)


def first_dilation(module: nn.Module) -> None:
    conv = module.get_submodule("layer4.0.conv1")
    assert isinstance(conv, nn.Conv2d)
    conv.dilation = conv.padding = (4, 4)


def undilated(module: nn.Module) -> None:
    for conv in module.modules():
        if isinstance(conv, nn.Conv2d) and conv.dilation != (1, 1):
            conv.dilation = conv.padding = (1, 1)


@pytest.mark.parametrize(
    ("break_module", "layer"), [(first_dilation, "layer4.0.conv1"), (undilated, "layer3.0.conv2")]
)
def test_wrong_dilation_is_detected(break_module: Callable[[nn.Module], None], layer: str) -> None:
    check = compare(NAME, {"output_stride": 8}, break_module).decisive
    assert check is not None
    assert check.first_mismatch is not None
    assert check.first_mismatch.layer.target == layer
    assert "dilation" in {name for name, *_ in check.first_mismatch.settings}


@pytest.mark.parametrize(("name", "stride"), [(NAME, 16), ("gluon_resnext50_32x4d", 8)])
def test_dilation_that_gluoncv_lacks_falls_back_to_numpy(name: str, stride: int) -> None:
    with pytest.raises(ReferenceUnavailableError, match=f"GluonCV has .* only, not {stride}"):
        compare(name, {"output_stride": stride})
    proof = compare(name, {"output_stride": stride}, fallback=True)
    assert (proof.reference, proof.passed) == ("numpy", True)


@pytest.fixture
def folder(gluon_files: Path, tmp_path: Path) -> Iterator[Callable[[str], Path]]:
    def copy(kind: str) -> Path:
        return Path(shutil.copytree(gluon_files / kind, tmp_path / kind))

    yield copy
    for path in tmp_path.glob("*/*.params"):
        path.unlink()


def convert(params: Path, **changes: object) -> conversion.ConversionResult:
    return conversion.convert(
        "auto",
        params.parent / "out",
        params=params,
        options=GLUON,
        **changes,  # type: ignore[arg-type]
    )


@pytest.mark.parametrize("file", ["net-0000.params", "net.params"])
def test_gluoncvs_dilated_network_is_converted_by_its_graph(folder: Callable[[str], Path], file: str) -> None:
    result = convert(folder("dilated") / file)
    assert result.model == catalog.find(NAME).with_config(num_classes=10, output_stride=8)
    assert (result.manifest.parity.proven, result.manifest.parity.definition) == (True, "graph")
    arguments = result.manifest.model_args
    assert arguments is not None
    assert arguments.output_stride == 8


def test_dilated_graph_does_not_match_another_output_stride(folder: Callable[[str], Path]) -> None:
    with pytest.raises(SymbolError, match="dilation 4 in the graph, 2 in the model"):
        convert(folder("dilated") / "net.params", output_stride=16)


def test_network_with_four_channels_is_converted(folder: Callable[[str], Path]) -> None:
    four = folder("four-channels")
    with_graph = convert(four / "net.params")
    (four / "net-symbol.json").unlink()
    shutil.rmtree(four / "out")
    alone = convert(four / "net.params")
    assert with_graph.model == alone.model == catalog.find(NAME).with_config(num_classes=10, in_chans=4)
    assert with_graph.manifest.parity.definition == "graph"
    assert alone.manifest.parity.definition == "gluoncv"
    assert with_graph.artifact.name == alone.artifact.name


def test_backbone_is_proven_up_to_its_pooled_features(folder: Callable[[str], Path]) -> None:
    dilated = folder("dilated")
    (dilated / "net-symbol.json").unlink()
    result = convert(dilated / "net.params", backbone=True, output_stride=8)
    assert result.model == catalog.find(NAME).with_config(num_classes=0, output_stride=8)
    assert (result.manifest.parity.proven, result.manifest.parity.reference) == (True, "gluon")
