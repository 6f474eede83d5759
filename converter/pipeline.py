"""The road of one conversion, from a name to a proven file: source → params → mapping → artifact → proof."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from converter import artifact, diagnosis, dialects, manifest, network, preparation, proving, source
from converter.progress import silent
from converter.proof import NO_PROOF, require_passed
from converter.proving import Choice, Terms

if TYPE_CHECKING:
    from pathlib import Path

    from converter.artifact import Draft
    from converter.parity import Reference
    from converter.preparation import Origin, Prepared
    from converter.progress import Progress
    from converter.proof import Proof

PROOF_STEPS = 2


@dataclass(frozen=True, slots=True)
class Request:
    """What to convert, where to, and how to prove it."""

    origin: Origin
    out: Path
    terms: Terms = Terms()


@dataclass(frozen=True, slots=True)
class Result:
    """Where the output is, and what its manifest says."""

    artifact: Path
    manifest_file: Path
    manifest: dict[str, Any]


def convert(request: Request, progress: Progress = silent) -> Result:
    """Convert one file and prove it. Nothing appears in ``out`` unless all of it succeeds.

    Errors: ``ConversionError``, of a kind for each thing that can be wrong.
    """
    terms = proving.settle(request.terms)
    with preparation.opened(request.origin, progress) as found, contextlib.ExitStack() as stack:
        prepared = preparation.prepare(request.origin.model, found.path)
        candidates = stack.enter_context(proving.references(terms, prepared, found.path))
        written = stack.enter_context(artifact.draft(request.out, prepared.state, progress))
        artifact.verify(written, prepared.state)
        proof = NO_PROOF
        if terms.choice is not Choice.none:
            proof = _prove(written, candidates, prepared, progress)
        destination = request.out / artifact.file_name(request.origin.stem, written.sha256)
        document = manifest.build(
            model=prepared.model,
            source=found,
            dialect=dialects.STRUCTURAL,
            mapping=prepared.mapping,
            written=written,
            file=destination.name,
            proof=proof,
        )
        source.require_genuine(found, request.origin.model)
        beside = artifact.publish(written, destination, document)
    return Result(destination, beside, document)


def _prove(
    written: Draft, candidates: tuple[Reference, ...], prepared: Prepared, progress: Progress
) -> Proof:
    """Compare the written file, in our module, with the reference.

    Errors: ``ParityError`` where they do not agree, or could not help agreeing.
    """
    progress("proving", 0, PROOF_STEPS)
    module = network.load(written.path, prepared.model.config)
    progress("proving", 1, PROOF_STEPS)
    proof = proving.prove(candidates, network.watch(module, prepared.mapping), prepared)
    require_passed(proof, diagnosis.diagnose(proof, prepared, prepared.state))
    progress("proving", PROOF_STEPS, PROOF_STEPS)
    return proof
