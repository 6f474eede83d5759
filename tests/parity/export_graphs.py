"""Exports a network of GluonCV: ``python export_graphs.py FOLDER NAME SHAPE``.

Writes NAME-symbol.json, and NAME-shapes.json with the shapes of its parameters for an input of SHAPE.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

from converter.references.gluon_child import import_frameworks

SEGMENTATION = ("deeplab", "fcn", "psp")
WITH_BASE = (*SEGMENTATION, "alpha_pose", "center_net", "i3d", "mobile_pose", "simple_pose", "ssd", "yolo3")


def main(folder: Path, name: str, shape: tuple[int, ...]) -> None:
    """Export a network."""
    frameworks = import_frameworks()
    options: dict[str, object] = {"pretrained_base": False} if name.startswith(WITH_BASE) else {}
    if name.startswith(SEGMENTATION):
        options["crop_size"] = shape[-1]
    net = frameworks.gluoncv.model_zoo.get_model(name, pretrained=False, **options)
    symbol = net(frameworks.mxnet.sym.var("data"))
    if isinstance(symbol, tuple):  # with the outputs of auxiliary heads
        symbol = frameworks.mxnet.sym.Group([*symbol])
    symbol.save(str(folder / f"{name}-symbol.json"))
    arguments, _, states = symbol.infer_shape(data=shape)
    shapes = dict(zip(symbol.list_arguments(), arguments, strict=True))
    shapes.update(zip(symbol.list_auxiliary_states(), states, strict=True))
    del shapes["data"]
    (folder / f"{name}-shapes.json").write_text(json.dumps(shapes))


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], tuple(map(int, sys.argv[3].split("x"))))
    os._exit(0)  # skips MXNet's shutdown
