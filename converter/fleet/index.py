"""Writes the index of an output folder, as JSON, Parquet and HTML, from the journals of all runs."""

from __future__ import annotations

import io
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

import msgspec

from converter.errors import FileMissingError, StorageError
from converter.fleet import overview
from converter.fleet.journals import RUNS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from converter.fleet.journals import Journals
    from converter.fleet.rows import Row
    from converter.storage.store import Store

INDEX, PARQUET, OVERVIEW = "index.json", "index.parquet", "overview.html"
ROUNDS = 5  # after which a run that still converts writes the index, when it ends
PRECISIONS = ("float64", "float32")


def require_own(out: Store, journals: Journals) -> None:
    """Check that an index in the output is one of earlier runs, because this run will replace it.

    Raises:
        StorageError: if no run has written it.
    """
    if journals.exist():
        return
    try:
        out.entry(INDEX)
    except FileMissingError:
        return
    raise StorageError(
        f"{out.url}/{INDEX}: not the index of a fleet: {out.url} has no journals in {RUNS}/\n"
        "  try  another output folder, or remove the file"
    )


def write(out: Store, journals: Journals) -> None:
    """Write the index; again if another run wrote its journal meanwhile, so that the last one is complete.

    Raises:
        StorageError: if it cannot be written, or a journal cannot be read.
    """
    merged = None
    for _ in range(ROUNDS):
        if (versions := journals.versions()) == merged:
            return
        rows = [*journals.merge(versions).values()]
        out.write(INDEX, _json(rows))
        if find_spec("pyarrow"):
            out.write(PARQUET, _parquet(rows))
        if find_spec("jinja2"):
            out.write(OVERVIEW, overview.render(rows).encode())
        merged = versions


def _json(rows: Sequence[Row]) -> bytes:
    """Return a document with a row in each line."""
    return b'{"sources": [\n' + b",\n".join(map(msgspec.json.encode, rows)) + b"\n]}\n"


def _parquet(rows: Sequence[Row]) -> bytes:
    import pyarrow as pa  # noqa: PLC0415 - of the extra `fleet`
    from pyarrow import parquet  # noqa: PLC0415 - as above

    text, number = pa.string(), pa.float64()
    columns = dict.fromkeys(("source", "verdict", "model", "sha1", "artifact", "sha256"), text)
    columns |= {"reference": text, "definition": text}
    columns |= {f"error_{precision}": number for precision in PRECISIONS}
    columns |= {"report": text, "reason": text, "seconds": number, "finished": text}
    buffer = io.BytesIO()
    table = pa.Table.from_pylist([*map(_flat, rows)], schema=pa.schema(columns.items()))
    parquet.write_table(table, buffer)
    return buffer.getvalue()


def _flat(row: Row) -> dict[str, Any]:
    """Return a row without nested values."""
    document: dict[str, Any] = msgspec.to_builtins(row)
    proof = document.pop("proof", None) or {}
    errors = proof.get("errors", {})
    return document | {
        "reference": proof.get("reference"),
        "definition": proof.get("definition"),
        **{f"error_{precision}": errors.get(precision) for precision in PRECISIONS},
    }
