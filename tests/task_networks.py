"""Small graphs of a detector, a segmentation network and a classifier, with known results."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from graph_building import Network

from converter.commands.graph_conversion import convert_graph
from converter.formats.params import write_params
from converter.parity.options import ParityOptions

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from converter.commands.graph_conversion import GraphConversionResult
    from converter.dtypes import Array

BOXES = ((8.0, 8.0, 32.0, 40.0), (20.0, 24.0, 60.0, 56.0))  # in pixels of an input of 64×64
CLASSES, SCORES = (6, 14), (0.9, 0.6)  # VOC's car and person
Arrays = dict[str, "Array"]


def conv(net: Network, name: str, source: str, inputs: int, outputs: int) -> str:
    """Add a 1×1 convolution with a bias."""
    shapes: dict[str, tuple[int, ...]] = {"weight": (outputs, inputs, 1, 1), "bias": (outputs,)}
    attributes = {"kernel": "(1, 1)", "num_filter": str(outputs)}
    net._layer("Convolution", name, attributes, source, shapes)
    return name


def zeros(net: Network) -> Arrays:
    return {name: np.zeros(shape, np.float32) for name, shape in net.shapes.items()}


def detector(*, suppresses: bool = True) -> tuple[Network, Arrays, list[str]]:
    """Return an SSD that finds the same two objects in every image; without suppression as a CenterNet."""
    net = Network()
    net.apply("Pooling", "pool", "data", global_pool="True", pool_type="avg", kernel="(1, 1)")
    for name, width in (("class", 21), ("box", 4)):
        conv(net, name, "pool", 3, 2 * width)
        net.apply("transpose", f"{name}_last", name, axes="(0, 2, 3, 1)")
        net.apply("Reshape", f"{name}_rows", f"{name}_last", shape=f"(0, -1, {width})")
    net.apply("softmax", "scores", "class_rows")
    net.apply("slice_axis", "foreground", "scores", axis="-1", begin="1", end="None")
    net.apply("max", "best", "foreground", axis="-1", keepdims="True")
    net.apply("argmax", "label", "foreground", axis="2", keepdims="True")
    heads = ["label", "best", "box_rows"]
    if suppresses:
        net.apply("Concat", "rows", *heads, num_args="3", dim="-1")
        net.apply("_contrib_box_nms", "kept", "rows", overlap_thresh="0.5", id_index="0")
        for head, begin, end in (("ids", 0, 1), ("values", 1, 2), ("corners", 2, 6)):
            net.apply("slice_axis", head, "kept", axis="-1", begin=str(begin), end=str(end))
        heads = ["ids", "values", "corners"]
    arrays = zeros(net)
    logits = np.zeros((2, 21), np.float32)
    for row, (number, score) in enumerate(zip(CLASSES, SCORES, strict=True)):
        logits[row, number + 1] = np.log(score / (1 - score) * 20)  # 20 others have a logit of 0
    arrays["class_bias"] = logits.flatten()
    arrays["box_bias"] = np.array(BOXES, np.float32).flatten()
    return net, arrays, heads


def segmentation(classes: int = 21, side: int = 48) -> tuple[Network, Arrays, list[str]]:
    """Return a network that finds class 1 in red, and class 2 in blue pixels; its output has a fixed size."""
    net = Network()
    conv(net, "score", "data", 3, classes)
    net.apply("_contrib_BilinearResize2D", "resized", "score", height=str(side), width=str(side))
    arrays = zeros(net)
    arrays["score_weight"][1, 0] = arrays["score_weight"][2, 2] = 10
    return net, arrays, ["resized"]


def classifier(*, softmax: bool = False, classes: int = 4) -> tuple[Network, Arrays, list[str]]:
    """Return a network whose logits are 0, 1, 2, …."""
    net = Network()
    net.apply("Pooling", "pool", "data", global_pool="True", pool_type="avg", kernel="(1, 1)")
    head = net.dense("fc", net.apply("Flatten", "flat", "pool"), 3, classes)
    if softmax:
        head = net.apply("softmax", "probabilities", head)
    arrays = zeros(net)
    arrays["fc_bias"] = np.arange(classes, dtype=np.float32)
    return net, arrays, [head]


def convert(
    folder: Path,
    network: tuple[Network, Arrays, list[str]],
    options: ParityOptions = ParityOptions("none"),
    shapes: Mapping[str, tuple[int, ...]] | None = None,
) -> GraphConversionResult:
    """Write the graph and the parameters into a folder, and convert them into its folder ``out``."""
    net, arrays, heads = network
    folder.mkdir(exist_ok=True)
    graph, params = folder / "net-symbol.json", folder / "net-0000.params"
    graph.write_bytes(net.build(*heads).content)
    with params.open("wb") as stream:
        write_params(stream, arrays)
    return convert_graph(graph, folder / "out", params=params, input_shapes=shapes, options=options)
