"""Real GluonCV networks are converted for modules that exist already, and proven by MXNet."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import generated_modules
import gluoncv_networks
import mxnet_forks
import numpy as np
import pytest

import converter
from converter.errors import ParityError
from converter.formats.params import write_params
from converter.parity.options import ParityOptions

if TYPE_CHECKING:
    from pathlib import Path

MXNET = ParityOptions("gluon", sizes=[32])


def files(folder: Path, name: str) -> tuple[Path, Path]:
    mxnet_forks.run(gluoncv_networks.HERE / "export_graphs.py", folder, name, "1x3x32x32")
    shapes = json.loads((folder / f"{name}-shapes.json").read_text())
    arrays = generated_modules.random_parameters({key: tuple(shape) for key, shape in shapes.items()})
    params = folder / f"{name}-0000.params"
    with params.open("wb") as stream:
        write_params(stream, {key: array.astype(np.float32) for key, array in arrays.items()})
    return folder / f"{name}-symbol.json", params


@pytest.mark.parametrize(
    ("name", "model"),
    [
        ("resnet18_v1b", "gluon_resnet18_v1b"),
        ("cifar_resnext29_32x4d", "gluon_cifar_resnext29_32x4d"),
        ("se_resnext50_32x4d", "gluon_seresnext50_32x4d"),
    ],
)
def test_gluoncv_networks_are_proven_on_a_module_that_exists(tmp_path: Path, name: str, model: str) -> None:
    graph, params = files(tmp_path, name)
    result = converter.convert_graph(
        graph,
        tmp_path / "out",
        params=params,
        target="resnext_torch:create_model",
        target_args={"name": model},
        options=MXNET,
    )
    assert result.manifest.parity.reference == "gluon"
    assert result.manifest.parity.proven
    assert result.manifest.target
    assert not result.manifest.target.differences
    assert converter.verify(result.artifact).holds


def test_place_of_the_stride_is_found(tmp_path: Path) -> None:
    graph, params = files(tmp_path, "resnet50_v1")
    with pytest.raises(ParityError) as caught:
        converter.convert_graph(
            graph,
            tmp_path / "out",
            params=params,
            target="resnext_torch:create_model",
            target_args={"name": "gluon_resnet50_v1b"},
            options=MXNET,
        )
    assert (
        "resnetv10_stage2_conv0_fwd → layer2.0.conv1: stride (2, 2) in the graph, (1, 1) in the module"
        in str(caught.value)
    )
    assert not (tmp_path / "out").exists()
