"""The report of a parity check: one HTML file that needs nothing else, for screens of any size and shade."""

from __future__ import annotations

import contextlib
import math
import secrets
from typing import TYPE_CHECKING, Any

from converter import findings
from converter.errors import ArtifactError

if TYPE_CHECKING:
    from pathlib import Path

    from converter.findings import Document

# On a logarithmic axis there is neither 0 nor infinity: equal bits are drawn below, no number above all others.
LOWEST, HIGHEST = 1e-18, 1e4
CHART_HEIGHT = 360  # pixels
# Colours are the page's, so that the chart follows it into the dark.
TEXT, GRID, BAND, LIMIT = "var(--text)", "var(--grid)", "var(--band)", "var(--limit)"
SERIES = ["var(--series-0)", "var(--series-1)", "var(--series-2)", "var(--series-3)"]


def write(found: Document, path: Path) -> None:
    """Write the report to a file, whole or not at all.

    Errors: ``ArtifactError``.
    """
    text = render(found)
    part = path.with_name(f".{path.name}.{secrets.token_hex(4)}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        part.write_text(text, encoding="utf-8")
        part.replace(path)
    except OSError as error:
        raise ArtifactError(f"{path}: cannot be written: {error.strerror or error}") from error
    finally:
        with contextlib.suppress(OSError):
            part.unlink(missing_ok=True)


def render(found: Document) -> str:
    """Return the page."""
    import jinja2  # noqa: PLC0415 - only reports need it

    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("converter"), autoescape=True, undefined=jinja2.StrictUndefined
    )
    return environment.get_template("report.html").render(
        found=found,
        sentence=findings.sentence(found),
        complaints=findings.complaints(found),
        chart=chart(found),
    )


def chart(found: Document) -> str:
    """Return error against depth as a fragment of HTML, its script included: a line for every check."""
    import altair as alt  # noqa: PLC0415 - as above

    points = [point for check in found["checks"] for point in _points(check)]
    checks = list(dict.fromkeys(point["check"] for point in points))
    x = alt.X("depth:Q", title="layer, in the order of the network", axis=alt.Axis(grid=False, tickMinStep=1))
    y = alt.Y("drawn:Q", title="difference / deviation", scale=alt.Scale(type="log"), axis=alt.Axis(format="~e"))
    colour = alt.Color(
        "check:N",
        title=None,
        scale=alt.Scale(domain=checks, range=[SERIES[number % len(SERIES)] for number in range(len(checks))]),
        legend=alt.Legend(orient="top"),
    )
    base = alt.Chart(alt.Data(values=points))
    tooltip = [
        alt.Tooltip("source:N", title="Gluon"),
        alt.Tooltip("target:N", title="PyTorch"),
        alt.Tooltip("kind:N"),
        alt.Tooltip("check:N"),
        alt.Tooltip("found:N", title="difference / deviation"),
        alt.Tooltip("max_abs:N", title="largest difference"),
        alt.Tooltip("limit:Q", format=".0e"),
    ]
    bands = alt.Chart(alt.Data(values=_bands(found))).encode(
        x=alt.X("begin:Q", title=None), x2="end:Q", text="part:N"
    )
    layers = [
        bands.mark_rect(fill=BAND).encode(opacity=alt.Opacity("shade:Q", scale=None)),
        bands.mark_text(align="left", baseline="top", dx=3, dy=3, color=TEXT).encode(y=alt.value(0)),
        base.mark_line(strokeDash=[4, 4], stroke=LIMIT, interpolate="step").encode(
            x=x, y=alt.Y("limit:Q"), detail="check:N"
        ),
        base.mark_line(strokeWidth=1).encode(x=x, y=y, color=colour),
        base.mark_point(filled=True, size=28).encode(x=x, y=y, color=colour, tooltip=tooltip),
    ]
    figure = (
        alt.layer(*layers)
        .properties(width="container", height=CHART_HEIGHT, background="transparent")
        .configure_view(stroke=None)
        .configure_axis(
            labelColor=TEXT, titleColor=TEXT, domainColor=GRID, tickColor=GRID, gridColor=GRID
        )
        .configure_legend(labelColor=TEXT)
    )
    options = {"renderer": "svg", "actions": False, "tooltip": {"theme": "custom"}}
    return str(figure.to_html(inline=True, fullhtml=False, output_div="chart", embed_options=options))


def _points(check: dict[str, Any]) -> list[dict[str, Any]]:
    """Return what is drawn and told of every layer."""
    return [
        {
            "depth": depth,
            "check": f"{check['dtype']} at {check['size']}",
            "drawn": _drawn(row["relative"]),
            "found": row["remark"] or f"{row['relative'] or 0:.2e}",
            "max_abs": "—" if row["max_abs"] is None else f"{row['max_abs']:.2e}",
            **{key: row[key] for key in ("source", "target", "kind", "limit")},
        }
        for depth, row in enumerate(check["layers"], start=1)
    ]


def _drawn(relative: float | None) -> float:
    return HIGHEST if relative is None else min(max(relative, LOWEST), HIGHEST)


def _bands(found: Document) -> list[dict[str, Any]]:
    """Return where each part of the network begins and ends, every second one shaded."""
    rows = max((check["layers"] for check in found["checks"]), key=len, default=[])
    parts: dict[str, list[int]] = {}
    for depth, row in enumerate(rows, start=1):
        parts.setdefault(row["part"], []).append(depth)
    return [
        {"part": part, "begin": depths[0] - 0.5, "end": depths[-1] + 0.5, "shade": number % 2}
        for number, (part, depths) in enumerate(parts.items())
    ]
