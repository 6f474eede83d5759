"""Makes the file name of a generated module from that of its graph."""

from __future__ import annotations

import keyword
import re
import sys

MAX_CHARACTERS = 100
DEFAULT = "network"
# What torch and we import: Python, run next to a file of this name, would import that file in its place.
PACKAGES = frozenset(
    {
        *("torch", "torchgen", "functorch", "numpy", "typing_extensions", "sympy", "mpmath", "networkx"),
        *("jinja2", "markupsafe", "fsspec", "filelock", "setuptools", "triton", "safetensors"),
        *("converter", "resnext_torch"),
    }
)
DEVICES = re.compile(r"(?i:con|prn|aux|nul|com[0-9]|lpt[0-9])")  # Windows opens them in place of a file


def module_name(file: str, suffixes: tuple[str, ...]) -> str:
    """Return the name of the module of a graph's file: an identifier that hides no other module.

    Args:
        file: the name of the graph's file.
        suffixes: the endings that are removed, each after the one before.
    """
    for suffix in suffixes:
        file = file.removesuffix(suffix)
    name = re.sub(r"[^A-Za-z0-9_]+", "_", file)[:MAX_CHARACTERS].strip("_") or DEFAULT
    if name[0].isdigit():
        name = f"{DEFAULT}_{name}"
    return f"{name}_{DEFAULT}" if _is_reserved(name) else name


def _is_reserved(name: str) -> bool:
    return (
        keyword.iskeyword(name)
        or name.lower() in PACKAGES | sys.stdlib_module_names
        or DEVICES.fullmatch(name) is not None
    )
