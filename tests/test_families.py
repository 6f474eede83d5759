"""Every model of GluonCV is in one family, and has the figures of one table, published for its weights."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

import pytest
from msgspec.structs import replace

from converter.choices import Task
from converter.errors import CatalogError
from converter.networks import (
    catalog,
    families,
    gluoncv_models,
    mapping,
    published_figures,
    recorded_index,
    zoo,
)
from converter.networks.published_figures import FiguresTable
from converter.networks.zoo import TargetKind
from converter.publishing import card

if TYPE_CHECKING:
    from pathlib import Path

    from converter.networks.families import Family

FAMILIES = families.families()
FIGURES = published_figures.tables(mapping.folder() / published_figures.FILE)
PATTERNS = [(key, pattern) for key, family in FAMILIES.items() for pattern in family.models]
FILES = [(key, file) for key, family in FAMILIES.items() for file in family.files]
# From GluonCV's documentation: one model for each task and data set with figures.
PUBLISHED = [
    ("resnet50_v2", {"top-1": 77.11, "top-5": 93.43}),
    ("gluon_resnext50_32x4d", {"top-1": 79.32, "top-5": 94.53}),
    ("cifar_resnet20_v1", {"top-1": 92.1, "top-1 mix-up": 92.9}),
    ("fcn_resnet50_ade", {"mIoU": 39.5, "pixel accuracy": 79.0}),
    ("fcn_resnet101_voc", {"mIoU": 83.6}),
    ("ssd_300_vgg16_atrous_coco", {"AP": 25.1, "AP50": 42.9, "AP75": 25.8}),
    ("yolo3_darknet53_voc", {"mAP 320": 79.3, "mAP 416": 81.5}),
    ("center_net_resnet18_v1b_voc", {"mAP": 66.8, "mAP flip": 69.5}),
    ("i3d_resnet50_v1_ucf101", {"top-1": 95.4}),
    ("monodepth2_resnet18_kitti_mono_640x192", {"relative error": 0.121, "δ < 1.25": 0.858}),
]


def places(table: dict[str, Family]) -> dict[str, list[str]]:
    """Return the families of each name that GluonCV has."""
    return {
        name: [key for key, family in table.items() if family.contains(name) or family.has_file(name)]
        for name in gluoncv_models.published_sha1s()
    }


def misplaced(table: dict[str, Family]) -> list[str]:
    return [name for name, keys in places(table).items() if len(keys) != 1]


def find(name: str) -> zoo.ZooModel:
    (model,) = (model for model in zoo.models().values() if name in {model.name, model.gluon})
    return model


def test_every_name_is_in_exactly_one_family() -> None:
    assert misplaced(FAMILIES) == []
    assert len(zoo.models()) == 332


@pytest.mark.parametrize(("key", "pattern"), PATTERNS)
def test_removed_pattern_fails(key: str, pattern: str) -> None:
    rest = tuple(other for other in FAMILIES[key].models if other != pattern)
    assert misplaced(FAMILIES | {key: replace(FAMILIES[key], models=rest)})


@pytest.mark.parametrize(("key", "file"), FILES)
def test_removed_file_fails(key: str, file: str) -> None:
    rest = tuple(other for other in FAMILIES[key].files if other != file)
    assert misplaced(FAMILIES | {key: replace(FAMILIES[key], files=rest)})


def test_pattern_with_models_of_another_family_fails() -> None:
    greedy = replace(FAMILIES["resnet"], models=("resnet*",))
    assert "resnet50_v2" in misplaced(FAMILIES | {"resnet": greedy})


def test_files_are_published_and_are_no_models() -> None:
    published = gluoncv_models.published_sha1s()
    files = [name for name in published if any(family.has_file(name) for family in FAMILIES.values())]
    assert len(files) == 11
    assert all(published[name] for name in files)
    assert not zoo.models().keys() & files
    assert not recorded_index.index().keys() & files


def test_model_has_the_hash_of_the_file_that_it_loads() -> None:
    assert find("hrnet_w18_c").sha1 == gluoncv_models.published_sha1s()["hrnet_w18_cls"]
    assert find("hrnet_w48_s").sha1 == ""


def test_every_task_has_its_models() -> None:
    assert Counter(model.description.task for model in zoo.models().values()) == {
        Task.classification: 131,
        Task.segmentation: 37,
        Task.instance_segmentation: 9,
        Task.detection: 71,
        Task.pose: 19,
        Task.action: 59,
        Task.tracking: 1,
        Task.depth: 5,
    }


def test_models_with_a_supported_recorded_graph_are_generated() -> None:
    recorded = {name for name, entry in recorded_index.index().items() if not entry.unsupported}
    native = {model.entry.gluon for model in catalog.models().values()}
    targets = {name: model.target for name, model in zoo.models().items()}
    assert {name for name, target in targets.items() if target is TargetKind.generated} == recorded - native
    assert {name for name, target in targets.items() if target is None} == targets.keys() - recorded - native


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("gluon_resnet18_v1b", ""),
        ("mobilenet1.0", ""),
        ("resnet50_v1_int8", "has int8 weights, which are not supported"),
        ("resnet18_v1b_custom", "built for your own classes: export your graph, and convert GRAPH OUT"),
        ("hrnet_w48_s", "its operators cannot be converted: _contrib_BilinearResize2D"),
    ],
)
def test_model_that_is_not_converted_has_a_reason(name: str, reason: str) -> None:
    model = find(name)
    assert model.reason == reason
    assert model.convertible is (not reason)
    assert (model.target is None) is bool(reason)


@pytest.mark.parametrize("name", catalog.models())
def test_native_models_are_in_the_family_of_their_mapping_file(name: str) -> None:
    model = find(name)
    assert model.native == catalog.find(name)
    assert model.target is TargetKind.native
    assert model.family == catalog.find(name).mapping_file.stem
    assert zoo.convertible(model.gluon)


@pytest.mark.parametrize("key", card.families())
def test_families_are_described_as_on_model_cards(key: str) -> None:
    ours, theirs = FAMILIES[key], card.families()[key]
    assert (ours.title, ours.paper, ours.arxiv) == (theirs.title, theirs.paper, theirs.arxiv)


def test_names_are_in_the_order_of_their_numbers() -> None:
    assert FAMILIES["mobilenet_v2"].names == [
        f"mobilenetv2_{size}" for size in ("0.25", "0.5", "0.75", "1.0")
    ]
    assert FAMILIES["resnest"].names == [f"resnest{depth}" for depth in (14, 26, 50, 101, 200, 269)]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('[vgg]\ntitle = "VGG"\n', r"new\.toml: Object missing required field `task` - at `\$\[\.\.\.\]`"),
        ('[vgg]\ntask = "reading"\n', r"new\.toml: Invalid enum value 'reading'"),
        ("[vgg]\nmodel = []\n", r"new\.toml: Object contains unknown field `model`"),
    ],
)
def test_invalid_family_is_refused(text: str, message: str, tmp_path: Path) -> None:
    table = tmp_path / "new.toml"
    table.write_text(text)
    with pytest.raises(CatalogError, match=message):
        families.read(table)


@pytest.mark.parametrize(("name", "values"), PUBLISHED)
def test_figures_equal_gluoncvs(name: str, values: dict[str, float]) -> None:
    published = find(name).figures
    assert published is not None
    assert published.values == values


def test_figures_are_those_of_models() -> None:
    assert published_figures.figures().keys() <= zoo.models().keys()
    assert len(published_figures.figures()) == 183


@pytest.mark.parametrize("key", FIGURES)
def test_figures_are_percentages_in_a_table_with_a_source(key: str) -> None:
    table = FIGURES[key]
    assert table.models
    assert table.file.endswith(".csv")
    assert all(0 < value < 100 for values in table.models.values() for value in values)


def test_figures_of_native_models_are_in_one_file_or_equal() -> None:
    ours = {model.entry.gluon: (model.entry.top1, model.entry.top5) for model in catalog.models().values()}
    twice = {name for name in published_figures.figures() if ours.get(name, (None, None)) != (None, None)}
    assert differing(twice, ours) == []
    assert differing({"resnet50_v2"}, {"resnet50_v2": (77.11, 93.44)}) == ["resnet50_v2"]


def differing(names: set[str], ours: dict[str, tuple[float | None, float | None]]) -> list[str]:
    figures = published_figures.figures()
    return [name for name in names if ours[name] != tuple(figures[name].values.values())]


def test_figures_of_weights_that_gluoncv_replaced_are_left_out() -> None:
    assert find("mobilenetv3_small").figures is None
    assert find("mobilenetv3_large").figures is not None


def test_figure_has_the_digits_of_its_table() -> None:
    published = find("densenet161").figures
    assert published is not None
    assert [published.text(metric) for metric in ("top-1", "top-5", "mIoU")] == ["77.70", "93.80", "—"]


def test_more_digits_than_those_of_the_table_are_kept() -> None:
    published = find("ssd_300_vgg16_atrous_voc_int8").figures
    assert published is not None
    assert published.text("mAP") == "77.46"


def tabulate(**models: tuple[float, ...]) -> FiguresTable:
    return FiguresTable(file="a.csv", data="ImageNet", metrics=("top-1", "top-5"), models=models)


def test_model_in_two_tables_is_refused() -> None:
    with pytest.raises(CatalogError, match=r"^figures\.toml: two\.models: vgg11 is in two tables$"):
        published_figures.by_model(
            {"one": tabulate(vgg11=(1, 2)), "two": tabulate(vgg11=(1, 2))}, "figures.toml"
        )


def test_missing_figure_is_refused() -> None:
    with pytest.raises(CatalogError, match=r"one\.models: vgg11: expected 2 figures, found 1$"):
        published_figures.by_model({"one": tabulate(vgg11=(1,))}, "figures.toml")


def test_figure_that_is_no_number_is_refused(tmp_path: Path) -> None:
    table = tmp_path / "new.toml"
    table.write_text('[one]\nfile = "a.csv"\ndata = ""\nmetrics = ["top-1"]\n[one.models]\nvgg11 = ["N/A"]\n')
    with pytest.raises(CatalogError, match=r"new\.toml: Expected `float`, got `str`"):
        published_figures.tables(table)
