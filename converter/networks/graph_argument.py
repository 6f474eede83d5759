"""Decide whether the first argument of ``convert`` and ``parity`` means a model or a graph."""

from __future__ import annotations

import os
import shlex
from pathlib import Path

from converter.errors import CatalogError, UsageError
from converter.formats import detect
from converter.formats.detect import GRAPH_SUFFIX
from converter.formats.kinds import PACKED, Kind
from converter.graphs import candidates
from converter.networks import catalog, recorded_index
from converter.storage import disk

AUTO = "auto"
JSON = ".json"


def is_meant(text: str, *, has_params: bool) -> bool:
    """Return whether the first argument of ``convert`` means a graph, and not a model.

    Args:
        text: the argument.
        has_params: whether parameters are selected; a model is then compared with its graph.

    Raises:
        UsageError: if it means both a model and a graph.
    """
    if _is_path(text):
        return True
    recorded = is_recorded(text)
    if not recorded and not _is_model(text):
        return _may_be_graph(text)
    if text == AUTO or (has_params and not recorded):
        return False
    graphs = (Path(f"{text}{GRAPH_SUFFIX}"), *_in_folder(text))
    graph = next((path for path in graphs if candidates.exists(path)), None)
    if graph is None:
        return recorded
    found = detect.parameters_of(graph)
    params = shlex.quote(str(found[0])) if found else "FILE"
    raise UsageError(
        f"{text} is a model, and here is a graph of that name, {graph}\n"
        f"  try  convert {shlex.quote(str(graph))} OUT converts the graph\n"
        f"  or   convert {text} OUT --params {params} converts the model\n"
        "The published weights of the model are converted in another folder."
    )


def is_recorded(text: str) -> bool:
    """Return whether a text is GluonCV's name of a network with a recorded graph, and of no model."""
    return text in recorded_index.index() and not _is_model(text)


def is_graph_or_archive(path: Path) -> bool:
    """Return whether a file is a graph or an archive, by its content."""
    return detect.kind(path) in {*PACKED, Kind.graph}


def _is_path(text: str) -> bool:
    """Return whether a text is written like a path."""
    return text.endswith(JSON) or os.sep in text or (os.altsep or os.sep) in text


def _is_model(text: str) -> bool:
    try:
        catalog.find(text)
    except CatalogError:
        return text == AUTO
    return True


def _may_be_graph(text: str) -> bool:
    """Return whether a text that is no model's name is a graph, an archive, a folder or a prefix."""
    path = Path(text)
    if disk.is_folder(path) or candidates.exists(Path(f"{text}{GRAPH_SUFFIX}")):
        return True
    return candidates.exists(path) and is_graph_or_archive(path)


def _in_folder(text: str) -> list[Path]:
    """Return the graphs in the folder of this name, if there is one."""
    return detect.graphs_in(Path(text)) if disk.is_folder(Path(text)) else []
