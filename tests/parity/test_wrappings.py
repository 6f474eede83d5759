"""Networks that GluonCV saved in wrappings convert, proven by GluonCV or by their graph."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import mxnet_forks
import numpy as np
import pytest
import torch

import converter
from converter import ConversionError, ParityOptions
from converter.formats.params import load_params, save_params
from resnext_torch import create_model

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from converter.commands.conversion import ConversionResult

    Convert = Callable[..., ConversionResult]

WRITER = Path(__file__).with_name("gluon_wrappings.py")
OPTIONS = ParityOptions("gluon", sizes=[(40, 57)], dtypes=["float64"])
CIFAR, V1B, V1S = "gluon_cifar_resnext29_32x4d", "gluon_resnet18_v1b", "gluon_resnet50_v1s"
# The file, and what is in it.
FILES = {
    "features": f"the backbone of {CIFAR} without a head: `features`",
    "outer": f"{CIFAR} behind `backbone.`",
    "listed": f"{CIFAR}: `features` behind `0.`, head `1`",
    "attribute": f"{CIFAR}: `features` behind `backbone.`, head `head`",
    "symbolblock": f"{CIFAR} behind `0.`",
    "unbiased": f"{CIFAR}, whose head has no bias",
    "unbiased-prefix": f"{CIFAR}, head `dense2`, whose head has no bias",
    "unbiased-export": f"{CIFAR}, head `dense2`, whose head has no bias",
    "dropout": f"{CIFAR}, head `output.1`",
    "perceptron": f"the backbone of {CIFAR} without a head",
    "second-head": f"{V1B}, head `fc` of several",
    "second-head-prefix": f"{V1B}, head `resnetv1b_dense0` of several",
    "fcn": f"the backbone of {V1S} without a head",
    "fcn-prefix": f"the backbone of {V1S} without a head",
    "fcn-export": f"the backbone of {V1S} without a head",
    "rcnn": "the backbone of gluon_resnet50_v1b without a head: `features` and `top_features` of an R-CNN",
    "rcnn-prefix": "the backbone of gluon_resnet50_v1b without a head",
    "fpn": "the backbone of gluon_resnet50_v1b without a head behind `features.`",
    "pose": f"the backbone of {V1B} without a head: its layers as a list behind `resnet.`",
    "pose-prefix": f"the backbone of {V1B} without a head",
    "twins": f"{V1B}, with equal arrays under arg: and aux:",
}
# Whole networks whose graph is recorded: a backbone is taken from them only on request.
RECORDED = {
    "fpn": "faster_rcnn_fpn_resnet50_v1b_coco",
    "pose": "simple_pose_resnet18_v1b",
    "pose-prefix": "simple_pose_resnet18_v1b",
}
# The file, and the network in it.
PLAIN = {
    "listed-prefix": CIFAR,
    "moving": V1B,
    "mixed": V1B,
    "half": V1B,
    "preprocessed": V1B,
    "channels1": V1B,
    "channels4-export": V1B,
    "dilated-export": "gluon_resnet50_v1d",  # v1c's prefix names are the same: the prefix decides
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("wrappings")
    mxnet_forks.run(WRITER, folder)
    yield folder
    shutil.rmtree(folder)  # 2 GB


@pytest.fixture
def convert(out: Path) -> Iterator[Convert]:
    def run(params: Path, model: str = "auto", **options: Any) -> ConversionResult:  # noqa: ANN401
        return converter.convert(model, out, params=params, options=OPTIONS, **options)

    yield run
    shutil.rmtree(out)


def params_in(folder: Path) -> Path:
    """Return the only parameter file in a folder."""
    (path,) = folder.glob("*.params")
    return path


@pytest.mark.parametrize(("name", "description"), FILES.items())
def test_network_in_a_wrapping_is_proven(name: str, description: str, folder: Path, convert: Convert) -> None:
    result = convert(params_in(folder / name), backbone=name in RECORDED)
    record = result.manifest.source.wrapping
    assert record is not None
    assert record.description == description
    assert_proven(result, folder / name)


def assert_proven(result: ConversionResult, folder: Path) -> None:
    """Check that MXNet has proven a conversion: with the graph next to the parameters if there is one."""
    parity = result.manifest.parity
    assert (parity.proven, parity.reference) == (True, "gluon")
    assert parity.definition == ("graph" if [*folder.glob("*-symbol.json")] else "gluoncv")


@pytest.mark.parametrize(("name", "network"), RECORDED.items())
def test_backbone_of_a_recorded_network_is_not_taken_unasked(
    name: str, network: str, folder: Path, convert: Convert, out: Path
) -> None:
    with pytest.raises(ConversionError, match=rf"parameters of GluonCV's {network}, whose backbone is"):
        convert(params_in(folder / name))
    assert list(out.iterdir()) == []


@pytest.mark.parametrize(("name", "model"), PLAIN.items())
def test_network_with_an_unusual_graph_is_proven(
    name: str, model: str, folder: Path, convert: Convert
) -> None:
    result = convert(params_in(folder / name))
    assert result.model.name == model
    assert result.manifest.source.wrapping is None
    assert_proven(result, folder / name)
    assert result.manifest.source.casts == (name in {"mixed", "half"})


def test_files_have_graphs_or_not(folder: Path) -> None:
    with_graphs = {path.parent.name for path in folder.glob("*/*-symbol.json")}
    assert {"unbiased-export", "fcn-export", "dilated-export"} <= with_graphs
    assert {"fcn", "fcn-prefix", "unbiased", "outer"}.isdisjoint(with_graphs)


def test_dilated_backbone_is_refused_without_dilation(folder: Path, convert: Convert, out: Path) -> None:
    with pytest.raises(ConversionError, match=r"dilation 2 in the graph, 1 in the model"):
        convert(params_in(folder / "fcn-export"), output_stride=32)
    assert list(out.iterdir()) == []


def test_stride_of_an_ssd_is_not_the_models(folder: Path, convert: Convert, out: Path) -> None:
    for name in ("ssd", "ssd-prefix"):
        with pytest.raises(ConversionError, match="runs with stride 1 in place of 2 in its third stage"):
            convert(params_in(folder / name))
    assert list(out.iterdir()) == []
    for model in ("auto", "gluon_resnet34_v1b"):
        result = convert(params_in(folder / "ssd"), model, backbone=True)
        assert result.manifest.parity.proven
        assert result.manifest.source.wrapping is not None
        assert "stride 1 in place of 2" in result.manifest.source.wrapping.description


def test_preprocessing_of_the_graph_is_recorded_and_not_part_of_the_network(
    folder: Path, convert: Convert
) -> None:
    result = convert(params_in(folder / "preprocessed"))
    record = result.manifest.source.preprocessing
    assert record is not None
    logits = np.load(folder / "preprocessed" / "net.npz")
    mean, std = np.array(record.mean), np.array(record.std)
    images = (logits["images"].astype(np.float64) / 255 - mean) / std
    network = create_model(result.model.name, result.artifact).eval().double()
    with torch.inference_mode():
        outputs = network(torch.from_numpy(images.transpose(0, 3, 1, 2).copy())).numpy()
    assert np.abs(outputs - logits["logits"]).max() < 1e-5 * logits["logits"].std()  # 1.0e-6 measured


@pytest.mark.parametrize("constant", ["init_mean", "init_scale"])
def test_preprocessing_without_a_constant_is_refused(
    constant: str, folder: Path, tmp_path: Path, convert: Convert, out: Path
) -> None:
    arrays = load_params(params_in(folder / "preprocessed"))
    save_params(
        {name: array for name, array in arrays.items() if constant not in name}, tmp_path / "x.params"
    )
    with pytest.raises(ConversionError, match="preprocess"):
        convert(tmp_path / "x.params", symbol=folder / "preprocessed" / "net-symbol.json")
    assert list(out.iterdir()) == []


def test_constants_without_their_graph_nodes_are_refused(
    folder: Path, tmp_path: Path, convert: Convert
) -> None:
    arrays = load_params(params_in(folder / "preprocessed"))
    constants = {name: array for name, array in arrays.items() if "preprocess" in name}
    save_params(load_params(params_in(folder / "plain")) | constants, tmp_path / "x.params")
    with pytest.raises(ConversionError, match=r"(does not normalize|normalizes) images.*\n  try"):
        convert(tmp_path / "x.params", symbol=folder / "plain" / "net-symbol.json")


@pytest.mark.parametrize("edit", ["order", "axes", "operator"])
def test_another_preprocessing_is_refused(edit: str, folder: Path, tmp_path: Path, convert: Convert) -> None:
    graph = json.loads((folder / "preprocessed" / "net-symbol.json").read_text())
    nodes = {node["name"]: node for node in graph["nodes"]}
    subtraction = next(node for name, node in nodes.items() if "minus" in name)
    division = next(node for name, node in nodes.items() if "broadcast_div" in name)
    if edit == "order":
        subtraction["inputs"], division["inputs"] = (
            [subtraction["inputs"][1], subtraction["inputs"][0]],
            division["inputs"],
        )
    elif edit == "axes":
        next(node for name, node in nodes.items() if "transpose" in name)["attrs"] = {"axes": "(0, 3, 2, 1)"}
    else:
        division["op"] = "broadcast_mul"
    (tmp_path / "edited-symbol.json").write_text(json.dumps(graph))
    with pytest.raises(ConversionError, match="the graph does not match"):
        convert(params_in(folder / "preprocessed"), symbol=tmp_path / "edited-symbol.json")


def test_bias_that_the_graph_ignores_is_refused(folder: Path, tmp_path: Path, convert: Convert) -> None:
    arrays = load_params(params_in(folder / "unbiased-export"))
    weight = next(array for array in arrays.values() if array.ndim == 2)
    save_params({**arrays, "arg:dense2_bias": np.ones(len(weight), np.float32)}, tmp_path / "x.params")
    with pytest.raises(ConversionError, match="the graph does not match"):
        convert(tmp_path / "x.params", symbol=folder / "unbiased-export" / "net-symbol.json")


def test_wrapped_weights_that_differ_are_detected(folder: Path, convert: Convert, tmp_path: Path) -> None:
    """Negative control: an exchange of two arrays of one shape in a wrapping fails the comparison."""
    result = convert(params_in(folder / "listed"))
    arrays = load_params(params_in(folder / "listed"))
    first, second = "0.3.0.body.1.gamma", "0.3.0.body.4.gamma"
    arrays[first], arrays[second] = arrays[second], arrays[first]
    save_params(arrays, tmp_path / "exchanged.params")
    comparison = converter.compare(
        "auto", params=tmp_path / "exchanged.params", weights=result.artifact, options=OPTIONS
    )
    assert not comparison.proof.passed
