"""A graph becomes the source of a readable PyTorch module that computes what the graph computes."""

from __future__ import annotations

import ast
import json
import re
import struct
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import generated_modules
import numpy as np
import pytest
import torch
from graph_building import Network, build, variable
from operator_case import one_operator
from operator_cases import CASES
from symbols import inserted, node

from converter.errors import SymbolError
from converter.graphs import codegen, execute, operators, reader
from converter.graphs.codegen.identifiers import RESERVED

if TYPE_CHECKING:
    from operator_case import OperatorCase

    from converter.dtypes import Array
    from converter.graphs.codegen import GeneratedModule
    from converter.graphs.graph import Graph

LIMIT = 1e-12  # relative to the largest output; 1e-14 measured


def check(graph: Graph, shapes: dict[str, tuple[int, ...]], *inputs: Array) -> GeneratedModule:
    """Generate a module, and compare it with the graph on arrays."""
    module = codegen.generate(graph, shapes, "net-symbol.json")
    parameters = generated_modules.random_parameters(shapes)
    expected = execute.outputs(graph, dict(zip(module.inputs, inputs, strict=True)), parameters)
    actual = generated_modules.outputs(generated_modules.network(module, parameters), *inputs)
    assert len(actual) == len(expected)
    for ours, theirs in zip(actual, expected, strict=True):
        assert ours.shape == theirs.shape
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=LIMIT * max(1, np.abs(theirs).max()))
    return module


def image(*shape: int) -> Array:
    array: Array = np.random.Generator(np.random.PCG64(1)).normal(0, 1, shape or (2, 3, 12, 10))
    return array


@pytest.mark.parametrize("as_layers", [True, False], ids=["layer", "expression"])
@pytest.mark.parametrize("case", CASES, ids=str)
def test_code_of_an_operator_computes_what_its_arrays_do(case: OperatorCase, as_layers: bool) -> None:
    """With parameters the operator becomes a layer, with inputs in their place an expression."""
    arrays = case.arrays()
    graph = one_operator(case)
    data = (
        len(arrays) - len(operators.parse(case.operator, case.attributes).roles) if as_layers else len(arrays)
    )
    parameters = {f"x{number}": array for number, array in enumerate(arrays) if number >= data}
    module = codegen.generate(graph, {name: array.shape for name, array in parameters.items()}, "net")
    net = generated_modules.network(module, parameters)
    inputs = [arrays[int(name[1:])] for name in module.inputs]
    expected = execute.outputs(graph, {f"x{number}": array for number, array in enumerate(arrays)}, {})
    for ours, theirs in zip(generated_modules.outputs(net, *inputs), expected, strict=True):
        assert ours.shape == theirs.shape
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=LIMIT * max(1e-30, np.abs(theirs).max()))


def residual_network() -> Network:
    net = Network()
    x = net.apply("Activation", "relu0", net.norm("bn0", net.conv("conv0", "data", 3, 8), 8), act_type="relu")
    x = net.residual("stage1_unit1", x, 8, 8)
    x = net.residual("stage1_unit2", x, 8, 8)
    x = net.residual("stage2_unit1", x, 8, 16, stride=2)
    x = net.residual("stage2_unit2", x, 16, 16)
    x = net.apply("Pooling", "pool1", x, global_pool="True", pool_type="avg")
    net.dense("fc1", x, 16, 5)
    return net


def test_scopes_of_the_names_become_modules() -> None:
    net = residual_network()
    module = check(net.build("fc1"), net.shapes, image())
    assert module.tensors["stage2_unit1_bn1_moving_var"] == "stage2.unit1.bn1.running_var"
    assert module.tensors["stage1_unit2_conv1_weight"] == "stage1.unit2.conv1.weight"
    assert module.tensors["fc1_bias"] == "fc1.bias"
    assert {"conv0", "stage1.unit1.conv1", "pool1", "fc1"} <= set(module.layers.values())


def test_repeated_blocks_are_instances_of_one_class() -> None:
    net = residual_network()
    source = codegen.generate(net.build("fc1"), net.shapes, "net").source
    assert re.findall(r"class (\w+)\(", source) == ["Unit", "Stage", "Unit2", "Stage2", "Network"]
    assert "self.unit2 = Unit(" in source
    assert "def __init__(self, inputs: int) -> None:" in source
    assert "self.conv1 = nn.Conv2d(inputs, inputs, 3, padding=1, bias=False)" in source


def test_forward_reads_like_the_network() -> None:
    net = residual_network()
    source = codegen.generate(net.build("fc1"), net.shapes, "net").source
    assert "x = self.stage1(F.relu(self.bn0(self.conv0(data))))\n" in source
    assert "return self.unit2(self.unit1(x))\n" in source
    assert "return F.relu(self.bn2(y) + x)\n" in source
    assert "return self.fc1(self.pool1(self.stage2(x)).flatten(1))\n" in source


def test_repeated_blocks_without_names_of_their_own_are_found() -> None:
    net = Network()
    x = net.conv("conv0", "data", 3, 8)
    for number in range(1, 7, 2):
        y = net.apply("Activation", f"act{number}", net.conv(f"conv{number}", x, 8, 8), act_type="relu")
        x = net.apply("elemwise_add", f"plus{number}", net.conv(f"conv{number + 1}", y, 8, 8), x)
    module = check(net.build(x), net.shapes, image())
    assert module.source.count("class ") == 2
    assert module.tensors["conv4_weight"] == "block2.conv2.weight"


def test_scope_that_values_leave_and_enter_again_only_holds_its_layers() -> None:
    net = Network()
    x = net.conv("body_conv1", "data", 3, 4)
    x = net.conv("other_conv1", x, 4, 4)
    x = net.conv("body_conv2", x, 4, 4)
    x = net.conv("other_conv2", x, 4, 4)
    module = check(net.build(x), net.shapes, image())
    assert "self.body = nn.Module()" in module.source
    assert module.tensors["body_conv2_weight"] == "body.conv2.weight"
    assert module.source.count("class ") == 1


def test_layer_that_is_used_twice_exists_once() -> None:
    net = Network()
    x = net.conv("conv0", "data", 3, 3)
    net.nodes.append(("Convolution", "again", net.nodes[-1][2], [x, "conv0_weight"]))
    module = check(net.build("again"), net.shapes, image())
    assert module.tensors == {"conv0_weight": "conv0.weight"}
    assert "return self.conv0(self.conv0(data))" in module.source


def test_parameter_with_two_uses_is_a_parameter_of_its_own() -> None:
    net = Network()
    x = net.conv("conv0", "data", 3, 3)
    attributes = net.nodes[-1][2] | {"stride": "(2, 2)"}
    net.nodes.append(("Convolution", "again", attributes, [x, "conv0_weight"]))
    module = check(net.build("again"), net.shapes, image())
    assert module.tensors == {"conv0_weight": "conv0_weight"}
    assert "self.conv0_weight = nn.Parameter(torch.zeros(3, 3, 3, 3))" in module.source


def test_statistics_outside_a_layer_are_not_trained() -> None:
    net = Network()
    x = net.norm("bn0", "data", 3)
    parameters = net.nodes[-1][3][1:]
    net.nodes.append(("BatchNorm", "again", {"eps": "0.5"}, [x, *parameters]))
    module = check(net.build("again"), net.shapes, image())
    names = generated_modules.load_source(module.source)
    assert {name for name, _ in names["Network"]().named_parameters()} == {"bn0.gamma", "bn0.beta"}


def test_fixed_gamma_is_one() -> None:
    net = Network()
    x = net.norm("bn0", "data", 3)
    x = net.norm("bn1", x, 3, fix_gamma="False")
    module = check(net.build(x), net.shapes, image())
    assert module.ones == {"bn0_gamma"}


def test_momentum_is_pytorchs() -> None:
    net = Network()
    x = net.conv("conv0", "data", 3, 3)
    x = net.norm("bn0", x, 3, momentum="0.9", eps="1e-05", fix_gamma="False")
    x = net.norm("bn1", x, 3, momentum="0.99", fix_gamma="False")
    source = check(net.build(x), net.shapes, image()).source
    assert "self.bn0 = nn.BatchNorm2d(3)\n" in source
    assert "self.bn1 = nn.BatchNorm2d(3, eps=0.0010000000474974513, momentum=0.01)\n" in source


def test_batch_norm_of_a_vector_has_one_axis() -> None:
    net = Network()
    x = net.norm("bn0", net.dense("fc1", "data", 6, 4), 4)
    module = check(net.build(x), net.shapes, image(3, 6))
    assert "nn.BatchNorm1d(4" in module.source


def test_several_inputs_and_outputs() -> None:
    net = Network()
    net.nodes.append(variable("im_info"))
    parts = net.apply("SliceChannel", "parts", "data", num_outputs="3")
    x = net.apply("broadcast_mul", "scaled", f"{parts}:2", "im_info")
    module = check(net.build("scaled", f"{parts}:0", x), net.shapes, image(), image(2, 1, 1, 1))
    assert module.inputs == ("data", "im_info")
    assert "def forward(self, data: Tensor, im_info: Tensor) -> tuple[Tensor, ...]:" in module.source
    assert "x, _, y = data.chunk(3, 1)" in module.source


def test_network_of_an_identity_is_its_input() -> None:
    net = Network()
    net.apply("_copy", "same", "data")
    assert "return data\n" in check(net.build("same"), net.shapes, image()).source


def test_gradients_reach_every_parameter() -> None:
    net = residual_network()
    module = codegen.generate(net.build("fc1"), net.shapes, "net")
    network = generated_modules.network(module, generated_modules.random_parameters(net.shapes)).train()
    network(torch.from_numpy(image())).square().sum().backward()
    gradients = {name: tensor.grad for name, tensor in network.named_parameters() if tensor.requires_grad}
    assert all(gradient is not None and gradient.abs().sum() > 0 for gradient in gradients.values())
    fixed = {module.tensors[name] for name in module.ones}
    assert gradients.keys() == {name for name, _ in network.named_parameters()} - fixed


def write_safetensors(path: Path, tensors: dict[str, torch.Tensor]) -> None:
    header, parts, offset = {}, [], 0
    for name, tensor in tensors.items():
        data = tensor.numpy().tobytes()
        header[name] = {
            "dtype": "F64",
            "shape": [*tensor.shape],
            "data_offsets": [offset, offset + len(data)],
        }
        parts.append(data)
        offset += len(data)
    text = json.dumps(
        {"__metadata__": {"note": '"conv0.weight":{'}, **header}, separators=(",", ":")
    ).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + b"".join(parts))


def test_load_reads_safetensors(tmp_path: Path) -> None:
    net = residual_network()
    module = codegen.generate(net.build("fc1"), net.shapes, "net")
    parameters = generated_modules.random_parameters(net.shapes)
    state = generated_modules.state_dict(module, parameters)
    write_safetensors(tmp_path / "net.safetensors", state)
    loaded = generated_modules.load_source(module.source)["load"](str(tmp_path / "net.safetensors"))
    assert not loaded.training
    assert all(torch.equal(loaded.state_dict()[name], tensor) for name, tensor in state.items())
    assert loaded(torch.from_numpy(image())).dtype == torch.float64


def test_load_refuses_the_tensors_of_another_network(tmp_path: Path) -> None:
    net = residual_network()
    module = codegen.generate(net.build("fc1"), net.shapes, "net")
    state = generated_modules.state_dict(module, generated_modules.random_parameters(net.shapes))
    load = generated_modules.load_source(module.source)["load"]
    write_safetensors(tmp_path / "more.safetensors", state | {"other": torch.zeros(1, dtype=torch.float64)})
    with pytest.raises(ValueError, match="tensors of another network"):
        load(str(tmp_path / "more.safetensors"))
    state.pop("fc1.bias")
    write_safetensors(tmp_path / "fewer.safetensors", state)
    with pytest.raises(RuntimeError, match=r"Missing key.*fc1\.bias"):
        load(str(tmp_path / "fewer.safetensors"))


HOSTILE = [
    '"); import os; (',
    '"""\nimport os\n"""',
    "\\",
    "x\\N{BULLET}",
    "'''",
    "class",
    "forward",
    "__init__",
    "self",
    "",
    "∑é",
    "a" * 5000,
    "1",
    "{layer}",
    "{0}.__class__",
    "#",
    "\r\n  import os",
    "F",
    "x",
]


@pytest.mark.parametrize("name", HOSTILE)
def test_names_never_become_code(name: str) -> None:
    net = Network()
    net.nodes = [variable(f"{name}\0")]
    net.shapes = {}
    x = net.norm(f"{name}_{name}", f"{name}\0", 3)
    x = net.conv(name, net.conv(f"{name}__", x, 3, 3), 3, 3)
    x = net.residual(f"{name}stage1_{name}", x, 3, 3)
    x = net.residual(f"{name}stage2_{name}", x, 3, 3)
    module = codegen.generate(graph := net.build(x), net.shapes, f"{name}-symbol.json")
    check(graph, net.shapes, image())
    tree = ast.parse(module.source)
    imports = [ast.unparse(node) for node in ast.walk(tree) if isinstance(node, ast.Import | ast.ImportFrom)]
    assert imports == ["import torch", "import torch.nn.functional as F", "from torch import Tensor, nn"]
    assert module.source.isascii()
    docstrings = {
        ast.get_docstring(node, clean=False) for node in ast.walk(tree) if isinstance(node, ast.Module)
    }
    safe = re.sub(r'"""A network.*?"""\n', "", module.source, count=1, flags=re.DOTALL)
    assert len(docstrings) == 1
    assert "import os" not in safe
    assert all(re.fullmatch(r"[A-Za-z_][A-Za-z0-9_.]*", each) for each in module.tensors.values())


def test_every_attribute_of_a_module_is_reserved() -> None:
    public = {name for name in dir(torch.nn.Module()) if not name.startswith("_")}
    assert public <= RESERVED


def test_unsupported_operators_are_refused() -> None:
    graph = build(variable("data"), ("Custom", "c", {"op_type": "x"}, ["data"]), heads=["c"])
    with pytest.raises(SymbolError, match="Custom  runs Python code"):
        codegen.generate(graph, {}, "net")


def test_code_has_at_most_two_lines_per_operator() -> None:
    net = Network()
    x = net.conv("conv0", "data", 3, 8)
    for number in range(100):
        x = net.residual(f"stage{number % 7}_unit{number}", x, 8, 8)
    graph = net.build(x)
    module = codegen.generate(graph, net.shapes, "net")
    operator_count = sum(node.operator != "null" for node in graph.nodes)
    assert module.source.count("\n") < 2 * operator_count + 100


RUFF = Path(sys.executable).with_name("ruff")


@pytest.mark.skipif(not RUFF.exists(), reason="ruff is not installed")
def test_source_is_formatted_and_without_unused_names(tmp_path: Path) -> None:
    net = residual_network()
    path = tmp_path / "net.py"
    path.write_text(codegen.generate(net.build("fc1"), net.shapes, "net").source)
    for arguments in (["format", "--diff"], ["check", "--select", "E,F,W"]):
        completed = subprocess.run(
            [RUFF, *arguments, "--isolated", path], capture_output=True, text=True, check=False
        )
        assert completed.returncode == 0, completed.stdout


def test_shapes_of_parameters_in_repeated_blocks_are_named() -> None:
    """A weight that is not a variable is a parameter, whose shape differs between the blocks."""
    net = Network()
    x = net.conv("conv0", "data", 3, 8)
    for number, (inputs, outputs) in enumerate([(8, 16), (16, 32), (32, 64)], start=1):
        x = net.residual(f"stage{number}_unit1", x, inputs, outputs)
    content = json.loads(net.build(x).content)
    for name in [name for name in net.shapes if name.endswith("weight")]:
        content = inserted(content, name, "BlockGrad")
        node(content, "inserted")["name"] = f"{name}_amp_cast_float16"
    graph = reader.parse(json.dumps(content).encode(), file="net-symbol.json", name="net-symbol.json")
    source = codegen.generate(graph, net.shapes, "net").source
    ast.parse(source)
    assert "size_0: int" in source
