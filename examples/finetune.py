"""Fine-tune converted weights on your own classes: finetune.py DATA --weights FILE --out OUT.

DATA has train/CLASS/*.jpg and val/CLASS/*.jpg. The head is replaced by a new one for these classes.
``resnext_torch.create_model(NAME, weights=OUT)`` loads the result. OUT/labels.txt lists its classes.

FILE can also be the folder of a converted graph, with its module. ``--model`` has no effect then; images are
normalised as for ImageNet. ``generated.load`` and ``replace_head`` rebuild the network for the result.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import generated
from common import fit, options
from images import augmented

import resnext_torch

if TYPE_CHECKING:
    from collections.abc import Sequence

    from outputs import Metrics
    from torch import nn


def main(arguments: Sequence[str] | None = None) -> list[Metrics]:
    """Run the program and return the metrics of all epochs."""
    parser = options(__doc__)
    parser.set_defaults(epochs=20, warm_up=1, batch=64, rate=0.01)
    parser.add_argument(
        "--weights", type=Path, required=True, help="converted file, or folder that contains one"
    )
    parser.add_argument("--freeze", type=int, default=0, help="epochs in which only the head is trained")
    chosen = parser.parse_args(arguments)

    def build(classes: int) -> tuple[nn.Module, str]:
        if generated.manifest(chosen.weights):
            network = generated.load(chosen.weights)
            return network, generated.replace_head(network, classes, chosen.size)
        model = resnext_torch.create_model(chosen.model, chosen.weights)
        model.reset_classifier(classes)  # a new head, even if the number of classes is the same
        return model, "fc"

    return fit(chosen, build, augmented(chosen.model, chosen.size), frozen=chosen.freeze)


if __name__ == "__main__":
    main()
