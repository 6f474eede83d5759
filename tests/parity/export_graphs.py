"""Exports networks of GluonCV: ``python export_graphs.py FOLDER NAME:SIZE …``.

Writes NAME-symbol.json, and NAME-shapes.json with the shapes of its parameters for an input of SIZE × SIZE.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

from converter.references.gluon_child import import_frameworks


def main(folder: Path, networks: list[str]) -> None:
    """Export the networks."""
    frameworks = import_frameworks()
    for network in networks:
        name, _, size = network.rpartition(":")
        net = frameworks.gluoncv.model_zoo.get_model(name, pretrained=False)
        symbol = net(frameworks.mxnet.sym.var("data"))
        if isinstance(symbol, tuple):  # with the outputs of auxiliary heads
            symbol = frameworks.mxnet.sym.Group([*symbol])
        symbol.save(str(folder / f"{name}-symbol.json"))
        arguments, _, states = symbol.infer_shape(data=(1, 3, int(size), int(size)))
        shapes = dict(zip(symbol.list_arguments(), arguments, strict=True))
        shapes.update(zip(symbol.list_auxiliary_states(), states, strict=True))
        del shapes["data"]
        (folder / f"{name}-shapes.json").write_text(json.dumps(shapes))


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:])
    os._exit(0)  # skips MXNet's shutdown
