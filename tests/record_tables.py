"""Records the tables of layers in mappings/targets: ``python record_tables.py FOLDER [NAME ...]``.

For each of GluonCV's networks that timm or torchvision has, its recorded graph is aligned with their module.
Every layer is compared, so that no table is written that does not give the graph's outputs.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path
from typing import Any

from converter.commands.graph_conversion import convert_graph
from converter.errors import ConversionError
from converter.parity.options import ParityOptions

WITHOUT_AUXILIARY = {"aux_logits": False, "init_weights": False}
TORCHVISION: dict[str, tuple[str, dict[str, Any]]] = {
    "alexnet": ("alexnet", {}),
    **{f"vgg{depth}": (f"vgg{depth}", {}) for depth in (11, 13, 16, 19)},
    **{f"vgg{depth}_bn": (f"vgg{depth}_bn", {}) for depth in (11, 13, 16, 19)},
    **{f"densenet{depth}": (f"densenet{depth}", {}) for depth in (121, 161, 169, 201)},
    "squeezenet1.0": ("squeezenet1_0", {}),
    "squeezenet1.1": ("squeezenet1_1", {}),
    "inceptionv3": ("inception_v3", WITHOUT_AUXILIARY),
    "mobilenetv2_1.0": ("mobilenet_v2", {}),
    "mobilenetv3_large": ("mobilenet_v3_large", {}),
    "shufflenet_v2": ("shufflenet_v2_x1_0", {}),
    "resnet18_v1": ("resnet18", {}),
    "resnet34_v1": ("resnet34", {}),
}
TIMM = {
    "darknet53": "darknet53",
    "resnest14": "resnest14d",
    "resnest26": "resnest26d",
    "resnest50": "resnest50d",
    "resnest101": "resnest101e",
    "resnest200": "resnest200e",
    "resnest269": "resnest269e",
    "hrnet_w18_small_v1_c": "hrnet_w18_small",
    "hrnet_w18_small_v2_c": "hrnet_w18_small_v2",
    **{f"hrnet_w{width}_c": f"hrnet_w{width}" for width in (18, 30, 32, 40, 44, 48, 64)},
}
# Others differ in layers (mobilenetv3_small, resnet*_v2, se_resnet18_v1) or in settings (googlenet,
# resnet50_v1, xception).
TARGETS = {name: (f"torchvision:{module}", options) for name, (module, options) in TORCHVISION.items()}
TARGETS |= {name: (f"timm:{module}", {}) for name, module in TIMM.items()}
TARGETS["mobilenet1.0"] = ("timm:mobilenetv1_100", {"act_layer": "relu"})  # by default ReLU6
OPTIONS = ParityOptions("numpy", dtypes=["float64"])


def main(folder: Path, names: list[str]) -> None:
    """Write a table for each network, by default all; print why others have none."""
    for name in names or TARGETS:
        target, arguments = TARGETS[name]
        path = folder / target.partition(":")[0] / f"{name}.toml"
        for adapt in (False, True):  # settings that differ are in the table
            try:
                _record(name, target, arguments, path, adapt=adapt)
            except ConversionError as error:
                reason = str(error)
            else:
                reason = f"{target}{', with settings' if adapt else ''}"
                break
        print(f"{name}: {reason}", flush=True)  # noqa: T201 - progress


def _record(name: str, target: str, arguments: dict[str, Any], path: Path, *, adapt: bool) -> None:
    with tempfile.TemporaryDirectory() as out:
        convert_graph(
            name,
            out,
            random=1,
            target=target,
            target_args=arguments,
            adapt=adapt,
            save_mapping=path,
            options=OPTIONS,
        )


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:])
