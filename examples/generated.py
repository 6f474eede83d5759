"""Load a network that ``convert GRAPH OUT`` wrote, and give it a head for other classes.

``load`` runs the module in OUT, which is Python code, and is as safe as the origin of the folder. It first
checks that module and weights are those in the manifest.

    network = generated.load(Path("out"))
    head = generated.replace_head(network, classes=10, size=224)
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    from pathlib import Path

COLOURS = 3
KIND = "generated"  # in the manifest of a converted graph


def manifest(folder: Path) -> dict[str, Any] | None:
    """Return the manifest of the converted graph in a folder, None if there is none.

    Raises:
        SystemExit: if there are several.
    """
    documents = [_read(path) for path in sorted(folder.glob("*.json"))]
    found = [document for document in documents if document.get("kind") == KIND]
    if len(found) > 1:
        raise SystemExit(f"{folder}: contains {len(found)} converted graphs; keep one of them in a folder")
    return found[0] if found else None


def load(folder: Path) -> nn.Module:
    """Return the network of the converted graph in a folder, in evaluation mode.

    Raises:
        SystemExit: if there is none or several, or if a file is not that of the manifest.
    """
    document = manifest(folder)
    if document is None:
        raise SystemExit(f"{folder}: contains no converted graph")
    module, weights = (_checked(folder, document[key]) for key in ("module", "artifact"))
    spec = importlib.util.spec_from_file_location(module.stem, module)
    if spec is None or spec.loader is None:
        raise SystemExit(f"{module}: is no Python module")
    code = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(code)
    network: nn.Module = code.load(str(weights))
    return network


def replace_head(network: nn.Module, classes: int, size: int) -> str:
    """Replace the last layer by a new one for a number of classes, and return its name.

    Args:
        network: a network that returns scores, (n, classes).
        classes: the number of classes.
        size: the height and width of an image.

    Raises:
        SystemExit: if the network does not end in a layer that computes scores.
    """
    name, output = _last_layer(network, size)
    old = network.get_submodule(name)
    new = _like(old, classes)
    if new is None or output.shape != (1, new[0]):
        raise SystemExit(
            f"the network ends in {name}, {type(old).__name__}, and returns {tuple(output.shape)}: no class "
            "scores\nconvert the graph with --output NODE, the layer that computes them"
        )
    if bool((output >= 0).all()) and abs(float(output.sum()) - 1) < 1e-4:  # noqa: PLR2004 - rounding
        raise SystemExit(
            "the network ends in a softmax, which the loss contains\n"
            f"convert the graph with --output NODE, the layer before it: {name}"
        )
    parent, _, own = name.rpartition(".")
    setattr(network.get_submodule(parent), own, new[1])
    return name


def _read(path: Path) -> dict[str, Any]:
    """Return the object in a JSON file, empty if it is another file."""
    try:
        document = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return {}
    return document if isinstance(document, dict) else {}


def _checked(folder: Path, record: dict[str, Any]) -> Path:
    path: Path = folder / record["file"]
    if path.parent != folder or hashlib.sha256(path.read_bytes()).hexdigest() != record["sha256"]:
        raise SystemExit(f"{path}: is not the file that the manifest describes")
    return path


def _last_layer(network: nn.Module, size: int) -> tuple[str, Tensor]:
    """Run an image, and return the name of the last layer with parameters, and the network's output."""
    used: list[str] = []

    def hook(name: str) -> Any:  # noqa: ANN401 - a hook
        return lambda *_: used.append(name)

    layers = {name: each for name, each in network.named_modules() if [*each.parameters(recurse=False)]}
    handles = [layer.register_forward_hook(hook(name)) for name, layer in layers.items()]
    image = torch.randn(1, COLOURS, size, size, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        output = network.eval()(image)
    for handle in handles:
        handle.remove()
    if not isinstance(output, Tensor) or not used:
        raise SystemExit(
            "the network has several outputs, or no layers\nconvert the graph with --output NODE"
        )
    return used[-1], output


def _like(layer: nn.Module, classes: int) -> tuple[int, nn.Module] | None:
    """Return the number of outputs of a dense layer or 1×1 convolution, and one with another number."""
    if isinstance(layer, nn.Linear):
        return layer.out_features, nn.Linear(layer.in_features, classes, bias=layer.bias is not None)
    if isinstance(layer, nn.Conv2d) and layer.kernel_size == (1, 1) and layer.groups == 1:
        return layer.out_channels, nn.Conv2d(layer.in_channels, classes, 1, bias=layer.bias is not None)
    return None
