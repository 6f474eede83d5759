from __future__ import annotations

import json
import multiprocessing
import os
import re
import signal
import subprocess
import sys
import threading
import time
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from symbols import changed, symbol
from typer.testing import CliRunner

from converter.choices import Precision, ReferenceChoice
from converter.cli.app import app
from converter.commands import batch, conversion
from converter.commands.batch import Status
from converter.formats.params import save_params, write_params
from converter.networks import catalog
from converter.networks.selection import ParamsSource
from converter.networks.synthetic import random_params
from converter.parity.options import ParityOptions

if TYPE_CHECKING:
    from pathlib import Path

    from converter.networks.catalog import Model

SMALL, OTHER = "gluon_cifar_resnext29_32x4d", "gluon_resnet18_v1b"
UNPROVEN = ("--reference", "none")


@pytest.fixture
def small() -> Model:
    return catalog.find(SMALL)


def run(*arguments: str) -> tuple[int, dict[str, dict[str, str]], str]:
    """Return the exit status, the rows of the summary by model, and stderr."""
    result = CliRunner().invoke(app, ["convert-zoo", *arguments, "--json"])
    rows = json.loads(result.stdout)["models"] if result.stdout else []
    return result.exit_code, {row["model"]: row for row in rows}, result.stderr


def test_converted_models_are_skipped_the_next_time(tmp_path: Path) -> None:
    arguments = (str(tmp_path), "--random", "0", "--models", SMALL, "--models", "*18_v1b", *UNPROVEN)
    status, rows, _ = run(*arguments, "--jobs", "2")
    assert status == 0
    assert {name: row["status"] for name, row in rows.items()} == dict.fromkeys((SMALL, OTHER), "converted")
    files = {path: path.stat().st_mtime_ns for path in tmp_path.glob("*.safetensors")}
    assert {path.name for path in files} == {row["file"] for row in rows.values()}
    status, rows, stderr = run(*arguments)
    assert status == 0
    assert {row["status"] for row in rows.values()} == {"skipped"}
    assert {path: path.stat().st_mtime_ns for path in tmp_path.glob("*.safetensors")} == files
    assert "0 converted, 2 skipped, 0 failed" in stderr
    assert json.loads((tmp_path / "summary.json").read_text())["counts"]["skipped"] == 2


def test_failed_model_does_not_stop_the_batch(tmp_path: Path) -> None:
    folder = tmp_path / "params"
    folder.mkdir()
    (folder / f"{OTHER}.params").write_bytes(b"nonsense")
    model = catalog.find(SMALL)
    with (folder / f"{model.entry.gluon}.params").open("wb") as stream:
        write_params(stream, random_params(model.mapping, model.shapes, seed=3))
    chosen = ("--models", OTHER, "--models", SMALL, "--models", "gluon_senet154")
    status, rows, stderr = run(str(tmp_path / "out"), "--params-dir", str(folder), *chosen, *UNPROVEN)
    assert status == 1
    assert [row["status"] for row in rows.values()] == ["failed", "converted", "failed"]
    assert "not a .params file: it begins with b'nonsense'" in rows[OTHER]["reason"]
    assert (
        "contains none of gluon_senet154.params, senet_154.params, senet_154-b5538ef1.params"
        in rows["gluon_senet154"]["reason"]
    )
    assert f"failed  {OTHER}: " in stderr


def test_unpublished_model_fails_without_a_download(tmp_path: Path) -> None:
    status, rows, _ = run(str(tmp_path), "--models", "gluon_resnext101e_64x4d")
    assert status == 1
    assert rows["gluon_resnext101e_64x4d"]["reason"] == "GluonCV never published its parameters"


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        (["--models", "vgg*"], 1, r"no model matches 'vgg*'"),
        (["--models", "gluon_resnext50"], 1, "did you mean gluon_resnext50_32x4d?"),
        (["--jobs", "0"], 2, "greater than or equal to 1"),
        (["--random", "0", "--params-dir", "."], 2, "cannot be used together"),
        ([*UNPROVEN, "--size", "64"], 2, "--size and --proof-dtype require a reference"),
    ],
)
def test_invalid_arguments_are_refused(
    tmp_path: Path, arguments: list[str], status: int, message: str
) -> None:
    result = CliRunner().invoke(app, ["convert-zoo", str(tmp_path), *arguments])
    assert result.exit_code == status
    assert message in " ".join(result.stderr.replace("│", " ").split())
    assert list(tmp_path.iterdir()) == []


def test_changed_graph_is_converted_again(tmp_path: Path) -> None:
    model = catalog.find(SMALL)
    folder = tmp_path / "params"
    folder.mkdir()
    with (folder / f"{SMALL}.params").open("wb") as stream:
        write_params(stream, random_params(model.mapping, model.shapes, seed=3))
    arguments = (str(tmp_path / "out"), "--params-dir", str(folder), "--models", SMALL, *UNPROVEN)
    graph = folder / f"{SMALL}-symbol.json"

    def status() -> str:
        return str(run(*arguments)[1][SMALL]["status"])

    assert [status(), status()] == ["converted", "skipped"]
    graph.write_text(json.dumps(symbol(model)))
    assert [status(), status()] == ["converted", "skipped"]
    graph.write_text(json.dumps(changed(symbol(model), "features.1", eps="0.5")))
    assert status() == "failed"
    graph.unlink()
    assert status() == "converted"


@pytest.fixture(scope="session")
def converted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("zoo")
    conversion.run(
        conversion.ConversionRequest(
            source=ParamsSource(catalog.find(SMALL), seed=0), out=out, options=ParityOptions("none")
        )
    )
    return out


@pytest.fixture
def intact(converted: Path, tmp_path: Path) -> Path:
    """Return a folder with one conversion, for the test to damage."""
    for path in converted.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    return tmp_path


SEEDED = batch.SourceKey(file=f"{SMALL}.random-0.params", random=True)


def test_unknown_manifest_field_is_ignored(intact: Path, small: Model) -> None:
    (manifest,) = intact.glob("*.json")
    manifest.write_text(f'{manifest.read_text().rstrip().removesuffix("}")}, "more": {"[" * 10}{"]" * 10}}}')
    assert batch.find_conversion(intact, small, SEEDED, ParityOptions("none")) is not None


def test_intact_conversion_is_reused(intact: Path, small: Model) -> None:
    manifest = batch.find_conversion(intact, small, SEEDED, ParityOptions("none"))
    assert manifest is not None
    assert manifest.model == SMALL


@pytest.mark.parametrize(
    "damage", ["flip", "truncate", "remove", "no manifest", "another name", "a deep manifest", "nonsense"]
)
def test_damaged_conversion_is_not_reused(intact: Path, small: Model, damage: str) -> None:
    (artifact,) = intact.glob("*.safetensors")
    manifest = artifact.with_suffix(".json")
    content = artifact.read_bytes()
    if damage == "flip":
        artifact.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    elif damage == "truncate":
        artifact.write_bytes(content[:-1])
    elif damage == "remove":
        artifact.unlink()
    elif damage == "no manifest":
        manifest.unlink()
    elif damage == "another name":
        manifest.rename(intact / f"{SMALL}-00000000.json")
    elif damage == "a deep manifest":
        nested = f'"more": {"[" * 100_000}{"]" * 100_000}'
        manifest.write_text(f"{manifest.read_text().rstrip().removesuffix('}')}, {nested}}}")
    else:
        manifest.write_text('{"model": 3, "artifact": []}')
    assert batch.find_conversion(intact, small, SEEDED, ParityOptions("none")) is None


def test_other_source_mapping_or_missing_proof_is_not_reused(
    intact: Path, small: Model, tmp_path: Path
) -> None:
    other = tmp_path / "cifar_resnext.toml"
    other.write_text(small.mapping_file.read_text() + "\n# changed\n")
    assert (
        batch.find_conversion(
            intact, small, batch.SourceKey(file="other.params", random=True), ParityOptions("none")
        )
        is None
    )
    assert batch.find_conversion(intact, small, SEEDED, ParityOptions()) is None
    assert (
        batch.find_conversion(intact, replace(small, mapping_file=other), SEEDED, ParityOptions("none"))
        is None
    )


@pytest.mark.parametrize(
    ("options", "found"),
    [
        (ParityOptions("none"), True),
        (ParityOptions("numpy", sizes=[(33, 47)], dtypes=["float64"]), True),
        (ParityOptions("auto", sizes=[(33, 47)], dtypes=["float64"]), True),
        (ParityOptions("gluon", sizes=[(33, 47)], dtypes=["float64"]), False),
        (ParityOptions("numpy", sizes=[(224, 224)], dtypes=["float64"]), False),
        (
            ParityOptions("numpy", sizes=[(33, 47)]),
            False,
        ),
    ],
)
def test_only_an_equally_strong_proof_is_reused(
    small: Model, tmp_path: Path, options: ParityOptions, found: bool
) -> None:
    proven = ParityOptions("numpy", sizes=[(33, 47)], dtypes=["float64"])
    conversion.run(
        conversion.ConversionRequest(source=ParamsSource(small, seed=0), out=tmp_path, options=proven)
    )
    assert (batch.find_conversion(tmp_path, small, SEEDED, options) is not None) is found


@pytest.mark.skipif(os.geteuid() == 0, reason="root ignores permissions")
def test_unreadable_file_fails_only_its_model(tmp_path: Path, small: Model) -> None:
    other = catalog.find(OTHER)
    for model in (small, other):
        save_params(random_params(model.mapping, model.shapes, seed=0), tmp_path / f"{model.name}.params")
    (tmp_path / f"{SMALL}.params").chmod(0o000)
    request = batch.BatchRequest(
        models=(small, other), out=tmp_path / "out", params_dir=tmp_path, options=ParityOptions("none")
    )
    unreadable, converted = batch.run(request)
    assert (unreadable.status, converted.status) == (Status.failed, Status.converted)
    assert "Permission denied" in unreadable.reason


def test_rounded_conversion_is_not_reused(tmp_path: Path, small: Model) -> None:
    source = ParamsSource(small, seed=0)
    rounded = conversion.ConversionRequest(
        source=source, out=tmp_path, options=ParityOptions("none"), precision=Precision.float16
    )
    conversion.run(rounded)
    assert batch.find_conversion(tmp_path, small, SEEDED, ParityOptions("none")) is None
    conversion.run(replace(rounded, precision=Precision.keep))
    assert batch.find_conversion(tmp_path, small, SEEDED, ParityOptions("none")) is not None


@pytest.mark.parametrize(
    ("number", "reason"),
    [
        (signal.SIGKILL, "its process ended unexpectedly"),
        (signal.SIGTERM, "its process (ended unexpectedly|was terminated)"),
    ],
)
def test_crashed_process_fails_only_its_model(
    number: signal.Signals, reason: str, tmp_path: Path, small: Model
) -> None:
    other = catalog.find(OTHER)
    request = batch.BatchRequest(models=(small, other), out=tmp_path, seed=0, options=ParityOptions("none"))

    def kill(model: str) -> None:
        if model == SMALL:
            threading.Thread(target=end_first_worker, args=(number,)).start()

    outcomes = batch.run(request, kill)
    assert {outcome.model: outcome.status for outcome in outcomes} == {
        SMALL: Status.failed,
        OTHER: Status.converted,
    }
    assert re.fullmatch(reason, outcomes[0].reason)


def end_first_worker(number: signal.Signals) -> None:
    """Signal the first worker process as soon as it exists."""
    deadline = time.monotonic() + 60
    while not (workers := multiprocessing.active_children()) and time.monotonic() < deadline:
        time.sleep(0.001)
    os.kill(workers[0].pid or 0, number)


def test_sigterm_ends_the_processes_and_leaves_no_files(tmp_path: Path) -> None:
    program = [sys.executable, "-m", "converter", "convert-zoo", str(tmp_path / "out"), "--random", "0"]
    environment = {**os.environ, "TMPDIR": str(tmp_path)}
    with subprocess.Popen([*program, "--models", "gluon_resnext101*", *UNPROVEN], env=environment) as process:
        deadline = time.monotonic() + 60
        while not list(tmp_path.glob("out/.convert-*")) and time.monotonic() < deadline:
            time.sleep(0.001)
        process.terminate()
    assert process.returncode == 143
    assert not list(tmp_path.rglob(".*"))


@pytest.mark.parametrize("choice", [ReferenceChoice.auto, ReferenceChoice.numpy, ReferenceChoice.gluon])
@pytest.mark.parametrize("definition", ["gluoncv", "graph", None])
def test_proof_against_gluoncv_satisfies_every_reference(
    small: Model, tmp_path: Path, choice: ReferenceChoice, definition: str | None
) -> None:
    options = ParityOptions("numpy", sizes=[(33, 47)], dtypes=["float64"])
    made = conversion.run(
        conversion.ConversionRequest(source=ParamsSource(small, seed=0), out=tmp_path, options=options)
    )
    document = json.loads(made.manifest_file.read_text())
    document["parity"] |= {"reference": "gluon", "definition": definition}
    document["parity"]["versions"] |= {"mxnet": "1.9.1", "gluoncv": "0.10.5"}
    if definition == "graph":
        document["source"] |= {"symbol": "net-symbol.json", "symbol_sha256": "0" * 64}
    made.manifest_file.write_text(json.dumps(document))
    assert batch.find_conversion(tmp_path, small, SEEDED, replace(options, reference=choice)) is not None
    document["parity"]["proven"] = False
    made.manifest_file.write_text(json.dumps(document))
    assert batch.find_conversion(tmp_path, small, SEEDED, replace(options, reference=choice)) is None
