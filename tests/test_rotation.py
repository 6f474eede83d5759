from __future__ import annotations

import pytest
import rotation

NAMES = [f"{group}{number}" for group in "abc" for number in range(7)]


@pytest.fixture(autouse=True)
def _sampled(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("GRAPH_ZOO", raising=False)


def chosen(day: int) -> list[str]:
    return rotation.chosen(NAMES, lambda name: name[0], day)


def test_every_run_has_a_case_of_each_group_in_order() -> None:
    for day in range(rotation.DAYS):
        names = chosen(day)
        assert {"a0", "b0", "c0"} <= {*names} < {*NAMES}
        assert names == sorted(names)


def test_every_case_has_its_turn() -> None:
    assert {name for day in range(100, 100 + rotation.DAYS) for name in chosen(day)} == {*NAMES}
    assert {name for day in range(100, 99 + rotation.DAYS) for name in chosen(day)} != {*NAMES}


def test_all_are_chosen_on_request(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GRAPH_ZOO", "all")
    assert chosen(0) == NAMES


def test_smallest_network_of_a_group_is_in_every_run() -> None:
    names = ["net101", "net50", "net152", "net18"]
    runs = [{*rotation.chosen(names, lambda _: "net", day)} for day in range(rotation.DAYS)]
    assert set.intersection(*runs) == {"net18"}
