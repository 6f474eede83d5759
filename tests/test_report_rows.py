from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest

from converter.parity import report_rows
from converter.parity.json_report import (
    CheckRow,
    DiagnosisRow,
    Document,
    FileRow,
    LayerRow,
    ReferenceRow,
    SourceRow,
    StatisticsRow,
    TensorsRow,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

STATISTICS = StatisticsRow(mean=0.0, deviation=1.0)


def row(target: str, relative: float | None = 1e-15, limit: float = 1e-12, compared: str = "") -> LayerRow:
    return LayerRow(
        source=f"gluon.{target}",
        target=target,
        kind="conv",
        part="stem",
        agrees=relative is not None and relative <= limit,
        max_abs=relative,
        relative=relative,
        limit=limit,
        reference=STATISTICS,
        module=STATISTICS,
        settings=(),
        remark="",
        compared=compared,
    )


def document(
    *checks: Sequence[LayerRow], culprit: LayerRow | None = None, dtype: str = "float64"
) -> Document:
    return Document(
        model="net",
        agrees=culprit is None,
        source=SourceRow(file="a", sha1="b", official=False, symbol=None, symbol_sha256=None),
        target="the module",
        weights=None,
        mapping=FileRow(file="c", sha256="d"),
        reference=ReferenceRow(name="numpy", definition="gluoncv", versions={}),
        tensors=TensorsRow(compared=1, different=()),
        vacuous_layers=(),
        checks=tuple(
            CheckRow(dtype=dtype, size="1x1", seed=0, agrees=True, summary="", failure="", layers=tuple(rows))
            for rows in checks
        ),
        diagnosis=DiagnosisRow(dtype=dtype, size="1x1", layer=culprit, suspicions=(), text="")
        if culprit
        else None,
        version="0",
    )


def names(value: Document) -> list[str]:
    return [place.target for place in report_rows.places(value)]


def test_layers_of_all_checks_are_in_the_order_of_the_network() -> None:
    whole = [row(name) for name in "abcd"]
    assert names(document(whole[:2], whole)) == [*"abcd"]


def test_rows_of_one_check_only_come_after_the_row_before_them() -> None:
    alone = row("c", 1.0, compared="node by node")
    first = [row("a"), alone, row("c", compared="end to end")]
    second = [row("a"), row("b"), row("c", compared="end to end"), row("d")]
    value = document(first, second)
    assert [(place.target, place.compared) for place in report_rows.places(value)] == [
        ("a", ""),
        ("c", "node by node"),
        ("b", ""),
        ("c", "end to end"),
        ("d", ""),
    ]


@pytest.mark.parametrize(
    ("culprit", "around"),
    [("a", "abcdef"), ("g", "bcdefghijkl"), ("n", "ijklmn")],
    ids=["first", "middle", "last"],
)
def test_five_rows_on_both_sides_of_the_mismatch_are_shown(culprit: str, around: str) -> None:
    rows = [row(name) for name in "abcdefghijklmn"]
    near = report_rows.neighbours(document(rows, rows[:1], culprit=row(culprit)))
    assert "".join(each.place.target for each in near) == around
    assert [each.place.target for each in near if each.is_culprit] == [culprit]
    assert [len(each.rows) for each in near] == [2] * len(near)


def test_agreement_has_no_rows_around_a_mismatch() -> None:
    assert report_rows.neighbours(document([row("a")])) == []


@pytest.mark.parametrize(
    ("given", "text"),
    [(None, "—"), (row("a", None), "∞"), (row("a", 0.0), "equal"), (row("a", 1e-9), "1.00e-09")],
)
def test_errors_are_shown_as_text(given: LayerRow | None, text: str) -> None:
    assert report_rows.error(given) == text


@pytest.mark.parametrize(
    ("given", "text"),
    [
        (row("a", 2.5e-12), "2.5 × the limit"),
        (row("a", 1.0), "1e+12 × the limit"),
        (row("a", None), ""),
        (row("a", 1.0, 0.0), ""),
    ],
)
def test_excess_is_given_in_limits(given: LayerRow, text: str) -> None:
    assert report_rows.excess(given) == text


@pytest.mark.parametrize(
    ("dtype", "limits", "text"),
    [
        ("float64", (1e-12, 1e-12), "at most 1e-12 in every layer"),
        ("float32", (1e-4, 1e-4), "at most 1e-04 in every layer"),
        (
            "float32",
            (1e-4, 1e-5),
            "at most 1e-04 in a layer, .* million .*, and at most 1e-05 in the last one, 1, which .* down",
        ),
        (
            "float64",
            (1e-12, 1e-6),
            "at most 1e-12, and at most 1e-06 in 1 output from 1 on, .* MXNet .* float32. .* steps up",
        ),
    ],
    ids=["float64", "float32", "logits", "operators in float32"],
)
def test_limits_are_explained(dtype: str, limits: tuple[float, ...], text: str) -> None:
    rows = [row(str(number), limit=limit) for number, limit in enumerate(limits)]
    (sentence,) = report_rows.limits(document(rows, dtype=dtype))
    assert re.fullmatch(rf"{dtype} at 1x1: {text}\.", sentence)


def test_check_without_layers_has_no_limits() -> None:
    assert report_rows.limits(document([])) == []
