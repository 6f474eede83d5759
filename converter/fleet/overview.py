"""Renders the overview of a fleet as one HTML file, which links the weights and the reports."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import quote

from converter.fleet import rows as fleet_rows

if TYPE_CHECKING:
    from collections.abc import Sequence

    from converter.fleet.rows import Row


def render(rows: Sequence[Row]) -> str:
    """Render the HTML page, which fetches and executes nothing."""
    import jinja2  # noqa: PLC0415 - of the extra `report`

    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("converter.fleet"), autoescape=True, undefined=jinja2.StrictUndefined
    )
    failed_first = sorted(rows, key=lambda row: (row.verdict is not fleet_rows.Verdict.failed, row.source))
    return environment.get_template("overview.html").render(
        rows=failed_first, counts=fleet_rows.count(row.verdict for row in rows), link=link
    )


def link(place: str) -> str:
    """Return a relative link to a file of the output folder; its name may begin like a scheme."""
    return f"./{quote(place, errors='surrogateescape')}"
