"""Where the bytes come from: a file, GluonCV's own cache, a download, or seeded random parameters.

What goes out is a ``.params`` file on disk and its SHA-1. Parameters from the network are hashed before any
of them is parsed.
"""

from __future__ import annotations

import hashlib
import lzma
import os
import stat
import tempfile
import zipfile
import zlib
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING

from converter.errors import SourceError
from converter.params import write_params

if TYPE_CHECKING:
    from collections.abc import Callable

    from converter.catalog import Model
    from converter.params import Array
    from converter.progress import Progress

BUCKET = "https://apache-mxnet.s3-accelerate.dualstack.amazonaws.com/"
CHUNK = 1 << 20
TIMEOUT_SECONDS = 30
MAX_PARAMS_BYTES = 1 << 31  # the largest published file has 0.5 GB; a zip that promises more is no model

WAY_OUT_FILE = "  --params FILE         a file you hold"
WAY_OUT_RANDOM = "  --random SEED         seeded random parameters, to try everything out"

Stamp = tuple[int, int, int]  # inode, size, last change: with another stamp it is another file or content


@dataclass(frozen=True, slots=True)
class Source:
    """A ``.params`` file as it was when it was opened; its SHA-1 is computed beside whatever else is done.

    ``name`` is what the manifest calls it, ``published`` the SHA-1 of the file that GluonCV published.
    """

    path: Path
    name: str
    stamp: Stamp
    published: str
    digest: Future[str]

    @property
    def sha1(self) -> str:
        """Its SHA-1, waited for.

        Errors: ``SourceError`` where the file cannot be read.
        """
        return self.digest.result()

    @property
    def official(self) -> bool:
        """Whether it is the published file; waited for. Of a model that never was published none is."""
        return self.sha1 == self.published


def from_file(path: Path, model: Model, progress: Progress) -> Source:
    """Take a file of the user's.

    Errors: ``SourceError`` where there is none.
    """
    try:
        status = path.stat()
    except OSError as error:
        raise SourceError(f"{path}: {error.strerror or error}") from error
    if not stat.S_ISREG(status.st_mode):
        raise SourceError(f"{path}: a file was expected")
    name = os.fsencode(path.name).decode(errors="backslashreplace")
    digest = _in_background(lambda: _sha1(path, progress))
    return Source(path, name, _stamp(status), model.entry.params_sha1, digest)


def from_zoo(model: Model, progress: Progress) -> Source:
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
        source = from_file(cached, model, progress)
        if source.official:
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
    return from_file(cached, model, progress)


def from_arrays(arrays: dict[str, Array], path: Path, model: Model, progress: Progress) -> Source:
    """Write parameters made here to ``path``, and take that file.

    Errors: ``SourceError`` where it cannot be written.
    """
    try:
        with path.open("wb") as stream:
            write_params(stream, arrays)
    except OSError as error:
        raise SourceError(f"{path}: {error.strerror or error}") from error
    return from_file(path, model, progress)


def require_genuine(source: Source, model: Model) -> None:
    """Refuse a file that is not what it was when it was opened, or not what its name says.

    Errors: ``SourceError``.
    """
    if source.path.name == model.official_file and not source.official:
        raise SourceError(
            f"{source.path}: SHA-1 {source.published} expected, {source.sha1} found\n"
            "  It bears the published file's name and is not that file: damaged, or to be renamed."
        )
    try:
        now = _stamp(source.path.stat())
    except OSError as error:
        raise SourceError(f"{source.path}: {error.strerror or error}") from error
    if now != source.stamp:
        raise SourceError(f"{source.path}: the file was changed while it was read")


def cache_folder() -> Path:
    """Return GluonCV's own cache."""
    return Path(os.path.expanduser(os.environ.get("MXNET_HOME") or "~/.mxnet")) / "models"  # noqa: PTH111 - no error


def download_url(model: Model) -> str:
    """Return where GluonCV downloads the model from; ``MXNET_GLUON_REPO`` names a mirror."""
    repository = os.environ.get("MXNET_GLUON_REPO", BUCKET).rstrip("/")
    return f"{repository}/gluon/models/{Path(model.official_file).stem}.zip"


def _stamp(status: os.stat_result) -> Stamp:
    return status.st_ino, status.st_size, status.st_mtime_ns


def _download(url: str, destination: Path, sha1: str, progress: Progress) -> None:
    """Fetch a zip, unpack its one ``.params``, and put it into place if it is the published one."""
    destination.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".download-", dir=destination.parent) as folder:
        archive, unpacked = Path(folder, "archive.zip"), Path(folder, "unpacked.params")
        _fetch(url, archive, progress)
        found = _unpack(archive, unpacked)
        if found != sha1:
            raise SourceError(f"SHA-1 {sha1} expected, {found} found")
        unpacked.replace(destination)


def _fetch(url: str, destination: Path, progress: Progress) -> None:
    import pooch  # noqa: PLC0415 - takes 0.2 s, and few conversions download

    meter = _Meter(progress)
    downloader = pooch.HTTPDownloader(progressbar=meter, chunk_size=CHUNK, timeout=TIMEOUT_SECONDS)
    downloader(url, str(destination), None)


def _unpack(archive: Path, destination: Path) -> str:
    """Unpack the one ``.params`` of a zip, and return its SHA-1.

    Errors: ``SourceError`` for anything else than such a zip, whole and not encrypted.
    """
    try:
        return _unpack_params(archive, destination)
    except (zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError, RuntimeError) as error:
        raise SourceError(f"no zip that can be unpacked: {error}") from error


def _unpack_params(archive: Path, destination: Path) -> str:
    with zipfile.ZipFile(archive) as members:
        params = [member for member in members.infolist() if member.filename.endswith(".params")]
        if len(params) != 1:
            raise SourceError(f"a zip with one .params expected, {len(params)} found")
        if params[0].file_size > MAX_PARAMS_BYTES:
            raise SourceError(f"its .params is said to have {params[0].file_size} bytes")
        with members.open(params[0]) as packed, destination.open("wb") as unpacked:
            return _copy(packed, unpacked, params[0].file_size)


def _copy(packed: IO[bytes], unpacked: IO[bytes], size: int) -> str:
    digest, written = hashlib.sha1(usedforsecurity=False), 0
    while chunk := packed.read(CHUNK):
        written += len(chunk)
        if written > size:
            raise SourceError(f"its .params is longer than the {size} bytes promised")
        digest.update(chunk)
        unpacked.write(chunk)
    return digest.hexdigest()


def _in_background(function: Callable[[], str]) -> Future[str]:
    executor = ThreadPoolExecutor(max_workers=1)
    future = executor.submit(function)
    executor.shutdown(wait=False)
    return future


def _sha1(path: Path, progress: Progress) -> str:
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
