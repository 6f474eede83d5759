"""Runs a network of GluonCV with given weights: ``python recorded_outputs.py NAME WEIGHTS.params FOLDER``.

Writes all its parameters, structural.params. With FOLDER/input.npy, also its output, output.npy, in the same
precision; without, the parameters by other names: prefix.params, second.params (those of a second instance)
and, if Gluon can, stripped.params.
"""

from __future__ import annotations

import contextlib
import os
import sys
from pathlib import Path
from typing import Any

from converter.references.gluon_child import import_frameworks

BACKBONES = ("center_net", "deeplab", "fcn", "psp", "simple_pose", "ssd", "yolo3")


def main(name: str, weights: str, folder: Path) -> None:
    """Write the files."""
    numpy, mxnet, gluoncv = import_frameworks()
    options = {"pretrained_base": False} if name.startswith(BACKBONES) else {}

    def build() -> Any:  # noqa: ANN401 - MXNet is untyped
        net = gluoncv.model_zoo.get_model(name, pretrained=False, **options)
        net.initialize()  # sets the constants, which are not weights
        net.load_parameters(weights, allow_missing=True)
        return net

    net = build()
    net.save_parameters(str(folder / "structural.params"))
    if (folder / "input.npy").exists():
        image = numpy.load(folder / "input.npy")
        net.cast(image.dtype.name)
        net.hybridize()
        output = net(mxnet.nd.array(image, dtype=image.dtype))
        output = output[0] if isinstance(output, list) else output  # NASNet's
        numpy.save(folder / "output.npy", output.asnumpy())
        return
    net.collect_params().save(str(folder / "prefix.params"))
    build().collect_params().save(str(folder / "second.params"))
    with contextlib.suppress(AttributeError):  # MXNet's own, where names do not begin with the prefix
        net.save_params(str(folder / "stripped.params"))


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], Path(sys.argv[3]))
    os._exit(0)  # skips MXNet's shutdown
