"""The description of a file that GluonCV published."""

from __future__ import annotations

from dataclasses import dataclass


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
