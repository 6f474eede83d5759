"""Every way to break a conversion, by kind: which check must detect it, and at which layer.

A fault is injected at one place and passes through every check: names, shapes, tensors bit by bit, outputs
layer by layer. Faults in a mapping or module affect no tensor: if names and shapes fit, outputs show them.
"""

from __future__ import annotations

import contextlib
import copy
import itertools
import math
from collections import Counter
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import torch
from torch import nn

from converter.errors import MappingError, ParityError
from converter.formats import array_comparison, torch_file
from converter.networks import matching
from converter.parity import diagnosis, execution, runner

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from converter.dtypes import Array
    from converter.networks.catalog import Model
    from converter.networks.loading import LoadedModel
    from converter.networks.mapping import Layer, Mapping, Tensor
    from converter.parity.comparison import Reference
    from converter.references import LayerOutput, ReferenceName
    from converter.references.probes import Probe
    from resnext_torch.config import Shape

    Entry = TypeVar("Entry")
    Arrays = dict[str, Array]
    Caught = dict[str, str]
    Change = Callable[[Any], Any]
    Faults = Iterator[tuple[Layer, str, str, Change, Caught, str]]  # a Mutation without its kind

CHECKS = ("names", "shapes", "tensors", "outputs")
RENAMED = {"model", "mapping", "file"}  # places whose change affects how the file's arrays are renamed


@dataclass(frozen=True, slots=True)
class Mutation:
    """One fault in a layer.

    ``place`` is what ``change`` breaks: the ``model``, the ``mapping``, the ``file`` of Gluon's arrays, the
    ``checkpoint`` of PyTorch's or the ``module``. ``caught`` is {check: the first thing it names}, and
    ``suspect`` the diagnosis's suspicion.
    """

    kind: str
    layer: Layer
    what: str
    place: str
    change: Change
    caught: Caught
    suspect: str

    def __str__(self) -> str:
        return f"{self.kind}: {self.layer.target} {self.what}"


@dataclass(frozen=True, slots=True)
class RecordedReference:
    """A reference that has run: its outputs can be compared repeatedly."""

    name: ReferenceName
    probes: tuple[Probe, ...]
    recorded: tuple[tuple[LayerOutput, ...], ...]

    def outputs(self, number: int) -> Iterator[LayerOutput]:
        return iter(self.recorded[number])

    def versions(self) -> dict[str, str]:
        return {}


@contextlib.contextmanager
def one_thread() -> Iterator[None]:
    """Limit torch to one thread: several are slower for small layers, far slower on a busy machine."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def record(reference: Reference) -> RecordedReference:
    outputs = (tuple(reference.outputs(number)) for number, _ in enumerate(reference.probes))
    return RecordedReference(reference.name, reference.probes, tuple(outputs))


class Original:
    """An unchanged network with the outputs of the reference; mutations share its arrays and its module.

    Building a module takes longer than running it, so it is built once, in the probes' precision.
    """

    def __init__(self, loaded: LoadedModel, reference: Reference) -> None:
        self.loaded, self.reference = loaded, record(reference)
        params: Any = loaded.params  # in memory
        self.state: Arrays = matching.rename(loaded.mapping, params, loaded.model.shapes, "the file")
        dtypes = {getattr(torch, probe.dtype) for probe in reference.probes}
        self.module = execution.build(self.state, loaded.model.config).to(*dtypes)
        self.layers = [(name, layer) for name, layer in self.module.named_modules() if name]
        self.tensors, self.current_state = self.module.state_dict(), self.state

    def load(self, state: Arrays) -> nn.Module:
        """Return the module with these arrays and with the layers that it was built of."""
        for name, layer in self.layers:
            self.module.set_submodule(name, layer)
        for name, array in state.items():
            if array is not self.current_state[name]:
                self.tensors[name].copy_(torch_file.tensor(array))
        self.current_state = state
        return self.module


def find(mutation: Mutation, original: Original) -> tuple[Caught, str]:
    """Return {check that detects a mutation: the first thing it names}, and the diagnosis's suspicions."""

    def apply_at(place: str, network: Any) -> Any:  # noqa: ANN401 - of any type
        return mutation.change(network) if place == mutation.place else network

    loaded = original.loaded
    model = apply_at("model", loaded.model)
    mapping = apply_at("mapping", loaded.mapping if model is loaded.model else model.mapping)
    shapes, state = model.shapes, original.state
    try:
        if mutation.place in RENAMED:
            state = matching.rename(mapping, apply_at("file", loaded.params), shapes, "the file")
        state = matching.complete(mapping, apply_at("checkpoint", state), shapes, "the checkpoint")
        module = original.load(state) if model is loaded.model else execution.build(state, model.config)
        watched = execution.hook_layers(apply_at("module", module), mapping)
    except (MappingError, ParityError) as error:
        headline, first, *_ = str(error).splitlines()
        return {"shapes" if "the arrays do not match" in headline else "names": first.strip()}, ""
    pairs = (
        (tensor.target, loaded.params[tensor.source], state[tensor.target])
        for tensor in mapping.tensors
        if state[tensor.target] is not loaded.params[tensor.source]
    )
    first_diff = next(filter(None, itertools.starmap(array_comparison.compare, pairs)), None)
    caught = {"tensors": first_diff.name} if first_diff else {}
    broken = replace(loaded, model=model, mapping=mapping, state=state)
    proof = runner.prove((original.reference,), watched, broken)
    result = diagnosis.diagnose(proof, broken, state)
    if result:
        return caught | {"outputs": arrow(result.row.layer)}, "\n".join(result.suspicions)
    return caught if proof.passed else caught | {"outputs": "nowhere"}, ""


def summary(results: Iterable[tuple[str, Iterable[str]]]) -> list[str]:
    """Return how many mutations of each kind each check detected, given (kind, checks that detected it)."""
    rows: dict[str, Counter[str]] = {}
    for kind, checks in results:
        rows.setdefault(kind, Counter()).update(["mutations", *checks, *(["caught"] if checks else [])])
    columns = ("mutations", "caught", *CHECKS)
    rows["together"] = total = sum(rows.values(), Counter())
    return [
        f"{'':20}{''.join(f'{column:>11}' for column in columns)}",
        *(f"{kind:20}{''.join(f'{row[column]:11}' for column in columns)}" for kind, row in rows.items()),
        f"{total['mutations']} mutations, {total['caught']} caught",
    ]


def mutations(model: Model, kinds: Iterable[str] | None = None) -> tuple[Mutation, ...]:
    """Return every mutation of a network, or those of some kinds."""
    anatomy = NetworkParts(model)
    return tuple(Mutation(kind, *fault) for kind in kinds or KINDS for fault in KINDS[kind](anatomy))


def controls(model: Model) -> tuple[Mutation, ...]:
    """Return changes that are not faults."""
    return tuple(Mutation("no effect", *change) for change in no_op_changes(NetworkParts(model)))


def arrow(layer: Layer) -> str:
    return f"{layer.source} → {layer.target}"


class NetworkParts:
    """The layers, blocks and tensors of a network."""

    def __init__(self, model: Model) -> None:
        self.model, self.mapping, self.shapes = model, model.mapping, model.shapes
        self.layers = {layer.target: layer for layer in self.mapping.layers}
        self.blocks = [layer for layer in self.mapping.layers if layer.kind == "block"]
        self.tensors: dict[Layer, list[Tensor]] = {layer: [] for layer in self.mapping.layers}
        for tensor in self.mapping.tensors:
            self.tensors[tensor.layer].append(tensor)

    def shape(self, layer: Layer) -> Shape:
        """Return the shape of the layer's first tensor."""
        return self.shapes[self.tensors[layer][0].target] if self.tensors[layer] else ()

    def exchange_scope(self, layer: Layer) -> str:
        """Return the layer's block or, without tensors, its kind: layers are exchanged within it."""
        if not self.tensors[layer]:
            return layer.kind
        return next(
            (block.target for block in self.blocks if layer.target.startswith(f"{block.target}.")), ""
        )

    def traits(self, layer: Layer) -> list[str]:
        """Return the layer's keys in the tables below."""
        wide = layer.kind == "conv" and self.shape(layer)[-1] > 1
        inner = layer.part != self.mapping.layers[0].part and "downsample" not in layer.target
        projecting = f"{layer.target}.downsample.1" in self.layers
        pooling = f"{layer.target}.downsample.2" in self.layers
        claims = {
            layer.kind: True,
            layer.target: True,
            "wide": wide,
            "grouped": wide and inner and self.model.config.cardinality > 1,
            "bottleneck": f"{layer.target}.conv3" in self.layers,
            "projecting": projecting and not pooling,
            "pooling": pooling,
            "striding": projecting and layer.part != self.blocks[0].part,
        }
        return [trait for trait, holds in claims.items() if holds]

    def first(self, trait: str) -> Layer:
        return next(layer for layer in self.tensors if trait in self.traits(layer))

    def entries(self, table: dict[str, dict[str, Entry]]) -> Iterator[tuple[Layer, str, Entry]]:
        """Yield every layer with the table's entries for its traits."""
        for layer in self.tensors:
            for trait in self.traits(layer):
                for what, entry in table.get(trait, {}).items():
                    yield layer, what, entry

    def refused(self, layer: Layer, expected: Shape) -> Caught:
        """Return what detects a layer with another shape in the file."""
        name, result = self.tensors[layer][0].source, self.shape(layer)
        return {"shapes": f"{name}: expected shape {expected}, found {result}"}

    def replaced(self, tensor: Tensor, shape: Shape) -> Caught:
        """Return what detects an array of the given shape in place of a tensor of the checkpoint."""
        expected = self.shapes[tensor.target]
        if shape == expected:
            return {"tensors": tensor.target, "outputs": arrow(tensor.layer)}
        complaint = f"expected floats of shape {expected}, found float32 of shape {shape}"
        return {"shapes": f"{tensor.target}: {complaint}"}


def configurations(network: NetworkParts) -> Faults:
    """Module and mapping of another network of the family."""
    config = network.model.config
    bn, grouped, head = (network.first(trait) for trait in ("batchnorm", "grouped", "dense"))
    outputs, inputs, *kernel = network.shape(grouped)
    classes, features = network.shape(head)
    cases: list[tuple[Layer, dict[str, Any], Caught]] = [
        (bn, {"bn_eps": 1e-3}, {"outputs": arrow(bn)}),
        (head, {"num_classes": classes + 1}, network.refused(head, (classes + 1, features))),
    ]
    for width in (config.width // 2, config.width * config.cardinality):
        changes = {"cardinality": config.cardinality * config.width // width, "width": width}
        shape = (outputs, inputs * width // config.width, *kernel)
        cases.append((grouped, changes, network.refused(grouped, shape)))
    for stage, last in enumerate({block.part: block for block in network.blocks}.values()):
        source, _, number = last.source.rpartition(".")
        for more, complaint in (
            (1, f"missing     {source}.{int(number) + 1}.body.{{0,3,6}}.weight"),
            (-1, f"unexpected  {last.source}.body.{{0,3,6}}.weight"),
        ):
            depths = tuple(depth + more * (place == stage) for place, depth in enumerate(config.depths))
            cases.append((last, {"depths": depths}, {"names": complaint}))
    for layer, changes, caught in cases:
        what = ", ".join(f"{name} {value}" for name, value in changes.items())
        yield layer, what, "model", partial(_reconfigure, changes), caught, ""


def _reconfigure(changes: dict[str, Any], model: Model) -> Model:
    return replace(model, config=replace(model.config, **changes))


def exchanged_layers(network: NetworkParts) -> Faults:
    """Swap two lines of the mapping."""
    for one, other in itertools.combinations(network.tensors, 2):
        if network.exchange_scope(one) == network.exchange_scope(other):
            change = partial(_exchange_layers, one, other)
            yield one, f"and {other.target}", "mapping", change, _first_mismatch(network, one, other), ""


def _exchange_layers(one: Layer, other: Layer, mapping: Mapping) -> Mapping:
    moved = {one: replace(one, target=other.target), other: replace(other, target=one.target)}
    return replace(
        mapping,
        layers=tuple(moved.get(layer, layer) for layer in mapping.layers),
        tensors=tuple(replace(each, layer=moved.get(each.layer, each.layer)) for each in mapping.tensors),
    )


def _first_mismatch(network: NetworkParts, one: Layer, other: Layer) -> Caught:
    """Return what detects first that two layers are swapped."""
    if one.kind != other.kind:
        poor, rich = sorted((network.tensors[one], network.tensors[other]), key=len)
        return {"names": f"not mapped    {rich[len(poor)].target}"}
    if network.shape(one) != network.shape(other):
        return network.refused(one, network.shape(other))
    block = network.layers.get(network.exchange_scope(one), one)
    twins = [f"{block.target}.conv1", f"{block.target}.downsample.0"]
    if [one.target, other.target] == twins and "striding" not in network.traits(block):
        # Both process the same input, each with the other's weights: the next layer shows it.
        return {"outputs": arrow(network.layers[f"{block.target}.bn1"])}
    return {"outputs": f"{one.source} → {other.target}"}


def exchanged_fields(network: NetworkParts) -> Faults:
    """Swap two fields of a BatchNorm in the mapping."""
    for layer, fields in network.tensors.items():
        for one, other in itertools.combinations(fields, 2) if layer.kind == "batchnorm" else ():
            what, change = f"{one.source_role} and {other.source_role}", partial(_exchange_fields, one, other)
            yield layer, what, "mapping", change, {"outputs": arrow(layer)}, ""


def _exchange_fields(one: Tensor, other: Tensor, mapping: Mapping) -> Mapping:
    roles = {one: other.target_role, other: one.target_role}
    fields = (replace(each, target_role=roles.get(each, each.target_role)) for each in mapping.tensors)
    return replace(mapping, tensors=tuple(fields))


def dropped_tensors(network: NetworkParts) -> Faults:
    for tensor in network.mapping.tensors:
        for place, name, change, complaint in (
            ("mapping", tensor.target, partial(_unmap, tensor), "not mapped"),
            ("file", tensor.source, partial(_drop, tensor.source), "missing"),
            ("checkpoint", tensor.target, partial(_drop, tensor.target), "missing"),
        ):
            width = 14 if place == "mapping" else 12  # of the column in the message
            caught = {"names": f"{complaint:{width}}{name}"}
            yield tensor.layer, f"{tensor.source_role} of the {place}", place, change, caught, ""


def _unmap(tensor: Tensor, mapping: Mapping) -> Mapping:
    return replace(mapping, tensors=tuple(each for each in mapping.tensors if each != tensor))


def _drop(name: str, arrays: Arrays) -> Arrays:
    return {other: array for other, array in arrays.items() if other != name}


def added_tensors(network: NetworkParts) -> Faults:
    for tensor in network.mapping.tensors:
        for place, name in (("file", tensor.source), ("checkpoint", tensor.target)):
            again = f"{name}_again"
            what, change = f"{tensor.source_role} in the {place}", partial(_put, name, again)
            yield tensor.layer, what, place, change, {"names": f"unexpected  {again}"}, ""


def duplicated_tensors(network: NetworkParts) -> Faults:
    """Put each array in another's place too: the next one of its shape, otherwise the next one."""
    order = network.mapping.tensors
    for number, tensor in enumerate(order):
        others = [*order[number + 1 :], *order[:number]]
        alike = [each for each in others if network.shapes[each.target] == network.shapes[tensor.target]]
        other = (alike or others)[0]
        what, change = f"{tensor.target_role} from {other.target}", partial(_put, other.target, tensor.target)
        caught = network.replaced(tensor, network.shapes[other.target])
        suspect = (
            f"{tensor.target} has the values of Gluon's {other.source}, not of its {tensor.source}"
            if alike
            else ""
        )
        yield tensor.layer, what, "checkpoint", change, caught, suspect


def _put(one: str, other: str, arrays: Arrays) -> Arrays:
    return arrays | {other: arrays[one]}


def reordered_weights(network: NetworkParts) -> Faults:
    """Swap the axes of a weight, or reorder its groups."""
    for layer, what, order in network.entries(ORDERS):
        weight, shape = network.tensors[layer][0], network.shape(layer)
        change = partial(order, network.model.config.cardinality)
        result = change(np.empty(shape, np.bool_)).shape
        suspect = "; the same values in a different order" if result == shape else ""
        revalue = partial(_revalue, weight.target, change)
        yield layer, what, "checkpoint", revalue, network.replaced(weight, result), suspect


def _revalue(name: str, change: Callable[[Array], Array], arrays: Arrays) -> Arrays:
    return arrays | {name: np.array(change(arrays[name]), order="C")}


# {trait: {description: a function of the groups and the weight}}
ORDERS: dict[str, dict[str, Callable[[int, Array], Array]]] = {
    "conv": {"outputs and inputs exchanged": lambda _, w: w.swapaxes(0, 1)},
    "dense": {"outputs and inputs exchanged": lambda _, w: w.T},
    "wide": {
        "height and width exchanged": lambda _, w: w.swapaxes(2, 3),
        "kernels turned": lambda _, w: w[:, :, ::-1, ::-1],
    },
    "grouped": {
        "groups backwards": lambda groups, w: w.reshape(groups, -1)[::-1].reshape(w.shape),
        "groups interleaved": lambda groups, w: (
            w.reshape(groups, len(w) // groups, -1).swapaxes(0, 1).reshape(w.shape)
        ),
    },
}


def one_ulp(network: NetworkParts) -> Faults:
    """Move one element of every tensor to the next float32."""
    for tensor in network.mapping.tensors:
        shape = network.shapes[tensor.target]
        for rank, shown in _visible_ulps(network, tensor).items():
            what = f"{tensor.target_role}, element {rank} by size"
            change = partial(_revalue, tensor.target, partial(_move, rank, _next_up))
            caught = network.replaced(tensor, shape) if shown else {"tensors": tensor.target}
            suspect = f"{tensor.target}: 1 of {math.prod(shape)} elements differ" if shown else ""
            yield tensor.layer, what, "checkpoint", change, caught, suspect


def unread_weights(network: NetworkParts) -> Faults:
    """Set the largest elements whose ulp is invisible to zero: no output depends on them."""
    for tensor in network.mapping.tensors:
        if not _visible_ulps(network, tensor)[0]:
            change = partial(_revalue, tensor.target, partial(_move, 0, np.zeros_like))
            yield tensor.layer, tensor.target_role, "checkpoint", change, {"tensors": tensor.target}, ""


# {network: {tensor: {rank by size, 0 the largest and -1 the smallest: whether outputs show its ulp}}}
# An ulp is invisible in outputs if the weight only meets zeros, in a channel that a ReLU silences, or if
# the value is so small that its ulp is below the limit. The comparison of tensors shows it anyway.
VISIBLE_ULPS = {
    "tiny": {
        "layer2.1.conv1.weight": {0: False, 1: True},
        "layer4.0.conv2.weight": {0: False, 1: True},
        "layer4.0.downsample.1.running_mean": {0: True, -1: False},
        "fc.weight": {0: False, 3: True, -1: False},
    }
}


def _visible_ulps(network: NetworkParts, tensor: Tensor) -> dict[int, bool]:
    return VISIBLE_ULPS.get(network.model.name, {}).get(tensor.target, {0: True})


def _next_up(value: Array) -> Array:
    return np.nextafter(value, np.float32(np.inf))


def _move(rank: int, change: Callable[[Array], Array], array: Array) -> Array:
    moved = array.copy()
    place = np.argsort(-np.abs(array), axis=None, kind="stable")[rank]
    moved.flat[place] = change(array.flat[place])
    return moved


@dataclass(frozen=True, slots=True)
class ModuleChange:
    """A change of a module, the suspicion, and the layers that show it and are changed ({} is its own)."""

    change: Change
    suspect: str = ""
    shows: str = "{}"
    changed: str = "{}"


def broken_modules(table: dict[str, dict[str, ModuleChange]], network: NetworkParts) -> Faults:
    for layer, what, part in network.entries(table):
        name, shows = part.changed.format(layer.target), part.shows.format(layer.target)
        caught = {"outputs": arrow(network.layers[shows])} if shows in network.layers else {"names": shows}
        yield layer, what, "module", partial(_change, name, part.change), caught, part.suspect


def _change(name: str, change: Change, module: nn.Module) -> nn.Module:
    module.set_submodule(name, change(copy.deepcopy(module.get_submodule(name))))
    return module


def _set(**settings: object) -> Change:
    """Return a change that sets a layer's attributes; a function computes one from the layer."""

    def change(layer: nn.Module) -> nn.Module:
        for name, value in settings.items():
            setattr(layer, name, value(layer) if callable(value) else value)
        return layer

    return change


def _identity(x: Any) -> Any:  # noqa: ANN401 - of any type
    return x


def _forward(
    block: Any,  # noqa: ANN401 - Bottleneck or Basic
    x: torch.Tensor,
    *,
    after_bn1: Change = torch.relu,
    after_bn2: Change = torch.relu,
    after_body: Change = _identity,
    after_shortcut: Change = _identity,
    after_sum: Change = torch.relu,
) -> object:
    """Compute the block's own ``forward`` with some joins replaced."""
    shortcut = x if block.downsample is None else block.downsample(x)
    x = block.bn2(block.conv2(after_bn1(block.bn1(block.conv1(x)))))
    if hasattr(block, "conv3"):
        x = block.bn3(block.conv3(after_bn2(x)))
    if getattr(block, "se", None) is not None:
        x = block.se(x)
    return after_sum(after_body(x) + after_shortcut(shortcut))


def _join(**joins: Any) -> Change:  # noqa: ANN401 - changes, which mypy would take for inputs
    return _set(forward=lambda block: partial(_forward, block, **joins))


def _move_stride(block: Any) -> Any:  # noqa: ANN401 - as above
    block.conv1.stride, block.conv2.stride = block.conv2.stride, block.conv1.stride
    return block


def _one_group(conv: nn.Conv2d, *, own: bool) -> nn.Conv2d:
    """Apply each group's weights only to its own inputs, as before, or to those of every group."""
    weights = conv.weight.reshape(conv.groups, -1, *conv.weight.shape[1:])  # (groups, outputs, inputs, k, k)
    reach = torch.eye(conv.groups) if own else torch.ones(conv.groups, conv.groups)
    weight = torch.einsum("goikl,gh->gohikl", weights, reach).flatten(2, 3).flatten(0, 1)
    conv.weight, conv.groups = nn.Parameter(weight), 1
    return conv


# Changes of a layer's settings, by trait.
SETTINGS = {
    "conv": {
        "the other stride": ModuleChange(_set(stride=lambda conv: 3 - conv.stride[0]), "stride: "),
        "more padding": ModuleChange(_set(padding=lambda conv: conv.padding[0] + 1), "padding: "),
    },
    "wide": {
        "less padding": ModuleChange(_set(padding=lambda conv: conv.padding[0] - 1), "padding: "),
        "dilation": ModuleChange(_set(dilation=2), "dilation: 1 in the reference, 2"),
        "dilation, same shape": ModuleChange(
            _set(dilation=2, padding=lambda conv: 2 * conv.padding[0]), "dilation: "
        ),
        "a border that is not zero": ModuleChange(_set(padding_mode="replicate")),
    },
    "grouped": {"groups merged": ModuleChange(partial(_one_group, own=False), "groups: ")},
    "batchnorm": {
        "eps 1e-3": ModuleChange(_set(eps=1e-3), "eps: 1e-05 in the reference, 0.001 in the module"),
        "eps 1.1e-5": ModuleChange(_set(eps=1.1e-5), "eps: 1e-05 in the reference, 1.1e-05 in the module"),
        "statistics of the input": ModuleChange(
            _set(running_mean=None, running_var=None, track_running_stats=False)
        ),
        "missing": ModuleChange(lambda _: nn.Identity()),
    },
    "maxpool": {
        "the other padding": ModuleChange(_set(padding=lambda pool: 1 - pool.padding), "padding: "),
        "rounding otherwise": ModuleChange(_set(ceil_mode=lambda pool: not pool.ceil_mode), "ceil_mode: "),
        "a smaller kernel": ModuleChange(_set(kernel_size=2), "kernel: 3 in the reference, 2"),
        "a larger kernel, same shape": ModuleChange(
            _set(kernel_size=5, padding=2), "kernel: 3 in the reference, 5"
        ),
        "no stride": ModuleChange(_set(stride=1), "stride: 2 in the reference, 1"),
        "an average": ModuleChange(lambda _: nn.AvgPool2d(3, 2, 1)),
    },
    "avgpool": {"a maximum": ModuleChange(lambda _: nn.AdaptiveMaxPool2d(1))},
    "fc": {"no bias": ModuleChange(_set(bias=None))},
}

INPUT = "its input (the ReLU, pool or addition before it)"
SUM = "the addition of the shortcut, and the ReLU after it"
# Changes of what joins the layers: ReLU, shortcut, sum, and the convolution with the stride.
JOINS = {
    "maxpool": {
        "no ReLU before it": ModuleChange(lambda _: nn.Identity(), "the ReLU before it", changed="relu")
    },
    "block": {
        "no ReLU after bn1": ModuleChange(_join(after_bn1=_identity), INPUT, "{}.conv2"),
        "a ReLU before the sum": ModuleChange(_join(after_body=torch.relu), SUM),
        "no shortcut": ModuleChange(_join(after_shortcut=torch.zeros_like), SUM),
        "no ReLU after the sum": ModuleChange(_join(after_sum=_identity), SUM),
    },
    "bottleneck": {"no ReLU after bn2": ModuleChange(_join(after_bn2=_identity), INPUT, "{}.conv3")},
    "projecting": {"no projection": ModuleChange(_set(downsample=None), shows="{}.downsample.{{0…1}}")},
    "pooling": {"no projection": ModuleChange(_set(downsample=None), shows="{}.downsample.{{1…2}}")},
    "striding": {"the stride in conv1": ModuleChange(_move_stride, "stride: ", "{}.conv1")},
}

KINDS: dict[str, Callable[[NetworkParts], Faults]] = {
    "configuration": configurations,
    "exchanged layers": exchanged_layers,
    "exchanged fields": exchanged_fields,
    "dropped tensor": dropped_tensors,
    "added tensor": added_tensors,
    "doubled tensor": duplicated_tensors,
    "reordered weight": reordered_weights,
    "one ulp": one_ulp,
    "unread weight": unread_weights,
    "layer setting": partial(broken_modules, SETTINGS),
    "joined otherwise": partial(broken_modules, JOINS),
}


def no_op_changes(network: NetworkParts) -> Faults:
    """Changes without effect at inference."""
    block, (bn, grouped, pool) = network.blocks[0], map(network.first, ("batchnorm", "grouped", "maxpool"))
    for layer, what, place, change in (
        (pool, "nothing changed", "nowhere", _identity),
        (bn, "a line for itself", "mapping", partial(_exchange_layers, bn, bn)),
        (
            grouped,
            "a copied array",
            "checkpoint",
            partial(_revalue, network.tensors[grouped][0].target, np.copy),
        ),
        (
            bn,
            "another counter",
            "checkpoint",
            partial(_revalue, f"{bn.target}.num_batches_tracked", np.ones_like),
        ),
        (bn, "another momentum", "module", partial(_change, bn.target, _set(momentum=0.9))),
        (
            grouped,
            "groups written out",
            "module",
            partial(_change, grouped.target, partial(_one_group, own=True)),
        ),
        (
            block,
            "dilation of its conv1",
            "module",
            partial(_change, f"{block.target}.conv1", _set(dilation=2)),
        ),
        (block, "the joins as they are", "module", partial(_change, block.target, _join())),
        (block, "training mode", "module", nn.Module.train),
    ):
        yield layer, what, place, change, {}, ""
