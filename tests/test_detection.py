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
HINT = "select one with --model"


def array(shape: Shape) -> Array:
    """Return an array of the given shape that takes four bytes."""
    return np.broadcast_to(np.zeros((), np.float32), shape)


def gluon_arrays(model: Model) -> dict[str, Array]:
    shapes = model.shapes
    return {tensor.source: array(shapes[tensor.target]) for tensor in model.mapping.tensors}


def torch_arrays(model: Model) -> dict[str, Array]:
    return {name: array(shape) for name, shape in model.shapes.items()}


def prefixed_arrays(model: Model, prefix: str = "") -> dict[str, Array]:
    """Return arrays by prefix names, with each layer numbered within its scope and kind."""
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


def match_gluon_arrays(arrays: dict[str, Array]) -> list[Model]:
    return detection.match_gluon(arrays, naming_styles.read(arrays, FILE))


def names(models: Iterable[Model]) -> list[str]:
    return [model.name for model in models]


@pytest.mark.parametrize("name", MODELS)
def test_every_model_is_detected_from_gluon_names_and_shapes(name: str) -> None:
    model = catalog.find(name)
    assert match_gluon_arrays(gluon_arrays(model)) == [model]


@pytest.mark.parametrize("name", MODELS)
def test_every_model_is_detected_from_pytorch_names_and_shapes(name: str) -> None:
    model = catalog.find(name)
    assert detection.match_torch(torch_arrays(model)) == [model]


@pytest.mark.parametrize("name", MODELS)
def test_model_is_detected_with_another_number_of_classes(name: str) -> None:
    model = catalog.find(name).with_config(num_classes=7)
    assert match_gluon_arrays(gluon_arrays(model)) == [model]
    assert detection.match_torch(torch_arrays(model)) == [model]


@pytest.mark.parametrize("name", MODELS)
def test_model_is_detected_with_other_input_channels(name: str) -> None:
    model = catalog.find(name).with_config(in_chans=4)
    assert match_gluon_arrays(gluon_arrays(model)) == [model]
    assert detection.match_torch(torch_arrays(model)) == [model]


def test_missing_head_is_accepted_only_if_the_caller_allows_it() -> None:
    model = catalog.find("gluon_resnext50_32x4d")
    headless = model.with_config(num_classes=0)
    assert detection.with_config_of(model, gluon_arrays(headless)) == model
    assert detection.with_config_of(model, gluon_arrays(headless), allow_headless=True) == headless
    assert detection.with_config_of(model, torch_arrays(headless), allow_headless=True) == headless
    assert detection.with_config_of(model, torch_arrays(model), allow_headless=True) == model
    assert detection.match_torch(torch_arrays(headless)) == [headless]
    with_bias = torch_arrays(headless) | {"fc.bias": array((1000,))}
    assert detection.match_torch(with_bias) == []


@pytest.mark.parametrize("name", MODELS)
def test_wrong_shape_matches_no_model(name: str) -> None:
    model = catalog.find(name)
    tensor = next(tensor for tensor in model.mapping.tensors if tensor.source_role == "running_var")
    source, target = tensor.source, tensor.target
    assert match_gluon_arrays(gluon_arrays(model) | {source: array((3,))}) == []
    assert detection.match_torch(torch_arrays(model) | {target: array((3,))}) == []


@pytest.mark.parametrize("change", ["one less", "one more"])
def test_missing_or_extra_name_matches_no_model(change: str, tiny: Model) -> None:
    model = catalog.find("gluon_resnext50_32x4d")
    assert tiny.name not in MODELS
    params, state = gluon_arrays(model), torch_arrays(model)
    if change == "one less":
        del params["features.1.gamma"], state["bn1.weight"]
    else:
        params["features.1.delta"], state["bn1.delta"] = array((64,)), array((64,))
    assert match_gluon_arrays(params) == []
    assert detection.match_torch(state) == []


def test_name_order_does_not_matter() -> None:
    model = catalog.find("gluon_seresnext50_32x4d")
    assert match_gluon_arrays(dict(reversed(gluon_arrays(model).items()))) == [model]
    assert detection.match_torch(dict(reversed(torch_arrays(model).items()))) == [model]


@pytest.mark.parametrize("depth", ["50", "101", "152"])
def test_pytorch_states_of_v1c_and_v1d_are_distinguished(depth: str) -> None:
    v1c, v1d = (catalog.find(f"gluon_resnet{depth}_v1{letter}") for letter in "cd")
    assert names(detection.match_torch(torch_arrays(v1c))) == [v1c.name]
    assert names(detection.match_torch(torch_arrays(v1d))) == [v1d.name]
    assert sorted(v1c.shapes.values()) == sorted(v1d.shapes.values())


@pytest.mark.parametrize(
    "same", [("50_v1c", "50_v1d"), ("101_v1c", "101_v1d"), ("50_v1e", "50_v1s"), ("152_v1e", "152_v1s")]
)
def test_stripped_names_do_not_show_pooled_shortcuts(same: tuple[str, str]) -> None:
    both = [catalog.find(f"gluon_resnet{name}") for name in same]
    for model in both:
        assert set(names(match_gluon_arrays(prefixed_arrays(model)))) == set(names(both))


@pytest.mark.parametrize("name", ["gluon_resnext50_32x4d", "gluon_seresnext101_64x4d", "gluon_resnet18_v1b"])
def test_prefix_names_identify_model_and_number_of_classes(name: str) -> None:
    model = catalog.find(name).with_config(num_classes=7)
    assert match_gluon_arrays(prefixed_arrays(model, "net0_")) == [model]


def test_state_without_batch_counters_is_detected() -> None:
    model = catalog.find("gluon_resnet50_v1b")
    state = torch_arrays(model)
    without = {name: value for name, value in state.items() if not name.endswith("num_batches_tracked")}
    assert len(without) < len(state)
    assert detection.match_torch(without) == [model]
    some = without | {"bn1.num_batches_tracked": array(())}
    assert detection.match_torch(some) == [model]


@pytest.mark.parametrize("shape", [(), (2048,), (10, 2048, 1), (10, 2048, 1, 1), (10, 1024)])
def test_head_of_another_shape_matches_no_model(shape: Shape) -> None:
    model = catalog.find("gluon_resnext50_32x4d")
    assert match_gluon_arrays(gluon_arrays(model) | {"output.weight": array(shape)}) == []
    assert detection.match_torch(torch_arrays(model) | {"fc.weight": array(shape)}) == []


def test_head_with_inconsistent_bias_matches_no_model() -> None:
    model = catalog.find("gluon_resnext50_32x4d")
    assert match_gluon_arrays(gluon_arrays(model) | {"output.bias": array((7,))}) == []


def test_single_match_is_returned() -> None:
    model = catalog.find("gluon_resnet18_v1b")
    assert detection.require_one([model], gluon_arrays(model).values(), FILE, hint=HINT) == model


def test_ambiguous_match_is_refused_with_the_question() -> None:
    models = [catalog.find("gluon_resnet50_v1c"), catalog.find("gluon_resnet50_v1d")]
    expected = (
        r"^holiday\.params: the tensors match more than one model: "
        rf"gluon_resnet50_v1c or gluon_resnet50_v1d\n  {HINT}$"
    )
    with pytest.raises(MappingError, match=expected):
        detection.require_one(models, gluon_arrays(models[0]).values(), FILE, hint=HINT)


@pytest.mark.parametrize("name", MODELS)
def test_nearest_model_is_named_if_none_matches(name: str) -> None:
    arrays = gluon_arrays(catalog.find(name))
    del arrays[next(iter(arrays))]
    with pytest.raises(
        MappingError, match=r"^holiday\.params: the tensors match no model; the closest is "
    ) as error:
        detection.require_one(match_gluon_arrays(arrays), arrays.values(), FILE, hint=HINT)
    nearest = str(error.value).partition("the closest is ")[2].partition(":")[0]
    # By shapes alone, a model with pooled shortcuts equals the one without.
    assert nearest in {name, name.replace("_v1d", "_v1c"), name.replace("_v1s", "_v1e")}


@pytest.mark.parametrize(
    "name", ["gluon_seresnext50_32x4d", "gluon_resnext101_64x4d", "gluon_resnet34_v1b", "gluon_senet154"]
)
def test_nearest_of_a_deeper_network_is_the_original(name: str) -> None:
    model = catalog.find(name)
    depths = (*model.config.depths[:-1], model.config.depths[-1] + 1)
    deeper = replace(model, config=replace(model.config, depths=depths)).with_config(num_classes=10)
    assert len(deeper.shapes) > len(model.shapes)
    assert detection.nearest(list(deeper.shapes.values())).name == name


@pytest.mark.parametrize("shapes", [[], [()], [(1, 2, 3)]])
def test_nearest_always_returns_a_model(shapes: list[Shape]) -> None:
    assert detection.nearest(shapes).name in MODELS


@pytest.mark.parametrize("name", MODELS)
def test_match_either_finds_the_mapping_between_two_files(name: str) -> None:
    model = catalog.find(name)
    result = detection.match_either(gluon_arrays(model), torch_arrays(model))
    assert result is not None
    assert result.to_target() == model.mapping.to_target()


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [(["features.0.weight"], ["encoder.weight"]), (["encoder.weight"], ["conv1.weight"]), ([], [])],
)
def test_match_either_returns_none_for_unknown_names(ours: list[str], theirs: list[str]) -> None:
    assert detection.match_either(ours, theirs) is None


def test_prefix_of_another_model_is_refused() -> None:
    names = naming_styles.read(prefixed_arrays(catalog.find("gluon_resnet50_v1c"), "resnetv1c_"), FILE)
    detection.require_not_another(catalog.find("gluon_resnet50_v1c"), names)
    with pytest.raises(MappingError, match=r"the prefix resnetv1c_ belongs to .*, not to gluon_resnet50_v1d"):
        detection.require_not_another(catalog.find("gluon_resnet50_v1d"), names)
    without = naming_styles.read(prefixed_arrays(catalog.find("gluon_resnet50_v1c")), FILE)
    detection.require_not_another(catalog.find("gluon_resnet50_v1d"), without)


@pytest.mark.parametrize("name", ["gluon_resnet50_v1c", "gluon_resnet50_v1d"])
def test_graph_decides_between_models_with_equal_tensors(name: str) -> None:
    params = prefixed_arrays(catalog.find(name))
    names = naming_styles.read(params, FILE)
    content = json.dumps(symbol(catalog.find(name), counted_names(catalog.find(name), ""))).encode()
    graph = reader.parse(content, file="net-symbol.json", name="net-symbol.json")
    matches = detection.match_gluon(params, names)
    assert detection.choose_model(matches, params, names, graph, lambda _: False).name == name
    with pytest.raises(MappingError, match=f"  {detection.HINT}$"):
        detection.choose_model(matches, params, names, None, lambda _: False)


@pytest.mark.parametrize(
    ("prefix", "has"),
    [("resnetv1c_", True), ("outer0_resnetv1c_", True), ("My-resnetv1c_", False), ("a_", False)],
)
def test_model_prefix_may_follow_prefixes_of_outer_networks(prefix: str, *, has: bool) -> None:
    model = catalog.find("gluon_resnet50_v1c")
    style = naming_styles.read(prefixed_arrays(model, prefix), FILE)
    assert detection.has_model_prefix(model, style) is has
