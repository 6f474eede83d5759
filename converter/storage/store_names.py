"""Check the URLs of stores, and the names in them, which become paths."""

from __future__ import annotations

import re
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import url2pathname

from converter.errors import StorageError, UsageError
from converter.names import clipped, printable
from converter.storage import locks

SCHEME = re.compile(r"([a-z][a-z0-9+.-]+)://", re.ASCII)  # at least two letters: C:\ is a drive of Windows
UNCLEAR = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+:[/:]", re.ASCII)  # S3://, s3:/, zip::s3://
CHAINED = re.compile(r"[a-z0-9]::[a-z]", re.ASCII)
WEB = {"http", "https"}
# Their URLs name a container or a revision with @.
AT_SIGN = {"abfs", "abfss", "hf"}
PATTERNS = re.compile(r"[*?\[\]#]")  # which clients expand, or read as the version of an object
LONGEST_NAME = 1024  # bytes, as in S3


def scheme(location: str) -> str:
    """Return the scheme of a URL, "" for a path."""
    match = SCHEME.match(location)
    return match[1] if match else ""


def require_clear(location: str) -> None:
    """Check that a location is clearly a path or a URL: a mistyped URL must not become a local folder.

    Raises:
        UsageError: if it begins like a URL and is none.
    """
    if not scheme(location) and UNCLEAR.match(location):
        raise UsageError(
            f"{public(location)}: neither a folder nor the URL of one store, such as s3://bucket/prefix"
        )


def public(url: str) -> str:
    """Return a URL for a message, without what can be a secret."""
    parts = urlsplit(url)
    at_sign = parts.scheme in AT_SIGN and parts.password is None
    place = parts.netloc if at_sign else parts.netloc.rpartition("@")[2]
    return printable(clipped(parts._replace(netloc=place, query="", fragment="").geturl()))


def require_plain(url: str) -> None:
    """Check that a URL has no credentials, and names one store.

    Raises:
        UsageError: if it has credentials or a query, chains several stores, or cannot be parsed.
    """
    try:
        parts = urlsplit(url)
        has_user = "@" in parts.netloc
        has_secret = has_user and (parts.password is not None or parts.scheme not in AT_SIGN)
    except ValueError as error:
        raise UsageError(f"not a URL: {error}") from error
    if CHAINED.search(url):
        raise UsageError(f"{parts.scheme}://…: a chain of stores; give the URL of one store")
    if has_secret:
        raise UsageError(
            f"{public(url)}: the URL contains a user name or a password\n"
            "Set credentials in the environment or in the client's configuration file."
        )
    if parts.query or parts.fragment:
        raise UsageError(f"{public(url)}: the URL has a query, which can contain a secret; omit it")
    if not parts.netloc and parts.scheme not in {"file", "memory"}:
        raise UsageError(f"{public(url)}: expected a bucket or a server after {parts.scheme}://")


def local_path(url: str) -> Path:
    """Return the path of a ``file://`` URL.

    Raises:
        UsageError: if it names another computer.
    """
    parts = urlsplit(url)
    if parts.netloc not in {"", "localhost"}:
        raise UsageError(f"{public(url)}: a folder of another computer; mount it and give its path")
    return Path(url2pathname(parts.path))


def refusal(name: str) -> str | None:
    """Return why a name of a store must not become a path; None if it may."""
    parts = name.split("/")
    if not name.isprintable():
        return "a name with control characters"
    if name.startswith("/") or "\\" in name or re.match("[A-Za-z]:", name):
        return "an absolute path, or one of Windows"
    if not {"", ".", ".."}.isdisjoint(parts):
        return "a path with empty parts, . or .."
    if len(name.encode()) > LONGEST_NAME:
        return f"a name of more than {LONGEST_NAME} bytes"
    return None


def require_safe(name: str, url: str) -> None:
    """Check that a name of a store may become a path.

    Raises:
        StorageError: if it may not.
    """
    if reason := refusal(name):
        raise StorageError(f"{public(url)}: {clipped(name)!a} is refused: {reason}")


def is_temporary(name: str) -> bool:
    """Return whether a file is, or is in, a temporary file or folder of another run."""
    return any(locks.TEMPORARY.fullmatch(part) for part in name.split("/"))
