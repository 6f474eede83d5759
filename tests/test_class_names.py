"""Class names accompany the weights in every kind of file and folder."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING

import pytest

from converter.commands import conversion, publication
from converter.errors import LabelsError
from converter.networks import catalog
from converter.networks.selection import ParamsSource
from converter.parity.options import ParityOptions
from converter.vision import classifier
from resnext_torch import weight_files

if TYPE_CHECKING:
    from pathlib import Path

NAME = "gluon_cifar_resnext29_32x4d"
LABELS = tuple(f"kind {number}" for number in range(10))


@pytest.fixture(scope="module")
def converted(tmp_path_factory: pytest.TempPathFactory) -> conversion.ConversionResult:
    folder = tmp_path_factory.mktemp("converted")
    (folder / "classes.txt").write_text("\n".join(LABELS))
    source = ParamsSource(catalog.find(NAME), seed=0)
    request = conversion.ConversionRequest(
        source=source,
        out=folder / "out",
        options=ParityOptions("none"),
        labels=folder / "classes.txt",
        pth=True,
    )
    return conversion.run(request)


def labels(place: Path) -> tuple[str, ...]:
    return classifier.load(classifier.ClassifierOptions(place)).labels


def test_artifact_pth_and_folder_have_the_manifests_class_names(
    converted: conversion.ConversionResult,
) -> None:
    assert converted.pth is not None
    assert labels(converted.artifact) == LABELS
    assert labels(converted.pth) == LABELS
    assert labels(converted.artifact.parent) == LABELS


def test_published_folder_has_the_class_names(converted: conversion.ConversionResult, tmp_path: Path) -> None:
    request = publication.PublicationRequest(
        files=(converted.artifact,), folder=tmp_path / "published", allow_random=True, allow_unproven=True
    )
    publication.run(request)
    assert labels(tmp_path / "published") == LABELS


def test_manifest_of_other_weights_is_ignored(converted: conversion.ConversionResult, tmp_path: Path) -> None:
    content = bytearray(converted.artifact.read_bytes())
    content[-1] ^= 1
    (tmp_path / converted.artifact.name).write_bytes(content)
    (tmp_path / converted.manifest_file.name).write_bytes(converted.manifest_file.read_bytes())
    assert labels(tmp_path / converted.artifact.name) == ()


def test_manifest_of_overwritten_weights_is_ignored(
    converted: conversion.ConversionResult, tmp_path: Path
) -> None:
    """The name ``model.safetensors`` says nothing about the content."""
    weights = tmp_path / "model.safetensors"
    weights.write_bytes(converted.artifact.read_bytes())
    document = json.loads(converted.manifest_file.read_bytes())
    document["artifact"]["file"] = weights.name
    weights.with_suffix(".json").write_text(json.dumps(document))
    assert weight_files.class_names(weights) == LABELS
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    assert weight_files.class_names(weights) == ()


def test_labels_file_next_to_the_weights_is_used(
    converted: conversion.ConversionResult, tmp_path: Path
) -> None:
    (tmp_path / "model.safetensors").write_bytes(converted.artifact.read_bytes())
    assert labels(tmp_path) == ()
    (tmp_path / "labels.txt").write_text("\n".join(reversed(LABELS)))
    assert labels(tmp_path) == LABELS[::-1]
    (tmp_path / "labels.txt").write_text("cat\ndog")
    with pytest.raises(LabelsError, match="expected 10 class names"):
        labels(tmp_path)


def test_fifo_and_invalid_manifest_are_skipped(
    converted: conversion.ConversionResult, tmp_path: Path
) -> None:
    (tmp_path / "model.safetensors").write_bytes(converted.artifact.read_bytes())
    os.mkfifo(tmp_path / "a.json")
    (tmp_path / "aa.json").write_bytes(b'{"artifact": "\xff"}')
    (tmp_path / "b.json").write_bytes(converted.manifest_file.read_bytes())
    assert labels(tmp_path) == LABELS
