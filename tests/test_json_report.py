from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest
import reading
from documents import as_dict, as_document

from converter import __version__
from converter.formats.array_comparison import TensorDiff
from converter.networks.loading import LoadedModel
from converter.parity import json_report
from converter.parity.checkpoint_comparison import CheckpointComparison, WeightsFile
from converter.parity.diagnosis import Diagnosis
from converter.parity.result import LayerDiff, ParityResult, ProbeResult, Statistics
from converter.references.probes import Probe

if TYPE_CHECKING:
    from converter.networks.catalog import Model
    from converter.networks.mapping import Mapping

STATISTICS = Statistics(0.5, 2.0)
DOUBLE, SINGLE = Probe("float64", (65, 95)), Probe("float32", (224, 224), seed=3)
BEYOND = "1 of 2 layers differ, largest difference / deviation inf (limit 1e-12)"


@pytest.fixture
def rows(tiny_mapping: Mapping) -> tuple[LayerDiff, LayerDiff]:
    """Return the first two layers, which agree."""
    conv, bn = (
        LayerDiff(layer, 1e-12, 2e-15, 1e-15, STATISTICS, STATISTICS) for layer in tiny_mapping.layers[:2]
    )
    return conv, bn


@pytest.fixture
def agreeing(tiny: Model, tiny_mapping: Mapping, rows: tuple[LayerDiff, LayerDiff]) -> CheckpointComparison:
    return CheckpointComparison(
        LoadedModel(tiny, tiny_mapping, {}, {}, reading.without_file()),
        "trained.pth",
        WeightsFile("trained.pth", "5ac1"),
        ParityResult("numpy", {"numpy": "1.26"}, (ProbeResult(DOUBLE, rows), ProbeResult(SINGLE, rows))),
        (),
        None,
    )


@pytest.fixture
def differing(agreeing: CheckpointComparison, rows: tuple[LayerDiff, LayerDiff]) -> CheckpointComparison:
    """Return a comparison with a non-finite second layer, an unreached third and a differing tensor."""
    none = Statistics(np.nan, np.inf)
    broken = replace(rows[1], max_abs=np.inf, relative=np.inf, module=none, remark="not finite in the module")
    check = ProbeResult(
        DOUBLE, (rows[0], broken), ("features.5.0", "features.5.1"), "the module failed: enough"
    )
    return replace(
        agreeing,
        proof=replace(agreeing.proof, checks=(check, agreeing.proof.checks[1])),
        tensors=(TensorDiff("bn1.bias", ((64,), (64,)), ("float32", "float32"), 3, 64, None),),
        diagnosis=Diagnosis(DOUBLE, broken, ("bn1.bias: 3 of 64 elements differ, some not finite",)),
    )


def test_document_names_everything_compared(agreeing: CheckpointComparison, tiny_mapping: Mapping) -> None:
    document = as_dict(json_report.build(agreeing))
    assert [(check.pop("size"), len(check.pop("layers"))) for check in document["checks"]] == [
        ("65x95", 2),
        ("224x224", 2),
    ]
    diagram = document["diagram"]
    assert (diagram["check"], diagram["compared"], diagram["culprit"]) == (0, "end to end", None)
    assert [box["target"] for box in diagram["boxes"]] == [layer.target for layer in tiny_mapping.layers]
    summary = "2 layers agree, largest difference / deviation 1e-15 (limit 1e-12)"
    assert document == {
        "model": "tiny",
        "agrees": True,
        "source": {
            "file": "holiday.params",
            "sha1": "5ac1",
            "official": False,
            "symbol": None,
            "symbol_sha256": None,
        },
        "beside": "trained.pth",
        "weights": {"file": "trained.pth", "sha256": "5ac1"},
        "mapping": {"file": "resnext.toml", "sha256": tiny_mapping.sha256},
        "reference": {"name": "numpy", "definition": None, "versions": {"numpy": "1.26"}},
        "tensors": {"compared": 102, "apart": []},
        "blind": [],
        "checks": [
            {"dtype": "float64", "seed": 0, "agrees": True, "summary": summary, "failure": ""},
            {"dtype": "float32", "seed": 3, "agrees": True, "summary": summary, "failure": ""},
        ],
        "diagnosis": None,
        "version": __version__,
        "state_dict": {"key": None, "prefix": None, "ignored": []},
        "diagram": diagram,
    }


def test_every_layer_of_a_check_is_a_row(agreeing: CheckpointComparison) -> None:
    layers = as_dict(json_report.build(agreeing))["checks"][0]["layers"]
    assert layers[0] == {
        "source": "features.0",
        "target": "conv1",
        "kind": "conv",
        "part": "stem",
        "agrees": True,
        "max_abs": 2e-15,
        "relative": 1e-15,
        "limit": 1e-12,
        "reference": {"mean": 0.5, "deviation": 2.0},
        "module": {"mean": 0.5, "deviation": 2.0},
        "settings": [],
        "remark": "",
        "compared": "",
        "decisive": True,
    }
    assert layers[1]["target"] == "bn1"


def test_document_is_strict_json_despite_nonfinite_numbers(differing: CheckpointComparison) -> None:
    document = as_dict(json_report.build(differing))
    assert json.loads(json.dumps(document, allow_nan=False)) == document
    row = document["checks"][0]["layers"][1]
    assert (row["max_abs"], row["relative"]) == (None, None)
    assert row["module"] == {"mean": None, "deviation": None}
    assert row["remark"] == "not finite in the module"


def test_document_lists_every_difference(differing: CheckpointComparison) -> None:
    document = as_dict(json_report.build(differing))
    assert document["agrees"] is False
    assert [check["agrees"] for check in document["checks"]] == [False, True]
    text = "3 of 64 elements differ, some not finite"
    assert document["tensors"]["apart"] == [{"name": "bn1.bias", "found": text}]
    assert document["blind"] == ["features.5.0", "features.5.1"]
    assert document["diagnosis"] == {
        "dtype": "float64",
        "size": "65x95",
        "layer": document["checks"][0]["layers"][1],
        "suspicions": [f"bn1.bias: {text}"],
        "text": (
            "  first mismatch  features.1 → bn1 (batchnorm), float64 at 65x95: not finite in the module\n"
            "    reference  mean 0.5, deviation 2\n"
            "    module     mean nan, deviation inf\n"
            f"    suspect    bn1.bias: {text}"
        ),
        "samples": None,
    }
    assert document["diagram"]["culprit"] == 1


def test_conversion_itself_has_no_weights_file(agreeing: CheckpointComparison) -> None:
    document = as_dict(json_report.build(replace(agreeing, target_name="the conversion", weights=None)))
    assert document["weights"] is None
    assert json_report.sentence(as_document(document)).startswith("the conversion and holiday.params: ")


def test_verdict_is_a_sentence(agreeing: CheckpointComparison, differing: CheckpointComparison) -> None:
    assert json_report.sentence(json_report.build(agreeing)) == (
        "trained.pth and holiday.params: 102 of 102 tensors equal, "
        "2 layers compared with the built-in NumPy reference, 2 of 2 checks passed"
    )
    assert json_report.sentence(json_report.build(differing)) == (
        "trained.pth and holiday.params: 101 of 102 tensors equal, "
        "2 layers compared with the built-in NumPy reference, 1 of 2 checks passed"
    )


def test_verdict_counts_the_layers_of_the_deepest_check(
    agreeing: CheckpointComparison, rows: tuple[LayerDiff, LayerDiff]
) -> None:
    proof = ParityResult(
        "gluon", {}, (ProbeResult(DOUBLE, rows[:1], failure="stopped"), ProbeResult(SINGLE, rows))
    )
    sentence = json_report.sentence(json_report.build(replace(agreeing, proof=proof)))
    assert "2 layers compared with GluonCV, 1 of 2 checks" in sentence


def test_agreement_has_no_problems(agreeing: CheckpointComparison) -> None:
    assert json_report.problems(json_report.build(agreeing)) == []


def test_every_problem_is_listed(differing: CheckpointComparison) -> None:
    lines = json_report.problems(json_report.build(differing))
    assert lines == [
        "1 tensor differs",
        "  bn1.bias  3 of 64 elements differ, some not finite",
        f"float64 at 65x95: {BEYOND}; the module failed: enough",
        *str(differing.diagnosis).split("\n"),
        "these layers prove nothing: their outputs do not depend on their weights",
        "  features.5.{0…1}",
    ]


def test_check_without_layers_gives_its_reason(agreeing: CheckpointComparison) -> None:
    proof = replace(agreeing.proof, checks=(ProbeResult(DOUBLE, (), failure="the module failed: at once"),))
    document = as_dict(json_report.build(replace(agreeing, proof=proof)))
    assert document["agrees"] is False
    assert json_report.problems(as_document(document)) == ["float64 at 65x95: the module failed: at once"]
    assert "0 layers compared" in json_report.sentence(as_document(document))


def test_no_checks_means_no_agreement(agreeing: CheckpointComparison) -> None:
    document = as_dict(json_report.build(replace(agreeing, proof=replace(agreeing.proof, checks=()))))
    assert document["agrees"] is False
    assert "0 layers compared" in json_report.sentence(as_document(document))
    assert json_report.sentence(as_document(document)).endswith(" 0 of 0 checks passed")


@pytest.mark.parametrize(("count", "cut"), [(20, []), (21, ["  and 1 more"]), (50, ["  and 30 more"])])
def test_long_tensor_list_is_cut_only_in_text(
    count: int, cut: list[str], agreeing: CheckpointComparison
) -> None:
    tensor_diff = TensorDiff("a", ((1,), (2,)), ("float32", "float32"), None, 1, None)
    document = as_dict(json_report.build(replace(agreeing, tensors=(tensor_diff,) * count)))
    assert len(document["tensors"]["apart"]) == count
    assert json_report.problems(as_document(document)) == [
        f"{count} tensors differ",
        *["  a  shape (1,) vs (2,)"] * 20,
        *cut,
    ]
