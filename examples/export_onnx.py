"""Export a network to ONNX: export_onnx.py NAME --weights FILE --out NAME.onnx [--fuse].

The input is ``images`` (n, 3, size, size) in float32, normalised as for the network, for any n. The output
is ``logits`` (n, classes). The file is written only if onnxruntime computes the same logits as the network.
``--fuse`` first folds the BatchNorms into the convolutions. Without it, ``convert NAME OUT --format onnx``
writes such a file too.

Needs torch, onnx, onnxscript and onnxruntime.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import torch

import resnext_torch
from converter.formats import onnx_file, program_file

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import nn

BATCHES = (1, 3)
LIMIT = 1e-4  # relative to the logits' standard deviation, in float32; measured 6e-7 to 2e-6


def main(arguments: Sequence[str] | None = None) -> float:
    """Run the program and return the largest difference.

    Raises:
        SystemExit: if the logits differ by more than the limit; nothing is written.
    """
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("name", metavar="NAME", choices=resnext_torch.list_models())
    parser.add_argument(
        "--weights", type=Path, required=True, help="converted file, or folder that contains one"
    )
    parser.add_argument("--out", type=Path, required=True, help="ONNX file to write")
    parser.add_argument("--fuse", action="store_true", help="fold the BatchNorms into the convolutions")
    parser.add_argument("--size", type=int, default=224, help="image size in pixels; default: 224")
    chosen = parser.parse_args(arguments)
    model = resnext_torch.create_model(chosen.name, chosen.weights).eval()
    part = chosen.out.with_name(chosen.out.name + ".part")
    export(resnext_torch.fuse(model) if chosen.fuse else model, chosen.size, part)
    relative = difference(model, chosen.size, part)
    if not relative <= LIMIT:
        part.unlink()
        raise SystemExit(
            f"the logits differ: max error {relative:.1e} (limit {LIMIT:.0e}); nothing was written"
        )
    part.replace(chosen.out)
    sys.stdout.write(f"wrote {chosen.out}: max error {relative:.1e} (limit {LIMIT:.0e})\n")
    return relative


def export(model: nn.Module, size: int, path: Path) -> None:
    """Export a network, with its weights and for any batch size, to one file."""
    traced = program_file.trace(model, (3, size, size))
    onnx_file.write(traced, path, inputs=("images",), outputs=("logits",))


def difference(model: nn.Module, size: int, path: Path) -> float:
    """Return the largest difference of onnxruntime's logits, in standard deviations of the network's."""
    return max(_difference(model, size, count, path) for count in BATCHES)


def _difference(model: nn.Module, size: int, count: int, path: Path) -> float:
    images = torch.randn(count, 3, size, size, generator=torch.Generator().manual_seed(0)).numpy()
    (ours,) = program_file.outputs(model, images)
    (theirs,) = onnx_file.run(path, images)
    return float(abs(ours - theirs).max() / ours.std())


if __name__ == "__main__":
    main()
