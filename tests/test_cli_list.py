"""`gluon2torch list`: families, models and figures on the screen and as JSON."""

from __future__ import annotations

import json
from typing import Any

import pytest
from typer.testing import CliRunner

from converter.cli.app import app
from converter.networks import catalog, families, zoo

KEYS = {
    *("model", "gluon", "parameters", "params_sha1", "published", "note", "computed", "input"),
    *("published_source", "task", "family", "target", "convertible", "target_names", "mapping"),
    *("proven_against", "figures", "reason"),
}


@pytest.fixture
def runner(monkeypatch: pytest.MonkeyPatch) -> CliRunner:
    monkeypatch.setenv("COLUMNS", "80")
    return CliRunner()


def lines(runner: CliRunner, *arguments: str) -> list[list[str]]:
    """Return the words of each line that a command prints."""
    result = runner.invoke(app, ["list", *arguments])
    assert result.exit_code == 0, result.stderr
    return [line.split() for line in result.stdout.splitlines()]


def documents(runner: CliRunner, *arguments: str) -> dict[str, dict[str, Any]]:
    result = runner.invoke(app, ["list", *arguments, "--json"])
    assert result.exit_code == 0, result.stderr
    return {document["model"]: document for document in json.loads(result.stdout)}


def refusal(runner: CliRunner, *arguments: str) -> str:
    result = runner.invoke(app, ["list", *arguments])
    assert (result.exit_code, result.stdout) == (1, "")
    return result.stderr


def test_families_are_listed_by_default(runner: CliRunner) -> None:
    rows = lines(runner)
    names = [*families.families()]
    assert [row[0] for row in rows if row[:1] and row[0] in names and len(row) > 1] == names
    assert ["resnet", "25", "17", "5", "gluon_resnet18_v1b"] in rows
    assert ["yolo_v3", "9", "6", "yolo3_darknet53_coco"] in rows
    assert ["siamrpn", "1", "siamrpn_alexnet_v2_otb15"] in rows
    assert ["instance-segmentation"] in rows
    assert len(rows) < 100


def test_model_is_a_row_with_its_figures(runner: CliRunner) -> None:
    rows = lines(runner, "gluon_resnext*")
    assert [*rows[0][:2]] == ["ResNeXt,", "classification:"]
    assert rows[1][:5] == ["native:", "networks", "of", "resnext_torch", "with"]
    headings = ["model", "parameters", "top-1", "top-5", "SHA-1", "in", "timm", "in", "torchvision"]
    name = "resnext101_64x4d"
    row = [f"gluon_{name}", "83,455,272", "80.69", "95.17", "2f0d1c9d", name, name]
    assert headings in rows
    assert row in rows
    assert rows[-1] == ["next", "gluon2torch", "summary", "gluon_resnext50_32x4d"]


def test_rows_are_not_broken_where_the_output_is_no_terminal(runner: CliRunner) -> None:
    name = "monodepth2_resnet18_posenet_kitti_mono_640x192"
    assert [name, "0.021", "0.012", "0.018", "661ee2e1"] in lines(runner, "--task", "depth")


def test_models_of_a_family_are_grouped_by_what_they_become(runner: CliRunner) -> None:
    rows = lines(runner, "--family", "resnet")
    kinds = [row[0] for row in rows if row and row[0] in {"native:", "generated:", "not"}]
    assert kinds == ["native:", "generated:", "not", "not"]
    assert ["not", "by", "name:", "has", "int8", "weights,", "which", "are", "not", "supported"] in rows
    assert ["resnet50_v1", "77.36", "93.57", "cc729d95", "resnet50"] in rows
    assert ["resnet18_v1", "70.93", "89.92", "a0666292", "resnet18"] in rows
    assert ["resnet50_v1_int8", "76.86", "93.46", "—"] in rows


@pytest.mark.parametrize(
    ("arguments", "following"),
    [
        (["--task", "pose"], ["convert", "simple_pose_resnet18_v1b", "OUT"]),
        (["--family", "ssd"], ["convert", "ssd_300_mobilenet0.25_coco", "OUT"]),
        (["*_v1_int8"], ["gluon2torch", "list"]),
        (["--family", "resnet"], ["gluon2torch", "summary", "gluon_resnet18_v1b"]),
        (["squeezenet1.0"], ["convert", "squeezenet1.0", "OUT", "--target", "torchvision"]),
    ],
)
def test_next_command_fits_the_models(runner: CliRunner, arguments: list[str], following: list[str]) -> None:
    assert lines(runner, *arguments)[-1] == ["next", *following]


def test_pattern_matches_both_names_of_a_model(runner: CliRunner) -> None:
    assert documents(runner, "se_resnext50*").keys() == {"gluon_seresnext50_32x4d"}
    assert documents(runner, "gluon_seresnext50*").keys() == {"gluon_seresnext50_32x4d"}
    assert documents(runner, "squeezenet*").keys() == {"squeezenet1.0", "squeezenet1.1"}
    assert documents(runner, "gluon_mobilenet1.0").keys() == {"mobilenet1.0"}
    assert documents(runner, "gluon_*").keys() == catalog.models().keys()


def test_task_family_and_pattern_are_combined(runner: CliRunner) -> None:
    segmentation = documents(runner, "--task", "segmentation")
    assert {document["family"] for document in segmentation.values()} >= {"fcn", "pspnet", "icnet"}
    assert {document["task"] for document in segmentation.values()} == {"segmentation"}
    expected = {"fcn_resnet50_ade", "fcn_resnet101_ade"}
    assert documents(runner, "*_ade", "--task", "segmentation", "--family", "fcn").keys() == expected


def test_json_describes_native_models_by_default_and_all_by_a_pattern(runner: CliRunner) -> None:
    assert documents(runner).keys() == catalog.models().keys()
    everything = documents(runner, "*")
    assert {document["gluon"] for document in everything.values()} == zoo.models().keys()
    assert all(document.keys() == KEYS for document in everything.values())


def test_json_describes_a_native_model(runner: CliRunner) -> None:
    described = documents(runner, "gluon_resnet50_v1b")["gluon_resnet50_v1b"]
    expected = {
        "gluon": "resnet50_v1b",
        "task": "classification",
        "family": "resnet",
        "target": "native",
        "convertible": True,
        "reason": None,
        "target_names": {
            "resnext_torch": "gluon_resnet50_v1b",
            "timm": "resnet50",
            "torchvision": "resnet50",
        },
        "mapping": "resnet.toml",
        "proven_against": "gluoncv",
        "figures": {"top-1": 77.67, "top-5": 93.82},
        "published_source": "GluonCV model zoo, ImageNet-1k validation, 224 px centre crop",
    }
    assert expected.items() <= described.items()


def test_json_describes_a_model_that_is_in_gluoncv_only(runner: CliRunner) -> None:
    assert documents(runner, "fcn_resnet50_ade")["fcn_resnet50_ade"] == {
        "model": "fcn_resnet50_ade",
        "gluon": "fcn_resnet50_ade",
        "task": "segmentation",
        "family": "fcn",
        "target": "generated",
        "convertible": True,
        "reason": None,
        "target_names": None,
        "mapping": None,
        "proven_against": "graph",
        "parameters": None,
        "params_sha1": "3479525af7bdbf345e74e150aaae2e48174c0c5f",
        "published": {"top1": None, "top5": None},
        "figures": {"mIoU": 39.5, "pixel accuracy": 79.0},
        "note": None,
        "computed": None,
        "input": None,
        "published_source": "GluonCV model zoo, ADE20K",
    }


def test_json_says_why_a_model_is_not_converted(runner: CliRunner) -> None:
    described = documents(runner, "mobilenet1.0_int8")["mobilenet1.0_int8"]
    expected = {
        "target": None,
        "convertible": False,
        "reason": "has int8 weights, which are not supported",
        "proven_against": None,
        "figures": {"top-1": 72.85, "top-5": 90.99},
    }
    assert expected.items() <= described.items()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["resnxt*"], "no model matches 'resnxt*'; try gluon2torch list"),
        (["mobilnet1.0"], "unknown model 'mobilnet1.0'; did you mean mobilenet1.0?"),
        (["resnet50"], "unknown model 'resnet50'; did you mean gluon_resnet50_v1b?"),
        (["fcn*", "--task", "pose"], "no model of task pose matches 'fcn*'; try gluon2torch list"),
        (
            ["--task", "pose", "--family", "fcn"],
            "no model of task pose and family fcn matches '*'; try gluon2torch list",
        ),
    ],
)
def test_selection_without_a_model_is_refused(runner: CliRunner, arguments: list[str], message: str) -> None:
    assert refusal(runner, *arguments).startswith(f"refused  {message}")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--family", "restnet"], "--family: unknown family 'restnet'; did you mean resnet?"),
        (["--family", "zzz"], "--family: unknown family 'zzz'; try gluon2torch list"),
        (["--task", "reading"], "'reading' is not one of 'classification', 'segmentation',"),
    ],
)
def test_unknown_task_or_family_is_a_usage_error(
    runner: CliRunner, arguments: list[str], message: str
) -> None:
    result = runner.invoke(app, ["list", *arguments])
    assert result.exit_code == 2
    assert message in " ".join(result.stderr.replace("│", "").split())


def test_list_as_json_separates_published_figures(runner: CliRunner) -> None:
    by_name = documents(runner)
    expected = {
        "model": "gluon_resnext50_32x4d",
        "gluon": "resnext50_32x4d",
        "parameters": 25028904,
        "params_sha1": "4ecf62e29336e0cbc5a2f844652635a330928b5a",
        "published": {"top1": 79.32, "top5": 94.53},
        "note": None,
    }
    assert expected.items() <= by_name["gluon_resnext50_32x4d"].items()
    assert "timm's senet154 pads" in by_name["gluon_senet154"]["note"]
    assert by_name["gluon_resnet50_v1e"]["published"] == {"top1": None, "top5": None}


def test_list_selects_by_pattern_in_the_order_of_the_catalog(runner: CliRunner) -> None:
    models = documents(runner, "gluon_resnext*")
    assert [*models] == catalog.list_models("gluon_resnext*")
    assert len(models) == 4


def test_json_names_the_module_of_another_package(runner: CliRunner) -> None:
    described = documents(runner, "vgg11")["vgg11"]
    assert described["target_names"] == {"resnext_torch": None, "timm": None, "torchvision": "vgg11"}
    assert described["mapping"] == "targets/torchvision/vgg11.toml"
