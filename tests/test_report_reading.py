"""Reading a report in Chromium: what is in view, folding, sorting, zooming, and printing."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any, Literal

import documents
import pytest
from documents import as_dict, as_document
from test_report_browser import DESK, LEGIBLE, browser, luminance, opened

from converter.commands import parity_check
from converter.networks import matching, synthetic
from converter.networks.selection import ParamsSource
from converter.parity import execution, json_report, report
from converter.parity.options import ParityOptions

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from playwright.sync_api import Browser, Page

    from converter.networks.catalog import Model
    from converter.networks.mapping import Mapping

__all__ = ["browser"]  # the fixture

OPTIONS = ParityOptions("numpy", sizes=[(33, 47)])
CULPRIT = "layer2.1.bn2"
# Elements that are wider than their frame, but the diagram, which scrolls.
TOO_WIDE = """[...document.querySelectorAll("body *")].filter((element) =>
    !element.closest(".diagram, svg, #vg-tooltip-element") && getComputedStyle(element).display !== "inline"
    && element.clientWidth > 0 && element.scrollWidth > element.clientWidth + 1
).map((element) => `${element.tagName} ${element.className}`)"""
UNFOLD = "document.querySelectorAll('details').forEach((details) => details.open = true)"
FOLD = "document.querySelectorAll('details').forEach((details) => details.open = false)"
ERRORS = ("equal", "low", "mid", "high", "top")  # the colours of compared boxes
BOX_COLOURS = """(box) => [getComputedStyle(box.querySelector("text")).fill,
    getComputedStyle(box.querySelector("rect")).fill]"""


@pytest.fixture(scope="module")
def named(tiny: Model, tiny_mapping: Mapping) -> dict[str, Any]:
    """Return a named network in whose middle a BatchNorm is changed."""
    params = synthetic.random_params(tiny_mapping, tiny.shapes, seed=0)
    state = matching.rename(tiny_mapping, params, tiny.shapes, "tiny")
    state[f"{CULPRIT}.bias"] = state[f"{CULPRIT}.bias"] + 1
    request = parity_check.ComparisonRequest(
        source=ParamsSource(tiny, seed=0), module=execution.build(state, tiny.config), options=OPTIONS
    )
    return as_dict(json_report.build(parity_check.run(request)))


@pytest.fixture(scope="module", params=["named", "graph"])
def path(
    named: dict[str, Any], tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest
) -> Path:
    """Return the report of a named network or of a graph."""
    folder = tmp_path_factory.mktemp("report")
    if request.param == "named":
        document = as_document(named)
    else:
        document = documents.of_changed_graph(folder, "stage1.unit2.conv2.weight")
    report.write(document, folder / "report.html")
    return folder / "report.html"


@pytest.fixture(scope="module")
def shared_page(browser: Browser, path: Path) -> Iterator[Page]:
    with opened(browser, path, "light") as page:
        yield page


@pytest.fixture
def page(shared_page: Page) -> Iterator[Page]:
    """Return the page that all tests share, and restore it afterwards."""
    yield shared_page
    shared_page.evaluate(FOLD)
    shared_page.emulate_media(media="screen", color_scheme="light")
    shared_page.set_viewport_size({"width": DESK["width"], "height": DESK["height"]})


def test_verdict_and_mismatch_are_in_the_first_screen(page: Page) -> None:
    for selector in ("h1", "tr.culprit", "#scatter svg"):
        box = page.locator(selector).bounding_box()
        assert box is not None
        assert box["y"] + box["height"] < DESK["height"]
    assert page.locator("details[open]").count() == 0


@pytest.mark.parametrize(("width", "media"), [(1280, "screen"), (390, "screen"), (680, "print")])
def test_nothing_is_clipped_or_scrolls_sideways(
    width: int, media: Literal["screen", "print"], page: Page
) -> None:
    """On a desk, on a phone, and on A4."""
    page.evaluate(UNFOLD)
    page.emulate_media(media=media)
    page.set_viewport_size({"width": width, "height": 900})
    page.wait_for_function("document.documentElement.scrollWidth <= innerWidth")  # the chart is drawn anew
    assert page.evaluate(TOO_WIDE) == []
    page.evaluate("document.querySelector('td').style.minWidth = '2000px'")
    assert page.evaluate(TOO_WIDE) != []  # negative control
    page.evaluate("document.querySelector('td').style.minWidth = null")


def test_print_is_light_and_has_no_controls(page: Page) -> None:
    page.emulate_media(media="print", color_scheme="dark")
    assert luminance(page.evaluate("getComputedStyle(document.body).backgroundColor")) == 1
    assert not page.locator(".zoom").is_visible()
    assert page.locator(".diagram").evaluate("(frame) => frame.scrollHeight <= frame.clientHeight + 1")
    assert page.pdf().startswith(b"%PDF")


def test_table_is_sorted_by_a_column(page: Page) -> None:
    page.evaluate(UNFOLD)
    table = page.locator("table.layers").first
    head = table.locator("th", has_text="error")
    errors = "(table) => [...table.tBodies[0].rows].map((row) => Number(row.cells[3].dataset.value))"
    unsorted = table.evaluate(errors)
    head.locator("button").click()
    assert table.evaluate(errors) == sorted(unsorted) != unsorted
    assert head.get_attribute("aria-sort") == "ascending"
    head.locator("button").click()
    assert table.evaluate(errors) == sorted(unsorted, reverse=True)
    table.locator("th button", has_text="#").click()
    assert table.evaluate(errors) == unsorted
    assert head.get_attribute("aria-sort") is None


def test_names_are_sorted_as_text_with_numbers(page: Page) -> None:
    page.evaluate(UNFOLD)
    table = page.locator("table.layers").first
    table.locator("th button", has_text="layer").click()
    names = table.locator("td.layer > span.name").all_inner_texts()
    assert len(names) > 10
    assert names == page.evaluate(
        "(names) => names.sort(new Intl.Collator('en', {numeric: true}).compare)", names
    )


def test_box_leads_to_its_row(page: Page) -> None:
    page.locator(".diagram a", has=page.locator("g.culprit")).click()
    target = page.locator("tr:target")
    assert target.is_visible()
    culprit = page.locator("tr.culprit td").first.inner_text().removeprefix("▶ ").split("\n")[0]
    assert target.locator(".name").first.inner_text() == culprit


def test_diagram_is_zoomed(page: Page) -> None:
    block = page.locator(".blocks svg").first
    before = block.bounding_box()
    zoom = page.locator("#zoom")
    initial = zoom.input_value()
    zoom.fill("1.5")
    after = block.bounding_box()
    assert before is not None
    assert after is not None
    assert after["width"] > 1.5 * before["width"]
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    zoom.fill(initial)


def test_culprit_is_in_view_in_the_diagram(page: Page) -> None:
    frame = page.locator(".diagram").bounding_box()
    box = page.locator(".diagram .culprit").bounding_box()
    assert frame is not None
    assert box is not None
    assert frame["y"] <= box["y"] < box["y"] + box["height"] <= frame["y"] + frame["height"]


def test_boxes_of_every_colour_are_legible(browser: Browser, named: dict[str, Any], tmp_path: Path) -> None:
    document = copy.deepcopy(named)
    errors = [(True, 0.0), (True, 0.001), (True, 1.0), (False, 2.0), (False, 1e9), (False, None)]
    for box, (agrees, relative) in zip(document["diagram"]["boxes"], errors, strict=False):
        box |= {"agrees": agrees, "relative": relative, "limit": 1.0}
    del document["diagram"]["boxes"][6]["agrees"]
    report.write(as_document(document), tmp_path / "report.html")
    with opened(browser, tmp_path / "report.html", "light") as page:
        assert page.locator(".blocks .none").count() == 1
        light = [box_contrast(page, level) for level in ERRORS]
        page.emulate_media(color_scheme="dark")
        dark = [box_contrast(page, level) for level in ERRORS]
    assert min(light) >= LEGIBLE
    assert min(dark) >= LEGIBLE


def box_contrast(page: Page, level: str) -> float:
    """Return WCAG's contrast between a box and its label."""
    box = page.locator(f".blocks .{level}").first
    darker, lighter = sorted(map(luminance, box.evaluate(BOX_COLOURS)))
    return (lighter + 0.05) / (darker + 0.05)
