"""Select parameters: a file, a checkpoint on the Hub, seeded random ones, or those that GluonCV published."""

from __future__ import annotations

import contextlib
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

from converter.errors import (
    CatalogError,
    ConversionError,
    DialectError,
    MappingError,
    SourceError,
    SymbolError,
    UsageError,
)
from converter.networks import catalog, hub_source, synthetic, unknown_names
from converter.sources import hub, params_file
from converter.storage import disk

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from converter.networks.catalog import Model
    from converter.progress import Progress
    from converter.sources.hub import HubRepository
    from converter.sources.params_file import ParamsFile

AUTO = "auto"  # in place of a model's name: detect the model


@dataclass(frozen=True, slots=True)
class ParamsSource:
    """Selects parameters: a file, a repository or seeded random ones, else those that GluonCV published.

    Attributes:
        model: the model, None to detect it from the file's tensors.
        params: the ``.params`` file, or an archive of one.
        hub: the repository of a checkpoint on the Hub.
        seed: the seed of random parameters.
        symbol: the file's graph, None to search for it.
        search_graph: whether to search for the graph in the archive and the folder of the file.
        backbone: whether to convert the network without its head.
        output_stride: the output stride of the network, None for that of the graph, or else an undilated
            network.
    """

    model: Model | None
    params: Path | None = None
    hub: HubRepository | None = None
    seed: int | None = None
    symbol: Path | None = None
    search_graph: bool = True
    backbone: bool = False
    output_stride: int | None = None

    def __post_init__(self) -> None:
        """Check the seed."""
        if self.seed is not None:
            require_seed(self.seed)


def select(  # noqa: PLR0913 - the arguments of the public functions
    model: str,
    params: Path | None,
    random: int | None,
    symbol: Path | None,
    *,
    source: str | None = None,
    backbone: bool = False,
    output_stride: int | None = None,
) -> ParamsSource:
    """Return the source described by a public function's arguments.

    Args:
        model: the model's name, or "auto".
        params: ``.params`` file or archive.
        random: seed of random parameters.
        symbol: graph of the parameters.
        source: ``hf-hub:ORG/NAME`` or ``hf-hub:ORG/NAME@REVISION``.
        backbone: whether to take the network without its head.
        output_stride: output stride of the network.

    Raises:
        UsageError: if the arguments contradict each other, a file is required, or the network cannot have
            the output stride.
        CatalogError: if the model is unknown.
    """
    given = {"params": params, "source": source, "random": random}
    if len(several := [name for name, value in given.items() if value is not None]) > 1:
        one, other = several[:2]
        raise UsageError(f"`{one}` and `{other}` cannot be used together", one, other)
    if params is None and source is None and model == AUTO:
        raise UsageError("auto-detection requires `params`", "params")
    if params is None and symbol is not None:
        raise UsageError("`symbol` requires `params`", "symbol", "params")
    selected = None if model == AUTO else _find(model)
    if output_stride is not None:
        _require_output_stride(selected, output_stride)
    return ParamsSource(
        model=selected,
        params=params,
        hub=None if source is None else hub.parse(source),
        seed=random,
        symbol=symbol,
        backbone=backbone,
        output_stride=output_stride,
    )


def _require_output_stride(model: Model | None, output_stride: int) -> None:
    models = catalog.models().values() if model is None else [model]
    expected = sorted({stride for each in models for stride in each.config.output_strides})
    if output_stride not in expected:
        *others, last = map(str, expected)
        listing = f"{', '.join(others)} or {last}" if others else last
        name = "" if model is None else f" of {model.name}"
        raise UsageError(
            f"`output_stride`{name}: expected {listing}, found {output_stride!r}", "output_stride"
        )


def _find(model: str) -> Model:
    """Return a model; a file in place of its name gets a hint."""
    try:
        return catalog.find(model)
    except CatalogError:
        if os.path.isfile(model):  # noqa: PTH113 - Path.is_file raises an error for a name that is too long
            raise UsageError(
                f"{model} is a file, not a model; use auto with `params` {model}", "params"
            ) from None
        raise


def require_seed(seed: int) -> None:
    """Check a seed of random parameters.

    Raises:
        UsageError: if it is not an integer of at least 0.
    """
    if not isinstance(seed, int) or seed < 0:
        raise UsageError(f"`random`: expected an integer of at least 0, found {seed!r}", "random")


@contextlib.contextmanager
def open_source(source: ParamsSource, progress: Progress) -> Iterator[ParamsFile]:
    """Yield the selected ``.params`` file; generated and unpacked files are deleted on exit.

    Raises:
        SourceError: if the file cannot be downloaded or unpacked; also in place of a mismatch in the body if
            it is the published file of a model that is not native.
        StorageError: if the file cannot be read; also in place of any other ``ConversionError`` in the
            body if the file has changed meanwhile.
    """
    with disk.temp_dir() as folder:
        file = _locate(source, folder, progress)
        try:
            yield file
        except (DialectError, MappingError, SymbolError) as error:
            params_file.require_unchanged(file)
            if name := catalog.published_not_native(file.sha1):
                raise SourceError(f"{file.user_path}: {unknown_names.describe_gluoncv(name)}") from error
            raise
        except ConversionError:
            params_file.require_unchanged(file)
            raise


def _locate(source: ParamsSource, folder: Path, progress: Progress) -> ParamsFile:
    model = source.model
    if source.params is not None:
        return params_file.from_file(source.params, folder, progress)
    if source.hub is not None:
        return hub_source.take(model, source.hub, folder, progress, source.output_stride)
    if model is None:
        raise UsageError("auto-detection requires `params`", "params")
    if source.seed is None:
        return hub_source.take_published(model, folder, progress)
    path = folder / f"{model.name}.random-{source.seed}.params"
    return params_file.from_arrays(  # keeps no copy of the arrays
        synthetic.random_params(model.mapping, model.shapes, source.seed), path, progress
    )
