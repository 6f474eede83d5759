"""Download published folders from the Hugging Face Hub; the only module that uses huggingface_hub."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import TYPE_CHECKING

from .weight_files import CONFIGURATION, LABELS, MANIFEST, PUBLISHED, SUMS, WeightsError

if TYPE_CHECKING:
    from os import PathLike

DESCRIPTIONS = (MANIFEST, SUMS, LABELS)  # that a folder may have


def download(repository: str, cache_dir: str | PathLike[str] | None, *, weights: bool) -> Path:
    """Return the folder of a repository in the Hub's cache.

    Args:
        repository: ORG/NAME, or ORG/NAME@REVISION.
        cache_dir: the cache, by default huggingface_hub's.
        weights: whether to download the weights, too.

    Raises:
        WeightsError: if a file cannot be downloaded, or huggingface_hub is not installed.
    """
    try:
        from huggingface_hub import errors, hf_hub_download  # noqa: PLC0415 - an extra
    except ImportError as error:
        raise WeightsError("hf-hub: needs huggingface_hub: pip install huggingface_hub") from error
    repo_id, _, revision = repository.partition("@")
    cache = None if cache_dir is None else Path(cache_dir)

    endpoint = os.environ.get("HF_ENDPOINT")

    def fetch(name: str) -> Path:
        file = hf_hub_download(repo_id, name, revision=revision or None, cache_dir=cache, endpoint=endpoint)
        return Path(file)

    try:
        folder = fetch(CONFIGURATION).parent
        for name in DESCRIPTIONS:
            with contextlib.suppress(errors.EntryNotFoundError):
                fetch(name)
        if weights:
            fetch(PUBLISHED)
    except (OSError, errors.EntryNotFoundError, errors.HFValidationError) as error:
        reason = str(error).strip().partition("\n")[0]
        raise WeightsError(f"hf-hub:{repository}: cannot be downloaded: {reason}") from error
    return folder
