"""Measure time and memory of the proof of a network of any size: depth.py [--gigabytes N ...].

The network is gluon_resnext101_64x4d with more blocks in its last stage. All but the first values of its
convolutions are zero, so that the file of parameters is sparse: it takes little space on the disk.
"""

from __future__ import annotations

import argparse
import io
import math
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from processes import MEGABYTE, measure
from tables import markdown

if TYPE_CHECKING:
    from collections.abc import Iterator

    from _typeshed import ReadableBuffer as Buffer

    from converter.dtypes import Array
    from converter.networks.catalog import Model

MODEL = "gluon_resnext101_64x4d"
GIGABYTES = (2.0, 5.0, 20.0)
GIGABYTE = 10**9
FLOAT32 = 4  # bytes
DRAWN = 1 << 14  # values of an array that are not zero
ROW = 1 << 16  # bytes: what is skipped in a file if it is zero


def main() -> None:
    """Run the benchmark and print a table, or one of its steps."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--gigabytes", type=float, nargs="+", default=GIGABYTES, help="sizes of the weights")
    parser.add_argument("--write", type=Path, metavar="FILE", help="only write the parameters")
    parser.add_argument("--prove", type=Path, metavar="FILE", help="only prove their conversion")
    chosen = parser.parse_args()
    if chosen.write:
        write(deep(chosen.gigabytes[0]), chosen.write)
    elif chosen.prove:
        prove(deep(chosen.gigabytes[0]), chosen.prove)
    else:
        sys.stdout.write(report(chosen.gigabytes))


def deep(gigabytes: float) -> Model:
    """Return the network whose weights take at least this many gigabytes."""
    from converter.networks import catalog  # noqa: PLC0415 - keep the measuring process small

    model = catalog.find(MODEL)
    *others, last = model.config.depths

    def with_depth(depth: int) -> Model:
        return replace(model, config=replace(model.config, depths=(*others, depth)))

    block = with_depth(last + 1).parameters - model.parameters
    missing = gigabytes * GIGABYTE / FLOAT32 - model.parameters
    return with_depth(last + max(0, math.ceil(missing / block)))


class Parameters(Mapping[str, "Array"]):
    """Gluon's parameters, drawn when they are read; the values after the first ones are zero."""

    def __init__(self, model: Model) -> None:
        """Take the names and shapes of a model."""
        self.shapes = model.source_shapes

    def __getitem__(self, name: str) -> Array:
        """Return an array."""
        import numpy as np  # noqa: PLC0415 - as in ``deep``

        generator = np.random.Generator(np.random.PCG64([*name.encode()]))
        array = np.zeros(self.shapes[name], np.float32)
        drawn = array.reshape(-1)[:DRAWN]
        if array.ndim > 1:
            drawn[:] = generator.normal(0, 0.1, drawn.shape)
        else:  # of a BatchNorm
            drawn[:] = generator.uniform(0.5, 1.5, drawn.shape)
        return array

    def __iter__(self) -> Iterator[str]:
        """Return the names."""
        return iter(self.shapes)

    def __len__(self) -> int:
        """Return the number of arrays."""
        return len(self.shapes)


class SparseFile(io.FileIO):
    """A file in which zeros take no space: they are skipped."""

    def write(self, data: Buffer) -> int:
        """Write bytes."""
        view = memoryview(data).cast("B")
        for begin in range(0, len(view), ROW):
            row = view[begin : begin + ROW].tobytes()
            if row.count(0) == len(row):
                self.seek(len(row), io.SEEK_CUR)
            else:
                super().write(row)
        return len(view)


def write(model: Model, path: Path) -> None:
    """Write the parameters of a network."""
    from converter.formats.params import write_params  # noqa: PLC0415 - as in ``deep``

    with SparseFile(path, "w") as file:
        write_params(file, Parameters(model))
        file.truncate()


def prove(model: Model, path: Path) -> None:
    """Prove the conversion of parameters in float64."""
    from converter.commands import parity_check  # noqa: PLC0415 - as in ``deep``
    from converter.networks.selection import ParamsSource  # noqa: PLC0415
    from converter.parity.options import ParityOptions  # noqa: PLC0415
    from converter.parity.result import require_passed  # noqa: PLC0415

    options = ParityOptions("numpy", dtypes=["float64"])
    request = parity_check.ComparisonRequest(source=ParamsSource(model, path), options=options)
    comparison = parity_check.run(request)
    require_passed(comparison.proof, comparison.diagnosis)


def report(sizes: list[float]) -> str:
    """Return a table of times and memory, by size."""
    rows = []
    for size in sizes:
        with tempfile.TemporaryDirectory() as folder:
            source = Path(folder, "deep.params")
            command = [sys.executable, __file__, "--gigabytes", str(size)]
            subprocess.run([*command, "--write", source], check=True)
            run = measure([*command, "--prove", str(source)])
            gigabytes, on_disk = source.stat().st_size / GIGABYTE, source.stat().st_blocks * 512 / GIGABYTE
        rows.append(
            (
                f"{gigabytes:.1f} GB",
                f"{on_disk:.2f}",
                f"{run.seconds:.1f}",
                f"{run.seconds / gigabytes:.2f}",
                f"{run.memory / MEGABYTE:.0f}",
            )
        )
    imported = measure([sys.executable, "-c", "import torch"])
    rows.append(("`import torch`", "", f"{imported.seconds:.1f}", "", f"{imported.memory / MEGABYTE:.0f}"))
    title = "Proof in float64 against numpy, by size of the weights: " + MODEL + " with more blocks"
    return markdown(title, ("GB on disk", "seconds", "per GB", "peak MB"), rows)


if __name__ == "__main__":
    main()
