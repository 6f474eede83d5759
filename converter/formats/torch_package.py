"""Torch as an optional package: commands that run a network or read a ``.pth`` need it, others do not."""

from __future__ import annotations

from importlib import import_module
from importlib.util import find_spec

from converter.errors import TorchUnavailableError
from converter.storage import background


def import_early() -> None:
    """Begin to import torch, which takes a second, while files are read and written."""
    background.start(lambda: import_module("torch"))


def require_torch(purpose: str, alternative: str = "") -> None:
    """Check, without importing it, that torch is installed.

    Args:
        purpose: what needs torch, the first words of the message.
        alternative: what can be done without it.

    Raises:
        TorchUnavailableError: if it is not, with the command that installs it.
    """
    if find_spec("torch") is None:
        hint = f"; {alternative}" if alternative else ""
        raise TorchUnavailableError(
            f"{purpose} needs torch, which cannot be found\n  try         pip install torch{hint}"
        )
