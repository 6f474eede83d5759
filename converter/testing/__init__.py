"""Parity assertion for a project's own tests, and the pytest plugin that offers it as a fixture.

The plugin is imported whenever pytest starts, so the assertion is imported when it is first used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from converter.testing.assertion import assert_parity

__all__ = ["assert_parity"]


def __getattr__(name: str) -> object:
    """Import the assertion when it is first used."""
    if name != "assert_parity":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from converter.testing.assertion import assert_parity  # noqa: PLC0415 - imports numpy and msgspec

    return assert_parity
