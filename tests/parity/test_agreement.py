"""The proof against real GluonCV: every model agrees and every mistake is detected."""

from __future__ import annotations

import json
import re
import sys
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from torch import nn
from typer.testing import CliRunner

from converter.cli.app import app, convert_app
from converter.commands import conversion
from converter.errors import MappingError, ParamsError, ParityError
from converter.formats.params import load_params, write_params
from converter.networks import catalog
from converter.networks.selection import ParamsSource
from converter.parity import execution
from converter.parity.options import ParityOptions
from converter.parity.result import LIMITS
from resnext_torch import resnext

if TYPE_CHECKING:
    from pathlib import Path

    from converter.networks.catalog import Model

NAME = "gluon_resnext50_32x4d"


@pytest.fixture(scope="session")
def resnext50() -> Model:
    return catalog.find(NAME)


def convert(model: Model, out: Path, params: Path) -> conversion.ConversionResult:
    return conversion.run(
        conversion.ConversionRequest(
            source=ParamsSource(model, params), out=out, options=ParityOptions("gluon")
        )
    )


def test_conversion_is_proven_against_gluoncv(resnext50: Model, gluon_files: Path, out: Path) -> None:
    result = convert(resnext50, out, gluon_files / f"{NAME}.params")
    document = json.loads(result.manifest_file.read_text())["parity"]
    assert (document["proven"], document["reference"]) == (True, "gluon")
    assert [(check["dtype"], check["size"]) for check in document["checks"]] == [
        ("float32", "65x95"),
        ("float64", "65x95"),
    ]
    assert all(0 < check["relative"] <= LIMITS[check["dtype"]] for check in document["checks"])


def test_parity_with_user_weights_exits_0_and_writes_a_report(gluon_files: Path, out: Path) -> None:
    params = str(gluon_files / f"{NAME}.params")
    written = convert(catalog.find(NAME), out, gluon_files / f"{NAME}.params").artifact
    options = ["--weights", str(written), "--json", "--report", str(out / "report.html")]
    result = CliRunner().invoke(app, ["parity", NAME, "--params", params, *options])
    assert result.exit_code == 0, result.stderr
    document = json.loads(result.stdout)
    assert (document["agrees"], document["reference"]["name"]) == (True, "gluon")
    assert "features.7.2.body.7" in (out / "report.html").read_text()


def test_fine_tuned_parameters_keep_their_number_of_classes(
    resnext50: Model, gluon_files: Path, out: Path
) -> None:
    result = convert(resnext50, out, gluon_files / "ten-classes.params")
    assert result.manifest.parity.proven is True
    assert result.manifest.artifact.parameters == 25_028_904 - 990 * 2049


def test_random_parameters_are_converted_and_proven(out: Path) -> None:
    result = CliRunner().invoke(convert_app, [NAME, str(out), "--random", "0", "--json"])
    assert result.exit_code == 0, result.stderr
    manifest = json.loads(result.stdout)
    assert manifest["parity"]["proven"] is True
    assert {check["dtype"] for check in manifest["parity"]["checks"]} == {"float32", "float64"}
    assert manifest["artifact"]["file"].startswith(f"{NAME}.random-")


def test_gluon_python_selects_the_interpreter(
    out: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.write_text(f'#!/bin/sh\ntouch {tmp_path}/was-run\nexec {sys.executable} "$@"\n')
    elsewhere.chmod(0o755)
    monkeypatch.setenv("GLUON_PYTHON", str(elsewhere))
    result = CliRunner().invoke(convert_app, [NAME, str(out), "--random", "1"])
    assert result.exit_code == 0, result.stderr
    assert (tmp_path / "was-run").exists()
    assert "layers against GluonCV: max error " in result.stdout


def with_table(model: Model, folder: Path, *changes: tuple[str, str]) -> Model:
    """Return the model with an edited mapping file."""
    text = model.mapping_file.read_text()
    for old, new in changes:
        assert text.count(old) == 1
        text = text.replace(old, new)
    path = folder / "wrong.toml"
    path.write_text(text)
    return replace(model, mapping_file=path)


def assert_refused(model: Model, out: Path, params: Path, first: str) -> None:
    """Check that the conversion is refused and that the error names the first layer that differs."""
    with pytest.raises(ParityError, match=rf"does not agree (.*\n)*  first mismatch  {re.escape(first)} → "):
        convert(model, out, params)
    assert list(out.iterdir()) == []


def test_swapped_layers_are_refused(resnext50: Model, gluon_files: Path, out: Path, tmp_path: Path) -> None:
    swapped = with_table(
        resnext50,
        tmp_path,
        ('"body.1" = ["bn1"', '"body.1" = ["bn2"'),
        ('"body.4" = ["bn2"', '"body.4" = ["bn1"'),
    )
    assert_refused(swapped, out, gluon_files / f"{NAME}.params", "features.4.0.body.1")


@pytest.mark.parametrize(
    ("one", "other"), [("gamma", "beta"), ("beta", "running_mean"), ("gamma", "running_var")]
)
def test_swapped_batchnorm_fields_are_refused(
    resnext50: Model, gluon_files: Path, out: Path, tmp_path: Path, one: str, other: str
) -> None:
    swapped = with_table(
        resnext50,
        tmp_path,
        (f"\n{one} = ", "\nPLACE = "),
        (f"\n{other} = ", f"\n{one} = "),
        ("\nPLACE", f"\n{other}"),
    )
    assert_refused(swapped, out, gluon_files / f"{NAME}.params", "features.1")


def test_wrong_bn_eps_is_refused(resnext50: Model, gluon_files: Path, out: Path) -> None:
    loose = replace(resnext50, config=replace(resnext50.config, bn_eps=1e-3))
    assert_refused(loose, out, gluon_files / f"{NAME}.params", "features.1")


def test_stride_in_the_1x1_convolution_is_refused(
    resnext50: Model, gluon_files: Path, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class StrideInReduction(resnext.Bottleneck):
        def __init__(self, *args: Any, **options: Any) -> None:  # noqa: ANN401
            super().__init__(*args, **options)
            self.conv1.stride, self.conv2.stride = self.conv2.stride, self.conv1.stride

    monkeypatch.setitem(resnext.BLOCKS, "bottleneck", StrideInReduction)
    assert_refused(resnext50, out, gluon_files / f"{NAME}.params", "features.5.0.body.0")


def test_ceil_mode_pooling_is_refused_at_an_odd_size(
    resnext50: Model, gluon_files: Path, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    max_pool = nn.MaxPool2d
    monkeypatch.setattr(nn, "MaxPool2d", lambda *_: max_pool(3, 2, 0, ceil_mode=True))
    assert_refused(resnext50, out, gluon_files / f"{NAME}.params", "features.3")


def test_one_ulp_in_one_weight_is_refused(
    resnext50: Model, gluon_files: Path, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    load = execution.load

    def other_weights(path: Path, *rest: Any) -> Any:  # noqa: ANN401
        content = bytearray(path.read_bytes())
        content[-4] ^= 1  # the lowest bit of the last float32
        path.write_bytes(content)
        return load(path, *rest)

    monkeypatch.setattr(execution, "load", other_weights)
    assert_refused(resnext50, out, gluon_files / f"{NAME}.params", "features.7.2.body.6")


def test_wrong_cardinality_is_refused(resnext50: Model, gluon_files: Path, out: Path) -> None:
    sixteen = replace(resnext50, config=replace(resnext50.config, cardinality=16, width=8))
    with pytest.raises(MappingError, match=r"expected shape \(128, 8, 3, 3\), found \(128, 4, 3, 3\)"):
        convert(sixteen, out, gluon_files / f"{NAME}.params")
    assert list(out.iterdir()) == []


@pytest.mark.parametrize(
    ("drop", "add", "message"),
    [
        ("features.6.5.body.7.beta", "", r"missing     features\.6\.5\.body\.7\.beta"),
        ("", "features.6.6.body.7.beta", r"unexpected  features\.6\.6\.body\.7\.beta"),
    ],
)
def test_missing_or_extra_tensor_is_refused(
    resnext50: Model, gluon_files: Path, out: Path, tmp_path: Path, drop: str, add: str, message: str
) -> None:
    arrays = dict(load_params(gluon_files / f"{NAME}.params"))
    arrays.pop(drop, None)
    arrays |= {add: arrays["output.bias"]} if add else {}
    with (tmp_path / "changed.params").open("wb") as stream:
        write_params(stream, arrays)
    with pytest.raises(MappingError, match=message):
        convert(resnext50, out, tmp_path / "changed.params")
    assert list(out.iterdir()) == []


def test_truncated_file_is_refused(resnext50: Model, gluon_files: Path, out: Path, tmp_path: Path) -> None:
    content = (gluon_files / f"{NAME}.params").read_bytes()
    (tmp_path / "short.params").write_bytes(content[: len(content) // 2])
    with pytest.raises(ParamsError, match="is the file truncated"):
        convert(resnext50, out, tmp_path / "short.params")
    assert list(out.iterdir()) == []


def test_vacuous_proof_of_an_untrained_network_is_refused(
    resnext50: Model, gluon_files: Path, out: Path
) -> None:
    with pytest.raises(
        ParityError, match=r"do not depend on their weights(.*\n)*  features\.4\.\{0…2\}\.body\.7\n"
    ):
        convert(resnext50, out, gluon_files / "fresh.params")
    assert list(out.iterdir()) == []
