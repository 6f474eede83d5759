"""A real S3 server on loopback, whose clients get their settings from the environment as users' do."""

from __future__ import annotations

import itertools
import logging
from typing import TYPE_CHECKING

import fsspec
import pytest
from moto.server import ThreadedMotoServer

if TYPE_CHECKING:
    from collections.abc import Iterator

NUMBERS = itertools.count(1)
SECRET = "secret-of-the-test"  # noqa: S105 - the server accepts any


@pytest.fixture(scope="session")
def s3_endpoint() -> Iterator[str]:
    """Start the server, set the environment and return the server's URL."""
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("AWS_ENDPOINT_URL", f"http://{host}:{port}")
        environment.setenv("AWS_ACCESS_KEY_ID", "key-of-the-test")
        environment.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
        environment.setenv("AWS_DEFAULT_REGION", "us-east-1")
        environment.setenv("AWS_MAX_ATTEMPTS", "2")
        environment.setenv("NO_PROXY", "127.0.0.1")
        yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture
def s3(s3_endpoint: str) -> str:
    """Return the URL of a new, empty bucket."""
    bucket = f"checkpoints-{next(NUMBERS)}"
    fsspec.filesystem("s3", use_listings_cache=False).mkdir(bucket)
    assert s3_endpoint
    return f"s3://{bucket}"
