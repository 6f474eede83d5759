"""The graph of parameters is found by its contents, not by its file name."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from symbols import changed, counted_names, inserted, node, symbol

from converter.errors import StorageError, SymbolError
from converter.graphs import reader
from converter.networks import graph_search, naming_styles, wiring

if TYPE_CHECKING:
    from collections.abc import Callable

    from converter.dtypes import Array
    from converter.graphs.graph import Graph
    from converter.networks.catalog import Model

    Symbol = dict[str, Any]
    Find = Callable[..., Graph | None]

CHOOSE = "select the graph with --symbol FILE"
UNPACK = f"unpack the archive and {CHOOSE}"


@pytest.fixture
def names(tiny: Model) -> dict[str, str]:
    return counted_names(tiny)


@pytest.fixture
def content(tiny: Model, names: dict[str, str]) -> Symbol:
    return symbol(tiny, names)


@pytest.fixture
def find(tiny: Model, tiny_params: dict[str, Array], names: dict[str, str], tmp_path: Path) -> Find:
    """Return a function that searches for the graph of the tiny model's exported parameters, by file name."""

    def search(
        file: str, documents: dict[str, bytes] | None = None, renamed: dict[str, str] | None = None
    ) -> Graph | None:
        known = renamed or {source: f"arg:{name}" for source, name in names.items()}
        arrays = {name: tiny_params[source] for source, name in known.items()}
        naming = naming_styles.read(arrays, file)
        return graph_search.find(tmp_path / file, documents or {}, arrays, naming, lambda: [tiny])

    return search


def save(folder: Path, name: str, content: Symbol | str) -> Path:
    path = folder / name
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path


PAIRS = [
    ("net-0000.params", "net-symbol.json"),
    ("net-10000.params", "net-symbol.json"),
    ("net-0123.params.gz", "net-symbol.json"),
    ("net.params", "net-symbol.json"),
    ("net-best.params", "net-symbol.json"),
    ("model.params", "model.json"),
    ("a.params", "b"),
    ("model.tar.gz", "symbol.json"),
]


@pytest.mark.parametrize(("params", "graph"), PAIRS)
def test_graph_in_the_folder_is_found_under_any_name(
    params: str, graph: str, content: Symbol, find: Find, tmp_path: Path
) -> None:
    assert find(params) is None
    path = save(tmp_path, graph, content)
    match = find(params)
    assert match is not None
    assert (match.path, match.name) == (path, graph)


def test_names_in_another_style_are_matched_by_the_model(
    tiny: Model, content: Symbol, find: Find, tmp_path: Path
) -> None:
    save(tmp_path, "net-symbol.json", content)
    structural = {tensor.source: tensor.source for tensor in tiny.mapping.tensors}
    assert find("mine.params", renamed=structural) is not None
    assert find("mine.params", renamed=counted_names(tiny, "")) is not None
    for name in [name for name in structural if name.startswith("features.7.")]:
        del structural[name]
    assert find("mine.params", renamed=structural) is None


def test_graph_of_another_network_of_the_same_kind_is_ignored(
    tiny: Model, content: Symbol, find: Find, tmp_path: Path
) -> None:
    save(tmp_path, "net-symbol.json", content)
    assert find("mine.params", renamed=counted_names(tiny, "net1_")) is None
    assert find("mine.params", renamed=counted_names(tiny, "net0_")) is not None


def without_bias(content: Symbol) -> None:
    head = node(content, "output")
    head["attrs"]["no_bias"] = "True"
    del head["inputs"][2:]


NEARLY_MATCHING: dict[str, Callable[[Symbol], object]] = {
    "a head without a bias": without_bias,
    "another operator": lambda content: node(content, "features.1").update(
        op="InstanceNorm", inputs=node(content, "features.1")["inputs"][:3], attrs={}
    ),
    "a scaled weight": lambda content: inserted(content, "net0_conv0_weight", "_mul_scalar", {"scalar": "2"}),
}


@pytest.mark.parametrize("change", NEARLY_MATCHING.values(), ids=NEARLY_MATCHING)
@pytest.mark.parametrize("style", ["its own", "structural"])
def test_graph_missing_a_few_parameters_is_still_found(
    style: str, change: Callable[[Symbol], object], tiny: Model, content: Symbol, find: Find, tmp_path: Path
) -> None:
    change(content)
    save(tmp_path, "mine.json", content)
    structural = {tensor.source: tensor.source for tensor in tiny.mapping.tensors}
    match = find("net.params", renamed=None if style == "its own" else structural)
    assert match is not None
    with pytest.raises(SymbolError, match="the graph does not match tiny"):
        wiring.match(match, tiny)


def test_graph_from_before_a_head_replacement_is_used_if_it_fits(
    names: dict[str, str], content: Symbol, find: Find, tmp_path: Path
) -> None:
    save(tmp_path, "net.json", content)
    replaced = {name: own.replace("net0_dense0", "dense1") for name, own in names.items()}
    assert find("mine.params", renamed=replaced) is not None
    save(tmp_path, "net.json", changed(content, "output", num_hidden="1000"))
    assert find("mine.params", renamed=replaced) is None
    with pytest.raises(SymbolError, match="needs other shapes"):
        find("mine.params", renamed=names)


def test_partial_and_full_match_are_refused_as_ambiguous(content: Symbol, find: Find, tmp_path: Path) -> None:
    save(tmp_path, "other.json", content)
    without_bias(content)
    save(tmp_path, "mine.json", content)
    with pytest.raises(SymbolError, match="more than one graph matches"):
        find("net.params")
    (tmp_path / "mine.json").rename(tmp_path / "net-symbol.json")
    with pytest.raises(SymbolError, match="more than one graph matches"):
        find("net.params")


def test_graph_sharing_half_the_layers_is_ignored(
    names: dict[str, str], content: Symbol, find: Find, tmp_path: Path
) -> None:
    save(tmp_path, "net.json", content)
    stages = ("features.6", "features.7")
    half = {name: f"arg:{own}" for name, own in names.items() if not name.startswith(stages)}
    assert find("half.params", renamed=half) is None
    assert find("half.params") is not None


@pytest.mark.parametrize("damage", ["truncated", "blanks", "too large"])
def test_damaged_graph_with_unknown_names_is_refused_unless_paired_with_others(
    damage: str, tiny: Model, content: Symbol, find: Find, tmp_path: Path
) -> None:
    text = json.dumps(content)
    path = tmp_path / "foo-symbol.json"
    if damage == "truncated":
        path.write_text(text[:9000])
    elif damage == "blanks":
        path.write_text(" " * 100 + text.replace('"eps"', '"epsilon"'))
    else:
        path.write_text(" " * (reader.MAX_BYTES + 1) + text)
    structural = {tensor.source: tensor.source for tensor in tiny.mapping.tensors}
    error = StorageError if damage == "too large" else SymbolError
    with pytest.raises(error, match=r"foo-symbol\.json: "):
        find("mine.params", renamed=structural)
    save(tmp_path, "foo-0000.params", "")
    assert find("mine.params", renamed=structural) is None
    save(tmp_path, "mine.json", content)
    (tmp_path / "foo-0000.params").unlink()
    assert find("mine.params", renamed=structural) is not None


@pytest.mark.parametrize("kind", ["dangling", "loop", "folder", "pipe"])
@pytest.mark.parametrize("params", ["net-0000.params", "net.params"])
def test_symbol_path_that_is_not_a_regular_file_is_refused(
    kind: str, params: str, find: Find, tmp_path: Path
) -> None:
    partner = tmp_path / "net-symbol.json"
    if kind == "folder":
        partner.mkdir()
    elif kind == "pipe":
        os.mkfifo(partner)
    else:
        partner.symlink_to("nowhere" if kind == "dangling" else "net-symbol.json")
    with pytest.raises(StorageError, match=r"net-symbol\.json: "):
        find(params)
    assert find("other.params") is None


def test_graphs_differing_in_node_names_are_equal(tiny: Model, find: Find, tmp_path: Path) -> None:
    for prefix in ("net0_", "net1_"):
        content = symbol(tiny, counted_names(tiny, prefix))
        for each in content["nodes"]:
            each["name"] = each["name"] if each["op"] == "null" else prefix + each["name"]
        save(tmp_path, f"{prefix}.json", content)
    structural = {tensor.source: tensor.source for tensor in tiny.mapping.tensors}
    assert find("mine.params", renamed=structural) is not None
    save(tmp_path, "other.json", changed(content, "net1_features.1", eps="0.5"))
    with pytest.raises(SymbolError, match="more than one graph"):
        find("mine.params", renamed=structural)


def test_same_names_take_precedence_over_another_style(
    tiny: Model, content: Symbol, find: Find, tmp_path: Path
) -> None:
    save(tmp_path, "a.json", changed(symbol(tiny), "features.1", eps="0.5"))
    path = save(tmp_path, "b.json", content)
    match = find("net.params")
    assert match is not None
    assert match.path == path


OTHERS = {
    "a manifest": '{"model": "x", "nodes": 3}',
    "a list": "[]",
    "text": "nodes heads",
    "graph of other parameters": None,
    "a graph without heads": '{"nodes": []}',
    "damaged graph of other parameters": '{"nodes": [{"op": 3}], "heads": []}',
}


@pytest.mark.parametrize("other", OTHERS.values(), ids=OTHERS)
def test_unrelated_files_in_the_folder_are_ignored(
    other: str | None, tiny: Model, content: Symbol, find: Find, tmp_path: Path
) -> None:
    foreign = symbol(tiny, {name: f"x_{name}" for name in counted_names(tiny)})
    save(tmp_path, "other.json", json.dumps(foreign) if other is None else other)
    assert find("net.params") is None
    save(tmp_path, "mine.json", content)
    assert find("net.params") is not None


def test_graph_with_the_names_and_other_shapes_is_refused(
    content: Symbol, find: Find, tmp_path: Path
) -> None:
    reason = rf"net\.params: this graph has its layers, but needs other shapes\n  .*/head\.json\n  {CHOOSE}"
    save(tmp_path, "head.json", changed(content, "output", num_hidden="1000"))
    with pytest.raises(SymbolError, match=reason):
        find("net.params")
    save(tmp_path, "fits.json", changed(content, "output", num_hidden="10"))
    match = find("net.params")
    assert match is not None
    assert match.name == "fits.json"
    (tmp_path / "fits.json").unlink()
    of_others = (tmp_path / "head.json").rename(tmp_path / "old-symbol.json")
    save(tmp_path, "old-0000.params", "")
    assert find("net.params") is None
    of_others.unlink()
    save(tmp_path, "head.json", changed(content, "features.4.0.body.3", kernel="(1, 1)"))
    with pytest.raises(SymbolError, match=reason):
        find("net.params")
    save(tmp_path, "head.json", changed(content, "features.4.0.body.3", kernel="(5, 5)"))
    with pytest.raises(SymbolError, match=reason):
        find("net.params")


def test_graph_that_casts_its_weights_is_found(content: Symbol, find: Find, tmp_path: Path) -> None:
    save(tmp_path, "amp.json", inserted(content, "net0_conv0_weight", "amp_cast", {"dtype": "float16"}))
    assert find("net-best.params") is not None  # matching it with the model refuses it later


def test_two_different_matching_graphs_are_refused(content: Symbol, find: Find, tmp_path: Path) -> None:
    first = save(tmp_path, "a.json", content)
    second = save(tmp_path, "b.json", content)
    assert find("net-best.params") is not None  # identical copies
    save(tmp_path, "b.json", changed(content, "features.1", eps="0.5"))
    with pytest.raises(SymbolError, match="more than one graph matches, and they differ") as error:
        find("net-best.params")
    assert str(error.value).split("\n  ")[1:] == [str(first), str(second), CHOOSE]


def test_mxnet_file_naming_decides_between_matching_graphs(
    content: Symbol, find: Find, tmp_path: Path
) -> None:
    for name in ("a", "net", "z"):
        save(tmp_path, f"{name}-symbol.json", changed(content, "features.1", eps=f"0.{ord(name[0])}"))
    match = find("net-0007.params")
    assert match is not None
    assert match.name == "net-symbol.json"
    with pytest.raises(SymbolError, match="more than one graph"):
        find("net-best.params")


DAMAGED: dict[str, tuple[Callable[[str], str], str]] = {
    "truncated": (lambda text: text[: len(text) // 2], "not an MXNet graph: Input data was truncated"),
    "an unknown attribute": (
        lambda text: text.replace('"eps"', '"epsilon"'),
        r"20 nodes are malformed\n  node 7, features\.1: BatchNorm has no attribute 'epsilon'\n(?s:.*) more",
    ),
}


@pytest.mark.parametrize(("damage", "message"), DAMAGED.values(), ids=DAMAGED)
@pytest.mark.parametrize("params", ["net-0000.params", "net.params", "net-best.params", "other.params"])
def test_damaged_graph_of_the_parameters_is_refused(
    params: str, damage: Callable[[str], str], message: str, content: Symbol, find: Find, tmp_path: Path
) -> None:
    save(tmp_path, "net-symbol.json", damage(json.dumps(content)))
    with pytest.raises(SymbolError, match=rf"net-symbol\.json: {message}$"):
        find(params)


def test_unreadable_neighbour_is_ignored(content: Symbol, find: Find, tmp_path: Path) -> None:
    (tmp_path / "folder.json").mkdir()
    (tmp_path / "dangling.json").symlink_to("nowhere")
    (tmp_path / "loop.json").symlink_to("loop.json")
    os.mkfifo(tmp_path / "pipe.json")
    with (tmp_path / "large.json").open("wb") as stream:
        stream.write(b'{"nodes": [], "heads": []')
        stream.truncate(reader.MAX_BYTES + 1)
    assert find("net.params") is None
    save(tmp_path, "mine.json", content)
    assert find("net.params") is not None


def test_longest_file_name_is_accepted(content: Symbol, find: Find, tmp_path: Path) -> None:
    assert find("x" * 248 + ".params") is None
    assert find("x" * 243 + "-0000.params") is None
    save(tmp_path, "mine.json", content)
    assert find("x" * 243 + "-0000.params") is not None


def test_unlistable_folder_is_searched_by_name(
    content: Symbol, find: Find, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(path: Path) -> None:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Path, "iterdir", refuse)
    assert find("net.params") is None
    save(tmp_path, "net-symbol.json", content)
    assert find("net.params") is not None
    assert find("other.params") is None


def test_graph_in_the_archive_takes_precedence(content: Symbol, find: Find, tmp_path: Path) -> None:
    save(tmp_path, "net-symbol.json", changed(content, "features.1", eps="0.5"))
    packed = json.dumps(content).encode()
    match = find("net.mar", {"models/net-symbol.json": packed, "MAR-INF/MANIFEST.json": b"{}"})
    assert match is not None
    assert (match.path, match.name) == (None, "net-symbol.json")
    assert match.file == f"{tmp_path / 'net.mar'}: models/net-symbol.json"
    assert match.content == packed


def test_matching_graph_in_an_archive_is_selected(tiny: Model, content: Symbol, find: Find) -> None:
    other = json.dumps(symbol(tiny, {name: f"x_{name}" for name in counted_names(tiny)})).encode()
    packed = json.dumps(content).encode()
    match = find("net.zip", {"other.json": other, "mine.json": packed})
    assert match is not None
    assert match.name == "mine.json"
    changed(content, "features.1", eps="0.5")
    with pytest.raises(SymbolError, match=f"they differ\n  .*a.json\n  .*b.json\n  {UNPACK}$"):
        find("net.zip", {"a.json": packed, "b.json": json.dumps(content).encode()})


def test_single_graph_in_an_archive_is_used_even_without_a_match(tiny: Model, find: Find) -> None:
    other = json.dumps(symbol(tiny, {name: f"x_{name}" for name in counted_names(tiny)})).encode()
    assert find("net.zip", {"other.json": other}) is not None  # matching it with the model refuses it later


def test_several_graphs_in_an_archive_without_a_match_are_refused(tiny: Model, find: Find) -> None:
    others = {
        f"{number}.json": json.dumps(
            symbol(tiny, {name: f"{number}_{name}" for name in counted_names(tiny)})
        ).encode()
        for number in range(20)
    }
    listing = r"(\n  \S+net\.zip: \d+\.json){20}\n"
    reason = rf"net\.zip: none of the 20 graphs in the archive has these parameters{listing}"
    with pytest.raises(SymbolError, match=f"{reason}  {UNPACK}$"):
        find("net.zip", others)


@pytest.mark.parametrize("other", ['{"nodes": 4}', '{"nodes": [], "heads": []}', '{"nodes": ['])
def test_unrelated_json_in_an_archive_is_ignored(other: str, content: Symbol, find: Find) -> None:
    documents = {"cluster.json": other.encode(), "net-symbol.json": json.dumps(content).encode()}
    match = find("net.zip", documents)
    assert match is not None
    assert match.name == "net-symbol.json"


def test_damaged_graph_in_an_archive_is_refused(content: Symbol, find: Find, tmp_path: Path) -> None:
    packed = json.dumps(inserted(content, "output", "relu", {"x": "1"})).encode()
    with pytest.raises(SymbolError, match=r"net\.mar: net-symbol\.json: node \d+, inserted: relu has no"):
        find("net.mar", {"net-symbol.json": packed})
    assert not list(tmp_path.iterdir())


def test_search_uses_the_folder_of_the_link_not_of_its_target(
    content: Symbol, find: Find, tmp_path: Path
) -> None:
    elsewhere = tmp_path / "store"
    elsewhere.mkdir()
    save(elsewhere, "net-symbol.json", content)
    (tmp_path / "net-0000.params").symlink_to(elsewhere / "blob")
    assert find("net-0000.params") is None
    shutil.copy(elsewhere / "net-symbol.json", tmp_path)
    assert find("net-0000.params") is not None
