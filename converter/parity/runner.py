"""Which reference a proof rests on, and the proof itself."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass, replace
from importlib.metadata import version
from typing import TYPE_CHECKING

from converter.choices import Choice
from converter.errors import ReferenceFailedError, ReferenceUnavailableError
from converter.parity import comparison
from converter.parity.strength import GLUONCV, GRAPH
from converter.references import gluon, numpy
from converter.references.probes import Probe

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from converter.networks.loading import Prepared
    from converter.parity.comparison import Network, Reference
    from converter.parity.result import Proof

# After the stem 33×48, odd and even: a pool that rounds otherwise shows, and so does a swapped axis.
DEFAULT_PROBES = (Probe("float32", (65, 95)), Probe("float64", (65, 95)))


@dataclass(frozen=True, slots=True)
class Terms:
    """What to compare with, on which inputs, and the interpreter that has GluonCV, if not our own."""

    choice: Choice = Choice.auto
    probes: tuple[Probe, ...] = DEFAULT_PROBES
    gluon_python: Path | None = None


def settle(terms: Terms) -> Terms:
    """Name the interpreter for MXNet, or settle on numpy where ``auto`` finds none.

    Errors: ``ReferenceUnavailableError`` where GluonCV or an interpreter is asked for and not there.
    """
    if terms.choice in {Choice.numpy, Choice.none}:
        return replace(terms, gluon_python=None)
    try:
        python = gluon.find_python(terms.gluon_python)
    except ReferenceUnavailableError:
        if terms.choice is Choice.gluon or terms.gluon_python:
            raise
        return replace(terms, choice=Choice.numpy)
    demanded = terms.choice is Choice.gluon or terms.gluon_python
    return replace(terms, choice=Choice.gluon if demanded else Choice.auto, gluon_python=python)


@contextlib.contextmanager
def references(terms: Terms, prepared: Prepared) -> Iterator[tuple[Reference, ...]]:
    """Start the reference that settled terms ask for, in the background; ``auto`` keeps numpy in reserve.

    Raises:
        ReferenceUnavailableError: if MXNet is asked for and cannot compute the graph in float64.
    """
    own = numpy.Run(prepared.params, terms.probes)
    if terms.gluon_python is None:
        yield (own,)
        return
    layers = tuple(layer.source for layer in prepared.mapping.layers)
    wiring = prepared.reading.wiring
    if wiring is not None and any(probe.dtype == "float64" for probe in terms.probes):
        try:
            gluon.require_float64(wiring.graph)
        except ReferenceUnavailableError:
            if terms.choice is not Choice.auto:
                raise
            yield (own,)
            return
    with prepared.for_mxnet() as params:
        if wiring is None:
            request = gluon.network_request(prepared.model, params.path, layers)
        else:
            request = gluon.graph_request(wiring, params.path, params.names, layers)
        with gluon.start(terms.gluon_python, request, terms.probes) as run:
            yield (run, own) if terms.choice is Choice.auto else (run,)


def prove(candidates: tuple[Reference, ...], network: Network, prepared: Prepared) -> Proof:
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


def _prove(reference: Reference, network: Network, prepared: Prepared) -> Proof:
    proof = comparison.compare(reference, network, prepared.mapping, prepared.params)
    return replace(
        proof,
        versions={**proof.versions, "torch": version("torch")},
        definition=GRAPH if prepared.reading.wiring else GLUONCV,
    )
