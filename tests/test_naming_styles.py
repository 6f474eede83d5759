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

# A stem, a stage of two blocks, of which the first has a shortcut, and a head.
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


def prefixed(prefix: str, pairs: Pairs = PLAIN) -> Pairs:
    return {key: f"{prefix}{name}" for key, name in pairs.items()}


def exported(pairs: Pairs) -> Pairs:
    marked = {True: "aux:", False: "arg:"}
    return {key: f"{marked['running' in name]}{name}" for key, name in pairs.items()}


def renamed(pairs: Pairs, *exchanges: tuple[str, str]) -> Pairs:
    """Replace, in every name, each first text by its second."""
    result = dict(pairs)
    for old, new in exchanges:
        assert any(old in name for name in result.values())
        result = {key: name.replace(old, new) for key, name in result.items()}
    return result


def resolve(names: Iterable[str]) -> Pairs:
    return naming_styles.read(names, "holiday.params").resolve(MAPPING)


STRUCTURAL = {key: key for key in PLAIN}
PREFIX = prefixed("resnext0_")
KNOWN = {
    "structural": ("structural", "", STRUCTURAL),
    "prefix": ("prefix", "resnext0_", PREFIX),
    "another instance": ("prefix", "resnext11_", prefixed("resnext11_")),
    "a prefix of the user's": ("prefix", "foo_", prefixed("foo_")),
    "a prefix without an underscore": ("prefix", "foo", prefixed("foo")),
    "a prefix with a stage": ("prefix", "stage1_net0_", prefixed("stage1_net0_")),
    "a prefix with a counter": ("prefix", "conv0_dense1_", prefixed("conv0_dense1_")),
    "nested": ("prefix", "outer0_resnext0_", prefixed("outer0_resnext0_")),
    "stripped": ("stripped prefix", "", PLAIN),
    "export": ("export", "resnext0_", exported(PREFIX)),
    "export without a prefix": ("export", "", exported(PLAIN)),
    "export, structural": ("export, structural", "", exported(STRUCTURAL)),
    "synchronised": ("prefix", "resnext0_", renamed(PREFIX, ("_batchnorm", "_syncbatchnorm"))),
    "a new head": ("prefix", "resnext0_", renamed(PREFIX, ("dense0", "dense4"))),
    "a head from outside": ("prefix", "resnext0_", renamed(PREFIX, ("resnext0_dense0", "dense2"))),
    "a head of another network's": ("prefix", "resnext0_", renamed(PREFIX, ("resnext0_dense0", "a1_dense0"))),
}


@pytest.mark.parametrize(("dialect", "prefix", "names"), KNOWN.values(), ids=KNOWN)
def test_every_style_gives_the_structural_names(dialect: str, prefix: str, names: Pairs) -> None:
    naming = naming_styles.read(names.values(), "holiday.params")
    assert naming.resolve(MAPPING) == names
    assert (naming.dialect, naming.prefix) == (dialect, prefix)


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("names", [PREFIX, PLAIN, exported(PREFIX)], ids=["prefix", "stripped", "export"])
def test_the_order_of_the_file_says_nothing(names: Pairs, seed: int) -> None:
    shuffled = random.Random(seed).sample(list(names.values()), len(names))  # noqa: S311 - an order, no secret
    assert shuffled != list(names.values())
    assert resolve(shuffled) == names


GAPS = [
    [("stage1_conv0", "stage1_conv3")],  # the first of three was replaced, and is the last that was made
    [("stage1_conv1_", "stage1_conv9_")],
    [("stage1_conv2", "stage1_conv100")],
    [
        ("stage1_conv2", "stage1_conv12"),
        ("stage1_conv1_", "stage1_conv11_"),
        ("stage1_conv0", "stage1_conv10"),
    ],
]


@pytest.mark.parametrize("exchanges", GAPS)
def test_numbers_with_gaps_are_paired_by_the_networks_own_order(exchanges: list[tuple[str, str]]) -> None:
    names = renamed(PREFIX, *exchanges)
    assert resolve(names.values()) == names


@pytest.mark.parametrize("exchanges", GAPS)
def test_numbers_with_gaps_in_another_order_are_refused(exchanges: list[tuple[str, str]]) -> None:
    first, *others = renamed(PREFIX, *exchanges).values()
    with pytest.raises(MappingError, match=r"numbers with gaps, .*\n  stage1: convolutions \["):
        resolve([*others, first])


@pytest.mark.parametrize(
    "exchanges",
    [
        [("_conv0", "_conv00")],
        [("resnext0_conv0", "resnext0_conv9")],
        [("batchnorm0", "batchnorm7"), ("dense0", "dense123456789")],
    ],
)
def test_the_number_of_a_single_layer_is_not_asked_for(exchanges: list[tuple[str, str]]) -> None:
    names = renamed(PREFIX, *exchanges)
    assert resolve(sorted(names.values())) == names


def test_numbers_exchanged_are_another_pairing() -> None:
    exchanged = renamed(
        PREFIX, ("stage1_conv0", "(a)"), ("stage1_conv2", "stage1_conv0"), ("(a)", "stage1_conv2")
    )
    found = resolve(exchanged.values())
    assert found != exchanged
    assert found["features.4.0.body.0.weight"] == "resnext0_stage1_conv0_weight"


def test_names_are_stripped_to_those_of_a_network_made_anew() -> None:
    names = renamed(PREFIX, ("stage1_conv0", "stage1_conv3"), ("resnext0_dense0", "dense2"))
    stripped = naming_styles.read(names.values(), "holiday.params").stripped()
    assert stripped == {PLAIN[key]: name for key, name in names.items()}


def test_a_heads_arrays_have_one_prefix() -> None:
    names = renamed(PREFIX, ("resnext0_dense0_bias", "other1_dense0_bias"))
    with pytest.raises(DialectError, match="more than one network in one file"):
        resolve(names.values())


def test_an_endless_name_is_a_stranger_at_once() -> None:
    with pytest.raises(DialectError, match="in none of Gluon's styles"):
        resolve([*PREFIX.values(), "batchnorm" * 30_000])


@pytest.mark.parametrize(
    ("names", "lines"),
    [
        ({"features.0.weight": "net0_conv0_weight"}, ["outside the stages: 1 BatchNorms expected, 0 found"]),
        (
            PREFIX | {"more": "resnext0_stage1_conv3_weight"},
            ["stage1: 3 convolutions expected, 4 found"],
        ),
        (
            {key: name for key, name in PREFIX.items() if not name.endswith("stage1_conv0_weight")},
            ["stage1: 3 convolutions expected, 2 found"],
        ),
        (
            PREFIX | {"more": "resnext0_stage2_batchnorm0_beta", "head": "resnext0_dense1_weight"},
            [
                "outside the stages: 1 dense layers expected, 2 found",
                "stage2: 0 BatchNorms expected, 1 found",
            ],
        ),
        (
            renamed(PREFIX, ("stage1", "layers1")),
            [
                "stage1: 3 convolutions expected, 0 found",
                "stage1: 1 BatchNorms expected, 0 found",
                "layers1: 0 convolutions expected, 3 found",
                "layers1: 0 BatchNorms expected, 1 found",
            ],
        ),
    ],
    ids=["one layer", "one more", "one less", "a stage and a head more", "another network's scopes"],
)
def test_layers_of_another_number_are_refused_with_their_scope(names: Pairs, lines: list[str]) -> None:
    headline = r"^holiday\.params: the layers do not match mappings/small\.toml\n"
    with pytest.raises(MappingError, match=headline) as refused:
        resolve(names.values())
    assert set(lines) <= {line.strip() for line in str(refused.value).splitlines()}
    assert len(lines) == 1 or len(lines) == len(str(refused.value).splitlines()) - 1


def test_a_role_too_few_or_many_is_left_to_the_comparison_with_the_model() -> None:
    names = PREFIX | {"features.0.bias": "resnext0_conv0_bias"}
    del names["features.1.gamma"]
    assert resolve(names.values()) == names


@pytest.mark.parametrize(
    ("name", "printed"),
    [
        ("resnext0_conv_weight", "resnext0_conv_weight"),
        ("resnext0_conv0_", "resnext0_conv0_"),
        ("resnext0_conv0_moving_mean", "resnext0_conv0_moving_mean"),
        ("resnext0_conv0_weight_", "resnext0_conv0_weight_"),
        ("resnext0_conv0_weight\n", r"resnext0_conv0_weight\n"),
        ("resnext0_conv0weight", "resnext0_conv0weight"),
        ("resnext0_conv1234567890_weight", "resnext0_conv1234567890_weight"),
        ("resnext0_lstm0_weight", "resnext0_lstm0_weight"),
        ("Conv0_weight", "Conv0_weight"),
        ("", ""),
    ],
)
def test_a_stranger_among_the_names_is_refused_by_name(name: str, printed: str) -> None:
    headline = r"^holiday\.params: names in none of Gluon's styles\n  "
    with pytest.raises(DialectError, match=f"{headline}{re.escape(printed)}\n  Read are features"):
        naming_styles.read([*PREFIX.values(), name], "holiday.params")


def test_many_strangers_are_not_all_listed() -> None:
    with pytest.raises(DialectError, match=r"stranger19\n  and 80 more\n"):
        naming_styles.read([f"stranger{number}" for number in range(100)], "holiday.params")


@pytest.mark.parametrize(
    ("other", "examples"),
    [
        (prefixed("resnext1_"), ["resnext0_conv0_weight", "resnext1_conv0_weight"]),
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
    ids=["two instances", "with prefix and without", "an array", "a mark", "two heads", "two BatchNorms"],
)
def test_two_networks_in_one_file_are_refused_with_an_example_of_each(
    other: Pairs, examples: list[str]
) -> None:
    with pytest.raises(DialectError, match=r"^holiday\.params: more than one network in one file") as refused:
        naming_styles.read([*PREFIX.values(), *other.values()], "holiday.params")
    assert set(examples) <= {line.strip() for line in str(refused.value).splitlines()}


@pytest.mark.parametrize("name", ["features.0.weight", "resnext0_conv0_weight"])
def test_a_name_under_arg_and_under_aux_is_refused(name: str) -> None:
    with pytest.raises(
        DialectError, match=r"^holiday\.params: the same name stands under arg: and under aux:"
    ):
        naming_styles.read([f"arg:{name}", f"aux:{name}"], "holiday.params")


def test_one_mark_is_taken_from_a_name_and_no_more() -> None:
    found = naming_styles.read(["arg:arg:features.0.weight"], "holiday.params")
    assert found.structural == {"arg:features.0.weight": "arg:arg:features.0.weight"}


def test_one_point_in_a_name_makes_all_of_them_structural() -> None:
    mixed = [*PREFIX.values(), "features.0.weight"]
    naming = naming_styles.read(mixed, "holiday.params")
    assert naming.dialect == "structural"
    assert naming.resolve(MAPPING) == {name: name for name in mixed}


def test_a_file_without_names_has_none_of_the_layers() -> None:
    with pytest.raises(MappingError, match="outside the stages: 1 convolutions expected, 0 found"):
        resolve([])
