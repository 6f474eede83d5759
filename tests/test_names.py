from __future__ import annotations

import itertools
import re

import pytest
from fuzz.targets import limited
from hypothesis import given
from hypothesis import strategies as st

from converter.names import MAX_CHARACTERS, MAX_LINES, collapse, nearest, printable, shorten


@pytest.mark.parametrize(
    ("names", "patterns"),
    [
        (["output.bias"], ["output.bias"]),
        (["features.4.0.body.7.gamma"], ["features.4.0.body.7.gamma"]),
        ([f"features.5.{block}.body.7.gamma" for block in range(4)], ["features.5.{0…3}.body.7.gamma"]),
        (["body.0.weight", "body.3.weight", "body.6.weight"], ["body.{0,3,6}.weight"]),
        (["a.0.x", "a.0.y", "a.1.x", "a.1.y"], ["a.{0…1}.x", "a.{0…1}.y"]),
        (["a.0.0", "a.0.1", "a.1.0"], ["a.0.{0…1}", "a.1.0"]),
        (["a.#.x", "a.1.x"], ["a.#.x", "a.1.x"]),
        (["a.007", "a.7", "a.8", "a.²"], ["a.007", "a.{7…8}", "a.²"]),
        ([], []),
    ],
)
def test_consecutive_numbers_are_collapsed(names: list[str], patterns: list[str]) -> None:
    assert collapse(names) == patterns


def expand(pattern: str) -> list[str]:
    """Undo a collapse."""
    parts = re.split(r"\{(.*?)\}", pattern)
    choices = [[part] if place % 2 == 0 else numbers(part) for place, part in enumerate(parts)]
    return ["".join(choice) for choice in itertools.product(*choices)]


def numbers(braces: str) -> list[str]:
    if "…" in braces:
        first, last = map(int, braces.split("…"))
        return [str(number) for number in range(first, last + 1)]
    return braces.split(",")


@given(st.sets(st.tuples(st.integers(0, 12), st.sampled_from(["body", "se"]), st.integers(0, 3))))
def test_patterns_expand_to_exactly_the_names(indices: set[tuple[int, str, int]]) -> None:
    names = sorted(f"features.{block}.{part}.{layer}.weight" for block, part, layer in indices)
    assert sorted(itertools.chain.from_iterable(map(expand, collapse(names)))) == names


def test_nearest_name_is_the_misspelt_one() -> None:
    assert nearest("body.7.scale", ["body.7.gamma", "output.bias"]) == "body.7.gamma"
    assert nearest("zzz", ["body.7.gamma"]) is None


def test_first_of_equally_near_names_is_returned() -> None:
    assert nearest("gluon_resnet", ["gluon_senet", "gluon_resnet18", "gluon_resnet50"]) == "gluon_resnet18"


def test_collapse_of_thirty_thousand_names_is_fast() -> None:
    names = [f"a.{number}.{number}" for number in range(30_000)]
    with limited():
        assert collapse(names) == names


def test_long_line_is_cut() -> None:
    assert shorten(["a" * MAX_CHARACTERS, "b" * (MAX_CHARACTERS + 1)]) == [
        "a" * MAX_CHARACTERS,
        "b" * MAX_CHARACTERS + "…",
    ]


def test_lines_up_to_a_limit_are_kept_and_the_others_counted() -> None:
    lines = [str(number) for number in range(40)]
    assert shorten(lines[:20], 20) == lines[:20]
    assert shorten(lines[:21], 20) == [*lines[:20], "and 1 more"]
    assert shorten(lines, 20) == [*lines[:20], "and 20 more"]


def test_ten_thousand_lines_are_kept_by_default() -> None:
    lines = ["a"] * MAX_LINES
    assert shorten(lines) == lines
    assert shorten([*lines, "a"]) == [*lines, "and 1 more"]


def test_unprintable_characters_are_escaped() -> None:
    assert printable("conv\x1b[31m\n\udcff7") == r"conv\x1b[31m\n\udcff7"
