"""Select and start the reference, and compare a network with it."""

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

# 33×48 after the stem, odd and even: detects pools with other rounding, and swapped axes.
DEFAULT_PROBES = (Probe("float32", (65, 95)), Probe("float64", (65, 95)))


@dataclass(frozen=True, slots=True)
class ParityOptions:
    """How to compare.

    Attributes:
        choice: the reference.
        probes: the inputs.
        gluon_python: interpreter that has GluonCV, None for the current one. After
            ``resolve_reference``, None means that MXNet is not used.
    """

    choice: ReferenceChoice = ReferenceChoice.auto
    probes: tuple[Probe, ...] = DEFAULT_PROBES
    gluon_python: Path | None = None


def resolve_reference(terms: ParityOptions) -> ParityOptions:
    """Resolve the interpreter for MXNet; ``auto`` falls back to numpy if there is none.

    Raises:
        ReferenceUnavailableError: if GluonCV or an interpreter is requested and not available.
    """
    if terms.choice in {ReferenceChoice.numpy, ReferenceChoice.none}:
        return replace(terms, gluon_python=None)
    try:
        python = gluon.find_python(terms.gluon_python)
    except ReferenceUnavailableError:
        if terms.choice is ReferenceChoice.gluon or terms.gluon_python:
            raise
        return replace(terms, choice=ReferenceChoice.numpy)
    required = terms.choice is ReferenceChoice.gluon or terms.gluon_python
    return replace(
        terms, choice=ReferenceChoice.gluon if required else ReferenceChoice.auto, gluon_python=python
    )


@contextlib.contextmanager
def start_references(terms: ParityOptions, prepared: LoadedModel) -> Iterator[tuple[Reference, ...]]:
    """Start the selected reference in the background; with ``auto``, numpy follows as a fallback.

    Args:
        terms: options returned by ``resolve_reference``.
        prepared: the parameters and their model.

    Raises:
        ReferenceUnavailableError: if MXNet is requested and cannot compute the graph in float64.
    """
    fallback = numpy.NumpyRun(prepared.params, terms.probes)
    if terms.gluon_python is None:
        yield (fallback,)
        return
    layers = tuple(layer.source for layer in prepared.mapping.layers)
    wiring = prepared.reading.wiring
    if wiring is not None and any(probe.dtype == "float64" for probe in terms.probes):
        try:
            gluon.require_float64(wiring.graph)
        except ReferenceUnavailableError:
            if terms.choice is not ReferenceChoice.auto:
                raise
            yield (fallback,)
            return
    with prepared.for_mxnet() as params:
        if wiring is None:
            request = gluon.network_request(prepared.model, params.path, layers)
        else:
            request = gluon.graph_request(wiring, params.path, params.names, layers)
        with gluon.start(terms.gluon_python, request, terms.probes) as run:
            yield (run, fallback) if terms.choice is ReferenceChoice.auto else (run,)


def prove(candidates: tuple[Reference, ...], network: Network, prepared: LoadedModel) -> ParityResult:
    """Compare a network with the first reference that can run.

    Raises:
        ReferenceUnavailableError: if no reference can run.
        ReferenceFailedError: if a reference starts and fails; the next one is not tried.
        ParityError: if the reference does not compute a layer.
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
