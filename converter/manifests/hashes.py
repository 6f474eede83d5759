"""The types of hashes in manifests."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

Sha1 = Annotated[str, Meta(pattern=r"^[0-9a-f]{40}\Z")]  # also of a commit
Sha256 = Annotated[str, Meta(pattern=r"^[0-9a-f]{64}\Z")]
