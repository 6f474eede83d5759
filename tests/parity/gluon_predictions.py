"""Runs GluonCV's own networks, transforms and class lists: ``python gluon_predictions.py FOLDER``.

FOLDER has image.png. Writes NAME-symbol.json, NAME-0000.params and NAME.npz, the input that GluonCV makes of
the image and the outputs of its network for it, of each of the networks below; and classes.json, the names of
the classes.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np

from converter.references.gluon_child import import_frameworks

SIZE = 128
SEED = 5
DETECTORS = {
    "ssd_512_mobilenet1.0_voc": "ssd.SSDDefaultValTransform",
    "yolo3_mobilenet0.25_coco": "yolo.YOLO3DefaultValTransform",
    "center_net_resnet18_v1b_voc": "center_net.CenterNetDefaultValTransform",
}
SEGMENTATION = "fcn_resnet50_ade"
RANGES = {"gamma": (0.6, 1.0), "running_var": (0.8, 1.2), "beta": (-0.1, 0.1), "running_mean": (-0.1, 0.1)}
BOX = np.array([[0.0, 0.0, 1.0, 1.0]], np.float32)


def initialize(net: Any, mxnet: Any) -> None:  # noqa: ANN401 - of untyped packages
    """Draw the parameters at random; a fresh BatchNorm has gamma 1, beta 0, mean 0, variance 1."""
    net.initialize(mxnet.init.Uniform())
    net(mxnet.nd.zeros((1, 3, SIZE, SIZE)))  # infers the shapes
    generator = np.random.Generator(np.random.PCG64(SEED))
    for name, parameter in net.collect_params().items():
        fan_in = max(1, int(np.prod(parameter.shape[1:])))
        bound = float(np.sqrt(3 / fan_in))
        ranges = {"weight": (-bound, bound), **RANGES}
        for role, bounds in ranges.items():
            if name.endswith(role):
                parameter.set_data(mxnet.nd.array(generator.uniform(*bounds, parameter.shape)))


def export(net: Any, folder: Path, name: str, image: Any) -> None:  # noqa: ANN401 - as above
    """Write the graph, the parameters, and the outputs for an image."""
    net.hybridize()
    outputs = net(image)
    net.export(str(folder / name))
    arrays = {f"output{number}": output.asnumpy() for number, output in enumerate(outputs)}
    np.savez(folder / f"{name}.npz", input=image.asnumpy(), **arrays)


def main(folder: Path) -> None:
    """Write all files."""
    frameworks = import_frameworks()
    mxnet, gluoncv = frameworks.mxnet, frameworks.gluoncv
    presets = gluoncv.data.transforms.presets
    image = mxnet.image.imread(str(folder / "image.png"))
    for name, place in DETECTORS.items():
        net = gluoncv.model_zoo.get_model(name, pretrained=False, pretrained_base=False)
        initialize(net, mxnet)
        module, transform = place.split(".")
        made = getattr(getattr(presets, module), transform)(SIZE, SIZE)(image, BOX.copy())[0]
        export(net, folder, name, made.expand_dims(0))
    net = gluoncv.model_zoo.get_model(SEGMENTATION, pretrained=False, pretrained_base=False, crop_size=SIZE)
    initialize(net, mxnet)
    evaluator = gluoncv.model_zoo.segbase
    scaled = presets.segmentation.test_transform(image, mxnet.cpu())
    height, width = (SIZE * side // max(image.shape[:2]) for side in image.shape[:2])
    padded = evaluator._pad_image(evaluator._resize_image(scaled, height, width), SIZE)
    export(net, folder, SEGMENTATION, padded)
    data = gluoncv.data
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
