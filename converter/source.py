"""Where the bytes come from: a file, GluonCV's own cache, a download, or seeded random parameters.

What goes out is a ``.params`` file on disk, unpacked if it came in an archive, and its SHA-1. Parameters from
the network are hashed before any of them is parsed.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from converter.errors import SourceError
from converter.files import archives, disk
from converter.files.archives import MAX_PARAMS_BYTES
from converter.files.params import write_params

if TYPE_CHECKING:
    from collections.abc import Callable

    from converter.dtypes import Array
    from converter.models.catalog import Model
    from converter.progress import Progress

BUCKET = "https://apache-mxnet.s3-accelerate.dualstack.amazonaws.com/"
CHUNK = 1 << 20
TIMEOUT_SECONDS = 30

WAY_OUT_FILE = "  --params FILE         a file you hold"
WAY_OUT_RANDOM = "  --random SEED         seeded random parameters, to try everything out"

# Inode, size, and the times of the last change: of the content, which can be set back, and of anything.
Stamp = tuple[int, int, int, int]


@dataclass(frozen=True, slots=True)
class Source:
    """A ``.params`` file as it was when it was opened; its SHA-1 is computed beside whatever else is done.

    ``path`` is the file itself, ``origin`` what was named, which may be an ``archive`` of it; ``name`` is
    what the manifest calls that.
    """

    path: Path
    origin: Path
    name: str
    archive: str | None
    stamp: Stamp
    digest: Future[str]

    @property
    def sha1(self) -> str:
        """Its SHA-1, unpacked; waited for.

        Errors: ``SourceError`` where the file cannot be read.
        """
        return self.digest.result()

    def is_published(self, model: Model) -> bool:
        """Return whether it is the file that GluonCV published of a model; of some it published none."""
        return self.sha1 == model.entry.params_sha1


def from_file(path: Path, folder: Path, progress: Progress) -> Source:
    """Take a file of the user's; an archive is unpacked into ``folder``.

    Errors: ``SourceError`` where there is none, or what is packed cannot be unpacked.
    """
    status = disk.require_regular(path, SourceError)
    name = disk.file_name(path)
    archive = archives.kind(path)
    if archive is None:
        digest = _in_background(lambda: sha1(path, progress))
        return Source(path, path, name, None, _stamp(status), digest)
    unpacked = folder / "unpacked.params"
    digest = Future()
    digest.set_result(archives.unpack(path, unpacked, progress))
    return Source(unpacked, path, name, archive, _stamp(status), digest)


def from_zoo(model: Model, folder: Path, progress: Progress) -> Source:
    """Take the published file, from GluonCV's cache or, where it is not there whole, by download.

    A cached file whose SHA-1 is not the published one is never used; a download takes its place.
    Errors: ``SourceError`` that names every way out.
    """
    if not model.entry.params_sha1:
        raise SourceError(
            f"{model.name}: GluonCV never published its parameters\n"
            f"Two ways out:\n{WAY_OUT_FILE}\n{WAY_OUT_RANDOM}"
        )
    cached = cache_folder() / model.official_file
    found = "not there"
    if cached.is_file():
        source = from_file(cached, folder, progress)
        if source.is_published(model):
            return source
        found = f"damaged: its SHA-1 is {source.sha1}, not {model.entry.params_sha1}"
    url = download_url(model)
    try:
        _download(url, cached, model.entry.params_sha1, progress)
    except (OSError, ValueError, SourceError) as error:
        raise SourceError(
            f"{model.name}: the published parameters are not here and could not be fetched\n"
            f"  in the cache  {cached}: {found}\n"
            f"  downloading   {url}: {error}\n"
            f"Three ways out:\n"
            f"{WAY_OUT_FILE}\n"
            f"  MXNET_GLUON_REPO=URL  a mirror that serves gluon/models/{Path(url).name}\n"
            f"{WAY_OUT_RANDOM}"
        ) from error
    return from_file(cached, folder, progress)


def from_arrays(arrays: dict[str, Array], path: Path, progress: Progress) -> Source:
    """Write parameters made here to ``path``, and take that file.

    Errors: ``SourceError`` where it cannot be written.
    """
    try:
        with path.open("wb") as stream:
            write_params(stream, arrays)
    except OSError as error:
        raise SourceError(f"{path}: {error.strerror or error}") from error
    return from_file(path, path.parent, progress)


def require_genuine(source: Source, model: Model) -> None:
    """Refuse a file that is not what it was when it was opened, or not what its name says.

    Errors: ``SourceError``.
    """
    named = source.origin.name.startswith(f"{Path(model.official_file).stem}.")
    if named and not source.is_published(model):
        raise SourceError(
            f"{source.origin}: SHA-1 {model.entry.params_sha1} expected, {source.sha1} found\n"
            "  It bears the published file's name and is not that file: damaged, or to be renamed."
        )
    require_unchanged(source)


def require_unchanged(source: Source) -> None:
    """Refuse a file that is not what it was when it was opened.

    Errors: ``SourceError``.
    """
    try:
        now = _stamp(source.origin.stat())
    except OSError as error:
        raise SourceError(f"{source.origin}: {error.strerror or error}") from error
    if now != source.stamp:
        raise SourceError(f"{source.origin}: the file was changed while it was read")


def sha1(path: Path, progress: Progress) -> str:
    """Return a file's SHA-1.

    Errors: ``SourceError`` where it cannot be read.
    """
    digest, done = hashlib.sha1(usedforsecurity=False), 0
    try:
        with path.open("rb") as stream:
            total = os.fstat(stream.fileno()).st_size
            while chunk := stream.read(CHUNK):
                digest.update(chunk)
                done += len(chunk)
                progress("reading", done, total)
    except OSError as error:
        raise SourceError(f"{path}: {error.strerror or error}") from error
    return digest.hexdigest()


def cache_folder() -> Path:
    """Return GluonCV's own cache."""
    return Path(os.path.expanduser(os.environ.get("MXNET_HOME") or "~/.mxnet")) / "models"  # noqa: PTH111 - no error


def download_url(model: Model) -> str:
    """Return where GluonCV downloads the model from; ``MXNET_GLUON_REPO`` names a mirror."""
    repository = os.environ.get("MXNET_GLUON_REPO", BUCKET).rstrip("/")
    return f"{repository}/gluon/models/{Path(model.official_file).stem}.zip"


def _stamp(status: os.stat_result) -> Stamp:
    return status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns


def _download(url: str, destination: Path, sha1: str, progress: Progress) -> None:
    """Fetch a zip, unpack its one ``.params``, and put it into place if it is the published one."""
    destination.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".download-", dir=destination.parent) as folder:
        archive, unpacked = Path(folder, "archive.zip"), Path(folder, "unpacked.params")
        _fetch(url, archive, progress)
        found = archives.unpack(archive, unpacked, progress)
        if found != sha1:
            raise SourceError(f"SHA-1 {sha1} expected, {found} found")
        unpacked.replace(destination)


def _fetch(url: str, destination: Path, progress: Progress) -> None:
    import pooch  # noqa: PLC0415 - takes 0.2 s, and few conversions download

    meter = _Meter(progress)
    downloader = pooch.HTTPDownloader(progressbar=meter, chunk_size=CHUNK, timeout=TIMEOUT_SECONDS)
    downloader(url, str(destination), None)


def _in_background(function: Callable[[], str]) -> Future[str]:
    executor = ThreadPoolExecutor(max_workers=1)
    future = executor.submit(function)
    executor.shutdown(wait=False)
    return future


class _Meter:
    """What pooch takes for a progress bar."""

    def __init__(self, progress: Progress) -> None:
        self.progress = progress
        self.total = 0
        self.done = 0

    def update(self, size: int) -> None:
        self.done += size
        if self.done > MAX_PARAMS_BYTES + CHUNK:
            raise SourceError(f"more than {MAX_PARAMS_BYTES} bytes")
        self.progress("downloading", min(self.done, self.total), self.total)

    def reset(self) -> None:
        self.done = 0

    def close(self) -> None:
        """Leave the bar as it stands."""
