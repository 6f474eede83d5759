"""Check that torch is installed, for the commands that run a network or read a ``.pth``."""

from __future__ import annotations

from importlib.util import find_spec

from converter.errors import TorchUnavailableError


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
