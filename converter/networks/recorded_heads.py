"""The layer of a recorded classifier that computes its classes, and networks with another number of them."""

from __future__ import annotations

import copy
from dataclasses import replace
from typing import TYPE_CHECKING

from converter.graphs import operators
from converter.networks import recorded_graphs

if TYPE_CHECKING:
    from converter.graphs.graph import Node
    from converter.networks.recorded_graphs import RecordedNetwork
    from converter.networks.recorded_index import Shape

CLASS_COUNTS = {operators.DENSE: "num_hidden", operators.CONVOLUTION: "num_filter"}  # MXNet's attributes


def with_classes(network: RecordedNetwork, shapes: dict[str, Shape]) -> RecordedNetwork:
    """Return a classifier with the number of classes that its parameters show; another network as it is.

    Args:
        network: the network.
        shapes: the shapes of its parameters, by variable.
    """
    head = find(network)
    if head is None:
        return network
    own = network.graph.parameters_of(head)
    shape = shapes.get(own["weight"])
    if not shape or (classes := shape[0]) == network.classes:
        return network
    document = copy.deepcopy(network.document)
    document["nodes"][head.number]["attrs"][CLASS_COUNTS[head.operation.kind]] = str(classes)
    parameters = tuple(
        replace(each, shape=(classes, *each.shape[1:])) if each.variable in own.values() else each
        for each in network.parameters
    )
    return replace(
        network,
        document=document,
        graph=recorded_graphs.parse(network.name, document),
        parameters=parameters,
        classes=classes,
    )


def find(network: RecordedNetwork) -> Node | None:
    """Return the layer that computes the classes of a classifier, None of another network."""
    graph = network.graph
    if len(graph.outputs) != 1 or network.classes is None:
        return None
    node = graph.nodes[graph.outputs[0][0]]
    while node.operation.kind not in CLASS_COUNTS and node.inputs:
        node = graph.nodes[node.inputs[0][0]]
    return node if node.operation.kind in CLASS_COUNTS else None
