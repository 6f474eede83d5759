"""A known network is found in a file that names it otherwise or contains more than it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
from symbols import counted_names

from converter.networks import catalog, location, wrappings

if TYPE_CHECKING:
    from converter.dtypes import Array
    from converter.networks.catalog import Model
    from converter.networks.location import LocatedNetwork
    from converter.networks.wrappings import Wrapping
    from resnext_torch.config import Shape

FILE = "holiday.params"
RESNEXT, RESNET = "gluon_resnext50_32x4d", "gluon_resnet18_v1b"
LIST = {"conv1": "0", "bn1": "1", "layer1": "4", "layer2": "5", "layer3": "6", "layer4": "7"}
RCNN = {part: f"features.{place}" for part, place in LIST.items()} | {"layer4": "top_features.0"}
SSD = {
    **{part: f"features.stage1.{LIST[part]}" for part in ("conv1", "bn1", "layer1", "layer2")},
    "layer3": "features.stage2.0",
    "layer4": "features.stage2.1",
}


def array(*shape: int) -> Array:
    """Return an array of the given shape that takes four bytes."""
    return np.broadcast_to(np.zeros((), np.float32), shape)


def arrays_of(model: Model) -> dict[str, Array]:
    return {name: array(*shape) for name, shape in model.source_shapes.items()}


def backbone_of(model: Model) -> dict[str, Array]:
    return arrays_of(model.with_config(num_classes=0))


def moved(arrays: dict[str, Array], places: dict[str, str], outer: str = "") -> dict[str, Array]:
    """Return arrays whose first part of the name is replaced, behind an outer prefix."""
    parts = {name: name.partition(".") for name in arrays}
    return {
        f"{outer}{places.get(parts[name][0], parts[name][0])}.{parts[name][2]}": each
        for name, each in arrays.items()
    }


def prefixed(arrays: dict[str, Array], outer: str) -> dict[str, Array]:
    return {f"{outer}{name}": each for name, each in arrays.items()}


def only(arrays: dict[str, Array]) -> Wrapping:
    """Return the only wrapping in a file, with every name in the file used once or unused."""
    (found,) = wrappings.find(arrays, list(catalog.models().values()), FILE)
    assert sorted([*found.names.values(), *found.rest]) == sorted(arrays)
    assert {name: arrays[each].shape for name, each in found.names.items()} == {
        name: shape for name, shape in found.model.source_shapes.items() if name in found.names
    }
    return found


def locate(arrays: dict[str, Array]) -> list[LocatedNetwork]:
    return location.locate(arrays, FILE)


@pytest.mark.parametrize("name", [RESNEXT, RESNET, "gluon_resnet50_v1d", "gluon_senet154"])
@pytest.mark.parametrize("outer", ["model.", "backbone.", "0.", "module.net."])
def test_network_behind_a_prefix_is_found(name: str, outer: str) -> None:
    model = catalog.find(name)
    found = only(prefixed(arrays_of(model), outer))
    assert found.model == model
    assert found.describe() == f"{name} behind `{outer}`"
    assert found.names == {structural: f"{outer}{structural}" for structural in arrays_of(model)}


def test_features_alone_are_a_backbone() -> None:
    features = {
        name.removeprefix("features."): each for name, each in backbone_of(catalog.find(RESNEXT)).items()
    }
    found = only(features)
    assert found.model == catalog.find(RESNEXT).with_config(num_classes=0)
    assert found.describe() == f"the backbone of {RESNEXT} without a head: `features`"


@pytest.mark.parametrize(
    ("place", "head"), [("0.", "1"), ("backbone.", "fc"), ("body.net.", "classifier.1"), ("", "output.2")]
)
def test_features_with_a_dense_layer_elsewhere_are_a_network(place: str, head: str) -> None:
    features = {
        name.replace("features.", place): each for name, each in backbone_of(catalog.find(RESNEXT)).items()
    }
    found = only({**features, f"{head}.weight": array(7, 2048), f"{head}.bias": array(7)})
    assert found.model.config.num_classes == 7
    assert (found.names["output.weight"], found.names["output.bias"]) == (f"{head}.weight", f"{head}.bias")
    assert found.describe().endswith(f"head `{head}`")


def test_head_behind_a_dropout_is_found() -> None:
    arrays = backbone_of(catalog.find(RESNEXT)) | {
        "output.1.weight": array(9, 2048),
        "output.1.bias": array(9),
    }
    assert only(arrays).names["output.weight"] == "output.1.weight"


@pytest.mark.parametrize(
    "extra",
    [
        {
            "output.0.weight": (256, 2048),
            "output.0.bias": (256,),
            "output.2.weight": (9, 256),
            "output.2.bias": (9,),
        },
        {"output.1.weight": (9, 2048), "output.1.bias": (9,), "output.0.gamma": (2048,)},
        {"output.1.weight": (9, 1024), "output.1.bias": (9,)},
        {"output.1.weight": (9, 2048), "output.1.bias": (8,)},
        {"output.1.weight": (9, 2048), "scores.weight": (4, 2048)},
        {"unnamed": (9, 2048)},
    ],
)
def test_other_layers_are_no_head(extra: dict[str, Shape]) -> None:
    found = only(backbone_of(catalog.find(RESNEXT)) | {name: array(*shape) for name, shape in extra.items()})
    assert found.is_backbone
    assert set(found.rest) == set(extra)


def test_dense_layer_without_bias_elsewhere_may_be_an_embedding() -> None:
    backbone = prefixed(backbone_of(catalog.find(RESNET)), "cnn.")
    assert only(backbone | {"embed.weight": array(300, 512)}).is_backbone
    named = index_based(catalog.find(RESNET).with_config(num_classes=0), "resnetv1b_")
    assert only(named | {"dense2_weight": array(300, 512)}).zeros == ("fc.bias",)


def test_head_that_other_layers_may_follow_is_not_certain() -> None:
    arrays = backbone_of(catalog.find(RESNET)) | {"fc.weight": array(512, 512), "fc.bias": array(512)}
    assert not only(arrays).is_backbone
    found = only(arrays | {"fc2.weight": array(10, 512), "fc2.bias": array(10)})
    assert (found.is_backbone, found.own_head_fits) == (True, True)


@pytest.mark.parametrize("name", ["fc.bias", "fc.wieght"])
def test_rest_of_a_head_is_not_overlooked(name: str) -> None:
    found = only(backbone_of(catalog.find(RESNET)) | {name: array(1000)})
    assert (found.own_head_names, found.own_head_fits) == ((name,), False)


@pytest.mark.parametrize("name", ["features.2.alpha", "features.6.weight", "features.4.0.body.2.alpha"])
def test_layer_between_those_of_a_backbone_is_part_of_it(name: str) -> None:
    arrays = arrays_of(catalog.find(RESNEXT)) | {name: array(64)}
    assert wrappings.find(arrays, list(catalog.models().values()), FILE) == []


@pytest.mark.parametrize(
    ("places", "name"), [(LIST, "2.alpha"), (RCNN, "features.3.weight"), ({}, "relu.alpha")]
)
def test_layer_between_those_of_a_list_is_part_of_it(places: dict[str, str], name: str) -> None:
    arrays = moved(backbone_of(catalog.find(RESNET)), places) | {name: array(64)}
    assert wrappings.find(arrays, list(catalog.models().values()), FILE) == []


def test_layer_with_the_prefix_of_a_network_is_part_of_it() -> None:
    arrays = index_based(catalog.find(RESNET).with_config(num_classes=0), "resnetv1b_")
    arrays |= {"dense2_weight": array(9, 512), "dense2_bias": array(9)}
    assert not only(arrays).is_backbone
    with_other = arrays | {"resnetv1b_prelu0_alpha": array(64)}
    assert wrappings.find(with_other, list(catalog.models().values()), FILE) == []


def test_bias_that_the_head_lacks_is_zero() -> None:
    arrays = arrays_of(catalog.find(RESNEXT))
    del arrays["output.bias"]
    found = only(arrays)
    assert (found.zeros, found.is_backbone) == (("output.bias",), False)
    assert found.describe() == f"{RESNEXT}, whose head has no bias"


def test_second_head_is_unused() -> None:
    arrays = arrays_of(catalog.find(RESNET)) | {"output.weight": array(10, 512), "output.bias": array(10)}
    found = only(arrays)
    assert found.names["fc.weight"] == "fc.weight"
    assert found.rest == ("output.weight", "output.bias")
    assert found.describe() == f"{RESNET}, head `fc` of several"


def test_own_head_of_another_shape_is_not_overlooked() -> None:
    arrays = arrays_of(catalog.find(RESNET)) | {"fc.bias": array(7)}
    found = only(arrays)
    assert (found.own_head_names, found.own_head_fits) == (("fc.weight", "fc.bias"), False)


def index_based(model: Model, prefix: str) -> dict[str, Array]:
    shapes = model.source_shapes
    return {name: array(*shapes[structural]) for structural, name in counted_names(model, prefix).items()}


@pytest.mark.parametrize("child", ["0.", "features.", "body.net."])
@pytest.mark.parametrize("prefix", ["", "resnext0_"])
def test_index_based_names_behind_a_child_are_found(child: str, prefix: str) -> None:
    model = catalog.find(RESNEXT)
    found = only(prefixed(index_based(model, prefix), child))
    assert (found.model, found.prefix) == (model, prefix)
    assert found.names["output.weight"] == f"{child}{prefix}dense0_weight"


def test_first_dense_layer_is_the_head_among_index_based_names() -> None:
    extra = {"resnetv1b_dense1_weight": array(10, 512), "resnetv1b_dense1_bias": array(10)}
    found = only(index_based(catalog.find(RESNET), "resnetv1b_") | extra)
    assert found.names["fc.weight"] == "resnetv1b_dense0_weight"
    assert found.rest == tuple(extra)


def test_replaced_dense_layers_are_ambiguous() -> None:
    arrays = index_based(catalog.find(RESNET).with_config(num_classes=0), "resnetv1b_")
    for number in (1, 2):
        arrays[f"resnetv1b_dense{number}_weight"] = array(10, 512)
    assert only(arrays).is_backbone


@pytest.mark.parametrize(
    ("places", "outer", "rest"),
    [
        (LIST, "base_network.base_network.", "heads.0.weight"),
        (LIST, "resnet.", "final_layer.weight"),
        (LIST, "features.", "upsampling.0.weight"),
        (RCNN, "", "rpn.conv1.0.weight"),
        (SSD, "", "features.more_stages.0.0.weight"),
    ],
)
@pytest.mark.parametrize("name", [RESNET, "gluon_resnet50_v1d"])
def test_backbone_of_a_detector_is_found(name: str, places: dict[str, str], outer: str, rest: str) -> None:
    backbone = backbone_of(catalog.find(name))
    found = only(moved(backbone, places, outer) | {rest: array(4, 512, 3, 3)})
    assert found.model == catalog.find(name).with_config(num_classes=0)
    assert found.rest == (rest,)
    assert found.has_own_strides == (places is not SSD)
    assert not found.is_dilated


@pytest.mark.parametrize(
    "missing", ["features.4.0.body.4.running_var", "features.0.weight", "features.7.2.body.7.beta"]
)
def test_incomplete_backbone_is_not_found(missing: str) -> None:
    arrays = prefixed(arrays_of(catalog.find(RESNEXT)), "model.")
    del arrays[f"model.{missing}"]
    assert wrappings.find(arrays, list(catalog.models().values()), FILE) == []


def test_stage_with_more_blocks_is_not_found() -> None:
    arrays = arrays_of(catalog.find(RESNEXT)) | {"features.4.3.body.0.weight": array(1)}
    arrays = prefixed(arrays, "model.")
    assert wrappings.find(arrays, list(catalog.models().values()), FILE) == []


def test_network_with_more_layers_is_only_a_backbone() -> None:
    arrays = prefixed(arrays_of(catalog.find(RESNEXT)) | {"features.9.weight": array(1)}, "model.")
    found = only(arrays)
    assert found.is_backbone
    assert found.rest == ("model.output.weight", "model.output.bias", "model.features.9.weight")


def test_backbone_with_another_shape_is_not_found() -> None:
    arrays = arrays_of(catalog.find(RESNEXT)) | {"features.4.0.body.3.weight": array(128, 8, 3, 3)}
    assert wrappings.find(prefixed(arrays, "model."), list(catalog.models().values()), FILE) == []


def test_shorter_network_is_not_found_in_a_longer_one() -> None:
    found = only(prefixed(arrays_of(catalog.find("gluon_resnet101_v1b")), "model."))
    assert found.model.name == "gluon_resnet101_v1b"


def test_two_networks_in_a_file_are_both_found() -> None:
    arrays = prefixed(arrays_of(catalog.find(RESNET)), "a.") | prefixed(arrays_of(catalog.find(RESNET)), "b.")
    found = wrappings.find(arrays, list(catalog.models().values()), FILE)
    assert {each.place for each in found} == {"a.", "b."}


@pytest.mark.parametrize(
    "part",
    ["head.block.0.weight", "auxlayer.block.4.bias", "head.psp.conv1.0.weight", "head.cff_12.x.weight"],
)
def test_backbone_of_a_segmentation_network_is_dilated(part: str) -> None:
    (found,) = locate(backbone_of(catalog.find("gluon_resnet50_v1s")) | {part: array(21)})
    assert found.model.config.output_stride == 8


@pytest.mark.parametrize(
    ("outer", "others"),
    [
        ("backbone.", ("head.0.weight", "head.2.weight")),
        ("backbone.", ("head.block.0.weight",)),
        ("", ("head.weight",)),
        ("", ("head.block.0.weight", "decoder.weight")),
    ],
)
def test_backbone_of_another_network_is_not_dilated(outer: str, others: tuple[str, ...]) -> None:
    arrays = prefixed(backbone_of(catalog.find(RESNET)), outer) | {name: array(4, 4) for name in others}
    (found,) = locate(arrays)
    assert found.model.config.output_stride == 32


@pytest.mark.parametrize("name", [RESNEXT, "gluon_cifar_resnext29_32x4d"])
def test_resnext_is_not_dilated(name: str) -> None:
    (found,) = locate(backbone_of(catalog.find(name)) | {"head.block.0.weight": array(21)})
    assert "output_stride" not in found.model.arguments


@pytest.mark.parametrize("prefix", ["fcn0_resnetv1s_", "deeplabv30_resnetv1s_", "pspnet12_resnetv1s_"])
def test_index_based_names_of_a_segmentation_network_are_known(prefix: str) -> None:
    arrays = index_based(catalog.find("gluon_resnet50_v1s").with_config(num_classes=0), prefix)
    found = wrappings.find(
        arrays | {"net0__fcnhead0_conv0_weight": array(1)}, [catalog.find("gluon_resnet50_v1s")], FILE
    )
    assert [each.is_dilated for each in found] == [True]


def test_index_based_names_of_an_ssd_are_known() -> None:
    arrays = index_based(catalog.find("gluon_resnet34_v1b").with_config(num_classes=0), "net0_resnetv1b_")
    assert only(arrays | {"net0_conv0_weight": array(1)}).has_own_strides
    assert not only(arrays | {"net0_ssdanchorgenerator0_anchor_0": array(1)}).has_own_strides


def test_gluoncv_own_names_take_precedence() -> None:
    (found,) = locate(arrays_of(catalog.find(RESNEXT)))
    assert found.wrapping is None


def test_backbone_is_taken_without_its_head() -> None:
    (found,) = location.locate(arrays_of(catalog.find(RESNEXT)), FILE, backbone=True)
    assert found.wrapping is not None
    assert (found.is_backbone, found.wrapping.rest) == (True, ("output.weight", "output.bias"))


def test_input_channels_are_those_of_the_first_convolution() -> None:
    model = catalog.find(RESNET).with_config(in_chans=4)
    assert only(prefixed(arrays_of(model), "model.")).model == model


def test_names_of_a_hostile_file_are_searched_in_bounded_time() -> None:
    arrays = {f"{number}.0.weight": array(1) for number in range(20_000)}
    assert wrappings.find(arrays, list(catalog.models().values()), FILE) == []
