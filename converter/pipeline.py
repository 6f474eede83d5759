"""The road of one conversion, from a name to a proven file: source → params → mapping → artifact → proof."""

from __future__ import annotations

import contextlib
import tempfile
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from converter import artifact, catalog, dialects, manifest, mapping, matching, parity, source, synthetic
from converter.errors import MappingError
from converter.params import read_params
from converter.progress import silent
from converter.reference import gluon
from resnext_torch import HEAD

if TYPE_CHECKING:
    from collections.abc import Iterator

    from converter.catalog import Model
    from converter.mapping import Mapping
    from converter.params import Array
    from converter.progress import Progress
    from converter.source import Source

# After the stem 33×48, odd and even: a pool that rounds otherwise shows, and so does a swapped axis.
DEFAULT_PROBES = (parity.Probe("float32", (65, 95)), parity.Probe("float64", (65, 95)))
PROOF_STEPS = 3


@dataclass(frozen=True, slots=True)
class Request:
    """What to convert, and how to prove it. Without ``params`` and ``seed`` the published file is taken."""

    model: Model
    out: Path
    params: Path | None = None
    seed: int | None = None
    probes: tuple[parity.Probe, ...] = DEFAULT_PROBES
    prove: bool = True
    gluon_python: Path | None = None

    @property
    def stem(self) -> str:
        """What the output's name begins with; random parameters say that they are."""
        return self.model.name if self.seed is None else f"{self.model.name}.random"


@dataclass(frozen=True, slots=True)
class Result:
    """Where the output is, and what its manifest says."""

    artifact: Path
    manifest_file: Path
    manifest: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Prepared:
    """Parameters that fit their model, by PyTorch's names; nothing is copied."""

    model: Model
    mapping: Mapping
    state: dict[str, Array]


def convert(request: Request, progress: Progress = silent) -> Result:
    """Convert one file and prove it. Nothing appears in ``out`` unless all of it succeeds.

    Errors: ``ConversionError``, of a kind for each thing that can be wrong.
    """
    python = gluon.find_python(request.gluon_python) if request.prove else None
    with _source(request, progress) as found:
        prepared = prepare(request.model, found.path)
        with contextlib.ExitStack() as stack:
            run = stack.enter_context(_start(python, prepared, found, request.probes)) if python else None
            written = stack.enter_context(artifact.draft(request.out, prepared.state, progress))
            artifact.verify(written, prepared.state)
            proof = prove(run, written.path, prepared, progress) if run else parity.NO_PROOF
            destination = request.out / artifact.file_name(request.stem, written.sha256)
            document = manifest.build(
                model=prepared.model,
                source=found,
                dialect=dialects.STRUCTURAL,
                mapping=prepared.mapping,
                written=written,
                file=destination.name,
                proof=proof,
            )
            source.require_genuine(found, request.model)
            beside = artifact.publish(written, destination, document)
    return Result(destination, beside, document)


def prepare(model: Model, path: Path) -> Prepared:
    """Read a ``.params`` file and lay it beside the model, whose classes are those of the file's head.

    Errors: ``ParamsError``, ``DialectError``, ``MappingError``; the last names the model that does fit.
    """
    params = read_params(path)
    dialects.require_structural(params, str(path))
    table = mapping.read(model.mapping_file, model.config.depths)
    classes = matching.class_count(table, params, HEAD)
    model = model.with_classes(classes) if classes else model
    try:
        state = matching.rename(table, params, model.shapes, str(path))
    except MappingError as error:
        raise MappingError(f"{error}{_fitting(params, model)}") from error
    return Prepared(model, table, state)


def prove(run: gluon.Run, artifact_file: Path, prepared: Prepared, progress: Progress) -> parity.Proof:
    """Compare the written file, in our module, with the reference that is at work.

    Errors: ``ParityError`` where they do not agree, or could not help agreeing.
    """
    progress("proving", 0, PROOF_STEPS)
    model = parity.load_module(artifact_file, prepared.model.config)
    blind = parity.blind_weights(model, prepared.mapping)
    progress("proving", 1, PROOF_STEPS)
    module = parity.run_module(model, run.probes)
    progress("proving", 2, PROOF_STEPS)
    reference = run.outputs()
    checks = tuple(
        parity.compare(probe, *pair)
        for probe, *pair in zip(run.probes, reference.logits, module, strict=True)
    )
    parity.require_passed(checks)
    parity.require_sight(blind)
    progress("proving", PROOF_STEPS, PROOF_STEPS)
    return parity.Proof("gluon", {**reference.versions, "torch": version("torch")}, checks)


@contextlib.contextmanager
def _source(request: Request, progress: Progress) -> Iterator[Source]:
    """Find the parameters; those made from a seed lie in a temporary folder while they are needed."""
    if request.params is not None:
        yield source.from_file(request.params, request.model, progress)
    elif request.seed is None:
        yield source.from_zoo(request.model, progress)
    else:
        table = mapping.read(request.model.mapping_file, request.model.config.depths)
        # Windows cannot remove the file while it is mapped; everywhere else nothing is left.
        with tempfile.TemporaryDirectory(prefix="gluon2torch-", ignore_cleanup_errors=True) as folder:
            path = Path(folder, f"{request.stem}-{request.seed}.params")
            yield source.from_arrays(  # which keeps no copy of the arrays
                synthetic.random_params(table, request.model.shapes, request.seed),
                path,
                request.model,
                progress,
            )


def _start(
    python: Path, prepared: Prepared, found: Source, probes: tuple[parity.Probe, ...]
) -> contextlib.AbstractContextManager[gluon.Run]:
    model = prepared.model
    return gluon.start(python, model.entry.gluon, model.config.num_classes, found.path, probes)


def _fitting(params: dict[str, Array], refused: Model) -> str:
    """Return a line that names the other models which these arrays do fit."""
    classes = refused.config.num_classes
    fitting = [
        model.name
        for model in (model.with_classes(classes) for model in catalog.models().values())
        if model.name != refused.name
        and matching.fits(mapping.read(model.mapping_file, model.config.depths), params, model.shapes)
    ]
    return f"\n  The arrays are those of {' or '.join(fitting)}." if fitting else ""
