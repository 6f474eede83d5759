"""The files that GluonCV published: from its own cache, or downloaded into it."""

from __future__ import annotations

import contextlib
import os
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import filelock

from converter.errors import SourceError
from converter.formats import archives
from converter.sources import params_file
from converter.sources.partial import PartialDownload

if TYPE_CHECKING:
    from collections.abc import Iterator

    from converter.progress import Progress
    from converter.sources.download import DownloadLimits
    from converter.sources.params_file import ParamsFile
    from converter.sources.published_file import PublishedFile

BUCKET = "https://apache-mxnet.s3-accelerate.dualstack.amazonaws.com/"
DOWNLOAD = ".download-"  # what the files are called that are not whole yet
KEPT_SECONDS = 7 * 24 * 3600  # for which they wait for a run that goes on with them

WAY_OUT_FILE = "  --params FILE         a file you hold"
WAY_OUT_RANDOM = "  --random SEED         seeded random parameters, to try everything out"


def take(
    published: PublishedFile, folder: Path, progress: Progress, limits: DownloadLimits | None = None
) -> ParamsFile:
    """Take a model's published file, from GluonCV's cache or, where it is not there whole, by download.

    A cached file whose SHA-1 is not the published one is never used; a download takes its place. Where
    nothing can be written to the cache, the download lies in ``folder``, as long as that does.
    Errors: ``SourceError`` that names every way out.
    """
    if not published.sha1:
        raise SourceError(
            f"{published.model}: GluonCV never published its parameters\n"
            f"Two ways out:\n{WAY_OUT_FILE}\n{WAY_OUT_RANDOM}"
        )
    cached = cache_folder() / published.name
    try:
        return _cached(published, cached, folder, progress)
    except SourceError as error:
        found = error
    from converter.sources import download, web  # noqa: PLC0415 - take 0.1 s, and few conversions download

    url = download_url(published)
    try:
        return _download(published, cached, folder, progress, limits or download.DownloadLimits())
    except (OSError, SourceError) as error:
        raise SourceError(
            f"{published.model}: the published parameters are not here and could not be fetched\n"
            f"  in the cache  {cached}: {found}\n"
            f"  downloading   {web.public(url)}: {error}\n"
            f"Three ways out:\n"
            f"{WAY_OUT_FILE}\n"
            f"  MXNET_GLUON_REPO=URL  a mirror that serves gluon/models/{Path(url).name}\n"
            f"{WAY_OUT_RANDOM}"
        ) from error


def cache_folder() -> Path:
    """Return GluonCV's own cache."""
    return Path(os.path.expanduser(os.environ.get("MXNET_HOME") or "~/.mxnet")) / "models"  # noqa: PTH111 - no error


def download_url(published: PublishedFile) -> str:
    """Return where GluonCV downloads the model from; ``MXNET_GLUON_REPO`` names a mirror."""
    repository = (os.environ.get("MXNET_GLUON_REPO") or BUCKET).rstrip("/")
    return f"{repository}/gluon/models/{Path(published.name).stem}.zip"


def _cached(published: PublishedFile, cached: Path, folder: Path, progress: Progress) -> ParamsFile:
    """Take the file of a cache; refuse any but the published one, and say why in few words."""
    if not cached.is_file():
        raise SourceError("not there")
    found = params_file.from_file(cached, folder, progress)
    if not found.is_published(published):
        raise SourceError(f"damaged: its SHA-1 is {found.sha1}, not {published.sha1}")
    return found


def _download(
    published: PublishedFile, cached: Path, folder: Path, progress: Progress, limits: DownloadLimits
) -> ParamsFile:
    """Download into the cache, or into ``folder`` where that cannot be written.

    Another process may be at the same: then it is waited for, and what it fetched is taken.
    """
    name = f"{DOWNLOAD}{Path(published.name).stem}.zip"
    with _locked(cached.parent / f"{name}.lock", limits.total) as writable:
        if writable:
            with contextlib.suppress(SourceError):
                return _cached(published, cached, folder, progress)
            _sweep(cached.parent)
        destination = cached if writable else folder / cached.name
        _fetch(
            published, PartialDownload(destination.with_name(name), writable), destination, progress, limits
        )
        return params_file.from_file(destination, folder, progress)


def _fetch(
    published: PublishedFile,
    partial: PartialDownload,
    destination: Path,
    progress: Progress,
    limits: DownloadLimits,
) -> None:
    """Fetch a zip, unpack its one ``.params``, and put it into place if it is the published one."""
    from converter.sources import download  # noqa: PLC0415 - as above

    unpacked = partial.path.with_suffix(archives.SUFFIX)
    end = time.monotonic() + limits.total
    for last in (False, True):
        left = replace(limits, total=max(0.0, end - time.monotonic()))
        download.fetch(download_url(published), partial, progress, left)
        try:
            _require(published.sha1, archives.unpack(partial.path, unpacked, progress).sha1)
            unpacked.replace(destination)
        except SourceError as error:  # it was perhaps spoilt on the way, and is not twice
            if last:
                raise SourceError(f"{error}; fetched twice") from error
        else:
            return
        finally:
            unpacked.unlink(missing_ok=True)
            partial.drop()


def _require(expected: str, found: str) -> None:
    if found != expected:
        raise SourceError(f"SHA-1 {expected} expected, {found} found")


@contextlib.contextmanager
def _locked(path: Path, seconds: float) -> Iterator[bool]:
    """Keep other processes of ours away meanwhile; say whether files can be made there at all."""
    lock = filelock.FileLock(path, timeout=seconds)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        lock.acquire()
    except filelock.Timeout as error:
        raise SourceError(f"{path}: another process has held it for {seconds:g} s") from error
    except OSError:
        writable = False
    else:
        writable = True
    try:
        yield writable
    finally:
        lock.release()


def _sweep(folder: Path) -> None:
    """Remove what was begun and never gone on with."""
    for path in folder.glob(f"{DOWNLOAD}*"):
        with contextlib.suppress(OSError):  # another process may have removed it
            if path.suffix != ".lock" and time.time() - path.stat().st_mtime > KEPT_SECONDS:
                path.unlink()
