"""Which reference a proof rests on, and the proof itself."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass, replace
from importlib.metadata import version
from typing import TYPE_CHECKING

from converter.choices import ReferenceChoice
from converter.errors import ReferenceFailedError, ReferenceUnavailableError
from converter.parity import comparison
from converter.parity.strength import GLUONCV, GRAPH
from converter.references import gluon, numpy
from converter.references.probes import Probe

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from converter.networks.loading import LoadedModel
    from converter.parity.comparison import Network, Reference
    from converter.parity.result import ParityResult

# After the stem 33×48, odd and even: a pool that rounds otherwise shows, and so does a swapped axis.
DEFAULT_PROBES = (Probe("float32", (65, 95)), Probe("float64", (65, 95)))


@dataclass(frozen=True, slots=True)
class ParityOptions:
    """What to compare with, on which inputs, and the interpreter that has GluonCV, if not our own."""

    choice: ReferenceChoice = ReferenceChoice.auto
    probes: tuple[Probe, ...] = DEFAULT_PROBES
    gluon_python: Path | None = None


def resolve_reference(terms: ParityOptions) -> ParityOptions:
    """Name the interpreter for MXNet, or settle on numpy where ``auto`` finds none.

    Errors: ``ReferenceUnavailableError`` where GluonCV or an interpreter is asked for and not there.
    """
    if terms.choice in {ReferenceChoice.numpy, ReferenceChoice.none}:
        return replace(terms, gluon_python=None)
    try:
        python = gluon.find_python(terms.gluon_python)
    except ReferenceUnavailableError:
        if terms.choice is ReferenceChoice.gluon or terms.gluon_python:
            raise
        return replace(terms, choice=ReferenceChoice.numpy)
    demanded = terms.choice is ReferenceChoice.gluon or terms.gluon_python
    return replace(
        terms, choice=ReferenceChoice.gluon if demanded else ReferenceChoice.auto, gluon_python=python
    )


@contextlib.contextmanager
def start_references(terms: ParityOptions, prepared: LoadedModel) -> Iterator[tuple[Reference, ...]]:
    """Start the reference that settled terms ask for, in the background; ``auto`` keeps numpy in reserve.

    Raises:
        ReferenceUnavailableError: if MXNet is asked for and cannot compute the graph in float64.
    """
    own = numpy.NumpyRun(prepared.params, terms.probes)
    if terms.gluon_python is None:
        yield (own,)
        return
    layers = tuple(layer.source for layer in prepared.mapping.layers)
    wiring = prepared.reading.wiring
    if wiring is not None and any(probe.dtype == "float64" for probe in terms.probes):
        try:
            gluon.require_float64(wiring.graph)
        except ReferenceUnavailableError:
            if terms.choice is not ReferenceChoice.auto:
                raise
            yield (own,)
            return
    with prepared.for_mxnet() as params:
        if wiring is None:
            request = gluon.network_request(prepared.model, params.path, layers)
        else:
            request = gluon.graph_request(wiring, params.path, params.names, layers)
        with gluon.start(terms.gluon_python, request, terms.probes) as run:
            yield (run, own) if terms.choice is ReferenceChoice.auto else (run,)


def prove(candidates: tuple[Reference, ...], network: Network, prepared: LoadedModel) -> ParityResult:
    """Compare a network with the first of the references that can run.

    Errors: ``ReferenceUnavailableError`` where none can, or where one runs and fails, which is no reason to
    ask another; ``ParityError`` where there is nothing to compare.
    """
    *preferred, last = candidates
    for reference in preferred:
        try:
            return _prove(reference, network, prepared)
        except ReferenceFailedError:
            raise
        except ReferenceUnavailableError:
            continue
    return _prove(last, network, prepared)


def _prove(reference: Reference, network: Network, prepared: LoadedModel) -> ParityResult:
    proof = comparison.compare(reference, network, prepared.mapping, prepared.params)
    return replace(
        proof,
        versions={**proof.versions, "torch": version("torch")},
        definition=GRAPH if prepared.reading.wiring else GLUONCV,
    )
