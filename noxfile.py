"""The checks, each in an environment of its own.

`nox` runs them all. Not among them: `nox -s bench` measures, `nox -s fuzz` searches for files that a reader
cannot bear, `nox -s mutants` counts the changes that the tests see.
"""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import nox
from packaging.requirements import Requirement

nox.needs_version = ">=2024.4"
nox.options.sessions = ["lint", "types", "reproducible", "package", "minimums", "tests", "parity"]
nox.options.error_on_missing_interpreters = False  # a Python that is not here is skipped, and said to be

PYPROJECT = nox.project.load_toml("pyproject.toml")
# A worker for each core, and so a thread for each worker: small networks gain nothing from more.
PARALLEL = ("-n", "auto")
ONE_THREAD = {"OMP_NUM_THREADS": "1"}


def groups(*names: str) -> list[str]:
    """Return the requirements of some of pyproject's dependency groups."""
    return [requirement for name in names for requirement in PYPROJECT["dependency-groups"][name]]


# What runs networks and draws reports: large, and not needed for a conversion without a proof.
HEAVY = {"altair", "jinja2", "torch", "vl-convert-python"}

# MXNet's versions are pinned; torch, onnxscript and onnx-ir fit each other in few, which `tests` has.
NOT_LOWEST = {"gluon", "onnx"}

# Each dependency is at work in some of these. All tests would take several minutes more.
CORE = [
    *("artifact", "bytes", "checkpoint", "cli", "cli_parity", "cli_to_gluon", "figures", "fusing", "hub"),
    *("mapping", "execution", "npz", "params", "parity_comparison", "conversion", "precision", "prediction"),
    *("preprocessing", "report", "signature", "params_file", "torch_file", "verification"),
]


def light() -> list[str]:
    """Return the requirements of a conversion without a proof."""
    required = PYPROJECT["project"]["dependencies"]
    return [requirement for requirement in required if Requirement(requirement).name not in HEAVY]


def leave(session: nox.Session) -> None:
    """Remove a large environment in CI, where nothing runs in it again and the disk may be small."""
    if "CI" in os.environ:
        shutil.rmtree(session.virtualenv.location)


@nox.session
def lint(session: nox.Session) -> None:
    session.install(*groups("lint"))
    session.run("ruff", "format", "--check", ".")
    session.run("ruff", "check", ".")
    session.run("lint-imports", "--no-cache")


@nox.session
def types(session: nox.Session) -> None:
    session.install(".", *groups("torch", "types", "tests"))
    session.run("mypy")
    leave(session)


@nox.session
@nox.parametrize(
    ["python", "numpy"], [("3.11", "1.26"), ("3.11", "2"), ("3.12", "1.26"), ("3.12", "2"), ("3.13", "2")]
)
def reproducible(session: nox.Session, numpy: str) -> None:
    """Convert to the same bytes with every Python and numpy. The hundred runs are in `tests`."""
    session.install("--no-deps", ".")
    session.install(*light(), f"numpy=={numpy}.*", "pytest>=8")
    session.run("pytest", "tests/test_bytes.py", "-k", "not hundred", *session.posargs)


@nox.session
def package(session: nox.Session) -> None:
    """Look into wheel and sdist, and do the main job with each in an empty environment."""
    session.install("--no-deps", ".")
    session.install(*light(), *PYPROJECT["build-system"]["requires"], "pytest>=8", "uv")
    session.run("pytest", "tests/package", *session.posargs)


@nox.session(python="3.11")
def minimums(session: nox.Session) -> None:
    """Test with the lowest versions that pyproject allows. Arguments after -- go to pytest."""
    session.install("uv")  # pip has no such resolution
    uv = ("uv", "pip", "install", "--cache-dir", str(Path(session.create_tmp(), "uv")))
    extras = ",".join(PYPROJECT["project"]["optional-dependencies"].keys() - NOT_LOWEST)
    session.run(*uv, "--resolution", "lowest-direct", f".[{extras}]")
    session.run(*uv, *groups("tests"), *(each for each in groups("ecosystem") if each.startswith("timm")))
    chosen = session.posargs or [f"tests/test_{name}.py" for name in CORE]
    session.run("pytest", *PARALLEL, *chosen, env=ONE_THREAD)
    leave(session)


@nox.session
def tests(session: nox.Session) -> None:
    """Everything but MXNet, beside torchvision and timm. Arguments after -- go to pytest."""
    session.install(".", *groups("ecosystem", "tests"))
    options = [*PARALLEL, "--dist", "loadfile", "--ignore", "tests/parity", "--ignore", "tests/package"]
    session.run("pytest", *options, *session.posargs, env=ONE_THREAD)
    leave(session)


@nox.session
def parity(session: nox.Session) -> None:
    """All models against real GluonCV. Arguments after -- go to pytest."""
    session.install(".[gluon]", *groups("torch", "tests"))
    session.run("pytest", *PARALLEL, "--dist", "worksteal", "tests/parity", *session.posargs, env=ONE_THREAD)


@nox.session
def fuzz(session: nox.Session) -> None:
    """Give a million and more of spoilt files to the readers, and write docs/fuzzing.md anew."""
    session.install(".", *groups("fuzz", "torch"))
    session.run("python", "-m", "fuzz.campaign", "docs/fuzzing.md", env={"PYTHONPATH": "tests"})


@nox.session
def mutants(session: nox.Session) -> None:
    """Change the core modules at random and count what the tests see. After --: --write, --count, modules."""
    session.install(".", *groups("mutants", "tests", "torch"))
    session.run("python", "tests/mutants.py", *(session.posargs or ["--write", "docs/mutants.md"]))


@nox.session
def audit(session: nox.Session) -> None:
    """Look up every package of every extra among known vulnerabilities; what cannot be looked up fails."""
    session.install("pip-audit>=2.7")
    report, pins = (Path(session.create_tmp(), name) for name in ("report.json", "pins.txt"))
    extras = ",".join(PYPROJECT["project"]["optional-dependencies"])
    resolve = ["pip", "install", "--quiet", "--dry-run", "--ignore-installed", "--report", str(report)]
    session.run(*resolve, f".[{extras}]")
    found = [item["metadata"] for item in json.loads(report.read_text())["install"]]
    others = [each for each in found if each["name"] != PYPROJECT["project"]["name"]]
    pins.write_text("".join(f"{each['name']}=={each['version']}\n" for each in others))
    session.run("pip-audit", "--strict", "--no-deps", "--disable-pip", "--requirement", str(pins))


@nox.session
def bench(session: nox.Session) -> None:
    """Measure conversions, commands and networks. After --: --write puts the page into docs."""
    session.install(".[gluon]", *groups("ecosystem"))
    session.run("python", "benchmarks/run.py", *session.posargs)
