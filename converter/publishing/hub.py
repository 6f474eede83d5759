"""Upload published folders to the Hugging Face Hub; the only module that uses huggingface_hub."""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING, Any

from converter.errors import HubError, UsageError

if TYPE_CHECKING:
    from pathlib import Path

REPO = re.compile(r"[\w.-]+/[\w.-]+", re.ASCII)
MESSAGE = "Published by gluon2torch"
SERVER_ERROR = 500  # and above
REASONS = {
    401: "the token was rejected; log in with `hf auth login` or set HF_TOKEN",
    403: "the token has no write access to the repository",
    404: "the repository does not exist, or the token has no access to it",
    409: "the repository was changed at the same time; try again",
}


def require_ready(repo: str) -> None:
    """Check, before any work, that the repository's name is valid and that huggingface_hub and a token exist.

    Raises:
        UsageError: if the name is not ORG/NAME.
        HubError: if the package or a token is missing.
    """
    if not REPO.fullmatch(repo):
        raise UsageError(f"`push`: expected ORG/NAME, found {repo!r}", "push")
    try:
        from huggingface_hub import get_token  # noqa: PLC0415 - an extra
    except ImportError as error:
        raise HubError("--push needs huggingface_hub: pip install 'gluon2torch[hub]'") from error
    if get_token() is None:
        raise HubError("--push needs a token: log in with `hf auth login` or set HF_TOKEN")


def push(folder: Path, repo: str, *, private: bool = False) -> str:
    """Upload a folder to the model repository ``ORG/NAME``, which is created if necessary.

    huggingface_hub finds the token; the environment variable ``HF_ENDPOINT`` selects another Hub.

    Returns:
        The URL of the commit.

    Raises:
        HubError: if the upload fails, with the Hub's answer, or if ``private`` is set and the repository
            is public.
    """
    from huggingface_hub import HfApi  # noqa: PLC0415 - as above
    from huggingface_hub.errors import HfHubHTTPError  # noqa: PLC0415 - as above

    # Errors of huggingface_hub's HTTP client, which depends on its version, of the system, and its own.
    failures: tuple[Any, ...] = (*HfHubHTTPError.__bases__, ValueError, RuntimeError)
    api = HfApi(endpoint=os.environ.get("HF_ENDPOINT"), library_name="gluon2torch")
    try:
        api.create_repo(repo, private=private or None, exist_ok=True)
        if private and not api.repo_info(repo).private:
            raise HubError(f"{repo}: --private was given, but the repository is public; nothing was uploaded")
        return str(api.upload_folder(repo_id=repo, folder_path=folder, commit_message=MESSAGE).commit_url)
    except failures as error:
        raise HubError(
            f"{repo}: the upload failed{_reason(error)}\n  the folder is complete: {folder}"
        ) from error


def _reason(error: BaseException) -> str:
    """Return the reason in one line, and the Hub's own message, if it adds to it, in a second."""
    answer = getattr(error, "response", None)
    if answer is None:
        cause = error.__cause__
        if isinstance(error, RuntimeError) and cause is not None:  # names the file; its cause is why
            return f": {error}{_reason(cause)}".replace(" to the Hub.", "")
        return f": {error or type(error).__name__}"
    message = " ".join((getattr(error, "server_message", None) or "").split())
    status: int = answer.status_code
    reason = REASONS.get(status, "the Hub failed; try again later" if status >= SERVER_ERROR else message)
    return f": the Hub answered {status}: {reason}" + (
        f"\n  {message}" if message and message != reason else ""
    )
