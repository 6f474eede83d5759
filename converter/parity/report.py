"""Render a parity check as one self-contained HTML file, responsive and with a dark theme."""

from __future__ import annotations

import re
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

import msgspec

from converter.errors import ReportError
from converter.parity import json_report
from converter.storage import disk

if TYPE_CHECKING:
    from pathlib import Path

    from converter.parity.json_report import Document, LayerRow

# A logarithmic axis has neither 0 nor infinity: identical outputs are drawn at the bottom, differences
# that are not finite at the top.
LOWEST, HIGHEST = 1e-18, 1e4
CHART_HEIGHT = 360  # pixels
LABELLED = 0.09  # fraction of the width; a narrower part has no room for its name
LEGEND_COLUMNS = 2
# CSS variables of the page, so that the chart follows its dark theme.
TEXT, GRID, BAND, LIMIT = "var(--text)", "var(--grid)", "var(--band)", "var(--limit)"
SERIES = [f"var(--series-{number})" for number in range(8)]
MAX_BYTES = 1 << 24  # our reports have less than 1 MB
DATA = re.compile(rb'<script type="application/json" id="document">(.*?)</script>', re.DOTALL)
LIBRARIES = ("altair", "jinja2", "vl_convert")  # the extra `report`


def require_libraries() -> None:
    """Check, before any work, that the libraries of the report are installed.

    Raises:
        ReportError: if one is missing, with the command that installs them.
    """
    missing = [name for name in LIBRARIES if find_spec(name) is None]
    if missing:
        raise ReportError(
            f"an HTML report needs {', '.join(missing)}, which cannot be found\n"
            '  try         pip install "gluon2torch[report]"'
        )


def write(document: Document, path: Path) -> None:
    """Write the report to a file atomically.

    Raises:
        ReportError: if a library is missing.
        StorageError: if the file cannot be written.
    """
    require_libraries()
    disk.write_text(path, render(document))


def render(document: Document) -> str:
    """Render the HTML page."""
    import jinja2  # noqa: PLC0415 - only reports need it

    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("converter.parity"), autoescape=True, undefined=jinja2.StrictUndefined
    )
    return environment.get_template("report.html").render(
        document=document,
        data=_script_safe(msgspec.json.encode(document).decode()),
        sentence=json_report.sentence(document),
        against=json_report.describe_reference(document.reference.name, document.reference.definition),
        problems=json_report.problems(document),
        chart=chart(document),
        scripts=scripts(),
    )


def parse(page: bytes, path: Path) -> Document:
    """Return the document of a report, which its page contains as JSON.

    Raises:
        ReportError: if the page is not a report; the message names ``path``.
    """
    documents = DATA.findall(page)
    if len(documents) != 1:
        raise ReportError(
            f"{path}: not a parity report of this version: expected one document, found {len(documents)}"
        )
    try:
        return msgspec.json.decode(documents[0], type=json_report.Document)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ReportError(f"{path}: not a parity report of this version: {error}") from error


def scripts() -> str:
    """Return vega-embed and its dependencies as one script."""
    import altair as alt  # noqa: PLC0415 - as above
    import vl_convert  # noqa: PLC0415 - as above

    version = ".".join(alt.SCHEMA_VERSION.split(".")[:2])
    return vl_convert.javascript_bundle(vl_version=version)  # type: ignore[call-arg]  # has a default


def chart(document: Document) -> str:
    """Return the chart of error against depth, one line per check, as Vega-Lite JSON.

    Hovering anywhere above a layer shows its names and its numbers in all checks. The JSON is safe
    inside a ``<script>`` element.
    """
    import altair as alt  # noqa: PLC0415 - as above

    checks = [f"{check.dtype} at {check.size}" for check in document.checks]
    points = [
        {"depth": depth, "check": name, "error": _plotted_value(row.relative), "limit": row.limit}
        for name, check in zip(checks, document.checks, strict=True)
        for depth, row in enumerate(check.layers, start=1)
    ]
    depth = alt.X("depth:Q", axis=alt.Axis(title="layer, in network order", grid=False, tickMinStep=1))
    scale, axis = alt.Scale(type="log"), alt.Axis(title="error", format="~e")
    palette = [SERIES[number % len(SERIES)] for number in range(len(checks))]
    colour = alt.Color(
        "check:N",
        title=None,
        scale=alt.Scale(domain=checks, range=palette),
        legend=alt.Legend(orient="top", columns=LEGEND_COLUMNS),
    )
    lines = alt.Chart(_data(points)).encode(x=depth)
    errors = lines.encode(y=alt.Y("error:Q", scale=scale, axis=axis), color=colour)
    bands = alt.Chart(_data(_bands(document))).encode(x="begin:Q")
    hover = alt.selection_point("pointed", on="pointerover", clear="pointerout", empty=False, encodings=["x"])
    layers = [
        bands.mark_rect(fill=BAND).encode(x2="end:Q", opacity=alt.Opacity("shade:Q", scale=None)),
        bands.mark_text(align="left", baseline="top", dx=3, dy=3, color=TEXT)
        .transform_filter("datum.label")
        .encode(text="part:N", y=alt.value(0)),
        lines.mark_line(strokeDash=[4, 4], stroke=LIMIT, interpolate="step").encode(
            y="limit:Q", detail="check:N"
        ),
        errors.mark_line(strokeWidth=1),
        errors.mark_point(filled=True, size=16),
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
    figure = (
        alt.layer(*layers)
        .properties(width="container", height=CHART_HEIGHT, background="transparent")
        .configure_view(stroke=None)
        .configure_axis(labelColor=TEXT, titleColor=TEXT, domainColor=GRID, tickColor=GRID, gridColor=GRID)
        .configure_legend(labelColor=TEXT)
    )
    return _script_safe(str(figure.to_json(indent=None)))


def _script_safe(text: str) -> str:
    """Escape JSON so that it cannot end a ``<script>`` element."""
    return text.replace("<", "\\u003c")


def _data(rows: list[dict[str, Any]]) -> Any:  # noqa: ANN401 - altair's class is untyped
    import altair as alt  # noqa: PLC0415 - as above

    return alt.Data(values=rows)  # type: ignore[no-untyped-call]


def _plotted_value(relative: float | None) -> float:
    return HIGHEST if relative is None else min(max(relative, LOWEST), HIGHEST)


def _bands(document: Document) -> list[dict[str, Any]]:
    """Return where each part of the network begins and ends; every second part is shaded."""
    rows = _longest_rows(document)
    parts: dict[str, list[int]] = {}
    for depth, row in enumerate(rows, start=1):
        parts.setdefault(row.part, []).append(depth)
    return [
        {
            "part": part,
            "begin": depths[0] - 0.5,
            "end": depths[-1] + 0.5,
            "shade": number % 2,
            "label": len(depths) > LABELLED * len(rows),
        }
        for number, (part, depths) in enumerate(parts.items())
    ]


def _columns(document: Document, checks: list[str]) -> list[dict[str, Any]]:
    """Return the tooltip and the horizontal extent of each layer."""
    tooltips = {
        row.target: {"Gluon": row.source, "PyTorch": row.target, "kind": row.kind}
        for row in _longest_rows(document)
    }
    for name, check in zip(checks, document.checks, strict=True):
        for row in (row for row in check.layers if row.target in tooltips):
            relative = "∞" if row.relative is None else f"{row.relative:.2e}"
            tooltips[row.target][name] = row.remark or f"{relative} (limit {row.limit:.0e})"
    return [
        {"begin": depth - 0.5, "end": depth + 0.5, **column}
        for depth, column in enumerate(tooltips.values(), start=1)
    ]


def _longest_rows(document: Document) -> tuple[LayerRow, ...]:
    """Return the rows of the check with the most layers."""
    return max((check.layers for check in document.checks), key=len, default=())
