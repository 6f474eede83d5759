"""The pytest plugin: the fixture and the marker ``gluon_parity``.

pytest imports this module at every start, in projects that do not use it too: it imports nothing heavy.
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

import pytest

from converter import testing

if TYPE_CHECKING:
    from collections.abc import Callable

NAME = "gluon_parity"
MARKER = (
    f"{NAME}(name, params=None, weights=None, **options): arguments of the fixture {NAME}, "
    "which are those of converter.testing.assert_parity"
)


def pytest_configure(config: pytest.Config) -> None:
    """Document the marker, for ``pytest --markers`` and ``--strict-markers``."""
    config.addinivalue_line("markers", MARKER)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Refuse a marked test without the fixture: it would pass without a comparison.

    Raises:
        UsageError: with the test.
    """
    for item in items:
        is_marked = any(marker.name == NAME for marker in item.own_markers)
        if is_marked and NAME not in getattr(item, "fixturenames", ()):
            raise pytest.UsageError(
                f"{item.nodeid}: has the marker {NAME} without the fixture, so nothing is compared\n"
                f"  try         def {item.name.partition('[')[0]}({NAME}): {NAME}()"
            )


@pytest.fixture
def gluon_parity(request: pytest.FixtureRequest) -> Callable[..., dict[str, Any]]:
    """Return ``converter.testing.assert_parity`` with the arguments of the nearest marker."""
    marker = request.node.get_closest_marker(NAME)
    if marker is None:
        return testing.assert_parity
    return functools.partial(testing.assert_parity, *marker.args, **marker.kwargs)
