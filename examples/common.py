"""Options and training loop of the fine-tuning and training examples; runs can be resumed.

Needs torch, torchvision, accelerate, rich and safetensors. ``torchrun`` and ``accelerate launch`` start
several processes, which share each batch; the BatchNorms of a process use only its part of the batch.
"""

from __future__ import annotations

import argparse
import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from accelerate import Accelerator, DataLoaderConfiguration, DistributedDataParallelKwargs
from accelerate.utils import set_seed
from images import Seeded, Shuffled, augmented, centred, read
from outputs import History, Metrics, RunDescription, bar, begin, keep, report
from refusals import Parser
from torch.nn.functional import cross_entropy
from torch.optim.lr_scheduler import LambdaLR
from torch.utils.data import DataLoader

from converter.manifests.training_records import MAX_SIZE
from resnext_torch import names, resolve_data_config

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor, nn

    from resnext_torch import ResNeXt

    Batches = DataLoader[tuple[Tensor, Tensor]]


class Help(argparse.ArgumentDefaultsHelpFormatter):
    """Shows the defaults of options that have one."""

    def _get_help_string(self, action: argparse.Action) -> str | None:
        return action.help if action.default is None else super()._get_help_string(action)


def options(description: str | None) -> argparse.ArgumentParser:
    """Return a parser with the options of both programs; each program sets its own defaults."""
    parser = Parser(description=description, formatter_class=Help)
    add = parser.add_argument
    add("data", metavar="DATA", type=Path, help="folder with train/CLASS/ and val/CLASS/")
    add("--model", type=network_name, metavar="NAME", help="network")
    add("--out", type=Path, required=True, help="output folder")
    add("--resume", action="store_true", help="resume from the last checkpoint in OUT, if any")
    add("--epochs", type=int, help="number of epochs")
    add("--warm-up", type=int, help="epochs of linear learning-rate warm-up")
    add("--batch", type=int, help="batch size, of all processes together")
    add("--rate", type=float, help="maximum learning rate")
    add("--decay", type=float, default=1e-4, help="weight decay; not for biases and BatchNorms")
    add("--size", type=image_size, help="image size in pixels; by default that of the network")
    add("--mixed-precision", default="no", choices=["no", "fp16", "bf16"], help="precision")
    add("--workers", type=int, default=4, help="data-loading workers per process")
    add("--seed", type=int, default=0, help="random seed")
    return parser


def network_name(text: str) -> str:
    """Return the full name of a network.

    Raises:
        ArgumentTypeError: if there is no such network.
    """
    try:
        return names.resolve(text)
    except KeyError as error:
        raise argparse.ArgumentTypeError(error.args[0]) from error


def image_size(text: str) -> int:
    """Return an image size that a manifest can record.

    Raises:
        ArgumentTypeError: if it is out of range.
    """
    if not 0 < int(text) <= MAX_SIZE:
        raise argparse.ArgumentTypeError(f"expected 1 to {MAX_SIZE} pixels, found {text}")
    return int(text)


def fit(  # noqa: PLR0913 - by keyword
    chosen: argparse.Namespace,
    build: Callable[[int], tuple[nn.Module, str]],
    network: str | ResNeXt | None,
    *,
    base: Path | None = None,
    jitter: float = 0.0,
    smoothing: float = 0.0,
    frozen: int = 0,
) -> list[Metrics]:
    """Train a network and return the metrics of all epochs.

    Args:
        chosen: the parsed options.
        build: creates the network for a number of classes, and returns the name of its head, too.
        network: the network that decides how images are normalized, or its name; None for a converted graph.
        base: the weights that the run begins with, None if it trains from scratch.
        jitter: the largest change of the colours of training images.
        smoothing: label smoothing, from 0 to 1.
        frozen: number of epochs in which only the head learns and the BatchNorms keep their statistics.

    Raises:
        SystemExit: if the classes in train/ and val/ differ, or OUT contains another run.
    """
    accelerator = Accelerator(
        cpu=not torch.accelerator.is_available(),  # by default, processes on CPUs would each train alone
        mixed_precision=chosen.mixed_precision,
        dataloader_config=DataLoaderConfiguration(split_batches=True),  # the batch is of all processes
        kwargs_handlers=[DistributedDataParallelKwargs(find_unused_parameters=frozen > 0)],
    )
    set_seed(chosen.seed, device_specific=True)
    chosen.size = chosen.size or resolve_data_config(network)["input_size"][1]
    transform = augmented(network, chosen.size, jitter=jitter)
    train_set, val_set = read(chosen.data, transform, centred(network, chosen.size), chosen.batch)
    name = network if isinstance(network, str | None) else str(network.pretrained_cfg["architecture"])
    run = RunDescription(model=name, base=base, classes=train_set.classes, size=chosen.size)
    order, history = Shuffled(len(train_set), chosen.seed), History(run.settings)
    model, head = build(len(train_set.classes))
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.SGD(groups(model, chosen.decay), lr=chosen.rate, momentum=0.9, nesterov=True)
    steps = len(train_set) // chosen.batch
    model, optimizer, schedule, training, validation = accelerator.prepare(
        model,
        optimizer,
        LambdaLR(optimizer, cosine(chosen.warm_up * steps, chosen.epochs * steps)),
        DataLoader(
            Seeded(train_set), chosen.batch, sampler=order, num_workers=chosen.workers, drop_last=True
        ),
        DataLoader(val_set, chosen.batch, num_workers=chosen.workers),
    )
    accelerator.register_for_checkpointing(history)
    begin(accelerator, chosen.out, train_set.classes, history, resume=chosen.resume)
    for epoch in range(len(history.epochs), chosen.epochs):
        order.epoch = epoch
        freeze(accelerator.unwrap_model(model), trained, head, frozen=epoch < frozen)
        loss = train(accelerator, model, optimizer, schedule, training, smoothing)
        history.epochs.append(
            {"epoch": epoch + 1, "train_loss": loss, **evaluate(accelerator, model, validation)}
        )
        keep(accelerator, model, history, chosen.out, run)
    report(accelerator, history, chosen, run)
    return history.epochs


def groups(model: nn.Module, decay: float) -> list[dict[str, Any]]:
    """Return parameter groups; only matrices and kernels have weight decay ("Bag of tricks", 3.1)."""
    others = [parameter for parameter in model.parameters() if parameter.ndim == 1]
    decaying = [parameter for parameter in model.parameters() if parameter.ndim > 1]
    return [{"params": decaying, "weight_decay": decay}, {"params": others, "weight_decay": 0.0}]


def cosine(rising: int, steps: int) -> Callable[[int], float]:
    """Return a schedule of the learning rate's factor: a linear warm-up, then half a cosine to zero."""

    def factor(step: int) -> float:
        if step < rising:
            return (step + 1) / rising
        return (1 + math.cos(math.pi * (step - rising) / max(1, steps - rising))) / 2

    return factor


def freeze(model: nn.Module, trained: list[nn.Parameter], head: str, *, frozen: bool) -> None:
    """Freeze or unfreeze all layers except the head; frozen layers are in evaluation mode."""
    model.train(not frozen)
    for parameter in trained:  # not those that the network itself keeps constant
        parameter.requires_grad_(not frozen)
    model.get_submodule(head).requires_grad_()


def train(  # noqa: PLR0913, PLR0917 - the results of Accelerator.prepare
    accelerator: Accelerator,
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    schedule: LambdaLR,
    batches: Batches,
    smoothing: float,
) -> float:
    """Train for one epoch and return the mean loss."""
    total = torch.zeros((), device=accelerator.device)
    for images, labels in bar(accelerator, batches, "training"):
        loss = cross_entropy(model(images), labels, label_smoothing=smoothing)
        accelerator.backward(loss)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
        total += loss.detach()
    return float(accelerator.reduce(total, "mean")) / len(batches)


@torch.inference_mode()
def evaluate(accelerator: Accelerator, model: nn.Module, batches: Batches) -> Metrics:
    """Return the loss, top-1 and top-5 in percent, and the number of images; each is counted once."""
    model.eval()
    rows = []
    for images, labels in bar(accelerator, batches, "validation"):
        logits = model(images)
        hits = logits.topk(min(5, logits.shape[1])).indices == labels[:, None]
        row = torch.stack([cross_entropy(logits, labels, reduction="none"), hits[:, 0], hits.any(1)], dim=1)
        rows.append(accelerator.gather_for_metrics(row))  # without the padding of the last batch
    loss, top1, top5 = torch.cat(rows).cpu().double().mean(0).tolist()
    return {"loss": loss, "top1": 100 * top1, "top5": 100 * top5, "images": sum(map(len, rows))}
