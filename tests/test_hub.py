"""Uploads with huggingface_hub's own client to a loopback server that imitates the hub."""

from __future__ import annotations

import base64
import hashlib
import sys
from typing import TYPE_CHECKING

import pytest
from hub_server import REPO, TOKEN, hub_server
from huggingface_hub import constants

from converter.errors import HubError
from converter.publishing import hub

if TYPE_CHECKING:
    from pathlib import Path

    from hub_server import Hub

# huggingface_hub 2.4 passes files to its HTTP client in a deprecated way.
pytestmark = pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")

__all__ = ["hub_server"]  # a fixture

WEIGHTS, CARD = b"weights" * 1000, b"# card\n"


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
    assert server.committed["header"]["value"]["summary"] == "Published by gluon2torch"
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
