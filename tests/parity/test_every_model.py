"""A file that GluonCV writes of each named network agrees in every layer, and round-trips byte for byte.

Networks that differ in depth, cardinality or width only take turns, in 16 days; with GRAPH_ZOO=all, all are
tested.
"""

from __future__ import annotations

import hashlib
import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import mxnet_forks
import pytest
import reading
import rotation

from converter.commands import conversion, reverse_conversion
from converter.networks import catalog
from converter.networks.selection import ParamsSource
from converter.parity import comparison, execution, runner
from converter.parity.options import ParityOptions
from converter.parity.result import LIMITS
from converter.references import gluon_child
from converter.references.probes import Probe

if TYPE_CHECKING:
    from collections.abc import Iterator

SIZES = (64, 64), (65, 95)  # even at every stride; odd and rectangular
LARGE_MODEL, LARGE = "gluon_resnext50_32x4d", ((224, 224), SIZES[1])  # GluonCV's own size
CIFAR_SIZES = (16, 16), (17, 23)  # these networks halve an image twice
REPORTED = set(gluon_child.SETTINGS.values())  # the hyper-parameters that GluonCV's own blocks report
UNPROVEN, PROVEN = ParityOptions("none"), ParityOptions("gluon")
PROVEN_MODELS = ["gluon_resnext50_32x4d", "gluon_seresnext50_32x4d", "gluon_resnet50_v1d"]


def kind(name: str) -> object:
    """Return what networks that differ only in depth, number of groups and width have in common."""
    config = catalog.find(name).config
    return replace(config, depths=(), cardinality=min(config.cardinality, 2), width=0)


@pytest.fixture(scope="module", params=rotation.chosen(catalog.models(), kind))
def written(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[str, Path]]:
    """Yield the name of a model and the ``.params`` that GluonCV writes; all of them take 5 GB."""
    folder = tmp_path_factory.mktemp("model")
    mxnet_forks.run(Path(__file__).with_name("gluon_files.py"), folder, request.param)
    file = folder / f"{request.param}.params"
    yield request.param, file
    file.unlink()


def test_module_and_numpy_reference_agree_with_gluoncv_in_every_layer(written: tuple[str, Path]) -> None:
    name, file = written
    prepared = reading.prepare(catalog.find(name), file)
    even, odd = CIFAR_SIZES if "cifar" in name else LARGE if name == LARGE_MODEL else SIZES
    probes = Probe("float32", odd), Probe("float64", even), Probe("float64", odd)
    module = execution.hook_layers(execution.stream(prepared.state, prepared.model.config), prepared.mapping)
    with runner.start_references(
        runner.ReferencePlan(probes=probes, python=Path(sys.executable), fallback=True), prepared
    ) as (
        gluon,
        own,
    ):
        proof = runner.prove((gluon,), module, prepared)
        assert (proof.reference, proof.passed) == ("gluon", True)
        assert proof.versions["mxnet"] == "1.9.1"
        assert proof.versions["gluoncv"] == "0.10.5.post0"
        assert proof.versions.keys() == {"gluoncv", "mxnet", "numpy", "python", "torch"}
        for number, check in enumerate(proof.checks):
            assert [row.layer for row in check.rows] == list(prepared.mapping.layers)
            computed = {output.layer: output for output in own.outputs(number)}
            limits = {row.layer.source: row.limit for row in check.rows}
            rows = [
                comparison.layer_diff(layer, limits[layer.source], theirs.array, computed[theirs.layer].array)
                for layer, theirs in zip(prepared.mapping.layers, gluon.outputs(number), strict=True)
            ]
            assert all(row.agrees for row in rows)
            for theirs in gluon.outputs(number):
                settings = computed[theirs.layer].settings
                assert {key: settings[key] for key in settings.keys() & REPORTED} == {
                    key: theirs.settings[key] for key in settings.keys() & REPORTED
                }
            measured = {"module": check.worst.relative, "logits": check.rows[-1].relative}
            measured["numpy"] = max(row.relative for row in rows)
            print(json.dumps({name: {str(check.probe): measured}}))  # noqa: T201 - for the log


def sha1(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha1").hexdigest()


def test_gluoncv_file_round_trips_byte_for_byte(written: tuple[str, Path], tmp_path: Path) -> None:
    name, params = written
    artifact = conversion.run(
        conversion.ConversionRequest(source=ParamsSource(None, params), out=tmp_path, options=UNPROVEN)
    ).artifact
    options = PROVEN if name in PROVEN_MODELS else UNPROVEN
    result = reverse_conversion.run(
        reverse_conversion.ToGluonRequest(weights=artifact, out=tmp_path / "back.params", options=options)
    )
    assert result.name == name
    assert result.sha1 == sha1(params) == sha1(tmp_path / "back.params")
    assert (result.is_original, result.size) == (True, params.stat().st_size)
    assert (result.parity.proven, result.parity.reference) == (
        (True, "gluon") if name in PROVEN_MODELS else (False, "none")
    )
    assert all(0 < check.relative <= LIMITS[check.dtype] for check in result.parity.checks)
