"""Download a file with retries, resumption and limits.

The result is complete according to the server, but not verified: the caller checks the hash.
"""

from __future__ import annotations

import contextlib
import re
import ssl
from dataclasses import dataclass
from http import client
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import requests
import urllib3

from converter import __version__
from converter.errors import SourceError
from converter.formats.archives import MAX_PARAMS_BYTES
from converter.sources.partial import ResumeInfo
from converter.storage import background, disk

if TYPE_CHECKING:
    from collections.abc import Iterator

    from requests import Response

    from converter.progress import Progress
    from converter.sources.partial import PartialDownload

CHUNK = 1 << 20
HEADERS = {"Accept-Encoding": "identity", "User-Agent": f"gluon2torch/{__version__}"}
OK, PARTIAL_CONTENT, RANGE_NOT_SATISFIABLE = 200, 206, 416
TEMPORARY = {408, 425, 429, *range(500, 600)}  # statuses that are worth another attempt
CONTENT_RANGE = re.compile(r"bytes (\d{1,18})-\d{1,18}/(\d{1,18})", re.ASCII)


@dataclass(frozen=True, slots=True, kw_only=True)
class DownloadLimits:
    """Limits of a download; times are in seconds.

    Attributes:
        size: the maximum number of bytes.
        attempts: the maximum number of attempts.
        redirects: the maximum number of redirects in an attempt.
        stall: the maximum time without any byte.
        total: the maximum time of all attempts together.
        backoff: the pause after the second failed attempt is 2 × ``backoff``, and doubles from then on.
        longest_pause: the maximum pause. If the server asks for a longer one, the download fails.
    """

    size: int = MAX_PARAMS_BYTES
    attempts: int = 5
    redirects: int = 5
    stall: float = 30
    total: float = 3600
    backoff: float = 1
    longest_pause: float = 60


class _TemporaryError(Exception):
    """A failure that may be temporary; ``response`` may ask for a pause."""

    def __init__(self, reason: str, response: Response | None = None) -> None:
        super().__init__(reason)
        self.response = response


class _Session(requests.Session):
    """Does not read the bodies of redirects, which can be endless."""

    def get_redirect_target(self, response: Response) -> str | None:
        target: str | None = super().get_redirect_target(response)
        if target is not None:
            response.close()
        return target


def fetch(url: str, partial: PartialDownload, progress: Progress, limits: DownloadLimits) -> None:
    """Download a file; resume a partial download if the remote file is unchanged.

    Raises:
        SourceError: if the download fails, with the reason and the number of attempts. The partial
            download is kept if another run can resume it, else deleted.
    """
    try:
        _Transfer(url, partial, progress, limits).run_within_time()
    except SourceError:
        partial.drop()
        raise
    except _TemporaryError as error:
        resume = partial.resume_info() if partial.lasting else None
        if resume is None:
            partial.drop()
            raise SourceError(str(error)) from error
        kept = f"{partial.size:,} of {resume.total:,} bytes are kept; the next run resumes the download"
        raise SourceError(f"{error}; {kept}") from error


def public(url: str) -> str:
    """Return a URL without the credentials in it."""
    parts = urlsplit(url)
    return parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()


class _Transfer:
    """A download; ``abandoned`` is set when nothing may be written any more."""

    def __init__(
        self, url: str, partial: PartialDownload, progress: Progress, limits: DownloadLimits
    ) -> None:
        self.url = url
        self.partial = partial
        self.progress = progress
        self.limits = limits
        self.abandoned = False
        self.session = _Session()
        self.session.max_redirects = limits.redirects

    def run_within_time(self) -> None:
        """Download in a thread that is abandoned at the deadline: a server can send endless headers.

        Raises:
            SourceError: if another attempt would not help.
            _TemporaryError: if the last attempt fails, or the time is over.
        """
        done = background.start(self._run)
        try:
            if not done.wait(self.limits.total):
                raise _TemporaryError(f"not complete after {self.limits.total:g} s")
        finally:
            self.abandoned = True  # the thread stops writing
        done.result()

    def _run(self) -> None:
        retry = urllib3.Retry(
            self.limits.attempts - 1,
            backoff_factor=self.limits.backoff,
            backoff_max=self.limits.longest_pause,
        )
        while not self.abandoned:
            try:
                self._attempt()
            except _TemporaryError as error:
                retry = self._pause(retry, error)
            else:
                return

    def _pause(self, retry: urllib3.Retry, error: _TemporaryError) -> urllib3.Retry:
        """Wait before the next attempt, as long as the server asks for or else twice as long as before.

        Raises:
            _TemporaryError: if there are no attempts left, or the server asks for too long a pause.
        """
        response = error.response.raw if error.response is not None else None
        number = len(retry.history) + 1
        attempts = f"{number} attempt{'s' if number > 1 else ''}"
        try:
            retry = retry.increment("GET", self.url, error=error)
            seconds = retry.get_retry_after(response) if response else None
        except urllib3.exceptions.MaxRetryError:
            raise _TemporaryError(f"{error}; {attempts}") from error
        except (urllib3.exceptions.InvalidHeader, ValueError):  # ValueError: a date that does not exist
            response = seconds = None
        if seconds and seconds > self.limits.longest_pause:
            raise _TemporaryError(f"{error}, and asks to wait {seconds:,.0f} s; {attempts}") from error
        retry.sleep(response)
        return retry

    def _attempt(self) -> None:
        """Request the missing bytes."""
        resume = self.partial.resume_info()
        size = self.partial.size
        if resume is not None and size == resume.total:
            return
        headers = {} if resume is None else {"Range": f"bytes={size}-", "If-Range": resume.validator}
        with (
            _wrap_request_errors(self.limits),
            self.session.get(
                self.url, headers=HEADERS | headers, timeout=self.limits.stall, stream=True
            ) as response,
        ):
            if not self.abandoned:
                self._receive(response, self._begin(response, resume))

    def _begin(self, response: Response, resume: ResumeInfo | None) -> int | None:
        """Prepare the file for the response; return the total size, if the server sends it."""
        status = response.status_code
        if resume is not None and status in {PARTIAL_CONTENT, RANGE_NOT_SATISFIABLE}:
            if not self._continues(response, resume):
                self.partial.drop()
                raise _TemporaryError("the server sent another range than the missing one")
            return resume.total
        if status != OK:
            reason = f"the server answers {status} {client.responses.get(status, '')}".strip()
            raise _TemporaryError(reason, response) if status in TEMPORARY else SourceError(reason)
        length = response.headers.get("Content-Length", "")
        total = int(length) if re.fullmatch(r"[0-9]{1,18}", length) else None
        if total is not None and total > self.limits.size:
            raise SourceError(f"the file has {total:,} bytes; the limit is {self.limits.size:,}")
        validator = _validator(response)
        self.partial.restart(ResumeInfo(validator, total) if validator and total else None)
        return total

    def _continues(self, response: Response, resume: ResumeInfo) -> bool:
        match = CONTENT_RANGE.fullmatch(response.headers.get("Content-Range", ""))
        return (
            match is not None
            and (int(match[1]), int(match[2])) == (self.partial.size, resume.total)
            and _validator(response) in {None, resume.validator}
        )

    def _receive(self, response: Response, total: int | None) -> None:
        response.raw.enforce_content_length = False  # a short body is reported below
        done = self.partial.size
        with self.partial.path.open("ab") as stream:
            # read1 returns whatever has arrived, so that all of it is kept if the connection breaks.
            while chunk := response.raw.read1(CHUNK, decode_content=False):
                if self.abandoned:
                    return
                done += len(chunk)
                if done > self.limits.size:
                    raise SourceError(f"the file has more than {self.limits.size:,} bytes, the limit")
                stream.write(chunk)
                stream.flush()  # so that the size is right if this thread is abandoned
                self.progress("downloading", done, total or done)
        if total is not None and done != total:
            raise _TemporaryError(f"expected {total:,} bytes, received {done:,}")


@contextlib.contextmanager
def _wrap_request_errors(limits: DownloadLimits) -> Iterator[None]:
    """Convert the errors of a request into those that may be temporary, and ``SourceError``."""
    try:
        yield
    except requests.TooManyRedirects as error:
        raise SourceError(f"more than {limits.redirects} redirects") from error
    except ValueError as error:  # an invalid URL
        raise SourceError(f"cannot be requested: {error}") from error
    except (requests.Timeout, urllib3.exceptions.TimeoutError) as error:
        raise _TemporaryError(f"no data for {limits.stall:g} s") from error
    except (requests.RequestException, urllib3.exceptions.HTTPError) as error:
        cause = _root_cause(error)
        if isinstance(cause, ssl.SSLCertVerificationError):
            raise SourceError(f"cannot be requested: {cause}") from error
        reason = disk.os_reason(cause) if isinstance(cause, OSError) else cause
        raise _TemporaryError(f"the connection failed: {reason}") from error


def _validator(response: Response) -> str | None:
    """Return the strong ETag or else the date of the content, by which a change of it is detected."""
    tag = response.headers.get("ETag", "")
    validator = tag if tag.startswith('"') else response.headers.get("Last-Modified", "")
    return validator if re.fullmatch("[ -~]+", validator) else None


def _root_cause(error: BaseException) -> BaseException:
    """Return the first exception of a chain."""
    while inner := error.__cause__ or error.__context__:
        error = inner
    return error
