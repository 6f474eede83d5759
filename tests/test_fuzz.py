"""Every reader on spoilt files: a bounded slice of what ``nox -s fuzz`` does, and what that found."""

from __future__ import annotations

import time
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING

import pytest
from fuzz import campaign
from fuzz.controls import CONTROLS
from fuzz.targets import TARGETS, HangError, StrayError, attempt, limited
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

if TYPE_CHECKING:
    from fuzz.targets import Target

EXAMPLES = 300
FOUND = sorted((Path(__file__).parent / "regressions").glob("*/*"))
slowly = settings(
    max_examples=EXAMPLES,
    derandomize=True,
    deadline=None,  # `limited` says it
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


def spoilt(target: Target, seed: int, steps: list[int]) -> bytes:
    """Return one of a target's seeds, spoilt once for each of ``steps``."""
    seeds = target.seeds()
    content = seeds[seed % len(seeds)]
    for step in steps:
        content = target.mutate(content, Random(step))  # noqa: S311 - to be repeated
    return content


@pytest.mark.parametrize("name", TARGETS)
@slowly
@given(seed=st.integers(0, 63), steps=st.lists(st.integers(0, 2**32), min_size=1, max_size=4))
def test_a_spoilt_file_is_read_or_refused(name: str, seed: int, steps: list[int], tmp_path: Path) -> None:
    target = TARGETS[name]
    with limited():
        attempt(target, spoilt(target, seed, steps), tmp_path)


@pytest.mark.parametrize("name", TARGETS)
def test_what_is_spoilt_is_refused_and_what_is_whole_is_not_by_every_reader(
    name: str, tmp_path: Path
) -> None:
    target = TARGETS[name]
    outcomes = {attempt(target, spoilt(target, number, [number]), tmp_path) for number in range(64)}
    assert False in outcomes
    assert name in NEVER_READ or any(attempt(target, content, tmp_path) for content in target.seeds())


NEVER_READ = {"symbol", "manifest", "stages"}  # whole files, but of no network here


@pytest.mark.parametrize("path", FOUND, ids=lambda path: f"{path.parent.name}-{path.name}")
def test_what_a_fuzzer_found_is_refused(path: Path, tmp_path: Path) -> None:
    with limited():
        assert not attempt(TARGETS[path.parent.name], path.read_bytes(), tmp_path)


def test_something_was_found() -> None:
    assert len(FOUND) > 5


def test_a_reader_that_leaks_is_caught(tmp_path: Path) -> None:
    with pytest.raises(KeyError, match="arrays"):
        attempt(CONTROLS["leaks"], b"", tmp_path)


def test_a_reader_that_hangs_is_caught(tmp_path: Path) -> None:
    begin = time.monotonic()
    with pytest.raises(HangError), limited(0.1):
        attempt(CONTROLS["hangs"], b"", tmp_path)
    assert time.monotonic() - begin < 5


def test_a_reader_that_writes_where_it_should_not_is_caught(tmp_path: Path) -> None:
    with pytest.raises(StrayError, match="escaped"):
        attempt(CONTROLS["strays"], b"", tmp_path)


LOG = """
#2837\tNEW    cov: 241 ft: 672 corp: 39/35Kb lim: 16384 exec/s: 0 rss: 66Mb L: 870/1945 MS: 2 Custom-
#10000\tDONE   cov: 250 ft: 690 corp: 40/35Kb lim: 16384 exec/s: 0 rss: 66Mb
stat::number_of_executed_units: 10000
"""


def test_the_summary_has_what_the_fuzzer_printed_and_what_it_saved(tmp_path: Path) -> None:
    whole = campaign.outcome_of("stages", LOG, 3.0, tmp_path)
    (tmp_path / "crash-0a4d").touch()
    found = campaign.outcome_of("stages", LOG, 3.0, tmp_path)
    short = campaign.outcome_of("stages", LOG.replace("10000", "9999"), 3.0, tmp_path / "..")
    assert (whole.executions, whole.covered, whole.corpus, whole.is_whole) == (10_000, 250, 40, True)
    assert (found.findings, found.is_whole) == ((tmp_path / "crash-0a4d",), False)
    assert not short.is_whole
    assert campaign.ROW.format("stages", 10_000, 3.0, 250, 40, 1) == "| stages | 10,000 | 3 | 250 | 40 | 1 |"


def test_the_campaign_is_a_million_executions() -> None:
    assert sum(target.runs for target in TARGETS.values()) >= 1_000_000
