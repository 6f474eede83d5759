"""A published folder signed with a key, and checked. Nothing else here knows OpenSSF's model-signing.

The signature is over the names and SHA-256 of all files but itself. Making and checking it needs no network.
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
# model-signing says what differs as Python writes lists, and the digests as it writes bytes.
LIST, DIGESTS = re.compile(r"""\\|\[["']|["']\]"""), ": Expected "
# What the Hugging Face hub leaves in a folder that was uploaded and fetched again; nobody loads it.
HUBS_OWN = (".gitattributes", ".cache/huggingface")


def require_key(key: Path) -> None:
    """Refuse, before any work, a private key that cannot sign, or to sign where the package is missing.

    Errors: ``SignatureError``.
    """
    signing = _package("signing")
    with _explained(f"{key}: cannot sign"):
        signing.Config().use_elliptic_key_signer(private_key=key)


def require_public_key(key: Path) -> None:
    """Refuse what is no public key by which a signature could be checked.

    Errors: ``SignatureError``.
    """
    verifying = _package("verifying")
    with _explained(f"{key}: no public key that is known here"):
        verifying.Config().use_elliptic_key_verifier(public_key=key)


def sign(folder: Path, key: Path) -> None:
    """Sign what is in a folder with a private key, elliptic and not encrypted, of a PEM file.

    Errors: ``SignatureError``.
    """
    signing = _package("signing")
    with _explained(f"{key}: cannot sign"):
        config = signing.Config().use_elliptic_key_signer(private_key=key)
        config.set_hashing_config(_hashing(SIGNATURE)).sign(folder, folder / SIGNATURE)


def check(folder: Path, key: Path) -> None:
    """Require that the holder of a key signed exactly the files of a folder.

    Errors: ``SignatureError``: no signature, another key, a file that differs, is lacking or was added.
    """
    verifying = _package("verifying")
    place = folder / SIGNATURE
    if not place.is_file():
        raise SignatureError(f"{place}: no such file")
    with _explained(f"{place}: not by the key {key} of these files"):
        config = verifying.Config().use_elliptic_key_verifier(public_key=key)
        config.set_hashing_config(_hashing(SIGNATURE, *HUBS_OWN)).verify(folder, place)


def _package(part: str) -> Any:  # noqa: ANN401 - a module of an extra
    try:
        import model_signing  # noqa: PLC0415 - an extra, and takes a second
    except ImportError as error:
        raise SignatureError(
            f"signatures need model-signing: pip install 'gluon2torch[sign]' ({error})"
        ) from error
    return getattr(model_signing, part)


def _hashing(*ignored: str) -> Any:  # noqa: ANN401 - as above
    """Return what counts: all files but those named; .git too, which model-signing would leave out."""
    return _package("hashing").Config().set_ignored_paths(paths=ignored, ignore_git_paths=False)


@contextlib.contextmanager
def _explained(headline: str) -> Iterator[None]:
    """Turn whatever the packages raise at keys and signatures that are none into one error."""
    from cryptography import exceptions  # noqa: PLC0415 - as above
    from google.protobuf import json_format  # noqa: PLC0415 - as above

    refusals = (
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
        with contextlib.redirect_stdout(io.StringIO()):  # where it warns of old signatures
            yield
    except refusals as error:
        said = LIST.sub("", str(error).partition(DIGESTS)[0])
        reason = " ".join(said.split()) or type(error).__name__
        raise SignatureError(f"{headline}: {reason}") from error
