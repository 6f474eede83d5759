"""Published folders are signed and verified with generated keys, without a network."""

from __future__ import annotations

import shutil
import socket
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest

from converter.commands import conversion, publication
from converter.commands.publication import PublicationRequest
from converter.commands.verification import verify
from converter.errors import SignatureError
from converter.networks import catalog
from converter.networks.selection import ParamsSource
from converter.parity.options import ParityOptions
from converter.publishing import signature

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

pytest.importorskip("model_signing")
serialization: Any = pytest.importorskip("cryptography.hazmat.primitives.serialization")
ec: Any = pytest.importorskip("cryptography.hazmat.primitives.asymmetric.ec")
rsa: Any = pytest.importorskip("cryptography.hazmat.primitives.asymmetric.rsa")

NAME = "gluon_cifar_resnext29_32x4d"
ALLOWED: dict[str, Any] = {"allow_random": True, "allow_unproven": True}


def write(folder: Path, name: str, private: Any, password: bytes | None = None) -> tuple[Path, Path]:  # noqa: ANN401 - a key
    """Write a private key and its public key."""
    locked = serialization.BestAvailableEncryption(password) if password else serialization.NoEncryption()
    pem, pkcs8 = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
    public = serialization.PublicFormat.SubjectPublicKeyInfo
    ours, theirs = folder / f"{name}.key", folder / f"{name}.pub"
    ours.write_bytes(private.private_bytes(pem, pkcs8, locked))
    theirs.write_bytes(private.public_key().public_bytes(pem, public))
    return ours, theirs


@pytest.fixture(scope="session")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder of keys: ours, another one, and some that cannot sign."""
    folder = tmp_path_factory.mktemp("keys")
    write(folder, "ours", ec.generate_private_key(ec.SECP256R1()))
    write(folder, "other", ec.generate_private_key(ec.SECP256R1()))
    write(folder, "koblitz", ec.generate_private_key(ec.SECP256K1()))
    write(folder, "rsa", rsa.generate_private_key(65537, 2048))
    write(folder, "locked", ec.generate_private_key(ec.SECP256R1()), b"secret")
    for suffix in ("key", "pub"):
        (folder / f"garbage.{suffix}").write_text("-----BEGIN NOTHING-----")
    return folder


@pytest.fixture(scope="session")
def artifact(tmp_path_factory: pytest.TempPathFactory) -> Path:
    request = conversion.ConversionRequest(
        source=ParamsSource(catalog.find(NAME), seed=0),
        out=tmp_path_factory.mktemp("out"),
        options=ParityOptions("none"),
    )
    return conversion.run(request).artifact


@pytest.fixture(scope="session")
def original(artifact: Path, keys: Path) -> Path:
    folder = artifact.parent / "published"
    publication.run(
        PublicationRequest(files=(artifact,), folder=folder, sign_key=keys / "ours.key", **ALLOWED)
    )
    return folder


@pytest.fixture
def folder(original: Path, tmp_path: Path) -> Path:
    """Return a copy that a test may damage."""
    return shutil.copytree(original, tmp_path / "published")


@pytest.fixture(autouse=True)
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise AssertionError("a connection was opened")

    monkeypatch.setattr(socket.socket, "connect", refuse)


def test_signature_of_the_key_holder_is_verified(folder: Path, keys: Path) -> None:
    verification = verify(folder, key=keys / "ours.pub")
    assert (verification.holds, verification.signed) == (True, True)


def test_signature_is_not_checked_without_a_key(folder: Path) -> None:
    verification = verify(folder)
    assert (verification.holds, verification.signed) == (True, False)
    seen = {finding.place: finding.actual for finding in verification.checks if finding.holds is None}
    assert seen["model.sig"] == "present; --key checks it"


def flip_byte(place: Path) -> None:
    content = bytearray(place.read_bytes())
    content[len(content) // 2] ^= 1
    place.write_bytes(content)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda folder: flip_byte(folder / "model.safetensors"),
            r"by \S+: Signature mismatch: Hash mismatch for 'model\.safetensors'$",
        ),
        (lambda folder: flip_byte(folder / "SHA256SUMS"), "Hash mismatch for 'SHA256SUMS'"),
        (lambda folder: (folder / "extra.py").touch(), r"Extra files found .*: extra\.py"),
        (lambda folder: (folder / ".gitignore").touch(), r"Extra files found .*: \.gitignore"),
        (lambda folder: (folder / "README.md").unlink(), r"Missing files .*: README\.md"),
        (lambda folder: (folder / "link").symlink_to("README.md"), "symlink"),
        (lambda folder: (folder / "model.sig").unlink(), r"model\.sig: no such file"),
        (lambda folder: (folder / "model.sig").write_text(""), "not a signature of these files by"),
        (lambda folder: (folder / "model.sig").write_text("{}"), "not a signature of these files by"),
        (lambda folder: flip_byte(folder / "model.sig"), "not a signature of these files by"),
    ],
)
def test_unsigned_change_is_refused(
    folder: Path, keys: Path, change: Callable[[Path], object], message: str
) -> None:
    signature.check(folder, keys / "ours.pub")
    change(folder)
    with pytest.raises(SignatureError, match=message):
        signature.check(folder, keys / "ours.pub")
    assert not verify(folder, key=keys / "ours.pub").signed


def test_wrong_key_is_refused(folder: Path, keys: Path) -> None:
    with pytest.raises(SignatureError, match=r"not a signature of these files by .*other\.pub: Key mismatch"):
        signature.check(folder, keys / "other.pub")


def test_signature_with_a_forged_key_hint_is_refused(folder: Path, keys: Path, tmp_path: Path) -> None:
    hint = (folder / "model.sig").read_text().partition('"hint":')[2].split('"')[1]
    forged = shutil.copytree(folder, tmp_path / "forged")
    signature.sign(forged, keys / "other.key")
    content = (forged / "model.sig").read_text()
    theirs = content.partition('"hint":')[2].split('"')[1]
    (forged / "model.sig").write_text(content.replace(theirs, hint))
    with pytest.raises(SignatureError, match=r"not a signature of these files by .*InvalidSignature"):
        signature.check(forged, keys / "ours.pub")


def test_signature_of_another_folder_is_refused(folder: Path, keys: Path, tmp_path: Path) -> None:
    other = shutil.copytree(folder, tmp_path / "other")
    (other / "README.md").write_text("another card")
    signature.sign(other, keys / "ours.key")
    shutil.copy(other / "model.sig", folder)
    with pytest.raises(SignatureError, match=r"Hash mismatch for 'README\.md'"):
        signature.check(folder, keys / "ours.pub")


def test_hub_cache_files_need_no_signature(folder: Path, keys: Path) -> None:
    (folder / ".gitattributes").touch()
    (folder / ".cache" / "huggingface").mkdir(parents=True)
    (folder / ".cache" / "huggingface" / "x.metadata").touch()
    assert verify(folder, key=keys / "ours.pub").signed


@pytest.mark.parametrize("name", ["koblitz", "rsa", "locked", "garbage", "none"])
def test_unusable_signing_key_is_refused_before_any_work(
    artifact: Path, keys: Path, tmp_path: Path, name: str
) -> None:
    with pytest.raises(SignatureError, match=rf"{name}\.key: cannot be used to sign: "):
        signature.require_key(keys / f"{name}.key")
    with pytest.raises(SignatureError, match=rf"{name}\.key: cannot be used to sign: "):
        publication.run(
            PublicationRequest(
                files=(artifact,), folder=tmp_path / "out", sign_key=keys / f"{name}.key", **ALLOWED
            )
        )
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["koblitz.pub", "rsa.pub", "garbage.pub", "none.pub", "ours.key"])
def test_invalid_public_key_is_refused(folder: Path, keys: Path, name: str) -> None:
    with pytest.raises(SignatureError, match=f"{name}: not a supported public key: "):
        verify(folder, key=keys / name)


def test_converted_file_cannot_be_signed(artifact: Path, keys: Path) -> None:
    verification = verify(artifact, key=keys / "ours.pub")
    assert (verification.holds, verification.signed) == (False, False)
    assert verification.checks[-1].actual == "nothing; only published folders are signed"


def test_signed_folder_is_replaced_with_force(artifact: Path, folder: Path, keys: Path) -> None:
    publication.run(
        PublicationRequest(
            files=(artifact,), folder=folder, force=True, sign_key=keys / "ours.key", **ALLOWED
        )
    )
    assert verify(folder, key=keys / "ours.pub").signed
    publication.run(PublicationRequest(files=(artifact,), folder=folder, force=True, **ALLOWED))
    assert not (folder / "model.sig").exists()


def test_model_signing_cli_agrees(folder: Path, keys: Path) -> None:
    command = [sys.executable, "-P", "-m", "model_signing", "verify", "key", str(folder)]
    command += ["--signature", str(folder / "model.sig"), "--public_key", str(keys / "ours.pub")]
    assert subprocess.run(command, capture_output=True, check=False).returncode == 0
    flip_byte(folder / "README.md")
    assert subprocess.run(command, capture_output=True, check=False).returncode != 0
