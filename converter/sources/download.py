"""Download a file with retries, resumption and limits.

The result is complete according to the server, but not verified: the caller checks the hash.
"""

from __future__ import annotations

import itertools
import re
import ssl
import threading
import time
from concurrent.futures import wait
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import TYPE_CHECKING

import requests
import urllib3

from converter.errors import SourceError
from converter.formats.archives import MAX_PARAMS_BYTES
from converter.sources import web
from converter.sources.partial import ResumeInfo
from converter.storage import background

if TYPE_CHECKING:
    from requests import Response

    from converter.progress import Progress
    from converter.sources.partial import PartialDownload

CHUNK = 1 << 20
SERVER_ERRORS = 500  # and above; temporary
# The temporary ones among the client errors, which begin with 4.
PASSING = {HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.TOO_EARLY, HTTPStatus.TOO_MANY_REQUESTS}
CONTENT_RANGE = re.compile(r"bytes (\d{1,18})-\d{1,18}/(\d{1,18})", re.ASCII)


@dataclass(frozen=True, slots=True)
class DownloadLimits:
    """Limits of a download; times are in seconds.

    Attributes:
        size: the maximum number of bytes.
        attempts: the maximum number of attempts.
        redirects: the maximum number of redirects in an attempt.
        stall: the maximum time without any byte.
        total: the maximum time of all attempts together.
        first_pause: the pause after the first attempt; each further pause is twice as long.
        longest_pause: the maximum pause. If the server asks for a longer one, the download fails.
    """

    size: int = MAX_PARAMS_BYTES
    attempts: int = 5
    redirects: int = 5
    stall: float = 30
    total: float = 3600
    first_pause: float = 1
    longest_pause: float = 60


class _TemporaryError(Exception):
    """A failure that may be temporary; ``pause`` is what the server asks for, in seconds."""

    def __init__(self, reason: str, pause: float = 0) -> None:
        super().__init__(reason)
        self.pause = pause


def fetch(url: str, partial: PartialDownload, progress: Progress, limits: DownloadLimits) -> None:
    """Download a file; resume a partial download if the remote file is unchanged.

    Raises:
        SourceError: if the download fails, with the reason and the number of attempts. The partial
            download is kept if another run can resume it, else deleted.
    """
    start = time.monotonic()
    end = start + limits.total
    for attempt in itertools.count(1):
        try:
            _Attempt(url, partial, progress, limits, end).within_time()
        except SourceError:
            partial.drop()
            raise
        except _TemporaryError as failure:
            now = time.monotonic()
            pause = max(failure.pause, min(limits.first_pause * 2 ** (attempt - 1), limits.longest_pause))
            hopeless = failure.pause > limits.longest_pause or now + pause > end
            if attempt == limits.attempts or hopeless:
                attempts = f"{attempt} attempt{'s' * (attempt > 1)} in {now - start:.0f} s"
                raise SourceError(f"{failure}; {attempts}{_keep_or_drop(url, partial)}") from failure
            time.sleep(pause)
        else:
            return


def _keep_or_drop(url: str, partial: PartialDownload) -> str:
    """Delete a partial download that cannot be resumed; return a text about one that can."""
    resume_info = partial.known(web.public(url)) if partial.lasting else None
    if resume_info is None:
        partial.drop()
        return ""
    return f"; {partial.size:,} of {resume_info.total:,} bytes are kept, and another run goes on from there"


@dataclass(frozen=True, slots=True)
class _Attempt:
    """One request for the missing bytes.

    Attributes:
        url: the address of the file.
        partial: the bytes received by earlier attempts.
        progress: receives the number of bytes.
        limits: the limits of the download.
        end: the deadline of all attempts, on the monotonic clock.
        given_up: set after the deadline; the thread then writes no more.
    """

    url: str
    partial: PartialDownload
    progress: Progress
    limits: DownloadLimits
    end: float
    given_up: threading.Event = field(default_factory=threading.Event)

    def within_time(self) -> None:
        """Run in a thread that is abandoned at the deadline, because endless headers can block it."""
        done = background.start(self._run)
        try:
            wait([done], timeout=max(0, self.end - time.monotonic()))
            if not done.done():
                raise _TemporaryError(f"not all of it came in {self.limits.total:g} s")
        finally:
            self.given_up.set()  # the thread stops writing
        done.result()

    def _run(self) -> None:
        resume = self.partial.known(web.public(self.url))
        if resume is not None and self.partial.size == resume.total:
            return
        headers = (
            {} if resume is None else {"Range": f"bytes={self.partial.size}-", "If-Range": resume.validator}
        )
        try:
            with web.get(self.url, headers, self.limits.redirects, self.limits.stall) as response:
                if not self.given_up.is_set():
                    self._receive(response, self._begin(response, resume))
        except ValueError as error:  # an invalid URL
            raise SourceError(f"cannot be asked: {_root_cause(error)}") from error
        except (requests.Timeout, urllib3.exceptions.TimeoutError) as error:
            raise _TemporaryError(f"no byte for {self.limits.stall:g} s") from error
        except (requests.RequestException, urllib3.exceptions.HTTPError) as error:
            cause = _root_cause(error)
            if isinstance(cause, ssl.SSLCertVerificationError):
                raise SourceError(f"cannot be asked: {cause}") from error
            reason = getattr(cause, "strerror", None) or cause
            raise _TemporaryError(f"the connection failed: {reason}") from error

    def _begin(self, response: Response, resume: ResumeInfo | None) -> int | None:
        """Prepare the file for the response; return the total size, if the server sends it."""
        if response.status_code == HTTPStatus.PARTIAL_CONTENT and resume is not None:
            return self._resume(response, resume)
        if response.status_code == HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE and resume is not None:
            self.partial.drop()
            raise _TemporaryError("the server has no more of what was begun")
        if response.status_code != HTTPStatus.OK:
            raise _refusal(response)
        length = response.headers.get("Content-Length", "")
        total = int(length) if re.fullmatch(r"[0-9]{1,18}", length) else None
        if total is not None and total > self.limits.size:
            raise SourceError(f"{total:,} bytes announced; more than {self.limits.size:,} are not taken")
        validator = _validator(response)
        resumable = ResumeInfo(web.public(self.url), validator, total) if validator and total else None
        self.partial.restart(resumable)
        return total

    def _resume(self, response: Response, resume: ResumeInfo) -> int:
        content_range = response.headers.get("Content-Range", "")
        match = CONTENT_RANGE.fullmatch(content_range)
        fits = match is not None and (int(match[1]), int(match[2])) == (self.partial.size, resume.total)
        if not fits or _validator(response) not in {None, resume.validator}:
            request = f"bytes from {self.partial.size} of {resume.total} asked for"
            self.partial.drop()
            raise _TemporaryError(f"{request}, {content_range!r} sent, or of another content")
        return resume.total

    def _receive(self, response: Response, total: int | None) -> None:
        response.raw.enforce_content_length = False  # a short body is reported below
        done = self.partial.size
        with self.partial.path.open("ab") as stream:
            # read1 returns whatever has arrived, so that slow responses are limited too.
            while chunk := response.raw.read1(CHUNK, decode_content=False):
                if self.given_up.is_set():
                    return
                done += len(chunk)
                if done > self.limits.size:
                    raise SourceError(f"more than {self.limits.size:,} bytes are not taken")
                stream.write(chunk)
                stream.flush()  # so that the size is right if this thread is abandoned
                self.progress("downloading", done, total or done)
        if total is not None and done != total:
            raise _TemporaryError(f"{total:,} bytes expected, {done:,} came")


def _validator(response: Response) -> str | None:
    """Return the strong ETag or else the date of the content, by which a change of it is detected."""
    tag = response.headers.get("ETag", "")
    validator = tag if tag.startswith('"') else response.headers.get("Last-Modified", "")
    return validator if re.fullmatch("[ -~]+", validator) else None


def _refusal(response: Response) -> SourceError | _TemporaryError:
    status = response.status_code
    phrase = HTTPStatus(status).phrase if status in set(HTTPStatus) else "which is no status that we know"
    reason = f"the server answers {status} {phrase}"
    if status < SERVER_ERRORS and status not in PASSING:
        return SourceError(reason)
    pause = _retry_after(response)
    return _TemporaryError(f"{reason}, and asks for {pause:,.0f} s of patience" if pause else reason, pause)


def _retry_after(response: Response) -> float:
    """Return the server's Retry-After (a number or a date) in seconds; 0 if it is absent or invalid."""
    try:
        return urllib3.Retry().parse_retry_after(response.headers.get("Retry-After", "0"))
    except (urllib3.exceptions.InvalidHeader, ValueError):  # ValueError: a number of 5000 digits
        return 0


def _root_cause(error: BaseException) -> BaseException:
    """Return the first exception of a chain."""
    while inner := error.__cause__ or error.__context__:
        error = inner
    return error
