"""What MXNet, GluonCV and numpy save besides parameters is named, and its parameters convert as advised."""

from __future__ import annotations

import shlex
import subprocess
import sys
from pathlib import Path

import mxnet_forks
import pytest

from converter.commands import inspection
from converter.errors import CheckpointError
from converter.formats import checkpoint, detect
from converter.formats.kinds import Kind
from converter.formats.params import load_params

WRITER = Path(__file__).with_name("gluon_kinds.py")
KINDS = {
    "net.params": Kind.ndarray_list,
    "net-0000.params": Kind.ndarray_list,
    "net-symbol.json": Kind.graph,
    "trainer.states": Kind.optimizer_states,
    "module.states": Kind.mxnet_pickle,
    "arrays.pkl": Kind.mxnet_pickle,
    "numpy.pkl": Kind.numpy_pickle,
    "numpy.npy": Kind.npy_objects,
    "numpy.npz": Kind.npz,
    "estimator.pkl": Kind.estimator,
}
NAME = "gluon_cifar_resnext29_32x4d"


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("kinds")
    mxnet_forks.run(WRITER, folder)
    return folder


@pytest.mark.parametrize(("name", "kind"), KINDS.items())
def test_every_file_is_named_by_its_kind(files: Path, name: str, kind: Kind) -> None:
    assert detect.kind(files / name) is kind


@pytest.mark.parametrize("name", ["trainer.states", "module.states", "estimator.pkl", "numpy.pkl"])
def test_file_of_another_kind_is_refused_with_a_next_step(files: Path, name: str) -> None:
    with pytest.raises(CheckpointError, match=rf"{name}: .*\n  .*(save|net\.params)"):
        checkpoint.read(files / name)


def test_graph_and_parameters_are_of_one_network(files: Path) -> None:
    graph = inspection.inspect(files / "net-symbol.json")
    assert [model.name for model in graph.models] == [NAME]
    assert graph.summary is not None
    assert graph.summary.inputs == ("data",)
    assert graph.summary.parameters == len(load_params(files / "net-0000.params"))
    assert [model.name for model in inspection.inspect(files / "net-0000.params").models] == [NAME]


@pytest.mark.parametrize("name", ["numpy.pkl", "numpy.npy"])
def test_advised_command_writes_a_file_that_is_read(files: Path, name: str, tmp_path: Path) -> None:
    _, _, advice = detect.refusal(files / name, KINDS[name]).partition("run python ")
    arguments = shlex.split(advice.removesuffix(", and convert weights.npz"))
    subprocess.check_call([sys.executable, *arguments], cwd=tmp_path)
    assert [model.name for model in inspection.inspect(tmp_path / "weights.npz").models] == [NAME]
