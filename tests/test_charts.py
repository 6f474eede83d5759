from __future__ import annotations

import copy
import math
from typing import TYPE_CHECKING, Any

import pytest
from documents import as_dict, as_document, diagnosis

from converter.commands import parity_check
from converter.networks.selection import ParamsSource
from converter.parity import charts, json_report
from converter.parity.options import ParityOptions
from converter.parity.samples import Samples

if TYPE_CHECKING:
    from converter.networks.catalog import Model

OPTIONS = ParityOptions("numpy", sizes=[(33, 47)])


@pytest.fixture(scope="module")
def compared(tiny: Model) -> dict[str, Any]:
    request = parity_check.ComparisonRequest(source=ParamsSource(tiny, seed=0), options=OPTIONS)
    return as_dict(json_report.build(parity_check.run(request)))


@pytest.fixture
def document(compared: dict[str, Any]) -> dict[str, Any]:
    """Return an agreement, to be changed."""
    return copy.deepcopy(compared)


def chart_data(document: dict[str, Any], name: str) -> list[dict[str, Any]]:
    """Return the data of the chart's layer with the given name or field."""
    layers = charts.depth_chart(as_document(document)).to_dict()["layer"]
    data: list[dict[str, Any]] = next(
        layer["data"]["values"]
        for layer in layers
        if name in {layer.get("name"), *layer["data"]["values"][0]}
    )
    return data


def axis(document: dict[str, Any]) -> dict[str, Any]:
    """Return the axis of errors, with the ends of its scale."""
    layers = charts.depth_chart(as_document(document)).to_dict()["layer"]
    found = next(layer["encoding"]["y"] for layer in layers if "axis" in layer["encoding"].get("y", {}))
    result: dict[str, Any] = found["axis"] | {"domain": found["scale"]["domain"]}
    return result


def test_chart_has_a_point_per_layer_and_a_band_per_part(document: dict[str, Any]) -> None:
    points = chart_data(document, "error")
    assert [point["depth"] for point in points] == [*range(1, 49)] * 2
    bands = chart_data(document, "part")
    assert [band["part"] for band in bands] == ["stem", "layer1", "layer2", "layer3", "layer4", "head"]
    assert [band["begin"] for band in bands] == [0.5, 3.5, 12.5, 28.5, 37.5, 46.5]
    assert [band["end"] for band in bands] == [3.5, 12.5, 28.5, 37.5, 46.5, 48.5]
    assert [band["shade"] for band in bands] == [0, 1] * 3
    assert [band["label"] for band in bands] == [False, True, True, True, True, False]


def test_axis_has_decades_only_if_nothing_is_equal_or_infinite(document: dict[str, Any]) -> None:
    for check in document["checks"]:
        for row in check["layers"]:
            row["relative"] = row["relative"] or 1e-16
    found = axis(document)
    assert "equal" not in found["labelExpr"]
    assert "∞" not in found["labelExpr"]


def test_equal_outputs_are_drawn_on_a_line_of_their_own(document: dict[str, Any]) -> None:
    document["checks"][0]["layers"][0]["relative"] = 0.0
    point = chart_data(document, "error")[0]
    found = axis(document)
    others = [row["relative"] for check in document["checks"] for row in check["layers"] if row["relative"]]
    assert point["equal"]
    assert point["error"] == found["domain"][0] == found["values"][0] < min(others)
    assert found["labelExpr"].startswith("['equal', '1e-")
    assert chart_data(document, "columns")[0]["float32 at 33x47"] == "equal (limit 1e-04)"


def test_differences_that_are_not_finite_are_drawn_at_the_top(document: dict[str, Any]) -> None:
    document["checks"][1]["layers"][0] |= {"relative": None, "agrees": False}
    found = axis(document)
    assert chart_data(document, "error")[48]["error"] == found["domain"][1] == found["values"][-1]
    assert "'∞']" in found["labelExpr"]
    assert chart_data(document, "columns")[0]["float64 at 33x47"] == "∞ (limit 1e-12)"


def test_remark_replaces_a_missing_number_only(document: dict[str, Any]) -> None:
    first, second = document["checks"][0]["layers"][:2]
    first |= {"relative": None, "remark": "not finite in the module"}
    second |= {"relative": 2e-6, "remark": "after an operator that sorts"}
    texts = [column["float32 at 33x47"] for column in chart_data(document, "columns")[:2]]
    assert texts == ["not finite in the module", "2.00e-06 (limit 1e-04), after an operator that sorts"]


def test_shorter_check_leaves_chart_columns_empty(document: dict[str, Any]) -> None:
    document["checks"][0]["layers"] = document["checks"][0]["layers"][:3]
    columns = chart_data(document, "columns")
    assert len(columns) == 48
    assert ["float32 at 33x47" in column for column in columns[2:4]] == [True, False]


def test_limits_are_labelled_where_they_hold(document: dict[str, Any]) -> None:
    lines = [(line["label"], line["begin"], line["end"]) for line in chart_data(document, "begin")]
    assert lines[0][:1] != ("limit 1e-04",)  # the bands
    layers = charts.depth_chart(as_document(document)).to_dict()["layer"]
    limits = next(layer["data"]["values"] for layer in layers if "limit" in layer["data"]["values"][0])
    assert [(line["label"], line["begin"], line["end"]) for line in limits] == [
        ("limit 1e-04", 0.5, 47.5),
        ("limit 1e-05", 47.5, 48.5),
        ("limit 1e-12", 0.5, 48.5),
    ]


@pytest.mark.parametrize(("number", "align"), [(3, "left"), (40, "right")])
def test_culprit_is_marked(number: int, align: str, document: dict[str, Any]) -> None:
    row = document["checks"][0]["layers"][number]
    document["diagnosis"] = diagnosis(document, "first mismatch") | {"layer": row}
    layers = charts.depth_chart(as_document(document)).to_dict()["layer"]
    label = next(layer for layer in layers if layer.get("name") == "culprit")
    mark = {"depth": number + 1, "error": row["relative"], "label": f"first mismatch: {row['target']}"}
    assert label["data"]["values"] == [mark]
    assert label["mark"]["align"] == align


def samples(*module: float) -> Samples:
    return Samples(reference=(0.0, 1.0, 2.0), module=module, total=3)


@pytest.mark.parametrize(
    ("module", "drawn"),
    [((0.0, 1.5, 2.0), [0.0, 1.5, 2.0]), ((0.0, 1.001, 2.0), [0.0, 0.001, 0.0])],
    ids=["values", "differences"],
)
def test_scatter_draws_differences_if_they_are_small(module: tuple[float, ...], drawn: list[float]) -> None:
    layers = charts.scatter(samples(*module), deviation=1.0).to_dict()["layer"]
    values = next(layer["data"]["values"] for layer in layers if layer.get("name") == "values")
    assert all(
        math.isclose(point["module"], expected, abs_tol=1e-9)
        for point, expected in zip(values, drawn, strict=True)
    )
