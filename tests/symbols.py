"""Write the graphs of our PyTorch modules as MXNet would: torch.fx finds the operators.

The modules and `converter.networks.definition` share no code, so these graphs check the definition.
"""

from __future__ import annotations

import operator
from typing import TYPE_CHECKING, Any

import torch
from torch import fx, nn

from resnext_torch import ResNeXt

if TYPE_CHECKING:
    from converter.networks.catalog import Model

    Symbol = dict[str, Any]

FUNCTIONS = {operator.add: "elemwise_add", operator.iadd: "elemwise_add", operator.mul: "broadcast_mul"}
METHODS: dict[str, tuple[str, dict[str, str]]] = {
    "mean": ("_contrib_AdaptiveAvgPooling2D", {"output_size": "1"}),
    "sigmoid": ("Activation", {"act_type": "sigmoid"}),
    "flatten": ("Flatten", {}),
}


def symbol(model: Model, names: dict[str, str] | None = None) -> Symbol:
    """Return the content of a model's symbol file.

    Layers are named as in Gluon, other operators by kind and index.

    Args:
        model: the model.
        names: the names of its parameters by structural names; without them these are the names.
    """
    with torch.device("meta"):
        module = ResNeXt(model.config)
    return _Writer(model, fx.symbolic_trace(module), names or {}).write()


def node(content: Symbol, name: str) -> Symbol:
    """Return the node with the given name."""
    match: Symbol = next(node for node in content["nodes"] if node["name"] == name)
    return match


def changed(content: Symbol, layer: str, **changes: str | None) -> Symbol:
    """Set attributes of a layer's node; None removes one."""
    attrs = node(content, layer)["attrs"] | changes
    node(content, layer)["attrs"] = {key: value for key, value in attrs.items() if value is not None}
    return content


def inserted(content: Symbol, name: str, op: str, attrs: dict[str, str] | None = None) -> Symbol:
    """Insert an operator after a node; whatever read the node reads the operator."""
    nodes = content["nodes"]
    place = nodes.index(node(content, name))
    moved = {number: number + (number > place) for number in range(len(nodes))}

    def entry(old: list[int]) -> list[int]:
        return [place + 1 if old[0] == place else moved[old[0]], *old[1:]]

    for each in nodes:
        each["inputs"] = [entry(old) for old in each["inputs"]]
    content["heads"] = [entry(old) for old in content["heads"]]
    nodes.insert(place + 1, {"op": op, "name": "inserted", "attrs": attrs or {}, "inputs": [[place, 0, 0]]})
    return content


class _Writer:
    def __init__(self, model: Model, traced: fx.GraphModule, names: dict[str, str]) -> None:
        self.traced = traced
        self.names = names
        self.sources = model.mapping.to_source()
        self.layers = {layer.target: layer.source for layer in model.mapping.layers}
        self.nodes: list[Symbol] = []

    def write(self) -> Symbol:
        places: dict[fx.Node, int] = {}
        for each in self.traced.graph.nodes:
            if each.op == "output":
                head = places[each.args[0]]
            else:
                inputs = [places[argument] for argument in each.args if isinstance(argument, fx.Node)]
                places[each] = self._add(each, inputs)
        arguments = [number for number, each in enumerate(self.nodes) if each["op"] == "null"]
        return {
            "nodes": self.nodes,
            "arg_nodes": arguments,
            "heads": [[head, 0, 0]],
            "attrs": {"mxnet_version": ["int", 10901]},
        }

    def _add(self, each: fx.Node, inputs: list[int]) -> int:
        if each.op == "placeholder":
            return self._node("null", "data", {}, [])
        if each.op == "call_module":
            target = str(each.target)
            return self._module(target, self.traced.get_submodule(target), inputs)
        if each.op == "call_function":
            return self._node(FUNCTIONS[each.target], each.name, {}, inputs)  # type: ignore[index]  # all known
        op, attrs = METHODS[str(each.target)]
        return self._node(op, each.name, attrs, inputs)

    def _module(self, target: str, module: nn.Module, inputs: list[int]) -> int:
        name = self.layers.get(target, f"{target}#{len(self.nodes)}")
        if isinstance(module, nn.Conv2d):
            roles = ["weight"] if module.bias is None else ["weight", "bias"]
            return self._node("Convolution", name, _convolution(module), inputs + self._params(target, roles))
        if isinstance(module, nn.BatchNorm2d):
            attrs = {"eps": repr(module.eps), "momentum": "0.9", "fix_gamma": "False"}
            params = self._params(target, ["weight", "bias", "running_mean", "running_var"])
            return self._node("BatchNorm", name, attrs, inputs + params)
        if isinstance(module, nn.Linear):
            attrs = {"num_hidden": str(module.out_features), "no_bias": "False"}
            params = self._params(target, ["weight", "bias"])
            return self._node("FullyConnected", name, attrs, inputs + params)
        if isinstance(module, nn.ReLU):
            return self._node("Activation", name, {"act_type": "relu"}, inputs)
        if isinstance(module, nn.Dropout):
            return self._node("Dropout", name, {"p": repr(module.p)}, inputs)
        return (
            inputs[0]
            if isinstance(module, nn.Identity)
            else self._node("Pooling", name, _pool(module), inputs)
        )

    def _params(self, target: str, roles: list[str]) -> list[int]:
        sources = [self.sources[f"{target}.{role}"] for role in roles]
        return [self._node("null", self.names.get(source, source), {}, []) for source in sources]

    def _node(self, op: str, name: str, attrs: dict[str, str], inputs: list[int]) -> int:
        entries = [[number, 0, 0] for number in inputs]
        self.nodes.append({"op": op, "name": name, "attrs": attrs, "inputs": entries})
        return len(self.nodes) - 1


def _convolution(module: nn.Conv2d) -> dict[str, str]:
    return {
        "kernel": str(module.kernel_size),
        "stride": str(module.stride),
        "pad": str(module.padding),
        "dilate": str(module.dilation),
        "num_group": str(module.groups),
        "num_filter": str(module.out_channels),
        "no_bias": str(module.bias is None),
    }


def _pool(module: nn.Module) -> dict[str, str]:
    if isinstance(module, nn.AdaptiveAvgPool2d):
        return {"global_pool": "True", "pool_type": "avg", "kernel": "(1, 1)"}
    assert isinstance(module, (nn.MaxPool2d, nn.AvgPool2d))
    attrs = {
        "kernel": f"({module.kernel_size}, {module.kernel_size})",
        "stride": f"({module.stride}, {module.stride})",
        "pad": f"({module.padding}, {module.padding})",
        "pooling_convention": "full" if module.ceil_mode else "valid",
    }
    if isinstance(module, nn.MaxPool2d):
        return attrs | {"pool_type": "max"}
    return attrs | {"pool_type": "avg", "count_include_pad": str(module.count_include_pad)}


def counted_names(model: Model, prefix: str = "net0_") -> dict[str, str]:
    """Return the index-based names that Gluon gives a model's parameters, by structural name."""
    numbers: dict[tuple[str, str], dict[str, int]] = {}
    names = {}
    for tensor in model.mapping.tensors:
        assert tensor.layer.counter is not None
        scope, kind = tensor.layer.counter
        known = numbers.setdefault(tensor.layer.counter, {})
        number = known.setdefault(tensor.layer.source, len(known))
        names[tensor.source] = f"{prefix}{scope}{'_' if scope else ''}{kind}{number}_{tensor.source_role}"
    return names
