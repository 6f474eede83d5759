"""Convert Gluon parameters to PyTorch, and prove that nothing changed.

The functions are those of the command line, with plain arguments and typed results. Each is imported
when it is first used, and torch only when a network runs.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from converter.commands.batch import convert_many
    from converter.commands.conversion import convert
    from converter.commands.diff import diff
    from converter.commands.inspection import inspect
    from converter.commands.parity_check import compare
    from converter.commands.publication import publish
    from converter.commands.reverse_conversion import to_gluon
    from converter.commands.verification import verify
    from converter.errors import ConversionError
    from converter.formats.params import load_params, save_params
    from converter.networks.catalog import list_models
    from converter.parity.options import ParityOptions

__version__ = "0.1.0"
__all__ = [
    "ConversionError",
    "ParityOptions",
    "compare",
    "convert",
    "convert_many",
    "diff",
    "inspect",
    "list_models",
    "load_params",
    "publish",
    "save_params",
    "to_gluon",
    "verify",
]

_MODULES = {
    "ConversionError": "errors",
    "ParityOptions": "parity.options",
    "compare": "commands.parity_check",
    "convert": "commands.conversion",
    "convert_many": "commands.batch",
    "diff": "commands.diff",
    "inspect": "commands.inspection",
    "list_models": "networks.catalog",
    "load_params": "formats.params",
    "publish": "commands.publication",
    "save_params": "formats.params",
    "to_gluon": "commands.reverse_conversion",
    "verify": "commands.verification",
}


def __getattr__(name: str) -> object:
    """Import a public name when it is first used."""
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_MODULES[name]}"), name)


def __dir__() -> list[str]:
    """Return the public names."""
    return sorted([*__all__, "__version__"])
