"""Decides which checkpoints are already converted, from the index and listings alone."""

from __future__ import annotations

from typing import TYPE_CHECKING

from converter.fleet.rows import Verdict

if TYPE_CHECKING:
    from collections.abc import Mapping

    from converter.fleet.rows import Row
    from converter.fleet.sources import CheckpointSource
    from converter.parity.options import ParityOptions


def is_complete(row: Row, present: Mapping[str, int], options: ParityOptions, *, report: bool) -> bool:
    """Return whether an earlier conversion is all that is requested, whatever its source is now.

    Args:
        row: the conversion.
        present: the sizes of the files in the output, by name.
        options: how strong its proof must at least be.
        report: whether it needs a parity report.
    """
    if row.verdict is Verdict.failed or not row.files:
        return False
    if any(present.get(file) != size for file, size in row.files.items()):
        return False
    if report and row.report not in present:
        return False
    return options.reference == "none" or (row.proof is not None and row.proof.satisfies(options))


def is_unchanged(source: CheckpointSource, row: Row) -> bool:
    """Return whether the listing and the settings of a source are those of an earlier conversion."""
    return source.is_listed and source.stamp == row.stamp
