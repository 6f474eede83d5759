"""Find the weights in a checkpoint, wherever a training program put them, and name them as Gluon does."""

from __future__ import annotations

from typing import TYPE_CHECKING

from converter.errors import MappingError
from converter.formats import checkpoint
from converter.formats.state_dicts import NetworkNames
from converter.networks import catalog, detection, matching

if TYPE_CHECKING:
    from pathlib import Path

    from converter.formats.checkpoint import Checkpoint
    from converter.formats.file_arrays import Arrays
    from converter.networks.catalog import Model
    from converter.networks.mapping import Mapping


def read(path: Path, key: str | None = None) -> Checkpoint:
    """Return a checkpoint's arrays by name, without a prefix, and their location in the file.

    Args:
        path: the file.
        key: the key of the state dict; by default it is detected by the names of its tensors.

    Raises:
        ConversionError: as ``checkpoint.read``; also if the file contains several networks, or no state dict
            under the key.
    """
    networks = [_names(model.mapping) for model in catalog.models().values()]
    return checkpoint.load(path, key, networks)


def _names(mapping: Mapping) -> NetworkNames:
    optional = frozenset(mapping.target_only)
    return NetworkNames(optional.union(tensor.target for tensor in mapping.tensors), optional)


def to_gluon(model: Model, arrays: Arrays, file: str) -> Arrays:
    """Return the arrays of a state dict by Gluon's names, in the order in which GluonCV saves them.

    Args:
        model: the model, with the hyper-parameters of the arrays.
        arrays: the state dict.
        file: its file, for messages.

    Raises:
        MappingError: with every missing, unexpected or misshapen tensor, and the model that they do match; or
            with every tensor that is not finite, or is a negative variance.
    """
    try:
        state = matching.complete(model.mapping, arrays, model.shapes, file)
    except MappingError as error:
        raise detection.with_suggestions(error, model, detection.match_torch(arrays)) from error
    matching.require_usable(model.mapping, state, file)
    return {tensor.source: state[tensor.target] for tensor in model.mapping.tensors}
