"""The work on a graph is linear in its size, whatever its structure."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hostile_graphs import Document

from converter.graphs import codegen, pruning, reader
from converter.graphs.codegen import identifiers

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType

    from hostile_graphs import Entry

GRAPHS = str(Path(reader.__file__).parent)
SIZE = 40
LIMIT = 10 * SIZE  # lines


def chain(size: int) -> Document:
    document = Document()
    x = document.add("null", "data", [])
    for number in range(size):
        x = document.add("relu", f"relu{number}", [x])
    document.heads = [x]
    return document


def doubling(size: int) -> Document:
    """Return x + x, twice that, and so on: 2^size times the input."""
    document = Document()
    x = document.add("null", "data", [])
    for number in range(size):
        x = document.add("elemwise_add", f"plus{number}", [x, x])
    document.heads = [x]
    return document


def wide(size: int) -> Document:
    """Return a Concat of many values, used by another with as many inputs."""
    document = Document()
    x = document.add("null", "data", [])
    parts = [document.add("relu", f"relu{number}", [x]) for number in range(size)]
    y = document.add("Concat", "joined", parts, num_args=str(size))
    document.heads = [document.add("Concat", "again", [y, *parts[1:]], num_args=str(size))]
    return document


def live(size: int) -> Document:
    """Return a sum of many inputs, the last of which is needed first."""
    document = Document()
    inputs = [document.add("null", f"x{number}", []) for number in range(size)]
    values = [document.add("relu", f"relu{number}", [each]) for number, each in enumerate(inputs)]
    x = values.pop()
    while values:
        x = document.add("elemwise_add", "plus", [x, values.pop()])
    document.heads = [x]
    return document


def layers(name: Callable[[int], str], size: int) -> Document:
    document = Document()
    x = document.add("null", "data", [])
    for number in range(size):
        weight = document.parameter(f"{name(number)}_weight", (3, 3, 1, 1))
        y = document.add(
            "Convolution", name(number), [x, weight], kernel="(1, 1)", num_filter="3", no_bias="True"
        )
        x = document.add("elemwise_add", f"plus{number}", [x, y]) if number % 2 else y
    document.heads = [x]
    return document


def split(size: int) -> Document:
    document = Document()
    x: Entry = document.add("null", "data", [])
    node, _, _ = document.add("SliceChannel", "parts", [x], num_outputs=str(size))
    document.heads = [[node, number, 0] for number in range(size)]
    return document


GRAPH_FAMILIES: dict[str, Callable[[int], Document]] = {
    "a chain": chain,
    "doublings": doubling,
    "many inputs of a node": wide,
    "many values at a time": live,
    "many outputs of a node": split,
    "layers without names": lambda size: layers(lambda number: "." * number, size),
    "layers of one name": lambda size: layers(lambda number: "conv" + "." * number, size),
    "numbered layers": lambda size: layers(lambda number: f"conv{number}", size),
    "scopes": lambda size: layers(lambda number: f"stage{number // 2}_conv{number % 2}", size),
    "scopes of one layer": lambda size: layers(lambda number: f"{chr(97 + number % 26)}_conv{number}", size),
    "scopes that interleave": lambda size: layers(lambda number: f"s{number % (size // 2)}_c{number}", size),
    "long names": lambda size: layers(lambda number: f"{number}_" + "a_b" * 5000, size),
}


def lines_run(document: Document) -> int:
    """Return how many lines of ``converter.graphs`` run to generate a module; each turn of a loop counts."""
    content, count = document.content(), 0

    def trace(frame: FrameType, event: str, _argument: object) -> object:
        nonlocal count
        if not frame.f_code.co_filename.startswith(GRAPHS):
            return None
        count += event == "line"
        return trace

    previous = sys.gettrace()
    sys.settrace(trace)  # type: ignore[arg-type]
    try:
        graph = pruning.prune(reader.parse(content, file="net", name="net")).graph
        codegen.generate(graph, document.shapes, "net")
    finally:
        sys.settrace(previous)
    return count


def growth(family: Callable[[int], Document]) -> int:
    """Return by how many lines the work grows more from 2 to 3 times SIZE than from SIZE to twice SIZE."""
    lines_run(family(SIZE))  # fills caches
    small, middle, large = (lines_run(family(factor * SIZE)) for factor in (1, 2, 3))
    return (large - middle) - (middle - small)


@pytest.mark.parametrize("family", GRAPH_FAMILIES.values(), ids=GRAPH_FAMILIES)
def test_work_is_linear_in_the_size_of_a_graph(family: Callable[[int], Document]) -> None:
    assert abs(growth(family)) < LIMIT


def test_quadratic_work_is_detected(monkeypatch: pytest.MonkeyPatch) -> None:
    source = Path(identifiers.__file__).read_text()
    names: dict[str, object] = {}
    exec(compile(source.replace("taken.get(name, 1)", "1"), identifiers.__file__, "exec"), names)  # noqa: S102
    monkeypatch.setattr("converter.graphs.codegen.scopes.unique", names["unique"])
    assert growth(GRAPH_FAMILIES["layers of one name"]) > LIMIT


@pytest.mark.parametrize("family", [chain, doubling], ids=["a chain", "doublings"])
def test_deep_graph_becomes_a_module(family: Callable[[int], Document]) -> None:
    document = family(3000)  # three times as deep as Python's stack
    graph = pruning.prune(reader.parse(document.content(), file="net", name="net")).graph
    ast.parse(codegen.generate(graph, document.shapes, "net").source)


def test_sum_of_the_most_terms_is_valid_python() -> None:
    document = Document()
    x = document.add("null", "data", [])
    document.heads = [document.add("add_n", "sum", [x] * reader.MAX_INPUTS)]
    graph = reader.parse(document.content(), file="net", name="net")
    compile(codegen.generate(graph, {}, "net").source, "net", "exec")


PROGRAM = """
import pathlib, sys
from converter.graphs import codegen, reader
for path in map(pathlib.Path, sys.argv[1:]):
    graph = reader.read(path)
    print(codegen.generate(graph, {name: (3, 3, 1, 1) for name in graph.parameters}, "net").source)
"""


def test_source_is_the_same_in_every_process(tmp_path: Path) -> None:
    families = ("layers of one name", "scopes", "scopes that interleave", "many values at a time")
    for family in families:
        (tmp_path / family).write_bytes(GRAPH_FAMILIES[family](12).content())
    runs = [
        subprocess.run(
            [sys.executable, "-c", PROGRAM, *(tmp_path / family for family in families)],
            capture_output=True,
            text=True,
            check=True,
            env=os.environ | {"PYTHONHASHSEED": seed},
        ).stdout
        for seed in ("1", "2")
    ]
    assert runs[0] == runs[1]
    assert runs[0].count("def load") == len(families)
