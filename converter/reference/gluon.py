"""GluonCV itself as the reference: started early, in a child process, and asked for its outputs later."""

from __future__ import annotations

import contextlib
import importlib.util
import json
import os
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from converter.errors import ReferenceUnavailableError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from converter.params import Array
    from converter.parity import Probe

CHILD = Path(__file__).with_name("gluon_child.py")
VERSIONED = ("gluoncv", "mxnet", "numpy", "python")
SAID_CHARACTERS = 2000  # of the child's last words, in an error


@dataclass(frozen=True, slots=True)
class Outputs:
    """The logits, an array for each probe, and the versions of what computed them."""

    logits: list[Array]
    versions: dict[str, str]


@dataclass(frozen=True, slots=True)
class Run:
    """GluonCV at work in ``folder``."""

    process: subprocess.Popen[bytes]
    folder: Path
    probes: tuple[Probe, ...]

    def outputs(self) -> Outputs:
        """Wait for the logits.

        Errors: ``ReferenceUnavailableError`` where MXNet cannot be imported, fails, or answers nonsense.
        """
        status = self.process.wait()
        try:
            reply = json.loads((self.folder / "reply.json").read_text(encoding="utf-8"))
            if status != 0 or "unavailable" in reply:
                raise unavailable(reply.get("unavailable", f"it ended with status {status}"))
            logits = [np.load(self.folder / f"output-{number}.npy") for number in range(len(self.probes))]
            return Outputs(logits, {name: str(reply["versions"][name]) for name in VERSIONED})
        except (OSError, ValueError, KeyError, TypeError, AttributeError, EOFError) as error:
            said = (self.folder / "said.txt").read_text(errors="replace")[-SAID_CHARACTERS:]
            raise unavailable(f"it ended with status {status} and said:\n{said or '(nothing)'}") from error


def find_python(chosen: Path | None) -> Path:
    """Return the interpreter that shall run GluonCV: the one chosen, by path or name, or our own.

    Errors: ``ReferenceUnavailableError`` where it does not exist, or ours has no MXNet.
    """
    if chosen is not None:
        program = shutil.which(chosen)
        if program is None:
            raise unavailable(f"{chosen} is no program")
        return Path(program)
    absent = [name for name in ("mxnet", "gluoncv") if importlib.util.find_spec(name) is None]
    if absent:
        raise unavailable(f"{' and '.join(absent)} not installed for {sys.executable}")
    return Path(sys.executable)


@contextlib.contextmanager
def start(python: Path, model: str, classes: int, params: Path, probes: tuple[Probe, ...]) -> Iterator[Run]:
    """Start GluonCV's forward of ``params`` for all probes; on leaving the child is gone."""
    with tempfile.TemporaryDirectory(prefix="gluon2torch-") as name:
        folder = Path(name)
        _write_request(folder, model, classes, params, probes)
        with _startable(python), (folder / "said.txt").open("wb") as said:
            process = subprocess.Popen(  # noqa: S603 - the interpreter is the user's choice
                [python, CHILD, folder],
                stdin=subprocess.DEVNULL,
                stdout=said,
                stderr=said,
                # Warnings that the user makes errors would stop packages as old as these.
                env={name: value for name, value in os.environ.items() if name != "PYTHONWARNINGS"},
            )
        try:
            yield Run(process, folder, probes)
        finally:
            process.kill()
            process.wait()


@contextlib.contextmanager
def _startable(python: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise unavailable(f"{python} cannot be started: {error.strerror or error}") from error


def unavailable(reason: str) -> ReferenceUnavailableError:
    """Say why GluonCV cannot run, and what to do."""
    return ReferenceUnavailableError(
        f"no proof: GluonCV cannot run here: {reason}\n"
        "Two ways out:\n"
        "  an interpreter with MXNet   our extra `gluon`: mxnet==1.9.1 and gluoncv==0.10.5.post0, on Linux\n"
        "                              x86-64; another Python: --gluon-python PATH, GLUON_PYTHON=PATH\n"
        "  --reference none            write the file without a proof; its manifest says so"
    )


def _write_request(folder: Path, model: str, classes: int, params: Path, probes: tuple[Probe, ...]) -> None:
    runs = []
    for number, probe in enumerate(probes):
        run: dict[str, Any] = {
            "dtype": probe.dtype,
            "input": f"input-{number}.npy",
            "output": f"output-{number}.npy",
        }
        np.save(folder / run["input"], probe.input())
        runs.append(run)
    request = {"model": model, "classes": classes, "params": str(params.resolve()), "runs": runs}
    (folder / "request.json").write_text(json.dumps(request))
