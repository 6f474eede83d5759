"""Fine-tune converted weights on your own classes: finetune.py DATA --weights FILE --out OUT.

DATA has train/CLASS/*.jpg and val/CLASS/*.jpg. The head is replaced by a new one for these classes. The
network is detected from the weights; ``--model`` selects one file of a folder that contains several.
``gluon2torch predict``, ``evaluate``, ``verify`` and ``publish`` take OUT, and so does
``resnext_torch.create_model(weights=OUT)``. OUT/labels.txt lists the classes.

FILE can also be the folder of a converted graph, with its module. ``--model`` has no effect then; images are
normalised as for ImageNet, and OUT gets no manifest. ``generated.load`` and ``replace_head`` rebuild the
network for the result.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import generated
from common import fit, options
from refusals import one_line

import resnext_torch
from resnext_torch import weight_files
from resnext_torch.config import COLOURS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from outputs import Metrics
    from torch import nn

    from resnext_torch import ResNeXt

CONVERTED = Path("out")  # the folder that the documentation converts to


def main(arguments: Sequence[str] | None = None) -> list[Metrics]:
    """Run the program and return the metrics of all epochs."""
    parser = options(__doc__)
    parser.set_defaults(epochs=20, warm_up=1, batch=64, rate=0.01)
    parser.add_argument(
        "--weights",
        type=Path,
        default=CONVERTED if CONVERTED.is_dir() else Path(),
        help="converted file, or folder that contains one; by default out/ or else the current folder",
    )
    parser.add_argument("--freeze", type=int, default=0, help="epochs in which only the head is trained")
    with one_line():
        chosen = parser.parse_args(arguments)
        if generated.manifest(chosen.weights):

            def build_generated(classes: int) -> tuple[nn.Module, str]:
                network = generated.load(chosen.weights)
                return network, generated.replace_head(network, classes, chosen.size)

            return fit(chosen, build_generated, None, frozen=chosen.freeze)
        base = weight_files.find(chosen.weights, chosen.model)
        model = load(base, chosen.model, chosen.out)

        def build(classes: int) -> tuple[nn.Module, str]:
            model.reset_classifier(classes)  # a new head, even if the number of classes is the same
            return model, "fc"

        return fit(chosen, build, model, base=base, frozen=chosen.freeze)


def load(base: Path, name: str | None, out: Path) -> ResNeXt:
    """Return the network of a file of weights.

    Raises:
        SystemExit: if it is not the named network, if its input is no image, or if OUT is its folder.
        WeightsError: if the file cannot be read, or has the weights of no network.
    """
    if out.resolve() == base.parent.resolve():
        raise SystemExit(f"{out}: contains the weights to start from; choose another --out")
    model = resnext_torch.create_model(weights=base)
    detected, channels = model.pretrained_cfg["architecture"], model.config.in_chans
    if name not in {None, detected}:
        raise SystemExit(f"{base}: weights of {detected}, not of {name}; leave out --model")
    if channels != COLOURS:
        raise SystemExit(f"{base}: expects inputs of {channels} channels, and images have {COLOURS}")
    return model


if __name__ == "__main__":
    main()
