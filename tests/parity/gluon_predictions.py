"""Runs GluonCV's own networks, transforms and class lists: ``python gluon_predictions.py FOLDER``.

FOLDER has image.png. Of each network below, writes NAME-symbol.json, NAME-0000.params and NAME.npz: the input
that GluonCV makes of the image, and the outputs of its network for it, or the class of each pixel. Also
writes classes.json, the names of the classes.
"""

from __future__ import annotations

import importlib
import json
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import random_networks

from converter.references.gluon_child import import_frameworks

if TYPE_CHECKING:
    from converter.references.gluon_child import Frameworks

SIZE = 96
SEED = 5
DETECTORS = {
    "ssd_512_mobilenet1.0_voc": "ssd.SSDDefaultValTransform",
    "yolo3_mobilenet0.25_coco": "yolo.YOLO3DefaultValTransform",
    "center_net_resnet18_v1b_voc": "center_net.CenterNetDefaultValTransform",
}
SEGMENTATION = "fcn_resnet50_ade"
RANGES = {"gamma": (0.6, 1.0), "_var": (0.8, 1.2), "beta": (-0.1, 0.1), "_mean": (-0.1, 0.1)}
BOX = np.array([[0.0, 0.0, 1.0, 1.0]], np.float32)


def initialize(net: Any, mxnet: Any) -> None:  # noqa: ANN401 - of untyped packages
    """Draw the parameters at random; a fresh BatchNorm has gamma 1, beta 0, mean 0, variance 1."""
    random_networks.initialize(net, mxnet, (1, 3, SIZE, SIZE))
    generator = np.random.Generator(np.random.PCG64(SEED))
    for name, parameter in net.collect_params().items():
        fan_in = max(1, int(np.prod(parameter.shape[1:])))
        bound = float(np.sqrt(3 / fan_in))
        ranges = {"weight": (-bound, bound), **RANGES}
        for role, bounds in ranges.items():
            if name.endswith(role):
                parameter.set_data(mxnet.nd.array(generator.uniform(*bounds, parameter.shape)))


def export(net: Any, folder: Path, name: str, image: Any) -> Any:  # noqa: ANN401 - as above
    """Write the graph and the parameters, and return the outputs for an image."""
    net.hybridize()
    outputs = net(image)
    net.export(str(folder / name))
    return outputs


def detect(frameworks: Frameworks, folder: Path, name: str, place: str) -> None:
    """Write a detector and what it finds in the image."""
    mxnet, gluoncv = frameworks.mxnet, frameworks.gluoncv
    net = gluoncv.model_zoo.get_model(name, pretrained=False, pretrained_base=False)
    initialize(net, mxnet)
    module, transform = place.split(".")
    preset = getattr(getattr(gluoncv.data.transforms.presets, module), transform)
    image = preset(SIZE, SIZE)(mxnet.image.imread(str(folder / "image.png")), BOX.copy())[0].expand_dims(0)
    outputs = [output.asnumpy() for output in export(net, folder, name, image)]
    np.savez(
        folder / f"{name}.npz", input=image.asnumpy(), ids=outputs[0], scores=outputs[1], boxes=outputs[2]
    )


def segment(frameworks: Frameworks, folder: Path) -> None:
    """Write a segmentation network and the classes of the pixels, as ``MultiEvalModel`` with one scale."""
    mxnet, gluoncv = frameworks.mxnet, frameworks.gluoncv
    net = gluoncv.model_zoo.get_model(SEGMENTATION, pretrained=False, pretrained_base=False, crop_size=SIZE)
    initialize(net, mxnet)
    base = importlib.import_module("gluoncv.model_zoo.segbase")
    image = mxnet.image.imread(str(folder / "image.png"))
    scaled = gluoncv.data.transforms.presets.segmentation.test_transform(image, mxnet.cpu())
    sides = image.shape[:2]
    height, width = (int(SIZE * side / max(sides) + 0.5) for side in sides)
    padded = base._pad_image(base._resize_image(scaled, height, width), SIZE)
    scores = base._crop_image(export(net, folder, SEGMENTATION, padded)[0].exp(), 0, height, 0, width)
    mask = base._resize_image(scores, *sides).asnumpy().argmax(axis=1)
    np.savez(folder / f"{SEGMENTATION}.npz", input=padded.asnumpy(), mask=mask[0])


def main(folder: Path) -> None:
    """Write all files."""
    frameworks = import_frameworks()
    for name, place in DETECTORS.items():
        detect(frameworks, folder, name, place)
    segment(frameworks, folder)
    data = frameworks.gluoncv.data
    lists = {
        "voc detection": data.VOCDetection.CLASSES,
        "voc segmentation": data.VOCSegmentation.CLASSES,
        "coco detection": data.COCODetection.CLASSES,
        "coco segmentation": data.COCOSegmentation.CLASSES,
        "ade20k segmentation": data.ADE20KSegmentation.CLASSES,
        "citys segmentation": data.CitySegmentation.CLASSES,
    }
    (folder / "classes.json").write_text(json.dumps(lists))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
    os._exit(0)  # skips MXNet's shutdown
