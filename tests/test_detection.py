from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest
from symbols import counted_names, symbol

from converter.errors import MappingError
from converter.graphs import reader
from converter.networks import catalog, detection, naming_styles

if TYPE_CHECKING:
    from collections.abc import Iterable

    from converter.dtypes import Array
    from converter.networks.catalog import Model
    from resnext_torch.config import Shape

MODELS = list(catalog.models())
FILE = "holiday.params"
QUESTION = "which one is it?"


def array(shape: Shape) -> Array:
    """Return an array of that shape that takes four bytes."""
    return np.broadcast_to(np.zeros((), np.float32), shape)


def gluon(model: Model) -> dict[str, Array]:
    shapes = model.shapes
    return {tensor.source: array(shapes[tensor.target]) for tensor in model.mapping.tensors}


def torch(model: Model) -> dict[str, Array]:
    return {name: array(shape) for name, shape in model.shapes.items()}


def counted(model: Model, prefix: str = "") -> dict[str, Array]:
    """Return arrays by prefix names, each layer with the next number of its scope and kind."""
    shapes, layers = model.shapes, {}
    numbers: Counter[tuple[str, str]] = Counter()
    for layer in model.mapping.layers:
        if layer.counter:
            scope, kind = layer.counter
            layers[layer] = f"{prefix}{scope}{'_' * bool(scope)}{kind}{numbers[layer.counter]}"
            numbers[layer.counter] += 1
    return {
        f"{layers[tensor.layer]}_{tensor.source_role}": array(shapes[tensor.target])
        for tensor in model.mapping.tensors
    }


def of_gluon(arrays: dict[str, Array]) -> list[Model]:
    return detection.match_gluon(arrays, naming_styles.read(arrays, FILE))


def names(models: Iterable[Model]) -> list[str]:
    return [model.name for model in models]


@pytest.mark.parametrize("name", MODELS)
def test_every_model_is_told_by_gluons_names_and_shapes(name: str) -> None:
    model = catalog.find(name)
    assert of_gluon(gluon(model)) == [model]


@pytest.mark.parametrize("name", MODELS)
def test_every_model_is_told_by_pytorchs_names_and_shapes(name: str) -> None:
    model = catalog.find(name)
    assert detection.match_torch(torch(model)) == [model]


@pytest.mark.parametrize("name", MODELS)
def test_every_model_is_told_with_other_classes(name: str) -> None:
    model = catalog.find(name).with_classes(7)
    assert of_gluon(gluon(model)) == [model]
    assert detection.match_torch(torch(model)) == [model]


@pytest.mark.parametrize("name", MODELS)
def test_an_array_of_another_shape_tells_no_model(name: str) -> None:
    model = catalog.find(name)
    tensor = next(tensor for tensor in model.mapping.tensors if tensor.source_role == "running_var")
    source, target = tensor.source, tensor.target
    assert of_gluon(gluon(model) | {source: array((3,))}) == []
    assert detection.match_torch(torch(model) | {target: array((3,))}) == []


@pytest.mark.parametrize("change", ["one less", "one more"])
def test_names_too_few_or_many_tell_no_model(change: str, tiny: Model) -> None:
    model = catalog.find("gluon_resnext50_32x4d")
    assert tiny.name not in MODELS
    params, state = gluon(model), torch(model)
    if change == "one less":
        del params["features.1.gamma"], state["bn1.weight"]
    else:
        params["features.1.delta"], state["bn1.delta"] = array((64,)), array((64,))
    assert of_gluon(params) == []
    assert detection.match_torch(state) == []


def test_the_order_of_the_names_says_nothing() -> None:
    model = catalog.find("gluon_seresnext50_32x4d")
    assert of_gluon(dict(reversed(gluon(model).items()))) == [model]
    assert detection.match_torch(dict(reversed(torch(model).items()))) == [model]


@pytest.mark.parametrize("depth", ["50", "101", "152"])
def test_pytorchs_states_of_v1c_and_v1d_are_told_apart(depth: str) -> None:
    v1c, v1d = (catalog.find(f"gluon_resnet{depth}_v1{letter}") for letter in "cd")
    assert names(detection.match_torch(torch(v1c))) == [v1c.name]
    assert names(detection.match_torch(torch(v1d))) == [v1d.name]
    assert sorted(v1c.shapes.values()) == sorted(v1d.shapes.values())


@pytest.mark.parametrize(
    "same", [("50_v1c", "50_v1d"), ("101_v1c", "101_v1d"), ("50_v1e", "50_v1s"), ("152_v1e", "152_v1s")]
)
def test_stripped_names_tell_no_pool_in_a_shortcut(same: tuple[str, str]) -> None:
    both = [catalog.find(f"gluon_resnet{name}") for name in same]
    for model in both:
        assert set(names(of_gluon(counted(model)))) == set(names(both))


@pytest.mark.parametrize("name", ["gluon_resnext50_32x4d", "gluon_seresnext101_64x4d", "gluon_resnet18_v1b"])
def test_prefix_names_tell_a_model_with_its_classes(name: str) -> None:
    model = catalog.find(name).with_classes(7)
    assert of_gluon(counted(model, "net0_")) == [model]


def test_a_state_without_counters_is_told() -> None:
    model = catalog.find("gluon_resnet50_v1b")
    state = torch(model)
    without = {name: value for name, value in state.items() if not name.endswith("num_batches_tracked")}
    assert len(without) < len(state)
    assert detection.match_torch(without) == [model]
    some = without | {"bn1.num_batches_tracked": array(())}
    assert detection.match_torch(some) == [model]


@pytest.mark.parametrize("shape", [(), (2048,), (10, 2048, 1), (10, 2048, 1, 1), (10, 1024)])
def test_a_head_of_another_kind_tells_no_model(shape: Shape) -> None:
    model = catalog.find("gluon_resnext50_32x4d")
    assert of_gluon(gluon(model) | {"output.weight": array(shape)}) == []
    assert detection.match_torch(torch(model) | {"fc.weight": array(shape)}) == []


def test_a_head_whose_bias_has_other_classes_tells_no_model() -> None:
    model = catalog.find("gluon_resnext50_32x4d")
    assert of_gluon(gluon(model) | {"output.bias": array((7,))}) == []


def test_the_only_model_is_taken() -> None:
    model = catalog.find("gluon_resnet18_v1b")
    assert detection.require_one([model], gluon(model).values(), FILE, question=QUESTION) == model


def test_several_models_are_refused_with_the_question() -> None:
    found = [catalog.find("gluon_resnet50_v1c"), catalog.find("gluon_resnet50_v1d")]
    expected = (
        "holiday.params: these are the tensors of gluon_resnet50_v1c or gluon_resnet50_v1d: which one is"
    )
    with pytest.raises(MappingError, match=f"^{expected}"):
        detection.require_one(found, gluon(found[0]).values(), FILE, question=QUESTION)


@pytest.mark.parametrize("name", MODELS)
def test_where_nothing_fits_the_nearest_model_is_named(name: str) -> None:
    arrays = gluon(catalog.find(name))
    del arrays[next(iter(arrays))]
    with pytest.raises(
        MappingError, match=r"^holiday\.params: the tensors fit no model; the nearest is "
    ) as no:
        detection.require_one(of_gluon(arrays), arrays.values(), FILE, question=QUESTION)
    nearest = str(no.value).partition("the nearest is ")[2].partition(":")[0]
    # By shapes alone, without their names, those of a pooled shortcut are the same.
    assert nearest in {name, name.replace("_v1d", "_v1c"), name.replace("_v1s", "_v1e")}


@pytest.mark.parametrize(
    "name", ["gluon_seresnext50_32x4d", "gluon_resnext101_64x4d", "gluon_resnet34_v1b", "gluon_senet154"]
)
def test_the_nearest_of_a_network_with_a_block_more_is_the_one_without(name: str) -> None:
    model = catalog.find(name)
    depths = (*model.config.depths[:-1], model.config.depths[-1] + 1)
    deeper = replace(model, config=replace(model.config, depths=depths)).with_classes(10)
    assert len(deeper.shapes) > len(model.shapes)
    assert detection.nearest(list(deeper.shapes.values())).name == name


@pytest.mark.parametrize("shapes", [[], [()], [(1, 2, 3)]])
def test_something_is_nearest_even_to_nothing(shapes: list[Shape]) -> None:
    assert detection.nearest(shapes).name in MODELS


@pytest.mark.parametrize("name", MODELS)
def test_the_mapping_between_two_files_is_the_one_that_knows_their_names(name: str) -> None:
    model = catalog.find(name)
    found = detection.match_either(gluon(model), torch(model))
    assert found is not None
    assert found.to_target() == model.mapping.to_target()


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [(["features.0.weight"], ["encoder.weight"]), (["encoder.weight"], ["conv1.weight"]), ([], [])],
)
def test_where_one_side_is_unknown_there_is_no_mapping(ours: list[str], theirs: list[str]) -> None:
    assert detection.match_either(ours, theirs) is None


def test_prefix_of_another_model_is_refused() -> None:
    names = naming_styles.read(counted(catalog.find("gluon_resnet50_v1c"), "resnetv1c_"), FILE)
    detection.require_not_another(catalog.find("gluon_resnet50_v1c"), names)
    with pytest.raises(MappingError, match=r"the prefix resnetv1c_ is that of .*, not of gluon_resnet50_v1d"):
        detection.require_not_another(catalog.find("gluon_resnet50_v1d"), names)
    without = naming_styles.read(counted(catalog.find("gluon_resnet50_v1c")), FILE)
    detection.require_not_another(catalog.find("gluon_resnet50_v1d"), without)


@pytest.mark.parametrize("name", ["gluon_resnet50_v1c", "gluon_resnet50_v1d"])
def test_graph_decides_between_models_of_the_same_tensors(name: str) -> None:
    params = counted(catalog.find(name))
    names = naming_styles.read(params, FILE)
    content = json.dumps(symbol(catalog.find(name), counted_names(catalog.find(name), ""))).encode()
    graph = reader.parse(content, file="net-symbol.json", name="net-symbol.json")
    assert detection.detect_model(params, names, graph, lambda _: False).name == name
    with pytest.raises(MappingError, match=QUESTION):
        detection.detect_model(params, names, None, lambda _: False)


@pytest.mark.parametrize(
    ("prefix", "has"),
    [("resnetv1c_", True), ("outer0_resnetv1c_", True), ("My-resnetv1c_", False), ("a_", False)],
)
def test_prefix_of_a_model_may_stand_behind_those_of_outer_networks(prefix: str, *, has: bool) -> None:
    model = catalog.find("gluon_resnet50_v1c")
    style = naming_styles.read(counted(model, prefix), FILE)
    assert detection.has_model_prefix(model, style) is has
