"""The checks, each in its own environment.

`nox` runs the default sessions. Run the others by name, for example `nox -s bench`; `nox --list` shows all.
"""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import nox
from packaging.requirements import Requirement

nox.needs_version = ">=2025.5"
nox.options.sessions = ["lint", "types", "docs", "reproducible", "package", "minimums", "tests", "parity"]
nox.options.default_venv_backend = "uv|virtualenv"  # uv installs the environment of `tests` in half a minute
nox.options.download_python = "never"
nox.options.error_on_missing_interpreters = False  # a session whose Python is not installed is skipped

# uv does not read pip's settings; both must find the same local wheels.
if "PIP_FIND_LINKS" in os.environ:
    os.environ.setdefault("UV_FIND_LINKS", os.environ["PIP_FIND_LINKS"].replace(" ", ","))

# Otherwise each of hundreds of child processes compiles torch and MXNet again, which takes three seconds.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)

PYPROJECT = nox.project.load_toml("pyproject.toml")
# Workers have one thread each: more threads do not speed up small networks. There are two workers
# more than cores, as tests also wait for the disk and for other processes; one with MXNet, whose processes
# run beside the tests. glibc keeps the memory of large arrays for the next ones: otherwise the kernel clears
# every page again.
CORES = os.cpu_count() or 1
PARALLEL = ("-n", str(CORES + 2))
PARALLEL_WITH_MXNET = ("-n", str(CORES + 1))
WORKERS = {"OMP_NUM_THREADS": "1", "MALLOC_MMAP_MAX_": "0", "MALLOC_TRIM_THRESHOLD_": str(2**30)}
NO_MXNET = ("--dist", "worksteal", "--ignore", "tests/parity", "--ignore", "tests/package")
EXTRAS = ".[azure,fleet,gcs,http,hub,onnx,report,s3,sign,train,vision]"  # all that need no MXNet

# MXNet's versions are pinned; onnxscript and onnx-ir work with few versions of torch, tested in `tests`.
NOT_LOWEST = {"all", "gluon", "onnx"}

# Every dependency is used in one of these files.
CORE = [
    *("cli", "cli_parity", "conversion", "execution", "figures", "gluoncv_zoo", "hub", "hub_source"),
    *("mapping", "npz", "precision", "prediction", "preprocessing", "report", "signature", "stores"),
    "torch_file",
]


def groups(*names: str) -> list[str]:
    """Return the requirements of dependency groups."""
    return [requirement for name in names for requirement in PYPROJECT["dependency-groups"][name]]


def light() -> list[str]:
    """Return the dependencies without torch, which a conversion without a proof does not import."""
    required = PYPROJECT["project"]["dependencies"]
    return [requirement for requirement in required if Requirement(requirement).name != "torch"]


def remove_environment(session: nox.Session) -> None:
    """Remove a large environment in CI, where it is not used again and the disk may be small."""
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
    session.install(".[report]", *groups("torch", "types", "tests"))
    session.run("mypy", "--num-workers", str(CORES))
    remove_environment(session)


@nox.session
@nox.parametrize(["python", "numpy"], [("3.11", "1.26"), ("3.12", "2"), ("3.13", "2")])
def reproducible(session: nox.Session, numpy: str) -> None:
    """Convert to the same bytes with every Python and numpy. `tests` runs a hundred conversions."""
    session.install("--no-deps", ".")
    session.install(*light(), f"numpy=={numpy}.*", "pytest>=8")
    session.run("pytest", "tests/test_bytes.py", "-k", "not hundred", *session.posargs)


@nox.session
def package(session: nox.Session) -> None:
    """Check the contents of wheel and sdist, and convert with each in an empty environment."""
    session.install("--no-deps", ".")
    session.install(*light(), *PYPROJECT["build-system"]["requires"], "pytest>=8", "pytest-xdist>=3.6", "uv")
    session.run("pytest", "-n", str(CORES), "tests/package", *session.posargs)


@nox.session(python="3.11", venv_backend="uv")  # pip cannot resolve lowest versions
def minimums(session: nox.Session) -> None:
    """Test with the lowest versions that pyproject allows. Arguments after -- go to pytest."""
    extras = ",".join(PYPROJECT["project"]["optional-dependencies"].keys() - NOT_LOWEST)
    session.install("--resolution", "lowest-direct", f".[{extras}]")
    timm = [requirement for requirement in groups("ecosystem") if requirement.startswith("timm")]
    # The extras are named again: they limit the versions of what the tests need.
    session.install(f".[{extras}]", *groups("stores", "tests"), *timm)
    chosen = session.posargs or [f"tests/test_{name}.py" for name in CORE]
    session.run("pytest", *PARALLEL, *chosen, env=WORKERS)
    remove_environment(session)


@nox.session
def tests(session: nox.Session) -> None:
    """Test everything that needs no MXNet, with torchvision and timm. Arguments after -- go to pytest."""
    session.install(EXTRAS, *groups("ecosystem", "lint", "stores", "tests"))  # ruff formats generated modules
    session.run("pytest", *PARALLEL, *NO_MXNET, *session.posargs, env=WORKERS)
    remove_environment(session)


@nox.session
def record_tables(session: nox.Session) -> None:
    """Record the tables in mappings/targets with timm and torchvision. After --: names, by default all."""
    session.install(EXTRAS, *groups("ecosystem"))
    session.run("python", "tests/record_tables.py", "mappings/targets", *session.posargs)


@nox.session
def tables(session: nox.Session) -> None:
    """Compare every table in mappings/targets with its module of timm or torchvision."""
    session.install(EXTRAS, *groups("ecosystem", "tests"))
    environment = WORKERS | {"TARGET_TABLES": "all"}
    session.run("pytest", *PARALLEL, "tests/test_target_tables.py", *session.posargs, env=environment)


@nox.session(python="3.13")  # from 3.12 on, coverage uses sys.monitoring, which is faster
def coverage(session: nox.Session) -> None:
    """Run `tests` and fail below the floor in pyproject. Arguments after -- go to pytest."""
    session.install(EXTRAS, *groups("ecosystem", "stores", "tests", "coverage"))
    # Without our plugin, which pytest would import before it measures; its tests load it themselves.
    measured = ("-p", "no:gluon2torch", "--cov", "--cov-report", "term-missing:skip-covered")
    environment = WORKERS | {"COVERAGE_CORE": "sysmon"}
    session.run("pytest", *PARALLEL, *NO_MXNET, *measured, *session.posargs, env=environment)


@nox.session
def parity(session: nox.Session) -> None:
    """Compare one model of each family with real GluonCV, and a sixteenth of the others, by the day."""
    session.install(".[gluon,report]", *groups("torch", "tests"))
    # By file: the tests of a file share what GluonCV writes for them, in up to half a minute.
    session.run(
        "pytest", *PARALLEL_WITH_MXNET, "--dist", "loadfile", "tests/parity", *session.posargs, env=WORKERS
    )


@nox.session
def zoo(session: nox.Session) -> None:
    """Run the files of `parity` in which networks take turns, with all of them; record all graphs again."""
    session.install(".[gluon,report]", *groups("torch", "tests"))
    environment = WORKERS | {"GRAPH_ZOO": "all"}
    files = ("every_model", "gluoncv_networks", "gluoncv_outputs", "recorded_networks")
    chosen = (f"tests/parity/test_{file}.py" for file in files)
    session.run("pytest", *chosen, *session.posargs, env=environment)


@nox.session
def record(session: nox.Session) -> None:
    """Record the graphs of GluonCV's networks in mappings/graphs. After --: names, by default all."""
    session.install(".[gluon]", *groups("torch"))
    session.run("python", "tests/parity/record_graphs.py", "mappings/graphs", *session.posargs)


@nox.session
def docs(session: nox.Session) -> None:
    """Build the documentation site. After --: serve, for a local preview."""
    session.install("--no-deps", ".")
    session.install(*light(), *groups("docs", "lint"))  # ruff formats the signatures
    session.run("mkdocs", *(session.posargs or ["build", "--strict"]), env={"NO_MKDOCS_2_WARNING": "1"})


@nox.session
def fuzz(session: nox.Session) -> None:
    """Give more than a million corrupted files to the readers, and write docs/fuzzing.md."""
    session.install(".", *groups("fuzz", "torch"))
    session.run("python", "-m", "fuzz.campaign", "docs/fuzzing.md", env={"PYTHONPATH": "tests"})


@nox.session
def mutants(session: nox.Session) -> None:
    """Change the core modules at random and count detected changes. After --: --write, --count, modules."""
    session.install(".[report]", *groups("mutants", "tests", "torch"))
    session.run("python", "tests/mutants.py", *(session.posargs or ["--write", "docs/mutants.md"]))


@nox.session
def audit(session: nox.Session) -> None:
    """Check every package of every extra for known vulnerabilities; a package that is not found fails."""
    session.install("pip", "pip-audit>=2.7")
    report, pins = (Path(session.create_tmp(), name) for name in ("report.json", "pins.txt"))
    resolve = ["pip", "install", "--quiet", "--dry-run", "--ignore-installed", "--report", str(report)]
    session.run(*resolve, ".[all]")
    found = [item["metadata"] for item in json.loads(report.read_text())["install"]]
    others = [each for each in found if each["name"] != PYPROJECT["project"]["name"]]
    pins.write_text("".join(f"{each['name']}=={each['version']}\n" for each in others))
    session.run("pip-audit", "--strict", "--no-deps", "--disable-pip", "--requirement", str(pins))


@nox.session
def bench(session: nox.Session) -> None:
    """Measure conversions, commands and networks. After --: --write, for docs/benchmarks.md."""
    session.install(".[all]", *groups("ecosystem"))
    session.run("python", "benchmarks/run.py", *session.posargs)
