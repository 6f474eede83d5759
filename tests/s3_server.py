"""A real S3 server on loopback, behind a proxy that can interrupt requests.

Its clients get their settings from the environment, as users' do.
"""

from __future__ import annotations

import http.client
import http.server
import itertools
import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import fsspec
import pytest
from moto.server import ThreadedMotoServer

if TYPE_CHECKING:
    from collections.abc import Iterator

SECRET = "secret-of-the-test"  # noqa: S105 - the server accepts any
NUMBERS = itertools.count(1)
ERROR = "<?xml version='1.0'?><Error><Code>{}</Code><Message>{}</Message></Error>"


@dataclass
class Answer:
    """An answer of S3 on its way to the client."""

    status: int
    headers: list[tuple[str, str]]
    body: bytes
    announced: int  # the content's length in the headers


Change = Callable[[Answer], Answer | None]


@dataclass
class Fault:
    """Changes the answers to some requests.

    Attributes:
        method: of the requests.
        part: of their paths.
        change: returns another answer, or None to close the connection.
        times: how often it applies.
    """

    method: str
    part: str
    change: Change
    times: int = 1


@dataclass
class S3Server:
    """The proxy; ``requests`` are those it received."""

    url: str = ""
    faults: list[Fault] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def change(self, request: str, answer: Answer) -> Answer | None:
        """Return the answer that the first matching fault makes of this one."""
        method, _, path = request.partition(" ")
        with self.lock:
            self.requests.append(request)
            for fault in self.faults:
                if fault.times and method == fault.method and fault.part in path:
                    fault.times -= 1
                    break
            else:
                return answer
        return fault.change(answer)


def refused(status: int, code: str, message: str = "the reason") -> Change:
    """Answer with an error of S3, such as 503 SlowDown."""
    body = ERROR.format(code, message).encode()
    return lambda _: Answer(status, [("Content-Type", "application/xml")], body, len(body))


def cut(size: int) -> Change:
    """Announce the whole content, send ``size`` bytes, and close the connection."""
    return lambda answer: Answer(answer.status, answer.headers, answer.body[:size], answer.announced)


def shortened(size: int) -> Change:
    """Send ``size`` bytes as if they were all."""
    return lambda answer: Answer(answer.status, answer.headers, answer.body[:size], size)


def closed(_: Answer) -> None:
    """Close the connection without an answer."""


def handler(server: S3Server, behind: tuple[str, int]) -> type[http.server.BaseHTTPRequestHandler]:
    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            answer = server.change(f"{self.command} {self.path}", self.forward())
            if answer is None:
                self.close_connection = True
                return
            self.send_response_only(answer.status)
            for name, value in answer.headers:
                self.send_header(name, value)
            self.send_header("Content-Length", str(answer.announced))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(answer.body)
                self.close_connection = len(answer.body) < answer.announced

        do_HEAD = do_PUT = do_POST = do_DELETE = do_GET  # noqa: N815 - http.server's names

        def forward(self) -> Answer:
            """Send the request to S3 and return the answer."""
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            connection = http.client.HTTPConnection(*behind)
            connection.request(self.command, self.path, body, dict(self.headers))
            response = connection.getresponse()
            content = response.read()
            lengths = {"content-length", "transfer-encoding", "connection"}
            headers = [(name, value) for name, value in response.getheaders() if name.lower() not in lengths]
            announced = int(response.headers.get("Content-Length", len(content)))
            connection.close()
            return Answer(response.status, headers, content, announced)

        def log_message(self, *_: object) -> None:
            """Suppress logging."""

    return Handler


@pytest.fixture(scope="session")
def s3_server() -> Iterator[S3Server]:
    """Start the server and its proxy, and set the environment of the clients."""
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    moto = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    moto.start()
    host, port = moto.get_host_and_port()
    server = S3Server()
    bound = handler(server, (host, port))
    with (
        http.server.ThreadingHTTPServer(("127.0.0.1", 0), bound) as listening,
        pytest.MonkeyPatch.context() as environment,
    ):
        listening.daemon_threads = True
        thread = threading.Thread(target=listening.serve_forever, args=(0.01,))
        thread.start()
        server.url = f"http://127.0.0.1:{listening.server_port}"
        environment.setenv("AWS_ENDPOINT_URL", server.url)
        environment.setenv("AWS_ACCESS_KEY_ID", "key-of-the-test")
        environment.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
        environment.setenv("AWS_DEFAULT_REGION", "us-east-1")
        environment.setenv("AWS_MAX_ATTEMPTS", "1")
        environment.setenv("NO_PROXY", "127.0.0.1")
        fsspec.get_filesystem_class("s3").clear_instance_cache()  # each test module has its server
        yield server
        listening.shutdown()
        thread.join()
    moto.stop()


@pytest.fixture
def s3(s3_server: S3Server) -> Iterator[str]:
    """Return the URL of a new, empty bucket."""
    bucket = f"checkpoints-{next(NUMBERS)}"
    fsspec.filesystem("s3", use_listings_cache=False).mkdir(bucket)
    s3_server.requests.clear()
    yield f"s3://{bucket}"
    s3_server.faults.clear()
