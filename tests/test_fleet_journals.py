"""Journals of runs, and the index that is computed from them."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
from fleet_checkpoints import convert, write_graph

from converter.errors import StorageError
from converter.fleet import index, journals
from converter.fleet.journals import Journal, Journals
from converter.fleet.rows import Proof, Row, Verdict
from converter.storage import stores

if TYPE_CHECKING:
    from pathlib import Path

    from converter.storage.store import Store

NUMPY = Proof(reference="numpy", definition="graph", errors={"float64": 1e-15})


def row(finished: int, verdict: str = "converted", stamp: str = "1", source: str = "a") -> Row:
    return Row(source=source, verdict=Verdict(verdict), stamp=stamp, finished=str(finished))


@pytest.mark.parametrize(
    ("rows", "number", "verdict"),
    [
        ([row(1), row(2, stamp="2")], 2, "converted"),
        ([row(1), row(2, "failed")], 1, "converted"),
        ([row(1), row(2, "failed", stamp="2")], 2, "failed"),
        ([row(1, "failed"), row(2)], 2, "converted"),
        ([row(1), row(2, "skipped", stamp="")], 1, "skipped"),
        ([row(1), row(2, "skipped", stamp=""), row(3, stamp="2")], 3, "converted"),
        ([row(1, "failed"), row(2, "skipped", stamp="")], 1, "failed"),
    ],
)
def test_best_row_of_the_newest_version_is_the_state(rows: list[Row], number: int, verdict: str) -> None:
    for order in (rows, rows[::-1]):
        (state,) = journals.merge(order).values()
        assert (state.finished, state.verdict) == (str(number), verdict)


def test_unproven_row_does_not_replace_a_proven_one() -> None:
    proven = Row(source="a", verdict=Verdict.converted, stamp="1", finished="1", proof=NUMPY)
    assert journals.merge([proven, row(2)])["a"] == proven


def test_index_has_the_rows_of_all_journals(tmp_path: Path) -> None:
    out = stores.open_store(tmp_path)
    both = [Journal(out), Journal(out)]
    for number, journal in enumerate(both):
        journal.add(row(number, source=f"source {number}"))
        journal.write()
    index.write(out, Journals(out))
    assert [each["source"] for each in read(tmp_path)] == ["source 0", "source 1"]


def test_journal_written_while_the_index_is_written_is_in_it(tmp_path: Path) -> None:
    """Without the second look at the journals, the row of the other run is missing."""
    out = stores.open_store(tmp_path)
    journal, other = Journal(out), Journal(out)
    journal.add(row(1))
    journal.write()

    class Interrupted(Journals):
        merges = 0

        def merge(self, versions: object) -> dict[str, Row]:
            result = super().merge(versions)  # type: ignore[arg-type]
            self.merges += 1
            if self.merges == 1:
                other.add(row(2, source="b"))
                other.write()
            return result

    interrupted = Interrupted(out)
    index.write(out, interrupted)
    assert [each["source"] for each in read(tmp_path)] == ["a", "b"]
    assert interrupted.merges == 2


def test_damaged_journal_is_named(tmp_path: Path) -> None:
    write_graph(tmp_path / "source")
    out = tmp_path / "out"
    convert(tmp_path / "source", out)
    (journal,) = (out / journals.RUNS).iterdir()
    journal.write_text("{\n")
    with pytest.raises(StorageError, match=rf"{journal.name}: not a journal: (.*\n)*.*Remove it"):
        convert(tmp_path / "source", out)


def test_line_that_was_cut_off_is_left_out(tmp_path: Path) -> None:
    out = stores.open_store(tmp_path)
    journal = journals.Journal(out)
    for name in "ab":
        journal.add(Row(source=name, verdict=Verdict.converted, stamp="1", finished="2026"))
    journal.write()
    (file,) = (tmp_path / journals.RUNS).iterdir()
    file.write_bytes(file.read_bytes()[:-5])
    of_out = journals.Journals(out)
    assert [*of_out.merge(of_out.versions())] == ["a"]


def test_journal_is_written_at_intervals(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(journals, "SECONDS", 0.0)
    out = stores.open_store(tmp_path)
    journal = Journal(out)
    journal.add(row(1))
    assert len((tmp_path / journal.name).read_text().splitlines()) == 1
    monkeypatch.setattr(journals, "SECONDS", 1000.0)
    later = Journal(out)
    later.add(row(1))
    assert not (tmp_path / later.name).exists()


def read(out: Path) -> list[dict[str, object]]:
    rows: list[dict[str, object]] = json.loads((out / index.INDEX).read_text())["sources"]
    return rows


def test_parquet_has_the_rows_of_the_index(tmp_path: Path) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    out: Store = stores.open_store(tmp_path)
    journal = Journal(out)
    journal.add(Row(source="a", verdict=Verdict.converted, stamp="1", finished="1", proof=NUMPY))
    journal.add(row(2, "failed", source="b"))
    journal.write()
    index.write(out, Journals(out))
    table = parquet.read_table(tmp_path / index.PARQUET).to_pylist()
    assert [(each["source"], each["reference"], each["error_float64"]) for each in table] == [
        ("a", "numpy", 1e-15),
        ("b", None, None),
    ]


def test_overview_links_files_and_escapes_names(tmp_path: Path) -> None:
    pytest.importorskip("jinja2")
    out = stores.open_store(tmp_path)
    journal = Journal(out)
    journal.add(
        Row(
            source="<script>",
            verdict=Verdict.converted,
            artifact="a b/javascript:x.safetensors",
            report="a b/x.html",
            stamp="1",
            proof=NUMPY,
        )
    )
    journal.write()
    index.write(out, Journals(out))
    page = (tmp_path / index.OVERVIEW).read_text()
    assert 'href="./a%20b/javascript%3Ax.safetensors"' in page
    assert 'href="./a%20b/x.html"' in page
    assert "<script>" not in page
