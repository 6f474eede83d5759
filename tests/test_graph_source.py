"""What may be passed as a graph: a file, a prefix, a folder or an archive, and which parameters are taken."""

from __future__ import annotations

import gzip
import os
from typing import TYPE_CHECKING

import numpy as np
import pytest
from graph_building import Network
from test_archives import zipped
from test_detect import tarred

from converter.errors import ConversionError, SourceError, StorageError, SymbolError, UsageError
from converter.formats.params import load_params, write_params
from converter.networks import graph_argument, graph_source
from converter.progress import silent

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from converter.networks.graph_source import GraphSource

MODEL = "gluon_resnet18_v1b"
HYPERPARAMETERS = b'{"num_classes": 2}'


@pytest.fixture
def graph() -> bytes:
    network = Network()
    network.dense("fc1", "data", 3, 2)
    return network.build("fc1").content


@pytest.fixture
def weights(tmp_path: Path) -> bytes:
    path = tmp_path / "weights"
    with path.open("wb") as stream:
        write_params(stream, {"fc1_weight": np.ones((2, 3), np.float32), "fc1_bias": np.ones(2, np.float32)})
    content = path.read_bytes()
    path.unlink()
    return content


@pytest.fixture
def folder(graph: bytes, weights: bytes, tmp_path: Path) -> Path:
    """Return a folder of an export, as MXNet writes it."""
    place = tmp_path / "models"
    place.mkdir()
    (place / "net-symbol.json").write_bytes(graph)
    (place / "net-0000.params").write_bytes(weights)
    return place


def open_source(
    place: object, tmp_path: Path, params: Path | None = None, epoch: int | None = None
) -> GraphSource:
    unpacked = tmp_path / "unpacked"
    unpacked.mkdir(exist_ok=True)
    return graph_source.open_source(str(place), params, epoch, unpacked, silent)


@pytest.mark.parametrize("place", ["net-symbol.json", "net", ".", ""])
def test_files_of_an_export_are_found(place: str, folder: Path, tmp_path: Path) -> None:
    source = open_source(f"{folder}{os.sep}{place}", tmp_path)
    assert source.graph.path == folder / "net-symbol.json"
    assert source.params.path == folder / "net-0000.params"


def test_graph_under_another_name_has_parameters_of_that_name(folder: Path, tmp_path: Path) -> None:
    (folder / "net-symbol.json").rename(folder / "model.json")
    (folder / "net-0000.params").rename(folder / "model.params")
    for place in (folder / "model.json", folder):
        assert open_source(place, tmp_path).params.path == folder / "model.params"


def test_compressed_parameters_of_a_graph_are_found(folder: Path, weights: bytes, tmp_path: Path) -> None:
    (folder / "net-0000.params").unlink()
    (folder / "net-0000.params.gz").write_bytes(gzip.compress(weights, 1))
    source = open_source(folder / "net", tmp_path)
    assert source.params.user_path == folder / "net-0000.params.gz"
    assert source.params.path.read_bytes() == weights


def test_selected_parameters_take_precedence(folder: Path, weights: bytes, tmp_path: Path) -> None:
    other = tmp_path / "other.params"
    other.write_bytes(weights)
    assert open_source(folder / "net", tmp_path, other).params.path == other


def test_epoch_selects_one_of_several_parameter_files(folder: Path, weights: bytes, tmp_path: Path) -> None:
    (folder / "net-0012.params").write_bytes(weights)
    assert open_source(folder / "net", tmp_path, epoch=12).params.path == folder / "net-0012.params"
    assert open_source(folder, tmp_path, epoch=0).params.path == folder / "net-0000.params"
    with pytest.raises(SourceError) as several:
        open_source(folder / "net", tmp_path)
    assert str(several.value).split("\n") == [
        f"{folder / 'net-symbol.json'}: 2 parameter files",
        f"  {folder / 'net-0000.params'}",
        f"  {folder / 'net-0012.params'}",
        "  select one with --epoch 12, or with --params",
    ]
    with pytest.raises(SourceError, match="no parameters of epoch 3\n"):
        open_source(folder, tmp_path, epoch=3)


def test_parameters_of_any_name_belong_to_the_graph_of_their_folder(folder: Path, tmp_path: Path) -> None:
    (folder / "net-0000.params").rename(folder / "net-best.params")
    assert open_source(folder, tmp_path).params.path == folder / "net-best.params"
    with pytest.raises(
        UsageError, match=r"no net-0000\.params is next to it\n.*net-best\.params\n.*`params`"
    ):
        open_source(folder / "net", tmp_path)


PACKERS: dict[str, Callable[..., bytes]] = {
    "model.mar": zipped,
    "model.zip": zipped,
    "model.tar": tarred,
    "model.tar.gz": lambda *members: gzip.compress(tarred(*members), 1),
}


@pytest.mark.parametrize(("name", "pack"), PACKERS.items(), ids=PACKERS)
def test_archive_contains_the_graph_and_its_parameters(
    name: str, pack: Callable[..., bytes], graph: bytes, weights: bytes, tmp_path: Path
) -> None:
    members = [
        ("hyperparams.json", HYPERPARAMETERS),
        ("signature.json", b'{"inputs": [{"data_name": "data", "data_shape": [0, 3]}]}'),
        ("model_algo_1-symbol.json", graph),
        ("model_algo_1-0000.params", weights),
        ("synset.txt", b"a\nb\n"),
    ]
    (tmp_path / name).write_bytes(pack(*members))
    source = open_source(tmp_path / name, tmp_path)
    assert (source.graph.name, source.graph.path) == ("model_algo_1-symbol.json", None)
    assert load_params(source.params.path).keys() == {"fc1_weight", "fc1_bias"}
    assert source.params.user_path == tmp_path / name


def test_graph_of_an_archive_takes_other_parameters(graph: bytes, weights: bytes, tmp_path: Path) -> None:
    (tmp_path / "a.zip").write_bytes(zipped(("net-symbol.json", graph), ("net-0000.params", b"old")))
    (tmp_path / "b.zip").write_bytes(zipped(("net-0001.params", weights)))
    source = open_source(tmp_path / "a.zip", tmp_path, tmp_path / "b.zip")
    assert source.params.path.read_bytes() == weights
    assert source.graph.variables == ("data", "fc1_weight", "fc1_bias")


def test_copies_of_a_graph_in_an_archive_are_one(graph: bytes, weights: bytes, tmp_path: Path) -> None:
    members = [("a-symbol.json", graph), ("b/a-symbol.json", graph), ("a-0000.params", weights)]
    (tmp_path / "a.zip").write_bytes(zipped(*members))
    assert open_source(tmp_path / "a.zip", tmp_path).graph.name == "a-symbol.json"


def put(folder: Path, name: str, content: bytes) -> Path:
    (folder / name).write_bytes(content)
    return folder / name


REFUSALS: dict[str, tuple[Callable[[Path, bytes, bytes], object], type[ConversionError], str]] = {
    "a folder without a graph": (
        lambda folder, *_: (folder / "net-symbol.json").unlink() or folder,
        SourceError,
        "models: contains no graph",
    ),
    "a folder of an archive": (
        lambda folder, *_: (put(folder, "a.mar", b"") and (folder / "net-symbol.json").unlink()) or folder,
        SourceError,
        r"contains no graph, that is no -symbol\.json\n  convert .*a\.mar OUT",
    ),
    "a folder with two graphs": (
        lambda folder, graph, _: put(folder, "a-symbol.json", graph).parent,
        SourceError,
        r"contains 2 graphs\n(?s:.*)net-symbol\.json\n  select one: convert .*a-symbol\.json OUT",
    ),
    "a folder and a prefix": (
        lambda folder, graph, _: put(folder.parent, "models-symbol.json", graph) and folder,
        SourceError,
        r"both a folder with a graph and a prefix\n.*models-symbol\.json\n.*net-symbol\.json\n  select one",
    ),
    "an archive with two graphs": (
        lambda folder, graph, weights: put(
            folder, "a.zip", zipped(("a.params", weights), ("a-symbol.json", graph), ("b-symbol.json", b"{}"))
        ),
        SourceError,
        "contains 2 graphs\n(?s:.*)unpack it, and run convert GRAPH OUT --params FILE",
    ),
    "an archive without a graph": (
        lambda folder, _, weights: put(
            folder, "a.zip", zipped(("a.params", weights), ("a.json", HYPERPARAMETERS))
        ),
        SourceError,
        r"a\.zip: contains no graph",
    ),
    "a damaged graph": (
        lambda folder, graph, _: put(folder, "net-symbol.json", graph[:-9]),
        SymbolError,
        "not an MXNet graph",
    ),
    "parameters": (
        lambda folder, *_: folder / "net-0000.params",
        UsageError,
        "is a file, not a model; use auto with `params`",
    ),
    "no file": (lambda folder, *_: folder / "no-symbol.json", StorageError, "No such file"),
    "no prefix": (lambda folder, *_: folder / "no", StorageError, "No such file"),
}


@pytest.mark.parametrize(("make", "error", "message"), REFUSALS.values(), ids=REFUSALS)
def test_what_is_no_graph_or_several_is_refused(
    make: Callable[[Path, bytes, bytes], object],
    error: type[ConversionError],
    message: str,
    folder: Path,
    graph: bytes,
    weights: bytes,
    tmp_path: Path,
) -> None:
    with pytest.raises(error, match=message):
        open_source(make(folder, graph, weights), tmp_path)


def test_separator_at_the_end_means_the_folder(folder: Path, graph: bytes, tmp_path: Path) -> None:
    put(tmp_path, "models-symbol.json", graph)
    assert graph_source.locate(f"{folder}{os.sep}") == folder / "net-symbol.json"
    (folder / "net-symbol.json").unlink()
    assert graph_source.locate(str(folder)) == tmp_path / "models-symbol.json"


def test_epoch_contradicts_selected_parameters_and_an_archive(
    folder: Path, graph: bytes, weights: bytes, tmp_path: Path
) -> None:
    with pytest.raises(UsageError, match="`params` and `epoch` cannot be used together"):
        open_source(folder, tmp_path, folder / "net-0000.params", epoch=0)
    packed = put(tmp_path, "a.zip", zipped(("a-symbol.json", graph), ("a-0000.params", weights)))
    with pytest.raises(UsageError, match="`epoch` selects a file"):
        open_source(packed, tmp_path, epoch=0)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("net", True),
        ("models", True),
        ("net.json", True),
        (f".{os.sep}missing", True),
        ("a.zip", True),
        ("net-0000.params", False),
        ("auto", False),
        (MODEL, False),
        ("resnet18_v1b", False),
        ("resnet18_v1x", False),
        ("x" * 300, False),
    ],
)
def test_graph_is_told_from_a_model(
    text: str, expected: bool, folder: Path, weights: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(folder, "a.zip", zipped(("a.params", weights)))
    (folder / "models").mkdir()
    (folder / MODEL).mkdir()  # as the output folder of an earlier run
    monkeypatch.chdir(folder)
    assert graph_argument.is_meant(text, has_params=False) is expected


@pytest.mark.parametrize("place", [f"{MODEL}-symbol.json", f"{MODEL}{os.sep}net-symbol.json"])
def test_name_of_a_model_and_of_a_graph_is_refused(
    place: str, graph: bytes, weights: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / MODEL).mkdir()
    put(tmp_path, place, graph)
    params = put(tmp_path, place.replace("-symbol.json", "-0000.params"), weights).relative_to(tmp_path)
    with pytest.raises(UsageError) as refused:
        graph_argument.is_meant(MODEL, has_params=False)
    assert str(refused.value).split("\n")[:3] == [
        f"{MODEL} is a model, and here is a graph of that name, {place}",
        f"  try  convert {place} OUT converts the graph",
        f"  or   convert {MODEL} OUT --params {params} converts the model",
    ]
    assert not graph_argument.is_meant(MODEL, has_params=True)
    assert graph_argument.is_meant(f".{os.sep}{MODEL}", has_params=False)


@pytest.mark.parametrize("has_params", [False, True])
def test_name_of_a_recorded_network_and_of_a_graph_is_refused(
    has_params: bool, graph: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert graph_argument.is_meant("alexnet", has_params=has_params)
    put(tmp_path, "alexnet-symbol.json", graph)
    with pytest.raises(UsageError, match=r"^alexnet is a model, and here is a graph of that name"):
        graph_argument.is_meant("alexnet", has_params=has_params)
