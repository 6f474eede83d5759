"""Train a network from scratch with GluonCV's recipe: train.py DATA --out OUT.

The recipe is that of "Bag of tricks for image classification with convolutional neural networks" (He et al.
2019): random crops, flips and colour jitter, label smoothing, linear warm-up and cosine decay of the learning
rate, no weight decay of biases and BatchNorms, and a zero-initialised last gamma in each block. The default
``--rate`` is for a batch of 256; scale it with ``--batch``. PCA lighting, mixup and distillation are not
included. Source: scripts/classification/imagenet/train_imagenet.py, dmlc/gluon-cv 56777561.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from common import fit, options
from refusals import one_line
from torch import nn

import resnext_torch
from resnext_torch import Basic, Bottleneck

if TYPE_CHECKING:
    from collections.abc import Sequence

    from outputs import Metrics

    from resnext_torch import ResNeXt

JITTER = 0.4


def main(arguments: Sequence[str] | None = None) -> list[Metrics]:
    """Run the program and return the metrics of all epochs."""
    parser = options(__doc__)
    parser.set_defaults(model="gluon_resnext50_32x4d", epochs=120, warm_up=5, batch=256, rate=0.1)
    parser.add_argument("--smoothing", type=float, default=0.1, help="label smoothing, from 0 to 1")
    with one_line():
        chosen = parser.parse_args(arguments)

        def build(classes: int) -> tuple[ResNeXt, str]:
            model = resnext_torch.create_model(chosen.model, num_classes=classes)
            zero_last_gammas(model)
            return model, "fc"

        return fit(chosen, build, chosen.model, jitter=JITTER, smoothing=chosen.smoothing)


def zero_last_gammas(model: ResNeXt) -> None:
    """Set the last gamma of each block to 0: it starts as its shortcut ("Bag of tricks", 3.1)."""
    for module in model.modules():
        if isinstance(module, Bottleneck):
            nn.init.zeros_(module.bn3.weight)
        elif isinstance(module, Basic):
            nn.init.zeros_(module.bn2.weight)


if __name__ == "__main__":
    main()
