"""Parameter files of every model, named and written by GluonCV itself, and the graphs next to them."""

from __future__ import annotations

import json
import random
import re
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import mxnet_forks
import numpy as np
import pytest

from converter.errors import MappingError, SymbolError
from converter.formats.params import load_params
from converter.graphs import reader
from converter.networks import catalog, loading, naming_styles, selection, wiring
from converter.networks.selection import ParamsSource
from converter.progress import silent

if TYPE_CHECKING:
    from collections.abc import Iterator

    from converter.networks.catalog import Model
    from converter.networks.loading import LoadedModel

WRITER = Path(__file__).with_name("gluon_names.py")
OFFSET_STEM = "without prefix"  # its stem's index continues after those of earlier networks in the process
VARIANTS = {
    "first": "prefix",
    "second": "prefix",
    "named": "prefix",
    "without prefix": "stripped prefix",
    "stripped": "stripped prefix",
    "nested": "prefix",
    "synchronised": "prefix",
    "head replaced": "prefix",
    "head from outside": "prefix",
    "stripped, head replaced": "stripped prefix",
    "exported": "export",
}
MODELS = ("resnext50_32x4d", "resnet50_v1c", "resnet50_v1d")
# Each with another model and the error that distinguishes the two.
GRAPHS = {
    "resnext50_32x4d": ("resnext101_32x4d", "stage3: expected 70 convolutions, found 19"),
    "resnet50_v1d": ("resnet50_v1c", "expected  convolution layer1.0.downsample.0 of maxpool"),
    "se_resnext50_32x4d": ("resnext50_32x4d", "stage1: expected 10 convolutions, found 16"),
    "senet_154": ("senet_154e", "expected  features.11.0.downsample.0: pooling of features.10.2"),
    "resnext101e_64x4d": ("resnext101_64x4d", "outside the stages: expected 1 convolutions, found 3"),
    "cifar_resnext29_32x4d": (
        "cifar_resnext29_16x64d",
        "features.{3…5}.{0…2}.body.3: groups 32 in the graph, 16 in the model",
    ),
}
# Files whose model is detected by layers, prefix or adjacent graph, and their dialects.
DIALECTS = {
    "structural.params": "structural",
    "prefix.params": "prefix",
    "export-0000.params": "export",
    "replaced.params": "prefix",
}

Names = dict[str, dict[str, dict[str, str]]]


def run_writer(folder: Path, what: str) -> Path:
    mxnet_forks.run(WRITER, what, folder)
    return folder


@pytest.fixture(scope="module")
def gluon_names(tmp_path_factory: pytest.TempPathFactory) -> Names:
    folder = run_writer(tmp_path_factory.mktemp("names"), "names")
    names: Names = json.loads((folder / "names.json").read_text(encoding="utf-8"))
    return names


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Yield a folder with the files of each model, 1.7 GB in total."""
    folder = tmp_path_factory.mktemp("files")
    yield run_writer(folder, "files")
    shutil.rmtree(folder)


@pytest.fixture(scope="module")
def graphs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return run_writer(tmp_path_factory.mktemp("graphs"), "graphs")


def prepare(path: Path, model: Model | None = None, symbol_path: Path | None = None) -> LoadedModel:
    source = ParamsSource(model, path, symbol=symbol_path)
    with selection.open_source(source, silent) as file:
        return loading.load_model(source, file)


def shuffled(names: dict[str, str]) -> list[str]:
    return random.Random(0).sample(list(names.values()), len(names))  # noqa: S311 - a reproducible order, not a secret


def resolved(names: list[str], model: str) -> dict[str, str]:
    return naming_styles.read(names, "holiday.params").resolve(catalog.find(model).mapping)


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("model", catalog.models())
def test_names_of_every_variant_resolve(model: str, variant: str, gluon_names: Names) -> None:
    names = gluon_names[model][variant]
    naming = naming_styles.read(names.values(), "holiday.params")
    assert naming.resolve(catalog.find(model).mapping) == names
    assert naming.dialect == VARIANTS[variant]
    assert names.keys() == catalog.find(model).mapping.to_target().keys()


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("model", catalog.models())
def test_stripped_names_equal_those_of_gluoncv(model: str, variant: str, gluon_names: Names) -> None:
    names, anew = gluon_names[model][variant], gluon_names[model]["stripped"]
    naming = naming_styles.read(names.values(), "holiday.params")
    assert naming.stripped() == {anew[key]: name for key, name in names.items()}


@pytest.mark.parametrize("variant", sorted(VARIANTS.keys() - {OFFSET_STEM}))
@pytest.mark.parametrize("model", catalog.models())
def test_shuffled_names_with_indices_from_0_resolve(model: str, variant: str, gluon_names: Names) -> None:
    names = gluon_names[model][variant]
    assert resolved(shuffled(names), model) == names


@pytest.mark.parametrize("model", ["gluon_resnet50_v1d", "gluon_senet154"])
def test_shuffled_names_with_an_offset_stem_are_refused(model: str, gluon_names: Names) -> None:
    with pytest.raises(
        MappingError, match=r"the layer numbers have gaps and .*\n  outside the stages: \w+ \["
    ):
        resolved(shuffled(gluon_names[model][OFFSET_STEM]), model)


@pytest.mark.parametrize("model", catalog.models())
def test_every_variant_has_a_dialect(model: str, gluon_names: Names) -> None:
    assert gluon_names[model].keys() == VARIANTS.keys()


@pytest.mark.parametrize(
    ("model", "other", "complaint"),
    [
        ("gluon_resnext50_32x4d", "gluon_resnext101_32x4d", "stage3: expected 70 convolutions, found 19"),
        ("gluon_resnet50_v1b", "gluon_resnet50_v1c", "outside the stages: expected 3 convolutions, found 1"),
        ("gluon_seresnext50_32x4d", "gluon_resnext50_32x4d", "stage1: expected 10 convolutions, found 16"),
        ("gluon_resnet50_v1b", "gluon_resnext50_32x4d", "layers1: expected 0 convolutions, found 9"),
    ],
)
def test_names_of_another_model_are_refused(
    model: str, other: str, complaint: str, gluon_names: Names
) -> None:
    with pytest.raises(MappingError, match=complaint):
        resolved(shuffled(gluon_names[model]["first"]), other)


@pytest.mark.parametrize("name", DIALECTS)
@pytest.mark.parametrize("model", MODELS)
def test_model_is_detected_and_arrays_equal_those_saved(model: str, name: str, files: Path) -> None:
    prepared = prepare(files / model / name)
    new_head = name == "replaced.params"
    saved = load_params(files / model / ("replaced-structural.params" if new_head else "structural.params"))
    assert prepared.model.name == f"gluon_{model}"
    assert prepared.model.config.num_classes == (7 if new_head else 10)
    assert prepared.source.naming.dialect == DIALECTS[name]
    assert prepared.params.keys() == saved.keys()
    assert [
        key for key, array in prepared.params.items() if np.asarray(array).tobytes() != saved[key].tobytes()
    ] == []


def test_arrays_of_another_file_differ(files: Path) -> None:
    saved = load_params(files / "resnet50_v1d" / "structural.params")
    other = prepare(files / "resnet50_v1d" / "replaced.params").params
    equal = [key for key in saved if np.array_equal(saved[key], other[key])]
    assert not [key for key in equal if key.endswith(".weight")]


def test_stripped_file_is_detected_by_its_layers(files: Path) -> None:
    folder = files / "resnext50_32x4d"
    prepared = prepare(folder / "stripped.params")
    saved = load_params(folder / "structural.params")
    assert prepared.model.name == "gluon_resnext50_32x4d"
    assert prepared.source.naming.dialect == "stripped prefix"
    assert [
        key for key, array in saved.items() if array.tobytes() != np.asarray(prepared.params[key]).tobytes()
    ] == []


@pytest.mark.parametrize("model", ["resnet50_v1c", "resnet50_v1d"])
def test_stripped_v1c_or_v1d_file_without_a_graph_is_ambiguous(
    model: str, files: Path, tmp_path: Path
) -> None:
    alone = tmp_path / "stripped.params"
    alone.symlink_to(files / model / "stripped.params")
    with pytest.raises(
        MappingError, match=r"gluon_resnet50_v1c or gluon_resnet50_v1d\n  give the model's name"
    ):
        prepare(alone)


@pytest.mark.parametrize("model", ["resnet50_v1c", "resnet50_v1d"])
@pytest.mark.parametrize("given", [True, False], ids=["--symbol", "found"])
def test_stripped_v1c_or_v1d_file_is_detected_by_its_graph(model: str, files: Path, *, given: bool) -> None:
    folder = files / model
    graph = folder / "export-symbol.json"
    prepared = prepare(folder / "stripped.params", symbol_path=graph if given else None)
    saved = load_params(folder / "structural.params")
    assert prepared.model.name == f"gluon_{model}"
    assert prepared.source.graph is not None
    assert prepared.source.graph.path == folder / "export-symbol.json"
    assert [
        key for key, array in saved.items() if array.tobytes() != np.asarray(prepared.params[key]).tobytes()
    ] == []


@pytest.mark.parametrize("model", ["resnet50_v1c", "resnet50_v1d"])
def test_stripped_file_is_detected_by_the_adjacent_graph(model: str, files: Path, tmp_path: Path) -> None:
    (tmp_path / "holiday-0000.params").symlink_to(files / model / "stripped.params")
    shutil.copy(files / model / "export-symbol.json", tmp_path / "holiday-symbol.json")
    assert prepare(tmp_path / "holiday-0000.params").model.name == f"gluon_{model}"


def test_prefix_of_another_model_is_refused(files: Path) -> None:
    named = catalog.find("gluon_resnet50_v1c")
    with pytest.raises(MappingError, match=r"the prefix resnetv1d_ belongs to .*, not to gluon_resnet50_v1c"):
        prepare(files / "resnet50_v1d" / "prefix.params", named)
    assert prepare(files / "resnet50_v1c" / "prefix.params", named).model.name == named.name


def test_graph_of_another_model_is_refused_for_a_named_model(files: Path) -> None:
    folder = files / "resnet50_v1d"
    with pytest.raises(SymbolError, match=r"expected  convolution layer1\.0\.downsample\.0 of maxpool"):
        prepare(folder / "stripped.params", catalog.find("gluon_resnet50_v1c"), folder / "export-symbol.json")


@pytest.mark.parametrize("model", GRAPHS)
def test_graph_matches_its_model(model: str, graphs: Path) -> None:
    expected = catalog.find(model).with_config(num_classes=10)
    matched = wiring.match(reader.read(graphs / f"{model}-symbol.json"), expected)
    assert matched.nodes.keys() == {layer.source for layer in expected.mapping.layers}
    assert matched.fixed_gammas == ()


@pytest.mark.parametrize(("model", "other"), GRAPHS.items())
def test_graph_does_not_match_another_model(model: str, other: tuple[str, str], graphs: Path) -> None:
    name, complaint = other
    with pytest.raises(SymbolError, match=re.escape(complaint)):
        wiring.match(
            reader.read(graphs / f"{model}-symbol.json"), catalog.find(name).with_config(num_classes=10)
        )


def test_graph_with_another_eps_is_refused(files: Path, graphs: Path) -> None:
    path = files / "resnext50_32x4d" / "export-0000.params"
    with pytest.raises(SymbolError, match=r"features\.1: eps 0\.001 in the graph, 1e-05 in the model"):
        prepare(path, symbol_path=graphs / "eps-symbol.json")


def test_gammas_fixed_by_mxnet_become_ones(graphs: Path) -> None:
    path = graphs / "fixed-0000.params"
    prepared, stored = prepare(path), load_params(path)
    gammas = [key for key in prepared.params if key.endswith(".gamma")]
    assert list(prepared.source.fixed_gammas) == gammas
    assert all((np.asarray(prepared.params[key]) == 1).all() for key in gammas)
    assert not any((array == 1).any() for name, array in stored.items() if name.endswith("_gamma"))
