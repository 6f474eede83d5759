"""The description of a file that GluonCV published, and the folder of its cache."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True, kw_only=True)
class PublishedFile:
    """The ``.params`` file that GluonCV published of a network.

    Attributes:
        model: the network's name.
        name: the file's name, in GluonCV's cache too.
        sha1: its SHA-1, "" if the network's parameters were never published.
    """

    model: str
    name: str
    sha1: str


def cache_folder() -> Path:
    """Return GluonCV's cache folder, which the environment variable ``MXNET_HOME`` can select."""
    return Path(os.path.expanduser(os.environ.get("MXNET_HOME") or "~/.mxnet")) / "models"  # noqa: PTH111 - never raises
