"""Parameters prepared for a model, from a file or synthetic."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from converter.formats.kinds import Kind
from converter.formats.params import Params
from converter.networks import loading, naming_styles
from converter.networks.loading import LoadedParams
from converter.networks.naming_styles import NamingStyle
from converter.networks.selection import ParamsSource
from converter.progress import silent
from converter.sources import params_file
from converter.sources.params_file import ParamsFile
from converter.storage import background

if TYPE_CHECKING:
    from converter.networks.catalog import Model
    from converter.networks.loading import LoadedModel


def prepare(model: Model, path: Path) -> LoadedModel:
    """Read a file for a model; an archive is unpacked next to it."""
    return loading.load_model(ParamsSource(model, path), params_file.from_file(path, path.parent, silent))


def in_memory(prepared: LoadedModel) -> LoadedModel:
    """Return the same model with all values in memory, for tests that change some."""
    params, state = (
        {name: np.asarray(array) for name, array in arrays.items()}
        for arrays in (prepared.params, prepared.state)
    )
    return replace(prepared, params=params, state=state)


def without_file(name: str = "holiday.params", sha1: str = "5ac1") -> LoadedParams:
    """Return the metadata of parameters that were read from no file."""
    digest = background.done(sha1)
    path = Path(name)
    source = ParamsFile(path, path, name, None, (0, 0, 0, 0, 0), digest)
    naming = NamingStyle(name, naming_styles.STRUCTURAL)
    content = Params({}, Kind.ndarray_list, ("V2",))
    return LoadedParams(params_file=source, content=content, naming=naming)
