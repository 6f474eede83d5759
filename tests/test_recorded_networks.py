"""GluonCV's networks convert by name, from recorded graphs, with parameters in any of Gluon's styles."""

from __future__ import annotations

import hashlib
import shutil
from collections import Counter
from typing import TYPE_CHECKING

import numpy as np
import pytest
from safetensors.numpy import load_file

import converter
from converter.commands import automatic_conversion, graph_comparison, inspection
from converter.commands.graph_conversion import convert_graph
from converter.errors import CatalogError, MappingError, SourceError, SymbolError, UsageError
from converter.formats.params import open_params, write_params
from converter.graphs.operators import DENSE
from converter.networks import (
    gluoncv_models,
    mapping,
    recorded_detection,
    recorded_graphs,
    recorded_index,
    recorded_parameters,
    recorded_sources,
)
from converter.parity.options import ParityOptions

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from converter.dtypes import Array
    from converter.networks.recorded_graphs import RecordedNetwork

    Write = Callable[[dict[str, Array]], Path]

NAME = "mobilenet0.25"
UNPROVEN = ParityOptions("none")
NUMPY = ParityOptions("numpy", dtypes=["float64"])


@pytest.fixture(scope="module")
def network() -> RecordedNetwork:
    return recorded_graphs.load(NAME)


@pytest.fixture(scope="module")
def arrays(network: RecordedNetwork) -> dict[str, Array]:
    return recorded_sources.random_arrays(network, 1)


def prefixed(network: RecordedNetwork, arrays: dict[str, Array], old: str, new: str) -> dict[str, Array]:
    """Return the parameters by the prefix names of another instance."""
    return {each.variable.replace(old, new): arrays[each.name] for each in network.parameters}


def exported(network: RecordedNetwork, arrays: dict[str, Array]) -> dict[str, Array]:
    """Return the parameters as ``net.export`` names them."""
    marks = {"running_mean": "aux", "running_var": "aux"}
    names = {each.variable: each.name for each in network.parameters}
    return {
        f"{next((mark for role, mark in marks.items() if name.endswith(role)), 'arg')}:{name}": arrays[own]
        for name, own in names.items()
    }


def with_head(arrays: dict[str, Array], classes: int) -> dict[str, Array]:
    """Return parameters with another number of classes."""
    head = {name: array[:classes] for name, array in arrays.items() if name.startswith("output.")}
    assert head
    return arrays | head


def test_every_model_of_gluoncv_is_recorded_or_the_reason_is() -> None:
    recorded, missing = recorded_index.index().keys(), recorded_index.missing().keys()
    assert not recorded & missing
    assert recorded | missing == gluoncv_models.published_sha1s().keys()
    assert len(recorded) > 280


def test_every_file_is_in_the_index_and_undamaged() -> None:
    folder = mapping.folder() / recorded_index.FOLDER
    hashes = {
        path.name.removesuffix(recorded_graphs.SUFFIX): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in folder.glob(f"*{recorded_graphs.SUFFIX}")
    }
    assert hashes == {name: entry.sha256 for name, entry in recorded_index.index().items()}


def test_damaged_file_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / recorded_index.FOLDER
    shutil.copytree(mapping.folder() / recorded_index.FOLDER, folder)
    monkeypatch.setattr(mapping, "folder", lambda: tmp_path)
    path = folder / f"{NAME}{recorded_graphs.SUFFIX}"
    path.write_bytes(path.read_bytes()[:-1] + b"?")
    with pytest.raises(CatalogError, match=rf"{NAME}\.json\.xz: damaged.*install gluon2torch again"):
        recorded_graphs.load(NAME)


def test_network_is_converted_and_proven_by_name(tmp_path: Path) -> None:
    manifest = convert_graph(NAME, tmp_path, random=1, options=NUMPY).manifest
    assert (manifest.source.network, manifest.source.official) == (NAME, False)
    assert manifest.parity.proven
    (check,) = manifest.parity.checks
    assert check.inputs == {"data": recorded_index.index()[NAME].probe}
    assert converter.verify(tmp_path).holds


@pytest.mark.parametrize("style", ["structural", "other instance", "stripped", "own prefix", "export"])
def test_parameters_in_any_style_give_the_same_weights(
    style: str, network: RecordedNetwork, arrays: dict[str, Array], write: Write, tmp_path: Path
) -> None:
    styles = {
        "structural": arrays,
        "other instance": prefixed(network, arrays, "mobilenet0_", "mobilenet7_"),
        "stripped": prefixed(network, arrays, "mobilenet0_", ""),
        "own prefix": prefixed(network, arrays, "mobilenet0_", "net_"),
        "export": exported(network, arrays),
    }
    result = convert_graph(NAME, tmp_path / "out", params=write(styles[style]), options=UNPROVEN)
    expected = {each.variable: arrays[each.name] for each in network.parameters}
    weights = load_file(result.artifact)
    by_source = {names.source: names.target for names in result.manifest.names}
    matched = recorded_parameters.match(network, styles[style], "")
    assert len(by_source) == len(weights) == len(expected)
    for name, variable in matched.variables.items():
        np.testing.assert_array_equal(weights[by_source[name]], expected[variable])


@pytest.mark.parametrize("style", ["structural", "replaced head"])
def test_other_number_of_classes(
    style: str, network: RecordedNetwork, arrays: dict[str, Array], write: Write, tmp_path: Path
) -> None:
    tuned = with_head(arrays, 7)
    if style == "replaced head":
        tuned = prefixed(network, tuned, "mobilenet0_dense0", "dense3")
    result = convert_graph(NAME, tmp_path / "out", params=write(tuned), options=NUMPY)
    assert result.manifest.parity.proven
    assert {array.shape[0] for array in load_file(result.artifact).values()} >= {7}
    matched = recorded_parameters.match(network, tuned, "")
    heads = [node.operation.settings for node in matched.network.graph.nodes if node.operation.kind == DENSE]
    assert [settings["outputs"] for settings in heads] == [7]


def test_wrong_shape_is_refused(arrays: dict[str, Array], write: Write, tmp_path: Path) -> None:
    name = "features.0.weight"
    path = write(arrays | {name: arrays[name][:, :1]})
    with pytest.raises(
        MappingError, match=rf"1 shapes are not those of {NAME}\n  features\.0\.weight: expected"
    ):
        convert_graph(NAME, tmp_path / "out", params=path, options=UNPROVEN)
    assert not [*(tmp_path / "out").glob("*")]


@pytest.mark.parametrize("change", ["missing", "unexpected"])
def test_other_names_are_refused(change: str, arrays: dict[str, Array], write: Write, tmp_path: Path) -> None:
    changed = {**arrays, "features.99.weight": np.ones(3, np.float32)}
    if change == "missing":
        changed = {name: array for name, array in arrays.items() if name != "features.0.weight"}
    with pytest.raises(MappingError, match=rf"the names are not those of {NAME}\n  {change} +features\."):
        convert_graph(NAME, tmp_path / "out", params=write(changed), options=UNPROVEN)


def test_parameters_of_another_network_are_refused(write: Write, tmp_path: Path) -> None:
    other = recorded_sources.random_arrays(recorded_graphs.load("mobilenet0.5"), 1)
    with pytest.raises(MappingError, match=f"shapes are not those of {NAME}"):
        convert_graph(NAME, tmp_path / "out", params=write(other), options=UNPROVEN)


def test_auto_detects_a_recorded_network(
    network: RecordedNetwork, arrays: dict[str, Array], write: Write, tmp_path: Path
) -> None:
    other = prefixed(network, arrays, "mobilenet0_", "mobilenet2_")
    for number, tuned in enumerate((arrays, with_head(arrays, 7), other)):
        out = tmp_path / str(number)
        result = automatic_conversion.convert("auto", out, params=write(tuned), options=UNPROVEN)
        assert result.manifest.source.network == NAME


def test_published_file_is_detected_by_its_hash(arrays: dict[str, Array]) -> None:
    published = gluoncv_models.published_sha1s()[NAME]
    assert recorded_detection.detect(arrays, published, "a.params") == NAME
    other = gluoncv_models.published_sha1s()["mobilenet0.5"]  # with as many parameters
    assert recorded_detection.detect(arrays, other, "a.params") == "mobilenet0.5"


def empty(name: str) -> dict[str, Array]:
    """Return parameters that need no memory."""
    parameters = recorded_graphs.load(name).parameters
    return {each.name: np.broadcast_to(np.float32(1), each.shape) for each in parameters}


def test_networks_that_differ_in_the_graph_only_are_not_guessed() -> None:
    with pytest.raises(MappingError, match=r"(?s)fit 2 networks whose graphs .*_citys\n +icnet_.*_mhpv1"):
        recorded_detection.detect(empty("icnet_resnet50_mhpv1"), "", "a.params")


def test_number_of_classes_does_not_choose_between_different_graphs() -> None:
    """A VGG-16 for 101 classes need not be that of UCF101."""
    with pytest.raises(MappingError, match=r"(?s)graphs differ.*vgg16\n.*vgg16_ucf101"):
        recorded_detection.detect(empty("vgg16_ucf101"), "", "a.params")


def test_networks_for_several_data_sets_are_one_network() -> None:
    assert recorded_detection.detect(empty("fcn_resnet101_voc"), "", "a.params") == "fcn_resnet101_coco"


@pytest.fixture
def published(arrays: dict[str, Array], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a file in GluonCV's cache, whose SHA-1 is registered as the published one."""
    path = tmp_path / "home" / "models" / "unnamed.params"
    path.parent.mkdir(parents=True)
    with path.open("wb") as stream:
        write_params(stream, arrays)
    sha1 = hashlib.sha1(path.read_bytes(), usedforsecurity=False).hexdigest()
    registered = gluoncv_models.published_sha1s() | {NAME: sha1}
    monkeypatch.setattr(gluoncv_models, "published_sha1s", lambda: registered)
    monkeypatch.setenv("MXNET_HOME", str(tmp_path / "home"))
    return path.rename(path.with_name(f"{NAME}-{sha1[:8]}.params"))


def test_published_parameters_are_taken_from_the_cache(published: Path, tmp_path: Path) -> None:
    source = convert_graph(NAME, tmp_path / "out", options=UNPROVEN).manifest.source
    assert (source.file, source.official) == (published.name, True)
    assert converter.verify(tmp_path / "out").holds


def test_other_contents_under_the_published_name_are_refused(
    published: Path, arrays: dict[str, Array], tmp_path: Path
) -> None:
    path = tmp_path / published.name
    with path.open("wb") as stream:
        write_params(stream, arrays | {"output.bias": arrays["output.bias"] + 1})
    with pytest.raises(SourceError, match="named like GluonCV's published file, but has other contents"):
        convert_graph(NAME, tmp_path / "out", params=path, options=UNPROVEN)
    assert not [*(tmp_path / "out").glob("*")]


def test_unpublished_parameters_are_requested() -> None:
    with pytest.raises(SourceError, match="GluonCV never published parameters of this model"):
        convert_graph("shufflenet_v1", "out", options=UNPROVEN)


def test_anchors_cannot_be_random(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"cannot replace yolo_outputs\..*anchors, which is not a weight"):
        convert_graph("yolo3_mobilenet1.0_voc", tmp_path, random=1)


def test_random_requires_a_name(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="`random` requires the name of a network"):
        convert_graph(tmp_path / "net-symbol.json", tmp_path, random=1)


def test_conversion_can_be_compared_and_taken_back(tmp_path: Path) -> None:
    result = convert_graph(NAME, tmp_path, random=1, options=UNPROVEN)
    compared = graph_comparison.compare_graph(NAME, random=1, weights=result.artifact, options=NUMPY)
    assert not compared.tensors
    assert compared.proof.passed
    back = converter.to_gluon(result.artifact, tmp_path / "back.params", options=NUMPY)
    assert back.parity.proven
    original = recorded_sources.random_arrays(recorded_graphs.load(NAME), 1)
    assert open_params(tmp_path / "back.params").arrays.keys() == original.keys()


def test_shared_parameters_must_be_equal() -> None:
    network = recorded_graphs.load("googlenet")
    arrays = recorded_sources.random_arrays(network, 1)
    counts = Counter(each.variable for each in network.parameters)
    twice = next(each for each in network.parameters if counts[each.variable] > 1)
    once = {name: array for name, array in arrays.items() if name != twice.name}
    assert recorded_parameters.match(network, once, "a.params").variables
    with pytest.raises(MappingError, match=r"differ, but .* has one parameter for both"):
        recorded_parameters.match(network, arrays | {twice.name: arrays[twice.name] + 1}, "a.params")


def test_inspection_names_the_network_and_the_command(arrays: dict[str, Array], write: Write) -> None:
    path = write(arrays)
    verdict = inspection.inspect(path).verdict
    assert verdict == f"parameters of GluonCV's {NAME}: gluon2torch convert {NAME} OUT --params {path}"
    path = write(dict(list(arrays.items())[1:]))  # negative control
    assert NAME not in inspection.inspect(path).verdict


@pytest.mark.parametrize("mark", ["aux:", "moving"])
def test_second_network_in_the_file_is_refused(
    mark: str, network: RecordedNetwork, arrays: dict[str, Array], write: Write, tmp_path: Path
) -> None:
    """It would take the place of the first."""
    names = exported(network, arrays)
    if mark == "aux:":
        twice = names | {name.replace("arg:", "aux:"): array + 1 for name, array in names.items()}
    else:
        twice = arrays | {name.replace("running_", "moving_"): array for name, array in arrays.items()}
    with pytest.raises(MappingError, match="contains a parameter twice"):
        convert_graph(NAME, tmp_path / "out", params=write(twice), options=UNPROVEN)


def test_auto_takes_a_whole_network_and_not_its_backbone(write: Write, tmp_path: Path) -> None:
    """FCN contains a ResNet; alone, without its head, that is the backbone."""
    arrays = recorded_sources.random_arrays(recorded_graphs.load("fcn_resnet50_voc"), 1)
    path = write(arrays)
    result = automatic_conversion.convert("auto", tmp_path / "out", params=path, options=UNPROVEN)
    assert result.manifest.source.network == "fcn_resnet50_voc"
    assert "convert fcn_resnet50_voc OUT" in inspection.inspect(path).verdict
    with pytest.raises(MappingError, match=r"GluonCV's fcn_resnet50_voc, whose backbone is gluon_"):
        converter.convert("auto", tmp_path / "other", params=path, options=UNPROVEN)
    backbone = {name: array for name, array in arrays.items() if not name.startswith(("head.", "auxlayer."))}
    result = automatic_conversion.convert("auto", tmp_path / "base", params=write(backbone), options=UNPROVEN)
    assert result.manifest.source.network is None


def test_network_with_unsupported_operators_is_refused_by_name(tmp_path: Path) -> None:
    refused = {name: entry for name, entry in recorded_index.index().items() if entry.unsupported}
    assert refused
    for name, entry in refused.items():
        reason = f"its operators cannot be converted: {', '.join(entry.unsupported)}"
        assert recorded_index.refusal(name) == reason
    with pytest.raises(SymbolError, match="operators that cannot be converted: 1"):
        convert_graph(next(iter(refused)), tmp_path, random=0, options=UNPROVEN)
