"""The report as people see it: opened in Chromium, offline, in the light, in the dark and on a phone."""

from __future__ import annotations

import contextlib
import copy
import os
import re
import shutil
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest
from playwright.sync_api import TimeoutError as PlaywrightTimeoutError
from playwright.sync_api import sync_playwright

from converter.commands import parity_check
from converter.networks.loading import ParamsSource
from converter.parity import json_report, report
from converter.parity.options import ParityOptions

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from playwright.sync_api import Browser, Page

    from converter.networks.catalog import Model
    from converter.parity.json_report import Document

PROGRAMS = ("chromium", "chromium-browser", "google-chrome")
DESK = {"width": 1280, "height": 900}
LOOKS: dict[str, dict[str, Any]] = {
    "light": {"color_scheme": "light", "viewport": DESK},
    "dark": {"color_scheme": "dark", "viewport": DESK},
    "phone": {"color_scheme": "light", "viewport": {"width": 390, "height": 844}, "is_mobile": True},
}
TERMS = ParityOptions("numpy", sizes=[(33, 47)])
LAYERS, PARTS = 48, 6
POINTED = 24  # the layer that is pointed at
PATIENCE = 10_000  # milliseconds until the chart is drawn; it takes 200
IMPATIENCE = 500  # where it will not be
LEGIBLE, VISIBLE = 4.5, 3.0  # contrasts that WCAG 2 demands of text and of graphics

# What is counted in the chart, and how.
MARKS = {
    "points": "#chart .mark-symbol.role-mark > path",
    "bands": "#chart .mark-rect.layer_0_marks > path",
    "limits": '#chart .mark-line.role-mark > path[stroke="var(--limit)"][stroke-dasharray]',
    "columns": "#chart .columns_marks > path",
    "pointed": '#chart .columns_marks > path[opacity="0.5"]',
}
# Whose colour is compared with its background, by which property, and what contrast it needs.
COLOURS = {
    "h1": ("color", LEGIBLE),
    "h1 > span": ("color", LEGIBLE),
    "dt": ("color", LEGIBLE),
    "td": ("color", LEGIBLE),
    "#chart .role-axis-label text": ("fill", LEGIBLE),
    "#chart .role-axis-title text": ("fill", LEGIBLE),
    "#chart .role-legend-label text": ("fill", LEGIBLE),
    "#chart .mark-text.role-mark text": ("fill", LEGIBLE),
    '#chart .mark-line.role-mark > path[stroke="var(--series-0)"]': ("stroke", VISIBLE),
    '#chart .mark-line.role-mark > path[stroke="var(--series-1)"]': ("stroke", VISIBLE),
    '#chart .mark-line.role-mark > path[stroke="var(--limit)"]': ("stroke", VISIBLE),
    "#vg-tooltip-element td.key": ("color", LEGIBLE),
    "#vg-tooltip-element td.value": ("color", LEGIBLE),
}
# An element's colour, and that of the nearest ancestor that has a background.
COLOUR_AND_BACKGROUND = """(element, property) => {
    let behind = element;
    const background = () => getComputedStyle(behind).backgroundColor;
    while (/, 0\\)$/.test(background())) behind = behind.parentElement;
    return [getComputedStyle(element)[property], background()];
}"""


@dataclass(frozen=True, slots=True)
class Seen:
    """What was seen of a page: what it asked for and said, what it drew, how wide and how legible it is.

    ``span`` is where the tooltip begins and ends, from left to right, and ``width`` the page's, in pixels.
    """

    requests: list[str]
    messages: list[str]
    marks: dict[str, int]
    tooltip: dict[str, str]
    span: tuple[float, float]
    width: int
    background: float
    contrasts: dict[str, float]


def find_program() -> str:
    """Return the system's Chromium; without one, skip, and fail where all tests must run."""
    program = next(filter(None, map(shutil.which, PROGRAMS)), None)
    if program is None:
        give_up = pytest.fail if os.environ.get("CI") else pytest.skip
        give_up(f"none of {', '.join(PROGRAMS)} is installed; Debian: apt-get install chromium")
    return program


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    program = find_program()
    with sync_playwright() as playwright:
        # Containers lack the user namespaces that the sandbox is made of; the page is ours.
        browser = playwright.chromium.launch(executable_path=program, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def found(tiny: Model) -> Document:
    """An agreement, of files with long names."""
    found = json_report.build(
        parity_check.run(parity_check.ComparisonRequest(source=ParamsSource(tiny, seed=0), options=TERMS))
    )
    found["weights"] = {"file": f"{'x' * 100}.pth", "sha256": "0" * 64}
    return found


@pytest.fixture(scope="module")
def page(found: Document, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("report") / "report.html"
    report.write(found, path)
    return path


@pytest.fixture(scope="module", params=LOOKS)
def seen(browser: Browser, page: Path, request: pytest.FixtureRequest) -> Seen:
    return look(browser, page, request.param)


def look(browser: Browser, path: Path, name: str, patience: int = PATIENCE) -> Seen:
    """Open a page offline, wait for its chart, and point at a layer in it."""
    requests: list[str] = []
    messages: list[str] = []
    with browser.new_context(offline=True, **LOOKS[name]) as context:
        page = context.new_page()
        page.on("request", lambda request: requests.append(request.url))
        page.on("console", lambda message: messages.append(f"{message.type}: {message.text}"))
        page.on("pageerror", lambda error: messages.append(f"error: {error}"))
        page.goto(path.as_uri())
        with contextlib.suppress(PlaywrightTimeoutError):
            page.wait_for_selector(MARKS["points"], state="attached", timeout=patience)
            page.locator(MARKS["columns"]).nth(POINTED).hover(timeout=patience)
            page.wait_for_selector("#vg-tooltip-element.visible", timeout=patience)
        rows = [row.locator("td").all_inner_texts() for row in page.locator("#vg-tooltip-element tr").all()]
        box = page.locator("#vg-tooltip-element").bounding_box() if rows else None
        return Seen(
            requests,
            messages,
            {kind: page.locator(selector).count() for kind, selector in MARKS.items()},
            dict(rows),
            (box["x"], box["x"] + box["width"]) if box else (0, 0),
            page.evaluate("document.documentElement.scrollWidth"),
            luminance(page.evaluate("getComputedStyle(document.body).backgroundColor")),
            {selector: contrast(page, selector, colour) for selector, (colour, _) in COLOURS.items()},
        )


def contrast(page: Page, selector: str, colour: str) -> float:
    """Return WCAG's contrast between an element and what is behind it; 0 where there is no such element."""
    element = page.query_selector(selector)
    if element is None:
        return 0
    darker, lighter = sorted(map(luminance, element.evaluate(COLOUR_AND_BACKGROUND, colour)))
    return (lighter + 0.05) / (darker + 0.05)


def luminance(colour: str) -> float:
    """Return WCAG's relative luminance of a colour as browsers compute it, ``rgb(1, 2, 3)``."""
    channels = (int(number) / 255 for number in re.findall(r"\d+", colour)[:3])
    red, green, blue = (
        channel / 12.92 if channel <= 0.04045 else ((channel + 0.055) / 1.055) ** 2.4 for channel in channels
    )
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def illegible(seen: Seen) -> list[str]:
    return [selector for selector, (_, needed) in COLOURS.items() if seen.contrasts[selector] < needed]


def test_everything_is_drawn(seen: Seen) -> None:
    assert seen.marks == {"points": 2 * LAYERS, "bands": PARTS, "limits": 2, "columns": LAYERS, "pointed": 1}


def test_nothing_is_logged_and_nothing_fetched_but_the_file(seen: Seen, page: Path) -> None:
    assert seen.messages == []
    assert seen.requests == [page.as_uri()]


def test_pointing_above_a_layer_tells_its_names_and_its_numbers(seen: Seen, found: Document) -> None:
    single, double = (check["layers"][POINTED] for check in found["checks"])
    assert seen.tooltip == {
        "Gluon": single["source"],
        "PyTorch": single["target"],
        "kind": single["kind"],
        "float32 at 33x47": f"{single['relative']:.2e} (limit 1e-04)",
        "float64 at 33x47": f"{double['relative']:.2e} (limit 1e-12)",
    }
    begin, end = seen.span
    assert 0 <= begin < end <= seen.width


def test_everything_is_legible(seen: Seen) -> None:
    assert illegible(seen) == []


@pytest.mark.parametrize("seen", ["dark"], indirect=True)
def test_the_page_is_dark_where_the_system_is(seen: Seen) -> None:
    assert seen.background < 0.01


@pytest.mark.parametrize("seen", ["light"], indirect=True)
def test_the_page_is_light_where_the_system_is(seen: Seen) -> None:
    assert seen.background == 1


@pytest.mark.parametrize("seen", ["phone"], indirect=True)
def test_the_page_does_not_scroll_sideways_on_a_phone(seen: Seen) -> None:
    assert seen.width == LOOKS["phone"]["viewport"]["width"]


@pytest.mark.parametrize("name", ["dark", "phone"])
def test_a_failure_is_drawn_and_legible(name: str, browser: Browser, found: Document, tmp_path: Path) -> None:
    """One layer is infinitely far apart, one has equal bits, and one check stops halfway."""
    found = copy.deepcopy(found) | {"agrees": False, "diagnosis": {"text": f"  first apart  {'x' * 200}"}}
    rows = found["checks"][0]["layers"]
    rows[POINTED] |= {"relative": None, "agrees": False}
    rows[0]["relative"] = 0.0
    found["checks"][1]["layers"] = found["checks"][1]["layers"][:20]
    report.write(found, tmp_path / "report.html")
    seen = look(browser, tmp_path / "report.html", name)
    assert seen.messages == []
    assert seen.marks == {"points": LAYERS + 20, "bands": PARTS, "limits": 2, "columns": LAYERS, "pointed": 1}
    assert seen.tooltip["float32 at 33x47"] == "∞ (limit 1e-04)"
    assert illegible(seen) == []
    assert seen.width == LOOKS[name]["viewport"]["width"]


def test_a_network_that_shows_no_layer_has_a_quiet_page_without_a_chart(
    browser: Browser, found: Document, tmp_path: Path
) -> None:
    found = copy.deepcopy(found) | {"agrees": False}
    for check in found["checks"]:
        check |= {"layers": [], "agrees": False, "summary": "the module stops: at once"}
    report.write(found, tmp_path / "report.html")
    seen = look(browser, tmp_path / "report.html", "light", IMPATIENCE)
    assert (seen.messages, seen.marks) == ([], dict.fromkeys(MARKS, 0))


def spoilt(page: Path, folder: Path, old: str, new: str) -> Path:
    """Write a page with something in it replaced, and return its path."""
    text = page.read_text(encoding="utf-8")
    assert text.count(old) == 1
    (folder / "spoilt.html").write_text(text.replace(old, new), encoding="utf-8")
    return folder / "spoilt.html"


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('vegaEmbed("#chart"', 'vegaEmbed("#nowhere"', "error: Error: #nowhere does not exist"),
        ('vegaEmbed("#chart"', 'nothing("#chart"', "error: nothing is not defined"),
        ('vegaEmbed("#chart", {', 'vegaEmbed("#chart", {{', "error: .*token"),
    ],
)
def test_a_broken_script_is_seen(
    old: str, new: str, message: str, browser: Browser, page: Path, tmp_path: Path
) -> None:
    seen = look(browser, spoilt(page, tmp_path, old, new), "light", IMPATIENCE)
    assert re.match(message, seen.messages[0])
    assert seen.marks == dict.fromkeys(MARKS, 0)
    assert seen.tooltip == {}


def test_a_fetch_is_seen(browser: Browser, page: Path, tmp_path: Path) -> None:
    fetching = spoilt(page, tmp_path, "<dl>", '<img src="https://example.com/a.png"><dl>')
    seen = look(browser, fetching, "light")
    assert seen.requests == [fetching.as_uri(), "https://example.com/a.png"]
    assert seen.messages == ["error: Failed to load resource: net::ERR_INTERNET_DISCONNECTED"]


def test_what_cannot_be_read_in_the_dark_is_seen(browser: Browser, page: Path, tmp_path: Path) -> None:
    fixed = spoilt(page, tmp_path, "--text: #e6edf3", "--text: #1b1f24")
    assert "#chart .role-axis-label text" in illegible(look(browser, fixed, "dark"))


def test_what_is_too_wide_for_a_phone_is_seen(browser: Browser, page: Path, tmp_path: Path) -> None:
    wide = spoilt(page, tmp_path, "<dl>", '<div style="width: 500px">wide</div><dl>')
    assert look(browser, wide, "phone").width > 500


@pytest.mark.parametrize(
    ("variable", "outcome"),
    [("", pytest.skip.Exception), ("true", pytest.fail.Exception)],
    ids=["desk", "CI"],
)
def test_without_a_browser_these_tests_skip_and_fail_in_ci(
    variable: str, outcome: type[BaseException], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", "")
    monkeypatch.setenv("CI", variable)
    with pytest.raises(outcome, match="apt-get install chromium"):
        find_program()
