"""Write examples/cifar10.params.gz: synthetic parameters of ResNeXt-29, small enough for the repository.

The values repeat every 1021 elements, so that 20 MB compress to 330 KB. The network recognizes
nothing, but every layer's output depends on all of its weights, so a conversion can be proven.
"""

from __future__ import annotations

import gzip
import sys
import tempfile
from pathlib import Path

import numpy as np

import converter
from converter.networks import catalog

MODEL = "gluon_cifar_resnext29_32x4d"
PERIOD = 1021  # a prime, so that the rows of a weight differ


def main(path: Path) -> None:
    """Write the parameters to a file."""
    model = catalog.find(MODEL)
    noise = np.random.default_rng(0).standard_normal(PERIOD).astype(np.float32)
    arrays = {}
    for name, shape in model.source_shapes.items():
        values = np.resize(noise, shape)
        if name.endswith("weight"):
            arrays[name] = values * np.float32((2 / np.prod(shape[1:])) ** 0.5)
        elif name.endswith(("gamma", "running_var")):
            arrays[name] = 1 + np.abs(values) / 4
        else:
            arrays[name] = values / 4
    with tempfile.TemporaryDirectory() as folder:
        plain = Path(folder, "cifar10.params")
        converter.save_params(arrays, plain)
        path.write_bytes(gzip.compress(plain.read_bytes(), 9, mtime=0))


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).with_name("cifar10.params.gz"))
