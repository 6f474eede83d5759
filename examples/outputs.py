"""Read and write the folder OUT: weights, metrics and the checkpoint that a run resumes from.

* ``metrics.jsonl``: a line per epoch.
* ``labels.txt``: the classes in the order of the logits.
* ``model.safetensors``: the weights of the best epoch by top-1, the first if equal, for
  ``resnext_torch.create_model(weights=OUT)``.
* ``model.json``: their manifest, for ``gluon2torch``; not for a network without a name.
* ``checkpoint-NNN/``: the state after NNN epochs. It is written as ``checkpoint-NNN.part`` and renamed,
  so that it is never incomplete.
"""

from __future__ import annotations

import hashlib
import json
import re
import shlex
import shutil
import sys
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar

from accelerate.checkpointing import load_custom_state
from rich.progress import track
from safetensors.torch import save

import converter

if TYPE_CHECKING:
    from argparse import Namespace
    from collections.abc import Iterable
    from pathlib import Path

    from accelerate import Accelerator
    from torch import nn

WEIGHTS = "model.safetensors"
CHECKPOINT = re.compile(r"checkpoint-\d{3,}")

Metrics = dict[str, float]
Item = TypeVar("Item")


@dataclass(frozen=True, kw_only=True)
class RunDescription:
    """What a run trains.

    Attributes:
        model: name of the network; None for a converted graph, which gets no manifest.
        base: the weights that it begins with, None if it trains from scratch.
        classes: the names of the classes.
        size: height and width of the images.
    """

    model: str | None
    base: Path | None
    classes: list[str]
    size: int

    @property
    def settings(self) -> dict[str, Any]:
        """What a checkpoint must have in common with the run that continues it."""
        sha256 = None
        if self.base is not None:
            with self.base.open("rb") as stream:
                sha256 = hashlib.file_digest(stream, "sha256").hexdigest()
        return {"network": self.model, "weights": sha256, "image size": self.size}

    def record(self, out: Path, metrics: Metrics) -> None:
        """Write the manifest of the weights in a folder."""
        if self.model is not None:
            converter.record_training(
                out / WEIGHTS,
                metrics=metrics,
                model=self.model,
                base=self.base,
                labels=self.classes,
                size=self.size,
            )


@dataclass
class History:
    """The metrics of all epochs so far and the settings of the run, which are part of a checkpoint."""

    settings: dict[str, Any] = field(default_factory=dict)
    epochs: list[Metrics] = field(default_factory=list)

    @property
    def best(self) -> Metrics:
        """The metrics of the epoch whose weights are kept."""
        return max(self.epochs, key=lambda epoch: epoch["top1"])

    def state_dict(self) -> dict[str, Any]:
        """Return the state for a checkpoint."""
        return {"settings": self.settings, "epochs": self.epochs}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore the state from a checkpoint.

        Raises:
            SystemExit: if it is of a run with other settings.
        """
        for name, value in state.get("settings", {}).items():
            if value != self.settings[name]:
                raise SystemExit(
                    f"--resume: the run began with another {name}: {value}, not {self.settings[name]}"
                )
        self.epochs = state["epochs"]


def checkpoints(out: Path) -> list[Path]:
    """Return the complete checkpoints, the latest last."""
    folders = [path for path in out.glob("checkpoint-*") if CHECKPOINT.fullmatch(path.name)]
    return sorted(folders, key=lambda path: int(path.name.removeprefix("checkpoint-")))


def begin(accelerator: Accelerator, out: Path, classes: list[str], history: History, *, resume: bool) -> None:
    """Create the folder, or resume from its last checkpoint.

    Raises:
        SystemExit: if the folder contains a run and ``resume`` is not set, a run on other classes or with
            other settings, or weights without a checkpoint.
    """
    folders = checkpoints(out)
    if folders and not resume:
        raise SystemExit(f"{out}: contains an earlier run; use --resume to continue it")
    if not folders and (out / WEIGHTS).exists():
        raise SystemExit(f"{out}: contains weights of another program; choose another --out")
    labels = "".join(f"{name}\n" for name in classes)
    if folders and (out / "labels.txt").read_text(encoding="utf-8") != labels:
        raise SystemExit(f"{out}: contains a run on other classes than those of DATA")
    if folders:
        load_custom_state(history, str(folders[-1]))  # before weights that another network cannot load
        accelerator.load_state(str(folders[-1]))
    if accelerator.is_main_process:
        out.mkdir(parents=True, exist_ok=True)
        (out / "labels.txt").write_text(labels, encoding="utf-8")


def keep(
    accelerator: Accelerator, model: nn.Module, history: History, out: Path, run: RunDescription
) -> None:
    """Print the metrics of the last epoch, and save metrics, weights and checkpoint."""
    epochs = history.epochs
    accelerator.print("  ".join(f"{name} {value:.5g}" for name, value in epochs[-1].items()))
    state = accelerator.unwrap_model(model).state_dict()
    if accelerator.is_main_process:
        if history.best is epochs[-1]:
            # Not save_file, which makes files that only their owner can read.
            tensors = {name: tensor.contiguous() for name, tensor in state.items()}
            part = out / "model.part"
            part.write_bytes(save(tensors, metadata={"format": "pt"}))
            part.replace(out / WEIGHTS)
            try:
                run.record(out, epochs[-1])
            except converter.ConversionError as error:  # at the end of the run, it is raised
                accelerator.print(f"warning: {out / WEIGHTS} has no manifest: {error}")
        lines = "".join(json.dumps(metrics) + "\n" for metrics in epochs)
        (out / "metrics.jsonl").write_text(lines, encoding="utf-8")
    part = out / f"checkpoint-{len(epochs):03}.part"
    accelerator.save_state(str(part))
    accelerator.wait_for_everyone()
    if accelerator.is_main_process:
        earlier = checkpoints(out)
        part.replace(part.with_suffix(""))
        for path in earlier:
            shutil.rmtree(path)


def report(accelerator: Accelerator, history: History, chosen: Namespace, run: RunDescription) -> None:
    """Complete the manifest, and print what was written and what can be run next."""
    if not accelerator.is_main_process or not history.epochs:
        return
    best, out = history.best, shlex.quote(str(chosen.out))
    run.record(chosen.out, best)
    classes, name = len(run.classes), run.model or "the network"
    lines = [
        f"wrote  {out}/{WEIGHTS}: {name}, {classes} classes, epoch {best['epoch']}, top1 {best['top1']:.5g}",
    ]
    if run.model is None:
        lines += ["next   load it with generated.load and generated.replace_head, in examples/generated.py"]
    else:
        lines += [
            f"wrote  {out}/model.json: its manifest",
            f"next   gluon2torch predict IMAGE --weights {out}",
            f"       gluon2torch evaluate {shlex.quote(str(chosen.data / 'val'))} --weights {out}",
            f"       gluon2torch publish {out} DIR",
        ]
    accelerator.print("\n".join(lines))


def bar(accelerator: Accelerator, items: Iterable[Item], label: str) -> Iterable[Item]:
    """Show a progress bar for a loop, in one process per machine and if stdout is a terminal."""
    shown = accelerator.is_local_main_process and sys.stdout.isatty()
    return track(items, label, disable=not shown, transient=True)
