"""A request over HTTP, as a program sends it that trusts neither the server nor whomever it points to."""

from __future__ import annotations

from urllib.parse import urljoin, urlsplit

import requests

from converter import __version__
from converter.errors import SourceError

HEADERS = {"Accept-Encoding": "identity", "User-Agent": f"gluon2torch/{__version__}"}


class _Session(requests.Session):
    """A session that never follows a redirect by itself, for then it reads all of the redirect's own body."""

    def get_redirect_target(self, _: requests.Response) -> None:
        return None


def get(url: str, headers: dict[str, str], redirects: int, stall: float) -> requests.Response:
    """Ask for a file; return the answer that is no redirect, its body still to come.

    A redirect may lead to another host, for mirrors and buckets do that, and never from https to anything
    else. Credentials, those in the URL or in ~/.netrc, go with the first request alone.
    Errors: ``SourceError`` for redirects, what requests raises for the rest.
    """
    session, place = _Session(), url
    for hop in range(redirects + 1):
        response = session.get(
            place,
            headers=HEADERS | headers,
            auth=_anonymous if hop else None,
            timeout=stall,
            stream=True,
            allow_redirects=False,
        )
        if not response.is_redirect:
            return response
        response.close()
        target = urljoin(place, response.headers["Location"])
        if not may_lead(place, target):
            raise SourceError(f"redirected from https to {public(target)}, which is not followed")
        place = target
    raise SourceError(f"more than {redirects} redirects, the last to {public(place)}")


def may_lead(place: str, target: str) -> bool:
    """Return whether a redirect keeps what the first address promised: https leads to https alone."""
    return urlsplit(place).scheme != "https" or urlsplit(target).scheme == "https"


def public(url: str) -> str:
    """Return a URL without the credentials in it."""
    parts = urlsplit(url)
    return parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()


def _anonymous(request: requests.PreparedRequest) -> requests.PreparedRequest:
    return request
