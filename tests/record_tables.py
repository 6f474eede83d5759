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
    "googlenet": ("googlenet", WITHOUT_AUXILIARY),
    "mobilenetv3_large": ("mobilenet_v3_large", {}),
    "shufflenet_v2": ("shufflenet_v2_x1_0", {}),
    "resnet18_v1": ("resnet18", {}),
    **{f"resnet{depth}_v1": (f"resnet{depth}", {}) for depth in (34, 50, 101, 152)},
}
TIMM = {
    **{f"se_resnet{depth}_v1": f"legacy_seresnet{depth}" for depth in (50, 101, 152)},
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
# Others have other layers (mobilenetv3_small, resnet*_v2, se_resnet18_v1) or other activations (xception).
TARGETS = {name: (f"torchvision:{module}", options) for name, (module, options) in TORCHVISION.items()}
TARGETS |= {name: (f"timm:{module}", {}) for name, module in TIMM.items()}
TARGETS["mobilenet1.0"] = ("timm:mobilenetv1_100", {"act_layer": "relu"})  # by default ReLU6
OPTIONS = ParityOptions("numpy", dtypes=["float64"])


def main(folder: Path, names: list[str]) -> None:
    """Write a table for each network, by default all; print why one has none."""
    failed = []
    for name in names or TARGETS:
        target, arguments = TARGETS[name]
        path = folder / target.partition(":")[0] / f"{name}.toml"
        try:
            _record(name, target, arguments, path)
        except ConversionError as error:
            failed.append(name)
            print(f"{name}: {error}", flush=True)  # noqa: T201 - progress
        else:
            print(f"{name}: {target}", flush=True)  # noqa: T201 - progress
    if failed:
        raise SystemExit(f"{len(failed)} tables were not recorded: {', '.join(failed)}")


def _record(name: str, target: str, arguments: dict[str, Any], path: Path) -> None:
    """Write the table of a network, with the settings that must be changed on the module."""
    with tempfile.TemporaryDirectory() as out:
        convert_graph(
            name,
            out,
            random=1,
            target=target,
            target_args=arguments,
            adapt=True,
            save_mapping=path,
            options=OPTIONS,
        )


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:])
