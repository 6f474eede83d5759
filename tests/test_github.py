from __future__ import annotations

import copy
from typing import TYPE_CHECKING

import pytest

from converter.errors import ArtifactError
from converter.parity import github

if TYPE_CHECKING:
    from pathlib import Path

    from converter.parity.json_report import Document

AGREEING: Document = {
    "model": "tiny",
    "agrees": True,
    "source": {"file": "holiday.params"},
    "beside": "trained.pth",
    "weights": {"file": "trained.pth"},
    "reference": {"name": "gluon", "definition": "gluoncv"},
    "tensors": {"compared": 102, "apart": []},
    "blind": [],
    "checks": [
        {"dtype": "float64", "size": "65x95", "agrees": True, "summary": "all agree", "layers": [{}] * 48}
    ],
    "diagnosis": None,
}
DIFFERING: Document = AGREEING | {
    "agrees": False,
    "checks": [AGREEING["checks"][0] | {"agrees": False, "summary": "1 of 48 layers apart,\r\n100% of it"}],
    "diagnosis": {"text": "  first apart  ```a``` <b>"},
}
SENTENCE = (
    "trained.pth and holiday.params: 102 of 102 tensors equal, 48 layers compared with GluonCV, "
    "{} of 1 checks passed"
)


def named(found: Document, name: str) -> Document:
    found = copy.deepcopy(found)
    found["beside"] = name
    return found


@pytest.fixture
def summary(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A step's summary, as under GitHub Actions."""
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(tmp_path / "summary.md"))
    return tmp_path / "summary.md"


@pytest.mark.parametrize("value", [None, "", "false"])
def test_elsewhere_nothing_is_said(value: str | None, summary: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("GITHUB_ACTIONS")
    if value is not None:
        monkeypatch.setenv("GITHUB_ACTIONS", value)
    said: list[str] = []
    github.write_summary(DIFFERING, said.append)
    assert said == []
    assert not summary.exists()


def test_the_summary_is_appended_to(summary: Path) -> None:
    summary.write_text("from another step\n\n")
    said: list[str] = []
    github.write_summary(AGREEING, said.append)
    github.write_summary(DIFFERING, said.append)
    expected = ["from another step\n\n", github.markdown(AGREEING), github.markdown(DIFFERING)]
    assert summary.read_bytes().decode() == "".join(expected)


def test_an_annotation_is_made_of_what_differs_alone(summary: Path) -> None:
    said: list[str] = []
    github.write_summary(AGREEING, said.append)
    assert said == []
    github.write_summary(DIFFERING, said.append)
    assert said == [github.annotation(DIFFERING)]
    assert summary.exists()


def test_without_a_summary_there_is_an_annotation_still(
    summary: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("GITHUB_STEP_SUMMARY")
    said: list[str] = []
    github.write_summary(DIFFERING, said.append)
    assert len(said) == 1
    assert not summary.exists()


def test_a_summary_that_cannot_be_written_is_refused(summary: Path) -> None:
    summary.mkdir()
    with pytest.raises(ArtifactError, match=r"summary\.md: cannot be written: Is a directory"):
        github.write_summary(AGREEING, print)


def test_agreement_is_a_verdict_and_a_table() -> None:
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


def test_what_speaks_against_it_follows_as_it_stands() -> None:
    text = github.markdown(DIFFERING)
    assert text.startswith("### ❌ parity of tiny\n")
    assert "| float64 at 65x95 | 48 | 1 of 48 layers apart, 100% of it |\n" in text
    _, fenced = text.split("\n```text\n")
    assert fenced == (
        "float64 at 65x95: 1 of 48 layers apart,\r\n100% of it\n  first apart  '''a''' <b>\n```\n\n"
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
def test_a_files_name_is_neither_markdown_nor_html(name: str, neutral: str) -> None:
    expected = github.markdown(AGREEING).replace("trained.pth", neutral)
    assert github.markdown(named(AGREEING, name)) == expected


def test_an_annotation_is_one_line_whose_signs_are_escaped() -> None:
    assert github.annotation(DIFFERING) == (
        f"::error title=parity of tiny::{SENTENCE.format(0)}%0A"
        "float64 at 65x95: 1 of 48 layers apart,%0D%0A100%25 of it%0A"
        "  first apart  ```a``` <b>"
    )


def test_a_files_name_cannot_begin_another_command() -> None:
    text = github.annotation(named(DIFFERING, "a%0A\n::add-mask::b\r.pth"))
    assert text.splitlines() == [text]
    assert "parity of tiny::a%250A%0A::add-mask::b%0D.pth and " in text
