"""The outcome for each checkpoint of a fleet: what an index, a journal and a summary contain."""

from __future__ import annotations

from collections import Counter
from enum import StrEnum
from typing import TYPE_CHECKING

from msgspec import Struct

from converter.choices import ReferenceChoice
from converter.manifests.hashes import Sha1, Sha256  # noqa: TC001 - evaluated

if TYPE_CHECKING:
    from collections.abc import Iterable

    from converter.manifests.schema import ParityRecord
    from converter.parity.options import ParityOptions

# From the weakest reference to the strongest; `auto` takes what can run, at least numpy.
RANKS = {ReferenceChoice.none: 0, ReferenceChoice.auto: 1, ReferenceChoice.numpy: 1, ReferenceChoice.gluon: 2}


class Verdict(StrEnum):
    """What happened to a checkpoint or a model."""

    converted = "converted"
    skipped = "skipped"
    failed = "failed"


class Proof(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What a conversion was compared with.

    Attributes:
        reference: what computed the expected outputs.
        definition: "graph", the given graph, or "gluoncv", GluonCV's definition of the model.
        errors: the largest relative error of a layer, by precision.
        sizes: the input sizes that were requested; empty for the default.
    """

    reference: str
    definition: str | None
    errors: dict[str, float]
    sizes: tuple[str, ...] = ()

    @property
    def error(self) -> float:
        """The largest error in any precision."""
        return max(self.errors.values())

    def satisfies(self, options: ParityOptions) -> bool:
        """Return whether a proof with these options would not be stronger."""
        return (
            self.reference in RANKS  # else it is one of a newer version
            and RANKS[ReferenceChoice(self.reference)] >= RANKS[ReferenceChoice(options.reference)]
            and {probe.dtype for probe in options.probes} <= self.errors.keys()
            and {*sizes(options)} <= {*self.sizes}
        )


class Row(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The outcome for one checkpoint.

    Attributes:
        source: the checkpoint, relative to the place that was converted, or as on the list.
        verdict: "converted", "skipped" or "failed".
        model: name of the model, or of the generated module.
        sha1: SHA-1 of the parameters.
        artifact: path of the weights in the output folder.
        sha256: their SHA-256.
        files: size of each file that was written, by its path, with the manifest last.
        proof: what they were compared with; absent if nothing was compared.
        report: path of the parity report.
        reason: why it failed, or what was not used.
        seconds: duration of the conversion.
        finished: when it ended, in UTC.
        stamp: digest of the names, sizes and versions of the files that were read.
        content: digest of their contents.
    """

    source: str
    verdict: Verdict
    model: str | None = None
    sha1: Sha1 | None = None
    artifact: str | None = None
    sha256: Sha256 | None = None
    files: dict[str, int] = {}
    proof: Proof | None = None
    report: str | None = None
    reason: str = ""
    seconds: float = 0.0
    finished: str = ""
    stamp: str = ""
    content: str = ""


class FleetSummary(Struct, frozen=True, kw_only=True):
    """The outcome for every checkpoint of a run.

    Attributes:
        counts: number of checkpoints per verdict.
        index: the index of the output folder, which also has the rows of earlier runs.
        sources: the rows, in the order of the sources.
    """

    counts: dict[str, int]
    index: str
    sources: tuple[Row, ...]


def count(verdicts: Iterable[Verdict]) -> dict[str, int]:
    """Return the number of each verdict."""
    counts = Counter(verdicts)
    return {verdict.value: counts[verdict] for verdict in Verdict}


def sizes(options: ParityOptions) -> tuple[str, ...]:
    """Return the input sizes that options request, none for the default."""
    return tuple(dict.fromkeys(probe.label for probe in options.probes)) if options.sizes else ()


def proof(parity: ParityRecord, options: ParityOptions) -> Proof | None:
    """Return the proof in a manifest, None without one."""
    if not parity.proven:
        return None
    errors: dict[str, float] = {}
    for check in parity.checks:
        errors[check.dtype] = max(errors.get(check.dtype, 0.0), check.worst.relative)
    return Proof(
        reference=parity.reference, definition=parity.definition, errors=errors, sizes=sizes(options)
    )
