"""The charts of a report as Vega-Lite JSON: error against depth, and the module against the reference."""

from __future__ import annotations

import itertools
import math
from typing import TYPE_CHECKING, Any

from converter.parity import report_rows

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from converter.parity.json_report import Document, LayerRow
    from converter.parity.report_rows import Place
    from converter.parity.samples import Samples

CHART_HEIGHT, SCATTER_HEIGHT = 360, 300  # pixels
LABELLED = 0.09  # fraction of the width; a narrower part has no room for its name
LEGEND_COLUMNS = 2
CHARACTERS = 28  # of a name in the chart
TICKS = 8  # about as many on the axis of errors
# Below this error, in deviations, the points of a scatter plot lie on the diagonal: the difference is drawn.
VISIBLE = 0.02
# CSS variables of the page, so that the charts follow its dark theme.
TEXT, GRID, BAND, LIMIT, MARK = "var(--text)", "var(--grid)", "var(--band)", "var(--limit)", "var(--bad)"
SERIES = [f"var(--series-{number})" for number in range(8)]


def depth_chart(document: Document) -> Any:  # noqa: ANN401 - altair's charts are untyped
    """Return the chart of error against depth, one line per check.

    A logarithmic axis has neither 0 nor infinity: equal outputs are drawn on a line of their own below the
    axis, and differences that are not finite on one above it. Hovering anywhere above a layer shows its names
    and its numbers in all checks.
    """
    import altair as alt  # noqa: PLC0415 - only reports need it

    checks = report_rows.check_names(document)
    places = report_rows.places(document)
    numbers = {place: number for number, place in enumerate(places, start=1)}
    bottom, top, labels = _axis(document)
    axis = alt.Axis(
        title="error",
        values=[*labels],
        labelExpr=f"{[*labels.values()]}[round(datum.index * {len(labels) - 1})]",
    )
    scale = alt.Scale(type="log", domain=[bottom, top], nice=False)
    palette = [SERIES[number % len(SERIES)] for number in range(len(checks))]
    colour = alt.Color(
        "check:N",
        title=None,
        scale=alt.Scale(domain=checks, range=palette),
        legend=alt.Legend(orient="top", columns=LEGEND_COLUMNS, symbolOpacity=1),
    )
    depth = alt.X(
        "depth:Q",
        axis=alt.Axis(title="layer, in the order of the network", grid=False, tickMinStep=1),
        scale=alt.Scale(domain=[0.5, max(len(places), 1) + 0.5], nice=False),
    )
    points = [
        {
            "depth": numbers[report_rows.place(row)],
            "check": name,
            "error": _clamped(row.relative, bottom, top),
            "limit": row.limit,
            "equal": row.relative == 0,
        }
        for name, check in zip(checks, document.checks, strict=True)
        for row in check.layers
    ]
    lines = alt.Chart(_data(points)).encode(x=depth)
    errors = lines.encode(y=alt.Y("error:Q", scale=scale, axis=axis), color=colour)
    limits = alt.Chart(_data(_limits(points))).encode(y="limit:Q")
    bands = alt.Chart(_data(_bands(places))).encode(x="begin:Q")
    hover = alt.selection_point("pointed", on="pointerover", clear="pointerout", empty=False, encodings=["x"])
    layers = [
        bands.mark_rect(fill=BAND).encode(x2="end:Q", opacity=alt.Opacity("shade:Q", scale=None)),
        bands.mark_text(align="left", baseline="top", dx=3, dy=3, color=TEXT)
        .transform_filter("datum.label")
        .encode(text="part:N", y=alt.value(0)),
        limits.mark_rule(strokeDash=[4, 4], stroke=LIMIT).encode(x="begin:Q", x2="end:Q"),
        limits.mark_text(align="left", dx=4, color=LIMIT).encode(x=alt.value("width"), text="label:N"),
        *_culprit(document, numbers, bottom, top),
        errors.transform_filter("!datum.equal").mark_line(strokeWidth=1),
        errors.mark_point(size=18).encode(
            fill=alt.condition("datum.equal", alt.value("var(--page)"), colour), opacity=alt.value(1)
        ),
        alt.Chart(_data(_columns(document, checks)), name="columns")
        .mark_rect(fill=GRID)
        .encode(
            x="begin:Q",
            x2="end:Q",
            opacity=alt.when(hover).then(alt.value(0.5)).otherwise(alt.value(0)),
            tooltip=[alt.Tooltip(f"{field}:N") for field in ("Gluon", "PyTorch", "kind", *checks)],
        )
        .add_params(hover),
    ]
    return _styled(alt.layer(*layers), CHART_HEIGHT)


def scatter(samples: Samples, deviation: float | None) -> Any:  # noqa: ANN401 - as above
    """Return the scatter plot of the module's values, or of the difference, against the reference's.

    Args:
        samples: the values.
        deviation: the reference's standard deviation.
    """
    import altair as alt  # noqa: PLC0415 - as above

    pairs = [*zip(samples.reference, samples.module, strict=True)]
    as_difference = is_small(samples, deviation)
    points = [{"reference": one, "module": other - one if as_difference else other} for one, other in pairs]
    low, high = min(samples.reference), max(samples.reference)
    line = [{"reference": end, "module": 0 if as_difference else end} for end in (low, high)]
    title = "module - reference" if as_difference else "module"
    x = alt.X("reference:Q", axis=alt.Axis(title="reference"), scale=alt.Scale(zero=False))
    y = alt.Y("module:Q", axis=alt.Axis(title=title), scale=alt.Scale(zero=False))
    layers = [
        alt.Chart(_data(line)).mark_line(strokeDash=[4, 4], stroke=TEXT).encode(x=x, y=y),
        alt.Chart(_data(points), name="values")
        .mark_point(filled=True, size=14, fill=MARK, opacity=0.45)
        .encode(x=x, y=y),
    ]
    return _styled(alt.layer(*layers), SCATTER_HEIGHT)


def is_small(samples: Samples, deviation: float | None) -> bool:
    """Return whether the module's values are indistinguishable from the reference's on their common scale."""
    pairs = zip(samples.reference, samples.module, strict=True)
    return max(abs(one - other) for one, other in pairs) < VISIBLE * (deviation or 0)


def _styled(chart: Any, height: int) -> Any:  # noqa: ANN401 - as above
    return (
        chart.properties(width="container", height=height, background="transparent")
        .configure_view(stroke=None)
        .configure_axis(labelColor=TEXT, titleColor=TEXT, domainColor=GRID, tickColor=GRID, gridColor=GRID)
        .configure_legend(labelColor=TEXT)
    )


def _data(rows: Sequence[dict[str, Any]]) -> Any:  # noqa: ANN401 - as above
    import altair as alt  # noqa: PLC0415 - as above

    return alt.Data(values=rows)  # type: ignore[no-untyped-call]


def _axis(document: Document) -> tuple[float, float, dict[float, str]]:
    """Return the ends of the axis of errors, and its labels: decades, and those of 0 and infinity."""
    rows = [row for check in document.checks for row in check.layers]
    errors = [row.relative for row in rows if row.relative and row.relative > 0] + [
        row.limit for row in rows if row.limit > 0
    ]
    low = math.floor(math.log10(min(errors, default=1e-16)))
    high = math.ceil(math.log10(max(errors, default=1.0)))
    step = max(1, round((high - low) / TICKS))
    labels = {10.0**exponent: f"1e{exponent}" for exponent in range(low, high + 1, step)}
    bottom, top = 10.0**low, 10.0**high
    if any(row.relative == 0 for row in rows):
        bottom = 10.0 ** (low - step)
        labels[bottom] = report_rows.EQUAL
    if any(row.relative is None for row in rows):
        top = 10.0 ** (high + step)
        labels[top] = report_rows.INFINITE
    return bottom, top, dict(sorted(labels.items()))


def _clamped(relative: float | None, bottom: float, top: float) -> float:
    return top if relative is None else min(max(relative, bottom), top)


def _limits(points: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return where each limit holds: a line for consecutive layers of a check with the same one."""
    lines = [
        {"limit": limit, "label": f"limit {limit:.0e}", "depths": [point["depth"] for point in run]}
        for (_, limit), run in itertools.groupby(points, key=lambda point: (point["check"], point["limit"]))
    ]
    return [
        {"limit": line["limit"], "label": line["label"], "begin": min(depths) - 0.5, "end": max(depths) + 0.5}
        for line in lines
        if (depths := line["depths"])
    ]


def _culprit(document: Document, numbers: dict[Place, int], bottom: float, top: float) -> list[Any]:
    """Return the marks of the first mismatch: a line, a ring and its name."""
    import altair as alt  # noqa: PLC0415 - as above

    if document.diagnosis is None or not numbers:
        return []
    row = document.diagnosis.layer
    depth = numbers[report_rows.place(row)]
    mark = {
        "depth": depth,
        "error": _clamped(row.relative, bottom, top),
        "label": f"first mismatch: {_clipped(row.target)}",
    }
    on_right = depth > len(numbers) / 2
    base = alt.Chart(_data([mark])).encode(x="depth:Q")
    return [
        base.mark_rule(color=MARK, strokeWidth=1.5),
        base.mark_point(size=160, filled=False, stroke=MARK, strokeWidth=2).encode(y="error:Q"),
        alt.Chart(_data([mark]), name="culprit")
        .mark_text(
            align="right" if on_right else "left",
            dx=4 if on_right else -4,
            baseline="bottom",
            fontWeight="bold",
            color=MARK,
        )
        .encode(x="depth:Q", y=alt.value(-4), text="label:N"),
    ]


def _clipped(name: str) -> str:
    """Return the end of a long name, which distinguishes layers."""
    return name if len(name) <= CHARACTERS else f"…{name[1 - CHARACTERS :]}"


def _bands(places: Sequence[Place]) -> list[dict[str, Any]]:
    """Return where each part of the network begins and ends; every second part is shaded."""
    parts: dict[str, list[int]] = {}
    for depth, place in enumerate(places, start=1):
        parts.setdefault(place.part, []).append(depth)
    return [
        {
            "part": part,
            "begin": depths[0] - 0.5,
            "end": depths[-1] + 0.5,
            "shade": number % 2,
            "label": len(depths) > LABELLED * len(places),
        }
        for number, (part, depths) in enumerate(parts.items())
    ]


def _columns(document: Document, checks: Sequence[str]) -> list[dict[str, Any]]:
    """Return the tooltip and the horizontal extent of each layer."""
    tooltips: dict[Place, dict[str, Any]] = {
        place: {"Gluon": place.source, "PyTorch": place.target, "kind": place.kind}
        for place in report_rows.places(document)
    }
    for name, check in zip(checks, document.checks, strict=True):
        for row in check.layers:
            tooltips[report_rows.place(row)][name] = _tooltip(row)
    return [
        {"begin": depth - 0.5, "end": depth + 0.5, **column}
        for depth, column in enumerate(tooltips.values(), start=1)
    ]


def _tooltip(row: LayerRow) -> str:
    """Return the error and its limit, or why there is none."""
    text = f"{report_rows.error(row)} (limit {row.limit:.0e})"
    if not row.remark:
        return text
    return row.remark if row.relative is None else f"{text}, {row.remark}"
