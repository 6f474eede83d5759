"""`inspect` of folders, graphs and archives: what is there, and what to do with it."""

from __future__ import annotations

import gzip
import json
import pickle
import shlex
import zipfile
from typing import TYPE_CHECKING

import numpy as np
import pytest
from manifests import manifest
from safetensors.numpy import save_file
from symbols import changed, symbol
from test_archives import zipped
from test_detect import tarred
from test_inspection import write_sparse
from typer.testing import CliRunner

from converter.cli import inspect as command
from converter.cli.app import app
from converter.commands import folder_inspection, inspection, inspection_document
from converter.errors import SourceError
from converter.formats.kinds import Kind
from converter.formats.params import write_params
from converter.networks import catalog, matching, synthetic

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from converter.dtypes import Array
    from converter.networks.catalog import Model

    Write = Callable[[dict[str, Array]], Path]

SMALL = {"a.weight": np.ones(3, np.float32)}


@pytest.fixture(autouse=True)
def tiny_catalog(tiny: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    """Reduce the catalog to the tiny model."""
    monkeypatch.setattr(catalog, "models", lambda: {tiny.name: tiny})


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return a folder of an export, with class names and files that say nothing about a network."""
    place = tmp_path / "my models"
    (place / "inner").mkdir(parents=True)
    write_sparse(place / "net-0000.params", SMALL)
    (place / "net-symbol.json").write_text('{"nodes": [{"op": "null"}]}')
    (place / "synset.txt").write_text("a\nb\n")
    (place / "notes.txt").write_text("hello")
    (place / "config.json").write_text("{}")
    return place


def printed(path: Path, *options: str) -> list[str]:
    result = CliRunner().invoke(app, ["inspect", str(path), *options])
    assert (result.exit_code, result.stderr) == (0, "")
    return result.stdout.splitlines()


def test_folder_is_listed_with_the_command_that_converts(folder: Path) -> None:
    verdict, size, *entries, following = printed(folder)
    params = shlex.quote(str(folder / "net-0000.params"))
    assert verdict == (
        f"folder with 1 parameter file, 1 graph, 1 class list: gluon2torch convert auto OUT --params {params}"
    )
    assert size.startswith("folder     my models, ")
    assert entries == [
        "  net-0000.params: Gluon parameters",
        "  net-symbol.json: the graph of an MXNet network",
        "  synset.txt: class names",
        "  and 3 other entries",
    ]
    assert following == f"next       gluon2torch convert auto OUT --params {params}"


def test_folder_of_several_parameter_files_names_none_of_them(folder: Path) -> None:
    write_sparse(folder / "other-0005.params", SMALL)
    verdict = printed(folder)[0]
    assert verdict.startswith("folder with 2 parameter files, 1 graph, 1 class list: ")
    assert verdict.endswith("gluon2torch inspect FILE describes one of them")


def test_converted_files_are_those_with_a_manifest(tmp_path: Path) -> None:
    for name, array in (("a", np.ones(1)), ("model", np.ones(2))):
        save_file({"w": array}, tmp_path / f"{name}.safetensors")
    (tmp_path / "a.json").write_text("{}")  # not a manifest
    (tmp_path / "manifest.json").write_text(json.dumps(manifest(tmp_path / "model.safetensors")))
    result = inspection.inspect(tmp_path)
    assert [entry.is_converted for entry in result.entries or ()] == [False, True]
    assert result.verdict == (
        f"folder with 1 PyTorch checkpoint, 1 converted file: gluon2torch verify {shlex.quote(str(tmp_path))}"
    )


@pytest.fixture
def weights(tiny: Model, tiny_params: dict[str, Array], tmp_path: Path) -> Path:
    path = tmp_path / "model.safetensors"
    save_file(matching.rename(tiny.mapping, tiny_params, tiny.shapes, "tiny"), path)
    return path


def test_verdict_about_a_pytorch_file_depends_on_the_manifest(weights: Path) -> None:
    checkpoint = f"PyTorch checkpoint of tiny, 10 classes: gluon2torch to-gluon {weights} OUT.params"
    assert inspection.inspect(weights).verdict == checkpoint
    weights.with_suffix(".json").write_text("{}")  # of something else
    assert inspection.inspect(weights).verdict == checkpoint
    document = manifest(weights, model="tiny")
    weights.with_name("manifest.json").write_text(json.dumps(document))
    assert inspection.inspect(weights).verdict == (
        f"converted weights of tiny, 10 classes: gluon2torch predict IMAGE --weights {weights}"
    )
    document["artifact"]["sha256"] = "0" * 64  # of another file
    weights.with_name("manifest.json").write_text(json.dumps(document))
    assert inspection.inspect(weights).verdict == checkpoint


def test_output_stride_is_read_from_the_manifest(weights: Path) -> None:
    document = manifest(weights, model="tiny", model_args={"output_stride": 8})
    weights.with_name("any.json").write_text(json.dumps(document))
    result = inspection.inspect(weights)
    assert (result.is_converted, result.models[0].config.output_stride) == (True, 8)


def test_unreadable_manifest_is_remarked(weights: Path) -> None:
    document = manifest(weights, model="tiny", schema_version=99)
    weights.with_name("manifest.json").write_text(json.dumps(document))
    result = inspection.inspect(weights)
    assert (result.is_converted, [model.name for model in result.models]) == (False, ["tiny"])
    assert "manifest.json" in str(result.remark)


def test_converted_backbone_is_not_sent_to_predict(tiny: Model, weights: Path) -> None:
    backbone = tiny.with_config(num_classes=0)
    params = synthetic.random_params(backbone.mapping, backbone.shapes, seed=0)
    save_file(matching.rename(backbone.mapping, params, backbone.shapes, "tiny"), weights)
    weights.with_suffix(".json").write_text(json.dumps(manifest(weights, model="tiny")))
    assert inspection.inspect(weights).verdict == (
        "converted weights of the backbone of tiny without a head: "
        f"resnext_torch.create_model('tiny', {str(weights)!r}, features_only=True)"
    )


def test_packed_checkpoint_is_to_be_unpacked(weights: Path) -> None:
    packed = weights.with_suffix(".gz")
    packed.write_bytes(gzip.compress(weights.read_bytes()))
    assert inspection.inspect(packed).verdict == (
        "PyTorch checkpoint of tiny, 10 classes: unpack it, and pass the file inside"
    )


@pytest.mark.parametrize("name", ["", "a.txt"])
def test_folder_without_files_of_networks(name: str, tmp_path: Path) -> None:
    if name:
        (tmp_path / name).touch()
    result = inspection.inspect(tmp_path)
    assert (result.entries, result.others) == ((), int(bool(name)))
    assert result.verdict.startswith("folder without files of networks: ")


def test_files_of_other_kinds_are_listed(tmp_path: Path) -> None:
    (tmp_path / "a.pkl").write_bytes(pickle.dumps({"a": np.ones(1)}))
    (tmp_path / "b.params").write_bytes(b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n")
    entries = inspection.inspect(tmp_path).entries or ()
    assert [(entry.name, entry.what) for entry in entries] == [
        ("a.pkl", "a pickle of numpy arrays"),
        ("b.params", "a Git LFS pointer"),
    ]


def test_large_folder_is_listed_in_part(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(command, "MAX_ENTRIES", 2)
    monkeypatch.setattr(folder_inspection, "MAX_FILES", 4)
    for number in range(5):
        write_sparse(tmp_path / f"{number}.params", SMALL)
    lines = printed(tmp_path)
    assert len(lines) == 6
    assert lines[-2] == "  and 2 other entries"


def test_folder_as_json(folder: Path) -> None:
    document = json.loads("\n".join(printed(folder, "--json")))
    unrecorded = {"converted": False, "trained": False}
    assert document["entries"] == {
        "net-0000.params": {"what": "Gluon parameters", "kind": "ndarray-list", **unrecorded},
        "net-symbol.json": {"what": "the graph of an MXNet network", "kind": "graph", **unrecorded},
        "synset.txt": {"what": "class names", "kind": None, **unrecorded},
    }
    assert document["others"] == 3
    assert (document["kind"], document["tensors"]) == (None, None)


def test_file_of_the_same_size_is_not_taken_for_the_converted_one(weights: Path) -> None:
    document = manifest(weights, model="tiny")
    weights.with_suffix(".json").write_text(json.dumps(document))
    weights.with_name("other.safetensors").write_bytes(weights.read_bytes())
    entries = inspection.inspect(weights.parent).entries or ()
    assert {entry.name: entry.is_converted for entry in entries if entry.name.endswith("safetensors")} == {
        weights.name: True,
        "other.safetensors": False,
    }


def test_graph_is_summarized_and_its_network_named(tiny: Model, tmp_path: Path) -> None:
    path = tmp_path / "net-symbol.json"
    path.write_text(json.dumps(symbol(tiny)))
    result = inspection.inspect(path)
    summary = result.summary
    assert summary is not None
    assert result.models == (tiny,)
    assert result.verdict == (
        f"graph of tiny, 10 classes: gluon2torch convert auto OUT --params PARAMS --symbol {path}"
    )
    assert (summary.inputs, summary.parameters) == (("data",), len(tiny.mapping.tensors))
    assert dict(summary.operators)["FullyConnected"] == 1
    assert summary.nodes == len(json.loads(path.read_text())["nodes"])
    assert inspection_document.document(result)["summary"]["operators"]["FullyConnected"] == 1
    lines = {line[:10].strip(): line[11:] for line in printed(path)[1:]}
    assert lines["inputs"] == "data"
    assert lines["nodes"] == f"{summary.nodes}, of which {summary.parameters} are parameters"
    (tmp_path / "net-0000.params").touch()
    assert f"--params {tmp_path / 'net-0000.params'} " in inspection.inspect(path).verdict


def test_graph_with_another_setting_is_of_no_named_network(tiny: Model, tmp_path: Path) -> None:
    path = tmp_path / "net-symbol.json"
    path.write_text(json.dumps(changed(symbol(tiny), "features.1", eps="0.001")))
    result = inspection.inspect(path)
    assert result.models == ()
    assert result.verdict == f"graph of no named network: gluon2torch convert {path} OUT --params PARAMS"


def test_graph_with_another_number_of_classes_is_recognised(tiny: Model, tmp_path: Path) -> None:
    path = tmp_path / "net-symbol.json"
    path.write_text(json.dumps(symbol(tiny.with_config(num_classes=3))))
    assert inspection.inspect(path).models == (tiny.with_config(num_classes=3),)


@pytest.mark.parametrize("kind", [Kind.gzip, Kind.zip, Kind.tar, Kind.tar_gz])
def test_small_archive_is_read_without_full(
    kind: Kind, tiny: Model, tiny_params: dict[str, Array], write: Write, tmp_path: Path
) -> None:
    content = write(tiny_params).read_bytes()
    packed = tmp_path / "packed"
    pack = {
        Kind.gzip: lambda: gzip.compress(content, 1),
        Kind.zip: lambda: zipped(("a.params", content), method=zipfile.ZIP_STORED),
        Kind.tar: lambda: tarred(("a.params", content)),
        Kind.tar_gz: lambda: gzip.compress(tarred(("a.params", content)), 1),
    }
    packed.write_bytes(pack[kind]())
    result = inspection.inspect(packed)
    assert (result.archive, result.models, result.sha1, result.statistics) == (kind, (tiny,), None, None)
    assert result.verdict == (
        f"parameters of tiny, 10 classes: gluon2torch convert auto OUT --params {packed}"
    )


def test_zip_of_several_parameter_files_is_refused_without_unpacking(tmp_path: Path) -> None:
    (tmp_path / "a.zip").write_bytes(zipped(*((f"{number}.params", b"") for number in range(12))))
    with pytest.raises(
        SourceError, match=r"found 12\n  0\.params\n(?s:.*)\n  and 2 more\n  unpack the archive"
    ):
        inspection.inspect(tmp_path / "a.zip")


def test_every_dtype_and_its_values_are_counted(tmp_path: Path) -> None:
    arrays: dict[str, Array] = {
        "a.weight": np.ones((2, 3), np.int8),
        "b.weight": np.ones(5, np.float32),
        "c.weight": np.ones(7, np.int64),
        "d.weight": np.ones(1, np.uint8),
    }
    with (tmp_path / "a.params").open("wb") as stream:
        write_params(stream, arrays)
    result = inspection.inspect(tmp_path / "a.params")
    assert dict(result.dtypes) == {"int8": 1, "float32": 1, "int64": 1, "uint8": 1}
    assert (result.values, result.numbers) == (19, 5)
    lines = {line[:10].strip(): line[11:] for line in printed(tmp_path / "a.params")[1:]}
    assert lines["tensors"].endswith("19 values, 14 of them not floating-point")


def test_verdict_about_parameters_of_no_supported_network(tmp_path: Path) -> None:
    path = write_sparse(tmp_path / "a.params", SMALL)
    assert printed(path)[0] == (
        "parameters of no supported network; the closest is tiny; "
        "try its graph, if there is a -symbol.json: convert GRAPH OUT --params FILE"
    )


def test_verdict_about_another_graph(
    tiny: Model, tiny_params: dict[str, Array], write: Write, tmp_path: Path
) -> None:
    path = write(tiny_params)
    (tmp_path / "holiday-symbol.json").write_text(json.dumps(symbol(tiny)))
    assert printed(path)[0].startswith("parameters of tiny, 10 classes: ")
    graph = json.dumps(changed(symbol(tiny), "features.1", eps="0.001"))
    (tmp_path / "holiday-symbol.json").write_text(graph)
    assert printed(path)[0].startswith("parameters of tiny, 10 classes, with another graph, which convert")
