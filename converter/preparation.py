"""What conversions and parity checks begin with: a ``.params`` file found, read and laid beside its model."""

from __future__ import annotations

import contextlib
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from converter import catalog, dialects, matching, source, synthetic
from converter.errors import MappingError
from converter.params import read_params
from resnext_torch import HEAD

if TYPE_CHECKING:
    from collections.abc import Iterator

    from converter.catalog import Model
    from converter.mapping import Mapping
    from converter.params import Array
    from converter.progress import Progress
    from converter.source import Source


@dataclass(frozen=True, slots=True)
class Origin:
    """Which parameters of a model: a file, seeded random ones, or, with neither, the published file."""

    model: Model
    params: Path | None = None
    seed: int | None = None

    @property
    def stem(self) -> str:
        """What names made from it begin with; random parameters say that they are."""
        return self.model.name if self.seed is None else f"{self.model.name}.random"


@dataclass(frozen=True, slots=True)
class Prepared:
    """Parameters that fit their model, not copied: ``params`` by Gluon's names, ``state`` by PyTorch's."""

    model: Model
    mapping: Mapping
    params: dict[str, Array]
    state: dict[str, Array]


def prepare(model: Model, path: Path) -> Prepared:
    """Read a ``.params`` file and lay it beside the model, whose classes are those of the file's head.

    Errors: ``ParamsError``, ``DialectError``, ``MappingError``; the last names the model that does fit.
    """
    params = read_params(path)
    dialects.require_structural(params, str(path))
    table = model.mapping
    classes = matching.class_count(table, params, HEAD)
    model = model.with_classes(classes) if classes else model
    try:
        state = matching.rename(table, params, model.shapes, str(path))
    except MappingError as error:
        raise MappingError(f"{error}{_others(params, model)}") from error
    return Prepared(model, table, params, state)


@contextlib.contextmanager
def opened(origin: Origin, progress: Progress) -> Iterator[Source]:
    """Find the parameters; those made from a seed lie in a temporary folder while they are needed.

    Errors: ``SourceError``.
    """
    model = origin.model
    if origin.params is not None:
        yield source.from_file(origin.params, model, progress)
    elif origin.seed is None:
        yield source.from_zoo(model, progress)
    else:
        # Windows cannot remove the file while it is mapped; everywhere else nothing is left.
        with tempfile.TemporaryDirectory(prefix="gluon2torch-", ignore_cleanup_errors=True) as folder:
            path = Path(folder, f"{origin.stem}-{origin.seed}.params")
            yield source.from_arrays(  # which keeps no copy of the arrays
                synthetic.random_params(model.mapping, model.shapes, origin.seed), path, model, progress
            )


def _others(params: dict[str, Array], refused: Model) -> str:
    """Return a line that names the other models whose names and shapes these arrays have."""
    others = []
    for model in catalog.models().values():
        candidate = model.with_classes(refused.config.num_classes)
        if model.name != refused.name and matching.fits(candidate.mapping, params, candidate.shapes):
            others.append(model.name)
    return f"\n  The arrays are those of {' or '.join(others)}." if others else ""
