from __future__ import annotations

import copy
import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from documents import as_dict, as_document, diagnosis

from converter.commands import parity_check
from converter.errors import StorageError
from converter.networks import matching, synthetic
from converter.networks.selection import ParamsSource
from converter.parity import execution, json_report, report
from converter.parity.options import ParityOptions

if TYPE_CHECKING:
    from torch import nn

    from converter.dtypes import Array
    from converter.networks.catalog import Model
    from converter.networks.mapping import Mapping

OPTIONS = ParityOptions("numpy", sizes=[(33, 47)])
FIRST_TABLE = 11  # rows of the table of the first mismatch, with its head
FETCHING_ATTRIBUTES = {
    "src",
    "srcset",
    "href",
    "xlink:href",
    "data",
    "action",
    "formaction",
    "poster",
    "background",
    "ping",
}


class Page(HTMLParser):
    """Parse a page: its elements, the addresses it fetches, its tables and its text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[str] = []
        self.fetched: list[str] = []
        self.rows: list[list[str]] = []
        self.classes: list[str] = []
        self.text = ""
        self.inside = ""
        self.in_cell = False
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.elements.append(tag)
        self.inside = tag
        self.fetched += [value or "" for name, value in attributes if name in FETCHING_ATTRIBUTES]
        if tag == "tr":
            self.rows.append([])
            self.classes.append(dict(attributes).get("class") or "")
        if tag in {"td", "th"}:
            self.in_cell = True
            self.rows[-1].append("")

    def handle_endtag(self, tag: str) -> None:
        self.inside = ""
        self.in_cell = self.in_cell and tag not in {"td", "th"}

    def handle_data(self, data: str) -> None:
        if self.inside == "style":
            self.fetched += re.findall(r"@import[^;]*|url\([^)]*\)", data)
        if self.in_cell:
            self.rows[-1][-1] += data
        if self.inside not in {"style", "script"}:
            self.text += data


def network_fetches(text: str) -> list[str]:
    return [address for address in Page(text).fetched if not address.startswith(("data:", "#"))]


def compare(tiny: Model, module: nn.Module | None = None) -> dict[str, Any]:
    request = parity_check.ComparisonRequest(
        source=ParamsSource(tiny, seed=0), weights=None, module=module, options=OPTIONS
    )
    return as_dict(json_report.build(parity_check.run(request)))


@pytest.fixture(scope="module")
def agreeing(tiny: Model) -> dict[str, Any]:
    return compare(tiny)


@pytest.fixture(scope="module")
def differing(tiny: Model, tiny_mapping: Mapping) -> dict[str, Any]:
    """Return a comparison with a bias that is off by one and a head with non-finite outputs."""
    params = synthetic.random_params(tiny_mapping, tiny.shapes, seed=0)
    state = matching.rename(tiny_mapping, params, tiny.shapes, "tiny")
    changes: dict[str, Array] = {
        "layer1.0.bn1.bias": state["layer1.0.bn1.bias"] + np.float32(1),
        "fc.bias": state["fc.bias"] * np.inf,
    }
    return compare(tiny, execution.build(state | changes, tiny.config))


@pytest.fixture(scope="module")
def text(agreeing: dict[str, Any]) -> str:
    return report.render(as_document(agreeing))


@pytest.fixture(scope="module")
def failed(differing: dict[str, Any]) -> Page:
    return Page(report.render(as_document(differing)))


def test_page_is_one_document_and_fetches_nothing(text: str) -> None:
    assert text.startswith("<!doctype html>")
    page = Page(text)
    assert [page.elements.count(tag) for tag in ("html", "head", "body", "h1")] == [1] * 4
    assert network_fetches(text) == []
    # The icon: without one, a browser would request it from the server.
    assert [address for address in page.fetched if address[0] != "#"] == ["data:,"]


@pytest.mark.parametrize(
    "fetching",
    [
        '<script src="https://cdn.example/vega.js"></script>',
        '<link rel="stylesheet" href="//fonts.example/a.css">',
        '<img src="chart.png">',
        "<style>@import 'a.css';</style>",
        "<style>body { background: url(a.png) }</style>",
    ],
)
def test_fetched_resource_is_detected(fetching: str, text: str) -> None:
    assert len(network_fetches(text.replace("</head>", f"{fetching}</head>"))) == 1


def test_page_is_reproducible(agreeing: dict[str, Any], text: str) -> None:
    assert report.render(as_document(copy.deepcopy(agreeing))) == text


def test_page_names_everything_compared(agreeing: dict[str, Any], text: str) -> None:
    output = " ".join(Page(text).text.split())
    assert "✓ agrees tiny" in output
    assert (
        "the conversion and tiny.random-0.params: 102 of 102 tensors equal, 48 layers compared with "
        "the built-in NumPy reference, 2 of 2 checks passed." in output
    )
    assert f"tiny.random-0.params, SHA-1 {agreeing['source']['sha1']}, not the published file" in output
    assert "as converted from them" in output
    assert f"resnext.toml, SHA-256 {agreeing['mapping']['sha256'][:8]}" in output
    versions = agreeing["reference"]["versions"]
    assert "none; GluonCV's own definition of the model" in output
    assert (
        f"the built-in NumPy reference (numpy {versions['numpy']}, python {versions['python']}, "
        f"torch {versions['torch']})" in output
    )
    assert "Findings" not in output
    assert "First mismatch" not in output


def test_checkpoint_is_shown_with_its_hash(agreeing: dict[str, Any]) -> None:
    weights = {"file": "trained.pth", "sha256": "5ac1"}
    assert "trained.pth, SHA-256 5ac1" in report.render(as_document(agreeing | {"weights": weights}))


def test_every_layer_of_every_check_has_a_row(agreeing: dict[str, Any], text: str) -> None:
    page = Page(text)
    expected = [row for check in agreeing["checks"] for row in check["layers"]]
    assert len(expected) == 2 * 48
    rows = [row for row in page.rows if not row[0].startswith("#")]
    assert [row[1:3] for row in rows] == [[row["target"] + row["source"], row["kind"]] for row in expected]
    assert [row[3:6] for row in rows] == [
        [
            f"{row['relative']:.2e}" if row["relative"] else "equal",
            f"{row['limit']:.0e}",
            f"{row['max_abs']:.2e}",
        ]
        for row in expected
    ]
    assert set(page.classes) == {""}


def test_failure_is_shown_with_suspects(differing: dict[str, Any], failed: Page) -> None:
    assert "✗ differs" in failed.text
    assert "Findings" in failed.text
    assert "\n".join(json_report.problems(as_document(differing))) in failed.text
    assert "first mismatch  features.4.0.body.1 → layer1.0.bn1 (batchnorm), float64 at 33x47" in failed.text


def test_differing_layers_are_marked(differing: dict[str, Any], failed: Page) -> None:
    rows = [*zip(failed.rows, failed.classes, strict=True)][FIRST_TABLE:]
    marked = [row[1] for row, name in rows if name == "mismatch"]
    mismatches = [row for check in differing["checks"] for row in check["layers"] if not row["agrees"]]
    assert marked == [row["target"] + row["source"] + row["remark"] for row in mismatches]
    assert marked[0].startswith("layer1.0.bn1")


def test_first_mismatch_is_shown_with_five_layers_around_it(failed: Page) -> None:
    rows = failed.rows[1:FIRST_TABLE]
    assert [row[0] for row in rows] == [
        *("conv1", "bn1", "maxpool", "layer1.0.conv1", "▶ layer1.0.bn1", "layer1.0.conv2"),
        *("layer1.0.bn2", "layer1.0.conv3", "layer1.0.bn3", "layer1.0.downsample.0"),
    ]
    assert failed.classes[1:FIRST_TABLE] == [*[""] * 4, "culprit mismatch", *["mismatch"] * 4, ""]


def test_first_mismatch_comes_before_everything_else(failed: Page) -> None:
    places = [
        failed.text.index(text)
        for text in ("✗ differs", "First mismatch", "▶ layer1.0.bn1", "Error against depth", "All layers")
    ]
    assert places == sorted(places)


def test_cause_and_samples_of_the_first_mismatch_are_shown(differing: dict[str, Any], failed: Page) -> None:
    text = " ".join(failed.text.split())
    assert f"likely cause{differing['diagnosis']['suspicions'][0]}" in text
    samples = differing["diagnosis"]["samples"]
    assert len(samples["reference"]) == len(samples["module"]) == samples["total"] == 864
    assert "All 864 values." in text


def test_network_is_drawn_with_a_link_to_each_row(agreeing: dict[str, Any], text: str) -> None:
    links = re.findall(r'<a href="#(r1-\d+)"><g class="(\w+)"', text)
    assert [name for name, _ in links] == [f"r1-{number}" for number in range(48)]
    assert {level for _, level in links} <= {"equal", "low", "mid"}
    assert agreeing["diagram"]["culprit"] is None


def test_culprit_is_marked_in_the_network(failed: Page, differing: dict[str, Any]) -> None:
    culprit = differing["diagram"]["boxes"][differing["diagram"]["culprit"]]
    assert culprit["target"] == "layer1.0.bn1"
    assert failed.text.count("▶ bn1") == 1
    assert failed.text.count("first mismatch\n") == 1


def test_nonfinite_values_are_shown(differing: dict[str, Any], failed: Page) -> None:
    head = failed.rows[-1]
    source = differing["checks"][1]["layers"][-1]["source"]
    assert head[1] == f"fc{source}not finite in the module"
    assert head[2:6] == ["dense", "∞", "1e-12", "—"]
    assert head[7] == head[9] == "—"


def test_equal_outputs_are_shown_as_equal(agreeing: dict[str, Any]) -> None:
    document = copy.deepcopy(agreeing)
    document["checks"][1]["layers"][0] |= {"relative": 0.0}
    document["checks"][1]["layers"][1] |= {"relative": None, "agrees": False}
    rows = Page(report.render(as_document(document))).rows
    assert [row[3] for row in rows[-48:-46]] == ["equal", "∞"]


def test_report_without_diagram_and_samples_is_read(agreeing: dict[str, Any], text: str) -> None:
    """Reports of earlier versions have neither."""
    document = {name: value for name, value in agreeing.items() if name != "diagram"}
    document |= {"diagnosis": diagnosis(agreeing, "first mismatch")}
    begin = text.index('id="document">') + len('id="document">')
    page = text[:begin] + json.dumps(document) + text[text.index("</script>", begin) :]
    parsed = report.parse(page.encode(), Path("report.html"))
    assert parsed.diagram is None
    assert parsed.diagnosis is not None
    assert parsed.diagnosis.samples is None
    assert "The network" not in report.render(parsed)


HOSTILE = '<img src=x onerror="alert(1)">&amp;</script><script>alert(2)</script>.params'


def test_texts_from_files_and_errors_are_escaped(agreeing: dict[str, Any]) -> None:
    plain, hostile = copy.deepcopy(agreeing), copy.deepcopy(agreeing)
    for result, text in ((plain, "plain"), (hostile, HOSTILE)):
        result["source"]["file"] = text
        result["beside"] = text
        result["weights"] = {"file": text, "sha256": "5ac1"}
        result["checks"][0] |= {"summary": text, "agrees": False}
        result["checks"][0]["layers"][0] |= {"remark": text, "source": text, "target": text, "kind": text}
        result["diagnosis"] = diagnosis(result, text) | {"suspicions": [text]}
        result["diagram"]["boxes"][0] |= {"source": text, "kind": text}
        result["diagram"]["culprit"] = 0
    page, expected = Page(report.render(as_document(hostile))), Page(report.render(as_document(plain)))
    assert page.elements == expected.elements
    assert page.text == expected.text.replace("plain", HOSTILE)
    assert Page(f"<p>{HOSTILE}").elements == [
        "p",
        "img",
        "script",
    ]  # negative control: unescaped markup is detected


def test_report_of_a_network_without_outputs_is_rendered(agreeing: dict[str, Any]) -> None:
    document = copy.deepcopy(agreeing) | {"agrees": False}
    for check in document["checks"]:
        check |= {"layers": [], "agrees": False, "summary": "the module failed: at once"}
    page = Page(report.render(as_document(document)))
    assert "float64 at 33x47: the module failed: at once" in page.text
    assert page.rows == []
    assert "there is no chart" in page.text


def test_report_is_written_into_new_folders(agreeing: dict[str, Any], text: str, tmp_path: Path) -> None:
    path = tmp_path / "new" / "report.html"
    report.write(as_document(agreeing), path)
    report.write(as_document(agreeing), path)
    assert path.read_text(encoding="utf-8") == text
    assert list(path.parent.iterdir()) == [path]


def test_unwritable_report_is_refused_and_leaves_no_files(agreeing: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    with pytest.raises(StorageError, match="folder: cannot be written: Is a directory"):
        report.write(as_document(agreeing), tmp_path / "folder")
    (tmp_path / "file").touch()
    with pytest.raises(StorageError, match=r"/file: cannot be written: File exists$"):
        report.write(as_document(agreeing), tmp_path / "file" / "report.html")
    assert {path.name for path in tmp_path.iterdir()} == {"folder", "file"}
