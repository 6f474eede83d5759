"""Send HTTP requests, and follow redirects without trust in the server or the target."""

from __future__ import annotations

from urllib.parse import urljoin, urlsplit

import requests

from converter import __version__
from converter.errors import SourceError

HEADERS = {"Accept-Encoding": "identity", "User-Agent": f"gluon2torch/{__version__}"}


class _Session(requests.Session):
    """A session that follows no redirects; requests itself would read the whole body of each."""

    def get_redirect_target(self, _: requests.Response) -> None:
        return None


def get(url: str, headers: dict[str, str], redirects: int, stall: float) -> requests.Response:
    """Request a file, and follow redirects; return the response before its body is read.

    A redirect may lead to another host, as mirrors and buckets need, but not from https to another
    scheme. Credentials, from the URL or ~/.netrc, are sent with the first request only.

    Args:
        url: the address.
        headers: added to ``HEADERS``.
        redirects: the maximum number of redirects.
        stall: the maximum time without any byte, in seconds.

    Raises:
        SourceError: if a redirect is not allowed, or there are too many.
        requests.RequestException: if a request fails.
        ValueError: if a URL is invalid.
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
    """Return whether a redirect is allowed: https leads only to https."""
    return urlsplit(place).scheme != "https" or urlsplit(target).scheme == "https"


def public(url: str) -> str:
    """Return a URL without the credentials in it."""
    parts = urlsplit(url)
    return parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()


def _anonymous(request: requests.PreparedRequest) -> requests.PreparedRequest:
    return request
