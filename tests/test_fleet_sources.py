"""What is found in a listing or on a list, and what belongs together."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import msgspec.structs
import pytest
from fleet_checkpoints import FAST, convert, verdicts, write_graph, write_model

from converter.errors import SourceError
from converter.fleet import checkpoint_list, inventory, sources
from converter.fleet.sources import CheckpointSource
from converter.networks import catalog
from converter.storage.store import StoredFile

if TYPE_CHECKING:
    from pathlib import Path


def found(*names: str) -> dict[str, CheckpointSource]:
    entries = [StoredFile(name=name, size=1, version="1") for name in names]
    return {source.name: source for source in inventory.find("s3://bucket", entries)}


def test_graph_belongs_to_the_parameters_of_its_prefix() -> None:
    result = found("a/x-0000.params", "a/x-0010.params", "a/x-symbol.json", "a/y.params", "a/y-symbol.json")
    assert {name: source.graph for name, source in result.items()} == {
        "a/x-0000.params": "a/x-symbol.json",
        "a/x-0010.params": "a/x-symbol.json",
        "a/y.params": "a/y-symbol.json",
    }


def test_only_graph_belongs_to_the_only_parameters() -> None:
    assert found("a/best.params", "a/net-symbol.json")["a/best.params"].graph == "a/net-symbol.json"
    two = found("a/best.params", "a/last.params", "a/net-symbol.json")
    assert [source.graph for source in two.values()] == [None, None]
    assert found("a/best.params", "b/net-symbol.json")["a/best.params"].graph is None


def test_own_class_names_precede_those_of_the_folder() -> None:
    result = found("x.params", "y.params", "x-labels.txt", "synset.txt", "z.tar")
    assert [source.labels for source in result.values()] == ["x-labels.txt", "synset.txt", None]


def test_hidden_files_and_other_files_are_no_checkpoints() -> None:
    names = ["__MACOSX/._x.params", "._x.params", ".cache/x.params", "x.pth", "x.params.txt", "train.rec"]
    assert found(*names) == {}
    assert [*found(*names, "x.params.gz", "m.mar", "t.tgz")] == ["m.mar", "t.tgz", "x.params.gz"]


def test_stamp_changes_with_every_file_and_setting() -> None:
    entries = {name: StoredFile(name=name, size=1, version="1") for name in ("a.params", "a-symbol.json")}
    source = CheckpointSource(name="a", store="s", params="a.params", graph="a-symbol.json")
    stamps = {sources.stamped(source, entries).stamp}
    for name, size, version in (("a.params", 2, "1"), ("a.params", 1, "2"), ("a-symbol.json", 1, "2")):
        changed = entries | {name: StoredFile(name=name, size=size, version=version)}
        stamps.add(sources.stamped(source, changed).stamp)
    stamps.add(sources.stamped(source, {}).stamp)
    settings: list[dict[str, Any]] = [{"model": "mobilenet1.0"}, {"store": "t"}, {"requires_labels": True}]
    for changes in settings:
        stamps.add(sources.stamped(msgspec.structs.replace(source, **changes), entries).stamp)
    assert len(stamps) == 8


@pytest.mark.parametrize(
    ("params", "folder"),
    [
        ("a/net-0000.params", "a/net-0000-01234567"),
        ("model.tar.gz", "model-01234567"),
        ("x.params.zip", "x-01234567"),
        ("v1.2.params", "v1.2-01234567"),
    ],
)
def test_output_folder_has_the_name_and_the_content(params: str, folder: str) -> None:
    assert sources.output_folder(CheckpointSource(name="", store="", params=params), "0123456789") == folder


@pytest.mark.parametrize("kind", ["csv", "jsonl"])
def test_list_selects_files_models_and_shapes(kind: str, tmp_path: Path) -> None:
    write_graph(tmp_path / "a")
    write_model(tmp_path / "b" / "mine.params", catalog.find("gluon_cifar_resnext29_32x4d"))
    (tmp_path / "a" / "net-symbol.json").rename(tmp_path / "graph.json")
    lines = [
        {"source": "graph.json", "params": "a/net-0000.params", "input": "data=1x3x40x40"},
        {"source": "b/mine.params", "model": "gluon_cifar_resnext29_32x4d", "note": "ours"},
        {"source": "b/absent.params"},
    ]
    place = tmp_path / f"list.{kind}"
    if kind == "csv":
        columns = ["source", "params", "input", "model", "note"]
        rows = [",".join(line.get(column, "") for column in columns) for line in lines]
        place.write_text("\n".join([",".join(columns), *rows]))
    else:
        place.write_text("\n".join(map(json.dumps, lines)))
    summary = convert(place, tmp_path / "out")
    assert [*verdicts(summary).items()] == [
        ("a/net-0000.params", "converted"),
        ("b/mine.params", "converted"),
        ("b/absent.params", "failed"),
    ]
    assert summary.sources[2].reason.endswith("No such file or directory")
    assert [*verdicts(convert(place, tmp_path / "out")).values()] == ["skipped", "skipped", "failed"]


@pytest.mark.parametrize(
    ("kind", "text", "message"),
    [
        ("csv", "params\na.params\n", "not a list of checkpoints: .*source"),
        ("csv", "source\na.params\na.params\n", "a.params is listed twice"),
        ("csv", "source,input\na.params,data=1x\n", "is not NAME=SHAPE, such as data=1x3x224x224"),
        ("csv", "source,params,symbol\na.json,b.params,c.json\n", "symbol cannot be used"),
        (
            "csv",
            "source,symbol\ns3://bucket/a.params,c.json\n",
            "its files must have a bucket or a folder in common",
        ),
        ("csv", "source\n", "the list contains no checkpoint"),
        ("csv", "source,lables\na.params,a.txt\n", "line 2: unknown column lables; did you mean labels?"),
        ("csv", "source,model\na.params,x\nb.params,x,y\n", "line 3: more values than columns"),
        ("csv", 'source\n"a.params\n', "line 1: unexpected end of data"),
        ("csv", "source;labels\na.params;a.txt\n", "line 2: .*source"),
        ("jsonl", '{"source": "a.params"}\n\n{"source": }\n', "line 3: JSON is malformed"),
        (
            "jsonl",
            '{"source": "a", "symbols": "b"}\n',
            "line 1: unknown column symbols; did you mean symbol?",
        ),
        ("jsonl", '["a.params"]\n', "line 1: Expected `object`"),
        ("jsonl", '{"source": 3}\n', "line 1: Expected `str`"),
        ("jsonl", "\n", "the list contains no checkpoint"),
    ],
)
def test_wrong_list_is_refused(kind: str, text: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / f"list.{kind}"
    path.write_text(text)
    with pytest.raises(SourceError, match=message):
        convert(path, tmp_path / "out")


def test_other_columns_are_ignored(tmp_path: Path) -> None:
    write_graph(tmp_path)
    (tmp_path / "list.csv").write_text("source,team,accuracy\nnet-0000.params,vision,0.9\n")
    assert [source.name for source in checkpoint_list.read(str(tmp_path / "list.csv"))] == ["net-0000.params"]


def test_list_selects_the_shape_of_the_proof(tmp_path: Path) -> None:
    write_graph(tmp_path / "a")
    (tmp_path / "list.csv").write_text("source,input\na/net-0000.params,data=2x3x40x40\n")
    options = type(FAST)("numpy", dtypes=["float64"])
    (row,) = convert(tmp_path / "list.csv", tmp_path / "out", options=options).sources
    manifest = json.loads((tmp_path / "out" / [*row.files][-1]).read_text())
    assert manifest["parity"]["checks"][0]["inputs"] == {"data": [2, 3, 40, 40]}


def test_files_on_a_list_are_named_by_their_common_folder(tmp_path: Path) -> None:
    for name in "ab":
        write_graph(tmp_path / "models" / name)
    lines = [str(tmp_path / "models" / name / "net-0000.params") for name in "ab"]
    (tmp_path / "list.csv").write_text("\n".join(["source", *lines]))
    assert [source.params for source in checkpoint_list.read(str(tmp_path / "list.csv"))] == [
        "a/net-0000.params",
        "b/net-0000.params",
    ]


def test_list_and_its_files_may_have_file_urls(tmp_path: Path) -> None:
    folder = tmp_path / "my models"
    params = write_graph(folder)
    (folder / "list.csv").write_text(f"source\n{params.as_uri()}\nnet-0000.params\n")
    assert " " not in params.as_uri()
    for place in (folder / "list.csv").as_uri(), str(folder / "list.csv"):
        assert {source.params for source in checkpoint_list.read(place)} == {"net-0000.params"}
