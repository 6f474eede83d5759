"""Report a parity check to GitHub Actions: a step summary, and an error annotation if it fails.

Source: docs.github.com, "Workflow commands for GitHub Actions".
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import TYPE_CHECKING

from converter.parity import json_report
from converter.storage import disk

if TYPE_CHECKING:
    from collections.abc import Callable

    from converter.parity.json_report import Document

MARKUP = re.compile(r"[\\`*_\[\]<>|#&~$]")  # special characters in Markdown, HTML and formulas


def write_summary(document: Document, echo: Callable[[str], None]) -> None:
    """Append the result to the step summary and, if the check failed, ``echo`` an error annotation.

    Outside GitHub Actions this does nothing.

    Raises:
        StorageError: if the summary cannot be written.
    """
    if os.environ.get("GITHUB_ACTIONS") != "true":
        return
    if summary := os.environ.get("GITHUB_STEP_SUMMARY"):
        path = Path(summary)
        with disk.writing(path), path.open("a", encoding="utf-8") as stream:
            stream.write(markdown(document))
    if not document.agrees:
        echo(annotation(document))


def markdown(document: Document) -> str:
    """Return the verdict, a table of the checks and the problems, as Markdown."""
    mark = "✅" if document.agrees else "❌"
    lines = [
        f"### {mark} parity of {document.model}",
        "",
        _plain(json_report.sentence(document)),
        "",
        "| check | layers | result |",
        "|---|---|---|",
        *(
            f"| {check.dtype} at {check.size} | {len(check.layers)} | {_plain(check.summary)} |"
            for check in document.checks
        ),
    ]
    if problems := json_report.problems(document):
        lines += ["", "```text", *(line.replace("```", "'''") for line in problems), "```"]
    return "\n".join(lines) + "\n\n"


def annotation(document: Document) -> str:
    """Return the workflow command for an error annotation on the job."""
    message = "\n".join([json_report.sentence(document), *json_report.problems(document)])
    return f"::error title=parity of {document.model}::{_escape(message)}"


def _escape(text: str) -> str:
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _plain(text: str) -> str:
    """Escape text, such as a file's name, so that it is not read as Markdown or HTML."""
    return MARKUP.sub(r"\\\g<0>", " ".join(text.splitlines()))
