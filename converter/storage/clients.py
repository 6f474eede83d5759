"""How each of fsspec's clients is used: its extra, its options and its errors."""

from __future__ import annotations

import functools
import importlib
from collections.abc import Mapping
from dataclasses import dataclass, field

from converter.errors import StorageError, UsageError
from converter.storage.store import BLOCK

CONCURRENCY = 4  # parts of an upload in memory
SECONDS = 60  # without a byte

Options = Mapping[str, object]


@dataclass(frozen=True, slots=True, kw_only=True)
class Client:
    """How a client is used.

    Attributes:
        packages: what ``pip install`` needs.
        atomic: whether an upload appears when it is complete; otherwise it is renamed.
        writable: whether files can be uploaded.
        put: options of an upload.
        read: options of ``open`` for reading.
        errors: the exceptions other than ``OSError``, as ``module:class``.
        denied: those of them that concern credentials.
    """

    packages: str = ""
    atomic: bool = False
    writable: bool = True
    put: Options = field(default_factory=dict)
    read: Options = field(default_factory=lambda: {"block_size": BLOCK, "cache_type": "none"})
    errors: tuple[str, ...] = ()
    denied: tuple[str, ...] = ()


S3 = Client(
    packages="gluon2torch[s3]",
    atomic=True,
    put={"chunksize": BLOCK, "max_concurrency": CONCURRENCY},
    errors=("botocore.exceptions:BotoCoreError", "aiohttp:ClientError"),
    denied=(
        "botocore.exceptions:NoCredentialsError",
        "botocore.exceptions:PartialCredentialsError",
        "botocore.exceptions:CredentialRetrievalError",
        "botocore.exceptions:ProfileNotFound",
    ),
)
GCS = Client(
    packages="gluon2torch[gcs]",
    atomic=True,
    put={"chunksize": BLOCK},
    errors=("gcsfs.retry:HttpError", "google.auth.exceptions:GoogleAuthError", "aiohttp:ClientError"),
    denied=("google.auth.exceptions:GoogleAuthError",),
)
AZURE = Client(
    packages="gluon2torch[azure]",
    atomic=True,
    put={"max_concurrency": CONCURRENCY},
    errors=("azure.core.exceptions:AzureError",),
    denied=("azure.core.exceptions:ClientAuthenticationError",),
)
HUB = Client(packages="gluon2torch[hub]", atomic=True, errors=("huggingface_hub.errors:HfHubHTTPError",))
WEB = Client(
    packages="gluon2torch[http]",
    writable=False,
    read={"block_size": 0},  # one request: a server need not support ranges
    errors=("aiohttp:ClientError",),
)
RENAMED = Client()  # whose rename replaces a file
OTHER = Client(writable=False)  # a rename can be a copy, or fail if the file exists

CLIENTS = {
    **dict.fromkeys(("s3", "s3a"), S3),
    **dict.fromkeys(("gs", "gcs"), GCS),
    **dict.fromkeys(("az", "abfs", "abfss"), AZURE),
    **dict.fromkeys(("http", "https"), WEB),
    **dict.fromkeys(("memory", "sftp", "ssh"), RENAMED),
    "hf": HUB,
}


def client(scheme: str) -> Client:
    """Return how the client of a scheme is used."""
    return CLIENTS.get(scheme, OTHER)


def require_installed(scheme: str) -> None:
    """Check that fsspec knows a scheme, and that its client can be imported.

    Raises:
        UsageError: if fsspec does not know the scheme.
        StorageError: if a package is missing.
    """
    try:
        import fsspec  # noqa: PLC0415 - only remote stores need it

        fsspec.get_filesystem_class(scheme)
    except ImportError as error:
        packages = client(scheme).packages or "fsspec"
        reason = str(error).splitlines()[0]
        raise StorageError(
            f"{scheme}:// needs a package that cannot be imported: {reason}\n"
            f'  try         pip install "{packages}"'
        ) from error
    except ValueError as error:
        known = "a folder, s3://, gs://, abfs://, hf://, https://"
        raise UsageError(
            f"{scheme}://: unknown scheme; expected {known} or another that fsspec knows"
        ) from error


def options(scheme: str) -> dict[str, object]:
    """Return the options of a client; credentials come from the environment."""
    if client(scheme) is WEB:
        import aiohttp  # noqa: PLC0415 - only this client needs it

        # By default, aiohttp limits the time of a whole download to five minutes.
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=SECONDS, sock_read=SECONDS)
        return {"client_kwargs": {"timeout": timeout, "trust_env": True}, "use_listings_cache": False}
    return {"use_listings_cache": False}


@functools.cache
def exceptions(names: tuple[str, ...]) -> tuple[type[Exception], ...]:
    """Return exception classes by ``module:class``."""
    found: list[type[Exception]] = []
    for name in names:
        module, _, attribute = name.partition(":")
        found.append(getattr(importlib.import_module(module), attribute))
    return tuple(found)
