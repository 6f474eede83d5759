"""``convert GRAPH OUT --target …``: weights for an existing module, proven on that module."""

from __future__ import annotations

import json
import re
import sys
from typing import TYPE_CHECKING, Any

import ecosystem_graphs
import existing_modules
import graph_files
import numpy as np
import pytest
import torch
from graph_building import Network
from graph_files import save
from safetensors.torch import load_file

import converter
from converter.cli import app
from converter.commands import target_alignment
from converter.commands.graph_conversion import convert_graph
from converter.errors import (
    ArtifactError,
    CheckpointError,
    ConversionError,
    MappingError,
    ParityError,
    TargetError,
    UsageError,
)
from converter.formats.params import write_params
from converter.graphs.alignment.rules import Assignment
from converter.networks import recorded_graphs, recorded_sources, target_tables
from converter.parity.options import ParityOptions
from converter.targets import adaptation, building, specification, state

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from converter.commands.graph_conversion import GraphConversionResult

NUMPY = ParityOptions("numpy", sizes=[32])
SMALL = "existing_modules:Small"


@pytest.fixture
def files(tmp_path: Path) -> tuple[Path, Path]:
    net = graph_files.small_network()
    return save(tmp_path, net, graph_files.parameters(net))


def convert(
    files: tuple[Path, Path], out: Path, target: str | None = SMALL, **options: object
) -> GraphConversionResult:
    graph, params = files
    return convert_graph(graph, out, params=params, target=target, **{"options": NUMPY, **options})  # type: ignore[arg-type]


def save_network(folder: Path, network: Network, head: str) -> tuple[Path, Path]:
    graph, params = folder / "net-symbol.json", folder / "net-0000.params"
    graph.write_bytes(network.build(head).content)
    with params.open("wb") as stream:
        write_params(stream, graph_files.parameters(network))
    return graph, params


def test_weights_load_into_the_module_and_compute_what_the_graph_does(
    files: tuple[Path, Path], tmp_path: Path
) -> None:
    result = convert(files, tmp_path / "out")
    assert result.module is None
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == sorted(
        [result.artifact.name, result.manifest_file.name]
    )
    module = existing_modules.Small()
    weights = load_file(result.artifact)
    module.load_state_dict(weights, strict=True)
    assert set(weights) == set(module.state_dict())
    manifest = result.manifest
    assert (manifest.kind, manifest.model) == ("existing", "Small")
    assert manifest.target
    assert manifest.target.layers == 11
    assert not manifest.target.rules
    assert not manifest.target.differences
    assert all(name.endswith("num_batches_tracked") for name in manifest.target.others)
    assert manifest.parity.proven
    assert [check.layers for check in manifest.parity.checks] == [12, 12]
    assert converter.verify(result.artifact).holds


def test_fixed_gammas_are_ones(files: tuple[Path, Path], tmp_path: Path) -> None:
    weights = load_file(convert(files, tmp_path / "out").artifact)
    assert torch.equal(weights["norm.weight"], torch.ones(8))


def test_other_eps_is_found_by_the_numbers_and_mended_by_adapt(
    files: tuple[Path, Path], tmp_path: Path
) -> None:
    arguments = {"eps": 1e-5}
    with pytest.raises(ParityError) as caught:
        convert(files, tmp_path / "out", target_args=arguments)
    text = str(caught.value)
    assert "existing_modules:Small differs from the graph in" in text
    assert "first at  bn0 → norm" in text
    assert "settings  bn0 → norm: eps 0.0010000000474974513 in the graph, 1e-05 in the module" in text
    assert "--adapt" in text
    assert not (tmp_path / "out").exists()
    result = convert(files, tmp_path / "out", target_args=arguments, adapt=True)
    assert result.manifest.target
    assert len(result.manifest.target.adaptations) == 5
    assert {each.setting for each in result.manifest.target.adaptations} == {"eps"}
    assert not result.manifest.target.differences
    assert result.manifest.target.arguments == arguments


def test_other_stride_is_named_and_mended_by_adapt(files: tuple[Path, Path], tmp_path: Path) -> None:
    arguments = {"stride": 1}
    with pytest.raises(ParityError) as caught:
        convert(files, tmp_path / "out", target_args=arguments)
    assert "settings  conv0 → stem: stride (2, 2) in the graph, (1, 1) in the module" in str(caught.value)
    table = tmp_path / "small.toml"
    result = convert(files, tmp_path / "out", target_args=arguments, adapt=True, save_mapping=table)
    assert result.manifest.target
    (changed,) = result.manifest.target.adaptations
    assert (changed.module, changed.setting, changed.value) == ("stem", "stride", (2, 2))
    assert '"stem.stride" = [2, 2]' in table.read_text()
    assert converter.verify(result.artifact).holds
    again = convert(files, tmp_path / "again", mapping=table)
    assert again.manifest.target
    assert again.manifest.target.adaptations == (changed,)


@pytest.fixture
def pooled(tmp_path: Path) -> tuple[Path, Path]:
    network = Network()
    x = network.conv("conv", "data", 1, 4)
    network.apply("Pooling", "pool", x, kernel="(3, 3)", stride="(2, 2)", pool_type="max")
    return save_network(tmp_path, network, "pool")


def test_setting_that_the_module_ignores_still_differs_after_adapt(
    pooled: tuple[Path, Path], tmp_path: Path
) -> None:
    target = "existing_modules:Ignoring"
    for adapt, step in ((False, "--adapt"), (True, "--target package.module:NAME, a function of your own")):
        with pytest.raises(ParityError, match=r"settings  pool → .*: stride \(2, 2\) in the graph") as caught:
            convert(pooled, tmp_path / "out", target, adapt=adapt)
        assert f"try       {step}" in str(caught.value)


@pytest.mark.parametrize("adapt", [False, True])
def test_pool_of_a_function_is_named_with_what_to_write(
    pooled: tuple[Path, Path], tmp_path: Path, adapt: bool
) -> None:
    with pytest.raises(ParityError, match=r"settings  pool → .*: stride \(2, 2\) in the graph") as caught:
        convert(pooled, tmp_path / "out", "existing_modules:Pooled", adapt=adapt)
    assert "try       --adapt" not in str(caught.value)
    assert "a function of your own" in str(caught.value)


def test_two_values_for_one_layer_are_refused() -> None:
    module = torch.nn.Sequential(torch.nn.BatchNorm2d(2))
    module.add_module("alias", module[0])
    changed = [
        adaptation.Adaptation(module=name, setting="eps", value=value)
        for name, value in (("0", 1e-3), ("alias", 1e-5))
    ]
    with pytest.raises(TargetError, match="alias: eps is set to two values"):
        adaptation.apply(module, changed)


def test_settings_are_said_wherever_the_module_is_named(files: tuple[Path, Path], tmp_path: Path) -> None:
    weights = convert(files, tmp_path / "out", target_args={"stride": 1}, adapt=True).artifact
    expected = "existing_modules.Small(stride=1), then stride = (2, 2) of stem"
    assert expected in converter.inspect(weights).verdict
    with pytest.raises(ConversionError, match=re.escape(f"built by  {expected}")):
        converter.to_gluon(weights, tmp_path / "back.params")


def test_model_by_name_does_not_replace_the_module_of_a_manifest(
    files: tuple[Path, Path], tmp_path: Path
) -> None:
    """ResNet v1 for torchvision has the names and shapes of ResNet v1b, and other strides."""
    weights = convert(files, tmp_path / "out").artifact
    with pytest.raises(ConversionError, match="which this command does not take"):
        converter.to_gluon(weights, tmp_path / "back.params", model="gluon_resnet50_v1b")


@pytest.mark.parametrize(
    ("options", "lost"),
    [
        ({"options": ParityOptions("none")}, "a proof in float32 .*float64 against numpy"),
        ({"target_args": {"eps": 0.002}, "adapt": True}, "another target, other arguments or other settings"),
    ],
)
def test_weaker_or_other_manifest_replaces_none(
    options: dict[str, object], lost: str, files: tuple[Path, Path], tmp_path: Path
) -> None:
    first = convert(files, tmp_path / "out")
    before = first.manifest_file.read_bytes()
    with pytest.raises(ArtifactError, match=f"already describes the same weights with {lost}"):
        convert(files, tmp_path / "out", **options)  # type: ignore[arg-type]
    assert first.manifest_file.read_bytes() == before
    assert convert(files, tmp_path / "out").artifact == first.artifact


def test_weights_of_two_manifests_with_other_settings_are_refused(
    files: tuple[Path, Path], tmp_path: Path
) -> None:
    result = convert(files, tmp_path / "out")
    document = json.loads(result.manifest_file.read_text())
    document["target"]["adaptations"] = [{"module": "stem", "setting": "stride", "value": [1, 1]}]
    (tmp_path / "out/a.json").write_text(json.dumps(document))
    with pytest.raises(CheckpointError, match="several manifests in its folder are of this file"):
        converter.inspect(result.artifact)


@pytest.mark.parametrize("key", ["stride=1); print(1) #", "class", ""])
def test_name_that_no_argument_has_is_refused(key: str, files: tuple[Path, Path], tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="is not the name of an argument"):
        convert(files, tmp_path / "out", target_args={key: 1})


def test_manifest_with_code_as_the_name_of_an_argument_is_refused(
    files: tuple[Path, Path], tmp_path: Path
) -> None:
    result = convert(files, tmp_path / "out")
    document = json.loads(result.manifest_file.read_text())
    document["target"]["arguments"] = {"stride=1); print(1) #": 1}
    result.manifest_file.write_text(json.dumps(document))
    assert not converter.verify(result.artifact).holds


@pytest.mark.parametrize("name", ["ClippedVector", "Undrawn"])
def test_module_for_vectors_is_compared_on_other_inputs(name: str, tmp_path: Path) -> None:
    network = Network()
    network.dense("first", "data", 8, 16)
    network.apply("relu", "relu", "first")
    network.dense("second", "relu", 16, 5)
    files = save_network(tmp_path, network, "second")
    shapes = {"input_shapes": {"data": (1, 8)}}
    assert convert(files, tmp_path / "out", "existing_modules:Vector", **shapes).manifest.parity.proven
    with pytest.raises(ParityError, match="but not on larger values or on several images"):
        convert(files, tmp_path / "other", f"existing_modules:{name}", **shapes)


def test_module_whose_outputs_are_all_selected_is_proven_by_its_layers(tmp_path: Path) -> None:
    network = Network()
    network.dense("first", "data", 8, 16)
    network.apply("relu", "relu", "first")
    network.dense("second", "relu", 16, 5)
    network.apply("argmax", "largest", "second", axis="1")
    files = save_network(tmp_path, network, "largest")
    options = {"input_shapes": {"data": (1, 8)}}
    assert convert(files, tmp_path / "out", "existing_modules:Largest", **options).manifest.parity.proven


def test_setting_outside_the_allowed_list_raises() -> None:
    changed = adaptation.Adaptation(module="", setting="forward", value=1)
    with pytest.raises(TargetError, match="cannot set forward: only eps, "):
        adaptation.apply(torch.nn.Identity(), [changed])


def test_slip_that_no_structure_shows_is_found_by_the_numbers(
    files: tuple[Path, Path], tmp_path: Path
) -> None:
    with pytest.raises(ParityError, match=r"first at  stage1_unit1_conv1 → blocks\.0\.first"):
        convert(files, tmp_path / "out", "existing_modules:Broken")


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("Clipped", "but not on larger values"),
        ("Mixed", r"but not on larger values or on several images"),
        ("Noisy", "agrees with the graph on the inputs of the proof, but not on"),
        ("Counting", "gives other outputs when it is called again"),
    ],
)
def test_module_that_agrees_on_the_inputs_of_the_proof_only_is_refused(
    name: str, reason: str, files: tuple[Path, Path], tmp_path: Path
) -> None:
    with pytest.raises(ParityError, match=reason):
        convert(files, tmp_path / "out", f"existing_modules:{name}")
    assert not [*(tmp_path / "out").glob("*")]


def test_module_without_the_softmax_needs_another_end(files: tuple[Path, Path], tmp_path: Path) -> None:
    with pytest.raises(ParityError, match=r"first at  softmax → the output[^$]*--output NODE"):
        convert(files, tmp_path / "out", "existing_modules:Logits")
    assert convert(files, tmp_path / "out", "existing_modules:Logits", output="fc1").manifest.parity.proven


def test_leaky_slope_is_adapted(tmp_path: Path) -> None:
    network = Network()
    network.apply("LeakyReLU", "leaky", network.conv("conv", "data", 1, 4), act_type="leaky", slope="0.1")
    files = save_network(tmp_path, network, "leaky")
    target, arguments = "existing_modules:leaky", {"slope": 0.01}
    with pytest.raises(ParityError, match=r"negative_slope 0.1.* in the graph, 0.01 in the module"):
        convert(files, tmp_path / "out", target, target_args=arguments)
    result = convert(files, tmp_path / "out", target, target_args=arguments, adapt=True)
    assert result.manifest.target
    (adaptation,) = result.manifest.target.adaptations
    assert (adaptation.module, adaptation.setting) == ("1", "negative_slope")


@pytest.mark.parametrize("swapped", [False, True])
def test_symmetric_branches_in_another_order_are_caught_by_the_numbers(tmp_path: Path, swapped: bool) -> None:
    network = Network()
    left = network.conv("left", "data", 1, 4)
    left = network.apply("Activation", "relu", left, act_type="relu")
    network.apply("elemwise_add", "sum", left, network.conv("right", "data", 1, 4))
    files = save_network(tmp_path, network, "sum")
    target, arguments = "existing_modules:Branches", {"swapped": swapped}
    if swapped:
        with pytest.raises(ParityError, match="first at  sum"):
            convert(files, tmp_path / "out", target, target_args=arguments)
    else:
        result = convert(files, tmp_path / "out", target, target_args=arguments)
        assert result.manifest.target
        assert result.manifest.target.symmetric == 2


def test_folded_bias_is_exact_in_float64(tmp_path: Path) -> None:
    network = Network()
    attributes = {"kernel": "(3, 3)", "num_filter": "8", "stride": "(2, 2)", "pad": "(1, 1)"}
    network._layer("Convolution", "conv", attributes, "data", {"weight": (8, 1, 3, 3), "bias": (8,)})
    network.norm("bn", "conv", 8, fix_gamma="False", eps="1e-05")
    files = save_network(tmp_path, network, "bn")
    result = convert(
        files,
        tmp_path / "out",
        "torchvision.ops:Conv2dNormActivation",
        target_args={
            "in_channels": 1,
            "out_channels": 8,
            "stride": 2,
            "activation_layer": None,
        },
    )
    assert result.manifest.target
    assert [(each.rule, each.layers) for each in result.manifest.target.rules] == [("folded bias", ("conv",))]
    assert load_file(result.artifact)["1.running_mean"].dtype == torch.float64
    assert max(check.relative for check in result.manifest.parity.checks if check.dtype == "float64") < 1e-12


def test_tied_tensors_and_buffers_of_the_module_are_written(tmp_path: Path) -> None:
    network = Network()
    network.dense("fc", "data", 4, 4)
    files = save_network(tmp_path, network, "fc")
    result = convert(
        files,
        tmp_path / "out",
        "existing_modules:Tied",
        options=ParityOptions("numpy"),
        input_shapes={"data": (2, 4)},
    )
    weights = load_file(result.artifact)
    assert torch.equal(weights["alias.weight"], weights["fc.weight"])
    assert torch.equal(weights["scale"], torch.arange(1.0, 5.0))
    assert converter.verify(result.artifact).holds


@pytest.mark.parametrize(
    ("target", "error", "message"),
    [
        ("existing_modules:Shallow", MappingError, "have different layers"),
        ("existing_modules:Unused", MappingError, r"does not use 2 of its parameters[^$]*auxiliary"),
        ("existing_modules:number", TargetError, "expected a torch.nn.Module, found int"),
        ("existing_modules:failing", TargetError, "failing cannot be built: OwnError"),
        ("existing_modules:NUMPY", TargetError, "existing_modules has no NUMPY"),
        ("existing_modules:Smal", TargetError, "try  Small"),
        ("existing_modules:torch", TargetError, "not a callable, but module"),
        ("no_such_package:Net", TargetError, "no_such_package is not installed"),
        ("timm:resnet_50", TargetError, "timm has no model resnet_50\n  try  resnet50"),
        ("torchvision:resnet_50", TargetError, "torchvision has no model resnet_50\n  try  resnet50"),
        ("timm:resnet50/../x", UsageError, "expected timm:NAME"),
        ("hf-hub:timm/resnet50", UsageError, "expected timm:NAME"),
        ("__import__('os').system('ls')", UsageError, "expected timm:NAME"),
        ("os.path:\x1b[31m", UsageError, "expected timm:NAME"),
        ("Small", UsageError, "expected timm:NAME"),
        ("os:getcwd", TargetError, "or a Python function, found builtin_function_or_method"),
        ("pathlib:PurePath", TargetError, "or a Python function, found the class PurePath"),
    ],
)
def test_unsuitable_targets_are_refused(
    files: tuple[Path, Path], tmp_path: Path, target: str, error: type[ConversionError], message: str
) -> None:
    with pytest.raises(error, match=message):
        convert(files, tmp_path / "out", target)
    assert not (tmp_path / "out").exists() or not list((tmp_path / "out").iterdir())


def test_arguments_that_do_not_fit_are_refused(files: tuple[Path, Path], tmp_path: Path) -> None:
    with pytest.raises(TargetError, match=r"cannot be built: TypeError.*\n  called  existing_modules.Small"):
        convert(files, tmp_path / "out", target_args={"depth": 7})
    with pytest.raises(UsageError, match="asks for other weights"):
        convert(files, tmp_path / "out", "timm:resnet18", target_args={"pretrained": True})
    with pytest.raises(UsageError, match="`adapt` requires `target`"):
        convert(files, tmp_path / "out", None, adapt=True)
    with pytest.raises(UsageError, match="cannot be used with `target`"):
        convert(files, tmp_path / "out", exports=["pt2"])


def test_module_in_the_current_folder_is_found_last(
    files: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "own_net.py").write_text("from existing_modules import Small as Net\n")
    (tmp_path / "torch.py").write_text("raise SystemExit\n")
    monkeypatch.chdir(tmp_path)
    assert convert(files, tmp_path / "out", "own_net:Net").manifest.parity.proven


def test_nothing_random_is_computed_when_a_module_is_built() -> None:
    before = torch.random.get_rng_state()
    module = building.build(specification.parse("torchvision:mobilenet_v2"))
    assert torch.equal(before, torch.random.get_rng_state())
    assert not module.training
    assert not any(
        parameter.any()
        for name, parameter in module.named_parameters()
        if name.endswith("0.weight") and parameter.dim() > 1
    )


@pytest.mark.parametrize(
    ("build", "target", "arguments"),
    [
        (ecosystem_graphs.squeezenet, "torchvision:squeezenet1_1", {}),
        (ecosystem_graphs.mobilenet, "timm:mobilenetv1_100", {"act_layer": "relu"}),
    ],
)
def test_networks_of_torchvision_and_timm_are_aligned_and_proven(
    tmp_path: Path, build: Callable[[], tuple[Network, str]], target: str, arguments: dict[str, str]
) -> None:
    files = save_network(tmp_path, *build())
    given = {**arguments, "num_classes": ecosystem_graphs.CLASSES}
    result = convert(files, tmp_path / "out", target, target_args=given)
    assert result.manifest.parity.proven
    assert result.manifest.target
    assert not result.manifest.target.rules
    assert not result.manifest.target.differences
    package = target.partition(":")[0]
    assert set(result.manifest.target.versions) == {package, "torch"}


def test_relu6_in_place_of_relu_is_refused(tmp_path: Path) -> None:
    files = save_network(tmp_path, *ecosystem_graphs.mobilenet())
    given = {"num_classes": ecosystem_graphs.CLASSES}
    with pytest.raises(ParityError, match=r"(?s)timm:mobilenetv1_100 agrees .* but not on larger.*ReLU6"):
        convert(files, tmp_path / "out", "timm:mobilenetv1_100", target_args=given)


def test_unproven_weights_are_marked(files: tuple[Path, Path], tmp_path: Path) -> None:
    result = convert(files, tmp_path / "out", options=ParityOptions("none"))
    assert not result.manifest.parity.proven
    assert converter.verify(result.artifact).holds


def test_saved_table_converts_without_a_search(files: tuple[Path, Path], tmp_path: Path) -> None:
    table = tmp_path / "small.toml"
    arguments = {"eps": 1e-5}
    first = convert(files, tmp_path / "a", target_args=arguments, adapt=True, save_mapping=table)
    assert table in first.more
    text = table.read_text()
    assert '"conv0" = ["stem", "convolution"]' in text
    assert '"norm.eps" = 0.0010000000474974513' in text
    assert text.index('"conv0"') < text.index('"bn0"') < text.index('"fc1"')
    second = convert(files, tmp_path / "b", mapping=table)
    assert second.artifact.name == first.artifact.name
    assert second.manifest.parity.proven
    assert second.manifest.target
    assert second.manifest.target.table
    assert second.manifest.target.adaptations == first.manifest.target.adaptations  # type: ignore[union-attr]


def test_table_alone_runs_no_code_of_its_choice(files: tuple[Path, Path], tmp_path: Path) -> None:
    """A table selects a callable that is in neither timm nor torchvision only if the user does, too."""
    table, trace = tmp_path / "small.toml", tmp_path / "trace"
    convert(files, tmp_path / "a", save_mapping=table)
    text = table.read_text().replace(f'"{SMALL}"', '"os:system"')
    table.write_text(f'{text}\n[arguments]\ncommand = "touch {trace}"\n')
    unproven = ParityOptions("none")
    for graph in (files[0], None):
        with pytest.raises(UsageError, match=r"`mapping` is for os:system[^$]*`target` os:system, too"):
            convert_graph(graph, tmp_path / "b", params=files[1], mapping=table, options=unproven)
    with pytest.raises(UsageError, match=f"for os:system, and `target` is {SMALL}"):
        convert(files, tmp_path / "b", SMALL, mapping=table)
    with pytest.raises(TargetError, match="found builtin_function_or_method"):
        convert(files, tmp_path / "b", "os:system", mapping=table)
    assert not trace.exists()


def test_arguments_next_to_a_table_are_refused(files: tuple[Path, Path], tmp_path: Path) -> None:
    table = tmp_path / "small.toml"
    convert(files, tmp_path / "a", save_mapping=table)
    refused = "`target_args` cannot be used with a table, which has the arguments"
    with pytest.raises(UsageError, match=refused):
        convert(files, tmp_path / "b", mapping=table, target_args={"eps": 1e-5})
    with pytest.raises(UsageError, match=refused):
        convert_graph("vgg11", tmp_path / "b", random=0, target="torchvision", target_args={"dropout": 0.1})
    assert not (tmp_path / "b").exists()


@pytest.mark.parametrize(
    ("target", "given", "expected"),
    [
        ("torchvision:vgg11", {}, {"num_classes": 7}),
        ("timm:vgg11", {"num_classes": 5}, {"num_classes": 5}),
        (SMALL, {"eps": 1e-5}, {"eps": 1e-5}),
    ],
)
def test_classes_are_added_to_models_of_timm_and_torchvision_only(
    target: str, given: dict[str, object], expected: dict[str, object]
) -> None:
    chosen = target_alignment.options(target, given).with_classes(7)
    assert chosen.target.arguments == expected


def test_two_tables_are_refused(files: tuple[Path, Path], tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="`mapping` and `target` timm both select a table: give one"):
        convert(files, tmp_path / "out", "timm", mapping=tmp_path / "small.toml")


def test_search_path_is_restored(monkeypatch: pytest.MonkeyPatch) -> None:
    """The current folder is searched for a target of the user, last, and not for a model of timm."""
    before = ["", *sys.path]
    monkeypatch.setattr(sys, "path", before[:])
    with specification.resolved(specification.parse(SMALL)):
        assert sys.path == [*before, ""]
    assert sys.path == before
    with specification.resolved(specification.parse("timm:resnet18")):
        assert sys.path == before


@pytest.mark.parametrize("cause", ["null", "folder"])
def test_nothing_is_left_if_the_table_cannot_be_written(
    files: tuple[Path, Path], tmp_path: Path, cause: str
) -> None:
    table, arguments = tmp_path / "small.toml", {"note": None} if cause == "null" else None
    if cause == "folder":
        table.mkdir()
    with pytest.raises(ConversionError, match=r"cannot contain null|a folder has this name"):
        convert(files, tmp_path / "out", "existing_modules:noted", target_args=arguments, save_mapping=table)
    assert not (tmp_path / "out").exists()
    assert convert(files, tmp_path / "out", "existing_modules:noted", target_args=arguments).artifact.exists()


def test_table_with_swapped_lines_is_caught_by_the_numbers(files: tuple[Path, Path], tmp_path: Path) -> None:
    table = tmp_path / "small.toml"
    convert(files, tmp_path / "a", save_mapping=table)
    text = table.read_text()
    one, other = '["blocks.0.first", ', '["blocks.1.first", '
    table.write_text(text.replace(one, "?").replace(other, one).replace("?", other))
    with pytest.raises(ParityError, match=r"stage1_unit1_conv1 → blocks\.1\.first"):
        convert(files, tmp_path / "b", mapping=table)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('"conv0" = ["stem", ', '"conv0" = ["stern", ', "has no tensor stern.weight"),
        ('"conv0" = ["stem", "convolution"]\n', "", "the table has no line for conv0"),
        ('"conv0" = ["stem", "convolution"]', '"conv0" = ["norm", "convolution"]', "mapped twice"),
        ('"stem", "convolution"]', '"stem", "unknown"]', "unknown kind"),
        ('"conv0" = ["stem", ', '"conv9" = ["stem", ', "has no parameter conv9_weight"),
        ("\n[layers]", '\n[settings]\n"stem.training" = 1.0\n[layers]', "only eps, negative_slope, stride"),
        ("[layers]", "[lines]", "not a table of layers"),
    ],
)
def test_wrong_tables_are_refused(
    files: tuple[Path, Path], tmp_path: Path, old: str, new: str, message: str
) -> None:
    table = tmp_path / "small.toml"
    convert(files, tmp_path / "a", save_mapping=table)
    table.write_text(table.read_text().replace(old, new))
    with pytest.raises(MappingError, match=message):
        convert(files, tmp_path / "b", mapping=table)


@pytest.mark.parametrize(
    ("source", "target", "is_accepted"),
    [
        ((3, 2), (3, 2, 1, 1), True),
        ((3, 2, 1, 1), (3, 2), True),
        ((2, 3), (3, 2), False),
        ((3, 2), (3, 1, 2, 1), False),
        ((6,), (3, 2), False),
    ],
)
def test_only_the_shape_of_a_kernel_is_changed(
    source: tuple[int, ...], target: tuple[int, ...], is_accepted: bool
) -> None:
    module = torch.nn.Module()
    module.weight = torch.nn.Parameter(torch.zeros(target))
    assignment = Assignment(target="weight", source="fc_weight", shape=target, like="fc_weight")
    arrays = {"fc_weight": np.arange(6, dtype=np.float32).reshape(source)}
    weights = state.state_arrays(module, {"weight": assignment}, arrays, ())
    if is_accepted:
        ((_, array),) = weights
        assert array.shape == target
        assert np.array_equal(np.asarray(array).ravel(), arrays["fc_weight"].ravel())
    else:
        with pytest.raises(MappingError, match=r"weight: expected the shape .* in fc_weight"):
            dict(weights)


def test_changed_files_fail_verification(files: tuple[Path, Path], tmp_path: Path) -> None:
    result = convert(files, tmp_path / "out")
    document = json.loads(result.manifest_file.read_text())
    document["target"]["others"] = []
    result.manifest_file.write_text(json.dumps(document))
    assert not converter.verify(result.artifact).holds


def test_other_commands_name_the_module_or_refuse_it(files: tuple[Path, Path], tmp_path: Path) -> None:
    graph, params = files
    weights = convert(files, tmp_path / "out").artifact
    inspection = converter.inspect(weights)
    assert "weights for existing_modules:Small: existing_modules.Small()" in inspection.verdict
    assert "convert again with --target" in converter.verify(weights).does_not_prove[-1]
    refused = r"weights for existing_modules:Small, which this command does not take\n  built by"
    with pytest.raises(ConversionError, match=refused):
        converter.to_gluon(weights, tmp_path / "back.params")
    with pytest.raises(ConversionError, match=refused):
        converter.publish(weights, tmp_path / "hub")
    with pytest.raises(ConversionError, match=refused):
        converter.compare_graph(graph, params=params, weights=weights, options=NUMPY)


def test_table_converts_without_the_graph_and_claims_no_proof(
    files: tuple[Path, Path], tmp_path: Path
) -> None:
    table, unproven = tmp_path / "small.toml", ParityOptions("none")
    first = convert(files, tmp_path / "a", save_mapping=table)
    _, params = files
    second = convert_graph(None, tmp_path / "b", params=params, target=SMALL, mapping=table, options=unproven)
    assert second.artifact.name == first.artifact.name
    assert not second.manifest.parity.proven
    assert second.manifest.source.symbol is None
    assert converter.verify(second.artifact).holds
    with pytest.raises(UsageError, match="a proof needs the `graph`"):
        convert_graph(None, tmp_path / "c", params=params, target=SMALL, mapping=table, options=NUMPY)
    table.write_text(table.read_text().replace('"fc1" =', '"fc2" ='))
    with pytest.raises(MappingError, match=r"missing     fc2_bias[^$]*unexpected  fc1_bias"):
        convert_graph(None, tmp_path / "c", params=params, target=SMALL, mapping=table, options=unproven)
    assert not (tmp_path / "c").exists()


@pytest.mark.parametrize("is_structural", [True, False])
def test_names_of_another_style_than_a_table_are_refused_with_the_command(
    is_structural: bool, tmp_path: Path
) -> None:
    network = recorded_graphs.load("squeezenet1.0")
    arrays = recorded_sources.random_arrays(network, 0)
    if not is_structural:  # one name of the table's style
        arrays["squeezenet0_conv0_bias"] = arrays.pop("features.0.bias")
    params = tmp_path / "my net.params"
    with params.open("wb") as stream:
        write_params(stream, arrays)
    table = target_tables.path("squeezenet1.0", "torchvision")
    with pytest.raises(MappingError, match=r"its parameters are not those in squeezenet1\.0\.toml") as caught:
        convert_graph(None, tmp_path, params=params, mapping=table, options=ParityOptions("none"))
    step = f"try  convert squeezenet1.0 OUT --params '{params}', with the same --mapping"
    assert (step in str(caught.value)) == is_structural


def test_table_of_tensors_alone_makes_weights_that_verify_accepts(tmp_path: Path) -> None:
    table, params = tmp_path / "table.toml", tmp_path / "net.params"
    table.write_text(
        'target = "existing_modules:Tied"\n[kinds]\n[layers]\n[tensors]\n"a" = "fc.weight"\n"b" = "fc.bias"\n'
    )
    with params.open("wb") as stream:
        write_params(stream, {"a": np.ones((4, 4), np.float32), "b": np.ones(4, np.float32)})
    result = convert_graph(
        None,
        tmp_path / "out",
        params=params,
        target="existing_modules:Tied",
        mapping=table,
        options=ParityOptions("none"),
    )
    assert result.manifest.target
    assert result.manifest.target.layers == 1
    assert converter.verify(result.artifact).holds


def test_folded_bias_is_in_the_table(tmp_path: Path) -> None:
    network = Network()
    attributes = {"kernel": "(3, 3)", "num_filter": "8", "stride": "(2, 2)", "pad": "(1, 1)"}
    network._layer("Convolution", "conv", attributes, "data", {"weight": (8, 1, 3, 3), "bias": (8,)})
    network.norm("bn", "conv", 8, fix_gamma="False", eps="1e-05")
    files = save_network(tmp_path, network, "bn")
    arguments = {"in_channels": 1, "out_channels": 8, "stride": 2}
    table = tmp_path / "folded.toml"
    target = "existing_modules:folded"
    first = convert(files, tmp_path / "a", target, target_args=arguments, save_mapping=table)
    assert '"conv_bias" = "bn_moving_mean"' in table.read_text()
    second = convert(files, tmp_path / "b", target, mapping=table)
    third = convert_graph(
        None,
        tmp_path / "c",
        params=files[1],
        target=target,
        mapping=table,
        options=ParityOptions("none"),
    )
    assert first.artifact.name == second.artifact.name == third.artifact.name
    for result in (first, second, third):
        assert result.manifest.target
        assert [(each.rule, each.layers) for each in result.manifest.target.rules] == [
            ("folded bias", ("conv",))
        ]


def test_zero_bias_and_reshaped_weight_are_recorded_alike_with_a_table(tmp_path: Path) -> None:
    """The records name nodes of the graph, with a search, with a table, and without the graph."""
    network = Network()
    network.conv("conv", "data", 1, 4)
    files = save_network(
        tmp_path, network, network.dense("fc", network.apply("Flatten", "flat", "conv"), 4096, 3)
    )
    table, target = tmp_path / "other.toml", "existing_modules:OtherForms"
    options = NUMPY
    first = convert(files, tmp_path / "a", target, save_mapping=table, options=options)
    second = convert(files, tmp_path / "b", target, mapping=table, options=options)
    third = convert_graph(
        None,
        tmp_path / "c",
        params=files[1],
        target=target,
        mapping=table,
        options=ParityOptions("none"),
    )
    for result in (first, second, third):
        assert result.manifest.target
        assert [(each.rule, each.layers) for each in result.manifest.target.rules] == [
            ("reshaped weight", ("fc",)),
            ("zero bias", ("conv",)),
        ]


def run(*arguments: object, monkeypatch: pytest.MonkeyPatch) -> int:
    monkeypatch.setattr(sys, "argv", ["convert", *map(str, arguments)])
    with pytest.raises(SystemExit) as exit_info:
        app.convert_app()
    return int(exit_info.value.code or 0)


def test_command_prints_what_was_aligned_adapted_and_proven(
    files: tuple[Path, Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    graph, params = files
    monkeypatch.setenv("COLUMNS", "200")
    options = ("--params", params, "--reference", "numpy", "--size", "32", "--target", SMALL)
    arguments = ("--target-args", '{"eps": 1e-05}', "--adapt", "--save-mapping", tmp_path / "small.toml")
    assert run(graph, tmp_path / "out", *options, *arguments, monkeypatch=monkeypatch) == 0
    printed = capsys.readouterr().out
    assert "aligned 11 layers with existing_modules:Small" in printed
    assert "adapted eps = 0.0010000000474974513: " in printed
    assert "next    model = existing_modules.Small(eps=1e-05)" in printed
    assert "proven  12 layers" in printed
    by_table = (
        "--params",
        params,
        "--target",
        SMALL,
        "--mapping",
        tmp_path / "small.toml",
        "--reference",
        "none",
    )
    assert run("auto", tmp_path / "other", *by_table, monkeypatch=monkeypatch) == 0
    assert "unproven" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("name", "status", "message"),
    [
        ("resnet50_v1d", 2, "resnet50_v1d is a native model, whose tensor names are already timm's"),
        ("auto", 2, "requires the name of a network of GluonCV or a graph in place of auto"),
        ("vgg99", 1, "unknown model 'vgg99'"),
    ],
)
def test_target_of_no_graph_is_refused_with_what_to_do(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    name: str,
    status: int,
    message: str,
) -> None:
    monkeypatch.setenv("COLUMNS", "300")
    assert run(name, tmp_path / "out", "--target", "timm", monkeypatch=monkeypatch) == status
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    ("name", "target", "hint"),
    [
        ("squeezenet1.0", "torchvision:squeezenet1_1", "--target torchvision, for torchvision:squeezenet1_0"),
        ("squeezenet1.0", "torchvision:squeezenet", "--target torchvision, for torchvision:squeezenet1_0"),
        ("mobilenet0.25", "torchvision:squeezenet1_1", ""),
    ],
)
def test_other_target_than_that_of_a_table_is_refused_with_the_table(
    name: str, target: str, hint: str, tmp_path: Path
) -> None:
    with pytest.raises((MappingError, TargetError)) as caught:
        convert_graph(name, tmp_path / "out", random=0, target=target, options=ParityOptions("none"))
    last = str(caught.value).splitlines()[-1]
    assert last == f"  try  {hint}" if hint else "--target" not in last


@pytest.mark.parametrize("is_known", [True, False])
def test_target_of_detected_parameters_is_refused_with_the_command(
    files: tuple[Path, Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    is_known: bool,
) -> None:
    monkeypatch.setenv("COLUMNS", "500")
    graph, params = files
    if not is_known:
        graph.unlink()
    options = ("--params", params, "--target", "timm")
    assert run("auto", tmp_path / "out", *options, monkeypatch=monkeypatch) == 2
    command = f"auto: convert {graph} OUT --params {params}, with the same options"
    assert (command in capsys.readouterr().err.replace("'", "")) == is_known


def test_printed_code_loads_the_weights(
    files: tuple[Path, Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """The code is printed in full, however many modules are changed and however narrow the terminal is."""
    graph, params = files
    monkeypatch.setenv("COLUMNS", "60")
    options = ("--params", params, "--reference", "none", "--target", SMALL)
    arguments = ("--target-args", '{"eps": 1e-05}', "--adapt")
    assert run(graph, tmp_path / "out", *options, *arguments, monkeypatch=monkeypatch) == 0
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("next")]
    assert len(lines) == 9
    code = "\n".join(line.removeprefix("next    ") for line in lines)
    assert "    'blocks.1.second_norm',\n):\n    model.get_submodule(name).eps = " in code
    values: dict[str, Any] = {}
    exec(code, values)  # noqa: S102 - what a user is told to run
    (weights,) = (tmp_path / "out").glob("*.safetensors")
    model = values["model"]
    assert isinstance(model, existing_modules.Small)
    assert not model.training
    assert torch.equal(model.head.weight, load_file(weights)["head.weight"])
    changed = [each.eps for each in model.modules() if isinstance(each, torch.nn.BatchNorm2d)]
    assert changed == [0.0010000000474974513] * 5


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--target", SMALL, "--target-args", "{"), "not JSON"),
        (("--target", SMALL, "--target-args", "[" * 10_000), "not JSON"),
        (("--target", SMALL, "--target-args", "[1]"), "expected a JSON object"),
        (("--adapt",), "requires"),
        (("--labels", "a.txt"), "cannot be used with a graph: pass the class names"),
        (("--target", "os.system"), "expected timm:NAME"),
    ],
)
def test_wrong_options_are_usage_errors(
    files: tuple[Path, Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: tuple[str, ...],
    message: str,
) -> None:
    graph, params = files
    options = ("--params", params, "--reference", "none")
    assert run(graph, tmp_path / "out", *options, *arguments, monkeypatch=monkeypatch) == 2
    assert message in " ".join(capsys.readouterr().err.replace("│", "").split())  # of a box
    assert not (tmp_path / "out").exists()
