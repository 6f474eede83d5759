"""A list of what was checked, each with what was expected and what was found."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeVar

from converter.errors import ConversionError

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at; ``holds`` is None where it was seen and not checked."""

    place: str
    what: str
    expected: str
    found: str
    holds: bool | None


@dataclass(frozen=True, slots=True)
class Checks:
    """What was found so far."""

    findings: list[Finding] = field(default_factory=list)

    def equal(self, place: str, what: str, expected: str, found: str) -> None:
        """Check that something is what it is said to be."""
        self.findings.append(Finding(place, what, expected, found, holds=expected == found))

    def wrong(self, place: str, what: str, expected: str, found: str) -> None:
        """Note something that cannot be right."""
        self.findings.append(Finding(place, what, expected, found, holds=False))

    def unchecked(self, place: str, what: str, found: str) -> None:
        """Note something that is there and is not judged."""
        self.findings.append(Finding(place, what, "", found, holds=None))

    def tried(self, place: str, what: str, expected: str, action: Callable[[], T]) -> T | None:
        """Return what an action gives; where it refuses, that is what was found."""
        try:
            given = action()
        except ConversionError as error:
            self.wrong(place, what, expected, str(error))
            return None
        self.findings.append(Finding(place, what, expected, expected, holds=True))
        return given
