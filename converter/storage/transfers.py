"""Repeat interrupted requests to a remote store, and report their errors without secrets."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, TypeVar

import urllib3

from converter.errors import FileMissingError, StorageError
from converter.names import clipped, printable
from converter.storage import clients, disk

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from converter.storage.clients import Client

T = TypeVar("T")

RETRY = urllib3.Retry(3, backoff_factor=0.5, backoff_jitter=0.5, backoff_max=30)  # seconds
PERMANENT = FileNotFoundError, PermissionError, IsADirectoryError, NotADirectoryError, FileExistsError
TEMPORARY_STATUSES = {408, 412, 425, 429}  # and 5xx; 412: the object was replaced between two blocks
DENIED, MISSING = {401, 403}, {404, 410}
USER = re.compile(r"(\w+://)[^\s/@]*@")
QUERY = re.compile(r"\?[^\s'\")>]+")


def run(operation: Callable[[], T], place: str, client: Client) -> T:
    """Call a function that sends requests; repeat it, after a pause, if it is interrupted.

    The clients repeat single requests. This repeats whole transfers, whose connection broke.

    Args:
        operation: what to call; it can be called again.
        place: the URL for messages.
        client: whose errors can occur.

    Raises:
        FileMissingError: if the server answers that the file or bucket does not exist.
        StorageError: if access is denied, or the last attempt fails.
    """
    retry = RETRY
    errors: tuple[type[Exception], ...] = (OSError, *clients.exceptions(client.errors))
    while True:
        try:
            return operation()
        except errors as error:
            failure = _failure(error, place, client)
            if _is_permanent(error, client):
                raise failure from error
            try:
                retry = retry.increment(error=error)
            except urllib3.exceptions.MaxRetryError:
                attempts = f"{len(retry.history) + 1} attempts"
                raise StorageError(f"{failure}; {attempts}") from error
        retry.sleep()


def _failure(error: Exception, place: str, client: Client) -> StorageError:
    """Return the error to raise in place of a client's."""
    reason = without_secrets(disk.os_reason(error) if isinstance(error, OSError) else str(error))
    status = _status(error)
    if status in MISSING or (status is None and isinstance(error, FileNotFoundError)):
        bucket = "bucket does not exist" in reason  # S3 and Google Cloud Storage
        return FileMissingError(f"{place}: {'the bucket does not exist' if bucket else 'not found'}")
    if _is_denied(error, client):
        return StorageError(
            f"{place}: access denied: {reason}\n"
            "Credentials are read from the environment, or the client's configuration file."
        )
    return StorageError(f"{place}: {reason or type(error).__name__}")


def _is_denied(error: Exception, client: Client) -> bool:
    refused: tuple[type[Exception], ...] = (PermissionError, *clients.exceptions(client.denied))
    return _status(error) in DENIED or isinstance(error, refused)


def _is_permanent(error: Exception, client: Client) -> bool:
    """Return whether another attempt would fail as well."""
    status = _status(error)
    if status is not None:
        return 400 <= status < 500 and status not in TEMPORARY_STATUSES  # noqa: PLR2004 - HTTP's classes
    return isinstance(error, PERMANENT) or _is_denied(error, client)


def _status(error: BaseException | None) -> int | None:
    """Return the HTTP status of a client's error, or of its cause: fsspec reports all as missing files.

    The cause of a broken connection has a status that no server sent.
    """
    while error is not None:
        for status in _statuses(error):
            if isinstance(status, int) and status:
                return status
        error = error.__cause__ if isinstance(error, OSError) else None
    return None


def _statuses(error: BaseException) -> Iterator[object]:
    """Yield where the clients' errors have their status."""
    for attribute in ("status", "status_code", "code"):  # aiohttp, azure-core, gcsfs
        yield getattr(error, attribute, None)
    response = getattr(error, "response", None)
    if isinstance(response, dict):  # botocore
        yield response.get("ResponseMetadata", {}).get("HTTPStatusCode")
    yield getattr(response, "status_code", None)  # huggingface_hub


def without_secrets(text: str) -> str:
    """Return the first line of a client's message; URLs lose their user and query."""
    line = (text.splitlines() or [""])[0]
    return printable(clipped(QUERY.sub("", USER.sub(r"\1", line))))
