from __future__ import annotations

import gzip
import hashlib
import json
import re
import zipfile
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np
import pytest
import safetensors.torch
import torch
from symbols import changed, counted_names, symbol
from typer.testing import CliRunner

from converter.choices import Precision
from converter.cli.app import convert_app
from converter.commands import conversion
from converter.dtypes import BFLOAT16
from converter.errors import ConversionError, MappingError, SymbolError
from converter.networks import catalog
from converter.networks.selection import ParamsSource
from converter.parity.options import ParityOptions

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from typer.testing import Result

    from converter.dtypes import Array
    from converter.networks.catalog import Model

    Write = Callable[[dict[str, Array]], Path]
    Change = Callable[[dict[str, Array]], dict[str, Array]]

UNPROVEN = ParityOptions("none")
AGAINST_NUMPY = ParityOptions("numpy", sizes=[(33, 47)], dtypes=["float64"])
FAST = ["--reference", "numpy", "--size", "33x47", "--proof-dtype", "float64"]
NONE = ["--reference", "none"]
BOX = re.compile(r"│|\x1b\[[\d;]*m")  # typer's box, coloured under GitHub Actions


@pytest.fixture(autouse=True)
def tiny_catalog(tiny: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    """Reduce the catalog to the tiny model and set a wide terminal."""
    monkeypatch.setattr(catalog, "models", lambda: {tiny.name: tiny})
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.delenv("GLUON_PYTHON", raising=False)


@pytest.fixture
def out(tmp_path: Path) -> Path:
    (tmp_path / "out").mkdir()
    return tmp_path / "out"


def as_float16(params: dict[str, Array]) -> dict[str, Array]:
    """Return the result of ``net.cast('float16')``: float16 with BatchNorms in float32."""
    return {
        name: array if name.endswith(("gamma", "beta", "mean", "var")) else array.astype(np.float16)
        for name, array in params.items()
    }


def as_float64(params: dict[str, Array]) -> dict[str, Array]:
    return {name: array.astype(np.float64) * (1 + 1e-12) for name, array in params.items()}


def as_bfloat16(params: dict[str, Array]) -> dict[str, Array]:
    return {name: array.astype(BFLOAT16) for name, array in params.items()}


def convert(request: conversion.ConversionRequest, **changes: Any) -> conversion.ConversionResult:  # noqa: ANN401
    return conversion.run(replace(request, **changes))


def assert_refused(request: conversion.ConversionRequest, error: type[ConversionError], message: str) -> None:
    """Check that a request is refused and leaves no output."""
    with pytest.raises(error, match=message):
        conversion.run(request)
    assert list(request.out.iterdir()) == []


def test_requesting_the_weights_own_dtype_changes_nothing(tiny: Model, out: Path) -> None:
    request = conversion.ConversionRequest(source=ParamsSource(tiny, seed=0), out=out, options=AGAINST_NUMPY)
    kept, cast = convert(request), convert(request, precision=Precision.float32)
    assert cast.artifact == kept.artifact  # the name contains the SHA-256
    assert cast.manifest == kept.manifest
    assert (cast.manifest.parity.proven, cast.manifest.narrowing) == (True, None)


@pytest.mark.parametrize(
    ("change", "dtypes"),
    [(as_float64, ["float64"]), (as_float16, ["float32", "float16"]), (as_bfloat16, ["bfloat16"])],
)
def test_dtypes_of_the_file_are_kept_and_proven(
    change: Change, dtypes: list[str], tiny: Model, tiny_params: dict[str, Array], write: Write, out: Path
) -> None:
    params = change(tiny_params)
    result = convert(
        conversion.ConversionRequest(source=ParamsSource(tiny, write(params)), out=out, options=AGAINST_NUMPY)
    )
    assert (result.manifest.parity.proven, result.manifest.narrowing) == (True, None)
    assert result.manifest.artifact.dtypes == tuple(dtypes)
    for name, array in tensors(result).items():
        if array.shape:
            source = params[tiny.mapping.to_source()[name]]
            assert (str(array.dtype), array.tobytes()) == (str(source.dtype), source.tobytes())


def tensors(result: conversion.ConversionResult) -> dict[str, Array]:
    state = safetensors.torch.load_file(result.artifact)
    return {
        name: tensor.view(torch.int16).numpy().view(BFLOAT16)
        if tensor.dtype == torch.bfloat16
        else tensor.numpy()
        for name, tensor in state.items()
    }


def test_widening_to_float32_is_exact_and_proven(
    tiny: Model, tiny_params: dict[str, Array], write: Write, out: Path
) -> None:
    source = ParamsSource(tiny, write(as_float16(tiny_params)))
    result = conversion.run(
        conversion.ConversionRequest(
            source=source, out=out, options=AGAINST_NUMPY, precision=Precision.float32
        )
    )
    assert (result.manifest.parity.proven, result.manifest.narrowing) == (True, None)
    assert result.manifest.artifact.dtypes == ("float32",)


def test_auto_detects_the_model_and_its_classes(
    tiny_params: dict[str, Array], write: Write, out: Path
) -> None:
    for name in ("output.weight", "output.bias"):
        tiny_params[name] = tiny_params[name][:3].copy()
    result = conversion.run(
        conversion.ConversionRequest(source=ParamsSource(None, write(tiny_params)), out=out, options=UNPROVEN)
    )
    assert (result.model.name, result.model.config.num_classes) == ("tiny", 3)
    assert (result.manifest.model, result.artifact.name[:5]) == ("tiny", "tiny-")


def test_auto_refuses_unknown_tensors_and_names_the_nearest_model(
    tiny_params: dict[str, Array], write: Write, out: Path
) -> None:
    del tiny_params["features.5.1.body.4.running_var"]
    message = (
        r"holiday\.params: parameters of no supported network; the closest is tiny\n"
        r"  missing     features\.5\.1\.body\.4\.running_var"
    )
    assert_refused(
        conversion.ConversionRequest(
            source=ParamsSource(None, write(tiny_params)), out=out, options=UNPROVEN
        ),
        MappingError,
        message,
    )


@pytest.mark.parametrize("archive", ["gzip", "zip"])
def test_archive_gives_the_same_artifact(
    archive: str, tiny_params: dict[str, Array], write: Write, out: Path, tmp_path: Path
) -> None:
    path, packed = write(tiny_params), tmp_path / "packed"
    if archive == "gzip":
        packed.write_bytes(gzip.compress(path.read_bytes(), 1))
    else:
        with zipfile.ZipFile(packed, "w") as opened:
            opened.write(path, "a.params")
    request = conversion.ConversionRequest(source=ParamsSource(None, path), out=out, options=UNPROVEN)
    plain, unpacked = (
        convert(request),
        convert(request, source=ParamsSource(None, packed), out=tmp_path / "b"),
    )
    assert unpacked.artifact.read_bytes() == plain.artifact.read_bytes()
    expected = msgspec.structs.replace(plain.manifest.source, file="packed", archive=archive)
    assert unpacked.manifest.source == expected


@pytest.fixture
def save_graph(tiny: Model, tmp_path: Path) -> Callable[..., Path]:
    """Return a function that writes the tiny model's graph, with changes, next to ``holiday.params``."""

    def save(*layers: str, **attributes: str) -> Path:
        content = symbol(tiny)
        for layer in layers:
            changed(content, layer, **attributes)
        (tmp_path / "holiday-symbol.json").write_text(json.dumps(content))
        return tmp_path / "holiday-symbol.json"

    return save


@pytest.mark.parametrize("place", ["holiday-symbol.json", "another.json", "elsewhere/net.json"])
def test_graph_with_another_eps_leaves_no_output(
    place: str, tiny_params: dict[str, Array], write: Write, save_graph: Callable[..., Path], out: Path
) -> None:
    params, path = write(tiny_params), save_graph("features.5.1.body.4", eps="0.001")
    path.with_name("elsewhere").mkdir()
    moved = path.rename(path.parent / place)
    named = moved if place.startswith("elsewhere") else None
    request = conversion.ConversionRequest(
        source=ParamsSource(None, params, symbol=named), out=out, options=UNPROVEN
    )
    message = (
        r"the graph does not match tiny\n"
        r"  features\.5\.1\.body\.4: eps 0\.001 in the graph, 1e-05 in the model"
    )
    assert_refused(request, SymbolError, message)
    assert named is None or convert(request, source=ParamsSource(None, params)).manifest.source.symbol is None
    save_graph().rename(moved)
    source = convert(request).manifest.source
    assert source.symbol == moved.name
    assert source.symbol_sha256 == hashlib.sha256(moved.read_bytes()).hexdigest()


def test_fixed_gamma_is_written_as_ones_and_proven(
    tiny_params: dict[str, Array], write: Write, save_graph: Callable[..., Path], out: Path
) -> None:
    save_graph("features.1", "features.5.1.body.4", fix_gamma="True")
    result = convert(
        conversion.ConversionRequest(
            source=ParamsSource(None, write(tiny_params)), out=out, options=AGAINST_NUMPY
        )
    )
    assert result.manifest.parity.proven is True
    assert result.manifest.source.fixed_gammas == ("features.1.gamma", "features.5.1.body.4.gamma")
    gammas = {name: array for name, array in tensors(result).items() if re.search(r"bn\d\.weight$", name)}
    assert [name for name in gammas if (gammas[name] == 1).all()] == ["bn1.weight", "layer2.1.bn2.weight"]
    assert not [
        name for name in gammas if name not in {"bn1.weight", "layer2.1.bn2.weight"} and 1 in gammas[name]
    ]
    assert not (tiny_params["features.1.gamma"] == 1).any()


def test_graph_with_other_names_must_be_named_to_change_weights(
    tiny: Model, tiny_params: dict[str, Array], write: Write, out: Path, tmp_path: Path
) -> None:
    content = changed(symbol(tiny, counted_names(tiny)), "features.1", fix_gamma="True")
    path = tmp_path / "net.json"
    path.write_text(json.dumps(content))
    request = conversion.ConversionRequest(
        source=ParamsSource(None, write(tiny_params)), out=out, options=UNPROVEN
    )
    message = (
        r"net\.json: the graph has other names than .*, and fixes gammas at 1 that are not 1 there\n"
        r"  features\.1\.gamma\n  if it is .*, select it with --symbol FILE"
    )
    assert_refused(request, SymbolError, message)
    ones = tiny_params | {"features.1.gamma": np.ones_like(tiny_params["features.1.gamma"])}
    same = convert(request, source=ParamsSource(None, write(ones)))
    assert same.manifest.source.symbol == "net.json"
    named = convert(request, source=ParamsSource(None, write(tiny_params), symbol=path))
    assert named.manifest.source.fixed_gammas == ("features.1.gamma",)
    assert named.artifact.name == same.artifact.name


def run(*arguments: str | Path) -> Result:
    return CliRunner().invoke(convert_app, [str(argument) for argument in arguments])


def test_summary_shows_the_detected_model(tiny_params: dict[str, Array], write: Write, out: Path) -> None:
    result = run("auto", out, "--params", write(tiny_params), *FAST)
    assert (result.exit_code, result.stderr) == (0, "")
    assert [line.partition(" ")[0] for line in result.stdout.splitlines()] == [
        "model",
        "read",
        "graph",
        "proven",
        "wrote",
        "next",
    ]
    assert result.stdout.startswith("model   tiny: blocks 1-2-1-1, cardinality 2, width 4, 10 classes\n")


def test_summary_shows_rounding_and_fixed_gammas(
    tiny_params: dict[str, Array], write: Write, save_graph: Callable[..., Path], out: Path
) -> None:
    save_graph("features.1", fix_gamma="True")
    result = run("tiny", out, "--params", write(tiny_params), *FAST, "--dtype", "bfloat16")
    lines = result.stdout.splitlines()
    assert lines[1] == "graph   holiday-symbol.json: operators, wiring and settings match"
    assert lines[2] == "fixed   features.1.gamma: written as 1, because holiday-symbol.json sets fix_gamma"
    assert lines[3].startswith(
        "proven  before rounding: 48 layers against the graph, run by the built-in NumPy reference: max error"
    )
    assert re.fullmatch(
        r"rounded to bfloat16: the logits change by up to \d\.\de-0\d of their standard deviation at 65x95; "
        r"the written weights are not proven",
        lines[4],
    )


def test_manifest_is_strict_json_alone_on_stdout(out: Path, tmp_path: Path) -> None:
    (tmp_path / "classes.json").write_text(json.dumps(list("abcdefghij")))
    options = ["--dtype", "float16", "--labels", str(tmp_path / "classes.json"), "--json"]
    result = run("tiny", out, "--random", "0", *NONE, *options)
    document = json.loads(result.stdout, parse_constant=pytest.fail)
    assert (document["labels"], document["narrowing"]["before"]["proven"]) == (list("abcdefghij"), False)
    assert result.stderr.splitlines()[2].startswith("rounded to float16")


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        (["auto", "OUT"], 2, "auto-detection requires --params"),
        (["tiny", "OUT", "--random", "0", "--symbol", "a.json"], 2, "--symbol requires --params"),
        (["tiny", "OUT", "--random", "0", "--dtype", "int8"], 2, "'int8' is not one of 'keep', 'float32'"),
        (["tiny", "OUT", "--random", "0", "--labels", "none.txt"], 1, "none.txt: No such file or directory"),
        (["auto", "OUT", "--params", "none.params"], 1, "none.params: No such file or directory"),
    ],
)
def test_usage_error_exits_2_and_refusal_1(
    arguments: list[str], status: int, message: str, out: Path
) -> None:
    result = run(*(out if argument == "OUT" else argument for argument in arguments), *NONE)
    assert (result.exit_code, result.stdout) == (status, "")
    assert message in " ".join(BOX.sub("", result.stderr).split())
    assert list(out.iterdir()) == []


def test_help_shows_every_option() -> None:
    shown = run("--help").stdout
    for option in ("auto", "--dtype", "--labels", "--symbol", "--params", "--reference", "--proof-dtype"):
        assert option in shown


def test_escape_sequences_in_a_file_name_are_escaped(
    tiny_params: dict[str, Array], write: Write, out: Path
) -> None:
    path = write(tiny_params)
    evil = path.rename(path.with_name("\x1b[31m[bold]\x9b.params"))
    shown, refused = (
        run("auto", out, "--params", evil, *NONE).stdout,
        run("auto", out, "--params", f"{evil}x").stderr,
    )
    assert not {"\x1b", "\x9b"} & {*shown, *refused}
    assert all(r"\x1b[31m[bold]\x9b.params" in text for text in (shown, refused))
