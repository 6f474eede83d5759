"""Every reader on corrupted files: a bounded part of ``nox -s fuzz``, and its past findings."""

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

from converter.graphs.codegen.safe_source import UnsafeSourceError

if TYPE_CHECKING:
    from fuzz.targets import Target

EXAMPLES = 100
FOUND = sorted((Path(__file__).parent / "regressions").glob("*/*"))
fuzz_settings = settings(
    max_examples=EXAMPLES,
    derandomize=True,
    deadline=None,  # `limited` sets the deadline
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


def mutated(target: Target, seed: int, steps: list[int]) -> bytes:
    """Return one of a target's seeds, mutated once for each of ``steps``."""
    seeds = target.seeds()
    content = seeds[seed % len(seeds)]
    for step in steps:
        content = target.mutate(content, Random(step))  # noqa: S311 - reproducible, not a secret
    return content


@pytest.mark.parametrize("name", TARGETS)
@fuzz_settings
@given(seed=st.integers(0, 63), steps=st.lists(st.integers(0, 2**32), min_size=1, max_size=4))
def test_mutated_file_is_read_or_refused(name: str, seed: int, steps: list[int], tmp_path: Path) -> None:
    target = TARGETS[name]
    with limited():
        attempt(target, mutated(target, seed, steps), tmp_path)


@pytest.mark.parametrize("name", TARGETS)
def test_every_reader_refuses_some_files_and_reads_a_seed(name: str, tmp_path: Path) -> None:
    target = TARGETS[name]
    outcomes = {attempt(target, mutated(target, number, [number]), tmp_path) for number in range(64)}
    assert False in outcomes
    assert name in NEVER_READ or any(attempt(target, content, tmp_path) for content in target.seeds())


NEVER_READ = {"symbol", "manifest", "stages"}  # valid files, but of no network here


@pytest.mark.parametrize("path", FOUND, ids=lambda path: f"{path.parent.name}-{path.name}")
def test_past_fuzzer_finding_is_refused(path: Path, tmp_path: Path) -> None:
    with limited():
        assert not attempt(TARGETS[path.parent.name], path.read_bytes(), tmp_path)


def test_regression_corpus_is_not_empty() -> None:
    assert len(FOUND) > 5


def test_unexpected_exception_is_detected(tmp_path: Path) -> None:
    with pytest.raises(KeyError, match="arrays"):
        attempt(CONTROLS["leaks"], b"", tmp_path)


def test_hanging_reader_is_detected(tmp_path: Path) -> None:
    begin = time.monotonic()
    with pytest.raises(HangError), limited(0.1):
        attempt(CONTROLS["hangs"], b"", tmp_path)
    assert time.monotonic() - begin < 5


def test_write_outside_the_folder_is_detected(tmp_path: Path) -> None:
    with pytest.raises(StrayError, match="escaped"):
        attempt(CONTROLS["strays"], b"", tmp_path)


def test_unsafe_source_is_detected(tmp_path: Path) -> None:
    assert attempt(CONTROLS["injects"], b"import torch\n", tmp_path)
    with pytest.raises(UnsafeSourceError, match="import os"):
        attempt(CONTROLS["injects"], b"import torch\nimport os\n", tmp_path)


LOG = """
#2837\tNEW    cov: 241 ft: 672 corp: 39/35Kb lim: 16384 exec/s: 0 rss: 66Mb L: 870/1945 MS: 2 Custom-
#10000\tDONE   cov: 250 ft: 690 corp: 40/35Kb lim: 16384 exec/s: 0 rss: 66Mb
stat::number_of_executed_units: 10000
"""


def test_campaign_summary_reflects_log_and_findings(tmp_path: Path) -> None:
    complete = campaign.parse_outcome("stages", LOG, 3.0, tmp_path)
    (tmp_path / "crash-0a4d").touch()
    outcome = campaign.parse_outcome("stages", LOG, 3.0, tmp_path)
    short = campaign.parse_outcome("stages", LOG.replace("10000", "9999"), 3.0, tmp_path / "..")
    assert (complete.executions, complete.covered, complete.corpus, complete.passed_all) == (
        10_000,
        250,
        40,
        True,
    )
    assert (outcome.findings, outcome.passed_all) == ((tmp_path / "crash-0a4d",), False)
    assert not short.passed_all
    assert campaign.ROW.format("stages", 10_000, 3.0, 250, 40, 1) == "| stages | 10,000 | 3 | 250 | 40 | 1 |"


def test_campaign_runs_a_million_executions() -> None:
    assert sum(target.runs for target in TARGETS.values()) >= 1_000_000
