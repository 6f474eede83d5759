"""The version, changelog and citation of a release agree."""

from __future__ import annotations

import re
from pathlib import Path

import yaml
from packaging.version import Version

import converter

ROOT = Path(__file__).parents[1]
HEADING = re.compile(r"^## \[(.+?)\](?: - (\d{4}-\d{2}-\d{2}))?$", re.MULTILINE)
KINDS = {"Added", "Changed", "Deprecated", "Removed", "Fixed", "Security"}


def changelog() -> str:
    return (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")


def latest_release() -> tuple[str, str]:
    """Return the version and date of the latest release in the changelog."""
    _, (version, date) = HEADING.findall(changelog())[:2]
    return version, date


def test_changelog_begins_with_unreleased_then_the_latest_release() -> None:
    assert HEADING.findall(changelog())[0] == ("Unreleased", "")
    version, date = latest_release()
    assert date
    current = Version(converter.__version__)
    assert current == Version(version) or (current.is_devrelease and current > Version(version))


def test_changelog_has_the_sections_of_keep_a_changelog() -> None:
    sections = re.findall(r"^### (.+)$", changelog(), re.MULTILINE)
    assert set(sections) <= KINDS


def test_citation_names_the_latest_release() -> None:
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert (citation["version"], str(citation["date-released"])) == latest_release()
