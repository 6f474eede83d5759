"""The report in Chromium, offline: light, dark and on a phone."""

from __future__ import annotations

import contextlib
import copy
import os
import re
import shutil
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest
from documents import as_dict, as_document, diagnosis
from playwright.sync_api import TimeoutError as PlaywrightTimeoutError
from playwright.sync_api import sync_playwright

from converter.commands import parity_check
from converter.networks.selection import ParamsSource
from converter.parity import json_report, report
from converter.parity.options import ParityOptions

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from playwright.sync_api import Browser, Page

    from converter.networks.catalog import Model

PROGRAMS = ("chromium", "chromium-browser", "google-chrome")
DESK = {"width": 1280, "height": 900}
DEVICES: dict[str, dict[str, Any]] = {
    "light": {"color_scheme": "light", "viewport": DESK},
    "dark": {"color_scheme": "dark", "viewport": DESK},
    "phone": {"color_scheme": "light", "viewport": {"width": 390, "height": 844}, "is_mobile": True},
}
OPTIONS = ParityOptions("numpy", sizes=[(33, 47)])
LAYERS, PARTS = 48, 6
HOVERED_LAYER = 24  # the layer under the mouse pointer
TIMEOUT = 10_000  # milliseconds to wait for the chart, which takes 200
SHORT_TIMEOUT = 500  # milliseconds to wait if no chart is expected
LEGIBLE, VISIBLE = 4.5, 3.0  # contrasts required by WCAG 2 for text and for graphics

# Elements counted in the chart, and their selectors.
MARKS = {
    "points": '#chart .mark-symbol.role-mark > path[aria-label*="check:"]',
    "culprit": "#chart .culprit_marks > text",
    "bands": "#chart .mark-rect.layer_0_marks > path",
    "limits": '#chart .mark-rule.role-mark > line[stroke="var(--limit)"][stroke-dasharray]',
    "columns": "#chart .columns_marks > path",
    "pointed": '#chart .columns_marks > path[opacity="0.5"]',
}
# Elements whose colour is compared with the background: the CSS property and the required contrast.
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
    '#chart .mark-rule.role-mark > line[stroke="var(--limit)"]': ("stroke", VISIBLE),
    "#vg-tooltip-element td.key": ("color", LEGIBLE),
    "#vg-tooltip-element td.value": ("color", LEGIBLE),
}
# An element's colour, and the background of its nearest ancestor with one.
COLOUR_AND_BACKGROUND = """(element, property) => {
    let behind = element;
    const background = () => getComputedStyle(behind).backgroundColor;
    while (/, 0\\)$/.test(background())) behind = behind.parentElement;
    return [getComputedStyle(element)[property], background()];
}"""


@dataclass(frozen=True, slots=True)
class RenderedPage:
    """A rendered page: requests, console messages, chart marks, sizes and contrasts.

    ``span`` is the tooltip's left and right edge and ``width`` the page's width, in pixels.
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
    """Return the system's Chromium. Without one, skip; in CI, fail."""
    program = next(filter(None, map(shutil.which, PROGRAMS)), None)
    if program is None:
        give_up = pytest.fail if os.environ.get("CI") else pytest.skip
        give_up(f"none of {', '.join(PROGRAMS)} is installed; Debian: apt-get install chromium")
    return program


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    program = find_program()
    with sync_playwright() as playwright:
        # Containers lack the user namespaces that the sandbox needs; the page is our own.
        browser = playwright.chromium.launch(executable_path=program, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def found(tiny: Model) -> dict[str, Any]:
    """Return an agreement of files with long names."""
    request = parity_check.ComparisonRequest(source=ParamsSource(tiny, seed=0), options=OPTIONS)
    document = as_dict(json_report.build(parity_check.run(request)))
    document["weights"] = {"file": f"{'x' * 100}.pth", "sha256": "0" * 64}
    return document


@pytest.fixture(scope="module")
def page(found: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("report") / "report.html"
    report.write(as_document(found), path)
    return path


@pytest.fixture(scope="module", params=DEVICES)
def seen(browser: Browser, page: Path, request: pytest.FixtureRequest) -> RenderedPage:
    return open_page(browser, page, request.param)


def open_page(browser: Browser, path: Path, name: str, timeout: int = TIMEOUT) -> RenderedPage:
    """Open a page offline, wait for its chart and point at a layer in it."""
    requests: list[str] = []
    messages: list[str] = []
    with browser.new_context(offline=True, **DEVICES[name]) as context:
        page = context.new_page()
        page.on("request", lambda request: requests.append(request.url))
        page.on("console", lambda message: messages.append(f"{message.type}: {message.text}"))
        page.on("pageerror", lambda error: messages.append(f"error: {error}"))
        page.goto(path.as_uri())
        with contextlib.suppress(PlaywrightTimeoutError):
            page.wait_for_selector(MARKS["points"], state="attached", timeout=timeout)
            page.locator(MARKS["columns"]).nth(HOVERED_LAYER).hover(timeout=timeout)
            page.wait_for_selector("#vg-tooltip-element.visible", timeout=timeout)
        rows = [row.locator("td").all_inner_texts() for row in page.locator("#vg-tooltip-element tr").all()]
        box = page.locator("#vg-tooltip-element").bounding_box() if rows else None
        return RenderedPage(
            requests,
            messages,
            {kind: page.locator(selector).count() for kind, selector in MARKS.items()},
            dict(rows),
            (box["x"], box["x"] + box["width"]) if box else (0, 0),
            page.evaluate("document.documentElement.scrollWidth"),
            luminance(page.evaluate("getComputedStyle(document.body).backgroundColor")),
            {selector: contrast(page, selector, colour) for selector, (colour, _) in COLOURS.items()},
        )


@contextlib.contextmanager
def opened(browser: Browser, path: Path, name: str) -> Iterator[Page]:
    """Open a page offline and wait for its chart."""
    with browser.new_context(offline=True, **DEVICES[name]) as context:
        page = context.new_page()
        page.goto(path.as_uri())
        page.wait_for_selector(MARKS["points"], state="attached", timeout=TIMEOUT)
        yield page


def contrast(page: Page, selector: str, colour: str) -> float:
    """Return WCAG's contrast between an element and its background, or 0 if there is no such element."""
    element = page.query_selector(selector)
    if element is None:
        return 0
    darker, lighter = sorted(map(luminance, element.evaluate(COLOUR_AND_BACKGROUND, colour)))
    return (lighter + 0.05) / (darker + 0.05)


def luminance(colour: str) -> float:
    """Return WCAG's relative luminance of a colour as browsers format it, ``rgb(1, 2, 3)``."""
    channels = (int(number) / 255 for number in re.findall(r"\d+", colour)[:3])
    red, green, blue = (
        channel / 12.92 if channel <= 0.04045 else ((channel + 0.055) / 1.055) ** 2.4 for channel in channels
    )
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def illegible(seen: RenderedPage) -> list[str]:
    return [selector for selector, (_, needed) in COLOURS.items() if seen.contrasts[selector] < needed]


def test_chart_is_drawn_completely(seen: RenderedPage) -> None:
    assert seen.marks == {
        "points": 2 * LAYERS,
        "culprit": 0,
        "bands": PARTS,
        "limits": 3,
        "columns": LAYERS,
        "pointed": 1,
    }


def test_console_is_empty_and_nothing_else_is_fetched(seen: RenderedPage, page: Path) -> None:
    assert seen.messages == []
    assert seen.requests == [page.as_uri()]


def test_tooltip_shows_the_layers_names_and_numbers(seen: RenderedPage, found: dict[str, Any]) -> None:
    single, double = (check["layers"][HOVERED_LAYER] for check in found["checks"])
    assert seen.tooltip == {
        "Gluon": single["source"],
        "PyTorch": single["target"],
        "kind": single["kind"],
        "float32 at 33x47": f"{single['relative']:.2e} (limit 1e-04)",
        "float64 at 33x47": f"{double['relative']:.2e} (limit 1e-12)",
    }
    begin, end = seen.span
    assert 0 <= begin < end <= seen.width


def test_contrasts_are_sufficient(seen: RenderedPage) -> None:
    assert illegible(seen) == []


@pytest.mark.parametrize("seen", ["dark"], indirect=True)
def test_page_is_dark_in_dark_mode(seen: RenderedPage) -> None:
    assert seen.background < 0.01


@pytest.mark.parametrize("seen", ["light"], indirect=True)
def test_page_is_light_in_light_mode(seen: RenderedPage) -> None:
    assert seen.background == 1


@pytest.mark.parametrize("seen", ["phone"], indirect=True)
def test_page_does_not_scroll_sideways_on_a_phone(seen: RenderedPage) -> None:
    assert seen.width == DEVICES["phone"]["viewport"]["width"]


@pytest.mark.parametrize("name", ["dark", "phone"])
def test_failure_is_drawn_and_legible(
    name: str, browser: Browser, found: dict[str, Any], tmp_path: Path
) -> None:
    """One layer differs infinitely, one is equal bit for bit, and one check stops halfway."""
    found = copy.deepcopy(found)
    found |= {"agrees": False, "diagnosis": diagnosis(found, f"  first mismatch  {'x' * 200}")}
    rows = found["checks"][0]["layers"]
    rows[HOVERED_LAYER] |= {"relative": None, "agrees": False}
    rows[0]["relative"] = 0.0
    found["checks"][1]["layers"] = found["checks"][1]["layers"][:20]
    report.write(as_document(found), tmp_path / "report.html")
    seen = open_page(browser, tmp_path / "report.html", name)
    assert seen.messages == []
    assert seen.marks == {
        "points": LAYERS + 20,
        "culprit": 1,
        "bands": PARTS,
        "limits": 3,
        "columns": LAYERS,
        "pointed": 1,
    }
    assert seen.tooltip["float32 at 33x47"] == "∞ (limit 1e-04)"
    assert illegible(seen) == []
    assert seen.width == DEVICES[name]["viewport"]["width"]


def test_page_without_layers_has_no_chart_and_no_errors(
    browser: Browser, found: dict[str, Any], tmp_path: Path
) -> None:
    found = copy.deepcopy(found) | {"agrees": False}
    for check in found["checks"]:
        check |= {"layers": [], "agrees": False, "summary": "the module failed: at once"}
    report.write(as_document(found), tmp_path / "report.html")
    seen = open_page(browser, tmp_path / "report.html", "light", SHORT_TIMEOUT)
    assert (seen.messages, seen.marks) == ([], dict.fromkeys(MARKS, 0))


def write_changed(page: Path, folder: Path, old: str, new: str) -> Path:
    """Write a page with one text replaced, and return its path."""
    text = page.read_text(encoding="utf-8")
    assert text.count(old) == 1
    (folder / "spoilt.html").write_text(text.replace(old, new), encoding="utf-8")
    return folder / "spoilt.html"


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('data-chart="chart"', 'data-chart="nowhere"', "error: Error: #nowhere does not exist"),
        ('data-chart="chart">{', 'data-chart="chart">{{', "error: .*JSON"),
        ("vegaEmbed(`#", "nothing(`#", "error: .*Content Security Policy"),
    ],
)
def test_broken_chart_is_detected(
    old: str, new: str, message: str, browser: Browser, page: Path, tmp_path: Path
) -> None:
    seen = open_page(browser, write_changed(page, tmp_path, old, new), "light", SHORT_TIMEOUT)
    assert re.match(message, seen.messages[0])
    assert seen.marks == dict.fromkeys(MARKS, 0)
    assert seen.tooltip == {}


def test_fetch_is_detected(browser: Browser, page: Path, tmp_path: Path) -> None:
    fetching = write_changed(page, tmp_path, "</h1>", '</h1><img src="https://example.com/a.png">')
    seen = open_page(browser, fetching, "light")
    assert seen.requests == [fetching.as_uri(), "https://example.com/a.png"]
    assert re.match(r"error: Loading the image 'https://example.com/a.png' violates", seen.messages[0])


def test_scripts_of_others_are_not_executed(browser: Browser, page: Path, tmp_path: Path) -> None:
    """A second defence: a name of a file that were not escaped would not be executed, either."""
    hostile = "<script>document.title = 1</script><img src=data: onerror='document.title = 2'>"
    with opened(browser, write_changed(page, tmp_path, "</h1>", f"</h1>{hostile}"), "light") as changed:
        assert changed.title() == "agrees: tiny"
        # Negative control: without the policy, they are executed.
        policy = re.search(r"<meta http-equiv[^>]*>", page.read_text(encoding="utf-8"))
        assert policy is not None
        text = (tmp_path / "spoilt.html").read_text(encoding="utf-8").replace(policy[0], "")
        (tmp_path / "spoilt.html").write_text(text, encoding="utf-8")
        changed.reload()
        changed.wait_for_function("document.title !== 'agrees: tiny'")


def test_insufficient_contrast_in_dark_mode_is_detected(browser: Browser, page: Path, tmp_path: Path) -> None:
    fixed = write_changed(page, tmp_path, "--text: #e6edf3", "--text: #1b1f24")
    assert "#chart .role-axis-label text" in illegible(open_page(browser, fixed, "dark"))


def test_page_too_wide_for_a_phone_is_detected(browser: Browser, page: Path, tmp_path: Path) -> None:
    wide = write_changed(page, tmp_path, "</h1>", '</h1><div style="width: 500px">wide</div>')
    assert open_page(browser, wide, "phone").width > 500


@pytest.mark.parametrize(
    ("variable", "outcome"),
    [("", pytest.skip.Exception), ("true", pytest.fail.Exception)],
    ids=["local", "CI"],
)
def test_missing_browser_skips_and_fails_in_ci(
    variable: str, outcome: type[BaseException], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", "")
    monkeypatch.setenv("CI", variable)
    with pytest.raises(outcome, match="apt-get install chromium"):
        find_program()
