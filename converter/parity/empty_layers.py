"""Builds layers without memory for their parameters, which are assigned later."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch.overrides import TorchFunctionMode

if TYPE_CHECKING:
    from collections.abc import Callable


class EmptyLayers(TorchFunctionMode):
    """A context in which layers get no memory of their own, whatever their sizes.

    The layers of ``torch.nn`` allocate their parameters by ``torch.empty``. Constants are still computed;
    building the whole network on the ``meta`` device would lose them.
    """

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: object,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:  # noqa: ANN401 - whatever the function returns
        """Call a function, and ``torch.empty`` for the device ``meta``."""
        options = {**(kwargs or {}), "device": "meta"} if func is torch.empty else kwargs or {}
        return func(*args, **options)
