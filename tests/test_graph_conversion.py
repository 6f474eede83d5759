"""``convert GRAPH OUT --params FILE`` writes a module, its weights and a manifest, or nothing."""

from __future__ import annotations

import json
import re
import sys
import weakref
from pathlib import Path
from typing import TYPE_CHECKING, Any

import generated_modules
import graph_files
import numpy as np
import pytest
from graph_building import Network, variable
from graph_files import save
from symbols import inserted

from converter.cli import app
from converter.commands.graph_conversion import convert_graph
from converter.errors import (
    ArtifactError,
    ConversionError,
    MappingError,
    ParityError,
    ReferenceFailedError,
    ReferenceUnavailableError,
    SymbolError,
    UsageError,
)
from converter.formats.params import write_params
from converter.graphs import execute
from converter.graphs.codegen.safe_source import require_safe
from converter.parity import generated_network, graph_proof, runner
from converter.parity.options import ParityOptions

if TYPE_CHECKING:
    import torch

    from converter.commands.graph_conversion import GraphConversionResult
    from converter.dtypes import Array

NUMPY = ParityOptions("numpy", sizes=[32], dtypes=["float64"])


@pytest.fixture
def net() -> Network:
    return graph_files.small_network()


@pytest.fixture
def parameters(net: Network) -> dict[str, Array]:
    return graph_files.parameters(net)


def load_module(result: GraphConversionResult) -> torch.nn.Module:
    assert result.module
    names = generated_modules.load_source(result.module.read_text())
    module: torch.nn.Module = names["load"](str(result.artifact))
    return module


def test_written_module_loads_the_written_weights(
    net: Network, parameters: dict[str, Array], tmp_path: Path
) -> None:
    graph, params = save(tmp_path, net, parameters)
    result = convert_graph(graph, tmp_path / "out", params=params, options=NUMPY)
    assert result.module
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == sorted(
        [result.artifact.name, result.module.name, result.manifest_file.name]
    )
    assert result.module.name == "face_net.py"
    module = load_module(result)
    image = np.zeros((1, 1, 32, 32), np.float32)
    (output,) = generated_modules.outputs(module, image)
    assert output.sum() == pytest.approx(1)
    weight = module.state_dict()["stage1.unit1.conv1.weight"].numpy()
    np.testing.assert_array_equal(weight, parameters["stage1_unit1_conv1_weight"])
    assert bool((module.state_dict()["bn0.weight"] == 1).all())


def test_manifest_describes_the_conversion(
    net: Network, parameters: dict[str, Array], tmp_path: Path
) -> None:
    graph, params = save(tmp_path, net, parameters | {"margin_weight": np.zeros((3, 5), np.float32)})
    result = convert_graph(graph, tmp_path / "out", params=params, options=NUMPY)
    document = json.loads(result.manifest_file.read_text())
    assert (document["kind"], document["model"], document["schema_version"]) == ("generated", "face_net", 1)
    assert document["source"]["graph"]["labels"] == ["softmax_label"]
    assert document["source"]["graph"]["unused"] == ["margin_weight"]
    assert document["source"]["fixed_gammas"][0] == "bn0_gamma"
    assert {"source": "fc1_bias", "target": "fc1.bias"} in document["names"]
    (check,) = document["parity"]["checks"]
    assert (document["parity"]["proven"], document["parity"]["reference"]) == (True, "numpy")
    assert check["inputs"] == {"data": [1, 1, 32, 32]}
    assert check["relative"] < check["limit"] == 1e-12
    operators = [node for node in net.nodes if node[0] != "null"]
    assert check["nodes"].keys() == {"compared", "node", "relative", "limit"}
    assert check["nodes"]["compared"] == len(operators)
    assert check["nodes"]["relative"] < check["nodes"]["limit"] == 1e-12


HOSTILE = ['"); import os; (', "\x1b[2J\n", "{0}", "\u202e", "../../x", "CON"]


@pytest.mark.parametrize(
    "file", ["torch-symbol.json", "CON.json", "..-symbol.json", "101-symbol.json", '");.json']
)
def test_hostile_names_stay_texts_of_the_manifest(file: str, tmp_path: Path) -> None:
    net = Network()
    x = "data"
    for name in HOSTILE:
        x = net.conv(name, x, 3, 3)
    parameters = {
        name: array.astype(np.float32)
        for name, array in generated_modules.random_parameters(net.shapes).items()
    }
    graph, params = tmp_path / file, tmp_path / "x.params"
    graph.write_bytes(net.build(x).content)
    with params.open("wb") as stream:
        write_params(stream, parameters)
    result = convert_graph(graph, tmp_path / "out", params=params, options=NUMPY)
    assert result.module
    assert {path.resolve().parent for path in (result.artifact, result.module)} == {tmp_path / "out"}
    assert re.fullmatch(r"[a-zA-Z]\w*_network|network_101|network", result.module.stem)
    document = json.loads(result.manifest_file.read_text())
    assert {names["source"] for names in document["names"]} == {f"{name}_weight" for name in HOSTILE}
    assert document["source"]["symbol"] == file
    assert document["source"]["graph"]["outputs"] == ["CON"]
    assert "\x1b" not in result.manifest_file.read_text()
    assert result.module.read_text().isascii()
    require_safe(result.module.read_text())


def test_module_that_earlier_weights_need_is_not_replaced(
    net: Network, parameters: dict[str, Array], tmp_path: Path
) -> None:
    graph, params = save(tmp_path, net, parameters)
    first = convert_graph(graph, tmp_path / "out", params=params, options=NUMPY)
    before = {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()}
    with pytest.raises(ArtifactError, match=r"face_net\.py: exists, and is another module"):
        convert_graph(graph, tmp_path / "out", params=params, output="fc1", options=NUMPY)
    assert {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()} == before
    again = convert_graph(graph, tmp_path / "out", params=params, options=NUMPY)
    assert again.artifact == first.artifact


@pytest.mark.parametrize("name", ["data", "fc1_weight"])
def test_output_that_no_node_computes_is_refused(
    name: str, net: Network, parameters: dict[str, Array], tmp_path: Path
) -> None:
    graph, params = save(tmp_path, net, parameters)
    with pytest.raises(SymbolError, match=f"{name} is an input or a parameter, not the output of a node"):
        convert_graph(graph, tmp_path / "out", params=params, output=name, options=NUMPY)


@pytest.mark.parametrize("name", [*HOSTILE, "", "x" * 100_000])
def test_missing_output_is_shown_without_its_control_characters(
    name: str, net: Network, parameters: dict[str, Array], tmp_path: Path
) -> None:
    graph, params = save(tmp_path, net, parameters)
    with pytest.raises(SymbolError, match="no node is named") as caught:
        convert_graph(graph, tmp_path / "out", params=params, output=name, options=NUMPY)
    assert all(line.isprintable() and len(line) < 2000 for line in str(caught.value).splitlines())


def test_network_ends_in_the_chosen_node(net: Network, parameters: dict[str, Array], tmp_path: Path) -> None:
    graph, params = save(tmp_path, net, parameters)
    result = convert_graph(graph, tmp_path / "out", params=params, output="pool1", options=NUMPY)
    graph_record = result.manifest.source.graph
    assert graph_record
    assert graph_record.outputs == ("pool1",)
    assert graph_record.unused == ("fc1_bias", "fc1_weight")


def test_casts_between_floating_types_are_left_out(
    net: Network, parameters: dict[str, Array], tmp_path: Path
) -> None:
    graph, params = save(tmp_path, net, parameters)
    content = inserted(json.loads(graph.read_text()), "conv0_weight", "amp_cast", {"dtype": "float16"})
    graph.write_text(json.dumps(content))
    result = convert_graph(graph, tmp_path / "out", params=params, options=NUMPY)
    assert result.manifest.source.casts
    assert result.manifest.parity.proven
    assert result.module
    assert "nn.Conv2d(1, 8" in result.module.read_text()


def test_parameters_that_are_not_finite_are_refused(
    net: Network, parameters: dict[str, Array], tmp_path: Path
) -> None:
    parameters["fc1_weight"][0, 0] = np.nan
    graph, params = save(tmp_path, net, parameters)
    with pytest.raises(MappingError, match=r"contain NaN or infinity\n  fc1_weight"):
        convert_graph(graph, tmp_path / "out", params=params, options=NUMPY)


def test_outputs_that_are_not_finite_prove_nothing(
    net: Network, parameters: dict[str, Array], tmp_path: Path
) -> None:
    parameters["fc1_weight"][:] = np.finfo(np.float32).max
    graph, params = save(tmp_path, net, parameters)
    options = ParityOptions("numpy", sizes=[32], dtypes=["float32"])
    with pytest.raises(ParityError, match="not finite"):
        convert_graph(graph, tmp_path / "out", params=params, output="fc1", options=options)


@pytest.mark.parametrize(
    ("variable", "layer"), [("stage1_unit2_conv1_weight", "stage1.unit2.conv1"), ("fc1_weight", "fc1")]
)
def test_layer_whose_output_does_not_depend_on_its_weights_proves_nothing(
    variable: str, layer: str, net: Network, parameters: dict[str, Array], tmp_path: Path
) -> None:
    parameters[variable][:] = 0
    graph, params = save(tmp_path, net, parameters)
    with pytest.raises(
        ParityError, match=rf"prove nothing, because .*\n  {layer}\n(.*\n)*  to convert without"
    ):
        convert_graph(graph, tmp_path / "out", params=params, options=NUMPY)
    assert not list((tmp_path / "out").glob("*"))


def test_prefixes_of_names_are_ignored(net: Network, parameters: dict[str, Array], tmp_path: Path) -> None:
    states = ("moving_mean", "moving_var")
    named = {
        f"{'aux' if name.endswith(states) else 'arg'}:{name}": array for name, array in parameters.items()
    }
    graph, params = save(tmp_path, net, named)
    assert convert_graph(graph, tmp_path / "out", params=params, options=NUMPY).manifest.parity.proven


def test_module_that_differs_is_not_written(
    net: Network, parameters: dict[str, Array], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    graph, params = save(tmp_path, net, parameters)
    read = generated_network.read

    def changed(*arguments: Any) -> torch.nn.Module:  # noqa: ANN401 - same arguments as the original
        module = read(*arguments)
        module.get_submodule("stage1.unit1.bn1").eps = 0.1  # type: ignore[assignment]
        return module

    monkeypatch.setattr(generated_network, "read", changed)
    with pytest.raises(
        ParityError, match=r"(?s)differs from the graph in float64.*stage1_unit1_bn1 → stage1\.unit1"
    ):
        convert_graph(graph, tmp_path / "out", params=params, options=NUMPY)
    assert not list((tmp_path / "out").glob("*"))


@pytest.mark.parametrize(
    ("names", "dtype"), [(["fc1_weight"], "float64"), (["fc1_weight"], "int32"), (["conv0_weight"], "uint8")]
)
def test_types_that_pytorch_cannot_compute_with_are_refused(
    names: list[str], dtype: str, net: Network, parameters: dict[str, Array], tmp_path: Path
) -> None:
    changed = {name: array.astype(dtype) if name in names else array for name, array in parameters.items()}
    graph, params = save(tmp_path, net, changed)
    reason = f"{names[0]} is {dtype}, and PyTorch computes with one floating type"
    with pytest.raises(MappingError, match=reason):
        convert_graph(graph, tmp_path / "out", params=params, options=NUMPY)
    assert not (tmp_path / "out").exists() or not [*(tmp_path / "out").iterdir()]


def test_parameters_that_are_all_float64_are_converted(
    net: Network, parameters: dict[str, Array], tmp_path: Path
) -> None:
    graph, params = save(tmp_path, net, {name: array.astype("float64") for name, array in parameters.items()})
    assert convert_graph(graph, tmp_path / "out", params=params, options=NUMPY).manifest.parity.proven


def test_unproven_manifest_does_not_replace_a_proven_one(
    net: Network, parameters: dict[str, Array], tmp_path: Path
) -> None:
    graph, params = save(tmp_path, net, parameters)
    first = convert_graph(graph, tmp_path / "out", params=params, options=NUMPY)
    with pytest.raises(ArtifactError, match="already describes the same weights with a proof in float"):
        convert_graph(graph, tmp_path / "out", params=params, options=ParityOptions("none"))
    assert json.loads(first.manifest_file.read_text())["parity"]["proven"]


def test_one_network_is_in_memory_at_a_time(
    net: Network, parameters: dict[str, Array], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    graph, params = save(tmp_path, net, parameters)
    read = generated_network.read
    earlier: list[weakref.ref[torch.nn.Module]] = []

    def watched(*arguments: Any) -> torch.nn.Module:  # noqa: ANN401 - same arguments as the original
        assert all(each() is None for each in earlier)
        module = read(*arguments)
        earlier.append(weakref.ref(module))
        return module

    monkeypatch.setattr(generated_network, "read", watched)
    options = ParityOptions("numpy", dtypes=["float64", "float32"])
    assert convert_graph(graph, tmp_path / "out", params=params, options=options).manifest.parity.proven
    assert len(earlier) == 2


def test_arrays_that_do_not_fit_into_memory_are_an_error(
    net: Network, parameters: dict[str, Array], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def run(*_: object) -> None:
        raise MemoryError

    monkeypatch.setattr(execute, "run", run)
    graph, params = save(tmp_path, net, parameters)
    with pytest.raises(ParityError, match="not enough memory"):
        convert_graph(graph, tmp_path / "out", params=params, options=NUMPY)


def test_layers_get_no_memory_of_their_own(tmp_path: Path) -> None:
    """A Deconvolution says 2^28 outputs, the file has 3: the layer would have 32 GiB."""
    network = Network()
    attributes = {"kernel": "(4, 4)", "num_filter": "268435456", "no_bias": "True"}
    network.nodes += [variable("w"), ("Deconvolution", "y", attributes, ["data", "w"])]
    graph, params = tmp_path / "x.json", tmp_path / "x.params"
    graph.write_bytes(network.build("y").content)
    with params.open("wb") as stream:
        write_params(stream, {"w": np.ones((3, 3, 4, 4), np.float32)})
    with pytest.raises(MappingError, match="the parameters do not fit the graph"):
        convert_graph(graph, tmp_path / "out", params=params, options=NUMPY)


def remove_weight(net: Network, parameters: dict[str, Array]) -> None:
    del net, parameters["conv0_weight"]


def store_twice(net: Network, parameters: dict[str, Array]) -> None:
    del net
    parameters["arg:conv0_weight"] = parameters["conv0_weight"]


def reshape_weight(net: Network, parameters: dict[str, Array]) -> None:
    del net
    parameters["conv0_weight"] = parameters["conv0_weight"][:4]


def add_unknown_operator(net: Network, parameters: dict[str, Array]) -> None:
    del parameters
    net.nodes[-1] = ("Custom", "softmax", {"op_type": "x"}, ["fc1"])


def add_input(net: Network, parameters: dict[str, Array]) -> None:
    del parameters
    net.nodes[-1] = ("broadcast_mul", "softmax", {}, ["fc1", "softmax_label"])


def apply_last(operator: str, **attributes: str) -> Any:  # noqa: ANN401 - a change as above
    def change(net: Network, parameters: dict[str, Array]) -> None:
        del parameters
        net.nodes[-1] = (operator, "softmax", attributes, ["fc1"])

    return change


REFUSALS = {
    "a missing parameter": (
        remove_weight,
        MappingError,
        "are missing\n  missing  conv0_weight",
    ),
    "a parameter stored twice": (store_twice, MappingError, "conv0_weight is stored twice"),
    "another shape": (reshape_weight, MappingError, "conv0_weight has the shape"),
    "an unknown operator": (add_unknown_operator, SymbolError, "Custom  runs Python code"),
    "an axis that is not there": (apply_last("softmax", axis="7"), ParityError, "does not take an input of"),
    "too few elements": (apply_last("Reshape", shape="(7, 11)"), ParityError, "does not take an input of"),
    "a dropout of 7": (
        apply_last("Dropout", p="7"),
        SymbolError,
        "PyTorch refuses the attributes of a layer",
    ),
    "two inputs": (add_input, UsageError, "its inputs are data, softmax_label"),
}


@pytest.mark.parametrize(("change", "error", "message"), REFUSALS.values(), ids=REFUSALS)
def test_refusal_leaves_nothing(
    change: Any,  # noqa: ANN401 - one of the functions above
    error: type[ConversionError],
    message: str,
    net: Network,
    parameters: dict[str, Array],
    tmp_path: Path,
) -> None:
    change(net, parameters)
    graph, params = save(tmp_path, net, parameters)
    with pytest.raises(error, match=message):
        convert_graph(graph, tmp_path / "out", params=params, options=NUMPY)
    assert not list((tmp_path / "out").glob("*"))


@pytest.mark.parametrize(
    ("error", "reference"), [(ReferenceFailedError, None), (ReferenceUnavailableError, "numpy")]
)
def test_graph_that_mxnet_refuses_is_not_proven_on_arrays(
    error: type[ConversionError],
    reference: str | None,
    net: Network,
    parameters: dict[str, Array],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def refuse(*_: object) -> None:
        raise error("no")

    plan = runner.ReferencePlan(probes=NUMPY.probes, python=Path(sys.executable), fallback=True)
    monkeypatch.setattr(runner, "resolve_reference", lambda _: plan)
    monkeypatch.setattr(graph_proof, "prove", refuse)
    graph, params = save(tmp_path, net, parameters)
    if reference is None:
        with pytest.raises(error, match="no"):
            convert_graph(graph, tmp_path / "out", params=params, options=NUMPY)
    else:
        result = convert_graph(graph, tmp_path / "out", params=params, options=NUMPY)
        assert result.manifest.parity.reference == reference


def test_graph_with_several_inputs_is_written_without_a_proof(
    net: Network, parameters: dict[str, Array], tmp_path: Path
) -> None:
    add_input(net, parameters)
    graph, params = save(tmp_path, net, parameters)
    result = convert_graph(graph, tmp_path / "out", params=params, options=ParityOptions("none"))
    assert not result.manifest.parity.proven
    assert result.manifest.source.graph
    assert result.manifest.source.graph.inputs == ("data", "softmax_label")


def run(*arguments: object, monkeypatch: pytest.MonkeyPatch) -> int:
    monkeypatch.setattr(sys, "argv", ["convert", *map(str, arguments)])
    with pytest.raises(SystemExit) as exit_info:
        app.convert_app()
    return int(exit_info.value.code or 0)


def test_command_prints_the_manifest(
    net: Network,
    parameters: dict[str, Array],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    graph, params = save(tmp_path, net, parameters)
    options = ("--params", params, "--reference", "numpy", "--size", "32", "--output", "fc1", "--json")
    assert run(graph, tmp_path / "out", *options, monkeypatch=monkeypatch) == 0
    printed = capsys.readouterr()
    (written,) = (tmp_path / "out").glob("*.json")
    assert printed.out == written.read_text()
    assert "face_net.py" in printed.err


def test_shape_of_an_input_is_an_option(
    net: Network, parameters: dict[str, Array], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    add_input(net, parameters)
    graph, params = save(tmp_path, net, parameters)
    options = ("--params", params, "--reference", "numpy", "--size", "32", "--json")
    assert run(graph, tmp_path / "out", *options, monkeypatch=monkeypatch) == 2
    assert not (tmp_path / "out").exists() or not list((tmp_path / "out").iterdir())
    given = ("--input", "softmax_label=1x5", "--input", "data=2x1x33x34")
    assert run(graph, tmp_path / "out", *options, *given, monkeypatch=monkeypatch) == 0
    (written,) = (tmp_path / "out").glob("*.json")
    checks = json.loads(written.read_text())["parity"]["checks"]
    assert [check["inputs"] for check in checks] == [{"data": [2, 1, 33, 34], "softmax_label": [1, 5]}] * 2


@pytest.mark.parametrize("option", ["data", "data=", "data=1x0", "=1", "data=1x-2", "other=1"])
def test_wrong_input_option_is_a_usage_error(
    option: str,
    net: Network,
    parameters: dict[str, Array],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    graph, params = save(tmp_path, net, parameters)
    options = ("--params", params, "--reference", "numpy", "--input", option)
    assert run(graph, tmp_path / "out", *options, monkeypatch=monkeypatch) == 2
    assert "--input" in capsys.readouterr().err
    assert run("gluon_resnet50_v1b", tmp_path / "out", *options, monkeypatch=monkeypatch) == 2
    assert "requires a graph" in capsys.readouterr().err


@pytest.mark.parametrize(
    "options", [("--size", "0x0"), ("--input", "data=1x1x32x32", "--input", "data=2x1x32x32")]
)
def test_invalid_shapes_are_usage_errors(
    options: tuple[str, ...],
    net: Network,
    parameters: dict[str, Array],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    graph, _ = save(tmp_path, net, parameters)
    assert run(graph, tmp_path / "out", *options, monkeypatch=monkeypatch) == 2
    assert not (tmp_path / "out").exists()


def test_graph_without_parameters_is_a_usage_error(
    net: Network, parameters: dict[str, Array], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    graph, params = save(tmp_path, net, parameters)
    params.unlink()
    assert run(graph, tmp_path / "out", monkeypatch=monkeypatch) == 2
    assert run(graph, tmp_path / "out", "--random", "1", monkeypatch=monkeypatch) == 2


def test_progress_counts_the_nodes_of_both_precisions(
    net: Network, parameters: dict[str, Array], tmp_path: Path
) -> None:
    graph, params = save(tmp_path, net, parameters)
    steps: list[tuple[int, int]] = []

    def report(step: str, done: int, total: int) -> None:
        if step == "proving":
            steps.append((done, total))

    options = ParityOptions("numpy", sizes=[32])
    convert_graph(graph, tmp_path / "out", params=params, options=options, progress=report)
    total = steps[0][1]
    assert total > 20
    assert steps == [(done, total) for done in range(total + 1)]
