"""`inspect` says where a network is in a file, and why `convert` would refuse it."""

from __future__ import annotations

import json
import shlex
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from symbols import changed, symbol
from test_inspection import write_sparse
from test_wrappings import LIST, SSD, array, arrays_of, backbone_of, index_based, moved, prefixed
from typer.testing import CliRunner

from converter.cli.app import app
from converter.commands import conversion, inspection
from converter.errors import ConversionError
from converter.formats.params import write_params
from converter.networks import catalog
from converter.networks.selection import ParamsSource

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from converter.dtypes import Array

RESNEXT, RESNET = "gluon_resnext50_32x4d", "gluon_resnet18_v1b"
CONVERT = "gluon2torch convert auto OUT"


def resnet() -> dict[str, Array]:
    return arrays_of(catalog.find(RESNET))


def printed(path: Path, *options: str) -> list[str]:
    result = CliRunner().invoke(app, ["inspect", str(path), *options])
    assert (result.exit_code, result.stderr) == (0, "")
    return result.stdout.splitlines()


def document(path: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads("\n".join(printed(path, "--json")))
    return content


@pytest.mark.parametrize("outer", ["model.", "0."])
def test_network_behind_a_prefix_is_named_with_its_command(outer: str, tmp_path: Path) -> None:
    path = write_sparse(tmp_path / "net.params", prefixed(resnet(), outer))
    verdict, *lines = printed(path)
    assert verdict == f"parameters of {RESNET} behind `{outer}`, 1000 classes: {CONVERT} --params {path}"
    assert f"found      {RESNET} behind `{outer}`" in lines
    content = document(path)
    assert content["wrapping"] == {"description": f"{RESNET} behind `{outer}`", "unused": [], "zeros": []}
    assert [each["model"] for each in content["models"]] == [RESNET]
    assert (content["nearest"], content["dialect"]) == (None, "structural")


def test_own_names_have_no_wrapping(tmp_path: Path) -> None:
    path = write_sparse(tmp_path / "net.params", resnet())
    assert printed(path)[0] == f"parameters of {RESNET}, 1000 classes: {CONVERT} --params {path}"
    assert document(path)["wrapping"] is None


def test_backbone_is_converted_with_the_option(tmp_path: Path) -> None:
    arrays = moved(backbone_of(catalog.find(RESNET)), LIST, "base.") | {"head.weight": array(4, 4, 3, 3)}
    path = write_sparse(tmp_path / "net.params", arrays)
    verdict, *lines = printed(path)
    assert verdict == (
        f"parameters of the backbone of {RESNET} without a head: its layers as a list behind `base.`: "
        f"{CONVERT} --backbone --params {path}"
    )
    assert "unused     head.weight" in lines
    content = document(path)
    assert [each["classes"] for each in content["models"]] == [0]
    assert content["wrapping"]["unused"] == ["head.weight"]


def test_bias_that_the_head_lacks_is_shown(tmp_path: Path) -> None:
    arrays = resnet()
    del arrays["fc.bias"]
    path = write_sparse(tmp_path / "net.params", arrays)
    assert "filled     fc.bias with zeros" in printed(path)
    assert document(path)["wrapping"]["zeros"] == ["fc.bias"]


def test_one_class_is_in_the_singular(tmp_path: Path) -> None:
    path = write_sparse(tmp_path / "net.params", arrays_of(catalog.find(RESNET).with_config(num_classes=1)))
    assert printed(path)[0].startswith(f"parameters of {RESNET}, 1 class: ")


def test_exported_normalization_is_shown(tmp_path: Path) -> None:
    arrays = {
        **resnet(),
        "init_mean": np.array([127.5, 51, 0], np.float32).reshape(1, 3, 1, 1),
        "init_scale": np.array([255, 51, 25.5], np.float32).reshape(1, 3, 1, 1),
    }
    path = tmp_path / "net.params"
    with path.open("wb") as stream:
        write_params(stream, arrays)
    lines = printed(path)
    assert lines[0].startswith(f"parameters of {RESNET}, 1000 classes: ")
    assert "images     mean 0.5, 0.2, 0, std 1, 0.2, 0.1" in lines
    assert document(path)["preprocessing"]["std"] == pytest.approx([1, 0.2, 0.1])
    arrays["init_scale"] *= 0
    with path.open("wb") as stream:
        write_params(stream, arrays)
    verdict = printed(path)[0]
    assert verdict.startswith("init_scale: expected positive standard deviations, found ")
    assert verdict.endswith("; try the .params that net.save_parameters writes")


def channels_last(arrays: dict[str, Array]) -> dict[str, Array]:
    return {name: np.moveaxis(each, 1, -1) if each.ndim == 4 else each for name, each in arrays.items()}


def without_statistics(arrays: dict[str, Array]) -> dict[str, Array]:
    return {name: each for name, each in arrays.items() if "running" not in name}


REFUSED: dict[str, tuple[Callable[[dict[str, Array]], dict[str, Array]], str, bool]] = {
    "int8": (
        lambda arrays: arrays | {"conv1_weight_quantize": np.zeros((64, 3, 7, 7), np.int8)},
        "parameters of a network quantized to int8: 1 of 103 arrays is int8; try the float parameters",
        True,
    ),
    "nhwc": (channels_last, f"{RESNET}, in the layout NHWC: the weights", False),
    "statistics": (without_statistics, f"{RESNET} without running statistics, or with another norm", False),
    "twice": (
        lambda arrays: prefixed(arrays, "a.") | prefixed(arrays, "b."),
        "contains 2 networks; try a file that contains one of them",
        True,
    ),
    "more": (
        lambda arrays: arrays | {"attention.weight": array(512, 512, 1, 1)},
        f"{RESNET} with 1 other parameter that it may depend on; try --backbone",
        True,
    ),
    "another head": (
        lambda arrays: arrays | {"fc.bias": array(7)},
        f"{RESNET} with a head that does not fit its backbone; try",
        True,
    ),
    "ssd": (
        lambda arrays: moved({name: arrays[name] for name in backbone_of(catalog.find(RESNET))}, SSD),
        f"contains the backbone of {RESNET} without a head: `features` of an SSD, which the SSD runs",
        True,
    ),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_refusal_of_convert_is_the_verdict(kind: str, tmp_path: Path) -> None:
    change, verdict, has_models = REFUSED[kind]
    path = tmp_path / "net.params"
    with path.open("wb") as stream:
        write_params(stream, {name: np.ascontiguousarray(each) for name, each in change(resnet()).items()})
    result = inspection.inspect(path)
    assert result.verdict.startswith(verdict)
    assert bool(result.models) is has_models
    request = conversion.ConversionRequest(source=ParamsSource(None, path), out=tmp_path / "out")
    with pytest.raises(ConversionError) as refused:
        conversion.run(request)
    headline = str(refused.value).split("\n")[0].removeprefix(f"{path}: ")
    assert result.verdict.startswith(headline)


def test_symbol_api_is_named(tmp_path: Path) -> None:
    names = ["bn_data_gamma", "conv0_weight", "stage1_unit1_bn1_moving_mean", "fc1_bias"]
    arrays = {name: np.ones(3, np.float32) for name in names}
    path = write_sparse(tmp_path / "net.params", arrays)
    verdict = "parameters of a network that was built with MXNet's symbol API, not a supported network"
    first, *lines = printed(path)
    assert first == f"{verdict}; try its graph, if there is a -symbol.json: convert GRAPH OUT --params FILE"
    assert lines[-4:] == [
        "note       other       bn_data_gamma",
        "  other       stage1_unit1_bn1_moving_mean",
        "  other       fc1_bias",
        "next       gluon2torch list",
    ]
    renamed = {name.replace("moving", "running"): each for name, each in arrays.items()}
    other = printed(write_sparse(tmp_path / "other.params", renamed))[0]
    assert other.startswith(
        "parameters of no supported network: these names follow no supported naming style"
    )


def test_moving_mean_of_a_gluon_network_is_no_sign_of_the_symbol_api(tmp_path: Path) -> None:
    arrays = index_based(catalog.find(RESNEXT), "resnext0_")
    arrays = {name.replace("running_", "moving_"): each for name, each in arrays.items()}
    path = write_sparse(tmp_path / "net.params", arrays)
    assert printed(path)[0].startswith(f"parameters of {RESNEXT}, 1000 classes: ")


def test_first_differences_show_missing_and_unexpected_names(tmp_path: Path) -> None:
    arrays = {name.replace("conv1", "first"): each for name, each in resnet().items()}
    lines = (inspection.inspect(write_sparse(tmp_path / "net.params", arrays)).remark or "").splitlines()
    assert [line.split()[0] for line in lines[:4]] == ["missing", "unexpected"] * 2


def test_not_finite_values_are_in_the_verdict_after_a_full_read(tmp_path: Path) -> None:
    arrays = {name: np.ones(each.shape, np.float32) for name, each in resnet().items()}
    arrays["fc.bias"][:2] = np.nan, np.inf
    path = tmp_path / "net.params"
    with path.open("wb") as stream:
        write_params(stream, arrays)
    assert "not finite" not in printed(path)[0]
    assert printed(path, "--full")[0] == (
        f"parameters of {RESNET}, 1000 classes, with 2 values that are not finite, which convert refuses: "
        "pass a checkpoint from before they appeared"
    )


def wrapped_export(tmp_path: Path, **settings: str) -> tuple[Path, Path]:
    """Write a network behind a prefix and its graph, whose first BatchNorm has the settings."""
    model = catalog.find(RESNET)
    params = write_sparse(tmp_path / "net-0000.params", prefixed(resnet(), "model."))
    graph = tmp_path / "net-symbol.json"
    names = {name: f"model.{name}" for name in model.source_shapes}
    graph.write_text(json.dumps(changed(symbol(model, names), "bn1", **settings)))
    return params, graph


def test_graph_of_a_wrapped_network_is_matched(tmp_path: Path) -> None:
    params, graph = wrapped_export(tmp_path)
    assert "graph      net-symbol.json: operators, wiring and settings match" in printed(params)
    assert printed(graph)[0] == (
        f"graph of {RESNET} behind `model.`, 1000 classes: "
        f"{CONVERT} --params {shlex.quote(str(params))} --symbol {graph}"
    )


def test_graph_that_differs_from_the_network_of_its_parameters(tmp_path: Path) -> None:
    params, graph = wrapped_export(tmp_path, eps="0.5")
    assert "with another graph, which convert refuses" in printed(params)[0]
    verdict, *lines = printed(graph)
    assert verdict == (
        f"graph that differs from the network in net-0000.params: gluon2torch convert {graph} OUT "
        f"--params {params} converts the graph, convert auto refuses the pair. Differences:"
    )
    assert "    bn1: eps 0.5 in the graph, 1e-05 in the model" in lines
