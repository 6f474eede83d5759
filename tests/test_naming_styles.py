from __future__ import annotations

import random
import re
from typing import TYPE_CHECKING

import pytest

from converter.errors import DialectError, MappingError
from converter.networks import naming_styles
from converter.networks.mapping import Layer, Mapping, Tensor

if TYPE_CHECKING:
    from collections.abc import Iterable

# A stem, a stage of two blocks, the first with a shortcut, and a head.
LAYERS = (
    Layer("features.0", "conv1", "conv", "stem", ("", "conv")),
    Layer("features.1", "bn1", "batchnorm", "stem", ("", "batchnorm")),
    Layer("features.3", "maxpool", "pool", "stem"),
    Layer("features.4.0.body.0", "layer1.0.conv1", "conv", "layer1", ("stage1", "conv")),
    Layer("features.4.0.body.1", "layer1.0.bn1", "batchnorm", "layer1", ("stage1", "batchnorm")),
    Layer("features.4.0.downsample.0", "layer1.0.downsample.0", "conv", "layer1", ("stage1", "conv")),
    Layer("features.4.1.body.0", "layer1.1.conv1", "conv", "layer1", ("stage1", "conv")),
    Layer("output", "fc", "dense", "head", ("", "dense")),
)
PLAIN = {
    "features.0.weight": "conv0_weight",
    "features.1.gamma": "batchnorm0_gamma",
    "features.1.running_mean": "batchnorm0_running_mean",
    "features.4.0.body.0.weight": "stage1_conv0_weight",
    "features.4.0.body.1.beta": "stage1_batchnorm0_beta",
    "features.4.0.downsample.0.weight": "stage1_conv1_weight",
    "features.4.1.body.0.weight": "stage1_conv2_weight",
    "output.weight": "dense0_weight",
    "output.bias": "dense0_bias",
}
Pairs = dict[str, str]
BY_SOURCE = {layer.source: layer for layer in LAYERS}
TENSORS = tuple(
    Tensor(BY_SOURCE[name], role, role) for name, _, role in (key.rpartition(".") for key in PLAIN)
)
MAPPING = Mapping(LAYERS, TENSORS, (), "small.toml", "")


def with_prefix(prefix: str, pairs: Pairs = PLAIN) -> Pairs:
    return {key: f"{prefix}{name}" for key, name in pairs.items()}


def with_export_marks(pairs: Pairs) -> Pairs:
    marked = {True: "aux:", False: "arg:"}
    return {key: f"{marked['running' in name]}{name}" for key, name in pairs.items()}


def replace_in_names(pairs: Pairs, *exchanges: tuple[str, str]) -> Pairs:
    """Replace text in every name, for each (old, new) pair."""
    result = dict(pairs)
    for old, new in exchanges:
        assert any(old in name for name in result.values())
        result = {key: name.replace(old, new) for key, name in result.items()}
    return result


def resolve(names: Iterable[str]) -> Pairs:
    return naming_styles.read(names, "holiday.params").resolve(MAPPING)


STRUCTURAL = {key: key for key in PLAIN}
PREFIX = with_prefix("resnext0_")
KNOWN = {
    "structural": ("structural", "", STRUCTURAL),
    "prefix": ("prefix", "resnext0_", PREFIX),
    "another instance": ("prefix", "resnext11_", with_prefix("resnext11_")),
    "user's prefix": ("prefix", "foo_", with_prefix("foo_")),
    "a prefix without an underscore": ("prefix", "foo", with_prefix("foo")),
    "a prefix with a stage": ("prefix", "stage1_net0_", with_prefix("stage1_net0_")),
    "a prefix with a counter": ("prefix", "conv0_dense1_", with_prefix("conv0_dense1_")),
    "nested": ("prefix", "outer0_resnext0_", with_prefix("outer0_resnext0_")),
    "stripped": ("stripped prefix", "", PLAIN),
    "export": ("export", "resnext0_", with_export_marks(PREFIX)),
    "export without a prefix": ("export", "", with_export_marks(PLAIN)),
    "export, structural": ("export, structural", "", with_export_marks(STRUCTURAL)),
    "synchronised": ("prefix", "resnext0_", replace_in_names(PREFIX, ("_batchnorm", "_syncbatchnorm"))),
    "a new head": ("prefix", "resnext0_", replace_in_names(PREFIX, ("dense0", "dense4"))),
    "head outside the prefix": (
        "prefix",
        "resnext0_",
        replace_in_names(PREFIX, ("resnext0_dense0", "dense2")),
    ),
    "head with another prefix": (
        "prefix",
        "resnext0_",
        replace_in_names(PREFIX, ("resnext0_dense0", "a1_dense0")),
    ),
}


@pytest.mark.parametrize(("dialect", "prefix", "names"), KNOWN.values(), ids=KNOWN)
def test_every_style_resolves_to_the_structural_names(dialect: str, prefix: str, names: Pairs) -> None:
    naming = naming_styles.read(names.values(), "holiday.params")
    assert naming.resolve(MAPPING) == names
    assert (naming.dialect, naming.prefix) == (dialect, prefix)


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize(
    "names", [PREFIX, PLAIN, with_export_marks(PREFIX)], ids=["prefix", "stripped", "export"]
)
def test_order_in_the_file_does_not_matter(names: Pairs, seed: int) -> None:
    shuffled = random.Random(seed).sample(list(names.values()), len(names))  # noqa: S311 - a reproducible order, not a secret
    assert shuffled != list(names.values())
    assert resolve(shuffled) == names


GAPS = [
    [
        ("stage1_conv0", "stage1_conv3")
    ],  # the first of three was replaced by a new layer, which has the highest index
    [("stage1_conv1_", "stage1_conv9_")],
    [("stage1_conv2", "stage1_conv100")],
    [
        ("stage1_conv2", "stage1_conv12"),
        ("stage1_conv1_", "stage1_conv11_"),
        ("stage1_conv0", "stage1_conv10"),
    ],
]


@pytest.mark.parametrize("exchanges", GAPS)
def test_gapped_indices_are_matched_in_network_order(exchanges: list[tuple[str, str]]) -> None:
    names = replace_in_names(PREFIX, *exchanges)
    assert resolve(names.values()) == names


@pytest.mark.parametrize("exchanges", GAPS)
def test_gapped_indices_in_another_order_are_refused(exchanges: list[tuple[str, str]]) -> None:
    first, *others = replace_in_names(PREFIX, *exchanges).values()
    with pytest.raises(MappingError, match=r"the layer numbers have gaps and .*\n  stage1: convolutions \["):
        resolve([*others, first])


@pytest.mark.parametrize(
    "exchanges",
    [
        [("_conv0", "_conv00")],
        [("resnext0_conv0", "resnext0_conv9")],
        [("batchnorm0", "batchnorm7"), ("dense0", "dense123456789")],
    ],
)
def test_index_of_a_single_layer_does_not_matter(exchanges: list[tuple[str, str]]) -> None:
    names = replace_in_names(PREFIX, *exchanges)
    assert resolve(sorted(names.values())) == names


def test_swapped_indices_resolve_to_swapped_layers() -> None:
    exchanged = replace_in_names(
        PREFIX, ("stage1_conv0", "(a)"), ("stage1_conv2", "stage1_conv0"), ("(a)", "stage1_conv2")
    )
    resolved = resolve(exchanged.values())
    assert resolved != exchanged
    assert resolved["features.4.0.body.0.weight"] == "resnext0_stage1_conv0_weight"


def test_names_are_stripped_to_those_of_a_new_network() -> None:
    names = replace_in_names(PREFIX, ("stage1_conv0", "stage1_conv3"), ("resnext0_dense0", "dense2"))
    stripped = naming_styles.read(names.values(), "holiday.params").stripped()
    assert stripped == {PLAIN[key]: name for key, name in names.items()}


def test_head_arrays_must_share_a_prefix() -> None:
    names = replace_in_names(PREFIX, ("resnext0_dense0_bias", "other1_dense0_bias"))
    with pytest.raises(DialectError, match="contains more than one network"):
        resolve(names.values())


def test_replaced_stem_needs_no_prefix() -> None:
    names = replace_in_names(PREFIX, ("resnext0_conv0_weight", "conv7_weight"))
    assert resolve(names.values())["features.0.weight"] == "conv7_weight"


def test_replaced_layer_of_a_stage_needs_the_prefix() -> None:
    names = replace_in_names(PREFIX, ("resnext0_stage1_conv0_weight", "stage1_conv0_weight"))
    with pytest.raises(DialectError, match="contains more than one network"):
        resolve(names.values())


def test_very_long_name_is_refused_quickly() -> None:
    with pytest.raises(DialectError, match="follow no supported naming style"):
        resolve([*PREFIX.values(), "batchnorm" * 30_000])


@pytest.mark.parametrize(
    ("names", "lines"),
    [
        ({"features.0.weight": "net0_conv0_weight"}, ["outside the stages: expected 1 BatchNorms, found 0"]),
        (
            PREFIX | {"more": "resnext0_stage1_conv3_weight"},
            ["stage1: expected 3 convolutions, found 4"],
        ),
        (
            {key: name for key, name in PREFIX.items() if not name.endswith("stage1_conv0_weight")},
            ["stage1: expected 3 convolutions, found 2"],
        ),
        (
            PREFIX | {"more": "resnext0_stage2_batchnorm0_beta", "head": "resnext0_dense1_weight"},
            [
                "outside the stages: expected 1 dense layers, found 2",
                "stage2: expected 0 BatchNorms, found 1",
            ],
        ),
        (
            replace_in_names(PREFIX, ("stage1", "layers1")),
            [
                "stage1: expected 3 convolutions, found 0",
                "stage1: expected 1 BatchNorms, found 0",
                "layers1: expected 0 convolutions, found 3",
                "layers1: expected 0 BatchNorms, found 1",
            ],
        ),
    ],
    ids=["one layer", "extra layer", "missing layer", "extra stage and head", "scopes of another network"],
)
def test_wrong_number_of_layers_is_refused_with_the_scope(names: Pairs, lines: list[str]) -> None:
    headline = r"^holiday\.params: the layers do not match mappings/small\.toml\n"
    with pytest.raises(MappingError, match=headline) as refused:
        resolve(names.values())
    assert set(lines) <= {line.strip() for line in str(refused.value).splitlines()}
    assert len(lines) == 1 or len(lines) == len(str(refused.value).splitlines()) - 1


def test_missing_and_extra_roles_are_not_checked() -> None:
    names = PREFIX | {"features.0.bias": "resnext0_conv0_bias"}
    del names["features.1.gamma"]
    assert resolve(names.values()) == names


@pytest.mark.parametrize(
    ("name", "printed"),
    [
        ("resnext0_conv_weight", "resnext0_conv_weight"),
        ("resnext0_conv0_", "resnext0_conv0_"),
        ("resnext0_conv0_moving_weight", "resnext0_conv0_moving_weight"),
        ("resnext0_conv0_weight_", "resnext0_conv0_weight_"),
        ("resnext0_conv0_weight\n", r"resnext0_conv0_weight\n"),
        ("resnext0_conv0weight", "resnext0_conv0weight"),
        ("resnext0_conv1234567890_weight", "resnext0_conv1234567890_weight"),
        ("resnext0_lstm0_weight", "resnext0_lstm0_weight"),
        ("Conv0_weight", "Conv0_weight"),
        ("", ""),
    ],
)
def test_unknown_name_is_refused(name: str, printed: str) -> None:
    headline = r"^holiday\.params: these names follow no supported naming style\n  "
    with pytest.raises(DialectError, match=f"{headline}{re.escape(printed)}\n  supported: features"):
        naming_styles.read([*PREFIX.values(), name], "holiday.params")


def test_many_unknown_names_are_all_listed() -> None:
    with pytest.raises(DialectError, match=r"(\n  stranger\d+){100}\n  supported: "):
        naming_styles.read([f"stranger{number}" for number in range(100)], "holiday.params")


@pytest.mark.parametrize(
    ("other", "examples"),
    [
        (with_prefix("resnext1_"), ["resnext0_conv0_weight", "resnext1_conv0_weight"]),
        (PLAIN, ["resnext0_conv0_weight", "conv0_weight"]),
        ({"one array": "resnext1_stage1_conv9_weight"}, ["resnext1_stage1_conv9_weight"]),
        ({"marked": "aux:resnext0_conv0_weight"}, ["resnext0_conv0_weight", "aux:resnext0_conv0_weight"]),
        (
            {"head": "dense0_weight"},
            ["resnext0_dense0_weight", "dense0_weight"],
        ),
        (
            {"synchronised": "resnext0_syncbatchnorm0_gamma"},
            ["resnext0_batchnorm0_gamma", "resnext0_syncbatchnorm0_gamma"],
        ),
    ],
    ids=["two instances", "prefixed and unprefixed", "an array", "a mark", "two heads", "two BatchNorms"],
)
def test_two_networks_in_one_file_are_refused_with_examples(other: Pairs, examples: list[str]) -> None:
    with pytest.raises(DialectError, match=r"^holiday\.params: contains more than one network") as refused:
        naming_styles.read([*PREFIX.values(), *other.values()], "holiday.params")
    assert set(examples) <= {line.strip() for line in str(refused.value).splitlines()}


@pytest.mark.parametrize("name", ["features.0.weight", "resnext0_conv0_weight"])
def test_name_under_both_arg_and_aux_is_refused(name: str) -> None:
    with pytest.raises(DialectError, match=r"^holiday\.params: the same name occurs with arg: and with aux:"):
        naming_styles.read([f"arg:{name}", f"aux:{name}"], "holiday.params")


def test_only_one_mark_is_removed() -> None:
    naming = naming_styles.read(["arg:arg:features.0.weight"], "holiday.params")
    assert naming.structural == {"arg:features.0.weight": "arg:arg:features.0.weight"}


def test_one_dot_makes_all_names_structural() -> None:
    mixed = [*PREFIX.values(), "features.0.weight"]
    naming = naming_styles.read(mixed, "holiday.params")
    assert naming.dialect == "structural"
    assert naming.resolve(MAPPING) == {name: name for name in mixed}


def test_file_without_names_lacks_the_layers() -> None:
    with pytest.raises(MappingError, match="outside the stages: expected 1 convolutions, found 0"):
        resolve([])
