"""Read a ``.params`` file and match it with its model, for conversions and parity checks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from converter.errors import ParamsError, StorageError
from converter.formats import detect
from converter.formats.kinds import GLUON, Kind
from converter.formats.params import Params, open_params
from converter.networks import graph_matching, matching, preparation, resolution
from converter.storage import disk

if TYPE_CHECKING:
    from converter.formats.file_arrays import AnyArray, Arrays
    from converter.graphs.graph import Graph
    from converter.networks.catalog import Model
    from converter.networks.location import LocatedNetwork
    from converter.networks.mapping import Mapping
    from converter.networks.naming_styles import NamingStyle
    from converter.networks.preparation import ExportedNormalization
    from converter.networks.selection import ParamsSource
    from converter.networks.wiring import Wiring
    from converter.networks.wrappings import Wrapping
    from converter.sources.params_file import ParamsFile


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadedParams:
    """Parameters as they were read.

    Attributes:
        params_file: the file.
        content: its content.
        naming: the names of the network's parameters in it.
        wrapping: how the file differs from GluonCV's own, None if it does not.
        preprocessing: the normalization of images that was exported with the network.
        twins: the names of arrays that occur twice, with ``arg:`` and with ``aux:``, and are equal.
        wiring: the graph that belongs to the parameters, matched with the model; None if there is none.
    """

    params_file: ParamsFile
    content: Params
    naming: NamingStyle
    wrapping: Wrapping | None = None
    preprocessing: ExportedNormalization | None = None
    twins: tuple[str, ...] = ()
    wiring: Wiring | None = None

    @property
    def graph(self) -> Graph | None:
        """The graph that belongs to the parameters."""
        return self.wiring.graph if self.wiring else None

    @property
    def fixed_gammas(self) -> tuple[str, ...]:
        """The structural names of the gammas that the graph fixes at 1."""
        return self.wiring.fixed_gammas if self.wiring else ()


@dataclass(frozen=True, slots=True)
class LoadedModel:
    """Parameters that match their model; the arrays stay in the file.

    Attributes:
        model: the model, with the config that its file shows.
        mapping: the model's mapping.
        params: the parameters by Gluon's structural names.
        state: the same arrays by PyTorch's names, and a zero for each counter.
        source: the parameters as they were read.
    """

    model: Model
    mapping: Mapping
    params: Arrays
    state: Arrays
    source: LoadedParams


def load_model(source: ParamsSource, file: ParamsFile) -> LoadedModel:
    """Read a ``.params`` file and match it with a model, with the config that the parameters show.

    Args:
        source: what the user selected.
        file: the selected file.

    Raises:
        ParamsError: if the file is malformed.
        StorageError: if it cannot be read, or has changed since it was opened.
        DialectError: if the names are in none of Gluon's styles.
        SymbolError: if the graph cannot be read or does not match the model.
        UsageError: if the model cannot have the selected output stride.
        MappingError: if the parameters do not match the model; the message names the model that they do
            match, or those between which the user has to choose.
    """
    content = _open(file)
    prepared = preparation.prepare(content.arrays, str(file.user_path))
    locations = resolution.find_usable(source, prepared.arrays, str(file.user_path))
    graph = graph_matching.find(source, file, content.arrays, locations)
    if source.model is None and not source.backbone and graph is None:
        resolution.require_whole(locations, content.arrays, file)
    located = resolution.choose(locations, prepared.arrays, graph, file)
    if source.output_stride is not None:
        located = located.with_output_stride(source.output_stride)
    wiring = None
    if graph is not None:
        any_stride = source.output_stride is None
        located, wiring = graph_matching.match(graph, located, prepared, any_stride=any_stride)
    model, naming = located.model, located.naming
    params = _structural_arrays(located, prepared.arrays)
    if wiring is not None:
        if source.symbol is None:
            graph_matching.require_own_gammas(wiring, params, prepared.arrays, naming)
        params = graph_matching.fix_gammas(wiring, params)
    state = matching.rename(model.mapping, params, model.shapes, naming.file)
    loaded = LoadedParams(
        params_file=file,
        content=content,
        naming=naming,
        wrapping=located.wrapping,
        preprocessing=prepared.preprocessing,
        twins=prepared.twins,
        wiring=wiring,
    )
    return LoadedModel(model, model.mapping, params, state, loaded)


def _open(file: ParamsFile) -> Params:
    """Read the headers of a file that must not have changed since it was selected."""
    name = str(file.user_path)
    _require_gluon(file)
    content = open_params(file.path, name=name)
    if file.archive is None and content.stamp != file.stamp:
        raise StorageError(f"{name}: {disk.CHANGED}")
    return content


def _require_gluon(file: ParamsFile) -> None:
    """Refuse any other kind of file by what it is: a clearer message than one about the first byte."""
    name = str(file.user_path)
    kind = detect.kind(file.path, name)
    if kind not in GLUON and kind is not Kind.unknown:  # the reader shows the bytes of an unknown file
        raise ParamsError(detect.refusal(file.path, kind, name))


def _structural_arrays(located: LocatedNetwork, arrays: Arrays) -> dict[str, AnyArray]:
    """Return the arrays by structural name, with zeros for the bias of a head that has none."""
    file_names = located.naming.resolve(located.model.mapping)
    params = {name: arrays[file_name] for name, file_name in file_names.items()}
    if located.wrapping is not None:
        shapes = located.model.source_shapes
        dtype = next(reversed(params.values())).dtype
        params |= {name: np.zeros(shapes[name], dtype) for name in located.wrapping.zeros}
    return params
