from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import pytest
from huggingface_hub import ModelCard

from converter.manifests.converted_file import ConvertedFile
from converter.manifests.schema import (
    ArtifactRecord,
    CheckRecord,
    Manifest,
    MappingRecord,
    ParityRecord,
    SourceRecord,
    WorstLayerRecord,
)
from converter.networks import catalog, figures
from converter.publishing import card
from converter.publishing.card import CardOptions

if TYPE_CHECKING:
    from converter.networks.catalog import Model

NAME = "gluon_resnext50_32x4d"
CHECK = CheckRecord(
    dtype="float64",
    size="65x95",
    seed=0,
    limit=1e-12,
    layers=125,
    max_abs=2e-14,
    relative=1.5e-14,
    worst=WorstLayerRecord(layer="features.5.1.body.4", relative=1.8e-14, limit=1e-12),
)
PROVEN = ParityRecord(
    proven=True, reference="gluon", versions={"mxnet": "1.9.1", "gluoncv": "0.10.5"}, checks=(CHECK,)
)
UNPROVEN = ParityRecord(proven=False, reference="none", versions={}, checks=())
# What the card of the seed has: its headings, and every field of its metadata.
HEADINGS = [
    "How do I use this model on an image?",
    "How do I finetune this model?",
    "How do I train this model?",
    "Citation",
]
FIELDS = [
    *("Type", "Collections", "Name", "Paper", "Title", "URL", "Models", "In Collection", "Metadata", "FLOPs"),
    *("Parameters", "File Size", "Architecture", "Tasks", "Training Data", "ID", "Crop Pct", "Image Size"),
    *("Interpolation", "Code", "Weights", "Results", "Task", "Dataset", "Metrics"),
    *("Top 1 Accuracy", "Top 5 Accuracy"),
]


def converted(name: str = NAME, *, parity: ParityRecord = PROVEN, **changes: Any) -> ConvertedFile:  # noqa: ANN401 - fields
    """Return a converted file of the published parameters; ``changes`` are of its manifest."""
    model = catalog.find(name)
    manifest = Manifest(
        model=name,
        source=SourceRecord(
            file=model.official_file, sha1=model.entry.params_sha1 or "0" * 40, official=True
        ),
        mapping=MappingRecord(file=model.mapping_file.name, sha256="1" * 64),
        artifact=ArtifactRecord(
            file=f"{name}-22222222.safetensors",
            sha256="2" * 64,
            bytes=100,
            dtypes=("float32",),
            tensors=320,
            parameters=model.parameters,
        ),
        parity=parity,
        labels=None,
        version="0.1.0",
    )
    return ConvertedFile(Path("made.safetensors"), model, msgspec.structs.replace(manifest, **changes), b"")


def tuned(found: ConvertedFile) -> ConvertedFile:
    """Return the same from another ``.params`` file."""
    source = SourceRecord(
        file="holiday.params", sha1="3" * 40, official=True
    )  # which is not so, and is not believed
    return replace(found, manifest=msgspec.structs.replace(found.manifest, source=source))


def random(found: ConvertedFile) -> ConvertedFile:
    source = SourceRecord(file=f"{found.model.name}.random-0.params", sha1="4" * 40, official=False)
    return replace(found, manifest=msgspec.structs.replace(found.manifest, source=source))


def render(found: ConvertedFile, **circumstances: Any) -> str:  # noqa: ANN401 - fields
    return card.render(found, CardOptions(**circumstances))


def head(text: str) -> dict[str, Any]:
    """Return what the hub reads, by its own reader."""
    data: Any = ModelCard(text).data
    found: dict[str, Any] = data.to_dict()
    return found


@pytest.mark.parametrize("heading", HEADINGS)
def test_every_heading_of_the_seeds_card_is_there(heading: str) -> None:
    assert f"\n## {heading}\n" in render(converted())


@pytest.mark.parametrize("field", FIELDS)
def test_every_field_of_the_seeds_card_is_there(field: str) -> None:
    hidden = render(converted()).partition("<!--")[2]
    assert re.search(rf"^[ -]*{field}:", hidden, re.MULTILINE)


def test_what_the_seeds_card_shows_is_shown() -> None:
    text = render(converted())
    for line in (
        'model = timm.create_model("local-dir:.", pretrained=True)',
        "transform = create_transform(**resolve_data_config({}, model=model))",
        "top_probabilities, top_classes = torch.topk(probabilities, 5)",
        "pretrained=True, num_classes=NUM_FINETUNE_CLASSES)",
        "pretrained=True, features_only=True)",
        "@article{DBLP:journals/corr/XieGDTH16,",
        "    FLOPs: 8460959744",
        "    Parameters: 25028904",
        "    - Grouped Convolution",
        "    Crop Pct: '0.875'",
        "    Image Size: '224'",
        "    Interpolation: bicubic",
        "      Top 1 Accuracy: 79.32%",
    ):
        assert line in text


def test_the_hub_reads_its_head() -> None:
    found = head(render(converted(), license="mit"))
    assert found["license"] == "mit"
    assert found["library_name"] == "timm"
    assert found["pipeline_tag"] == "image-classification"
    assert found["datasets"] == ["imagenet-1k"]
    assert {"timm", "gluoncv", "resnext"} <= set(found["tags"])


def test_published_figures_are_called_published() -> None:
    (index,) = head(render(converted()))["model-index"]
    (result,) = index["results"]
    assert {metric["name"]: metric["value"] for metric in result["metrics"]} == {
        "Top-1 accuracy, as published by GluonCV": 79.32,
        "Top-5 accuracy, as published by GluonCV": 94.53,
    }
    assert result["source"]["name"] == (
        "GluonCV model zoo, ImageNet-1k validation, 224 px centre crop (published, not measured here)"
    )
    assert "they were not measured again" in render(converted())


@pytest.mark.parametrize("other", [tuned, random])
def test_other_weights_do_not_claim_the_published_figures(other: Any) -> None:  # noqa: ANN401 - a function
    text = render(other(converted()))
    assert not {"model-index", "datasets"} & head(text).keys()
    assert "**not for this file**" in text
    assert "they were not measured again" not in text


def test_a_network_without_figures_has_none() -> None:
    text = render(converted("gluon_resnet50_v1s"))
    assert "model-index" not in head(text)
    assert "GluonCV's table has no figures for this network" in text


@pytest.mark.parametrize(
    ("found", "says"),
    [
        (converted(), set()),
        (converted(parity=UNPROVEN), {"UNPROVEN"}),
        (random(converted()), {"RANDOM WEIGHTS"}),
        (random(converted(parity=UNPROVEN)), {"RANDOM WEIGHTS", "UNPROVEN"}),
    ],
)
def test_random_and_unproven_weights_are_called_so_before_all_else(
    found: ConvertedFile, says: set[str]
) -> None:
    beginning = render(found).partition("**ResNeXt**")[0]
    assert set(re.findall(r"^> \*\*([A-Z ]+)\.\*\*", beginning, re.MULTILINE)) == says
    assert ("random-weights" in head(render(found))["tags"]) == ("RANDOM WEIGHTS" in says)


def test_the_proof_is_told_in_numbers() -> None:
    text = render(converted())
    assert "Compared with GluonCV\n(gluoncv 0.10.5, mxnet 1.9.1)" in text
    assert "| float64 | 65x95 | 125 | features.5.1.body.4 | 1.8e-14 | 1e-12 | 1.5e-14 |" in text
    assert "1.8e-14" not in render(converted(parity=UNPROVEN))


def test_a_report_is_linked_where_there_is_one() -> None:
    assert "[parity.html](parity.html)" in render(converted(), report="parity.html")
    assert "parity.html" not in render(converted())


def test_provenance_is_told() -> None:
    text = render(tuned(converted()))
    assert "| Source file | holiday.params |" in text
    assert f"| Official | no; published was `{converted().model.entry.params_sha1}` |" in text
    assert "| Official | yes: the SHA-1 is the published one |" in render(converted())


def test_the_note_of_the_catalog_is_on_the_card() -> None:
    text = render(converted("gluon_senet154"))
    note = (
        "Pools after the stem as GluonCV does, without padding and rounding up; timm's senet154 pads. "
        "See docs/senet154.md."
    )
    assert f"**Note.** {note}" in text
    assert "**Note.**" not in render(converted())


@pytest.mark.parametrize("name", ["gluon_senet154", "gluon_resnet50_v1e", "gluon_cifar_resnext29_32x4d"])
def test_where_timm_has_no_such_network_ours_is_shown(name: str) -> None:
    text = render(converted(name))
    assert "**timm does not have this network**" in text
    assert f'create_model("{name}", "model.safetensors")' in text
    assert "import timm" not in text
    assert head(text)["library_name"] == "pytorch"


def test_class_names_are_taken_from_the_folder_where_it_has_them() -> None:
    assert 'model.pretrained_cfg["label_names"]' in render(converted(labels=("cat", "dog") * 500))
    assert 'json.load(file)["label_names"]' in render(converted("gluon_senet154", labels=("a",) * 1000))
    assert "imagenet_classes.txt" in render(converted())


@pytest.mark.parametrize("name", catalog.models())
def test_every_models_card_is_python_that_compiles(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(figures, "cost", lambda _: figures.Cost(1, 1))
    blocks = re.findall(r"```python\n(.*?)```", render(converted(name)), re.DOTALL)
    assert len(blocks) == 6
    compile("\n".join(blocks), name, "exec")
    assert head(render(converted(name)))["license"] == "apache-2.0"


def test_every_mapping_file_has_its_family_and_no_family_has_none() -> None:
    assert card.families().keys() == {model.mapping_file.stem for model in catalog.models().values()}


@pytest.mark.parametrize(
    ("name", "part", "is_in"),
    [
        (NAME, "Grouped Convolution", True),
        ("gluon_resnet50_v1b", "Grouped Convolution", False),
        ("gluon_seresnext50_32x4d", "Squeeze-and-Excitation Block", True),
        (NAME, "Squeeze-and-Excitation Block", False),
        ("gluon_resnet50_v1d", "Average Pooling", True),
        ("gluon_cifar_resnext29_32x4d", "Max Pooling", False),
    ],
)
def test_a_network_has_the_parts_that_are_listed(name: str, part: str, *, is_in: bool) -> None:
    assert (part in card.parts(catalog.find(name))) == is_in


def test_the_parts_of_a_resnext_are_those_of_the_seeds_card(tiny: Model) -> None:
    assert card.parts(tiny) == [
        "1x1 Convolution",
        "Batch Normalization",
        "Convolution",
        "Global Average Pooling",
        "Grouped Convolution",
        "Max Pooling",
        "ReLU",
        "ResNeXt Block",
        "Residual Connection",
        "Softmax",
    ]


def test_a_file_name_cannot_write_the_card() -> None:
    hostile = SourceRecord(file="a|b](http://x)\n## `<b>-->", sha1="3" * 40, official=False)
    text = render(converted(source=hostile))
    assert "| Source file | a&#124;b&#93;(http://x)\\n## &#96;&#60;b&#62;--&#62; |" in text
    assert text.count("-->") == 1


def test_a_place_is_quoted_as_python_does() -> None:
    text = render(converted(), place="hf-hub:org/name")
    assert f"timm.create_model({json.dumps('hf-hub:org/name')}, pretrained=True)" in text
