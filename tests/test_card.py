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
    WorstLayerRecord,
)
from converter.manifests.source_records import HubRecord, SourceRecord
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
# The headings and metadata fields of the reference card.
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


def converted(name: str = NAME, *, parity: ParityRecord = PROVEN, **changes: Any) -> ConvertedFile:  # noqa: ANN401 - fields of several types
    """Return a converted file of the published parameters; ``changes`` apply to its manifest."""
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


def fine_tuned(result: ConvertedFile) -> ConvertedFile:
    """Return the same network, converted from another ``.params`` file."""
    source = SourceRecord(
        file="holiday.params", sha1="3" * 40, official=True
    )  # a false claim that must be ignored
    return replace(result, manifest=msgspec.structs.replace(result.manifest, source=source))


def random(result: ConvertedFile) -> ConvertedFile:
    source = SourceRecord(file=f"{result.manifest.model}.random-0.params", sha1="4" * 40, official=False)
    return replace(result, manifest=msgspec.structs.replace(result.manifest, source=source))


def render(result: ConvertedFile, **options: Any) -> str:  # noqa: ANN401 - fields of several types
    return card.render(result, CardOptions(**options))


def head(text: str) -> dict[str, Any]:
    """Return the card's metadata as the hub's own reader parses it."""
    data: Any = ModelCard(text).data
    metadata: dict[str, Any] = data.to_dict()
    return metadata


@pytest.mark.parametrize("heading", HEADINGS)
def test_card_has_every_heading(heading: str) -> None:
    assert f"\n## {heading}\n" in render(converted())


@pytest.mark.parametrize("field", FIELDS)
def test_card_has_every_metadata_field(field: str) -> None:
    hidden = render(converted()).partition("<!--")[2]
    assert re.search(rf"^[ -]*{field}:", hidden, re.MULTILINE)


def test_card_shows_the_expected_lines() -> None:
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


def test_hub_reads_the_card_metadata() -> None:
    metadata = head(render(converted(), license="mit"))
    assert metadata["license"] == "mit"
    assert metadata["library_name"] == "timm"
    assert metadata["pipeline_tag"] == "image-classification"
    assert metadata["datasets"] == ["imagenet-1k"]
    assert {"timm", "gluoncv", "resnext"} <= set(metadata["tags"])


def test_published_figures_are_labelled_as_published() -> None:
    (index,) = head(render(converted()))["model-index"]
    (result,) = index["results"]
    assert {metric["name"]: metric["value"] for metric in result["metrics"]} == {
        "Top-1 accuracy, as published by GluonCV": 79.32,
        "Top-5 accuracy, as published by GluonCV": 94.53,
    }
    assert result["source"]["name"] == (
        "GluonCV model zoo, ImageNet-1k validation, 224 px centre crop (published, not measured here)"
    )
    assert "for these weights. They were not measured again" in render(converted())


@pytest.mark.parametrize("other", [fine_tuned, random])
def test_other_weights_do_not_claim_the_published_figures(other: Any) -> None:  # noqa: ANN401 - a function
    text = render(other(converted()))
    assert not {"model-index", "datasets"} & head(text).keys()
    assert "**not for this file**" in text
    assert "They were not measured again" not in text


def test_network_without_figures_shows_none() -> None:
    text = render(converted("gluon_resnet50_v1s"))
    assert "model-index" not in head(text)
    assert "GluonCV published no accuracy for this network" in text


@pytest.mark.parametrize(
    ("found", "warnings"),
    [
        (converted(), set()),
        (converted(parity=UNPROVEN), {"UNPROVEN"}),
        (random(converted()), {"RANDOM WEIGHTS"}),
        (random(converted(parity=UNPROVEN)), {"RANDOM WEIGHTS", "UNPROVEN"}),
    ],
)
def test_random_and_unproven_weights_are_flagged_first(found: ConvertedFile, warnings: set[str]) -> None:
    beginning = render(found).partition("**ResNeXt**")[0]
    assert set(re.findall(r"^> \*\*([A-Z ]+)\.\*\*", beginning, re.MULTILINE)) == warnings
    assert ("random-weights" in head(render(found))["tags"]) == ("RANDOM WEIGHTS" in warnings)


def test_proof_is_shown_in_numbers() -> None:
    text = render(converted())
    assert "Compared with GluonCV\n(gluoncv 0.10.5, mxnet 1.9.1)" in text
    assert "| float64 | 65x95 | 125 | features.5.1.body.4 | 1.8e-14 | 1e-12 | 1.5e-14 |" in text
    assert "1.8e-14" not in render(converted(parity=UNPROVEN))


def test_report_is_linked_if_present() -> None:
    assert "[parity.html](parity.html)" in render(converted(), report="parity.html")
    assert "parity.html" not in render(converted())


def test_provenance_is_shown() -> None:
    text = render(fine_tuned(converted()))
    assert "| Source file | holiday.params |" in text
    published = catalog.find(converted().manifest.model).entry.params_sha1
    assert f"| Official | no; published was `{published}` |" in text
    assert "| Official | yes: the SHA-1 is the published one |" in render(converted())


def test_catalog_note_is_shown() -> None:
    text = render(converted("gluon_senet154"))
    note = (
        "Pools after the stem as GluonCV does, without padding and rounding up; timm's senet154 pads. "
        "See docs/senet154.md."
    )
    assert f"**Note.** {note}" in text
    assert "**Note.**" not in render(converted())


@pytest.mark.parametrize("name", ["gluon_senet154", "gluon_resnet50_v1e", "gluon_cifar_resnext29_32x4d"])
def test_network_missing_in_timm_uses_resnext_torch(name: str) -> None:
    text = render(converted(name))
    assert "**timm does not have this network**" in text
    assert f'create_model("{name}", "model.safetensors")' in text
    assert "import timm" not in text
    assert head(text)["library_name"] == "pytorch"
    assert head(text)["tags"].count("pytorch") == 1


def test_class_names_are_read_from_the_folder_if_present() -> None:
    assert 'model.pretrained_cfg["label_names"]' in render(converted(labels=("cat", "dog") * 500))
    assert 'json.load(file)["label_names"]' in render(converted("gluon_senet154", labels=("a",) * 1000))
    assert "imagenet_classes.txt" in render(converted())


@pytest.mark.parametrize("name", catalog.models())
def test_code_of_every_card_compiles(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(figures, "cost", lambda *_: figures.Cost(1, 1))
    blocks = re.findall(r"```python\n(.*?)```", render(converted(name)), re.DOTALL)
    assert len(blocks) == 6
    compile("\n".join(blocks), name, "exec")
    assert head(render(converted(name)))["license"] == "apache-2.0"


def test_families_match_the_mapping_files() -> None:
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
def test_parts_depend_on_the_network(name: str, part: str, *, is_in: bool) -> None:
    assert (part in card.components(catalog.find(name))) == is_in


def test_resnext_parts_are_complete(tiny: Model) -> None:
    assert card.components(tiny) == [
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


def test_file_name_cannot_inject_markup() -> None:
    hostile = SourceRecord(file="a|b](http://x)\n## `<b>-->", sha1="3" * 40, official=False)
    text = render(converted(source=hostile))
    assert "| Source file | a&#124;b&#93;(http://x)\\n## &#96;&#60;b&#62;--&#62; |" in text
    assert text.count("-->") == 1


def test_place_is_quoted_as_a_python_string() -> None:
    text = render(converted(), address="hf-hub:org/name")
    assert f"timm.create_model({json.dumps('hf-hub:org/name')}, pretrained=True)" in text


def test_card_names_the_repository_that_the_file_was_rebuilt_from() -> None:
    origin = HubRecord(repository="timm/resnext50_32x4d.gluon_in1k", revision="12" * 20)
    source = SourceRecord(file="resnext50_32x4d.gluon_in1k.params", sha1="3" * 40, official=False, hub=origin)
    line = f"| Rebuilt from | `hf-hub:timm/resnext50_32x4d.gluon_in1k@{'12' * 20}` |\n"
    assert line in render(converted(source=source))
    assert "Rebuilt from" not in render(converted())
