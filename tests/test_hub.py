"""Uploads with huggingface_hub's own client to a loopback server that imitates the hub."""

from __future__ import annotations

import base64
import hashlib
import http.server
import json
import sys
import threading
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pytest
from huggingface_hub import constants

from converter.errors import HubError
from converter.publishing import hub

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

# huggingface_hub 2.4 passes files to its HTTP client in a deprecated way.
pytestmark = pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")

REPO, TOKEN = "org/tiny", "hf_of_the_test"
WEIGHTS, CARD = b"weights" * 1000, b"# card\n"


@dataclass
class Hub:
    """What the server received; ``failures`` maps parts of paths to the statuses it answers with."""

    url: str = ""
    private: bool = True
    failures: dict[str, int] = field(default_factory=dict)
    created: list[dict[str, Any]] = field(default_factory=list)
    stored: dict[str, bytes] = field(default_factory=dict)
    committed: dict[str, Any] = field(default_factory=dict)
    tokens: set[str | None] = field(default_factory=set)

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

    def mode(self, path: str) -> dict[str, Any]:
        mode = "lfs" if path.endswith(".safetensors") else "regular"
        return {"path": path, "uploadMode": mode, "shouldIgnore": False}

    def action(self, one: dict[str, Any]) -> dict[str, Any]:
        return {**one, "actions": {"upload": {"href": f"{self.url}/store/{one['oid']}"}}}


def handler(server: Hub) -> type[http.server.BaseHTTPRequestHandler]:
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

        def body(self) -> bytes:
            if self.headers.get("Transfer-Encoding") != "chunked":
                return self.rfile.read(int(self.headers.get("Content-Length", 0)))
            chunks = []
            while size := int(self.rfile.readline(), 16):
                chunks.append(self.rfile.read(size))
                self.rfile.readline()
            self.rfile.readline()
            return b"".join(chunks)

        do_GET = do_POST  # noqa: N815 - http.server's name
        do_PUT = do_POST  # noqa: N815 - http.server's name

        def log_message(self, *_: object) -> None:
            """Suppress logging."""

    return Handler


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    hub_server = Hub()
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler(hub_server)) as listening:
        thread = threading.Thread(target=listening.serve_forever, args=(0.01,))
        thread.start()
        hub_server.url = f"http://127.0.0.1:{listening.server_port}"
        monkeypatch.setenv("NO_PROXY", "127.0.0.1")
        monkeypatch.setenv("HF_ENDPOINT", hub_server.url)
        monkeypatch.setenv("HF_TOKEN", TOKEN)
        monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)  # Xet storage does not use this server
        monkeypatch.setattr(constants, "HF_HUB_DISABLE_PROGRESS_BARS", True)
        yield hub_server
        listening.shutdown()
        thread.join()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "model.safetensors").write_bytes(WEIGHTS)
    (tmp_path / "README.md").write_bytes(CARD)
    return tmp_path


def test_folder_is_uploaded_to_a_new_repository(server: Hub, folder: Path) -> None:
    assert hub.push(folder, REPO) == f"{server.url}/{REPO}/commit/1234"
    (created,) = server.created
    assert (created["organization"], created["name"]) == ("org", "tiny")
    assert "visibility" not in created
    digest = hashlib.sha256(WEIGHTS).hexdigest()
    assert server.stored == {digest: WEIGHTS}
    assert server.committed["model.safetensors"]["value"]["oid"] == digest
    assert base64.b64decode(server.committed["README.md"]["value"]["content"]) == CARD
    assert server.committed["header"]["value"]["summary"] == "Converted and published by gluon2torch"
    assert server.tokens == {f"Bearer {TOKEN}"}


def test_private_repository_is_created_on_request(server: Hub, folder: Path) -> None:
    hub.push(folder, REPO, private=True)
    assert server.created[0]["visibility"] == "private"
    assert server.committed


def test_private_upload_to_a_public_repository_is_refused(server: Hub, folder: Path) -> None:
    server.private = False
    with pytest.raises(
        HubError, match=f"{REPO}: --private was given, but the repository is public; nothing was uploaded"
    ):
        hub.push(folder, REPO, private=True)
    assert (server.stored, server.committed) == ({}, {})
    hub.push(folder, REPO)
    assert server.committed


@pytest.mark.parametrize(
    ("status", "reason"),
    [
        (401, "the token was rejected; log in with `hf auth login` or set HF_TOKEN"),
        (403, "the token has no write access to the repository"),
        (500, "the Hub failed; try again later"),
        (422, "the reason for 422"),
    ],
)
def test_hub_error_is_shown_with_its_reason(server: Hub, folder: Path, status: int, reason: str) -> None:
    # If a repository cannot be created, the client checks whether it exists.
    server.failures |= {"/repos/create": status, f"/models/{REPO}": status}
    with pytest.raises(
        HubError, match=f"^{REPO}: the upload failed: the Hub answered {status}: {reason}"
    ) as caught:
        hub.push(folder, REPO)
    assert f"the reason for {status}" in str(caught.value)
    assert TOKEN not in str(caught.value)
    assert not server.committed


@pytest.mark.parametrize("part", ["/preupload/", "/objects/batch", "/store/", "/commit/"])
def test_error_at_any_step_leaves_no_commit(server: Hub, folder: Path, part: str) -> None:
    server.failures[part] = 403
    with pytest.raises(HubError, match=f"^{REPO}: the upload failed"):
        hub.push(folder, REPO)
    assert not server.committed


def test_unreachable_hub_is_named(folder: Path, server: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(HubError, match=rf"^{REPO}: the upload failed: .*refused"):
        hub.push(folder, REPO)
    assert not server.created


def test_missing_token_is_refused_before_any_request(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("HF_TOKEN", raising=False)
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "none"))
    with pytest.raises(HubError, match=r"^--push needs a token: log in with `hf auth login` or set HF_TOKEN"):
        hub.require_ready("org/name")


def test_token_is_sufficient(server: Hub) -> None:
    hub.require_ready("org/name")
    assert not server.tokens


def test_missing_huggingface_hub_names_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(HubError, match=r"pip install 'gluon2torch\[hub\]'"):
        hub.require_ready("org/name")


@pytest.mark.parametrize(
    ("name", "fits"), [("org/a-b.c_1", True), ("name", False), ("a/b/c", False), ("a/é", False)]
)
def test_repository_needs_an_organisation_and_a_name(name: str, *, fits: bool) -> None:
    assert bool(hub.REPO.fullmatch(name)) == fits
