"""Select and start the reference, and compare a network with it."""

from __future__ import annotations

import contextlib
import os
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

from converter.choices import ReferenceChoice
from converter.errors import ReferenceFailedError, ReferenceUnavailableError, UsageError
from converter.formats import torch_package
from converter.parity import comparison
from converter.parity.result import GLUONCV, GRAPH
from converter.progress import silent
from converter.references import gluon, gluon_params, numpy

if TYPE_CHECKING:
    from collections.abc import Iterator

    from converter.networks.loading import LoadedModel
    from converter.parity.comparison import Network, Reference
    from converter.parity.options import ParityOptions
    from converter.parity.result import ParityResult
    from converter.progress import Progress
    from converter.references.probes import Probe


@dataclass(frozen=True, slots=True, kw_only=True)
class ReferencePlan:
    """The references to try, in order: MXNet, numpy, or numpy if MXNet cannot run.

    Attributes:
        probes: the inputs.
        python: interpreter that has MXNet, None for numpy only.
        fallback: whether numpy is used if MXNet cannot run.
    """

    probes: tuple[Probe, ...]
    python: Path | None = None
    fallback: bool = False


def resolve_reference(options: ParityOptions) -> ReferencePlan | None:
    """Choose the references; None if no comparison is requested.

    Raises:
        TorchUnavailableError: if torch is not installed, which runs the network.
        ReferenceUnavailableError: if GluonCV or an interpreter is requested and not available.
    """
    if options.reference == ReferenceChoice.none:
        return None
    torch_package.require_torch("a proof", "--reference none converts without a proof")
    if options.reference == ReferenceChoice.numpy:
        return ReferencePlan(probes=options.probes)
    interpreter = options.gluon_python or os.environ.get("GLUON_PYTHON")
    required = options.reference == ReferenceChoice.gluon or interpreter is not None
    try:
        python = gluon.find_python(None if interpreter is None else Path(interpreter))
    except ReferenceUnavailableError:
        if required:
            raise
        return ReferencePlan(probes=options.probes)
    return ReferencePlan(probes=options.probes, python=python, fallback=not required)


def require_reference(options: ParityOptions) -> ReferencePlan:
    """Choose the references of a comparison, which is nothing without one.

    Raises:
        UsageError: if no comparison is requested.
        ReferenceUnavailableError: as ``resolve_reference``.
        TorchUnavailableError: as ``resolve_reference``.
    """
    if options.reference != ReferenceChoice.none:
        torch_package.require_torch("a comparison")
    plan = resolve_reference(options)
    if plan is None:
        raise UsageError("a comparison requires a `reference`: auto, gluon or numpy", "reference")
    return plan


@contextlib.contextmanager
def start_references(
    plan: ReferencePlan | None, loaded: LoadedModel, progress: Progress = silent
) -> Iterator[tuple[Reference, ...]]:
    """Start the selected reference in the background, and yield it with its fallback; nothing without a plan.

    Raises:
        ReferenceUnavailableError: if MXNet is requested and cannot compute the network or graph.
    """
    if plan is None:
        yield ()
        return
    config = loaded.model.config
    probes = tuple(replace(probe, channels=config.in_chans) for probe in plan.probes)
    fallback = numpy.NumpyRun(loaded.params, probes, config.output_stride)
    if plan.python is None or not _runs_in_mxnet(plan, loaded):
        yield (fallback,)
        return
    layers = tuple(layer.source for layer in loaded.mapping.layers)
    wiring = loaded.source.wiring
    with gluon_params.provide(loaded) as params:
        if wiring is None:
            request = gluon.network_request(loaded.model, params.path, layers)
        else:
            request = gluon.graph_request(wiring, params.path, params.names, layers)
        with gluon.start(plan.python, request, probes, progress) as run:
            yield (run, fallback) if plan.fallback else (run,)


def _runs_in_mxnet(plan: ReferencePlan, loaded: LoadedModel) -> bool:
    """Return whether GluonCV has the network, or MXNet the graph's operators in every probe's precision.

    Raises:
        ReferenceUnavailableError: if MXNet lacks the network or an operator and no fallback is allowed.
    """
    wiring = loaded.source.wiring
    try:
        if wiring is None:
            gluon.require_network(loaded.model)
        elif any(probe.dtype == "float64" for probe in plan.probes):
            gluon.require_float64(wiring.body)
    except ReferenceUnavailableError:
        if not plan.fallback:
            raise
        return False
    return True


def prove(
    references: tuple[Reference, ...], network: Network, loaded: LoadedModel, progress: Progress = silent
) -> ParityResult:
    """Compare a network with the first reference that can run.

    Raises:
        ReferenceUnavailableError: if no reference can run.
        ReferenceFailedError: if a reference starts and fails; the next one is not tried.
        ParityError: if the reference does not compute a layer.
    """
    *preferred, last = references
    for reference in preferred:
        try:
            return _prove(reference, network, loaded, progress)
        except ReferenceFailedError:
            raise
        except ReferenceUnavailableError:
            continue
    return _prove(last, network, loaded, progress)


def _prove(reference: Reference, network: Network, loaded: LoadedModel, progress: Progress) -> ParityResult:
    proof = comparison.compare(reference, network, loaded.mapping, loaded.params, progress)
    return replace(
        proof,
        versions={**proof.versions, "torch": version("torch")},
        definition=GRAPH if loaded.source.wiring else GLUONCV,
    )
