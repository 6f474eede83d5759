"""``convert --format onnx`` and ``pt2``: the files compute what the reference computes, or are not kept."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import generated_modules
import numpy as np
import pytest
import torch
from graph_building import Network

from converter.choices import ExportFormat
from converter.cli import app
from converter.commands import graph_conversion, graph_loading
from converter.errors import ExportError, UsageError
from converter.exports import exporting
from converter.formats import onnx_file, program_file
from converter.formats.params import write_params
from converter.parity.options import ParityOptions
from converter.storage import disk

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from converter.commands.graph_conversion import GraphConversionResult
    from converter.dtypes import Array

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")
pytest.importorskip("onnxscript")

SIZE = 32
NUMPY = ParityOptions("numpy", sizes=[SIZE], dtypes=["float32"])
SINGLE = 1e-5  # relative to the standard deviation; measured 1e-7 to 4e-7
pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning"),  # of the exporter
    pytest.mark.usefixtures("onnx_operators"),
]


def network(*, fixed: bool = False) -> Network:
    """Return a small network with two outputs; its reshape fixes the number of images if ``fixed``."""
    net = Network()
    x = net.residual("stage1_unit1", net.norm("bn0", net.conv("conv0", "data", 3, 4, 2), 4), 4, 4)
    x = net.apply("Pooling", "pool1", x, global_pool="True", pool_type="avg")
    x = net.apply("Reshape", "flat", x, shape="(1, 4)" if fixed else "(0, -1)")
    net.dense("fc1", x, 4, 5)
    return net


@pytest.fixture(scope="module")
def save(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., tuple[Path, Path]]:
    """Return a function that writes a graph and its parameters."""

    def write(net: Network, dtype: str = "float32") -> tuple[Path, Path]:
        folder = tmp_path_factory.mktemp("graph")
        graph, params = folder / "net-symbol.json", folder / "net-0000.params"
        graph.write_bytes(net.build("fc1", "stage1_unit1_relu2").content)
        arrays = generated_modules.random_parameters(net.shapes)
        with params.open("wb") as stream:
            write_params(stream, {name: array.astype(dtype) for name, array in arrays.items()})
        return graph, params

    return write


@pytest.fixture(scope="module")
def result(
    save: Callable[..., tuple[Path, Path]], tmp_path_factory: pytest.TempPathFactory
) -> GraphConversionResult:
    """Return a conversion to every format, of weights in float64."""
    graph, params = save(network(), "float64")
    out = tmp_path_factory.mktemp("out")
    return graph_conversion.convert_graph(
        graph, out, params=params, pth=True, exports=["pt2", "onnx", "onnx"], options=NUMPY
    )


def expected(result: GraphConversionResult, images: Array) -> list[Array]:
    assert result.module
    names = generated_modules.load_source(result.module.read_text())
    return generated_modules.outputs(names["load"](str(result.artifact)), images.astype(np.float64))


def file(result: GraphConversionResult, suffix: str) -> Path:
    (path,) = (path for path in result.more if path.suffix == suffix)
    return path


@pytest.mark.parametrize("count", [1, 5])
@pytest.mark.parametrize(("suffix", "run"), [(".onnx", onnx_file.run), (".pt2", program_file.run)])
def test_files_take_any_number_of_images(
    result: GraphConversionResult, suffix: str, run: Callable[[Path, Array], list[Array]], count: int
) -> None:
    images = np.random.Generator(np.random.PCG64(5)).normal(0, 1, (count, 3, SIZE, SIZE)).astype(np.float32)
    outputs = run(file(result, suffix), images)
    for ours, theirs in zip(expected(result, images), outputs, strict=True):
        assert theirs.dtype == np.float32
        assert np.abs(ours - theirs).max() < SINGLE * ours.std()


def test_manifest_records_the_files(result: GraphConversionResult) -> None:
    document = json.loads(result.manifest_file.read_text())
    records = {record["file"]: record for record in document["artifact"]["exports"]}
    assert sorted(records) == sorted(path.name for path in result.more if path.suffix != ".pth")
    for name, record in records.items():
        path = result.artifact.with_name(name)
        assert (disk.sha256(path), path.stat().st_size) == (record["sha256"], record["bytes"])
        assert path.stem == f"net-{record['sha256'][:8]}"
        assert (record["shape"], record["dynamic_batch"]) == ([1, 3, SIZE, SIZE], True)
        assert record["reference"] == "numpy"
        assert 0 < record["relative"] < SINGLE < record["limit"]
        assert record["versions"]["torch"] == torch.__version__
    assert document["artifact"]["pth"]["file"] == file(result, ".pth").name
    assert len(list(result.artifact.parent.iterdir())) == 6


def test_onnx_file_has_the_names_of_the_graph_and_no_paths(result: GraphConversionResult) -> None:
    path = file(result, ".onnx")
    graph = onnx.load(path).graph
    assert [each.name for each in graph.input] == ["data"]
    assert [each.name for each in graph.output] == ["fc1", "stage1_unit1_relu2"]
    for each in result.more:
        assert b"site-packages" not in each.read_bytes()


def test_fixed_number_of_images_is_recorded(save: Callable[..., tuple[Path, Path]], tmp_path: Path) -> None:
    """Without a proof, the files are compared with the module itself."""
    graph, params = save(network(fixed=True))
    none = ParityOptions("none")
    result = graph_conversion.convert_graph(graph, tmp_path, params=params, exports=["pt2"], options=none)
    (record,) = result.manifest.artifact.exports
    assert (record.dynamic_batch, record.reference, record.shape) == (False, "module", (1, 3, 224, 224))


def shifted(run: Callable[[Path, Array], list[Array]]) -> Callable[[Path, Array], list[Array]]:
    return lambda path, images: [array + 0.001 for array in run(path, images)]


def test_differing_file_is_not_kept(
    save: Callable[..., tuple[Path, Path]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    graph, params = save(network())
    monkeypatch.setattr(program_file, "run", shifted(program_file.run))
    with pytest.raises(
        ExportError, match=r"the \.pt2 computes other outputs(?s:.*)found       \d\.\de-0[23]"
    ):
        graph_conversion.convert_graph(graph, tmp_path / "out", params=params, exports=["pt2"], options=NUMPY)
    assert not (tmp_path / "out").exists()


def test_file_is_compared_with_the_reference_and_not_with_the_module(
    save: Callable[..., tuple[Path, Path]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    graph, params = save(network(fixed=True))
    original = graph_loading.prove

    def other(*arguments: Any) -> graph_loading.ProvenGraph:  # noqa: ANN401 - passed on
        proven = original(*arguments)
        assert proven.proof
        heads = tuple(tuple(array * 1.01 for array in each) for each in proven.proof.heads)
        return replace(proven, proof=replace(proven.proof, heads=heads))

    monkeypatch.setattr(graph_loading, "prove", other)
    with pytest.raises(ExportError, match="computes other outputs than expected"):
        graph_conversion.convert_graph(graph, tmp_path / "out", params=params, exports=["pt2"], options=NUMPY)
    assert not (tmp_path / "out").exists()


def test_missing_package_stops_before_any_work(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(onnx_file, "PACKAGES", ("onnx", "onnxnowhere"))
    message = (
        r"an ONNX file needs onnxnowhere, which cannot be found\n"
        r'  try         pip install "gluon2torch\[onnx\]"$'
    )
    with pytest.raises(ExportError, match=message):
        graph_conversion.convert_graph("no.json", tmp_path / "out", params="no.params", exports=["onnx"])
    assert not (tmp_path / "out").exists()


def test_unknown_format_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="`exports`: expected onnx, pt2, found 'tflite'"):
        graph_conversion.convert_graph("no.json", tmp_path, params="no.params", exports=["tflite"])
    with pytest.raises(UsageError, match="`exports`: expected a list of names, found 'onnx'"):
        graph_conversion.convert_graph("no.json", tmp_path, params="no.params", exports="onnx")


def test_graph_with_two_inputs_is_refused(save: Callable[..., tuple[Path, Path]], tmp_path: Path) -> None:
    net = network()
    net.nodes.append(("null", "more", {}, []))
    net.apply("broadcast_add", "sum", "fc1", "more")
    graph, params = save(net)
    graph.write_bytes(net.build("sum").content)
    with pytest.raises(
        UsageError, match="cannot be exported: its inputs are data, more\n  expected  one image"
    ):
        graph_conversion.convert_graph(
            graph, tmp_path / "out", params=params, exports=["pt2"], options=ParityOptions("none")
        )
    assert not (tmp_path / "out").exists()


def test_network_that_torch_cannot_trace_is_refused() -> None:
    class Dependent(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x[: int(x.sum())]

    with pytest.raises(
        ExportError, match=r"torch\.export cannot trace the network\n  found       Could not guard"
    ):
        program_file.trace(Dependent(), (3, 2, 2))


def test_large_weights_are_in_a_second_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    net = torch.nn.Conv2d(3, 40, 3).eval()
    image = np.ones((1, 3, 4, 4), np.float32)
    source = exporting.ExportSource(
        network=net,
        stem="net",
        sha256="0" * 64,
        inputs=("data",),
        outputs=("out",),
        image=image,
        expected=program_file.outputs(net, image),
        reference="module",
    )
    monkeypatch.setattr(onnx_file, "MAX_BYTES", 1000)
    with exporting.draft(tmp_path, [ExportFormat.onnx], source) as (exported,):
        assert exported.record.data is not None
        assert exported.record.data.file == "net-00000000.onnx.data"
        assert exported.record.data.bytes >= 40 * 3 * 9 * 4
        for path, name in exported.paths.items():
            path.rename(tmp_path / name)
    (output,) = onnx_file.run(tmp_path / exported.record.file, image)
    assert np.abs(output - source.expected[0]).max() < SINGLE
    (tmp_path / exported.record.data.file).unlink()
    with pytest.raises(ExportError, match="onnxruntime cannot run the ONNX file"):
        onnx_file.run(tmp_path / exported.record.file, image)


def test_command_prints_what_was_checked(
    save: Callable[..., tuple[Path, Path]],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    graph, params = save(network())
    options = ["--params", str(params), "--reference", "numpy", "--size", "32", "--proof-dtype", "float32"]
    monkeypatch.setattr(sys, "argv", ["convert"])
    app.convert_app(
        [str(graph), str(tmp_path / "out"), *options, "--format", "pt2", "--format", "pth"],
        standalone_mode=False,
    )
    text = capsys.readouterr().out
    assert "checked pt2: float32, any number of images of 3 × 32 × 32; outputs agree with the graph" in text
    assert ".pth\n" in text


def test_outputs_after_a_sort_are_compared_with_the_module(tmp_path: Path) -> None:
    """There a rounding may select another element than the reference in float64."""
    net = network()
    net.apply("topk", "top", net.apply("Activation", "act", "fc1", act_type="tanh"), k="2", ret_typ="value")
    params = tmp_path / "net-0000.params"
    with params.open("wb") as stream:
        write_params(stream, generated_modules.random_parameters(net.shapes))
    for head, reference in (("top", "module"), ("act", "numpy")):
        graph = tmp_path / f"{head}-symbol.json"
        graph.write_bytes(net.build(head).content)
        result = graph_conversion.convert_graph(
            graph, tmp_path / head, params=params, exports=["pt2"], options=NUMPY
        )
        (record,) = result.manifest.artifact.exports
        assert (record.reference, record.shape) == (reference, (1, 3, SIZE, SIZE))
