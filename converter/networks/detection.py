"""Which model some tensors belong to: told from their names and shapes, and what else is known of a file."""

from __future__ import annotations

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
OUTER = re.compile(r"([a-z]+[0-9]+_)*")  # the prefixes of networks that a network stands in
QUESTION = (
    "the names tell no more; which one is it? Name it in place of auto, or give the network's "
    "-symbol.json (--symbol)"
)


def match_gluon(params: Arrays, naming: NamingStyle) -> list[Model]:
    """Return every model whose layers and shapes these are, with the file's number of classes.

    ``params`` are by the file's names.
    """
    return [model for known in catalog.models().values() if (model := _fitted(known, params, naming))]


def detect_model(
    params: Arrays, naming: NamingStyle, graph: Graph | None, is_published: Callable[[Model], bool]
) -> Model:
    """Return the model whose tensors these are, with the file's number of classes.

    Where several have the same, what else is known decides: the prefix, the graph, whether the file is the
    published one. Errors: ``MappingError`` with the nearest model, or with the question that is left.
    """
    found = match_gluon(params, naming)
    if not found:
        raise MappingError(_apart_from_nearest(params, naming))
    tests: tuple[Callable[[Model], bool], ...] = (
        lambda model: has_model_prefix(model, naming),
        lambda model: graph is not None and _is_wired(graph, model),
        is_published,
    )
    for test in tests:
        if len(found) > 1:
            found = list(filter(test, found)) or found
    return require_one(found, params.values(), naming.file, question=QUESTION)


def require_not_another(model: Model, naming: NamingStyle) -> None:
    """Refuse names whose prefix is that of another model.

    Errors: ``MappingError``.
    """
    borne = [other.name for other in catalog.models().values() if has_model_prefix(other, naming)]
    if borne and not has_model_prefix(model, naming):
        raise MappingError(
            f"{naming.file}: the prefix {naming.prefix} is that of {' or '.join(borne)}, not of {model.name}"
        )


def with_suggestions(error: MappingError, refused: Model, found: Collection[Model]) -> MappingError:
    """Return an error that says, in its second line, whose tensors those are that did not fit."""
    headline, *lines = str(error).split("\n")
    known = " or ".join(model.name for model in found if model.name != refused.name)
    answer = [f"  These are the tensors of {known}."] if known else []
    return MappingError("\n".join([headline, *answer, *lines]))


def match_torch(state: Arrays) -> list[Model]:
    """Return every model whose state this is, with its number of classes; counters may be missing."""
    found = []
    for known in catalog.models().values():
        model = with_classes_of(known, state.get(HEAD))
        counters = set(model.mapping.target_only)
        shapes = {name: shape for name, shape in model.shapes.items() if name not in counters}
        if shapes == {name: array.shape for name, array in state.items() if name not in counters}:
            found.append(model)
    return found


def require_one(found: Collection[Model], arrays: Collection[AnyArray], file: str, *, question: str) -> Model:
    """Return the one model that was found.

    ``question`` is what cannot be told where there are several.
    Errors: ``MappingError`` with the nearest model where there is none, with the question where there are
    more.
    """
    if len(found) == 1:
        return next(iter(found))
    if found:
        known = " or ".join(model.name for model in found)
        raise MappingError(f"{file}: these are the tensors of {known}: {question}")
    raise MappingError(
        f"{file}: the tensors fit no model; the nearest is {nearest([a.shape for a in arrays])}"
    )


def has_model_prefix(model: Model, naming: NamingStyle) -> bool:
    """Return whether a file's prefix is the one that GluonCV fixes for a model."""
    own = model.entry.prefix
    outer = naming.prefix.removesuffix(own)
    return bool(own) and naming.prefix.endswith(own) and OUTER.fullmatch(outer) is not None


def nearest(shapes: Collection[Shape]) -> Model:
    """Return the model that has most of these shapes and fewest others."""
    counted = Counter(shapes)

    def likeness(model: Model) -> float:
        own = Counter(spec for spec in model.shapes.values() if spec)
        return (own & counted).total() / (own | counted).total()

    return max(catalog.models().values(), key=likeness)


def match_either(gluon: Collection[str], torch: Collection[str]) -> Mapping | None:
    """Return the mapping that knows most of the names on both sides, or None where none knows any."""
    known = [
        (len(mapping.to_target().keys() & gluon) * len(mapping.to_source().keys() & torch), mapping)
        for mapping in (model.mapping for model in catalog.models().values())
    ]
    count, best = max(known, key=lambda pair: pair[0])
    return best if count else None


def _apart_from_nearest(params: Arrays, naming: NamingStyle) -> str:
    """Return what these tensors have otherwise than the model that is nearest."""
    model = nearest([array.shape for array in params.values()])
    headline = f"{naming.file}: the tensors fit no model; the nearest is {model}"
    try:
        structural = {name: params[file_name] for name, file_name in naming.resolve(model.mapping).items()}
        model = with_classes_of(model, gluon_head(model, structural))
        matching.rename(model.mapping, structural, model.shapes, naming.file)
    except MappingError as error:
        return f"{headline}, of which\n{error}"
    return headline


def _is_wired(graph: Graph, model: Model) -> bool:
    try:
        wiring.match(graph, model)
    except SymbolError:
        return False
    return True


def _fitted(model: Model, params: Arrays, naming: NamingStyle) -> Model | None:
    try:
        found = naming.resolve(model.mapping)
    except MappingError:
        return None
    if len(found) != len(model.mapping.tensors):  # as of most models, and of a file of very many names
        return None
    arrays = {name: params[file_name] for name, file_name in found.items()}
    model = with_classes_of(model, gluon_head(model, arrays))
    return model if matching.fits(model.mapping, arrays, model.shapes) else None


def with_classes_of(model: Model, head: AnyArray | None) -> Model:
    """Return a model with the classes of a head's weight, (classes, features), if it is one."""
    return model if head is None or head.ndim != HEAD_DIMENSIONS else model.with_classes(head.shape[0])


def gluon_head(model: Model, params: Arrays) -> AnyArray | None:
    """Return the weight of the head among Gluon's arrays, by structural names."""
    return params.get(model.mapping.to_source().get(HEAD, ""))
