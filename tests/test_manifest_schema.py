"""The schema of manifests: what is written, what is read, and what docs/manifest.schema.json publishes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec
import pytest

from converter.errors import ArtifactError
from converter.manifests import json_schema, schema

PUBLISHED = Path(__file__).parents[1] / "docs" / "manifest.schema.json"
OLDEST: dict[str, Any] = {  # the keys that every version wrote
    "model": "gluon_resnext50_32x4d",
    "source": {"file": "a.params", "sha1": "0" * 40, "official": False},
    "mapping": {"file": "resnext.toml", "sha256": "0" * 64},
    "artifact": {
        "file": "a.safetensors",
        "sha256": "0" * 64,
        "bytes": 1,
        "dtypes": ["float32"],
        "tensors": 1,
        "parameters": 1,
    },
    "parity": {"proven": False, "reference": "none", "versions": {}, "checks": []},
    "labels": None,
    "version": "0.1.0",
}


def read(tmp_path: Path, document: dict[str, Any]) -> schema.Manifest:
    path = tmp_path / "a.json"
    path.write_text(json.dumps(document))
    return schema.read(path)[0]


def test_published_schema_is_current() -> None:
    assert json.loads(PUBLISHED.read_text()) == json_schema.json_schema()


def test_every_key_of_the_published_schema_has_a_type() -> None:
    definitions = json_schema.json_schema()["$defs"]
    assert definitions.keys() >= {"Manifest", "SourceRecord", "ArtifactRecord", "ParityRecord"}
    assert definitions.keys() >= {"TrainedManifest", "TrainingRecord", "BaseRecord", "MetricsRecord"}
    for definition in definitions.values():
        assert definition["description"]
        for key in definition["properties"].values():
            assert {"type", "$ref", "anyOf", "enum"} & key.keys()


def test_patterns_of_the_published_schema_are_ecmascript() -> None:
    assert "\\Z" not in PUBLISHED.read_text()
    assert (
        json_schema.json_schema()["$defs"]["SourceRecord"]["properties"]["sha1"]["pattern"]
        == "^[0-9a-f]{40}$"
    )


def test_encoded_manifest_has_sorted_keys_and_reads_back(tmp_path: Path) -> None:
    manifest = msgspec.structs.replace(read(tmp_path, OLDEST), labels=("×",), schema_version=schema.VERSION)
    text = schema.encode(manifest).decode()
    assert text.startswith('{\n  "artifact": {\n    "bytes": 1,\n')
    assert '"labels": [\n    "×"\n  ]' in text
    assert text.endswith("}\n")
    assert read(tmp_path, json.loads(text)) == manifest


def test_absent_parts_are_not_written(tmp_path: Path) -> None:
    document = json.loads(schema.encode(read(tmp_path, OLDEST)))
    assert not {"narrowing", "schema_version"} & document.keys()
    assert "pth" not in document["artifact"]
    assert document["labels"] is None
    assert document["source"]["symbol"] is None


def test_manifest_of_a_newer_schema_is_refused(tmp_path: Path) -> None:
    read(tmp_path, OLDEST | {"schema_version": schema.VERSION})
    with pytest.raises(ArtifactError, match=r"a\.json: manifest schema 2; this version .* reads up to 1\n"):
        read(tmp_path, OLDEST | {"schema_version": schema.VERSION + 1})


def test_manifest_without_labels_is_read(tmp_path: Path) -> None:
    document = {name: value for name, value in OLDEST.items() if name != "labels"}
    assert read(tmp_path, document).labels is None


@pytest.mark.parametrize("key", sorted(OLDEST.keys() - {"labels"}))
def test_missing_key_is_refused(key: str, tmp_path: Path) -> None:
    document = {name: value for name, value in OLDEST.items() if name != key}
    with pytest.raises(ArtifactError, match=f"not a manifest: .*`{key}`"):
        read(tmp_path, document)
