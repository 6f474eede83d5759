"""The published JSON Schema of what the commands print with ``--json``, and the documents themselves."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import pytest
from typer.testing import CliRunner

from converter.cli.app import COMMANDS, app
from converter.commands import json_schema
from converter.manifests import json_schema as manifest_schema

if TYPE_CHECKING:
    from collections.abc import Callable

DOCS = Path(__file__).parents[1] / "docs"
PUBLISHED = DOCS / "commands.schema.json"
NAME = "gluon_cifar_resnext29_32x4d"
RANDOM = ["--random", "0", "--reference", "none"]
FAST = ["--random", "0", "--reference", "numpy", "--size", "32", "--proof-dtype", "float32"]


def test_published_schema_is_current() -> None:
    assert json.loads(PUBLISHED.read_text(encoding="utf-8")) == json_schema.json_schema()


def test_every_command_has_a_document() -> None:
    assert json_schema.DOCUMENTS.keys() == COMMANDS.keys()


def test_page_names_every_command() -> None:
    page = (DOCS / "json.md").read_text(encoding="utf-8")
    assert [name for name in json_schema.DOCUMENTS if f"| `{name}` |" not in page] == []


def test_every_key_has_a_type_and_every_definition_a_description() -> None:
    for name, definition in json_schema.json_schema()["$defs"].items():
        assert definition["description"], name
        for key in definition.get("properties", {}).values():
            assert {"type", "$ref", "anyOf", "enum"} & key.keys(), name


def test_renamed_keys_are_described() -> None:
    definitions = json_schema.json_schema()["$defs"]
    assert definitions["Document"]["properties"]["beside"]["description"].startswith("name of the compared")
    assert "different" not in definitions["DiffRecord"]["properties"]
    assert definitions["DiffRecord"]["properties"]["apart"]["description"]


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A converted file."""
    out = tmp_path_factory.mktemp("schema") / "out"
    assert CliRunner().invoke(app, ["convert", NAME, str(out), *RANDOM]).exit_code == 0
    (artifact,) = out.glob("*.safetensors")
    return artifact


def keys(document: Any, place: dict[str, Any], definitions: dict[str, Any]) -> list[str]:  # noqa: ANN401 - JSON
    """Return the keys of a document that the schema does not have."""
    options = [place, *place.get("anyOf", ())]
    options += [definitions[each["$ref"].rpartition("/")[2]] for each in options if "$ref" in each]
    if isinstance(document, list):
        arrays = [(*each.get("prefixItems", ()), each.get("items")) for each in options]
        items: dict[str, Any] = next((found for each in arrays for found in each if found), {})
        return [found for item in document for found in keys(item, items, definitions)]
    if not isinstance(document, dict):
        return []
    known = next((each["properties"] for each in options if "properties" in each), None)
    if known is None:
        return []
    unknown = [key for key in document if key not in known]
    common = document.keys() & known.keys()
    return unknown + [found for key in common for found in keys(document[key], known[key], definitions)]


@pytest.mark.parametrize(
    ("command", "arguments"),
    [
        ("convert", lambda _, out: [NAME, out, *RANDOM]),
        ("convert-zoo", lambda _, out: [out, "--models", NAME, *RANDOM]),
        ("diff", lambda file, _: [file, file]),
        ("doctor", lambda *_: []),
        ("inspect", lambda file, _: [file, "--full"]),
        ("inspect", lambda file, _: [file.parent]),
        ("list", lambda *_: ["gluon_senet*"]),
        ("list", lambda *_: ["--task", "depth"]),
        ("parity", lambda *_: [NAME, *FAST]),
        ("publish", lambda file, out: [file, out, "--allow-random", "--allow-unproven"]),
        ("summary", lambda *_: [NAME]),
        ("to-gluon", lambda file, out: [file, out / "a.params", "--reference", "none"]),
        ("verify", lambda file, _: [file]),
    ],
)
def test_documents_have_the_keys_and_types_of_the_schema(
    command: str, arguments: Callable[[Path, Path], list[object]], weights: Path, tmp_path: Path
) -> None:
    words = [command, *map(str, arguments(weights, tmp_path)), "--json"]
    result = CliRunner().invoke(app, words)
    assert result.exit_code == 0, result.stderr
    msgspec.json.decode(result.stdout, type=json_schema.DOCUMENTS[command])
    published = json_schema.json_schema()
    assert keys(json.loads(result.stdout), published["properties"][command], published["$defs"]) == []


def test_unknown_key_is_detected() -> None:
    published = json_schema.json_schema()
    document = {"identical": True, "apart": [{"name": "a", "why": 1}], "more": 1}
    assert keys(document, published["properties"]["diff"], published["$defs"]) == ["more", "why"]


def test_manifests_have_one_schema() -> None:
    assert (
        json_schema.json_schema()["$defs"]["Manifest"] == manifest_schema.json_schema()["$defs"]["Manifest"]
    )
