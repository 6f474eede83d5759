"""A file from a web server: retried where that helps, gone on with where the server lets it, bounded in all.

What comes out is what some server sent, whole by its own account: whoever calls checks the hash.
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
SERVER_ERRORS = 500  # and above
# They may end by themselves; what else begins with 4 does not.
PASSING = {HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.TOO_EARLY, HTTPStatus.TOO_MANY_REQUESTS}
CONTENT_RANGE = re.compile(r"bytes (\d{1,18})-\d{1,18}/(\d{1,18})", re.ASCII)


@dataclass(frozen=True, slots=True)
class DownloadLimits:
    """The most that a download may take; times in seconds.

    ``stall`` is without any byte, ``total`` from beginning to end with all attempts; pauses between attempts
    double from ``first_pause``, and a server that asks for more than ``longest_pause`` is not waited for.
    """

    size: int = MAX_PARAMS_BYTES
    attempts: int = 5
    redirects: int = 5
    stall: float = 30
    total: float = 3600
    first_pause: float = 1
    longest_pause: float = 60


class _PassingError(Exception):
    """What another attempt may get past; ``pause`` in seconds is what the server asks for before it."""

    def __init__(self, reason: str, pause: float = 0) -> None:
        super().__init__(reason)
        self.pause = pause


def fetch(url: str, partial: PartialDownload, progress: Progress, limits: DownloadLimits) -> None:
    """Download all of a file; what is there of it already is gone on with, if the server still has the same.

    Errors: ``SourceError`` with what happened and how often it was tried. What came is then kept if another
    run can go on with it, and removed where that would not help.
    """
    begun = time.monotonic()
    end = begun + limits.total
    for attempt in itertools.count(1):
        try:
            _Attempt(url, partial, progress, limits, end).within_time()
        except SourceError:
            partial.drop()
            raise
        except _PassingError as failure:
            now = time.monotonic()
            pause = max(failure.pause, min(limits.first_pause * 2 ** (attempt - 1), limits.longest_pause))
            hopeless = failure.pause > limits.longest_pause or now + pause > end
            if attempt == limits.attempts or hopeless:
                tried = f"{attempt} attempt{'s' * (attempt > 1)} in {now - begun:.0f} s"
                raise SourceError(f"{failure}; {tried}{_kept(url, partial)}") from failure
            time.sleep(pause)
        else:
            return


def _kept(url: str, partial: PartialDownload) -> str:
    """Say what is kept for another run, and keep nothing that it could not use."""
    known = partial.known(web.public(url)) if partial.lasting else None
    if known is None:
        partial.drop()
        return ""
    return f"; {partial.size:,} of {known.total:,} bytes are kept, and another run goes on from there"


@dataclass(frozen=True, slots=True)
class _Attempt:
    """One request for what is not here yet; ``end`` is when all attempts must have ended."""

    url: str
    partial: PartialDownload
    progress: Progress
    limits: DownloadLimits
    end: float
    given_up: threading.Event = field(default_factory=threading.Event)

    def within_time(self) -> None:
        """Run in a thread, which is left to itself at the end: headers that never end may hold it."""
        done = background.start(self._run)
        try:
            wait([done], timeout=max(0, self.end - time.monotonic()))
            if not done.done():
                raise _PassingError(f"not all of it came in {self.limits.total:g} s")
        finally:
            self.given_up.set()  # it writes no more
        done.result()

    def _run(self) -> None:
        known = self.partial.known(web.public(self.url))
        if known is not None and self.partial.size == known.total:
            return
        asked = {} if known is None else {"Range": f"bytes={self.partial.size}-", "If-Range": known.validator}
        try:
            with web.get(self.url, asked, self.limits.redirects, self.limits.stall) as response:
                if not self.given_up.is_set():
                    self._receive(response, self._begin(response, known))
        except ValueError as error:  # what is wrong with URLs
            raise SourceError(f"cannot be asked: {_innermost(error)}") from error
        except (requests.Timeout, urllib3.exceptions.TimeoutError) as error:
            raise _PassingError(f"no byte for {self.limits.stall:g} s") from error
        except (requests.RequestException, urllib3.exceptions.HTTPError) as error:
            cause = _innermost(error)
            if isinstance(cause, ssl.SSLCertVerificationError):
                raise SourceError(f"cannot be asked: {cause}") from error
            reason = getattr(cause, "strerror", None) or cause
            raise _PassingError(f"the connection failed: {reason}") from error

    def _begin(self, response: Response, known: ResumeInfo | None) -> int | None:
        """Make the file ready for what is about to come; return the size of the whole, if it is told."""
        if response.status_code == HTTPStatus.PARTIAL_CONTENT and known is not None:
            return self._go_on(response, known)
        if response.status_code == HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE and known is not None:
            self.partial.drop()
            raise _PassingError("the server has no more of what was begun")
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

    def _go_on(self, response: Response, known: ResumeInfo) -> int:
        found = response.headers.get("Content-Range", "")
        told = CONTENT_RANGE.fullmatch(found)
        fits = told is not None and (int(told[1]), int(told[2])) == (self.partial.size, known.total)
        if not fits or _validator(response) not in {None, known.validator}:
            asked = f"bytes from {self.partial.size} of {known.total} asked for"
            self.partial.drop()
            raise _PassingError(f"{asked}, {found!r} sent, or of another content")
        return known.total

    def _receive(self, response: Response, total: int | None) -> None:
        response.raw.enforce_content_length = False  # what is lacking is said below
        done = self.partial.size
        with self.partial.path.open("ab") as stream:
            # At once what there is, so that a trickle meets the limit too.
            while chunk := response.raw.read1(CHUNK, decode_content=False):
                if self.given_up.is_set():
                    return
                done += len(chunk)
                if done > self.limits.size:
                    raise SourceError(f"more than {self.limits.size:,} bytes are not taken")
                stream.write(chunk)
                stream.flush()  # for whoever gives up and looks at what there is
                self.progress("downloading", done, total or done)
        if total is not None and done != total:
            raise _PassingError(f"{total:,} bytes expected, {done:,} came")


def _validator(response: Response) -> str | None:
    """Return what tells this content from any other at the same address; a weak ETag does not."""
    tag = response.headers.get("ETag", "")
    found = tag if tag.startswith('"') else response.headers.get("Last-Modified", "")
    return found if re.fullmatch("[ -~]+", found) else None


def _refusal(response: Response) -> SourceError | _PassingError:
    status = response.status_code
    phrase = HTTPStatus(status).phrase if status in set(HTTPStatus) else "which is no status that we know"
    reason = f"the server answers {status} {phrase}"
    if status < SERVER_ERRORS and status not in PASSING:
        return SourceError(reason)
    pause = _retry_after(response)
    return _PassingError(f"{reason}, and asks for {pause:,.0f} s of patience" if pause else reason, pause)


def _retry_after(response: Response) -> float:
    """Return for how many seconds the server asks to be left alone, whichever way it says so; else 0."""
    try:
        return urllib3.Retry().parse_retry_after(response.headers.get("Retry-After", "0"))
    except (urllib3.exceptions.InvalidHeader, ValueError):  # the second of a number of 5000 digits
        return 0


def _innermost(error: BaseException) -> BaseException:
    """Return what happened, without the layers through which it was passed on."""
    while inner := error.__cause__ or error.__context__:
        error = inner
    return error
