"""Random edits of MXNet graphs, and what MXNet computes with them.

``python graph_edits.py make FOLDER NAME`` writes FOLDER/base-symbol.json and FOLDER/base-0000.params of a
model of the catalog, with ten classes and random parameters.

``python graph_edits.py judge FOLDER`` writes a line into FOLDER/judged.txt for every FOLDER/edit-N.json: the
distance of its outputs from the original's, in deviations, or "cannot be run". FOLDER/fixed.json lists the
gammas that a conversion of an edit replaces by 1; the edit is compared with an original that has them at 1.
MXNet crashes at some edits: restarted, the program continues with the next.
"""

from __future__ import annotations

import copy
import json
import random
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from converter.networks import catalog
from converter.references.gluon_child import import_frameworks

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

Symbol = dict[str, Any]

CLASSES, SIZE = 10, 32
FIXED, RESULTS = "fixed.json", "judged.txt"
UNRUNNABLE = "cannot be run"
# What an edit may insert; some of these operators have no effect.
INSERTED: list[tuple[str, dict[str, str]]] = [
    ("Activation", {"act_type": "relu"}),
    ("Activation", {"act_type": "tanh"}),
    ("relu", {}),
    ("sigmoid", {}),
    ("softmax", {}),
    ("softmax", {"axis": "1"}),
    ("LeakyReLU", {"act_type": "leaky", "slope": "0.25"}),
    ("Dropout", {"p": "0.5"}),
    ("Dropout", {"p": "0.5", "mode": "always"}),
    ("identity", {}),
    ("_copy", {}),
    ("Flatten", {}),
    ("negative", {}),
    ("L2Normalization", {}),
    ("_mul_scalar", {"scalar": "1.5"}),
    ("_plus_scalar", {"scalar": "0"}),
    ("Pooling", {"kernel": "(3, 3)", "pad": "(1, 1)", "pool_type": "max"}),
    ("Pooling", {"kernel": "(1, 1)", "pool_type": "avg"}),
    ("_contrib_AdaptiveAvgPooling2D", {"output_size": "1"}),
]
VALUES = {
    "kernel": ("(1, 1)", "(3, 3)", "(5, 5)"),
    "stride": ("(1, 1)", "(2, 2)", "(1, 2)"),
    "pad": ("(0, 0)", "(1, 1)", "(2, 2)"),
    "dilate": ("(1, 1)", "(2, 2)"),
    "num_group": ("1", "2", "32"),
    "num_filter": ("64", "128"),
    "no_bias": ("True", "False"),
    "layout": ("NCHW", "NHWC", "None"),
    "eps": ("1e-05", "1.00000001e-05", "0.001", "0.5"),
    "momentum": ("0.9", "0.99"),
    "fix_gamma": ("True", "False"),
    "use_global_stats": ("True", "False"),
    "axis": ("1", "-3", "3"),
    "pool_type": ("max", "avg", "sum"),
    "global_pool": ("True", "False"),
    "pooling_convention": ("valid", "full"),
    "count_include_pad": ("True", "False"),
    "act_type": ("relu", "sigmoid", "tanh", "softrelu"),
    "flatten": ("True", "False"),
    "num_hidden": ("10", "11"),
    "output_size": ("1", "(2, 2)"),
}
ALIASES = {
    "Convolution": ("Convolution_v1", "_npx_convolution"),
    "BatchNorm": ("_npx_batch_norm",),
    "Pooling": ("Pooling_v1", "_npx_pooling"),
    "FullyConnected": ("_npx_fully_connected",),
    "elemwise_add": ("_Plus", "_plus", "broadcast_add", "elemwise_sub", "elemwise_mul"),
    "broadcast_mul": ("_npi_multiply", "broadcast_add", "elemwise_mul"),
    "Activation": ("_npx_activation",),
    "Flatten": ("flatten",),
    "Dropout": ("_npx_dropout",),
}


def edits(base: Symbol, count: int, seed: int) -> Iterator[tuple[str, Symbol]]:
    """Yield a number of random edits of a graph, each with a description."""
    generator = random.Random(seed)  # noqa: S311 - edits, not a secret
    made = 0
    while made < count:
        kind = list(EDITS)[made % len(EDITS)]
        content = copy.deepcopy(base)
        done = EDITS[kind](content, generator)
        if done:
            made += 1
            yield f"{kind}: {done}", content


def _operators(content: Symbol) -> list[int]:
    return [number for number, node in enumerate(content["nodes"]) if node["op"] != "null"]


def _drop(content: Symbol, generator: random.Random) -> str:
    """Bypass an operator: its readers read one of its inputs."""
    place = generator.choice(_operators(content))
    node = content["nodes"][place]
    data = [entry for entry in node["inputs"] if content["nodes"][entry[0]]["op"] != "null"]
    if not data:
        return ""
    other = generator.choice(data)
    for each in content["nodes"]:
        each["inputs"] = [other if entry[0] == place else entry for entry in each["inputs"]]
    content["heads"] = [other if entry[0] == place else entry for entry in content["heads"]]
    return str(node["name"])


def _exchange(content: Symbol, generator: random.Random) -> str:
    """Swap parameters or attributes of two operators of one kind."""
    kind = generator.choice(sorted({content["nodes"][number]["op"] for number in _operators(content)}))
    alike = [number for number in _operators(content) if content["nodes"][number]["op"] == kind]
    if len(alike) < 2:
        return ""
    one, other = (content["nodes"][number] for number in generator.sample(alike, 2))
    if len(one["inputs"]) > 1 and generator.random() < 0.7:
        position = generator.randrange(1, min(len(one["inputs"]), len(other["inputs"])))
        names = [content["nodes"][each["inputs"][position][0]] for each in (one, other)]
        names[0]["name"], names[1]["name"] = names[1]["name"], names[0]["name"]
    else:
        one["attrs"], other["attrs"] = other.get("attrs", {}), one.get("attrs", {})
    return f"{one['name']} and {other['name']}"


def _rewire(content: Symbol, generator: random.Random) -> str:
    """Connect an operator to another node's output, or to another output of the same node."""
    place = generator.choice(_operators(content))
    node = content["nodes"][place]
    position = generator.randrange(len(node["inputs"]))
    earlier = [number for number in range(place) if generator.random() < 0.9 or number > place - 12]
    node["inputs"][position] = [generator.choice(earlier[-40:]), int(generator.random() < 0.05), 0]
    return f"input {position} of {node['name']}"


def _insert(content: Symbol, generator: random.Random) -> str:
    """Insert an operator after another."""
    place = generator.choice(_operators(content))
    op, attrs = generator.choice(INSERTED)
    shift = {number: number + (number > place) for number in range(len(content["nodes"]))}

    def entry(old: list[int]) -> list[int]:
        return [place + 1 if old[0] == place else shift[old[0]], *old[1:]]

    for each in content["nodes"]:
        each["inputs"] = [entry(old) for old in each["inputs"]]
    content["heads"] = [entry(old) for old in content["heads"]]
    content["arg_nodes"] = [shift[number] for number in content["arg_nodes"]]
    node = {"op": op, "name": f"inserted{place}", "attrs": attrs, "inputs": [[place, 0, 0]]}
    content["nodes"].insert(place + 1, node)
    return f"{op} behind {content['nodes'][place]['name']}"


def _attribute(content: Symbol, generator: random.Random) -> str:
    """Change, remove, or duplicate an attribute."""
    node = content["nodes"][generator.choice(_operators(content))]
    attrs = node.setdefault("attrs", {})
    key = generator.choice(sorted(attrs.keys() & VALUES.keys()) or [""])
    if not key:
        return ""
    what = generator.random()
    if what < 0.2:
        del attrs[key]
    elif what < 0.3:
        node["attr"] = {**attrs, key: generator.choice(VALUES[key])}
    else:
        attrs[key] = generator.choice(VALUES[key])
    return f"{key} of {node['name']}"


def _rename(content: Symbol, generator: random.Random) -> str:
    """Give an operator another of MXNet's names, which may be another operator's."""
    node = content["nodes"][generator.choice(_operators(content))]
    if node["op"] not in ALIASES:
        return ""
    old, node["op"] = node["op"], generator.choice(ALIASES[node["op"]])
    if "v1" in node["op"]:
        node["attrs"] = {key: value for key, value in node["attrs"].items() if key != "layout"}
    return f"{old} {node['name']} to {node['op']}"


def _reorder(content: Symbol, generator: random.Random) -> str:
    """Swap two inputs of an operator."""
    place = generator.choice(_operators(content))
    inputs = content["nodes"][place]["inputs"]
    if len(inputs) < 2:
        return ""
    one, other = generator.sample(range(len(inputs)), 2)
    inputs[one], inputs[other] = inputs[other], inputs[one]
    return f"inputs {one} and {other} of {content['nodes'][place]['name']}"


def _output(content: Symbol, generator: random.Random) -> str:
    """Return another node's output, instead of the last one's or in addition."""
    place = generator.choice(_operators(content)[-12:])
    content["heads"] = [*([] if generator.random() < 0.8 else content["heads"]), [place, 0, 0]]
    return str(content["nodes"][place]["name"])


EDITS: dict[str, Callable[[Symbol, random.Random], str]] = {
    "drop": _drop,
    "exchange": _exchange,
    "rewire": _rewire,
    "insert": _insert,
    "attribute": _attribute,
    "rename": _rename,
    "reorder": _reorder,
    "output": _output,
}


def make(folder: Path, name: str) -> None:
    """Write a network's graph and parameters with GluonCV."""
    numpy, mxnet, gluoncv = import_frameworks()
    mxnet.random.seed(0)
    generator = numpy.random.RandomState(0)
    net = gluoncv.model_zoo.get_model(catalog.find(name).entry.gluon, pretrained=False, classes=CLASSES)
    net.initialize(mxnet.init.MSRAPrelu())
    net.hybridize()
    net(mxnet.nd.zeros((1, 3, SIZE, SIZE)))
    for parameter, value in net.collect_params().items():
        if parameter.endswith(("gamma", "beta", "running_mean", "running_var", "bias")):
            value.set_data(mxnet.nd.array(generator.uniform(0.4, 0.9, value.shape)))
    net.export(str(folder / "base"))


def run_edits(folder: Path) -> None:
    """Run every edit with the original's parameters and input, in float64, and compare the first outputs."""
    numpy, mxnet, _ = import_frameworks()
    stored = mxnet.nd.load(str(folder / "base-0000.params"))
    arrays = {name.partition(":")[2]: array.astype("float64") for name, array in stored.items()}
    shape = (2, 3, SIZE, SIZE)
    arrays["data"] = mxnet.nd.array(numpy.random.RandomState(1).standard_normal(shape), dtype="float64")
    fixed = json.loads((folder / FIXED).read_text())
    plain = _run(mxnet, folder / "base-symbol.json", arrays)
    done = read_results(folder)
    with (folder / RESULTS).open("a") as stream:
        for path in sorted(folder.glob("edit-*.json")):
            if path.stem in done:
                continue
            print(json.dumps([path.stem, UNRUNNABLE]), file=stream, flush=True)  # the result if MXNet crashes
            try:
                result = _run(mxnet, path, arrays)
            except (mxnet.MXNetError, ValueError, KeyError, TypeError):
                continue
            ones = {name: mxnet.nd.ones_like(arrays[name]) for name in fixed.get(path.stem, ())}
            expected = _run(mxnet, folder / "base-symbol.json", {**arrays, **ones}) if ones else plain
            softmax = numpy.exp(expected) / numpy.exp(expected).sum(axis=1, keepdims=True)
            # A network that ends in a softmax has equal logits if it has equal probabilities.
            distance: float | str = f"shape {result.shape}"
            if result.shape == expected.shape:
                distance = min(
                    float(abs(result - other).max() / other.std()) for other in (expected, softmax)
                )
            print(json.dumps([path.stem, distance]), file=stream, flush=True)


def read_results(folder: Path) -> dict[str, float | str]:
    """Return MXNet's result for each edit; the last line of an edit counts."""
    path = folder / RESULTS
    lines = path.read_text().splitlines() if path.exists() else []
    pairs: list[tuple[str, float | str]] = [json.loads(line) for line in lines]
    return dict(pairs)


def _run(mxnet: Any, path: Path, arrays: dict[str, Any]) -> Any:  # noqa: ANN401 - MXNet is untyped
    symbol = mxnet.sym.load(str(path))
    # MXNet overwrites unused gammas: each run gets its own copy.
    given = {
        name: arrays[name].copy() for name in [*symbol.list_arguments(), *symbol.list_auxiliary_states()]
    }
    auxiliary = {name: given[name] for name in symbol.list_auxiliary_states()}
    arguments = {name: given[name] for name in symbol.list_arguments()}
    executor = symbol.bind(mxnet.cpu(), arguments, grad_req="null", aux_states=auxiliary)
    outputs = executor.forward(is_train=False)
    if len(outputs) != 1:
        raise ValueError(f"{len(outputs)} outputs")
    return outputs[0].asnumpy()


if __name__ == "__main__":
    if sys.argv[1] == "make":
        make(Path(sys.argv[2]), sys.argv[3])
    else:
        run_edits(Path(sys.argv[2]))
