"""Derive the number of classes of a detector from the widths of its last convolutions.

Its outputs do not show the number: the ids of the found objects are below it.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor, nn

CORNERS = 4  # numbers of a box
YOLO_NUMBERS = CORNERS + 1  # and of an object's presence
POINT_NUMBERS = [2, 2]  # of a CenterNet: a size and a shift


def last_widths(network: nn.Module, image: Tensor) -> list[int]:
    """Return the output channels of the convolutions that no other convolution follows, in order."""
    from torch import enable_grad, nn  # noqa: PLC0415 - takes more than a second

    found: list[tuple[Any, int]] = []  # the node of autograd that computed an output, and its channels

    def record(_module: object, _inputs: object, output: Tensor) -> None:
        found.append((output.grad_fn, output.shape[1]))

    hooks = [
        layer.register_forward_hook(record) for layer in network.modules() if isinstance(layer, nn.Conv2d)
    ]
    with enable_grad():
        network(image)
    for hook in hooks:
        hook.remove()
    waiting = [source for node, _ in found if node for source, _ in node.next_functions]
    visited: set[Any] = {None}
    while waiting:
        node = waiting.pop()
        if node not in visited:
            visited.add(node)
            waiting += [source for source, _ in node.next_functions]
    return [width for node, width in found if node not in visited]


def fits(classes: int, widths: list[int]) -> bool:
    """Return whether a detector with these last convolutions can have a number of classes.

    * CenterNet: a heat map for each class, sizes and shifts.
    * YOLO: for each anchor a box, the presence of an object, and the classes.
    * SSD: pairs of a·4 and a·(classes + 1) channels, for a boxes at each place.

    Source: gluoncv/model_zoo/{center_net/center_net,yolo/yolo3,ssd/ssd}.py, dmlc/gluon-cv 56777561.
    """
    if not widths:
        return False
    if sorted(widths) == sorted([classes, *POINT_NUMBERS]):
        return True
    if len({*widths}) == 1 and widths[0] % (classes + YOLO_NUMBERS) == 0:
        return True
    small, large = sorted((CORNERS, classes + 1))
    remaining = Counter(widths)
    for width in sorted(widths):
        if remaining[width]:
            remaining[width] -= 1
            partner = width // small * large
            if width % small or not remaining[partner]:
                return False
            remaining[partner] -= 1
    return True
