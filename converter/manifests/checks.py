"""Collect the results of checks, each with the expected and the actual value."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeVar

from converter.errors import ConversionError

if TYPE_CHECKING:
    from collections.abc import Callable

    from converter.manifests.schema import AnyManifest
    from converter.networks.catalog import Model

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class CheckResult:
    """Result of one check.

    Attributes:
        place: file that was checked.
        what: property that was checked.
        expected: expected value.
        actual: actual value.
        holds: whether the check passed, None if the property was not checked.
        error: error that made the check fail, None if there was none.
    """

    place: str
    what: str
    expected: str
    actual: str
    holds: bool | None
    error: ConversionError | None = field(default=None, compare=False)


@dataclass(frozen=True, slots=True)
class CheckList:
    """The results so far, the readable manifests and the networks, None for a generated module."""

    results: list[CheckResult] = field(default_factory=list)
    manifests: list[AnyManifest] = field(default_factory=list)
    networks: list[Model | None] = field(default_factory=list)

    def equal(self, place: str, what: str, expected: str, actual: str) -> None:
        """Check that a value is the expected one."""
        self.results.append(CheckResult(place, what, expected, actual, holds=expected == actual))

    def wrong(self, place: str, what: str, expected: str, actual: str) -> None:
        """Record a failed check."""
        self.results.append(CheckResult(place, what, expected, actual, holds=False))

    def unchecked(self, place: str, what: str, actual: str) -> None:
        """Record a property that exists but is not checked."""
        self.results.append(CheckResult(place, what, "", actual, holds=None))

    def tried(
        self, place: str, what: str, expected: str, action: Callable[[], T], *, quiet: bool = False
    ) -> T | None:
        """Run an action and record whether it raises ``ConversionError``.

        Args:
            place: file that is checked.
            what: property that is checked.
            expected: expected value.
            action: the action.
            quiet: whether to record failures only, because further checks follow a success.

        Returns:
            The value of the action, or None if it raised.
        """
        try:
            value = action()
        except ConversionError as error:
            self.results.append(CheckResult(place, what, expected, str(error), holds=False, error=error))
            return None
        if not quiet:
            self.results.append(CheckResult(place, what, expected, expected, holds=True))
        return value
