"""Generated modules train as their graphs do in MXNet: outputs, gradients and running statistics."""

from __future__ import annotations

import pickle
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import generated_modules
import numpy as np
import pytest
import torch
from graph_building import Network, variable

from converter.graphs import codegen, pruning

if TYPE_CHECKING:
    from converter.dtypes import Array
    from converter.graphs.codegen import GeneratedModule

PROGRAM = Path(__file__).with_name("training_outputs.py")
EXACT = 1e-12  # relative to the largest value; measured 2e-15 to 4e-14
SINGLE = 1e-6  # MXNet stores a momentum as float32, and multiplies by a PReLU's slope in float32
IMAGE = (4, 3, 12, 10)
ROUNDED = "0.9"  # a momentum that float32 does not hold
HALF = "0.5"


def network(*, prelu: bool) -> Network:
    """Return a network of all kinds of layers that have gradients of their own, but for PReLU."""
    net = Network()
    x = net.norm("bn0", net.conv("conv0", "data", 3, 8), 8, fix_gamma="False", momentum=HALF)
    if prelu:
        net.nodes.append(variable("prelu0_gamma"))
        net.shapes["prelu0_gamma"] = (8,)
        x = net.apply("LeakyReLU", "prelu0", x, "prelu0_gamma", act_type="prelu")
    x = net.residual("stage1_unit1", x, 8, 8)  # gammas that are fixed, which is the default
    x = net.apply("Pooling", "pool0", x, kernel="(3, 3)", stride="(2, 2)", pool_type="max")
    x = net.apply("Pooling", "pool1", x, kernel="(2, 2)", pool_type="avg")
    x = net.norm("bn1", x, 8, fix_gamma="False", use_global_stats="True")
    x = net.norm("bn2", net.dense("fc1", x, 8 * 4 * 3, 6), 6, fix_gamma="False", momentum=ROUNDED)
    net.dense("fc2", x, 6, 5)
    return net


class Step:
    """A step of training of the same network in MXNet and in PyTorch."""

    def __init__(self, net: Network) -> None:
        self.shapes = net.shapes
        self.graph = net.build("fc2")
        self.parameters = generated_modules.random_parameters(net.shapes)
        generator = np.random.Generator(np.random.PCG64(2))
        self.image: Array = generator.normal(0, 1, IMAGE)
        self.gradient: Array = generator.normal(0, 1, (IMAGE[0], 5))
        shapes = {name: array.shape for name, array in self.parameters.items()}
        self.module: GeneratedModule = codegen.generate(pruning.prune(self.graph).graph, shapes, "net")
        self.network = generated_modules.network(self.module, self.parameters).train()
        self.theirs: dict[str, Any] = {}
        self.output: Array = np.empty(0)

    def request(self) -> tuple[bytes, dict[str, Array], Array]:
        return self.graph.content, {"data": self.image, **self.parameters}, self.gradient

    def run(self) -> Array:
        output = self.network(torch.from_numpy(self.image))
        (output * torch.from_numpy(self.gradient)).sum().backward()
        result: Array = output.detach().numpy()
        return result

    def gradient_differences(self) -> dict[str, float]:
        """Return the largest difference in the gradient of each trained parameter, over the scale of all."""
        differences = {}
        for name in self.shapes:
            tensor = self.ours(name)
            if tensor.requires_grad:
                assert tensor.grad is not None
                theirs = self.theirs["gradients"][name]
                scale = max(np.abs(theirs).max(), 1)  # that of a bias before a BatchNorm is 0
                differences[name] = float(np.abs(tensor.grad.numpy() - theirs).max() / scale)
        return differences

    def ours(self, variable: str) -> torch.Tensor:
        tensor: torch.Tensor = self.network.state_dict(keep_vars=True)[self.module.tensors[variable]]
        return tensor


@pytest.fixture(scope="module")
def steps(tmp_path_factory: pytest.TempPathFactory) -> list[Step]:
    """Return the steps of a network without and with a PReLU."""
    folder = tmp_path_factory.mktemp("training")
    trained = [Step(network(prelu=prelu)) for prelu in (False, True)]
    (folder / "requests").write_bytes(pickle.dumps([each.request() for each in trained]))
    subprocess.check_call([sys.executable, PROGRAM, folder / "requests", folder / "results"])
    results = pickle.loads((folder / "results").read_bytes())  # noqa: S301 - written by our program
    for each, theirs in zip(trained, results, strict=True):
        each.theirs, each.output = theirs, each.run()
    return trained


@pytest.fixture(scope="module")
def step(steps: list[Step]) -> Step:
    return steps[0]


def error(ours: Array, theirs: Array) -> float:
    assert ours.shape == theirs.shape
    return float(np.abs(ours - theirs).max() / np.abs(theirs).max())


def test_outputs_with_the_statistics_of_the_batch_agree(step: Step) -> None:
    assert error(step.output, step.theirs["output"]) < EXACT
    inference = generated_modules.network(step.module, step.parameters)
    (other,) = generated_modules.outputs(inference, step.image)
    assert error(other, step.theirs["output"]) > 0.01


def test_gradients_of_all_trained_parameters_agree(step: Step) -> None:
    differences = step.gradient_differences()
    assert max(differences.values()) < EXACT
    assert {"conv0_weight", "bn0_gamma", "bn1_gamma", "bn1_beta", "bn2_beta"} < differences.keys()
    assert {"stage1_unit1_bn1_beta", "fc1_weight", "fc2_bias"} < differences.keys()
    assert len(differences) == len(step.shapes) - 2 * 5 - 2  # running statistics, and gammas


def test_gammas_that_mxnet_fixes_are_not_trained(step: Step) -> None:
    for name in ("stage1_unit1_bn1_gamma", "stage1_unit1_bn2_gamma"):
        tensor = step.ours(name)
        assert not step.theirs["gradients"][name].any()
        assert (tensor.requires_grad, tensor.grad) == (False, None)
        assert bool((tensor == 1).all())
    assert step.ours("bn0_gamma").requires_grad


def test_running_statistics_differ_by_bessels_correction_alone(step: Step) -> None:
    """PyTorch's running variance takes n/(n-1) times the variance of the batch that MXNet takes."""
    counts = {"bn0": (IMAGE[0] * 12 * 10, 0.5, EXACT), "bn2": (IMAGE[0], 0.1, SINGLE)}
    for name, (count, update, limit) in counts.items():
        theirs = step.theirs["states"]
        before = step.parameters[f"{name}_moving_var"]
        assert error(step.ours(f"{name}_moving_mean").numpy(), theirs[f"{name}_moving_mean"]) < limit
        batch = (theirs[f"{name}_moving_var"] - (1 - update) * before) / update
        corrected = (1 - update) * before + update * batch * count / (count - 1)
        ours = step.ours(f"{name}_moving_var").numpy()
        assert error(ours, corrected) < limit
        assert error(ours, theirs[f"{name}_moving_var"]) > 100 * limit


def test_global_statistics_do_not_change(step: Step) -> None:
    for role in ("moving_mean", "moving_var"):
        assert np.array_equal(step.theirs["states"][f"bn1_{role}"], step.parameters[f"bn1_{role}"])
        assert np.array_equal(step.ours(f"bn1_{role}").numpy(), step.parameters[f"bn1_{role}"])


def test_mxnet_multiplies_the_gradient_of_a_slope_by_the_slope(steps: list[Step]) -> None:
    """In a network, MXNet has overwritten the gradient of the output by that of the input by then."""
    _, step = steps
    differences = step.gradient_differences()
    assert differences.pop("prelu0_gamma") > 0.1
    assert max(differences.values()) < SINGLE
    slope = step.ours("prelu0_gamma")
    assert slope.grad is not None
    assert error((slope.grad * slope.detach()).numpy(), step.theirs["gradients"]["prelu0_gamma"]) < SINGLE
