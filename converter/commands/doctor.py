"""Report what is installed, which references run, and where files are cached."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import platform
import shutil
import sys
import tempfile
from pathlib import Path

from msgspec import Struct

from converter import __version__
from converter.choices import ReferenceChoice
from converter.errors import ReferenceUnavailableError
from converter.networks import catalog
from converter.sources.published_file import cache_folder

REQUIRED = (
    *("ml-dtypes", "msgspec", "numpy", "requests", "rich"),
    *("safetensors", "torch", "typer", "urllib3"),
)
EXTRAS = {
    "azure": ("convert-many with abfs://", ("adlfs",)),
    "fleet": ("convert-many --scheduler, its index.parquet", ("distributed", "pyarrow")),
    "gcs": ("convert-many with gs://", ("gcsfs",)),
    "gluon": ("the proof against GluonCV", ("gluoncv", "mxnet", "opencv-python")),
    "http": ("convert-many with https://", ("aiohttp", "fsspec")),
    "hub": ("convert --from, publish, publish --push", ("huggingface_hub", "jinja2")),
    "onnx": (
        "convert --format onnx, predict --backend onnxruntime",
        ("onnx", "onnxruntime", "onnxscript", "torch"),
    ),
    "report": ("parity --report", ("altair", "jinja2", "vl-convert-python")),
    "s3": ("convert-many with s3://", ("s3fs",)),
    "sign": ("publish --sign-key, verify --key", ("model-signing", "pyopenssl")),
    "train": ("examples/finetune.py, examples/train.py", ("accelerate", "torchvision")),
    "vision": ("predict, evaluate", ("opencv-python-headless", "pillow", "torchvision")),
}
REFERENCE = "mxnet", "gluoncv"  # the packages that the reference `gluon` imports
LIBRARIES = ("libgomp", "libquadmath")  # of the system, which MXNet's wheel needs
INSTALL_LIBRARIES = "Debian: apt-get install libgomp1 libquadmath0"


class PackageRecord(Struct, frozen=True, kw_only=True):
    """A package and its installed version, None if it is not installed."""

    name: str
    version: str | None


class FeatureRecord(Struct, frozen=True, kw_only=True):
    """An optional feature.

    Attributes:
        name: the extra that installs it.
        purpose: the commands that need it.
        installed: whether its packages are installed.
        packages: its packages.
    """

    name: str
    purpose: str
    installed: bool
    packages: tuple[PackageRecord, ...]


class ReferenceRecord(Struct, frozen=True, kw_only=True):
    """What a conversion can be compared with.

    Attributes:
        name: its name as ``--reference``.
        runs: whether it runs; "gluon" was started.
        detail: the interpreter that runs it, or why it does not run.
        versions: versions of its packages.
    """

    name: str
    runs: bool
    detail: str
    versions: dict[str, str]


class FolderRecord(Struct, frozen=True, kw_only=True):
    """A folder that is written to.

    Attributes:
        purpose: what it is for.
        path: its path.
        variable: the environment variable that selects another one.
        exists: whether it exists.
        files: number of GluonCV's published files in it, None for another folder.
        bytes: their size, None for another folder.
        free_bytes: free space on its disk, None if it does not exist.
    """

    purpose: str
    path: str
    variable: str
    exists: bool
    files: int | None = None
    bytes: int | None = None
    free_bytes: int | None = None


class DoctorReport(Struct, frozen=True, kw_only=True):
    """What is installed and what works.

    Attributes:
        ready: whether models can be converted and proven.
        verdict: the same in a sentence, with the reason if not.
        version: version of gluon2torch.
        python: version of Python.
        executable: the interpreter.
        platform: the operating system and the machine.
        packages: the required packages.
        features: the optional features.
        references: the references.
        folders: the folders of caches and temporary files.
    """

    ready: bool
    verdict: str
    version: str
    python: str
    executable: str
    platform: str
    packages: tuple[PackageRecord, ...]
    features: tuple[FeatureRecord, ...]
    references: tuple[ReferenceRecord, ...]
    folders: tuple[FolderRecord, ...]


def doctor() -> DoctorReport:
    """Report what is installed, which references run, and where files are cached.

    GluonCV is imported in a child process if it is installed. Versions are read without an import of torch.
    """
    packages = tuple(map(_package, REQUIRED))
    gluon = _gluon()
    ready, verdict = _verdict([package.name for package in packages if package.version is None], gluon)
    return DoctorReport(
        ready=ready,
        verdict=verdict,
        version=__version__,
        python=platform.python_version(),
        executable=sys.executable,
        platform=f"{platform.system()} {platform.machine()}",
        packages=packages,
        features=tuple(map(_feature, EXTRAS)),
        references=(gluon, _numpy()),
        folders=(_cache(), _hub_cache(), _temporary()),
    )


def _package(name: str) -> PackageRecord:
    try:
        return PackageRecord(name=name, version=importlib.metadata.version(name))
    except importlib.metadata.PackageNotFoundError:
        return PackageRecord(name=name, version=None)


def _feature(name: str) -> FeatureRecord:
    purpose, names = EXTRAS[name]
    packages = tuple(map(_package, names))
    installed = all(package.version is not None for package in packages)
    return FeatureRecord(name=name, purpose=purpose, installed=installed, packages=packages)


def _verdict(missing: list[str], gluon: ReferenceRecord) -> tuple[bool, str]:
    """Return whether models can be converted and proven, and a sentence that says so."""
    if missing:
        return False, f"not installed: {', '.join(missing)}"
    if gluon.runs:
        return True, "models can be converted, and proven against GluonCV"
    if os.environ.get("GLUON_PYTHON"):  # which makes it the only reference
        return False, "GLUON_PYTHON selects an interpreter in which GluonCV does not run"
    return True, "models can be converted, and proven against the built-in NumPy reference"


def _gluon() -> ReferenceRecord:
    """Start GluonCV in the interpreter that a proof would use."""
    chosen = os.environ.get("GLUON_PYTHON")
    absent = [name for name in REFERENCE if importlib.util.find_spec(name) is None]
    if absent and not chosen:
        return _absent(f"{' and '.join(absent)} not installed in {sys.executable}")
    from converter.references import gluon  # noqa: PLC0415 - imports numpy, which takes as long as all else

    try:
        python = gluon.find_python(Path(chosen) if chosen else None)
        versions = gluon.import_versions(python)
    except ReferenceUnavailableError as error:
        return _absent(error.reason or str(error))
    return ReferenceRecord(name=ReferenceChoice.gluon, runs=True, detail=str(python), versions=versions)


def _absent(reason: str) -> ReferenceRecord:
    if any(library in reason for library in LIBRARIES):
        reason = f"{reason}; {INSTALL_LIBRARIES}"
    return ReferenceRecord(name=ReferenceChoice.gluon, runs=False, detail=reason, versions={})


def _numpy() -> ReferenceRecord:
    version = _package("numpy").version
    return ReferenceRecord(
        name=ReferenceChoice.numpy,
        runs=version is not None,
        detail=sys.executable if version else "numpy not installed",
        versions={"numpy": version} if version else {},
    )


def _cache() -> FolderRecord:
    """Describe GluonCV's cache: published parameters are read from it and downloaded into it."""
    folder = cache_folder()
    names = {model.official_file for model in catalog.models().values()}
    files = [file for file in sorted(folder.glob("*.params")) if file.name in names]
    return FolderRecord(
        purpose="GluonCV's cache",
        path=str(folder),
        variable="MXNET_HOME",
        exists=folder.is_dir(),
        files=len(files),
        bytes=sum(file.stat().st_size for file in files),
        free_bytes=_free_bytes(folder),
    )


def _hub_cache() -> FolderRecord:
    """Describe the cache of the Hugging Face Hub's client, whose import would take half a second."""
    home = os.environ.get("HF_HOME") or Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache") / "huggingface"
    folder = Path(os.path.expanduser(os.environ.get("HF_HUB_CACHE") or Path(home) / "hub"))  # noqa: PTH111 - never raises
    return FolderRecord(
        purpose="the Hub's cache",
        path=str(folder),
        variable="HF_HOME",
        exists=folder.is_dir(),
        free_bytes=_free_bytes(folder),
    )


def _temporary() -> FolderRecord:
    folder = Path(tempfile.gettempdir())
    return FolderRecord(
        purpose="temporary files",
        path=str(folder),
        variable="TMPDIR",
        exists=True,
        free_bytes=_free_bytes(folder),
    )


def _free_bytes(folder: Path) -> int | None:
    try:
        return shutil.disk_usage(folder).free
    except OSError:
        return None
