"""Preprocess images with GluonCV itself; run by the parity tests in a separate process.

python gluon_inputs.py FOLDER: for every NAME.npy, (h, w, 3) in uint8, NAME.npz with the network's ``input``.
"""

from __future__ import annotations

import importlib
import sys
from pathlib import Path

from converter.references.gluon_child import import_frameworks


def main(folder: Path) -> None:
    numpy, mxnet, _ = import_frameworks()
    presets = importlib.import_module("gluoncv.data.transforms.presets.imagenet")
    for path in folder.glob("*.npy"):
        prepared = presets.transform_eval(mxnet.nd.array(numpy.load(path), dtype="uint8"))
        numpy.savez(path.with_suffix(".npz"), input=prepared.asnumpy()[0])


if __name__ == "__main__":
    main(Path(sys.argv[1]))
