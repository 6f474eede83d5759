"""What a report shows of a document: the layers of all checks in one order, the mismatch, the limits."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from converter.parity.result import LAYER_LIMITS

if TYPE_CHECKING:
    from converter.parity.json_report import CheckRow, Document, LayerRow

NEIGHBOURS = 5  # shown before the first mismatch, and after it
EQUAL, INFINITE = "equal", "∞"


class Place(NamedTuple):
    """What is compared in one row of every check."""

    source: str
    target: str
    kind: str
    part: str
    compared: str


class Neighbour(NamedTuple):
    """A row near the first mismatch: the row of each check, None where a check has none."""

    place: Place
    rows: tuple[LayerRow | None, ...]
    is_culprit: bool


def place(row: LayerRow) -> Place:
    """Return what a row compares."""
    return Place(row.source, row.target, row.kind, row.part, row.compared)


def check_names(document: Document) -> list[str]:
    """Return a name for each check."""
    return [f"{check.dtype} at {check.size}" for check in document.checks]


def places(document: Document) -> list[Place]:
    """Return what the checks compare, in the order of the network.

    A check may stop early, and a graph's has rows for the nodes that failed in it.
    """
    ordered: list[Place] = []
    for check in sorted(document.checks, key=lambda check: -len(check.layers)):
        known, position = set(ordered), 0
        for row in check.layers:
            each = place(row)
            if each in known:
                position = ordered.index(each) + 1
            else:
                ordered.insert(position, each)
                position += 1
    return ordered


def error(row: LayerRow | None) -> str:
    """Return the relative error of a row as text."""
    if row is None:
        return "—"
    if row.relative is None:
        return INFINITE
    return EQUAL if row.relative == 0 else f"{row.relative:.2e}"


def excess(row: LayerRow) -> str:
    """Return how far an error is beyond its limit, as text; "" if it is not finite."""
    if row.relative is None or not row.limit:
        return ""
    return f"{row.relative / row.limit:.2g} × the limit"


def neighbours(document: Document) -> list[Neighbour]:
    """Return the first mismatch with the rows around it."""
    if document.diagnosis is None:
        return []
    by_place = [{place(row): row for row in check.layers} for check in document.checks]
    ordered, culprit = places(document), place(document.diagnosis.layer)
    if culprit not in ordered:
        return []
    number = ordered.index(culprit)
    around = ordered[max(0, number - NEIGHBOURS) : number + NEIGHBOURS + 1]
    return [
        Neighbour(each, tuple(rows.get(each) for rows in by_place), is_culprit=each == culprit)
        for each in around
    ]


def limits(document: Document) -> list[str]:
    """Explain the limits of every check in a sentence each."""
    return [
        f"{name}: {_explain(check)}."
        for name, check in zip(check_names(document), document.checks, strict=True)
        if check.layers
    ]


def _explain(check: CheckRow) -> str:
    """Explain the limits of a check, of which some are smaller or larger than the usual one."""
    usual = LAYER_LIMITS.get(check.dtype, check.layers[0].limit)
    last = check.layers[-1]
    text = f"at most {usual:.0e}"
    if last.limit < usual:
        return (
            f"{text} in a layer, of which the worst of up to a million values counts, and at most "
            f"{last.limit:.0e} in the last one, {last.target}, which has few values. "
            "There the dashed line steps down"
        )
    wider = [row for row in check.layers if row.limit > usual]
    if not wider:
        return f"{text} in every layer"
    outputs = "1 output" if len(wider) == 1 else f"{len(wider)} outputs"
    return (
        f"{text}, and at most {wider[0].limit:.0e} in {outputs} from {wider[0].target} on, "
        "after an operator that MXNet computes in float32. There the dashed line steps up"
    )
