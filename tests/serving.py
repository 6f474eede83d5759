"""A real loopback server that imitates the faults of download servers."""

from __future__ import annotations

import contextlib
import functools
import http.server
import io
import itertools
import threading
import zipfile
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable, Iterator
    from pathlib import Path

    Answer = Callable[["Handler"], None]

TAG = '"the first content"'


@dataclass
class Server:
    """Answers in turn, with the last answer repeatedly; ``seen`` are the received headers."""

    url: str = ""
    answers: list[Answer] = field(default_factory=list)
    seen: list[dict[str, str]] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)
    closing: threading.Event = field(default_factory=threading.Event)

    def next(self, headers: dict[str, str]) -> Answer:
        with self.lock:
            self.seen.append(headers)
            return self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]

    @property
    def ranges(self) -> list[str | None]:
        return [headers.get("Range") for headers in self.seen]


class Handler(http.server.BaseHTTPRequestHandler):
    served: Server

    def do_GET(self) -> None:
        with contextlib.suppress(ConnectionError):  # a client may close the connection early
            self.served.next(dict(self.headers))(self)

    def head(self, status: int, **headers: object) -> None:
        """Send a status and headers, with ``_`` in their names for ``-``."""
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), str(value))
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


@contextlib.contextmanager
def serving(*answers: Answer, tls: ssl.SSLContext | None = None) -> Iterator[Server]:
    """Serve these answers in turn at any path; with ``tls``, as localhost."""
    served = Server(answers=list(answers))
    handler = type("Bound", (Handler,), {"served": served})
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        if tls is not None:
            server.socket = tls.wrap_socket(server.socket, server_side=True)
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        place = "http://127.0.0.1" if tls is None else "https://localhost"
        served.url = f"{place}:{server.server_port}"
        try:
            yield served
        finally:
            served.closing.set()
            server.shutdown()
            thread.join()


def whole(content: bytes, tag: str | None = TAG) -> Answer:
    """Send the content, content, the requested offset if it is unchanged."""

    def answer(handler: Handler) -> None:
        headers, begin = handler.headers, 0
        validators: dict[str, object] = {} if tag is None else {"ETag": tag}
        if headers["Range"] and headers["If-Range"] == tag:
            begin = int(headers["Range"].removeprefix("bytes=").removesuffix("-"))
            validators["Content_Range"] = f"bytes {begin}-{len(content) - 1}/{len(content)}"
        rest = content[begin:]
        handler.head(206 if begin else 200, Content_Length=len(rest), **validators)
        handler.wfile.write(rest)

    return answer


def cut(content: bytes, size: int, tag: str | None = TAG) -> Answer:
    """Announce the whole content, send ``size`` bytes and close the connection."""

    def answer(handler: Handler) -> None:
        handler.head(200, Content_Length=len(content), **({} if tag is None else {"ETag": tag}))
        handler.wfile.write(content[:size])

    return answer


def stalled(content: bytes, size: int) -> Answer:
    """Announce the whole content, send ``size`` bytes, and keep the connection open."""

    def answer(handler: Handler) -> None:
        cut(content, size)(handler)
        handler.served.closing.wait(10)

    return answer


def status(number: int, **headers: object) -> Answer:
    """Answer with a status and no body."""
    return lambda handler: handler.head(number, Content_Length=0, **headers)


def endless(number: int = 200, **headers: object) -> Answer:
    """Send zeros until the client disconnects, also as the body of a redirect."""

    def answer(handler: Handler) -> None:
        handler.head(number, **headers)
        while not handler.served.closing.is_set():
            handler.wfile.write(bytes(1 << 16))

    return answer


def trickle(content: bytes, pause: float) -> Answer:
    """Send the content byte by byte."""

    def answer(handler: Handler) -> None:
        handler.head(200, Content_Length=len(content), ETag=TAG)
        for number in range(len(content)):
            handler.wfile.write(content[number : number + 1])
            if handler.served.closing.wait(pause):
                return

    return answer


def drip(begin: bytes, again: bytes, pause: float) -> Answer:
    """Send ``begin`` then ``again`` repeatedly, one byte at a time."""

    def answer(handler: Handler) -> None:
        handler.wfile.write(begin)
        for byte in itertools.cycle(again):
            handler.wfile.write(bytes([byte]))
            if handler.served.closing.wait(pause):
                return

    return answer


def zipped(*members: tuple[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members:
            archive.writestr(name, content)
    return buffer.getvalue()


class QuietHandler(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        pass


@contextlib.contextmanager
def serving_folder(folder: Path) -> Iterator[str]:
    """Serve the files of a folder, and yield the URL of the folder."""
    handler = functools.partial(QuietHandler, directory=folder)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()
