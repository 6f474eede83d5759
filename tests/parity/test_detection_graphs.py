"""Heads of detectors compute what MXNet computes: box heads, and a decoder with integers and constants."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import generated_modules
import numpy as np
import pytest
from graph_building import Network

from converter.errors import ParityError
from converter.graphs import codegen, pruning
from converter.parity import graph_proof
from converter.parity.graph_proof import ConvertedGraph

if TYPE_CHECKING:
    from converter.parity.graph_rows import GraphProof

CLASSES = 3
BOXES = 48  # 4 × 4 places with 3 boxes each


def box_head(net: Network, x: str) -> str:
    """Add an SSD's head: default boxes, decoding and non-maximum suppression."""
    net.apply("_contrib_MultiBoxPrior", "anchors", x, sizes="(0.3, 0.45)", ratios="(1, 2)")
    offsets = net.apply("transpose", "offsets", net.conv("box", x, 8, 12), axes="(0, 2, 3, 1)")
    net.apply("Reshape", "offsets1", offsets, shape="(0, -1, 4)")
    net.apply("_contrib_box_decode", "boxes", "offsets1", "anchors", std0="0.1", std1="0.1", format="corner")
    scores = net.apply("transpose", "scores", net.conv("class", x, 8, 3 * CLASSES), axes="(0, 2, 3, 1)")
    net.apply("softmax", "scores1", net.apply("Reshape", "rows", scores, shape=f"(0, -1, {CLASSES})"))
    net.apply("max", "best", "scores1", axis="-1", keepdims="True")
    net.apply("argmax", "label", "scores1", axis="2", keepdims="True")
    net.apply("Concat", "joined", "label", "best", "boxes", num_args="3", dim="-1")
    return net.apply("_contrib_box_nms", "kept", "joined", overlap_thresh="0.3", id_index="0", topk="20")


def point_head(net: Network, x: str) -> str:
    """Add a CenterNet's decoder: the places of the highest values, as integers, and the values there."""
    net.apply("Reshape", "flat", net.conv("heat", x, 8, CLASSES), shape="(0, -1)")
    net.apply("topk", "top", "flat", k="5", ret_typ="both")
    net.apply("Cast", "place", "top:1", dtype="int64")
    net.apply("_mod_scalar", "inside", "place", scalar="16")
    net.apply("_div_scalar", "row", "inside", scalar="4")
    net.apply("Cast", "y", "row", dtype="float32")
    net.apply("_arange", "range", start="0.5", stop="5", step="0.7", dtype="float32")
    net.apply("slice_axis", "five", "range", axis="0", begin="0", end="5")
    net.apply("broadcast_add", "shifted", "y", "five")
    net.apply("zeros_like", "image", "inside")
    net.apply("Concat", "index", "image", "inside", num_args="2", dim="0")
    net.apply("Reshape", "columns", net.conv("size", x, 8, 2), shape="(0, 2, -1)")
    net.apply("transpose", "sizes", "columns", axes="(0, 2, 1)")
    net.apply("gather_nd", "wanted", "sizes", "index")
    return net.apply(
        "broadcast_add", "decoded", net.apply("Reshape", "rows2", "wanted", shape="(2, 5)"), "shifted"
    )


@pytest.fixture(scope="module")
def converted() -> ConvertedGraph:
    net = Network()
    x = net.conv("body", "data", 3, 8)
    graph = net.build(box_head(net, x), point_head(net, x), "anchors")
    pruned = pruning.prune(graph)
    module = codegen.generate(pruned.graph, net.shapes, "net")
    parameters = generated_modules.random_parameters(net.shapes)
    return ConvertedGraph(whole=graph, pruned=pruned, module=module, parameters=parameters)


def prove(converted: ConvertedGraph) -> GraphProof:
    image = np.random.Generator(np.random.PCG64(4)).normal(0, 1, (1, 3, 4, 4))
    return graph_proof.prove(converted, [("float64", {"data": image})], Path(sys.executable))


def test_heads_of_detectors_are_proven(converted: ConvertedGraph) -> None:
    proof = prove(converted)
    proof.require()
    assert {"MXNet's _contrib_box_nms", "MXNet's topk"} <= {
        node.operation.kind for node in converted.pruned.graph.nodes
    }
    assert "_contrib_MultiBoxPrior" in proof.replaced


def test_another_threshold_is_caught(converted: ConvertedGraph) -> None:
    source = converted.module.source
    changed = source.replace("overlap_thresh=0.30000001192092896", "overlap_thresh=0.9")
    assert changed != source
    wrong = replace(converted, module=replace(converted.module, source=changed))
    with pytest.raises(ParityError, match="differs from the graph"):
        prove(wrong).require()
