"""A list of what was checked, each with what was expected and what was found."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeVar

from converter.errors import ConversionError

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class CheckResult:
    """One thing that was looked at.

    ``holds`` is None if it was seen and not checked; ``error`` is what a refusal raised, if it did.
    """

    place: str
    what: str
    expected: str
    found: str
    holds: bool | None
    error: ConversionError | None = field(default=None, compare=False)

    def document(self) -> dict[str, str | bool | None]:
        """Return it for programs."""
        return {
            "place": self.place,
            "what": self.what,
            "expected": self.expected,
            "found": self.found,
            "holds": self.holds,
        }


@dataclass(frozen=True, slots=True)
class CheckList:
    """The findings so far."""

    findings: list[CheckResult] = field(default_factory=list)

    def equal(self, place: str, what: str, expected: str, found: str) -> None:
        """Check that something is what it is said to be."""
        self.findings.append(CheckResult(place, what, expected, found, holds=expected == found))

    def wrong(self, place: str, what: str, expected: str, found: str) -> None:
        """Note something that cannot be right."""
        self.findings.append(CheckResult(place, what, expected, found, holds=False))

    def unchecked(self, place: str, what: str, found: str) -> None:
        """Note something that is there and is not judged."""
        self.findings.append(CheckResult(place, what, "", found, holds=None))

    def tried(
        self, place: str, what: str, expected: str, action: Callable[[], T], *, quiet: bool = False
    ) -> T | None:
        """Return what an action gives; if it refuses, that is what was found.

        Success is a finding too, unless ``quiet``: then the checks that follow are.
        """
        try:
            given = action()
        except ConversionError as error:
            self.findings.append(CheckResult(place, what, expected, str(error), holds=False, error=error))
            return None
        if not quiet:
            self.findings.append(CheckResult(place, what, expected, expected, holds=True))
        return given
