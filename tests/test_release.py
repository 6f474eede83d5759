"""The version, changelog and citation of a release agree."""

from __future__ import annotations

import re
from pathlib import Path

import yaml

import converter

ROOT = Path(__file__).parents[1]
HEADING = re.compile(r"^## \[(.+?)\](?: - (\d{4}-\d{2}-\d{2}))?$", re.MULTILINE)
KINDS = {"Added", "Changed", "Deprecated", "Removed", "Fixed", "Security"}


def changelog() -> str:
    return (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")


def test_changelog_begins_with_unreleased_then_the_current_version() -> None:
    (first, undated), (version, date) = HEADING.findall(changelog())[:2]
    assert (first, undated) == ("Unreleased", "")
    assert version == converter.__version__
    assert date


def test_changelog_has_the_sections_of_keep_a_changelog() -> None:
    sections = re.findall(r"^### (.+)$", changelog(), re.MULTILINE)
    assert set(sections) <= KINDS


def test_citation_names_the_current_release() -> None:
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    dates = dict(HEADING.findall(changelog()))
    assert citation["version"] == converter.__version__
    assert str(citation["date-released"]) == dates[converter.__version__]
