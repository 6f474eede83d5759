"""The JSON documents of parity checks as dictionaries, which tests change, and back."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import graph_files
import msgspec
import numpy as np
from safetensors.numpy import save_file

from converter.commands.graph_comparison import compare_graph
from converter.parity import generated_network, graph_report
from converter.parity.json_report import Document
from converter.parity.options import ParityOptions

if TYPE_CHECKING:
    from pathlib import Path


def as_dict(document: Document) -> dict[str, Any]:
    """Return a document as it is read from JSON."""
    result: dict[str, Any] = json.loads(msgspec.json.encode(document))
    return result


def as_document(content: dict[str, Any]) -> Document:
    return msgspec.convert(content, Document)


def diagnosis(content: dict[str, Any], text: str) -> dict[str, Any]:
    """Return a diagnosis of the first layer, with another text."""
    check = content["checks"][0]
    return {
        "dtype": check["dtype"],
        "size": check["size"],
        "layer": check["layers"][0],
        "suspicions": [],
        "text": text,
    }


def of_changed_graph(folder: Path, tensor: str) -> Document:
    """Return the comparison of a small graph with a checkpoint in which one tensor is another."""
    network = graph_files.small_network()
    graph, params = graph_files.save(folder, network, graph_files.parameters(network))
    options = ParityOptions("numpy", sizes=[(33, 47)])
    converted = compare_graph(graph, params=params, options=options).converted
    arrays = generated_network.state_arrays(converted.module, converted.parameters)
    state = {name: np.asarray(array) for name, array in arrays}
    state[tensor] = state[tensor] + 1
    save_file(state, folder / "changed.safetensors")
    weights = folder / "changed.safetensors"
    return graph_report.build(compare_graph(graph, params=params, weights=weights, options=options))
