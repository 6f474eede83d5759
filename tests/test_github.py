from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
import pytest
from documents import as_document, diagnosis

from converter.errors import StorageError
from converter.parity import github

if TYPE_CHECKING:
    from pathlib import Path

    from converter.parity.json_report import Document

NUMBERS = {"mean": 0.0, "deviation": 1.0}
LAYER = {
    "source": "features.0",
    "target": "conv1",
    "kind": "conv",
    "part": "stem",
    "agrees": True,
    "max_abs": 0.0,
    "relative": 0.0,
    "limit": 1e-12,
    "reference": NUMBERS,
    "module": NUMBERS,
    "settings": [],
    "remark": "",
}
CHECK = {
    "dtype": "float64",
    "size": "65x95",
    "seed": 0,
    "agrees": True,
    "summary": "all agree",
    "failure": "",
    "layers": [LAYER] * 48,
}
CONTENT = {
    "model": "tiny",
    "agrees": True,
    "source": {
        "file": "holiday.params",
        "sha1": "5ac1",
        "official": False,
        "symbol": None,
        "symbol_sha256": None,
    },
    "beside": "trained.pth",
    "weights": {"file": "trained.pth", "sha256": "5ac1"},
    "mapping": {"file": "resnext.toml", "sha256": "5ac1"},
    "reference": {"name": "gluon", "definition": "gluoncv", "versions": {}},
    "tensors": {"compared": 102, "apart": []},
    "blind": [],
    "checks": [CHECK],
    "diagnosis": None,
    "version": "0",
}
AGREEING = as_document(CONTENT)
DIFFERING = as_document(
    CONTENT
    | {
        "agrees": False,
        "checks": [CHECK | {"agrees": False, "summary": "1 of 48 layers differ,\r\n100% of it"}],
        "diagnosis": diagnosis(CONTENT, "  first mismatch  ```a``` <b>"),
    }
)
SENTENCE = (
    "trained.pth and holiday.params: 102 of 102 tensors equal, 48 layers compared with GluonCV, "
    "{} of 1 checks passed"
)


def with_weights_name(found: Document, name: str) -> Document:
    return msgspec.structs.replace(found, target=name)


@pytest.fixture
def summary(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Return the path of a step's summary, as set by GitHub Actions."""
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(tmp_path / "summary.md"))
    return tmp_path / "summary.md"


@pytest.mark.parametrize("value", [None, "", "false"])
def test_nothing_is_written_outside_github_actions(
    value: str | None, summary: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("GITHUB_ACTIONS")
    if value is not None:
        monkeypatch.setenv("GITHUB_ACTIONS", value)
    lines: list[str] = []
    github.write_summary(DIFFERING, lines.append)
    assert lines == []
    assert not summary.exists()


def test_summary_is_appended(summary: Path) -> None:
    summary.write_text("from another step\n\n")
    lines: list[str] = []
    github.write_summary(AGREEING, lines.append)
    github.write_summary(DIFFERING, lines.append)
    expected = ["from another step\n\n", github.markdown(AGREEING), github.markdown(DIFFERING)]
    assert summary.read_bytes().decode() == "".join(expected)


def test_only_a_difference_is_annotated(summary: Path) -> None:
    lines: list[str] = []
    github.write_summary(AGREEING, lines.append)
    assert lines == []
    github.write_summary(DIFFERING, lines.append)
    assert lines == [github.annotation(DIFFERING)]
    assert summary.exists()


def test_annotation_is_printed_without_a_summary_file(summary: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("GITHUB_STEP_SUMMARY")
    lines: list[str] = []
    github.write_summary(DIFFERING, lines.append)
    assert len(lines) == 1
    assert not summary.exists()


def test_unwritable_summary_is_refused(summary: Path) -> None:
    summary.mkdir()
    with pytest.raises(StorageError, match=r"summary\.md: cannot be written: Is a directory"):
        github.write_summary(AGREEING, print)


def test_summary_of_an_agreement_has_a_verdict_and_a_table() -> None:
    assert github.markdown(AGREEING) == (
        "### ✅ parity of tiny\n"
        "\n"
        f"{SENTENCE.format(1)}\n"
        "\n"
        "| check | layers | result |\n"
        "|---|---|---|\n"
        "| float64 at 65x95 | 48 | all agree |\n"
        "\n"
    )


def test_summary_of_a_difference_has_the_findings_verbatim() -> None:
    text = github.markdown(DIFFERING)
    assert text.startswith("### ❌ parity of tiny\n")
    assert "| float64 at 65x95 | 48 | 1 of 48 layers differ, 100% of it |\n" in text
    _, fenced = text.split("\n```text\n")
    assert fenced == (
        "float64 at 65x95: 1 of 48 layers differ,\r\n100% of it\n  first mismatch  '''a''' <b>\n```\n\n"
    )


@pytest.mark.parametrize(
    ("name", "neutral"),
    [
        ("<img src=x onerror=y>.pth", r"\<img src=x onerror=y\>.pth"),
        ("a|b.pth", r"a\|b.pth"),
        ("`a` *b* _c_ ~~d~~.pth", r"\`a\` \*b\* \_c\_ \~\~d\~\~.pth"),
        ("[a](b).pth", r"\[a\](b).pth"),
        ("\\<b>.pth", r"\\\<b\>.pth"),
        ("&lt;b&gt;.pth", r"\&lt;b\&gt;.pth"),
        ("# a.pth", r"\# a.pth"),
        ("$a$.pth", r"\$a\$.pth"),
        ("a\n# b\r# c\u2028d.pth", r"a \# b \# c d.pth"),
    ],
)
def test_file_name_is_escaped_in_markdown(name: str, neutral: str) -> None:
    expected = github.markdown(AGREEING).replace("trained.pth", neutral)
    assert github.markdown(with_weights_name(AGREEING, name)) == expected


def test_annotation_is_one_escaped_line() -> None:
    assert github.annotation(DIFFERING) == (
        f"::error title=parity of tiny::{SENTENCE.format(0)}%0A"
        "float64 at 65x95: 1 of 48 layers differ,%0D%0A100%25 of it%0A"
        "  first mismatch  ```a``` <b>"
    )


def test_file_name_cannot_start_another_workflow_command() -> None:
    text = github.annotation(with_weights_name(DIFFERING, "a%0A\n::add-mask::b\r.pth"))
    assert text.splitlines() == [text]
    assert "parity of tiny::a%250A%0A::add-mask::b%0D.pth and " in text
