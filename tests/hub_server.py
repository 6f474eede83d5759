"""A loopback server that imitates the Hugging Face Hub: uploads, and downloads of what it is given."""

from __future__ import annotations

import hashlib
import http.server
import json
import threading
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pytest
from huggingface_hub import constants

if TYPE_CHECKING:
    from collections.abc import Iterator

REPO, TOKEN = "org/tiny", "hf_of_the_test"
COMMIT = "1234" * 10


@dataclass
class Hub:
    """What the server received; ``failures`` maps parts of paths to the statuses it answers with.

    ``files`` are those of the repository, for downloads.
    """

    url: str = ""
    private: bool = True
    failures: dict[str, int] = field(default_factory=dict)
    created: list[dict[str, Any]] = field(default_factory=list)
    stored: dict[str, bytes] = field(default_factory=dict)
    committed: dict[str, Any] = field(default_factory=dict)
    tokens: set[str | None] = field(default_factory=set)
    files: dict[str, bytes] = field(default_factory=dict)
    requested: list[str] = field(default_factory=list)
    place: str = REPO

    def answer(self, path: str, body: bytes) -> dict[str, Any]:  # noqa: PLR0911 - one for each path
        """Process a request as the hub does and return the reply."""
        if path == "/api/repos/create":
            self.created.append(json.loads(body))
            return {"url": f"{self.url}/{REPO}", "name": REPO}
        if path == f"/api/models/{REPO}":
            return {"id": REPO, "private": self.private, "sha": "1234", "siblings": []}
        if path == "/api/validate-yaml":
            return {"errors": [], "warnings": []}
        if path == f"/api/models/{REPO}/preupload/main":
            return {"files": [self.mode(file["path"]) for file in json.loads(body)["files"]]}
        if path == f"/{REPO}.git/info/lfs/objects/batch":
            return {"transfer": "basic", "objects": [self.action(one) for one in json.loads(body)["objects"]]}
        if path.startswith("/store/"):
            self.stored[path.removeprefix("/store/")] = body
            return {}
        assert path == f"/api/models/{REPO}/commit/main"
        for line in map(json.loads, body.splitlines()):
            self.committed[line["value"].get("path", line["key"])] = line
        return {"commitUrl": f"{self.url}/{REPO}/commit/1234", "commitOid": "1234"}

    def resolve(self, path: str) -> tuple[int, dict[str, str], bytes]:
        """Return the status, the headers and the content of the answer to a download."""
        repository, _, place = path.partition("/resolve/")
        content = self.files.get(place.partition("/")[2]) if repository == f"/{self.place}" else None
        headers = {"X-Repo-Commit": COMMIT, "Content-Length": str(len(content or b""))}
        if content is None:
            missing = "EntryNotFound" if repository == f"/{self.place}" else "RepoNotFound"
            return 404, {**headers, "X-Error-Code": missing}, b""
        return 200, {**headers, "ETag": f'"{hashlib.sha256(content).hexdigest()}"'}, content

    def mode(self, path: str) -> dict[str, Any]:
        mode = "lfs" if path.endswith(".safetensors") else "regular"
        return {"path": path, "uploadMode": mode, "shouldIgnore": False}

    def action(self, one: dict[str, Any]) -> dict[str, Any]:
        return {**one, "actions": {"upload": {"href": f"{self.url}/store/{one['oid']}"}}}


def handler(server: Hub) -> type[http.server.BaseHTTPRequestHandler]:  # noqa: C901 - one function for each kind of request
    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = self.body()
            path = self.path.partition("?")[0]
            if not path.startswith("/store/"):
                server.tokens.add(self.headers.get("Authorization"))
            status = next((code for part, code in server.failures.items() if part in path), 200)
            reply = {"error": f"the reason for\n{status}"} if status != 200 else server.answer(path, body)
            answer = json.dumps(reply).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        def do_GET(self) -> None:
            if "/resolve/" in self.path:
                server.requested.append(f"{self.command} {self.path}")
            elif self.command == "GET":
                self.do_POST()
                return
            status, headers, content = server.resolve(self.path)
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(content if self.command == "GET" else b"")

        do_HEAD = do_GET  # noqa: N815 - http.server's name

        def body(self) -> bytes:
            if self.headers.get("Transfer-Encoding") != "chunked":
                return self.rfile.read(int(self.headers.get("Content-Length", 0)))
            chunks = []
            while size := int(self.rfile.readline(), 16):
                chunks.append(self.rfile.read(size))
                self.rfile.readline()
            self.rfile.readline()
            return b"".join(chunks)

        do_PUT = do_POST  # noqa: N815 - http.server's name

        def log_message(self, *_: object) -> None:
            """Suppress logging."""

    return Handler


@pytest.fixture(name="server")
def hub_server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    imitation = Hub()
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler(imitation)) as listening:
        thread = threading.Thread(target=listening.serve_forever, args=(0.01,))
        thread.start()
        imitation.url = f"http://127.0.0.1:{listening.server_port}"
        monkeypatch.setenv("NO_PROXY", "127.0.0.1")
        monkeypatch.setenv("HF_ENDPOINT", imitation.url)
        monkeypatch.setenv("HF_TOKEN", TOKEN)
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)  # set in conftest.py
        monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)  # Xet storage does not use this server
        monkeypatch.setattr(constants, "HF_HUB_DISABLE_PROGRESS_BARS", True)
        yield imitation
        listening.shutdown()
        thread.join()
