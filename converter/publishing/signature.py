"""Sign and verify published folders; the only module that uses OpenSSF's model-signing.

A signature covers the names and SHA-256 of all files except itself. Neither operation needs a network.
"""

from __future__ import annotations

import contextlib
import io
import re
from typing import TYPE_CHECKING, Any

from converter.errors import SignatureError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

SIGNATURE = "model.sig"
# Parts of model-signing's messages: the syntax of Python lists, and the text before raw digests.
LIST, DIGESTS = re.compile(r"""\\|\[["']|["']\]"""), ": Expected "
# Files that the Hugging Face Hub adds to a folder that is uploaded and downloaded; nothing loads them.
HUB_FILES = (".gitattributes", ".cache/huggingface")


def require_key(key: Path) -> None:
    """Check, before any work, that a private key can sign.

    Raises:
        SignatureError: if it cannot, or if model-signing is not installed.
    """
    signing = _package("signing")
    with _signature_errors(f"{key}: cannot be used to sign"):
        signing.Config().use_elliptic_key_signer(private_key=key)


def require_public_key(key: Path) -> None:
    """Check that a public key can verify signatures.

    Raises:
        SignatureError: if it cannot, or if model-signing is not installed.
    """
    verifying = _package("verifying")
    with _signature_errors(f"{key}: not a supported public key"):
        verifying.Config().use_elliptic_key_verifier(public_key=key)


def sign(folder: Path, key: Path) -> None:
    """Sign the files of a folder.

    Args:
        folder: the folder, which receives the signature.
        key: a PEM file with an elliptic-curve private key, not encrypted.

    Raises:
        SignatureError: if the key or a file cannot be used, or if model-signing is not installed.
    """
    signing = _package("signing")
    with _signature_errors(f"{key}: cannot be used to sign"):
        config = signing.Config().use_elliptic_key_signer(private_key=key)
        config.set_hashing_config(_hashing(SIGNATURE)).sign(folder, folder / SIGNATURE)


def check(folder: Path, key: Path) -> None:
    """Require that the holder of a key signed exactly the files of a folder.

    Raises:
        SignatureError: if the signature is missing or made with another key, if a file differs, is
            missing or was added, or if model-signing is not installed.
    """
    verifying = _package("verifying")
    place = folder / SIGNATURE
    if not place.is_file():
        raise SignatureError(f"{place}: no such file")
    with _signature_errors(f"{place}: not a signature of these files by {key}"):
        config = verifying.Config().use_elliptic_key_verifier(public_key=key)
        config.set_hashing_config(_hashing(SIGNATURE, *HUB_FILES)).verify(folder, place)


def _package(part: str) -> Any:  # noqa: ANN401 - a module of an extra
    try:
        import model_signing  # noqa: PLC0415 - an extra, and takes a second
    except ImportError as error:
        raise SignatureError(
            f"signatures need model-signing: pip install 'gluon2torch[sign]' ({error})"
        ) from error
    return getattr(model_signing, part)


def _hashing(*ignored: str) -> Any:  # noqa: ANN401 - as above
    """Return a hashing of all files except ``ignored``; model-signing's default would omit .git."""
    return _package("hashing").Config().set_ignored_paths(paths=ignored, ignore_git_paths=False)


@contextlib.contextmanager
def _signature_errors(headline: str) -> Iterator[None]:
    """Convert the packages' errors about invalid keys and signatures.

    Raises:
        SignatureError: if any of them occurs, with the headline and the reason.
    """
    from cryptography import exceptions  # noqa: PLC0415 - as above
    from google.protobuf import json_format  # noqa: PLC0415 - as above

    failures = (
        exceptions.InvalidSignature,
        exceptions.UnsupportedAlgorithm,
        json_format.ParseError,
        AttributeError,
        LookupError,
        OSError,
        RuntimeError,
        TypeError,
        ValueError,
    )
    try:
        with contextlib.redirect_stdout(io.StringIO()):  # it warns of old signatures
            yield
    except failures as error:
        message = LIST.sub("", str(error).partition(DIGESTS)[0])
        reason = " ".join(message.split()) or type(error).__name__
        raise SignatureError(f"{headline}: {reason}") from error
