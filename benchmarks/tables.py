"""Format the results of benchmarks: Markdown tables, and descriptions of the machine."""

from __future__ import annotations

import importlib.util
import os
import platform
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

PACKAGES = ("numpy", "torch", "torchvision", "timm", "mxnet", "gluoncv", "typer")
CPUINFO = Path("/proc/cpuinfo")


def markdown(title: str, columns: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a section with a table; the first column has names, the others figures."""
    lines = [("", *columns), ("---", *["---:"] * len(columns)), *rows]
    return "\n".join([f"## {title}", "", *("| " + " | ".join(line) + " |" for line in lines), ""])


def machine() -> str:
    """Describe the machine, the system and the Python version."""
    return f"{processor()}, {os.cpu_count()} cores, {platform.system()}, Python {platform.python_version()}"


def processor() -> str:
    """Return the processor's name, if the system reports it, or its architecture."""
    if CPUINFO.exists():
        for line in CPUINFO.read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def versions() -> dict[str, str]:
    """Return the versions of the installed packages that the figures depend on."""
    return {name: metadata.version(name) for name in PACKAGES if importlib.util.find_spec(name)}
