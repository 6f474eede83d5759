"""The JSON Schema of what the commands print with ``--json``."""

from __future__ import annotations

from typing import Any

import msgspec

from converter.commands.batch import Summary
from converter.commands.diff import DiffRecord
from converter.commands.doctor import DoctorReport
from converter.commands.inspection_document import InspectionRecord
from converter.commands.listing_document import ListedModel
from converter.commands.publication import PublishedRecord
from converter.commands.reverse_conversion import WrittenParams
from converter.commands.summary import NetworkSummary
from converter.commands.verification import VerificationRecord
from converter.fleet.rows import FleetSummary
from converter.manifests import json_schema as manifest_schema
from converter.manifests.schema import Manifest
from converter.parity.json_report import Document
from converter.vision.evaluation import EvaluationRecord
from converter.vision.graph_documents import DetectionRecord, SegmentationRecord
from converter.vision.prediction import PredictionRecord

DOCUMENTS: dict[str, Any] = {
    "convert": Manifest,
    "convert-many": FleetSummary,
    "convert-zoo": Summary,
    "diff": DiffRecord,
    "doctor": DoctorReport,
    "evaluate": EvaluationRecord,
    "inspect": InspectionRecord,
    "list": tuple[ListedModel, ...],
    "parity": Document,
    "predict": PredictionRecord | DetectionRecord | SegmentationRecord,
    "publish": tuple[PublishedRecord, ...],
    "summary": NetworkSummary,
    "to-gluon": WrittenParams,
    "verify": VerificationRecord,
}  # by command


def json_schema() -> dict[str, Any]:
    """Return the JSON Schema of every document, as the property of its command.

    docs/commands.schema.json publishes it.
    """
    documents, definitions = msgspec.json.schema_components(
        DOCUMENTS.values(), schema_hook=_any, ref_template="#/$defs/{name}"
    )
    return {
        "$schema": manifest_schema.DIALECT,
        "description": "The documents of gluon2torch COMMAND --json, by command.",
        "properties": dict(zip(DOCUMENTS, documents, strict=True)),
        "$defs": manifest_schema.described(definitions),
    }


def _any(_: type) -> dict[str, Any]:
    """Return the schema of ``object``, the value of a hyper-parameter."""
    return {"type": ["array", "boolean", "null", "number", "string"]}
