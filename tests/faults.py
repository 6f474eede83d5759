"""Conversions in processes of their own, and what harms them: what the tests of faults have in common.

The processes are forked from one that has imported everything, so that each begins its work at once.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import itertools
import json
import multiprocessing
import os
import resource
import signal
import sys
import tempfile
from typing import TYPE_CHECKING

from converter.cli import app, console, signals
from converter.commands import conversion
from converter.errors import ConversionError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from multiprocessing.process import BaseProcess
    from pathlib import Path

# What Python audits of a conversion's calls to the system, but for those that only read the clock and such.
CALLS = {
    *("open", "mmap.__new__", "fcntl.flock", "os.chmod", "os.mkdir", "os.rmdir", "os.remove", "os.rename"),
    *("os.link", "os.scandir", "os.listdir", "shutil.rmtree", "subprocess.Popen"),
}
PRELOADED = ["faults", "converter.references.numpy", "resnext_torch.resnext", "safetensors.torch"]
DEADLINE_SECONDS = 120


def start(target: Callable[..., None], *arguments: object) -> BaseProcess:
    """Start a function of a module in a process forked from a fresh one, and return the process."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(PRELOADED)
    process = context.Process(target=target, args=arguments)
    process.start()
    return process


def finish(process: BaseProcess) -> int:
    """Wait for a process, and return its exit status; minus the signal, where one ended it."""
    process.join(DEADLINE_SECONDS)
    if process.exitcode is None:
        process.kill()
        raise TimeoutError(f"{process.name} still runs")
    status = process.exitcode
    process.close()
    return status


def convert(request: conversion.ConversionRequest, temporary: Path, die_at: int = -1) -> None:
    """Convert, with ``temporary`` for temporary files; die by SIGKILL at a step.

    A step is a call to the system, just before it is made, or what the conversion tells of its progress.
    """
    tempfile.tempdir = str(temporary)
    steps = itertools.count()

    def step(*_: object) -> None:
        if next(steps) == die_at:
            os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(lambda event, _: step() if event in CALLS else None)
    conversion.run(request, step)


def command(arguments: Sequence[str], temporary: Path, said: Path, user: int = 0) -> None:
    """Run the `gluon2torch` command as a program does, what it says written to a file."""
    for number in signals.ENDING:  # which whoever runs the tests may ignore, as CI and nohup do
        signal.signal(number, signal.SIG_DFL)
    signals.leave()
    os.environ["TMPDIR"] = tempfile.tempdir = str(temporary)
    with said.open("ab") as stream:
        for number in (1, 2):
            os.dup2(stream.fileno(), number)
    if user:
        for call in (["list"], ["convert"]):  # what is imported late may lie where only root can read
            with contextlib.suppress(SystemExit), contextlib.redirect_stderr(io.StringIO()):
                app.app(call)
        os.truncate(said, 0)
        os.setgroups([])
        os.setgid(user)
        os.setuid(user)
    sys.argv = ["gluon2torch", *arguments]
    console.run(app.app, "gluon2torch")


def refusal(request: conversion.ConversionRequest, temporary: Path, told: Path, limit: int = 0) -> None:
    """Convert, and write to a file what it was refused with; no file may have more than ``limit`` bytes."""
    tempfile.tempdir = str(temporary)
    with told.open("w", encoding="utf-8") as stream:
        found = "converted"
        if limit:
            resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
        try:
            conversion.run(request)
        except ConversionError as error:
            found = str(error)
        resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        stream.write(found)


def complaints(out: Path) -> list[str]:
    """Return what is wrong with the files that have their final names: each must be whole, and as it says."""
    found = []
    for path in sorted(out.glob("[!.]*")):
        if path.suffix == ".json":
            document = json.loads(path.read_bytes())["artifact"]
            named = [document, *filter(None, [document.get("pth")])]
            wrong = [each["file"] for each in named if _sha256(out / each["file"]) != each["sha256"]]
            found += [f"{path.name}: claims {file}" for file in wrong]
        elif path.stem.rpartition("-")[2] != _sha256(path)[:8]:
            found.append(f"{path.name}: not what its name says")
    return found


def contents(folder: Path) -> list[str]:
    """Return the names of all files in a folder, hidden ones and those in folders too."""
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


def _sha256(path: Path) -> str:
    with contextlib.suppress(FileNotFoundError):
        return hashlib.sha256(path.read_bytes()).hexdigest()
    return "nothing"
