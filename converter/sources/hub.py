"""Provide checkpoints of the Hugging Face Hub, from its cache or by download into it."""

from __future__ import annotations

import importlib.util
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from converter.errors import SourceError, UsageError
from converter.formats import detect
from converter.formats.kinds import Kind
from converter.progress import silent
from converter.storage import disk

if TYPE_CHECKING:
    from converter.progress import Progress

PREFIX = "hf-hub:"  # as in timm
WEIGHTS = "model.safetensors"
CONFIGURATION = "config.json"  # names the network
PLACE = re.compile(r"hf-hub:(?P<name>[\w.-]+/[\w.-]+)(@(?P<revision>[^@\s]+))?", re.ASCII)
SHA256 = re.compile(r"[0-9a-f]{64}")
COMMIT = re.compile(r"[0-9a-f]{40}")
SECONDS = 10  # for the first answer of the Hub
INSTALL = 'pip install "gluon2torch[hub]"'


@dataclass(frozen=True, slots=True)
class HubRepository:
    """A repository on the Hub.

    Attributes:
        name: ORG/NAME.
        revision: a branch, tag or commit, None for the main branch.
    """

    name: str
    revision: str | None = None

    def __str__(self) -> str:
        return f"{PREFIX}{self.name}{f'@{self.revision}' if self.revision else ''}"


@dataclass(frozen=True, slots=True)
class HubFile:
    """A checkpoint in the Hub's cache.

    Attributes:
        path: the file.
        repository: ORG/NAME.
        revision: the commit that it belongs to.
    """

    path: Path
    repository: str
    revision: str

    def __str__(self) -> str:
        return f"{PREFIX}{self.repository}@{self.revision}"


def parse(place: str) -> HubRepository:
    """Return the repository that ``hf-hub:ORG/NAME`` or ``hf-hub:ORG/NAME@REVISION`` names.

    Raises:
        UsageError: if the text has another form.
    """
    match = PLACE.fullmatch(place)
    if match is None:
        raise UsageError(f"`source`: expected {PREFIX}ORG/NAME[@REVISION], found {place!r}", "source")
    return HubRepository(match["name"], match["revision"])


def is_installed() -> bool:
    """Return whether the Hub's client is installed."""
    return importlib.util.find_spec("huggingface_hub") is not None


def take(repository: HubRepository, progress: Progress) -> HubFile:
    """Return the weights of a repository, from the Hub's cache or by download into it.

    ``HF_HOME``, ``HF_ENDPOINT``, ``HF_TOKEN`` and ``HF_HUB_OFFLINE`` are those of huggingface_hub.

    Raises:
        SourceError: if the client is not installed, or the file is not cached and cannot be downloaded, is
            damaged, or is not a safetensors file.
    """
    path = _fetch(repository, WEIGHTS, str(repository), progress)
    if path is None:
        raise SourceError(f"{repository}: has no {WEIGHTS}, and other files are not read")
    _require_intact(repository, path)
    if detect.kind(path) is not Kind.safetensors:
        raise SourceError(f"{repository}: its {WEIGHTS} is not a safetensors file, and others are not read")
    return HubFile(path, repository.name, path.parent.name)  # the cache has a folder for each commit


def configuration(file: HubFile) -> bytes | None:
    """Return the ``config.json`` next to a checkpoint, None if its repository has none.

    Raises:
        SourceError: if the file is not cached and cannot be downloaded.
    """
    repository = HubRepository(file.repository, file.revision)
    path = _fetch(repository, CONFIGURATION, f"{repository}: {CONFIGURATION}", silent)
    if path is None:
        return None
    with disk.reading(path):
        return path.read_bytes()


def _fetch(repository: HubRepository, name: str, label: str, progress: Progress) -> Path | None:
    """Return a file of a repository in the Hub's cache, None if the repository has no such file.

    Args:
        repository: the repository.
        name: the file.
        label: the file, for messages.
        progress: called with a step, the amount done and the total.

    Raises:
        SourceError: as ``take``.
    """
    if not is_installed():
        raise SourceError(f"{label}: needs huggingface_hub: {INSTALL}")
    import huggingface_hub  # noqa: PLC0415 - an extra
    from huggingface_hub import constants, errors  # noqa: PLC0415 - an extra

    place: dict[str, Any] = {"repo_id": repository.name, "filename": name, "revision": repository.revision}
    endpoint = os.environ.get("HF_ENDPOINT") or constants.ENDPOINT
    try:
        cached = huggingface_hub.try_to_load_from_cache(**place)
        is_absent = cached is huggingface_hub._CACHED_NO_EXIST  # noqa: SLF001 - documented
        if is_absent and COMMIT.fullmatch(repository.revision or ""):
            return None  # a commit does not change
        if not isinstance(cached, str) and not constants.HF_HUB_OFFLINE:
            _require_answer(label, repository, endpoint)
        return Path(
            huggingface_hub.hf_hub_download(**place, endpoint=endpoint, tqdm_class=_reporting(progress))
        )
    except errors.LocalEntryNotFoundError as error:  # a subclass of the next one
        offline = "HF_HUB_OFFLINE is set" if constants.HF_HUB_OFFLINE else _reason(error.__cause__ or error)
        raise SourceError(f"{label}: not in the Hub's cache, and not downloaded: {offline}") from error
    except errors.EntryNotFoundError:
        return None
    # huggingface_hub 1.8 raises a RuntimeError when it retries.
    except (OSError, RuntimeError, errors.HFValidationError) as error:
        raise SourceError(f"{label}: cannot be downloaded: {_reason(error)}") from error


def _require_answer(label: str, repository: HubRepository, endpoint: str) -> None:
    """Check that the Hub answers: without an answer, its client tries for half a minute.

    Raises:
        SourceError: if it does not.
    """
    import requests  # noqa: PLC0415 - takes a tenth of a second, and few commands read from the Hub

    try:
        requests.head(f"{endpoint}/{repository.name}", timeout=SECONDS)
    except requests.RequestException as error:
        raise SourceError(
            f"{label}: not in the Hub's cache, and {endpoint} does not answer: {type(error).__name__}"
        ) from error


def _reason(error: BaseException) -> str:
    """Return the first line of an error."""
    return str(error).strip().partition("\n")[0] or type(error).__name__


def _require_intact(repository: HubRepository, path: Path) -> None:
    """Check a file of the cache, whose content is in a file named by its SHA-256, as the Hub computed it.

    Raises:
        SourceError: if it has another SHA-256.
    """
    content = path.resolve()
    if SHA256.fullmatch(content.name) and disk.sha256(content) != content.name:
        raise SourceError(f"{repository}: damaged in the Hub's cache; delete {content}")


def _reporting(progress: Progress) -> Any:  # noqa: ANN401 - tqdm's class
    """Return a progress bar for huggingface_hub that reports to ours and draws nothing."""
    from tqdm import tqdm  # noqa: PLC0415 - huggingface_hub requires it

    class Reporting(tqdm):  # type: ignore[misc]  # tqdm has no types
        def __init__(self, *args: Any, **options: Any) -> None:  # noqa: ANN401 - tqdm's
            options.pop("name", None)  # of a group of bars, which only huggingface_hub's own class has
            super().__init__(*args, **{**options, "disable": True})
            self.done = options.get("initial") or 0

        def update(self, n: float | None = 1) -> bool | None:
            self.done += n or 0
            progress("downloading", int(self.done), int(self.total or 0))
            return None

    return Reporting
