"""Arithmetic with MXNet's results for a divisor of 0."""

from __future__ import annotations

import torch
from torch import Tensor


def remainder(x: Tensor | float, y: Tensor | float) -> Tensor:
    """Return the remainder with the sign of the divisor, 0 if the divisor is 0."""
    like = x if isinstance(x, Tensor) else y
    dtype = like.dtype if isinstance(like, Tensor) else None
    dividend, divisor = (torch.as_tensor(each, dtype=dtype) for each in (x, y))
    whole = torch.remainder(dividend, torch.where(divisor == 0, 1, divisor))
    return torch.where(divisor == 0, 0, whole)
