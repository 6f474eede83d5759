"""The fine-tuning and training programs, on small images of three colours."""

from __future__ import annotations

import contextlib
import hashlib
import importlib
import io
import json
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import generated_modules
import numpy as np
import pytest
import torch
from graph_building import Network, variable
from PIL import Image
from safetensors.torch import load_file, save_file
from torch import nn

import converter
from converter.commands.graph_conversion import convert_graph
from converter.formats.params import write_params
from converter.parity.options import ParityOptions
from converter.vision import evaluation
from converter.vision.classifier import ClassifierOptions
from resnext_torch import create_model

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import ModuleType

    Metrics = list[dict[str, float]]
    Program = Callable[..., Metrics]

pytest.importorskip("accelerate")
pytest.importorskip("torchvision")

EXAMPLES = Path(__file__).parents[1] / "examples"
COLOURS = ("blue", "green", "red")
COUNTS = {
    "train": (14, 16, 16),
    "val": (11, 13, 13),
}  # 37 for validation: two processes must pad the last batch
MODEL = "gluon_resnet18_v1b"
SHORT = ["--size", "32", "--batch", "12", "--workers", "0", "--warm-up", "1"]
NAMES = ("common", "finetune", "generated", "images", "outputs", "refusals", "train")

# Relative difference between one and two processes; measured 1e-7 in losses, 6e-7 in bias updates.
LIMIT = 1e-5

# Without BatchNorms, which would see only their own process's half of a batch.
PROGRAM = """
import sys

sys.path.insert(0, sys.argv.pop(1))
import accelerate, common, images, resnext_torch

def build(classes):
    model = resnext_torch.create_model(chosen.model, num_classes=classes)
    return resnext_torch.fuse(model.eval()).requires_grad_(), "fc"

chosen = common.options(None).parse_args()
common.fit(chosen, build, None, frozen=1)
# Negative control: the padding of the last batch is counted.
accelerate.Accelerator.gather_for_metrics = accelerate.Accelerator.gather
chosen.out, chosen.epochs = chosen.out / "padded", 1
common.fit(chosen, build, None, frozen=1)
"""


@dataclass(frozen=True)
class Tuned:
    """The folder, the metrics and the printed lines of a run."""

    out: Path
    metrics: Metrics
    lines: list[str]


@pytest.fixture(scope="session")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder of 40-pixel noise images, each with one colour slightly stronger."""
    folder = tmp_path_factory.mktemp("colours")
    generator = np.random.default_rng(0)
    for part, counts in COUNTS.items():
        for colour, (name, count) in enumerate(zip(COLOURS, counts, strict=True)):
            (folder / part / name).mkdir(parents=True)
            for number in range(count):
                pixels = generator.integers(0, 160, (40, 40, 3), dtype=np.uint8)
                pixels[..., 2 - colour] += 60
                Image.fromarray(pixels).save(folder / part / name / f"{number}.png")
    return folder


@pytest.fixture(scope="session")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("weights") / f"{MODEL}.safetensors"
    save_file(create_model(MODEL).state_dict(), path)
    return path


@pytest.fixture(scope="session")
def converted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of a converted graph: depthwise convolutions as in MobileNet, 7 classes."""
    net, x, channels = Network(), "data", 3
    for number, (outputs, stride) in enumerate([(16, 2), (16, 1), (24, 2), (24, 1)]):
        kernel = {"kernel": "(3, 3)", "pad": "(1, 1)", "num_filter": str(channels), "no_bias": "True"}
        net.nodes.append(variable(f"depthwise{number}_weight"))
        net.shapes[f"depthwise{number}_weight"] = (channels, 1, 3, 3)
        sources = (x, f"depthwise{number}_weight")
        x = net.apply("Convolution", f"depthwise{number}", *sources, num_group=str(channels), **kernel)
        x = net.norm(f"bn{number}", net.conv(f"conv{number}", x, channels, outputs, stride), outputs)
        x, channels = net.apply("Activation", f"relu{number}", x, act_type="relu"), outputs
    x = net.apply("Pooling", "pool0", x, global_pool="True", pool_type="avg")
    net.apply("softmax", "softmax0", net.dense("fc1", x, channels, 7))
    folder = tmp_path_factory.mktemp("converted")
    graph, params = folder / "net-symbol.json", folder / "net-0000.params"
    graph.write_bytes(net.build("softmax0").content)
    arrays = generated_modules.random_parameters(net.shapes)
    with params.open("wb") as stream:
        write_params(stream, {name: array.astype(np.float32) for name, array in arrays.items()})
    for out, node in (("scores", "fc1"), ("softmax", None)):
        convert_graph(graph, folder / out, params=params, output=node, options=ParityOptions("none"))
    return folder


@pytest.fixture
def programs(monkeypatch: pytest.MonkeyPatch) -> dict[str, ModuleType]:
    """Import the examples, restricted to the CPU."""
    return import_programs(monkeypatch)


def import_programs(monkeypatch: pytest.MonkeyPatch) -> dict[str, ModuleType]:
    monkeypatch.setattr(torch.accelerator, "is_available", lambda: False)
    monkeypatch.syspath_prepend(str(EXAMPLES))
    return {name: importlib.import_module(name) for name in NAMES}


@pytest.fixture(scope="session")
def tuned(tmp_path_factory: pytest.TempPathFactory, data: Path, weights: Path) -> Tuned:
    """Return a fine-tuned network, whose name the program detected, and what the program printed."""
    out = tmp_path_factory.mktemp("tuned") / "my run"
    arguments = [str(data), "--weights", str(weights), "--out", str(out), *SHORT, "--epochs", "4"]
    with pytest.MonkeyPatch.context() as patched, contextlib.redirect_stdout(io.StringIO()) as printed:
        reset_accelerate()
        metrics = import_programs(patched)["finetune"].main(arguments)
    return Tuned(out, metrics, printed.getvalue().splitlines())


@pytest.fixture
def finetune(programs: dict[str, ModuleType], data: Path, weights: Path) -> Program:
    """Return a function that fine-tunes, ``finetune(out, *options)``, and returns the metrics."""

    def run(out: Path, *options: str) -> Metrics:
        reset_accelerate()
        arguments = [str(data), "--weights", str(weights), "--out", str(out), *SHORT, *options]
        metrics: Metrics = programs["finetune"].main(arguments)
        return metrics

    return run


def reset_accelerate() -> None:
    """Reset accelerate as in a new process."""
    state = importlib.import_module("accelerate.state")
    state.AcceleratorState._reset_state(reset_partial_state=True)
    state.GradientState._reset_state()


def read(out: Path) -> Metrics:
    return [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]


def test_fine_tuning_learns_and_best_weights_load(
    tuned: Tuned, programs: dict[str, ModuleType], data: Path
) -> None:
    metrics = tuned.metrics
    assert metrics == read(tuned.out)
    assert metrics[-1]["train_loss"] < 0.3 * metrics[0]["train_loss"]  # measured 0.01 to 0.03
    best = max(metrics, key=lambda epoch: epoch["top1"])
    assert best["top1"] > 90
    assert (tuned.out / "labels.txt").read_text() == "blue\ngreen\nred\n"
    model = create_model(weights=tuned.out).eval()
    assert model.class_names == COLOURS
    _, unseen = programs["images"].read(data, None, programs["images"].centred(MODEL, 32), 1)
    with torch.inference_mode():
        hits = model(torch.stack([image for image, _ in unseen])).argmax(1) == torch.tensor(unseen.targets)
    assert 100 * float(hits.double().mean()) == pytest.approx(best["top1"])


def test_fine_tuned_network_is_evaluated_verified_and_published(
    tuned: Tuned, data: Path, tmp_path: Path
) -> None:
    best = max(tuned.metrics, key=lambda epoch: epoch["top1"])
    request = evaluation.EvaluationRequest(data / "val", ClassifierOptions(tuned.out))
    assert evaluation.evaluate(request).top1 == pytest.approx(best["top1"])  # at the size of the run
    assert converter.verify(tuned.out).holds
    (published,) = converter.publish(tuned.out, tmp_path / "published")
    assert converter.verify(published.folder).holds
    assert evaluation.evaluate(
        evaluation.EvaluationRequest(data / "val", ClassifierOptions(published.folder))
    ).top1 == pytest.approx(best["top1"])
    same = create_model(f"local-dir:{published.folder}", pretrained=True).eval()
    theirs = pytest.importorskip("timm").create_model(f"local-dir:{published.folder}", pretrained=True).eval()
    images = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        assert torch.equal(same(images), create_model(weights=tuned.out).eval()(images))
        assert (theirs(images) - same(images)).abs().max() <= 1e-5 * same(images).std()  # measured 0
    assert theirs.pretrained_cfg["label_names"] == list(COLOURS)


def test_written_files_can_be_read_by_others(tuned: Tuned, tmp_path: Path) -> None:
    (tmp_path / "usual").touch()
    usual = (tmp_path / "usual").stat().st_mode
    assert {path.stat().st_mode for path in tuned.out.iterdir() if path.is_file()} == {usual}


def test_next_commands_are_printed(tuned: Tuned, data: Path) -> None:
    out = f"'{tuned.out}'"
    assert tuned.lines[-5].startswith(f"wrote  {out}/model.safetensors: {MODEL}, 3 classes, epoch ")
    assert tuned.lines[-4:] == [
        f"wrote  {out}/model.json: its manifest",
        f"next   gluon2torch predict IMAGE --weights {out}",
        f"       gluon2torch evaluate {data}/val --weights {out}",
        f"       gluon2torch publish {out} DIR",
    ]


@pytest.fixture
def started(programs: dict[str, ModuleType], monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    """Return a function that runs ``finetune`` up to the training, and returns its network and weights."""
    monkeypatch.setattr(
        programs["finetune"], "fit", lambda _chosen, _build, network, base, **_: (network, base)
    )
    return lambda *options: programs["finetune"].main(["data", "--out", "tuned", *options])


def test_images_are_normalized_as_the_manifest_of_the_weights_says(
    started: Callable[..., Any], programs: dict[str, ModuleType], weights: Path, tmp_path: Path
) -> None:
    base = tmp_path / "base.safetensors"
    os.link(weights, base)
    preprocessing = {"mean": [0.5, 0.4, 0.3], "std": [0.25, 0.25, 0.2]}
    sha256 = hashlib.sha256(base.read_bytes()).hexdigest()
    document = {"artifact": {"file": base.name, "sha256": sha256}, "source": {"preprocessing": preprocessing}}
    base.with_suffix(".json").write_text(json.dumps(document))
    network, _ = started("--weights", str(base))
    for transform in (programs["images"].augmented(network, 32), programs["images"].centred(network, 32)):
        normalize = transform.transforms[-1]
        assert {"mean": [*normalize.mean], "std": [*normalize.std]} == preprocessing


def test_weights_are_those_in_out_or_else_in_the_current_folder(
    started: Callable[..., Any], weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "package.json").write_text("[]")  # of another program
    os.link(weights, weights.name)
    network, base = started()
    assert (network.pretrained_cfg["architecture"], base) == (MODEL, Path(weights.name))
    (tmp_path / "out").mkdir()
    os.link(weights, Path("out", weights.name))
    assert started()[1] == Path("out", weights.name)
    os.link(weights, "out/other.safetensors")
    with pytest.raises(SystemExit, match=r"^two models in out/: name one"):
        started()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--model", "gluon_resnet50_v1b"], rf"weights of {MODEL}, not of gluon_resnet50_v1b; leave out"),
        (["--weights", "missing"], r"^missing: No such file or directory$"),
        (["--out", "."], r"^\.: contains the weights to start from; choose another --out$"),
    ],
)
def test_wrong_weights_are_refused_in_one_line(
    programs: dict[str, ModuleType],
    weights: Path,
    monkeypatch: pytest.MonkeyPatch,
    options: list[str],
    message: str,
) -> None:
    monkeypatch.chdir(weights.parent)
    with pytest.raises(SystemExit, match=message) as refused:
        programs["finetune"].main(["data", "--weights", weights.name, "--out", "tuned", *options])
    assert "\n" not in str(refused.value)


def test_network_for_other_inputs_than_images_is_refused(started: Callable[..., Any], tmp_path: Path) -> None:
    state = create_model("gluon_cifar_resnext29_32x4d", in_chans=4).state_dict()
    save_file(state, tmp_path / "four.safetensors")
    with pytest.raises(SystemExit, match=r"expects inputs of 4 channels, and images have 3$"):
        started("--weights", str(tmp_path))


def test_class_name_with_a_space_at_its_end_is_refused(
    programs: dict[str, ModuleType], data: Path, tmp_path: Path
) -> None:
    for part in ("train", "val"):
        shutil.copytree(data / part / "red", tmp_path / part / "red ")
    with pytest.raises(SystemExit, match=r"train: 'red ' cannot be the name of a class$"):
        programs["images"].read(tmp_path, None, None, 1)


@pytest.mark.parametrize(
    ("folders", "message"),
    [
        ((), r"data/train: no such folder; DATA needs train/CLASS/ and val/CLASS/ with images$"),
        (("train/red",), r"data/train: Found no valid file for the classes red\."),
        (("train",), r"data/train: Couldn't find any class folder in "),
    ],
)
def test_folder_without_images_is_refused_in_one_line(
    programs: dict[str, ModuleType], tmp_path: Path, folders: tuple[str, ...], message: str
) -> None:
    for folder in folders:
        (tmp_path / "data" / folder).mkdir(parents=True)
    reset_accelerate()
    with pytest.raises(SystemExit, match=message) as refused:
        programs["train"].main([str(tmp_path / "data"), "--out", str(tmp_path / "out"), "--model", MODEL])
    assert "\n" not in str(refused.value)
    assert not (tmp_path / "out").exists()


def test_unknown_network_is_a_usage_error_of_one_line(
    programs: dict[str, ModuleType], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit, match=r"^2$"):
        programs["train"].main(["data", "--out", "trained", "--model", "gluon_resnet50_v9z"])
    assert "argument --model: " in capsys.readouterr().err.removesuffix("\n").split("\n")[0]


@pytest.mark.parametrize("size", ["0", "2049"])
def test_size_that_no_manifest_records_is_a_usage_error(
    programs: dict[str, ModuleType], capsys: pytest.CaptureFixture[str], size: str
) -> None:
    with pytest.raises(SystemExit, match="2"):
        programs["train"].main(["data", "--out", "out", "--size", size])
    assert f"argument --size: expected 1 to 2048 pixels, found {size}\n" in capsys.readouterr().err


def test_size_is_that_of_the_base_by_default(
    programs: dict[str, ModuleType], data: Path, tuned: Tuned, tmp_path: Path
) -> None:
    reset_accelerate()
    arguments = [str(data), "--weights", str(tuned.out), "--out", str(tmp_path), *SHORT, "--epochs", "1"]
    arguments.remove("--size")
    arguments.remove("32")
    programs["finetune"].main(arguments)
    assert json.loads((tmp_path / "model.json").read_text())["training"]["size"] == 32


@pytest.mark.parametrize(("rank", "waits"), [("0", []), ("1", [10.0])])
def test_only_the_first_process_reports_before_the_launcher_ends_the_others(
    programs: dict[str, ModuleType], monkeypatch: pytest.MonkeyPatch, rank: str, waits: list[float]
) -> None:
    slept: list[float] = []
    monkeypatch.setenv("LOCAL_RANK", rank)
    monkeypatch.setattr(programs["refusals"].time, "sleep", slept.append)
    with pytest.raises(SystemExit, match="no such folder"), programs["refusals"].one_line():
        programs["images"].read(Path("missing"), None, None, 1)
    assert slept == waits
    with pytest.raises(SystemExit, match=r"^2$"):
        programs["train"].main([])
    assert slept == 2 * waits


def test_converted_graph_is_fine_tuned(
    programs: dict[str, ModuleType], data: Path, converted: Path, tmp_path: Path
) -> None:
    reset_accelerate()
    options = ["--out", str(tmp_path), *SHORT, "--epochs", "8", "--freeze", "1", "--rate", "0.1"]
    metrics = programs["finetune"].main([str(data), "--weights", str(converted / "scores"), *options])
    assert metrics[-1]["train_loss"] < 0.5 * metrics[0]["train_loss"]  # measured 0.13
    assert max(epoch["top1"] for epoch in metrics) > 80
    network = programs["generated"].load(converted / "scores")
    assert programs["generated"].replace_head(network, 3, 32) == "fc1"
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    tuned = load_file(tmp_path / "model.safetensors")
    network.load_state_dict(tuned)
    assert not (tmp_path / "model.json").exists()
    fixed = {name for name, tensor in network.named_parameters() if not tensor.requires_grad}
    assert fixed == {f"bn{number}.weight" for number in range(4)}
    assert {name for name in before if torch.equal(before[name], tuned[name])} == fixed


def test_converted_graph_without_scores_is_refused(
    programs: dict[str, ModuleType], converted: Path, tmp_path: Path
) -> None:
    generated = programs["generated"]
    with pytest.raises(SystemExit, match=r"ends in a softmax, .*\n.*, the layer before it: fc1$"):
        generated.replace_head(generated.load(converted / "softmax"), 3, 32)
    network = nn.Sequential(generated.load(converted / "scores"), nn.BatchNorm1d(7))
    with pytest.raises(SystemExit, match=r"the network ends in 1, BatchNorm1d, and returns \(1, 7\)"):
        generated.replace_head(network, 3, 32)
    with pytest.raises(SystemExit, match="contains no converted graph"):
        generated.load(tmp_path)


def test_changed_module_is_not_run(programs: dict[str, ModuleType], converted: Path, tmp_path: Path) -> None:
    folder = tmp_path / "changed"
    shutil.copytree(converted / "scores", folder)
    with (folder / "net.py").open("a") as file:
        file.write("raise SystemError\n")
    with pytest.raises(SystemExit, match=r"net\.py: is not the file that the manifest describes"):
        programs["generated"].load(folder)


def test_resumed_run_equals_an_uninterrupted_one(
    finetune: Program, programs: dict[str, ModuleType], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    uninterrupted, parts, other = (tmp_path / name for name in ("whole", "parts", "other"))
    options = ("--epochs", "3", "--freeze", "1")
    expected = finetune(uninterrupted, *options)
    with monkeypatch.context() as patched:
        patched.setattr(programs["common"], "evaluate", interrupt(programs["common"].evaluate, after=2))
        with pytest.raises(KeyboardInterrupt, match="power"):
            finetune(parts, *options)
    assert len(read(parts)) == 2
    shutil.copytree(parts, other)
    (parts / "checkpoint-003.part").mkdir()  # as after a power failure while saving
    assert finetune(parts, *options, "--resume") == expected == read(parts)
    one, two = (load_file(out / "model.safetensors") for out in (uninterrupted, parts))
    assert all(torch.equal(one[name], two[name]) for name in one)
    assert [path.name for path in parts.glob("checkpoint-*")] == ["checkpoint-003"]
    with pytest.raises(SystemExit, match=r"--resume: the run began with another image size: \d+, not 40"):
        finetune(other, *options, "--resume", "--size", "40")
    for name, setting in ((MODEL, "weights: [0-9a-f]{64}"), ("gluon_cifar_resnext29_32x4d", "network")):
        torch.manual_seed(1)
        save_file(create_model(name).state_dict(), tmp_path / f"{name}.safetensors")
        with pytest.raises(SystemExit, match=f"--resume: the run began with another {setting}"):
            finetune(other, *options, "--resume", "--weights", str(tmp_path / f"{name}.safetensors"))
    reseeded = finetune(other, *options, "--resume", "--seed", "1")
    assert reseeded[:2] == expected[:2]
    assert reseeded[2] != expected[2]


def interrupt(function: Callable[..., object], *, after: int) -> Callable[..., object]:
    """Return a function that raises KeyboardInterrupt after a number of calls."""
    calls = iter(range(after))

    def call(*arguments: object) -> object:
        if next(calls, None) is None:
            raise KeyboardInterrupt("power")
        return function(*arguments)

    return call


def test_frozen_network_updates_only_its_head(finetune: Program, weights: Path, tmp_path: Path) -> None:
    finetune(tmp_path / "frozen", "--epochs", "1", "--freeze", "1")
    finetune(tmp_path / "free", "--epochs", "1")
    before = load_file(weights)
    frozen, free = (load_file(tmp_path / name / "model.safetensors") for name in ("frozen", "free"))
    body = [name for name in before if not name.startswith("fc.")]
    assert all(torch.equal(frozen[name], before[name]) for name in body)
    assert not any(torch.equal(free[name], before[name]) for name in body)


def test_existing_run_is_not_overwritten(finetune: Program, tmp_path: Path) -> None:
    (tmp_path / "checkpoint-001").mkdir()
    with pytest.raises(SystemExit, match="contains an earlier run; use --resume to continue it"):
        finetune(tmp_path)


def test_unsuitable_folders_are_refused(finetune: Program, data: Path, tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match="expected at least 64 images for one batch, found 46"):
        finetune(tmp_path, "--batch", "64")
    extra = data / "train/yellow"
    shutil.copytree(data / "train/red", extra)
    with pytest.raises(SystemExit, match="classes not in both train/ and val/: yellow"):
        finetune(tmp_path)
    shutil.rmtree(extra)


def test_training_from_scratch_learns(programs: dict[str, ModuleType], data: Path, tmp_path: Path) -> None:
    reset_accelerate()
    metrics = programs["train"].main(
        [str(data), "--out", str(tmp_path), "--model", MODEL, *SHORT, "--epochs", "4", "--rate", "0.02"]
    )
    assert metrics[-1]["train_loss"] < 0.7 * metrics[0]["train_loss"]  # measured 0.37 to 0.47
    manifest = json.loads((tmp_path / "model.json").read_text())
    assert (manifest["model"], manifest["training"]["base"]) == (MODEL, None)
    assert max(epoch["top1"] for epoch in metrics) > 90


def test_training_goes_on_if_a_manifest_cannot_be_written(
    finetune: Program, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    record, failures = converter.record_training, iter(["disk full"])

    def fail_once(*arguments: Any, **options: Any) -> Path:  # noqa: ANN401 - those of record_training
        if failure := next(failures, None):
            raise converter.ConversionError(failure)
        return record(*arguments, **options)

    monkeypatch.setattr(converter, "record_training", fail_once)
    finetune(tmp_path, "--epochs", "1", "--freeze", "1")
    assert f"warning: {tmp_path}/model.safetensors has no manifest: disk full" in capsys.readouterr().out
    assert (tmp_path / "model.json").exists()  # written at the end


def test_mixed_precision_changes_the_loss_slightly_and_saves_float32(
    finetune: Program, tmp_path: Path
) -> None:
    options = ("--epochs", "1", "--freeze", "1")
    (full,) = finetune(tmp_path / "full", *options)
    (mixed,) = finetune(tmp_path / "mixed", *options, "--mixed-precision", "bf16")
    assert mixed["train_loss"] != full["train_loss"]
    assert mixed["train_loss"] == pytest.approx(full["train_loss"], rel=0.01)  # measured 5e-4
    saved = load_file(tmp_path / "mixed/model.safetensors").values()
    assert {tensor.dtype for tensor in saved} == {torch.float32, torch.int64}


@pytest.mark.parametrize("name", ["gluon_resnet18_v1b", "gluon_cifar_resnext29_32x4d"])
def test_zero_last_gamma_makes_a_block_its_shortcut(programs: dict[str, ModuleType], name: str) -> None:
    model = create_model(name, num_classes=3).eval()
    block = model.get_submodule("layer1.1")
    images = torch.rand(1, *block.get_parameter("conv1.weight").shape[1:2], 8, 8)
    assert not torch.equal(block(images), images)
    programs["train"].zero_last_gammas(model)
    assert torch.equal(block(images), images)


def test_augmentation_depends_only_on_the_seed(programs: dict[str, ModuleType], data: Path) -> None:
    images = programs["images"]
    seen, _ = images.read(data, images.augmented(MODEL, 32, jitter=0.4), None, 1)
    before = torch.get_rng_state()
    one, again, other = (images.Seeded(seen)[(0, seed)][0] for seed in (5, 5, 6))
    assert torch.equal(one, again)
    assert not torch.equal(one, other)
    assert torch.equal(before, torch.get_rng_state())


def test_every_epoch_shuffles_all_images(programs: dict[str, ModuleType]) -> None:
    order = programs["images"].Shuffled(count=20, seed=0)
    first, again = list(order), list(order)
    order.epoch = 1
    second = list(order)
    assert first == again
    assert first != second
    assert sorted(index for index, _ in first) == sorted(index for index, _ in second) == list(range(20))
    assert len({seed for _, seed in first + second}) == 40


def test_learning_rate_warms_up_and_decays_to_zero(programs: dict[str, ModuleType]) -> None:
    factor = programs["common"].cosine(4, 12)
    assert [factor(step) for step in (0, 3, 4, 8, 12)] == pytest.approx([0.25, 1, 1, 0.5, 0])


def test_weight_decay_applies_only_to_kernels_and_matrices(programs: dict[str, ModuleType]) -> None:
    model = create_model(MODEL)
    decaying, plain = programs["common"].groups(model, 0.1)
    assert (decaying["weight_decay"], plain["weight_decay"]) == (0.1, 0)
    assert len(decaying["params"]) == len(
        [m for m in model.modules() if isinstance(m, nn.Conv2d | nn.Linear)]
    )
    parameters = [id(parameter) for group in (decaying, plain) for parameter in group["params"]]
    assert sorted(parameters) == sorted(map(id, model.parameters()))


@pytest.mark.parametrize("name", ["finetune", "train"])
def test_help_describes_the_options(
    programs: dict[str, ModuleType], capsys: pytest.CaptureFixture[str], name: str
) -> None:
    with pytest.raises(SystemExit, match="0"):
        programs[name].main(["--help"])
    assert "batch size, of all processes together (default:" in " ".join(capsys.readouterr().out.split())


@pytest.fixture(scope="session")
def run_processes(tmp_path_factory: pytest.TempPathFactory, data: Path) -> Callable[[int], Path]:
    """Return a function that runs ``PROGRAM`` in a number of processes and returns its output folder."""
    folder = tmp_path_factory.mktemp("processes")
    (folder / "program.py").write_text(PROGRAM)
    paths = os.pathsep.join([str(EXAMPLES.parent), *filter(None, [os.environ.get("PYTHONPATH")])])
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": "", "PYTHONPATH": paths}

    def run(processes: int) -> Path:
        out = folder / str(processes)
        torchrun = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes)]
        launcher = torchrun if processes > 1 else []
        options = [str(data), "--out", str(out), "--model", MODEL, *SHORT, "--epochs", "2", "--rate", "1e-4"]
        command = [sys.executable, *launcher, str(folder / "program.py"), str(EXAMPLES), *options]
        subprocess.run(command, check=True, env=environment, capture_output=True)
        return out

    return run


def test_two_processes_agree_with_one_and_count_each_image_once(
    run_processes: Callable[[int], Path],
) -> None:
    one, two = run_processes(1), run_processes(2)
    assert (two / "checkpoint-002/random_states_1.pkl").exists()  # both processes ran
    for alone, together in zip(read(one), read(two), strict=True):
        assert alone["images"] == together["images"] == sum(COUNTS["val"])
        assert together == pytest.approx(alone, rel=LIMIT)
    first, second = read(one)
    assert first["loss"] != pytest.approx(second["loss"], rel=10 * LIMIT)
    ours, theirs = (load_file(out / "checkpoint-002/model.safetensors") for out in (one, two))
    # These biases start at 0: their values are the distances moved.
    for name in (name for name in ours if name.endswith("conv1.bias")):
        assert (ours[name] - theirs[name]).abs().max() <= LIMIT * ours[name].abs().max()
    assert read(one / "padded")[0]["images"] == sum(COUNTS["val"])
    # Four batches of 12, the last filled up with repeated images.
    assert read(two / "padded")[0]["images"] == 48
