"""Convert Gluon parameters to PyTorch, and prove that nothing changed.

The functions are those of the command line, with plain arguments and typed results. Each is imported when it
is first used, and torch only when a network runs.

Example:
    >>> import converter
    >>> converter.list_models("*resnext29*")
    ['gluon_cifar_resnext29_32x4d', 'gluon_cifar_resnext29_16x64d']

    Convert random parameters, and compare every layer with the numpy reference in float64:

    >>> options = converter.ParityOptions("numpy", sizes=[32], dtypes=["float64"])
    >>> result = converter.convert("gluon_cifar_resnext29_32x4d", "out", random=0, options=options)
    >>> result.manifest.parity.proven
    True
    >>> result.artifact.name
    'gluon_cifar_resnext29_32x4d.random-bcf53d5e.safetensors'

    Check the file against its manifest, and convert it back to Gluon's parameters:

    >>> converter.verify(result.artifact).holds
    True
    >>> back = converter.to_gluon(result.artifact, "back.params", options=options)
    >>> back.is_original
    True
    >>> converter.diff("back.params", result.artifact).identical
    True
    >>> str(converter.inspect("back.params").models[0])
    'gluon_cifar_resnext29_32x4d: blocks 3-3-3, cardinality 32, width 4, 10 classes'

    Read and write ``.params`` files without MXNet:

    >>> params = converter.load_params("back.params")
    >>> params["output.bias"].shape
    (10,)
    >>> converter.save_params(params, "copy.params")

    Every failure is a ``ConversionError``:

    >>> converter.convert("auto", "out", params="missing.params")
    Traceback (most recent call last):
        ...
    converter.errors.StorageError: missing.params: No such file or directory
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

from converter.errors import ConversionError

if TYPE_CHECKING:
    from converter.commands.batch import convert_many
    from converter.commands.conversion import convert
    from converter.commands.diff import diff
    from converter.commands.doctor import doctor
    from converter.commands.graph_comparison import compare_graph
    from converter.commands.graph_conversion import convert_graph
    from converter.commands.inspection import inspect
    from converter.commands.parity_check import compare
    from converter.commands.publication import publish
    from converter.commands.reverse_conversion import to_gluon
    from converter.commands.summary import summary
    from converter.commands.training import record_training
    from converter.commands.verification import verify
    from converter.formats.params import load_params, save_params
    from converter.networks.catalog import list_models
    from converter.parity.options import ParityOptions

__version__ = "0.2.0.dev0"
__all__ = [
    "ConversionError",
    "ParityOptions",
    "compare",
    "compare_graph",
    "convert",
    "convert_graph",
    "convert_many",
    "diff",
    "doctor",
    "inspect",
    "list_models",
    "load_params",
    "publish",
    "record_training",
    "save_params",
    "summary",
    "to_gluon",
    "verify",
]

_MODULES = {
    "ParityOptions": "parity.options",
    "compare": "commands.parity_check",
    "compare_graph": "commands.graph_comparison",
    "convert": "commands.conversion",
    "convert_graph": "commands.graph_conversion",
    "convert_many": "commands.batch",
    "diff": "commands.diff",
    "doctor": "commands.doctor",
    "inspect": "commands.inspection",
    "list_models": "networks.catalog",
    "load_params": "formats.params",
    "publish": "commands.publication",
    "record_training": "commands.training",
    "save_params": "formats.params",
    "summary": "commands.summary",
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
