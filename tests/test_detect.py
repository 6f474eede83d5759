"""Every kind of file that users pass is named with its next step; files that only begin alike are not."""

from __future__ import annotations

import gzip
import io
import json
import pickle
import re
import shlex
import subprocess
import sys
import tarfile
import zipfile
from collections import OrderedDict
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from test_archives import CONTENT, zipped
from typer.testing import CliRunner

from converter.cli.app import app
from converter.commands import conversion, inspection
from converter.errors import ConversionError, SourceError, StorageError
from converter.formats import checkpoint, detect, kinds, params, pickle_contents
from converter.formats.kinds import GLUON, PACKED, PYTORCH, Kind
from converter.networks.selection import ParamsSource
from converter.parity.options import ParityOptions

if TYPE_CHECKING:
    from pathlib import Path

    from converter.networks.catalog import Model

ARRAYS = {"fc.bias": np.ones(3, np.float32)}
GRAPH = json.dumps({"nodes": [{"op": "null", "name": "data", "inputs": []}], "heads": [[0, 0, 0]]}).encode()
POINTER = (
    b"version https://git-lfs.github.com/spec/v1\n"
    b"oid sha256:4d7a214614ab2935c943f9e0ff69d22eadbb8f32b1258daaa5e2ca24d17e2393\nsize 102400000\n"
)
PAGE = b"<!DOCTYPE html>\n<html><head><title>Virus scan warning</title></head></html>"
S3_ERROR = b'<?xml version="1.0" encoding="UTF-8"?>\n<Error><Code>AccessDenied</Code></Error>'
ONNX = b"\x08\x07\x12\x07pytorch\x1a\x051.8.0:\x04\n\x02\n\x00"
TFLITE = b"\x1c\0\0\0TFL3\x14\0\x20\0"


def pickled(module: str, name: str, protocol: int = 4, net: bytes = b"") -> bytes:
    """Return the pickle of an object of a class that is not installed."""
    state = b"}X\x03\0\0\0netB" + len(net).to_bytes(4, "little") + net + b"sb"
    if protocol == 2:
        return b"\x80\x02c" + f"{module}\n{name}\n".encode() + b")\x81" + state + b"."
    words = [b"\x8c" + bytes([len(word)]) + word.encode() + b"\x94" for word in (module, name)]
    return b"\x80\x04}K\0" + b"".join(words) + b"\x93)\x81" + state + b"s."


def npy(array: Any) -> bytes:  # noqa: ANN401 - whatever numpy saves
    stream = io.BytesIO()
    np.save(stream, array, allow_pickle=True)
    return stream.getvalue()


def tarred(*members: tuple[str, bytes]) -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as archive:
        for name, content in members:
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return stream.getvalue()


def torch_file(*, is_zip: bool) -> bytes:
    stream = io.BytesIO()
    torch.save({"a": torch.ones(2)}, stream, _use_new_zipfile_serialization=is_zip)
    return stream.getvalue()


ESTIMATOR = "gluoncv.auto.estimators.image_classification.image_classification"
FILES = [
    (CONTENT, Kind.ndarray_list),
    (CONTENT[:5], Kind.ndarray_list),
    (gzip.compress(CONTENT), Kind.gzip),
    (zipped(("a.params", CONTENT)), Kind.zip),
    (tarred(("a.params", CONTENT)), Kind.tar),
    (gzip.compress(tarred(("a.params", CONTENT))), Kind.tar_gz),
    (torch_file(is_zip=True), Kind.torch),
    (torch_file(is_zip=False), Kind.torch),
    (GRAPH, Kind.graph),
    (b"\xef\xbb\xbf  " + GRAPH, Kind.graph),
    (GRAPH[:-3], Kind.graph),
    (pickled("mxnet.optimizer.optimizer", "NAG"), Kind.optimizer_states),
    (pickled("mxnet.optimizer.sgd", "SGD", 2), Kind.optimizer_states),
    (pickled(ESTIMATOR, "ImageClassificationEstimator", net=CONTENT), Kind.estimator),
    (pickled("autogluon.vision.predictor.predictor", "ImagePredictor", net=CONTENT), Kind.predictor),
    (pickled("mxnet.ndarray.ndarray", "NDArray", net=CONTENT), Kind.mxnet_pickle),
    (pickle.dumps(ARRAYS), Kind.numpy_pickle),
    (pickle.dumps(OrderedDict(ARRAYS), 2), Kind.numpy_pickle),
    (pickle.dumps({"a": 1}), Kind.pickle),
    (pickle.dumps(print), Kind.pickle),
    (npy(np.ones(3)), Kind.npy),
    (npy(ARRAYS), Kind.npy_objects),
    (zipped(("README", b"of a model")), Kind.other_zip),
    (zipped(("a.params", CONTENT))[:-30], Kind.damaged_zip),
    (torch_file(is_zip=True)[:100], Kind.damaged_zip),
    (POINTER, Kind.lfs_pointer),
    (PAGE, Kind.html),
    (b'<?xml version="1.0"?><!DOCTYPE html PUBLIC "-//W3C//DTD XHTML 1.0//EN">', Kind.html),
    (b"\n<HTML>", Kind.html),
    (S3_ERROR, Kind.storage_error),
    (b"<Error><Code>NoSuchKey</Code></Error>", Kind.storage_error),
    (b'<?xml version="1.0"?><svg/>', Kind.xml),
    (b'{"signature": [1]}', Kind.json),
    (b"[]", Kind.json),
    (ONNX, Kind.onnx),
    (b"\x08\x03:\x9c\x01\n\x20", Kind.onnx),
    (b"\x89HDF\r\n\x1a\n\0\0\0", Kind.hdf5),
    (b"DJL@\0\0\0\1\0\6resnet", Kind.djl),
    (TFLITE, Kind.tflite),
    (b"", Kind.empty),
]
# Files that begin alike, or of which a part is missing that the kind has.
ALIKE = [
    (b"\x12\x02" + CONTENT[2:], Kind.unknown),
    (POINTER.partition(b"oid")[0], Kind.unknown),
    (b"version https://git-lfs.github.com/spec/v2\noid sha256:0\n", Kind.unknown),
    (b"<htmlx>", Kind.unknown),
    (b"<Errors><Code>", Kind.unknown),
    (b"<?xmlns", Kind.unknown),
    (b"{nodes and ops}", Kind.unknown),
    (b'{"nodes": [], "edges": []}', Kind.json),
    (b"[section]\nkey = 1\n", Kind.unknown),
    (b"\x93NUMPX\1\0", Kind.unknown),
    (b"\x89HDF\n", Kind.unknown),
    (b"DJL@home is a blog", Kind.unknown),
    (b"\x1c\0\0\0TFL4", Kind.unknown),
    (b"\x08\x07\x12\x07\0\1\2\3", Kind.unknown),
    (b"\x08\x07:\x01\x01", Kind.unknown),
    (b"{\0\0\0\0\0\0\0{}", Kind.safetensors),  # a header of 123 bytes
    (pickled("mxnet_tools", "Note"), Kind.pickle),
    (pickled("gluoncv.data", "Dataset"), Kind.pickle),
    (pickle.dumps("mxnet.optimizer.optimizer"), Kind.pickle),
    (pickle.dumps({"a": np.ones(1), "f": print}), Kind.pickle),
    (b"\x80", Kind.torch),
    (b"\x80\x04\x95", Kind.torch),
]


@pytest.mark.parametrize(("content", "kind"), FILES, ids=lambda value: getattr(value, "name", ""))
def test_kind_is_detected_under_any_name(content: bytes, kind: Kind, tmp_path: Path) -> None:
    for name in ("a.params", "b.json", "c"):
        (tmp_path / name).write_bytes(content)
        assert detect.kind(tmp_path / name) is kind


@pytest.mark.parametrize(("content", "kind"), ALIKE, ids=lambda value: getattr(value, "name", ""))
def test_file_that_begins_alike_is_not_called_that(content: bytes, kind: Kind, tmp_path: Path) -> None:
    (tmp_path / "a.params").write_bytes(content)
    assert detect.kind(tmp_path / "a.params") is kind


def test_every_kind_has_a_test_a_description_and_a_next_step() -> None:
    tested = {kind for _, kind in [*FILES, *ALIKE]} | {Kind.npz}
    assert tested == set(Kind) == set(kinds.DESCRIPTIONS)
    for description in kinds.DESCRIPTIONS.values():
        assert description.what
        assert description.next


OTHERWISE = GLUON | PACKED | PYTORCH | {Kind.graph, Kind.damaged_zip}  # tested on their own
REFUSED = [(content, kind) for content, kind in FILES if kind not in OTHERWISE]


@pytest.mark.parametrize(("content", "kind"), REFUSED, ids=lambda value: getattr(value, "name", ""))
def test_every_reader_says_what_the_file_is_and_the_next_step(
    content: bytes, kind: Kind, tiny: Model, tmp_path: Path
) -> None:
    path = tmp_path / "mine.params"
    path.write_bytes(content)
    expected = kinds.DESCRIPTIONS[kind]
    request = conversion.ConversionRequest(
        source=ParamsSource(tiny, path), out=tmp_path / "out", options=ParityOptions("none")
    )
    for read in (
        lambda: inspection.inspect(path),
        lambda: checkpoint.read(path),
        lambda: params.load_params(path),
        lambda: conversion.run(request),
    ):
        with pytest.raises(ConversionError) as refused:
            read()
        headline, *_, step = str(refused.value).split("\n")
        assert headline.startswith(f"{path}: {expected.what}")
        assert step == f"  {expected.step(str(path))}"


def test_damaged_zip_is_not_taken_for_a_pytorch_checkpoint(tiny: Model, tmp_path: Path) -> None:
    path = tmp_path / "a.params.zip"
    path.write_bytes(zipped(("a.params", CONTENT))[:-30])
    request = conversion.ConversionRequest(source=ParamsSource(tiny, path), out=tmp_path / "out")
    for read in (lambda: inspection.inspect(path), lambda: conversion.run(request)):
        with pytest.raises(
            ConversionError, match=r"a\.params\.zip: a damaged or incomplete zip file\n  copy"
        ):
            read()
    with pytest.raises(ConversionError, match=r"a\.params\.zip: .*File is not a zip file"):
        checkpoint.read(path)


def test_server_message_is_quoted(tmp_path: Path) -> None:
    for content, text in ((PAGE, "Virus scan warning"), (S3_ERROR, "AccessDenied")):
        (tmp_path / "a").write_bytes(content)
        headline = detect.refusal(tmp_path / "a", detect.kind(tmp_path / "a")).partition("\n")[0]
        assert headline.endswith(f": {text}")


@pytest.mark.parametrize("pack", [gzip.compress, lambda content: tarred(("a.params", content))])
def test_packed_file_of_another_kind_is_named_without_a_temporary_path(pack: Any, tmp_path: Path) -> None:  # noqa: ANN401
    path = tmp_path / "a.params.gz"
    path.write_bytes(pack(POINTER))
    for read in (lambda: inspection.inspect(path, full=True), lambda: checkpoint.read(path)):
        with pytest.raises(ConversionError) as refused:
            read()
        assert str(refused.value).startswith(f"{path}: a Git LFS pointer")
        assert ".convert-" not in str(refused.value)
        assert "unpacked" not in str(refused.value)


@pytest.mark.parametrize(
    ("content", "step"),
    [
        (gzip.compress(CONTENT), kinds.UNPACK),
        (pickle.dumps({"a": np.ones(1)}), kinds.UNPACK_OTHER),
        (POINTER, kinds.DESCRIPTIONS[Kind.lfs_pointer].next),
    ],
)
def test_step_for_a_packed_file_is_not_a_command_for_the_archive(
    content: bytes, step: str, tiny: Model, tmp_path: Path
) -> None:
    path = tmp_path / "a.params.gz"
    path.write_bytes(gzip.compress(content))
    request = conversion.ConversionRequest(source=ParamsSource(tiny, path), out=tmp_path / "out")
    for read in (lambda: inspection.inspect(path), lambda: conversion.run(request)):
        with pytest.raises(ConversionError, match=rf"^.*a\.params\.gz: .*\n  {re.escape(step)}$"):
            read()


@pytest.mark.parametrize("name", ["it's mine.pkl", 'a "b" $HOME.pkl', "back\\slash é.pkl"])
def test_name_is_quoted_in_the_advised_program(name: str, tmp_path: Path) -> None:
    path = tmp_path / name
    path.write_bytes(pickle.dumps({"a": np.ones(1)}))
    step = detect.refusal(path, Kind.numpy_pickle).split("\n")[-1]
    command = step.removeprefix("  if you trust it, run ").removesuffix(", and convert weights.npz")
    program, *arguments = shlex.split(command)
    assert program == "python"
    subprocess.check_call([sys.executable, *arguments], cwd=tmp_path)
    assert [*params.load_params(tmp_path / "weights.npz")] == ["a"]


def test_name_is_quoted_in_the_advised_command() -> None:
    assert kinds.DESCRIPTIONS[Kind.torch].step("a b.pth").endswith("to-gluon 'a b.pth' OUT.params")


def test_damaged_packed_file_is_refused_without_a_temporary_path(tmp_path: Path) -> None:
    path = tmp_path / "a.params.gz"
    path.write_bytes(gzip.compress(CONTENT[:-4]))
    with pytest.raises(
        ConversionError, match=r"a\.params\.gz: byte \d+: .* is the file truncated"
    ) as refused:
        checkpoint.read(path)
    assert ".convert-" not in str(refused.value)


def test_graph_is_refused_with_the_name_of_its_parameters(tmp_path: Path) -> None:
    graph = tmp_path / "net-symbol.json"
    graph.write_bytes(GRAPH)
    (tmp_path / "net2-0000.params").touch()
    with pytest.raises(
        ConversionError, match=r"(?s): the graph of an MXNet network.*with --params, and this"
    ):
        checkpoint.read(graph)
    (tmp_path / "net-0007.params").touch()
    with pytest.raises(ConversionError, match=r"its parameters are in net-0007\.params: --params .*--symbol"):
        checkpoint.read(graph)


def test_prefix_of_an_export_is_refused_with_the_files_that_it_may_mean(tmp_path: Path) -> None:
    for name in ("model-0000.params", "model-0001.params", "model2.params", "model.txt"):
        (tmp_path / name).touch()
    with pytest.raises(StorageError) as refused:
        inspection.inspect(tmp_path / "model")
    assert str(refused.value).split("\n") == [
        f"{tmp_path / 'model'}: No such file or directory",
        f"  {tmp_path / 'model-0000.params'}",
        f"  {tmp_path / 'model-0001.params'}",
        "  pass one of these files",
    ]
    with pytest.raises(StorageError, match=r"modl: No such file or directory$"):
        inspection.inspect(tmp_path / "modl")


def test_path_that_is_too_long_is_refused(tmp_path: Path) -> None:
    for read in (inspection.inspect, checkpoint.read):
        with pytest.raises(StorageError, match="File name too long"):
            read(tmp_path / ("a" * 300))


def test_folder_is_refused_with_the_parameters_in_it(tmp_path: Path) -> None:
    (tmp_path / "a.params").touch()
    (tmp_path / "a.txt").touch()
    with pytest.raises(StorageError) as refused:
        checkpoint.read(tmp_path)
    assert str(refused.value).split("\n") == [
        f"{tmp_path}: a folder, not a file",
        f"  {tmp_path / 'a.params'}",
        f"  gluon2torch inspect {tmp_path} lists what is in it",
    ]


def test_zip_without_parameters_lists_its_members(tmp_path: Path) -> None:
    (tmp_path / "a.zip").write_bytes(zipped(*((f"{number}.txt", b"") for number in range(12))))
    message = detect.refusal(tmp_path / "a.zip", Kind.other_zip)
    assert message.split("\n")[1:12] == [*(f"  {number}.txt" for number in range(10)), "  and 2 more"]


def test_zip_of_parameters_and_arrays_is_ambiguous(tmp_path: Path) -> None:
    (tmp_path / "a.zip").write_bytes(zipped(("a.params", CONTENT), ("b.npy", b"")))
    with pytest.raises(SourceError, match=r"ambiguous zip: contains both a \.params and 'b\.npy'"):
        detect.kind(tmp_path / "a.zip")
    with zipfile.ZipFile(tmp_path / "b.zip", "w") as archive:
        archive.writestr("b.npy", b"")
    assert detect.kind(tmp_path / "b.zip") is Kind.npz


def test_detection_executes_no_pickle(tmp_path: Path) -> None:
    path, touched = tmp_path / "a.pkl", tmp_path / "touched"
    path.write_bytes(b"cpathlib\nPath.touch\n(cpathlib\nPath\n(S'" + bytes(touched) + b"'\ntRtR.")
    path.write_bytes(b"\x80\x02" + path.read_bytes())
    assert detect.kind(path) is Kind.pickle
    assert not touched.exists()


def test_large_object_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    content = pickled(ESTIMATOR, "ImageClassificationEstimator", net=bytes(1000)) + b"garbage"
    (tmp_path / "a.pkl").write_bytes(content)
    monkeypatch.setattr(pickle_contents, "MAX_OBJECT", 500)
    assert detect.kind(tmp_path / "a.pkl") is Kind.estimator


def test_folder_given_as_parameters_lists_those_in_it(tmp_path: Path) -> None:
    for name in ("a.params", "b.params"):
        (tmp_path / name).touch()
    command = ["convert", "auto", str(tmp_path / "out"), "--params", str(tmp_path)]
    result = CliRunner().invoke(app, command)
    assert result.exit_code == 1
    assert result.stderr.splitlines() == [
        f"refused  {tmp_path}: 2 parameter files",
        f"  {tmp_path / 'a.params'}",
        f"  {tmp_path / 'b.params'}",
        "  select one with --params",
    ]
    assert not (tmp_path / "out").exists()


def test_declared_length_of_a_pickle_allocates_nothing(tmp_path: Path) -> None:
    (tmp_path / "a.pkl").write_bytes(b"\x80\x04\x8e" + (1 << 60).to_bytes(8, "little") + b"end")
    assert detect.kind(tmp_path / "a.pkl") is Kind.torch
