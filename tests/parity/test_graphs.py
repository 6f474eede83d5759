"""The given graph is the reference, and no edit of it that computes something else passes."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from collections import Counter
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import graph_edits
import mxnet_forks
import pytest
from graph_edits import UNRUNNABLE, edits

from converter.commands import conversion
from converter.errors import ParityError, ReferenceUnavailableError, SymbolError
from converter.graphs import operators, reader
from converter.graphs.operators import attributes, registry
from converter.networks import catalog, loading, selection, wiring
from converter.networks.selection import ParamsSource
from converter.parity import execution, runner
from converter.parity.options import ParityOptions
from converter.progress import silent

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from converter.networks.catalog import Model
    from converter.networks.wiring import Wiring
    from converter.parity.result import ParityResult

NETWORKS = ("gluon_cifar_resnext29_32x4d", "gluon_resnet18_v1b", "gluon_seresnext50_32x4d")
SMALL = NETWORKS[0]
COUNT = 60  # edits per network
LIMIT = 1e-12  # relative to the logits' deviation; equivalent graphs with another summation order reach 1e-15
OPTIONS = ParityOptions("gluon", sizes=[(33, 47)])


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with the export of the smallest network."""
    return export_network(tmp_path_factory.mktemp("base"), SMALL)


def export_network(folder: Path, name: str) -> Path:
    mxnet_forks.run(graph_edits.__file__, "make", folder, name)
    return folder


def run_edits(folder: Path) -> dict[str, float | str]:
    """Return each edit's distance from the original in MXNet, restarted whenever an edit crashes it."""
    before = -1
    while mxnet_forks.status(graph_edits.__file__, "judge", folder):
        judged = graph_edits.read_results(folder)
        assert len(judged) > before
        before = len(judged)
    return graph_edits.read_results(folder)


def try_match(content: dict[str, Any], model: Model) -> Wiring | None:
    try:
        return wiring.match(reader.parse(json.dumps(content).encode(), file="edit", name="edit"), model)
    except SymbolError:
        return None


@pytest.mark.parametrize("name", NETWORKS)
def test_random_graph_edit_is_equivalent_or_refused(
    name: str, tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    base = json.loads((export_network(tmp_path, name) / "base-symbol.json").read_text())
    model = catalog.find(name).with_config(num_classes=graph_edits.CLASSES)
    made = dict(enumerate(edits(base, COUNT, seed=1)))
    result = {number: try_match(content, model) for number, (_, content) in made.items()}
    accepted = {number for number, each in result.items() if each is not None}
    fixed = {
        f"edit-{number}": [each.variables[gamma] for gamma in each.fixed_gammas]
        for number, each in result.items()
        if each is not None
    }
    (tmp_path / graph_edits.FIXED).write_text(json.dumps(fixed))
    for number, (_, content) in made.items():
        (tmp_path / f"edit-{number}.json").write_text(json.dumps(content))
    judged = run_edits(tmp_path)
    equal = {number for number in made if isinstance(far := judged[f"edit-{number}"], float) and far <= LIMIT}
    wrong = {f"{number}, {made[number][0]}": judged[f"edit-{number}"] for number in accepted - equal}
    kinds = Counter(made[number][0].partition(":")[0] for number in accepted)
    different = {number for number in made if judged[f"edit-{number}"] != UNRUNNABLE} - equal
    record_property("edits", (len(made), len(accepted), len(different), len(wrong)))
    assert not wrong
    assert {"insert", "rename", "attribute"} <= kinds.keys()  # some edits are accepted, of each harmless kind
    assert len(different) > COUNT // 4  # MXNet computes different outputs for many edits


def prove_network(folder: Path, edited: bytes | None = None) -> ParityResult:
    """Prove the exported network; if ``edited`` is given, MXNet runs that graph, unknown to the matching."""
    source = ParamsSource(None, folder / "base-0000.params")
    with selection.open_source(source, silent) as file:
        prepared = loading.load_model(source, file)
        assert prepared.source.wiring is not None
        graph = prepared.source.wiring.graph
        if edited is not None:
            changed = replace(prepared.source.wiring, body=replace(graph, content=edited))
            prepared = replace(prepared, source=replace(prepared.source, wiring=changed))
        module = execution.build(prepared.state, prepared.model.config)
        with runner.start_references(runner.resolve_reference(OPTIONS), prepared) as candidates:
            return runner.prove(candidates, execution.hook_layers(module, prepared.mapping), prepared)


def test_given_graph_runs_in_mxnet_and_every_layer_is_compared(base: Path) -> None:
    proof = prove_network(base)
    assert (proof.reference, proof.definition, proof.passed) == ("gluon", "graph", True)
    layers = len(catalog.find(SMALL).mapping.layers)
    assert [len(check.rows) for check in proof.checks] == [layers, layers]
    assert max(check.worst.relative for check in proof.checks if check.probe.dtype == "float64") < LIMIT
    settings = {row.layer.source: row.settings for row in proof.checks[0].rows}
    assert not any(settings.values())


EDITS = {
    "another eps": ('"eps": "1e-05"', '"eps": "0.001"', "features.1"),
    "another activation": ('"act_type": "relu"', '"act_type": "softrelu"', "features.3.0.body.0"),
}


@pytest.mark.parametrize(("old", "new", "layer"), EDITS.values(), ids=EDITS)
def test_difference_not_seen_by_matching_fails_the_comparison(
    old: str, new: str, layer: str, base: Path
) -> None:
    content = (base / "base-symbol.json").read_text()
    assert old in content
    proof = prove_network(base, content.replace(old, new).encode())
    assert not proof.passed
    assert proof.decisive is not None
    assert proof.decisive.first_mismatch is not None
    assert proof.decisive.first_mismatch.layer.source == layer


def test_graph_with_final_softmax_is_proven_up_to_the_logits(base: Path, tmp_path: Path) -> None:
    content = json.loads((base / "base-symbol.json").read_text())
    head = content["heads"][0]
    content["nodes"].append({"op": "null", "name": "softmax_label", "inputs": []})
    label = [len(content["nodes"]) - 1, 0, 0]
    content["nodes"].append({"op": "SoftmaxOutput", "name": "softmax", "inputs": [head, label]})
    content["heads"] = [[len(content["nodes"]) - 1, 0, 0]]
    shutil.copy(base / "base-0000.params", tmp_path / "net-0000.params")
    (tmp_path / "net-symbol.json").write_text(json.dumps(content))
    request = conversion.ConversionRequest(
        source=ParamsSource(None, tmp_path / "net-0000.params"), out=tmp_path / "out", options=OPTIONS
    )
    manifest = conversion.run(request).manifest
    assert manifest.parity.proven
    assert manifest.source.final_softmax is True


def test_fixed_gamma_is_one_in_the_reference(base: Path, tmp_path: Path) -> None:
    content = (base / "base-symbol.json").read_text()
    shutil.copy(base / "base-0000.params", tmp_path / "net-0000.params")
    (tmp_path / "net-symbol.json").write_text(
        content.replace('"fix_gamma": "False"', '"fix_gamma": "True"', 3)
    )
    request = conversion.ConversionRequest(
        source=ParamsSource(None, tmp_path / "net-0000.params"), out=tmp_path / "out", options=OPTIONS
    )
    manifest = conversion.run(request).manifest
    assert (manifest.parity.proven, manifest.parity.definition) == (True, "graph")
    assert len(manifest.source.fixed_gammas) == 3


def test_graph_that_mxnet_cannot_run_leaves_no_output(base: Path, tmp_path: Path) -> None:
    """MXNet has no float64 kernel for BatchNorm_v1; the numpy reference has one."""
    content = json.loads((base / "base-symbol.json").read_text())
    next(node for node in content["nodes"] if node["op"] == "BatchNorm")["op"] = "BatchNorm_v1"
    node = next(node for node in content["nodes"] if node["op"] == "BatchNorm_v1")
    node["attrs"] = {key: value for key, value in node["attrs"].items() if key != "axis"}
    shutil.copy(base / "base-0000.params", tmp_path / "net-0000.params")
    (tmp_path / "net-symbol.json").write_text(json.dumps(content))
    request = conversion.ConversionRequest(
        source=ParamsSource(None, tmp_path / "net-0000.params"), out=tmp_path / "out", options=OPTIONS
    )
    message = r"MXNet cannot compute BatchNorm_v1 in float64\n.*--reference numpy.*\n.*--proof-dtype float32"
    with pytest.raises(ReferenceUnavailableError, match=message):
        conversion.run(replace(request, options=OPTIONS))
    assert not (tmp_path / "out").exists()
    in_float32 = ParityOptions("gluon", sizes=[(65, 95)], dtypes=["float32"])
    parity = conversion.run(replace(request, options=in_float32)).manifest.parity
    assert (parity.proven, parity.reference) == (True, "gluon")
    by_default = replace(request, options=ParityOptions(), out=tmp_path / "default")
    parity = conversion.run(by_default).manifest.parity
    assert (parity.proven, parity.reference, parity.definition) == (True, "numpy", "graph")


SCHEMAS = """
import ctypes, json, sys
from converter.references.gluon_child import import_frameworks

mxnet = import_frameworks().mxnet
library = mxnet.base._LIB
found = {}
for name in json.loads(sys.argv[1]):
    handle = ctypes.c_void_p()
    if library.NNGetOpHandle(name.encode(), ctypes.byref(handle)):
        continue
    text, many = ctypes.c_char_p, ctypes.POINTER(ctypes.c_char_p)
    own, about, count = text(), text(), ctypes.c_int()
    keys, kinds, notes, variable, output = many(), many(), many(), text(), text()
    places = (own, about, count, keys, kinds, notes, variable, output)
    mxnet.base.check_call(library.MXSymbolGetAtomicSymbolInfo(handle, *map(ctypes.byref, places)))
    found[name] = {
        keys[i].decode(): kinds[i].decode()
        for i in range(count.value) if not kinds[i].startswith((b"NDArray", b"Symbol"))
    }
    if variable.value:
        found[name].setdefault(variable.value.decode(), "int, optional, default=0")
print(json.dumps(found))
"""
# Attributes without an effect here, or that only refuse a graph.
IRRELEVANT = {"variances", "workspace", "cudnn_tune", "cudnn_off", "dtype", "num_args", "forward_stype"}
MEANS_DEFAULT = {  # (attribute, MXNet's text): our default
    ("layout", "None"): "NCHW",
    ("temperature", "None"): 1.0,
    **{(key, "[]"): 1 for key in ("kernel", "stride", "dilate", "output_size")},
    **{(key, "[]"): 0 for key in ("pad", "adj", "target_shape")},
    ("axis", "None"): (),
    ("shape", "None"): (),
    ("out_dtype", "None"): "",
    ("initial", "None"): "",
    ("momentum", "0.899999976"): 0.9,
    ("min_calib_range", "None"): 0.0,
    ("max_calib_range", "None"): 0.0,
    ("count_include_pad", "None"): True,
    ("p_value", "None"): 0,
}
# CuDNNBatchNorm only in GPU builds, the others in other versions.
NOT_IN_THIS_MXNET = {"CuDNNBatchNorm", "MultiBoxDetection", "MultiBoxPrior", "MultiBoxTarget", "_npi_copy"}


def test_operator_attributes_equal_those_of_mxnet() -> None:
    ours = operators.schemas()
    printed = subprocess.check_output([sys.executable, "-c", SCHEMAS, json.dumps([*ours])], text=True)
    theirs = json.loads(printed.splitlines()[-1])
    keys = {name: frozenset(each) for name, each in theirs.items()}
    assert keys == {name: keys for name, keys in ours.items() if name not in NOT_IN_THIS_MXNET}
    printed_defaults = {
        (name, key): match["default"]
        for name, each in theirs.items()
        for key, text in each.items()
        if (match := re.search(r"default='?(?P<default>[^']*)'?$", text))
    }
    assert len(printed_defaults) > len(theirs)
    wrong = {
        (name, key): (text, registry.defaults()[name].get(key))
        for (name, key), text in printed_defaults.items()
        if not is_default(name, key, text)
    }
    assert wrong == {}


def is_default(name: str, key: str, text: str) -> bool:
    """Return whether our default of an attribute is MXNet's, as MXNet prints it."""
    default = registry.defaults()[name].get(key, "required")
    if key in IRRELEVANT or default == MEANS_DEFAULT.get((key, text)):
        return True
    parsed = attributes.parse(key, text, registry.types(name)[key])
    if isinstance(default, float) and isinstance(parsed, float):
        return abs(parsed - default) <= 1e-8 * abs(default)  # MXNet prints nine digits
    return parsed == default


def test_module_that_differs_from_the_graph_is_refused(
    base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    load = execution.load

    def load_with_another_eps(path: Path, config: Any) -> Any:  # noqa: ANN401 - same signature as the original
        module = load(path, config)
        vars(module.bn1)["eps"] = 1e-3
        return module

    monkeypatch.setattr(execution, "load", load_with_another_eps)
    request = conversion.ConversionRequest(
        source=ParamsSource(None, base / "base-0000.params"), out=tmp_path / "out", options=OPTIONS
    )
    with pytest.raises(
        ParityError, match=r"(?s)features\.1 → bn1.*eps: 1e-05 in the reference, 0\.001 in the"
    ):
        conversion.run(request)
    assert not (tmp_path / "out").exists()
