"""``convert NAME --format onnx`` and ``pt2``: one file with a model's network and weights."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch

from converter.commands import conversion, verification
from converter.errors import ArtifactError
from converter.formats import program_file
from converter.parity.options import ParityOptions
from resnext_torch import create_model

if TYPE_CHECKING:
    from pathlib import Path

    from converter.commands.conversion import ConversionResult

NAME = "gluon_cifar_resnext29_32x4d"  # its images have 32 × 32 pixels
UNPROVEN = ParityOptions("none")
LIMIT = 1e-5  # relative to the standard deviation of the logits; measured 3e-7


def convert(out: Path, *exports: str) -> ConversionResult:
    return conversion.convert(NAME, out, random=0, exports=exports, options=UNPROVEN)


@pytest.fixture(scope="module")
def converted(tmp_path_factory: pytest.TempPathFactory) -> ConversionResult:
    return convert(tmp_path_factory.mktemp("exported"), "pt2")


def test_exported_model_computes_the_logits_of_the_module(converted: ConversionResult) -> None:
    images = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(1)).numpy()
    (path,) = converted.more
    (logits,) = program_file.run(path, images)
    (expected,) = program_file.outputs(create_model(NAME, weights=converted.artifact).eval(), images)
    assert np.abs(logits - expected).max() < LIMIT * expected.std()
    (record,) = json.loads(converted.manifest_file.read_text())["artifact"]["exports"]
    assert (record["file"], record["reference"]) == (path.name, "module")
    assert (record["shape"], record["dynamic_batch"]) == ([1, 3, 32, 32], True)
    assert path.name.startswith(f"{NAME}.random-")


def test_verification_covers_the_exported_file(converted: ConversionResult, tmp_path: Path) -> None:
    for path in (converted.artifact, converted.manifest_file, *converted.more):
        (tmp_path / path.name).write_bytes(path.read_bytes())
    assert verification.verify(tmp_path).holds
    (exported,) = tmp_path.glob("*.pt2")
    content = bytearray(exported.read_bytes())
    content[len(content) // 2] ^= 1
    exported.write_bytes(content)
    assert not verification.verify(tmp_path).holds


def test_conversion_without_the_exported_file_does_not_replace_the_manifest(
    converted: ConversionResult,
) -> None:
    with pytest.raises(ArtifactError, match=r"the same weights with a \.pt2, which this run would discard"):
        convert(converted.artifact.parent)
