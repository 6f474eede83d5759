from __future__ import annotations

import io
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from rich.console import Console
from typer.testing import CliRunner

from converter import __version__
from converter.choices import Precision, ReferenceChoice
from converter.cli import app, console, options, outcomes, signals
from converter.commands import conversion
from converter.errors import MappingError
from converter.manifests import schema
from converter.networks import catalog
from converter.networks.selection import ParamsSource
from converter.parity.options import ParityOptions
from converter.references.probes import Probe

NAME = "gluon_resnext50_32x4d"


@pytest.fixture
def runner(monkeypatch: pytest.MonkeyPatch) -> CliRunner:
    monkeypatch.setenv("COLUMNS", "120")
    monkeypatch.delenv("GLUON_PYTHON", raising=False)
    return CliRunner()


@pytest.fixture
def no_network(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("MXNET_GLUON_REPO", "http://127.0.0.1:9")
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setenv("MXNET_HOME", str(tmp_path / "mxnet"))


def test_summary_has_five_lines(runner: CliRunner, tmp_path: Path) -> None:
    result = runner.invoke(app.convert_app, [NAME, str(tmp_path), "--random", "0", "--reference", "none"])
    assert result.exit_code == 0
    read, graph, proven, wrote, following = result.stdout.splitlines()
    assert re.fullmatch(
        rf"read    {NAME}\.random-0\.params: structural names, SHA-1 [0-9a-f]{{8}} \(not a published file\)",
        read,
    )
    assert graph == "graph   none found; assumed to be GluonCV's own definition"
    assert proven == "unproven the outputs were not compared (--reference none)"
    assert wrote.startswith(f"wrote   {tmp_path}/{NAME}.random-")
    assert wrote.endswith(".safetensors (100.4 MB, 320 tensors) and its manifest")
    assert following == f"next    gluon2torch predict IMAGE --weights {tmp_path}/"
    assert result.stderr == ""


def test_json_prints_only_the_manifest(runner: CliRunner, tmp_path: Path) -> None:
    arguments = ["convert", NAME, str(tmp_path), "--random", "0", "--reference", "none", "--json"]
    result = runner.invoke(app.app, arguments)
    assert result.exit_code == 0
    (manifest,) = tmp_path.glob("*.json")
    assert result.stdout == manifest.read_text()
    assert json.loads(result.stdout)["artifact"]["parameters"] == 25028904
    assert result.stderr.startswith("read    ")


@pytest.mark.usefixtures("no_network")
def test_refusal_exits_1_with_the_reason_on_stderr(runner: CliRunner, tmp_path: Path) -> None:
    arguments = [NAME, str(tmp_path / "out"), "--reference", "none"]
    result = runner.invoke(app.convert_app, arguments)
    assert result.exit_code == 1
    assert result.stdout == ""
    assert result.stderr.startswith(f"refused  {NAME}: the published parameters are not in the cache")
    assert "--random SEED" in result.stderr


def test_missing_mxnet_is_refused_before_any_work(
    runner: CliRunner, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    arguments = [NAME, str(tmp_path), "--random", "0", "--reference", "gluon"]
    result = runner.invoke(app.convert_app, arguments)
    assert result.exit_code == 1
    assert "mxnet and gluoncv not installed" in result.stderr
    assert "mxnet==1.9.1 and gluoncv==0.10.5.post0" in result.stderr
    assert "--reference numpy" in result.stderr
    assert "--reference none" in result.stderr
    assert list(tmp_path.iterdir()) == []


def test_summary_shows_reference_layers_and_largest_difference(runner: CliRunner, tmp_path: Path) -> None:
    options = ["--random", "0", "--reference", "numpy", "--size", "33x47", "--proof-dtype", "float64"]
    result = runner.invoke(app.convert_app, [NAME, str(tmp_path), *options])
    assert result.exit_code == 0, result.stderr
    assert re.search(
        r"^graph   none found; compared with GluonCV's own definition\n"
        r"proven  125 layers against the built-in NumPy reference: "
        r"max error \d\.\de-1[45] in float64 at 33x47$",
        result.stdout,
        re.MULTILINE,
    )
    (manifest,) = tmp_path.glob("*.json")
    (check,) = json.loads(manifest.read_text())["parity"]["checks"]
    assert check["worst"]["limit"] == 1e-12


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--size", "12"], "--size: expected 32 to 2048 pixels, found 12"),
        (["--size", "224x"], "'224x' is not a valid size: expected H or HxW, such as 224 or 97x131"),
        (["--size", "9999"], "--size: expected 32 to 2048 pixels, found 9999"),
        (["--proof-dtype", "int8"], "'int8' is not one of 'float64', 'float32'"),
        (["--random", "-1"], "greater than or equal to 0"),
        (["--random", "0", "--params", "a.params"], "--params and --random cannot be used together"),
        (["--reference", "none", "--size", "224"], "--size and --proof-dtype require a reference"),
        (["--reference", "caffe"], "'caffe' is not one of"),
        (["--symbol", "a.json"], "--symbol requires --params"),
        (["--dtype", "int8"], "'int8' is not one of 'keep', 'float32', 'float16', 'bfloat16'"),
    ],
)
def test_usage_error_exits_2(runner: CliRunner, tmp_path: Path, arguments: list[str], message: str) -> None:
    result = runner.invoke(app.convert_app, [NAME, str(tmp_path), *arguments])
    assert result.exit_code == 2
    assert message in " ".join(result.stderr.replace("│", " ").split())


def test_unknown_model_exits_1_with_a_suggestion(runner: CliRunner, tmp_path: Path) -> None:
    result = runner.invoke(app.convert_app, ["gluon_resnext50", str(tmp_path)])
    assert result.exit_code == 1
    assert result.stderr == f"refused  unknown model 'gluon_resnext50'; did you mean {NAME}?\n"


def test_keyboard_interrupt_exits_130(
    runner: CliRunner, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(conversion, "convert", interrupt)
    result = runner.invoke(app.convert_app, [NAME, str(tmp_path), "--random", "0", "--reference", "none"])
    assert result.exit_code == 130
    assert "interrupted" in result.stderr


def test_sigterm_exits_143_and_restores_the_handler(
    runner: CliRunner, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(conversion, "convert", lambda *_, **__: os.kill(os.getpid(), signal.SIGTERM))
    result = runner.invoke(app.convert_app, [NAME, str(tmp_path), "--random", "0", "--reference", "none"])
    assert result.exit_code == 143
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL


def test_signals_after_an_interruption_do_not_exit_at_once(
    runner: CliRunner, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(conversion, "convert", lambda *_, **__: os.kill(os.getpid(), signal.SIGTERM))
    handlers = {number: signal.getsignal(number) for number in signals.ENDING}
    try:
        signals.exit_at_once()
        exiting = signal.getsignal(signal.SIGTERM)
        result = runner.invoke(app.convert_app, [NAME, str(tmp_path), "--random", "0", "--reference", "none"])
        assert result.exit_code == 143
        assert signal.getsignal(signal.SIGTERM) not in {exiting, signal.SIG_DFL, signal.SIG_IGN}
        os.kill(os.getpid(), signal.SIGTERM)
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)


def test_terminated_conversion_leaves_no_files(tmp_path: Path) -> None:
    program = [sys.executable, "-m", "converter", "convert", NAME, str(tmp_path / "out")]
    program += ["--reference", "none", "--random", "0"]
    with subprocess.Popen(program, env={**os.environ, "TMPDIR": str(tmp_path)}) as process:
        deadline = time.monotonic() + 30
        while not list(tmp_path.glob("out/.convert-*")) and time.monotonic() < deadline:
            time.sleep(0.001)
        process.terminate()
    assert process.returncode == 143
    assert list(tmp_path.rglob("*")) == []


def test_terminal_escape_sequences_are_escaped(
    runner: CliRunner, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise MappingError("x.\x1b[2J\n  é [red]")

    monkeypatch.setattr(conversion, "convert", refuse)
    result = runner.invoke(app.convert_app, [NAME, str(tmp_path), "--random", "0", "--reference", "none"])
    assert result.stderr == "refused  x.\\x1b[2J\n  é [red]\n"


def test_every_option_reaches_the_conversion(
    runner: CliRunner, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    requests = []

    def record(request: conversion.ConversionRequest, _: object) -> None:
        requests.append(request)
        raise MappingError("enough")

    monkeypatch.setattr(conversion, "run", record)
    options = [
        "--params",
        "a.params",
        "--size",
        "97×131",
        "--proof-dtype",
        "float64",
        "--gluon-python",
        "python9",
    ]
    options += ["--reference", "gluon", "--symbol", "a.json", "--dtype", "float16", "--labels", "a.txt"]
    runner.invoke(app.convert_app, [NAME, str(tmp_path), *options])
    runner.invoke(app.convert_app, [NAME, str(tmp_path), "--random", "5", "--reference", "none"])
    model = catalog.find(NAME)
    assert requests == [
        conversion.ConversionRequest(
            source=ParamsSource(model, Path("a.params"), symbol=Path("a.json")),
            out=tmp_path,
            options=ParityOptions(
                "gluon", sizes=[(97, 131)], dtypes=["float64"], gluon_python=Path("python9")
            ),
            precision=Precision.float16,
            labels=Path("a.txt"),
        ),
        conversion.ConversionRequest(
            source=ParamsSource(model, seed=5), out=tmp_path, options=ParityOptions("none")
        ),
    ]


def test_progress_is_shown_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    screen = io.StringIO()
    monkeypatch.setattr(console, "Console", lambda **_: Console(file=screen, force_terminal=True))
    with console.progress() as report:
        report("writing", 1, 4)
        report("writing", 4, 4)
    assert "writing" in screen.getvalue()
    assert "100 %" in screen.getvalue()


def test_progress_of_many_models_counts_the_models(monkeypatch: pytest.MonkeyPatch) -> None:
    screen = io.StringIO()
    monkeypatch.setattr(outcomes, "Console", lambda **_: Console(file=screen, force_terminal=True, width=100))
    with outcomes.progress() as bars:
        bars.plan(2)
        bars.start("first")
        bars.end("first")
        bars.start("second")
    lines = screen.getvalue().splitlines()
    assert any("all" in line and "1/2" in line for line in lines)
    assert any("second" in line for line in lines)
    assert "/?" not in screen.getvalue()


def check(dtype: str, relative: float, size: str = "65x95") -> schema.CheckRecord:
    worst = schema.WorstLayerRecord(layer="fc", relative=relative, limit=1e-4)
    return schema.CheckRecord(
        dtype=dtype,
        size=size,
        seed=0,
        limit=1e-5,
        layers=125,
        max_abs=relative,
        relative=relative,
        worst=worst,
    )


def proof(*checks: schema.CheckRecord) -> schema.ParityRecord:
    return schema.ParityRecord(
        proven=True, reference="gluon", definition="gluoncv", versions={}, checks=checks
    )


def test_default_size_of_a_proof_is_not_printed() -> None:
    float32, float64 = check("float32", 3.3e-6), check("float64", 6.5e-15)
    assert console.proven(proof(float32, float64)) == (
        "125 layers against GluonCV: max error 6.5e-15 in float64, 3.3e-06 in float32"
    )
    assert console.proven(proof(float32, float64, check("float32", 4e-6, size="224x224"))) == (
        "125 layers against GluonCV: max error "
        "6.5e-15 in float64 at 65x95, 3.3e-06 in float32 at 65x95, 4.0e-06 in float32 at 224x224"
    )


def test_next_command_names_the_file_if_the_folder_contains_several(
    runner: CliRunner, tmp_path: Path
) -> None:
    out = tmp_path / "my weights"
    out.mkdir()
    (out / "other.safetensors").touch()
    result = runner.invoke(app.convert_app, [NAME, str(out), "--random", "0", "--reference", "none"])
    (artifact,) = out.glob(f"{NAME}*.safetensors")
    assert result.stdout.splitlines()[-1] == f"next    gluon2torch predict IMAGE --weights '{artifact}'"


def test_each_size_and_dtype_makes_a_probe() -> None:
    chosen = options.parity_options(
        ReferenceChoice.auto, [(224, 224), (97, 131)], [options.ProofDtypeOption.float64], None
    )
    assert [(probe.dtype, probe.size) for probe in chosen.probes] == [
        ("float64", (224, 224)),
        ("float64", (97, 131)),
    ]
    assert options.parity_options(ReferenceChoice.auto, None, None, None).probes == (
        Probe("float32", (65, 95)),
        Probe("float64", (65, 95)),
    )


def test_version_is_printed(runner: CliRunner) -> None:
    assert runner.invoke(app.app, ["--version"]).stdout == f"gluon2torch {__version__}\n"


def test_file_in_place_of_a_model_is_a_usage_error(runner: CliRunner, tmp_path: Path) -> None:
    (tmp_path / "my.params").touch()
    result = runner.invoke(app.convert_app, [str(tmp_path / "my.params"), str(tmp_path)])
    assert result.exit_code == 2
    text = " ".join(result.stderr.replace("│", "").split())
    assert "is a file, not a model; use auto with --params" in text


def test_report_never_overwrites_weights(runner: CliRunner, tmp_path: Path) -> None:
    (tmp_path / "my.params").write_bytes(b"weights")
    options = ["--params", str(tmp_path / "my.params"), "--report", str(tmp_path / "my.params")]
    result = runner.invoke(app.app, ["parity", NAME, *options])
    assert result.exit_code == 2
    assert "--report writes HTML" in " ".join(result.stderr.replace("│", "").split())
    assert (tmp_path / "my.params").read_bytes() == b"weights"


def test_characters_that_stdout_cannot_encode_are_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    raw = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(raw, encoding="cp1252"))
    console.lines().print("features.0 → conv1 ∞")
    sys.stdout.flush()
    assert raw.getvalue().splitlines() == [b"features.0 ? conv1 ?"]
