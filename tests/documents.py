"""The JSON documents of parity checks as dictionaries, which tests change, and back."""

from __future__ import annotations

import json
from typing import Any

import msgspec

from converter.parity.json_report import Document


def as_dict(document: Document) -> dict[str, Any]:
    """Return a document as it is read from JSON."""
    result: dict[str, Any] = json.loads(msgspec.json.encode(document))
    return result


def as_document(content: dict[str, Any]) -> Document:
    return msgspec.convert(content, Document)


def diagnosis(content: dict[str, Any], text: str) -> dict[str, Any]:
    """Return a diagnosis of the first layer, with another text."""
    check = content["checks"][0]
    return {
        "dtype": check["dtype"],
        "size": check["size"],
        "layer": check["layers"][0],
        "suspicions": [],
        "text": text,
    }
