"""Symbol files of any MXNet version are read as graphs; what MXNet would refuse is refused."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

import pytest

from converter.errors import StorageError, SymbolError
from converter.graphs import reader

if TYPE_CHECKING:
    from pathlib import Path

    from converter.graphs.graph import Graph

Node = dict[str, Any]

DATA: Node = {"op": "null", "name": "data", "inputs": []}
RELU: Node = {"op": "Activation", "name": "r", "attrs": {"act_type": "relu"}, "inputs": [[0, 0, 0]]}
BATCH_NORM: Node = {"op": "BatchNorm", "name": "b", "inputs": [[n, 0, 0] for n in range(5)]}
VARIABLES: list[Node] = [{"op": "null", "name": name, "inputs": []} for name in ("data", "g", "b", "m", "v")]


def read(content: Node | str, file: str = "net-symbol.json") -> Graph:
    text = content if isinstance(content, str) else json.dumps(content)
    return reader.parse(text.encode(), file=file, name=file)


def graph(*nodes: Node, heads: list[list[int]] | None = None) -> Node:
    return {"nodes": list(nodes), "arg_nodes": [0], "heads": heads or [[len(nodes) - 1, 0, 0]]}


def test_nodes_are_in_depth_first_order_without_unused_ones() -> None:
    nodes: list[Node] = [
        {"op": "null", "name": "second", "inputs": []},
        {"op": "null", "name": "first", "inputs": []},
        {"op": "tanh", "name": "unread", "inputs": [[0, 0, 0]]},
        {"op": "elemwise_add", "name": "sum", "inputs": [[1, 0, 0], [0, 0, 0]]},
    ]
    parsed = read(graph(*nodes))
    assert [node.name for node in parsed.nodes] == ["first", "second", "sum"]
    assert parsed.nodes[2].inputs == ((0, 0), (1, 0))
    assert parsed.outputs == ((2, 0),)
    assert parsed.variables == ("first", "second")


def test_parameters_are_the_inputs_after_the_data() -> None:
    parsed = read(graph(*VARIABLES, BATCH_NORM))
    assert parsed.variables == ("data", "g", "b", "m", "v")
    assert parsed.parameters == ("g", "b", "m", "v")


def test_two_element_entries_of_mxnet_0_8_are_read() -> None:
    parsed = read(graph(DATA, {**RELU, "inputs": [[0, 0]]}, heads=[[1, 0]]))
    assert parsed == read(graph(DATA, RELU))


@pytest.mark.parametrize("key", ["attrs", "attr", "param"])
def test_attributes_are_read_under_each_versions_key(key: str) -> None:
    node = {
        **BATCH_NORM,
        key: {"eps": "0.002", "__lr_mult__": "2", "ctx_group": "dev1", "gamma_wd_mult": "0"},
    }
    assert read(graph(*VARIABLES, node)).nodes[-1].operation.settings["eps"] == 0.002


AGREEING = [
    {"attrs": {"eps": "0.5"}, "attr": {"eps": "0.5"}},
    {"attrs": {"eps": "0.5"}, "param": {}},
    {"attrs": {"eps": "0.5"}, "param": {"eps": "0.5", "axis": "1"}},
    {"param": {"eps": "0.5"}, "attr": {"ctx_group": "dev1", "weight_lr_mult": "1.2"}},
]
DIFFERING = [
    {"attrs": {"eps": "1e-05"}, "attr": {"eps": "0.5"}},
    {"attr": {"eps": "0.5"}, "attrs": {"eps": "1e-05"}},
    {"attrs": {"eps": "1e-05"}, "param": {"eps": "0.5"}},
    {"attrs": {"eps": "0.5"}, "attr": {}},
    {"attr": {}, "attrs": {"eps": "0.5"}},
    {"attrs": {"eps": "0.5"}, "attr": {"__lr_mult__": "1"}},
    {"attrs": {"eps": "1e-05"}, "attr": {"fix_gamma": "True"}},
]


@pytest.mark.parametrize("attributes", AGREEING)
def test_equal_attribute_dictionaries_are_merged(attributes: Node) -> None:
    assert read(graph(*VARIABLES, {**BATCH_NORM, **attributes})).nodes[-1].operation.settings["eps"] == 0.5


@pytest.mark.parametrize("attributes", DIFFERING)
def test_different_attribute_dictionaries_are_refused(attributes: Node) -> None:
    with pytest.raises(
        SymbolError, match=r"^net-symbol\.json: node 5, b: its attribute dictionaries contradict each other"
    ):
        read(graph(*VARIABLES, {**BATCH_NORM, **attributes}))


CONVOLUTION = {"kernel": "(7, 7)", "num_filter": "64", "no_bias": "True"}
VALUES = [
    ("BatchNorm", {"eps": "tiny"}, "eps has the invalid value 'tiny'"),
    ("BatchNorm", {"eps": "1_0"}, "eps has the invalid value '1_0'"),
    ("BatchNorm", {"eps": "nan"}, "eps has the invalid value 'nan'"),
    ("BatchNorm", {"fix_gamma": "perhaps"}, "fix_gamma has the invalid value 'perhaps'"),
    ("BatchNorm", {"axis": "1.0"}, "axis has the invalid value '1.0'"),
    ("BatchNorm", {"epsilon": "1e-05"}, "BatchNorm has no attribute 'epsilon'"),
    ("Convolution", {**CONVOLUTION, "kernel": "(7, x)"}, r"kernel has the invalid value '\(7, x\)'"),
    (
        "Convolution",
        {**CONVOLUTION, "kernel": "(7, 7, 7)", "pad": "(1, 1)"},
        r"kernel has the invalid value '\(7, 7, 7\)'",
    ),
    ("Convolution", {**CONVOLUTION, "num_group": "2.5"}, "num_group has the invalid value '2.5'"),
    (
        "Convolution",
        {**CONVOLUTION, "num_group": "9" * 5000 + "x"},
        f"num_group has the invalid value '{'9' * 100}'$",
    ),
    ("Convolution", {"num_filter": "64"}, "Convolution requires the attribute 'kernel'"),
    ("Convolution", {**CONVOLUTION, "kernel": "()"}, "Convolution requires the attribute 'kernel'"),
    ("Convolution", {"kernel": "(7, 7)"}, "Convolution requires the attribute 'num_filter'"),
    ("Pooling", {"global_pool": "2"}, "global_pool has the invalid value '2'"),
    ("Activation", {}, "Activation requires the attribute 'act_type'"),
    ("relu", {"slope": "0.1"}, "relu has no attribute 'slope'"),
]


@pytest.mark.parametrize(("operator", "attributes", "message"), VALUES)
def test_invalid_attribute_is_refused_with_its_node(
    operator: str, attributes: dict[str, str], message: str
) -> None:
    node = {**BATCH_NORM, "op": operator, "attrs": attributes}
    with pytest.raises(SymbolError, match=rf"^net-symbol\.json: node 5, b: {message}"):
        read(graph(*VARIABLES, node))


INPUTS = [
    ("BatchNorm", {}, 3, "BatchNorm takes 5 inputs, found 3"),
    ("Convolution", CONVOLUTION, 3, "Convolution takes 2 inputs, found 3"),
    ("Convolution", {**CONVOLUTION, "no_bias": "False"}, 2, "Convolution takes 3 inputs, found 2"),
    ("elemwise_add", {}, 1, "elemwise_add takes 2 inputs, found 1"),
    ("null", {}, 1, "null takes 0 inputs, found 1"),
]


@pytest.mark.parametrize(("operator", "attributes", "count", "message"), INPUTS)
def test_wrong_number_of_inputs_is_refused(
    operator: str, attributes: dict[str, str], count: int, message: str
) -> None:
    node = {"op": operator, "name": "n", "attrs": attributes, "inputs": [[n, 0, 0] for n in range(count)]}
    with pytest.raises(SymbolError, match=f"node 5, n: {message}$"):
        read({**graph(*VARIABLES, node), "attrs": {"mxnet_version": ["int", 10901]}})


IMPLICIT = [  # an operator, its attributes, and the inputs that files before MXNet 0.9 may lack
    ("BatchNorm", {}, ["n_moving_mean", "n_moving_var"], 3),
    ("BatchNorm", {}, ["n_gamma", "n_beta", "n_moving_mean", "n_moving_var"], 1),
    ("Convolution", {**CONVOLUTION, "no_bias": "False"}, ["n_bias"], 2),
    ("FullyConnected", {"num_hidden": "5"}, ["n_weight", "n_bias"], 1),
    ("SoftmaxOutput", {}, ["n_label"], 1),
    ("Activation", {"act_type": "relu"}, [], 1),
]


@pytest.mark.parametrize(("operator", "attributes", "added", "count"), IMPLICIT)
@pytest.mark.parametrize("version", [{}, {"attrs": {"mxnet_version": ["int", 800]}}, {"attrs": {}}])
def test_missing_inputs_of_old_files_are_added(
    operator: str, attributes: dict[str, str], added: list[str], count: int, version: Node
) -> None:
    node = {"op": operator, "name": "n", "param": attributes, "inputs": [[n, 0] for n in range(count)]}
    parsed = read({**graph(*VARIABLES, node), **version})
    inputs = [parsed.nodes[index].name for index, _ in parsed.nodes[-1].inputs]
    assert inputs == [*("data", "g", "b", "m", "v")[:count], *added]


@pytest.mark.parametrize("version", [900, 10901])
def test_missing_inputs_of_newer_files_are_refused(version: int) -> None:
    node = {**BATCH_NORM, "inputs": [[n, 0, 0] for n in range(3)]}
    with pytest.raises(SymbolError, match="BatchNorm takes 5 inputs, found 3"):
        read({**graph(*VARIABLES, node), "attrs": {"mxnet_version": ["int", version]}})


def test_every_malformed_node_is_listed() -> None:
    wrong = {**RELU, "attrs": {"act_type": "square"}}
    other = {**RELU, "name": "s", "attrs": {}, "inputs": [[1, 0, 0]]}
    with pytest.raises(SymbolError) as error:
        read(graph(DATA, wrong, other))
    assert str(error.value).splitlines() == [
        "net-symbol.json: 2 nodes are malformed",
        "  node 1, r: act_type has the unknown value 'square'",
        "  node 2, s: Activation requires the attribute 'act_type'",
    ]


def test_unsupported_operator_keeps_its_name_and_inputs() -> None:
    parsed = read(graph(*VARIABLES, {**BATCH_NORM, "op": "MyOwn", "attrs": {"mode": "lstm"}})).nodes[-1]
    assert (parsed.operation.kind, parsed.operation.settings) == ("MXNet's MyOwn", {"mode": "lstm"})


def one(**parts: object) -> str:
    """Return a graph of a variable and one operator, with fields of the operator replaced."""
    return json.dumps(graph(DATA, {**RELU, **parts})).replace("Infinity", "1e999")


EARLIER = "does not refer to an earlier node"
ENTRIES = {
    "null": (None, "Expected `array`, got `null`"),
    "of nothing": ([], EARLIER),
    "of one number": ([0], EARLIER),
    "of four numbers": ([0, 0, 0, 0], EARLIER),
    "of text": (["0", 0, 0], "Expected `int`, got `str`"),
    "of truth": ([False, 0, 0], "Expected `int`, got `bool`"),
    "itself": ([1, 0, 0], EARLIER),
    "far away": ([10**30, 0, 0], "not an MXNet graph"),
    "negative": ([-1, 0, 0], EARLIER),
    "a negative output": ([0, -1, 0], EARLIER),
    "infinite": ([float("inf"), 0, 0], "not an MXNet graph"),
}
NO_GRAPH = "^net-symbol.json: not an MXNet graph: "
MALFORMED = {
    **{text: (text, NO_GRAPH) for text in ("", "PK", '{"nodes": [', "\x00", "[]", "7", "null", "{}")},
    **{text: (text, "nodes") for text in ('{"heads": []}', '{"nodes": null, "heads": []}')},
    **{
        text: (text, r"\$\.nodes\[0\]")
        for text in ('{"nodes": [3], "heads": []}', '{"nodes": [{}], "heads": []}')
    },
    "no heads": ('{"nodes": []}', "heads"),
    "a head beyond the nodes": (json.dumps(graph(DATA, heads=[[1, 0, 0]])), EARLIER),
    "deep": ('{"heads": [], "nodes": ' + "[" * 200_000, NO_GRAPH),
    "attributes in a list": (one(attrs=["eps"]), r"\$\.nodes\[1\]\.attrs"),
    "a number as an attribute": (one(attrs={"act_type": 7}), "Expected `str`, got `int`"),
    "an object as an attribute": (one(attrs={"act_type": {"a": "relu"}}), "Expected `str`, got `object`"),
    "no inputs": (one(inputs=None), r"\$\.nodes\[1\]\.inputs"),
    "an unknown part": (one(subgraph=[]), "unknown field `subgraph`"),
    "control dependencies": (one(control_deps=[0]), "node 1, r: control dependencies and subgraphs"),
    "subgraphs": (one(subgraphs=[{}]), "node 1, r: control dependencies and subgraphs"),
    **{f"an input {name}": (one(inputs=[entry]), message) for name, (entry, message) in ENTRIES.items()},
}


@pytest.mark.parametrize(("content", "message"), MALFORMED.values(), ids=MALFORMED)
def test_malformed_graph_is_refused_with_the_reason(content: str, message: str) -> None:
    with pytest.raises(SymbolError, match=message):
        read(content)


def test_unmodified_sample_graph_is_read() -> None:
    assert read(one()).nodes[-1].operation.kind == "ReLU"


def test_file_is_read_with_its_name_and_content(tmp_path: Path) -> None:
    path = tmp_path / "net-symbol.json"
    path.write_text(one())
    parsed = reader.read(path)
    assert (parsed.file, parsed.name, parsed.path) == (str(path), "net-symbol.json", path)
    assert parsed.content == path.read_bytes()


def test_too_large_file_is_refused_unread(tmp_path: Path) -> None:
    path = tmp_path / "net-symbol.json"
    with path.open("wb") as stream:
        stream.truncate(reader.MAX_BYTES + 1)  # sparse
    with pytest.raises(StorageError, match=f"more than {reader.MAX_BYTES} bytes"):
        reader.read(path)


@pytest.mark.parametrize(("place", "reason"), [("missing.json", "No such file"), (".", "not a regular file")])
def test_unreadable_file_is_refused(place: str, reason: str, tmp_path: Path) -> None:
    with pytest.raises(StorageError, match=reason):
        reader.read(tmp_path / place)


def test_too_many_nodes_are_refused() -> None:
    nodes = [{"op": "null", "name": "", "inputs": []}] * (reader.MAX_NODES + 1)
    with pytest.raises(
        SymbolError, match=re.escape(f"net-symbol.json: contains more than {reader.MAX_NODES} nodes")
    ):
        read(graph(*nodes))


SPLIT: Node = {"op": "split", "name": "s", "attrs": {"num_outputs": "2"}, "inputs": [[0, 0, 0]]}


@pytest.mark.parametrize(
    ("nodes", "heads", "message"),
    [
        (
            [DATA, {**RELU, "inputs": [[0, 1, 0]]}],
            [[1, 0, 0]],
            "node 1, r: output 1 of node 0, data does not",
        ),
        ([DATA, RELU], [[1, 1, 0]], "heads: output 1 of node 1, r does not exist"),
        ([DATA, SPLIT], [[1, 2, 0]], "heads: output 2 of node 1, s does not exist"),
        ([DATA, {**SPLIT, "attrs": {"num_outputs": "0"}}], [[1, 0, 0]], "split has no outputs"),
        ([DATA, {**SPLIT, "attrs": {"num_outputs": "-7"}}], [[1, 0, 0]], "split has no outputs"),
        (
            [DATA, {**SPLIT, "attrs": {"num_outputs": "1000000"}}],
            [[1, 0, 0]],
            "more than 100000 outputs",
        ),
        (
            [{"op": "add_n", "name": "a", "inputs": []}],
            [[0, 0, 0]],
            "node 0, a: add_n takes inputs, found none",
        ),
        (
            [DATA, {"op": "add_n", "name": "a", "inputs": [[0, 0, 0]] * 1001}],
            [[1, 0, 0]],
            "more than 1000 inputs",
        ),
        (
            [DATA, {"op": "x", "name": "a", "inputs": [[0, 0, 0]] * 1001}],
            [[1, 0, 0]],
            "more than 1000 inputs",
        ),
    ],
)
def test_entries_exist_and_their_number_is_limited(
    nodes: list[Node], heads: list[list[int]], message: str
) -> None:
    with pytest.raises(SymbolError, match=message):
        read(graph(*nodes, heads=heads))


def test_outputs_of_unknown_operators_are_not_checked() -> None:
    assert read(graph(DATA, {**RELU, "op": "x"}, heads=[[1, 7, 0]])).outputs == ((1, 7),)


def test_names_in_errors_are_escaped() -> None:
    with pytest.raises(SymbolError, match=re.escape(r"node 1, \x1b[2J\n: output 1")):
        read(graph(DATA, {**RELU, "name": "\x1b[2J\n", "inputs": [[0, 1, 0]]}))
