"""The files of a published folder."""

from __future__ import annotations

from typing import TYPE_CHECKING

from converter.errors import ArtifactError, PublicationError, StorageError
from converter.manifests import converted_file, schema
from converter.publishing import sums
from converter.publishing.signature import SIGNATURE
from converter.publishing.sums import SUMS
from converter.storage import disk

if TYPE_CHECKING:
    from pathlib import Path

WEIGHTS, CONFIG, CARD, MANIFEST = "model.safetensors", "config.json", "README.md", "manifest.json"
REPORT = "parity.html"
ALWAYS = (WEIGHTS, CONFIG, CARD, MANIFEST)  # in every folder; sums, report and signature are extra


def unchanged(folder: Path) -> set[str]:
    """Return the names of the files that we published in a folder and that still match its sums."""
    try:
        digests = sums.read(folder)
    except (PublicationError, StorageError):
        return set()
    ours = {*ALWAYS, REPORT, *module_names(folder)}
    if not set(ALWAYS) <= digests.keys() <= ours:
        return set()
    intact = {
        name for name in digests if (folder / name).is_file() and disk.sha256(folder / name) == digests[name]
    }
    return {SUMS, SIGNATURE, *intact}


def module_names(folder: Path) -> set[str]:
    """Return the name of the generated module in a published folder, if its manifest names one."""
    try:
        module = converted_file.generated_module(schema.read_any(folder / MANIFEST)[0])
    except (ArtifactError, StorageError):
        return set()
    return {module.file} if module else set()
