"""Provide the files that GluonCV published, from its cache or by download into it."""

from __future__ import annotations

import contextlib
import os
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from converter.errors import ConversionError, SourceError
from converter.formats import archives
from converter.formats.detect import PARAMS_SUFFIX
from converter.sources import params_file
from converter.sources.partial import PartialDownload
from converter.sources.published_file import cache_folder
from converter.storage import locks

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from converter.progress import Progress
    from converter.sources.download import DownloadLimits
    from converter.sources.hub import HubFile
    from converter.sources.params_file import ParamsFile
    from converter.sources.published_file import PublishedFile

BUCKET = "https://apache-mxnet.s3-accelerate.dualstack.amazonaws.com/"
DOWNLOAD = ".download-"  # file name prefix of partial downloads
REBUILD_SECONDS = 3600.0  # how long to wait for another run that rebuilds a file
KEPT_SECONDS = 7 * 24 * 3600  # how long partial downloads are kept for another run

USE_FILE = "  --params FILE         a file of your own"
USE_RANDOM = "  --random SEED         seeded random parameters, to try the conversion"


@dataclass(frozen=True, slots=True)
class Mirror:
    """Another place from which the published files can be rebuilt.

    Attributes:
        name: its name, which ``--from`` takes.
        rebuild: writes the file to a path, and returns where it came from.
    """

    name: str
    rebuild: Callable[[Path], HubFile]


def take(
    published: PublishedFile,
    folder: Path,
    progress: Progress,
    limits: DownloadLimits | None = None,
    mirror: Mirror | None = None,
) -> ParamsFile:
    """Return a model's published file, from GluonCV's cache, by download, or else from a mirror.

    A file with another SHA-1 than the published one is never used; a new one replaces it in the cache. If
    the cache is not writable, the new one is stored in ``folder``.

    Raises:
        SourceError: if the file was never published, or is not cached and cannot be downloaded; lists
            the alternatives.
    """
    if not published.sha1:
        raise SourceError(
            f"{published.model}: GluonCV never published parameters of this model\n"
            f"Use one of:\n{USE_FILE}\n{USE_RANDOM}"
        )
    cached = cache_folder() / published.name
    try:
        return _take_cached(published, cached, folder, progress)
    except ConversionError as error:
        cache_error = error
    from converter.sources import download  # noqa: PLC0415 - takes 0.1 s, and is rarely needed

    url = download_url(published)
    try:
        return _download(published, cached, folder, progress, limits or download.DownloadLimits())
    except (OSError, ConversionError) as error:
        last_error = error
        tried = [f"cache     {cached}: {cache_error}", f"download  {download.public(url)}: {error}"]
    if mirror is not None:
        try:
            return _rebuild(published, cached, folder, progress, mirror)
        except (OSError, ConversionError) as error:
            last_error = error
            tried.append(f"hub       {mirror.name}: {str(error).removeprefix(f'{mirror.name}: ')}")
    raise _unavailable(published, tried, Path(url).name, mirror) from last_error


def _unavailable(
    published: PublishedFile, tried: list[str], archive: str, mirror: Mirror | None
) -> SourceError:
    """Return the error that lists what was tried, and what else can be used."""
    command = f"convert {published.model} OUT --from {mirror.name}" if mirror else ""
    others = [f"  {command}  the same weights, perhaps in another form"] if mirror else []
    return SourceError(
        "\n".join(
            [
                f"{published.model}: the published parameters are not in the cache and cannot be downloaded",
                *(f"  {line}" for line in tried),
                "Use one of:",
                USE_FILE,
                f"  MXNET_GLUON_REPO=URL  a mirror that serves gluon/models/{archive}",
                *others,
                USE_RANDOM,
            ]
        )
    )


def download_url(published: PublishedFile) -> str:
    """Return the URL of GluonCV's download; ``MXNET_GLUON_REPO`` can select a mirror."""
    repository = (os.environ.get("MXNET_GLUON_REPO") or BUCKET).rstrip("/")
    return f"{repository}/gluon/models/{Path(published.name).stem}.zip"


def _take_cached(published: PublishedFile, cached: Path, folder: Path, progress: Progress) -> ParamsFile:
    """Return the file in the cache.

    Raises:
        SourceError: if it is missing or not the published one; the message is a short reason.
        StorageError: if it cannot be read.
    """
    if not os.path.isfile(cached):  # noqa: PTH113 - Path.is_file raises an error for a name that is too long
        raise SourceError("no such file")
    source = params_file.from_file(cached, folder, progress)
    if not source.is_published(published):
        raise SourceError(f"damaged: expected SHA-1 {published.sha1}, found {source.sha1}")
    return source


def _download(
    published: PublishedFile, cached: Path, folder: Path, progress: Progress, limits: DownloadLimits
) -> ParamsFile:
    """Download into the cache, or into ``folder`` if the cache is not writable.

    If another process is downloading the same file, wait for it and use its result.
    """
    name = f"{DOWNLOAD}{Path(published.name).stem}.zip"
    with _locked(cached.parent / f"{name}.lock", limits.total) as writable:
        if writable:
            with contextlib.suppress(ConversionError):
                return _take_cached(published, cached, folder, progress)
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
    """Download a zip, and move its ``.params`` to ``destination`` if it is the published one."""
    from converter.sources import download  # noqa: PLC0415 - as above

    unpacked = partial.path.with_suffix(PARAMS_SUFFIX)
    end = time.monotonic() + limits.total
    for last in (False, True):
        remaining = replace(limits, total=max(0.0, end - time.monotonic()))
        download.fetch(download_url(published), partial, progress, remaining)
        try:
            _require_sha1(published.sha1, archives.unpack(partial.path, unpacked, progress).sha1)
            unpacked.replace(destination)
        except SourceError as error:  # perhaps damaged in transit: a second download decides
            if last:
                headline = str(error).partition("\n")[0]
                raise SourceError(f"{headline}; downloaded twice") from error
        else:
            return
        finally:
            unpacked.unlink(missing_ok=True)
            partial.drop()


def _rebuild(
    published: PublishedFile, cached: Path, folder: Path, progress: Progress, mirror: Mirror
) -> ParamsFile:
    """Rebuild the published file in the cache, or in ``folder`` if the cache is not writable.

    If another process is rebuilding the same file, wait for it and use its result.

    Raises:
        ConversionError: if the mirror has no such file, or one with another SHA-1.
    """
    with _locked(cached.parent / f"{DOWNLOAD}{published.name}.lock", REBUILD_SECONDS) as writable:
        with contextlib.suppress(ConversionError):
            return _take_cached(published, cached, folder, progress)
        destination = cached if writable else folder / cached.name
        part = destination.with_name(f"{DOWNLOAD}{published.name}")
        try:
            origin = mirror.rebuild(part)
            _require_sha1(published.sha1, params_file.sha1(part, progress))
            part.replace(destination)
        finally:
            part.unlink(missing_ok=True)
    return replace(params_file.from_file(destination, folder, progress), hub=origin)


def _require_sha1(expected: str, actual: str) -> None:
    if actual != expected:
        raise SourceError(f"expected SHA-1 {expected}, found {actual}")


@contextlib.contextmanager
def _locked(path: Path, seconds: float) -> Iterator[bool]:
    """Lock out other runs of this program; yield whether the folder of the lock is writable.

    The lock's file stays: if it were deleted while another process waits for it, two would hold the lock.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
        is_writable = os.access(path.parent, os.W_OK)
    except OSError:
        is_writable = False
    if not is_writable:
        yield False
        return
    with contextlib.ExitStack() as stack:
        try:
            stack.enter_context(locks.held(path, seconds))
        except TimeoutError as error:
            raise SourceError(f"{path}: another process has held this lock for {seconds:g} s") from error
        yield True


def _sweep(folder: Path) -> None:
    """Delete partial downloads that no run has resumed for ``KEPT_SECONDS``."""
    for path in folder.glob(f"{DOWNLOAD}*"):
        with contextlib.suppress(OSError):  # another process may have deleted it
            if path.suffix != ".lock" and time.time() - path.lstat().st_mtime > KEPT_SECONDS:
                path.unlink()
