"""Run conversions in child processes that are killed, interrupted or limited.

The processes are forked from one that has imported everything, so that each starts at once.
"""

from __future__ import annotations

import atexit
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

# The audited system calls that change what is on disk or who holds a lock; and so does "open" to write.
CHANGES = {"fcntl.flock", "os.chmod", "os.mkdir", "os.rmdir", "os.remove", "os.rename", "os.link"}
TO_WRITE = os.O_WRONLY | os.O_RDWR | os.O_CREAT
PRELOADED = [
    "faults",
    "converter.commands.batch",
    "converter.references.numpy",
    "resnext_torch.resnext",
    "safetensors.torch",
]
DEADLINE_SECONDS = 120


def start(target: Callable[..., None], *arguments: object) -> BaseProcess:
    """Start a function of a module in a process forked from a fresh one, and return the process."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(PRELOADED)
    process = context.Process(target=target, args=arguments)
    process.start()
    return process


def finish(process: BaseProcess) -> int:
    """Wait for a process and return its exit status, or minus the number of the signal that ended it."""
    process.join(DEADLINE_SECONDS)
    if process.exitcode is None:
        process.kill()
        raise TimeoutError(f"{process.name} still runs")
    status = process.exitcode
    process.close()
    return status


def convert(
    request: conversion.ConversionRequest, temporary: Path, die_at: int = -1, stride: int = 1
) -> None:
    """Convert, with ``temporary`` as the folder for temporary files; die by SIGKILL at a step.

    A step is a system call that changes files, just before it is made, or every ``stride``-th progress
    report. Between two steps, files change only in their contents.
    """
    tempfile.tempdir = str(temporary)
    steps, reports = itertools.count(), itertools.count()

    def step() -> None:
        if next(steps) == die_at:
            os.kill(os.getpid(), signal.SIGKILL)

    def audit(event: str, arguments: tuple[object, ...]) -> None:
        if event in CHANGES or (event == "open" and int(str(arguments[2])) & TO_WRITE):
            step()

    def report(*_: object) -> None:
        if next(reports) % stride == 0:
            step()

    sys.addaudithook(audit)
    conversion.run(request, report)


def command(arguments: Sequence[str], temporary: Path, said: Path, user: int = 0) -> None:
    """Run the `gluon2torch` command as a program does, with its output in a file."""
    for number in signals.ENDING:  # the tests' own parent may ignore them, as CI and nohup do
        signal.signal(number, signal.SIG_DFL)
    signals.exit_at_once()
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
    try:
        console.run(app.app, "gluon2torch")
    finally:
        atexit._run_exitfuncs()  # a program's exit runs them, the exit of a multiprocessing.Process does not


def convert_reporting(
    request: conversion.ConversionRequest, temporary: Path, told: Path, limit: int = 0
) -> None:
    """Convert, and write the error to a file; no file may grow beyond ``limit`` bytes."""
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


def defects(out: Path) -> list[str]:
    """Return the problems of files with final names: each must be complete and match its name or manifest."""
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
