"""Conversions in separate processes, with faults injected; shared by the tests of faults.

The processes are forked from one that has already imported everything, so that they start at once.
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

# Audit events of a conversion's system calls, except harmless ones such as reading the clock.
CALLS = {
    *("open", "mmap.__new__", "fcntl.flock", "os.chmod", "os.mkdir", "os.rmdir", "os.remove", "os.rename"),
    *("os.link", "os.scandir", "os.listdir", "shutil.rmtree", "subprocess.Popen"),
}
PRELOADED = ["faults", "converter.references.numpy", "resnext_torch.resnext", "safetensors.torch"]
DEADLINE_SECONDS = 120


def start(target: Callable[..., None], *arguments: object) -> BaseProcess:
    """Start a module's function in a process forked from a fresh one, and return the process."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(PRELOADED)
    process = context.Process(target=target, args=arguments)
    process.start()
    return process


def finish(process: BaseProcess) -> int:
    """Wait for a process and return its exit status, or the negative number of the signal that ended it."""
    process.join(DEADLINE_SECONDS)
    if process.exitcode is None:
        process.kill()
        raise TimeoutError(f"{process.name} still runs")
    status = process.exitcode
    process.close()
    return status


def convert(request: conversion.ConversionRequest, temporary: Path, kill_at: int = -1) -> None:
    """Convert, with ``temporary`` for temporary files; die by SIGKILL at a step.

    A step is the moment before a system call, or a progress report of the conversion.
    """
    tempfile.tempdir = str(temporary)
    steps = itertools.count()

    def step(*_: object) -> None:
        if next(steps) == kill_at:
            os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(lambda event, _: step() if event in CALLS else None)
    conversion.run(request, step)


def command(arguments: Sequence[str], temporary: Path, output_file: Path, user: int = 0) -> None:
    """Run the `gluon2torch` command as a program does, with its output written to a file."""
    for number in signals.ENDING:  # the parent process may ignore them, as CI and nohup do
        signal.signal(number, signal.SIG_DFL)
    signals.leave()
    os.environ["TMPDIR"] = tempfile.tempdir = str(temporary)
    with output_file.open("ab") as stream:
        for number in (1, 2):
            os.dup2(stream.fileno(), number)
    if user:
        for call in (["list"], ["convert"]):  # modules imported lazily may be readable only by root
            with contextlib.suppress(SystemExit), contextlib.redirect_stderr(io.StringIO()):
                app.app(call)
        os.truncate(output_file, 0)
        os.setgroups([])
        os.setgid(user)
        os.setuid(user)
    sys.argv = ["gluon2torch", *arguments]
    console.run(app.app, "gluon2torch")


def convert_reporting(
    request: conversion.ConversionRequest, temporary: Path, output_file: Path, limit: int = 0
) -> None:
    """Convert and write the refusal to a file; files may not exceed ``limit`` bytes."""
    tempfile.tempdir = str(temporary)
    with output_file.open("w", encoding="utf-8") as stream:
        message = "converted"
        if limit:
            resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
        try:
            conversion.run(request)
        except ConversionError as error:
            message = str(error)
        resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        stream.write(message)


def defects(out: Path) -> list[str]:
    """Return the defects of files under final names: each must be complete and match its name."""
    problems = []
    for path in sorted(out.glob("[!.]*")):
        if path.suffix == ".json":
            document = json.loads(path.read_bytes())["artifact"]
            entries = [document, *filter(None, [document.get("pth")])]
            wrong = [each["file"] for each in entries if _sha256(out / each["file"]) != each["sha256"]]
            problems += [f"{path.name}: claims {file}" for file in wrong]
        elif path.stem.rpartition("-")[2] != _sha256(path)[:8]:
            problems.append(f"{path.name}: not what its name says")
    return problems


def contents(folder: Path) -> list[str]:
    """Return the paths of all files in a folder, including hidden and nested ones."""
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


def _sha256(path: Path) -> str:
    with contextlib.suppress(FileNotFoundError):
        return hashlib.sha256(path.read_bytes()).hexdigest()
    return "nothing"
