"""Detect a model from tensor names and shapes, the prefix, the graph and the published SHA-1."""

from __future__ import annotations

import functools
import re
from collections import Counter
from typing import TYPE_CHECKING

from converter.errors import MappingError, SymbolError
from converter.networks import catalog, matching, wiring
from resnext_torch import HEAD

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from converter.formats.file_arrays import AnyArray, Arrays
    from converter.graphs.graph import Graph
    from converter.networks.catalog import Model
    from converter.networks.mapping import Mapping
    from converter.networks.naming_styles import NamingStyle
    from resnext_torch.config import Shape

HEAD_DIMENSIONS = 2
CONV_DIMENSIONS = 4
OUTER = re.compile(r"([a-z]+[0-9]+_)*")  # the prefixes of the networks that contain a network
HINT = "give the model's name instead of auto, or the network's graph with --symbol FILE"


def match_gluon(params: Arrays, naming: NamingStyle) -> list[Model]:
    """Return every model that the parameters match, with the file's number of classes.

    Args:
        params: the parameters by their names in the file.
        naming: the style of these names.
    """
    candidates = catalog.models().values()
    return [model for candidate in candidates if (model := match(candidate, params, naming))]


def match(model: Model, params: Arrays, naming: NamingStyle) -> Model | None:
    """Return a model with the config that the parameters show, None if they are not its parameters.

    Args:
        model: the model.
        params: the parameters by their names in the file.
        naming: the style of these names.
    """
    try:
        file_names = naming.resolve(model.mapping)
    except MappingError:
        return None
    if len(file_names) != len(model.mapping.tensors):  # a fast answer for most models and for huge files
        return None
    arrays = {name: params[file_name] for name, file_name in file_names.items()}
    model = with_config_of(model, arrays)
    return model if matching.fits(model.mapping, arrays, model.shapes) else None


def choose_model(
    matches: Collection[Model],
    params: Arrays,
    naming: NamingStyle,
    graph: Graph | None,
    is_published: Callable[[Model], bool],
) -> Model:
    """Return one of the models that the parameters match.

    The prefix decides, then the graph, then whether the file is the published one.

    Args:
        matches: the models that match.
        params: the parameters by their names in the file.
        naming: the style of these names.
        graph: the graph of the parameters, None if there is none.
        is_published: returns whether the file is the one that GluonCV published for a model.

    Raises:
        MappingError: if several models still match.
    """
    tests: tuple[Callable[[Model], bool], ...] = (
        lambda model: has_model_prefix(model, naming),
        lambda model: graph is not None and _matches_graph(graph, model, naming),
        is_published,
    )
    for test in tests:
        if len(matches) > 1:
            matches = [*filter(test, matches)] or matches
    return require_one(matches, params.values(), naming.file, hint=HINT)


def require_not_another(model: Model, naming: NamingStyle) -> None:
    """Check that the prefix of the names is not that of another model.

    Raises:
        MappingError: if it is.
    """
    owners = [other.name for other in catalog.models().values() if has_model_prefix(other, naming)]
    if owners and not has_model_prefix(model, naming):
        raise MappingError(
            f"{naming.file}: the prefix {naming.prefix} belongs to {' or '.join(owners)}, not to {model.name}"
        )


def with_suggestions(error: MappingError, refused: Model, models: Collection[Model]) -> MappingError:
    """Return the error with a last line that names the models which the tensors do match.

    Args:
        error: the mismatch.
        refused: the model that the tensors do not match.
        models: the models that they match.
    """
    alternatives = " or ".join(model.name for model in models if model.name != refused.name)
    if not alternatives:
        return error
    return MappingError(f"{error}\n  the tensors match {alternatives}; use that name, or auto")


def match_torch(state: Arrays) -> list[Model]:
    """Return every model that a PyTorch state dict matches, with the config that its tensors show.

    Args:
        state: the state dict; BatchNorm's counters may be missing.
    """
    models = []
    for candidate in catalog.models().values():
        model = with_config_of(candidate, state, allow_headless=True)
        counters = set(model.mapping.target_only)
        given = {name: array.shape for name, array in state.items() if name not in counters}
        mapping = model.mapping
        if len(given) != len(mapping.tensors) or given.keys() != mapping.to_source().keys():
            continue  # much sooner than the shapes are computed
        if given == {name: shape for name, shape in model.shapes.items() if name not in counters}:
            models.append(model)
    return models


def require_one(models: Collection[Model], arrays: Collection[AnyArray], file: str, *, hint: str) -> Model:
    """Return the only matching model.

    Args:
        models: the models that match.
        arrays: the arrays of the file.
        file: the file, for the message.
        hint: the last line of the message if several models match.

    Raises:
        MappingError: if no model matches, with the closest one, or if several match, with the hint.
    """
    if len(models) == 1:
        return next(iter(models))
    if models:
        candidates = " or ".join(model.name for model in models)
        raise MappingError(f"{file}: the tensors match more than one model: {candidates}\n  {hint}")
    raise MappingError(
        f"{file}: the tensors match no model; the closest is {nearest([a.shape for a in arrays])}"
    )


def has_model_prefix(model: Model, naming: NamingStyle) -> bool:
    """Return whether the names have the prefix that GluonCV fixes for a model, possibly nested."""
    own = model.entry.prefix
    outer = naming.prefix.removesuffix(own)
    return bool(own) and naming.prefix.endswith(own) and OUTER.fullmatch(outer) is not None


def nearest(shapes: Collection[Shape]) -> Model:
    """Return the model whose shapes overlap most with the given ones (Jaccard index)."""
    given = Counter(shapes)

    def similarity(model: Model) -> float:
        own = _count_shapes(model)
        return (own & given).total() / (own | given).total()

    return max(catalog.models().values(), key=similarity)


@functools.cache
def _count_shapes(model: Model) -> Counter[Shape]:
    return Counter(shape for shape in model.shapes.values() if shape)


def match_either(gluon: Collection[str], torch: Collection[str]) -> Mapping | None:
    """Return the mapping with the most names of both sides, None if no mapping has names of both."""
    scores = [
        (len(mapping.to_target().keys() & gluon) * len(mapping.to_source().keys() & torch), mapping)
        for mapping in (model.mapping for model in catalog.models().values())
    ]
    count, best = max(scores, key=lambda pair: pair[0])
    return best if count else None


def _matches_graph(graph: Graph, model: Model, naming: NamingStyle) -> bool:
    try:
        wiring.match_any_stride(graph, model, naming)
    except SymbolError:
        return False
    return True


def with_config_of(model: Model, arrays: Arrays, *, allow_headless: bool = False) -> Model:
    """Return a model with the hyper-parameters that its arrays show: the input channels and the classes.

    An array that is missing or has another number of axes leaves the model as it is.

    Args:
        model: the model.
        arrays: the arrays by Gluon's structural or by PyTorch's names.
        allow_headless: whether arrays without a head's weight are those of a network without a head.
    """
    first = model.mapping.tensors[0]
    conv = arrays.get(first.source, arrays.get(first.target))
    if conv is not None and conv.ndim == CONV_DIMENSIONS and conv.shape[1]:
        model = model.with_config(in_chans=conv.shape[1])
    last = next((tensor for tensor in model.mapping.tensors if tensor.target == HEAD), None)
    if last is None:
        return model
    head = arrays.get(last.source, arrays.get(last.target))
    if head is None:
        return model.with_config(num_classes=0) if allow_headless else model
    if head.ndim != HEAD_DIMENSIONS or not head.shape[0]:
        return model
    return model.with_config(num_classes=head.shape[0])
