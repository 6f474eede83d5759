"""The check of generated sources detects whatever we do not write ourselves."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest
from graph_building import Network
from operator_case import one_operator
from operator_cases import CASES

from converter.graphs import codegen
from converter.graphs.codegen.safe_source import UnsafeSourceError, require_safe

if TYPE_CHECKING:
    from operator_case import OperatorCase

NET = Network()
NET.residual("stage1_unit2", NET.residual("stage1_unit1", "data", 3, 3), 3, 3)
SOURCE = codegen.generate(NET.build("stage1_unit2_relu2"), NET.shapes, "net").source
RETURN = "return F.relu("
CHANGES = {
    "an import": ("import torch\n", "import torch\nimport os\n", "import os"),
    "an import inside": (RETURN, "import os\n        return F.relu(", "Import is not allowed"),
    "another import from torch": ("import Tensor, nn", "import Tensor, hub, nn", "hub"),
    "a call of import": (RETURN, "return __import__('os') + F.relu(", "__import__ is unknown"),
    "a call of eval": (RETURN, "return eval('1') + F.relu(", "eval is unknown"),
    "a call of open": (RETURN, "return open('1') + F.relu(", "open is unknown"),
    "a call of torch.load": (
        RETURN,
        "return torch.load('1') + F.relu(",
        "torch.load is not allowed",
    ),
    "a call of numpy": (
        RETURN,
        "return x.numpy().tofile('a') + F.relu(",
        "method tofile is not allowed",
    ),
    "a file reader": (RETURN, "return load('a') + F.relu(", "load is unknown"),
    "a method of layers": (
        RETURN,
        "return self.cuda(x) + F.relu(",
        "self.cuda is not allowed",
    ),
    "a private attribute": (RETURN, "return x.__class__ + F.relu(", "__class__ is private"),
    "a name": (RETURN, "return inf + F.relu(", "inf is unknown"),
    "a text": (
        RETURN,
        "return 'os.system' + F.relu(",
        "string 'os.system' is not allowed in a generated module",
    ),
    "bytes": (RETURN, "return b'os' + F.relu(", "constant b'os' is not allowed in a generated module"),
    "a number": (RETURN, "return 1e999 + F.relu(", "inf is not finite"),
    "a format string": (RETURN, 'return f"{x}" + F.relu(', "JoinedStr is not allowed"),
    "a function": (RETURN, "return (lambda: 1) + F.relu(", "Lambda is not allowed"),
    "a comprehension": (RETURN, "return [1 for _ in x] + F.relu(", "ListComp is not allowed"),
    "a statement": (RETURN, "del x\n        return F.relu(", "Delete is not allowed"),
    "an assignment": (RETURN, "F.relu = x\n        return F.relu(", "assigns to something else"),
    "a member in forward": (
        RETURN,
        "self.x = x\n        return F.relu(",
        "assigns to something else",
    ),
    "a member that is no layer": (
        "super().__init__()",
        "super().__init__()\n        self.a = torch.ones(1).sum",
        "neither a layer nor a parameter",
    ),
    "another self": (RETURN, "self = x\n        return F.relu(", "hide {'self'}"),
    "a syntax error": (RETURN, "return return F.relu(", "not Python"),
    "a hidden function": (RETURN, "torch = x\n        return F.relu(", "hide {'torch'}"),
    "a statement of the module": (
        "\n\n\ndef load",
        "\n\n\nNetwork()\n\n\ndef load",
        "Network() is not allowed",
    ),
    "a docstring": ("unit1, unit2.", "unit1'); import os; ('", "is not a list of places"),
    "another base": ("class Network(nn.Module)", "class Network(dict)", "other bases"),
    "a decorator": ("class Network", "@torch.no_grad()\nclass Network", "Network has decorators"),
    "a decorator of a helper": ("def load", "@torch.hub.load\ndef load", "load has decorators"),
    "a character that ends a line": ("by gluon2torch", "\x0c", "not printable ASCII"),
    "deep nesting": (RETURN, f"return {'-' * 50_000}F.relu(", "nested too deeply"),
    "a method": (
        "    def forward",
        "    def train(self):\n        pass\n\n    def forward",
        "has the methods",
    ),
    "a default": ("def __init__(self)", "def __init__(self, x=1)", "decorators or defaults"),
    "another helper": ('open(path, "rb")', 'open(path, "wb")', "is not allowed in a generated module"),
    "a class twice": ("class Network(", "class Unit(", "Unit hides another name"),
    "no docstring": ('"""A network', '_ = """A network', "no docstring"),
}


@pytest.mark.parametrize("case", CASES, ids=str)
def test_source_of_every_operator_is_safe(case: OperatorCase) -> None:
    graph = one_operator(case)
    shapes = {f"x{number}": shape for number, shape in enumerate(case.shapes)}
    for parameters in ({}, {name: shape for name, shape in shapes.items() if name != "x0"}):
        require_safe(codegen.generate(graph, parameters, "net").source)


def test_source_of_a_network_is_safe() -> None:
    require_safe(SOURCE)


@pytest.mark.parametrize(("old", "new", "message"), CHANGES.values(), ids=CHANGES)
def test_changed_source_is_detected(old: str, new: str, message: str) -> None:
    assert old in SOURCE
    with pytest.raises(UnsafeSourceError, match=re.escape(message)):
        require_safe(SOURCE.replace(old, new))
