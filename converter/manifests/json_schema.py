"""The JSON Schema of manifests, from their structs."""

from __future__ import annotations

import inspect
import json
import re
from typing import Any

import msgspec
import msgspec.structs
from msgspec import Struct

from converter.manifests.schema import Manifest, TrainedManifest

DIALECT = "https://json-schema.org/draft/2020-12/schema"


def json_schema() -> dict[str, Any]:
    """Return the JSON Schema of manifests, which docs/manifest.schema.json publishes."""
    manifests, definitions = msgspec.json.schema_components(
        [Manifest, TrainedManifest], ref_template="#/$defs/{name}"
    )
    return {"$schema": DIALECT, "anyOf": list(manifests), "$defs": described(definitions)}


def described(definitions: dict[str, Any]) -> dict[str, Any]:
    """Return the definitions of structs, with their docstrings' attributes as descriptions of the keys."""
    # In ECMAScript, $ matches only the end.
    result: dict[str, Any] = json.loads(json.dumps(definitions).replace(r"\\Z", "$"))
    keys = {
        struct.__name__: {field.name: field.encode_name for field in msgspec.structs.fields(struct)}
        for struct in Struct.__subclasses__()
    }
    for title, definition in result.items():
        summary, _, attributes = inspect.cleandoc(definition["description"]).partition("\n\nAttributes:\n")
        definition["description"] = summary
        for line in re.sub(r"\n {5,}", " ", attributes).splitlines():
            name, _, description = line.strip().partition(": ")
            key = keys.get(title, {}).get(name, name)
            definition["properties"][key]["description"] = description
    return result
