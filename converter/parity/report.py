"""Render a parity check as one self-contained HTML file, responsive and with a dark theme."""

from __future__ import annotations

import base64
import functools
import hashlib
import re
from collections import Counter
from importlib import resources
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

import msgspec

from converter.errors import ReportError
from converter.parity import block_diagram, charts, json_report, report_rows
from converter.storage import disk

if TYPE_CHECKING:
    from pathlib import Path

    from converter.parity.json_report import CheckRow, Document, LayerRow

MAX_BYTES = 1 << 24  # our reports have 1 MB of scripts, and 4 KB for a layer
DATA = re.compile(rb'<script type="application/json" id="document">(.*?)</script>', re.DOTALL)
# The scale at which a network of so many boxes is drawn first.
ZOOMS = {100: 0.85, 200: 0.6, 400: 0.45}
SMALLEST_ZOOM = 0.3
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
    """Render the HTML page.

    It fetches nothing, and browsers execute only the two scripts whose hashes its policy names: no text of a
    model's file is executed, even if it were not escaped.
    """
    import jinja2  # noqa: PLC0415 - only reports need it

    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("converter.parity"), autoescape=True, undefined=jinja2.StrictUndefined
    )
    programs = {"scripts": scripts(), "program": _template("report.js")}
    return environment.get_template("report.html").render(
        document=document,
        data=_script_safe(msgspec.json.encode(document).decode()),
        sentence=json_report.sentence(document),
        against=json_report.describe_reference(document.reference.name, document.reference.definition),
        problems=json_report.problems(document),
        checks=[
            (name, check, _worst(check))
            for name, check in zip(report_rows.check_names(document), document.checks, strict=True)
        ],
        neighbours=report_rows.neighbours(document),
        limits=report_rows.limits(document),
        error=report_rows.error,
        excess=report_rows.excess,
        style=_template("report.css"),
        hashes=[_source_hash(text) for text in programs.values()],
        **programs,
        **_charts(document),
        **_diagram(document),
    )


def _charts(document: Document) -> dict[str, Any]:
    """Return the charts as JSON that is safe in a ``<script>`` element, "" if there is nothing to draw."""
    diagnosis = document.diagnosis
    has_layers = any(check.layers for check in document.checks)
    result = {"chart": _script_safe(_json(charts.depth_chart(document))) if has_layers else ""}
    if diagnosis is None or diagnosis.samples is None:
        return result | {"scatter": "", "scatter_is_difference": False}
    deviation = diagnosis.layer.reference.deviation
    chart = charts.scatter(diagnosis.samples, deviation)
    return result | {
        "scatter": _script_safe(_json(chart)),
        "scatter_is_difference": charts.is_small(diagnosis.samples, deviation),
    }


def _json(chart: Any) -> str:  # noqa: ANN401 - altair's charts are untyped
    """Return a chart as JSON; to validate it as well would take a quarter of a report's time."""
    text: str = chart.to_json(indent=None, validate=False)
    return text


def _diagram(document: Document) -> dict[str, Any]:
    """Return the block diagram, and the links from its boxes to the rows of the table."""
    diagram = document.diagram if document.checks else None
    sections = block_diagram.sections(diagram) if diagram else []
    rows = document.checks[diagram.check].layers if diagram else ()
    count = len(diagram.boxes) if diagram else 0
    return {
        "sections": sections,
        "levels": block_diagram.LEVELS,
        "counts": Counter(level for section in sections for level in section.levels),
        "links": {
            (row.source, row.target): f"r{diagram.check}-{number}"
            for number, row in enumerate(rows)
            if diagram
        },
        "zoom": next((zoom for most, zoom in ZOOMS.items() if count <= most), SMALLEST_ZOOM),
        "box_width": block_diagram.WIDTH,
        "box_height": block_diagram.HEIGHT,
    }


def _worst(check: CheckRow) -> LayerRow | None:
    """Return the row whose error is largest in relation to its limit."""
    return max(
        check.layers,
        key=lambda row: float("inf") if row.relative is None else row.relative / (row.limit or 1),
        default=None,
    )


def _template(name: str) -> str:
    return (resources.files("converter.parity") / "templates" / name).read_text(encoding="utf-8")


def _source_hash(script: str) -> str:
    """Return the source expression of a script in a content security policy."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()}'"


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


@functools.cache
def scripts() -> str:
    """Return vega-embed and its dependencies as one script."""
    import altair as alt  # noqa: PLC0415 - as above
    import vl_convert  # noqa: PLC0415 - as above

    version = ".".join(alt.SCHEMA_VERSION.split(".")[:2])
    return vl_convert.javascript_bundle(vl_version=version)  # type: ignore[call-arg]  # has a default


def _script_safe(text: str) -> str:
    """Escape JSON so that it cannot end a ``<script>`` element."""
    return text.replace("<", "\\u003c")
