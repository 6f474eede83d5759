"""Compare the throughput of a network, also fused and optimized, with other libraries.

All networks have the same seeded weights and must give the same logits before they are timed. They take turns
within each round; figures are medians over the rounds, and ratios to ours are computed per round, because
machines drift. GluonCV, hybridized, runs in a separate process on the CPU, if MXNet is installed. With a CUDA
device the others run there, also in channels_last and in float16. onnxruntime runs the fused network on the
CPU.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib.util
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import timm
import torch
import torchvision
from tables import markdown, versions
from torch import nn

from converter.formats import onnx_file, program_file
from converter.formats.params import write_params
from converter.networks import catalog, matching, synthetic
from resnext_torch import create_model, fuse, optimize

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from torch import Tensor

    from converter.dtypes import Array
    from resnext_torch import ResNeXt

    Turn = Callable[[], float]  # runs the batch once and returns the seconds
    Rounds = list[dict[str, float]]

# The names of the same networks in timm and torchvision; "" if there is none.
NAMES = {
    "gluon_resnet18_v1b": ("resnet18", "resnet18"),
    "gluon_resnet50_v1b": ("resnet50", "resnet50"),
    "gluon_resnet50_v1d": ("resnet50d", ""),
    "gluon_resnext50_32x4d": ("resnext50_32x4d", "resnext50_32x4d"),
    "gluon_resnext101_32x4d": ("resnext101_32x4d", ""),
    "gluon_resnext101_64x4d": ("resnext101_64x4d", "resnext101_64x4d"),
    "gluon_seresnext50_32x4d": ("seresnext50_32x4d", ""),
}
OURS = "ours"
FUSED = "ours, fused"
OPTIMIZED = "ours, optimized"
ONNX = "onnxruntime, ours fused"
# Relative to the logits' standard deviation; wide because TF32 has a mantissa of 10 bits.
LIMITS = {torch.float32: 1e-2, torch.float16: 1e-1}
QUICK = ("gluon_resnet18_v1b", "--batch", "1", "--size", "64", "--rounds", "2")


@dataclass(frozen=True, slots=True)
class Setting:
    """The device, dtype and memory format that networks run in."""

    device: str = "cpu"
    dtype: torch.dtype = torch.float32
    layout: torch.memory_format = torch.contiguous_format

    def __str__(self) -> str:
        return " ".join(str(part).removeprefix("torch.") for part in (self.device, self.dtype, self.layout))


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the benchmark and print a table for each setting."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument(
        "name", nargs="?", default="gluon_resnext50_32x4d", choices=NAMES, metavar="NAME", help="network"
    )
    parser.add_argument(
        "--batch", type=int, default=128 if torch.cuda.is_available() else 8, help="batch size"
    )
    parser.add_argument("--size", type=int, default=224, help="image size in pixels")
    parser.add_argument("--rounds", type=int, default=7, help="number of rounds")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads(), help="number of threads")
    parser.add_argument("--json", type=Path, help="file for the figures of every round")
    parser.add_argument("--quick", action="store_true", help="only check that it runs, on a small network")
    chosen = parser.parse_args([*QUICK, *given] if "--quick" in given else given)
    torch.set_num_threads(chosen.threads)
    results = {str(setting): measure(chosen, setting) for setting in settings()}
    for setting, rounds in results.items():
        title = f"Throughput: {chosen.name}, {chosen.batch} × {chosen.size} px, {setting}"
        sys.stdout.write(report(f"{title}, medians of {chosen.rounds} rounds", rounds, chosen.batch) + "\n")
    described = {"name": chosen.name, "batch": chosen.batch, "size": chosen.size, **machine()}
    if chosen.json:
        chosen.json.write_text(
            json.dumps({**described, "seconds": results}, indent=2) + "\n", encoding="utf-8"
        )


def settings() -> list[Setting]:
    """Return the settings to measure on this machine."""
    layouts = (torch.contiguous_format, torch.channels_last)
    if not torch.cuda.is_available():
        return [Setting(layout=layout) for layout in layouts]
    return [Setting("cuda", dtype, layout) for dtype in LIMITS for layout in layouts]


def measure(chosen: argparse.Namespace, setting: Setting) -> Rounds:
    """Return the seconds of each network in each round.

    Raises:
        SystemExit: if the logits differ: the networks are not the same.
    """
    model = catalog.find(chosen.name)
    params = synthetic.random_params(model.mapping, model.shapes, seed=0)
    arrays = matching.rename(model.mapping, params, model.shapes, "seed 0")
    state = {name: torch.from_numpy(array) for name, array in arrays.items()}
    shape = (chosen.batch, 3, chosen.size, chosen.size)
    images = np.random.default_rng(0).standard_normal(shape, np.float32)
    batch, turns, logits = torch.from_numpy(images), {}, {}
    with contextlib.ExitStack() as stack:
        for label, module in modules(chosen.name, state).items():
            if label != FUSED:  # always channels_last
                layout: Any = {"memory_format": setting.layout}  # not annotated in all versions of torch
                module.to(**layout)
            turns[label], logits[label] = prepared(module, setting, batch)
        if setting.layout is torch.contiguous_format:  # `optimize` chooses the memory format itself
            network = optimized(chosen, state, setting, batch)
            turns[OPTIMIZED], logits[OPTIMIZED] = prepared(network, setting, batch)
        if setting == Setting() and importlib.util.find_spec("onnxruntime"):
            turns[ONNX], logits[ONNX] = prepared(exported(chosen, state), setting, batch)
        if setting == Setting() and importlib.util.find_spec("mxnet"):
            child = stack.enter_context(gluon(model.entry.gluon, params, images))
            turns["GluonCV, hybridized"], logits["GluonCV, hybridized"] = child
        require_same(logits, LIMITS[setting.dtype])
        for turn in turns.values():  # warm-up
            turn()
        return [{label: turn() for label, turn in turns.items()} for _ in range(chosen.rounds)]


def modules(name: str, state: dict[str, Tensor]) -> dict[str, nn.Module]:
    """Return the network in each library, with the same weights."""
    of_timm, of_torchvision = NAMES[name]
    others: dict[str, nn.Module] = {"timm": timm.create_model(of_timm)}
    if of_torchvision:
        others["torchvision"] = torchvision.models.get_model(of_torchvision)
    for module in others.values():
        module.load_state_dict(state, strict=True)
        module.eval()
    network = ours(name, state)
    return {OURS: network, **others, FUSED: fuse(network)}


def ours(name: str, state: dict[str, Tensor]) -> ResNeXt:
    """Return our network in evaluation mode."""
    network = create_model(name)
    network.load_state_dict(state, strict=True)
    return network.eval()


def optimized(
    chosen: argparse.Namespace, state: dict[str, Tensor], setting: Setting, images: Tensor
) -> Callable[[Tensor], Tensor]:
    """Return the fastest configuration of our network, and print all that were tried."""
    network = ours(chosen.name, state)
    network.to(setting.device, setting.dtype)
    batch = images.to(setting.device, setting.dtype)
    result = optimize(network, batch, try_compile=not chosen.quick)
    sys.stderr.write(f"{setting}\n{result}\n")
    return result.network


def exported(chosen: argparse.Namespace, state: dict[str, Tensor]) -> Callable[[Tensor], Tensor]:
    """Return our fused network in onnxruntime, on the CPU with as many threads."""
    import onnxruntime  # noqa: PLC0415 - optional

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")  # idle threads slow the others
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "network.onnx")
        traced = program_file.trace(fuse(ours(chosen.name, state)), (3, chosen.size, chosen.size))
        onnx_file.write(traced, path, inputs=("images",), outputs=("logits",))
        session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])

    def run(images: Tensor) -> Tensor:
        (logits,) = session.run(None, {"images": images.numpy()})
        return torch.from_numpy(logits)

    return run


def prepared(
    module: nn.Module | Callable[[Tensor], Tensor], setting: Setting, images: Tensor
) -> tuple[Turn, Tensor]:
    """Move a network to a setting, and return a function that times it, and its logits."""
    if isinstance(module, nn.Module):
        module.to(setting.device, setting.dtype)
    batch = images.to(setting.device, setting.dtype, memory_format=setting.layout)
    with torch.inference_mode():
        return partial(seconds, module, batch), module(batch).float().cpu()


@torch.inference_mode()
def seconds(module: Callable[[Tensor], Tensor], batch: Tensor) -> float:
    """Run a batch and return the seconds."""
    synchronise: Callable[[], None] = torch.cuda.synchronize if batch.is_cuda else lambda: None
    synchronise()
    begin = time.perf_counter()
    module(batch)
    synchronise()
    return time.perf_counter() - begin


@contextlib.contextmanager
def gluon(name: str, params: dict[str, Array], images: Array) -> Iterator[tuple[Turn, Tensor]]:
    """Run GluonCV's network in a process with as many threads; yield what ``prepared`` returns."""
    with tempfile.TemporaryDirectory() as folder:
        files = [str(Path(folder, file)) for file in ("weights.params", "images.npy", "logits.npy")]
        with Path(files[0]).open("wb") as stream:
            write_params(stream, params)
        np.save(files[1], images)
        # PASSIVE: its idle threads must not occupy cores while the others are timed.
        threads = {"OMP_NUM_THREADS": str(torch.get_num_threads()), "OMP_WAIT_POLICY": "PASSIVE"}
        command = [sys.executable, str(Path(__file__).with_name("gluon_timed.py")), name, *files]
        with subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env={**os.environ, **threads}, text=True
        ) as process:
            if process.stdout is None or process.stdin is None or process.stdout.readline() != "ready\n":
                raise SystemExit("GluonCV did not start")
            answers, requests = process.stdout, process.stdin

            def turn() -> float:
                requests.write("\n")
                requests.flush()
                return float(answers.readline())

            yield turn, torch.from_numpy(np.load(files[2]))


def require_same(logits: dict[str, Tensor], limit: float) -> None:
    """Compare all logits with ours.

    Raises:
        SystemExit: if any differ by more than the limit, in standard deviations of our logits.
    """
    ours = logits[OURS]
    differences = {label: float((theirs - ours).abs().max() / ours.std()) for label, theirs in logits.items()}
    if wrong := [f"{label} by {value:.1e}" for label, value in differences.items() if not value <= limit]:
        raise SystemExit(f"the logits differ, in standard deviations: {', '.join(wrong)}")


def report(title: str, rounds: Rounds, batch: int) -> str:
    """Return a table of medians, with the ratio to ours in the same round."""
    rows = []
    for label in rounds[0]:
        speeds = [batch / times[label] for times in rounds]
        ratio = statistics.median(times[OURS] / times[label] for times in rounds)
        figures = (statistics.median(speeds), min(speeds), max(speeds))
        rows.append((label, *(f"{figure:.1f}" for figure in figures), f"{ratio:.2f}"))
    return markdown(title, ("images / s", "min", "max", "× ours"), rows)


def machine() -> dict[str, str | int]:
    """Return the device, the number of threads and the package versions."""
    device = f"{platform.machine()} CPU, {os.cpu_count()} cores"
    if torch.cuda.is_available():
        device = torch.cuda.get_device_name()
    return {"device": device, "threads": torch.get_num_threads(), **versions()}


if __name__ == "__main__":
    main()
