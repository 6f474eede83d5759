"""The proof against real GluonCV: every model agrees, and every mistake is seen."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from torch import nn
from typer.testing import CliRunner

from converter import catalog, cli, parity, pipeline
from converter.errors import MappingError, ParamsError, ParityError
from converter.params import read_params, write_params
from converter.parity import LIMITS, Probe
from resnext_torch import resnext

if TYPE_CHECKING:
    from pathlib import Path

    from converter.catalog import Model

SIZES = [(224, 224), (225, 225), (97, 131)]
NAME = "gluon_resnext50_32x4d"


@pytest.fixture(scope="session")
def resnext50() -> Model:
    return catalog.find(NAME)


def convert(model: Model, out: Path, params: Path, **options: Any) -> pipeline.Result:  # noqa: ANN401
    return pipeline.convert(pipeline.Request(model, out, params=params, **options))


@pytest.mark.parametrize("name", catalog.models())
def test_every_model_agrees_with_gluoncv(gluon_files: Path, out: Path, name: str) -> None:
    probes = tuple(Probe(dtype, size) for dtype in ("float32", "float64") for size in SIZES)
    result = convert(catalog.find(name), out, gluon_files / f"{name}.params", probes=probes)
    found = json.loads(result.manifest_file.read_text())["parity"]
    print(json.dumps({name: found}))  # noqa: T201 - the measured values, for the log
    assert found["proven"] is True
    assert found["reference"] == "gluon"
    assert found["versions"]["mxnet"] == "1.9.1"
    assert found["versions"]["gluoncv"] == "0.10.5.post0"
    assert found["versions"].keys() == {"gluoncv", "mxnet", "numpy", "python", "torch"}
    assert [(check["dtype"], check["size"]) for check in found["checks"]] == [
        (probe.dtype, f"{probe.size[0]}x{probe.size[1]}") for probe in probes
    ]
    assert all(0 < check["relative"] <= LIMITS[check["dtype"]] for check in found["checks"])


def test_a_fine_tuned_file_converts_with_its_own_classes(
    resnext50: Model, gluon_files: Path, out: Path
) -> None:
    result = convert(resnext50, out, gluon_files / "ten-classes.params")
    assert result.manifest["parity"]["proven"] is True
    assert result.manifest["artifact"]["parameters"] == 25_028_904 - 990 * 2049


def test_the_command_converts_random_parameters_and_proves_it(out: Path) -> None:
    result = CliRunner().invoke(cli.convert_app, [NAME, str(out), "--random", "0", "--json"])
    assert result.exit_code == 0, result.stderr
    manifest = json.loads(result.stdout)
    assert manifest["parity"]["proven"] is True
    assert {check["dtype"] for check in manifest["parity"]["checks"]} == {"float32", "float64"}
    assert manifest["artifact"]["file"].startswith(f"{NAME}.random-")


def test_another_interpreter_can_be_named(out: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.write_text(f'#!/bin/sh\ntouch {tmp_path}/was-run\nexec {sys.executable} "$@"\n')
    elsewhere.chmod(0o755)
    monkeypatch.setenv("GLUON_PYTHON", str(elsewhere))
    result = CliRunner().invoke(cli.convert_app, [NAME, str(out), "--random", "1"])
    assert result.exit_code == 0, result.stderr
    assert (tmp_path / "was-run").exists()
    assert "proven" in result.stdout


def with_table(model: Model, folder: Path, *changes: tuple[str, str]) -> Model:
    """Return the model with another mapping file."""
    text = model.mapping_file.read_text()
    for old, new in changes:
        assert text.count(old) == 1
        text = text.replace(old, new)
    path = folder / "wrong.toml"
    path.write_text(text)
    return replace(model, mapping_file=path)


def refuses(model: Model, out: Path, params: Path) -> None:
    with pytest.raises(ParityError, match=r"does not agree with the reference\n(.*\n)*.*FAILED"):
        convert(model, out, params)
    assert list(out.iterdir()) == []


def test_two_swapped_layers_are_refused(
    resnext50: Model, gluon_files: Path, out: Path, tmp_path: Path
) -> None:
    swapped = with_table(
        resnext50,
        tmp_path,
        ('"body.1" = ["bn1"', '"body.1" = ["bn2"'),
        ('"body.4" = ["bn2"', '"body.4" = ["bn1"'),
    )
    refuses(swapped, out, gluon_files / f"{NAME}.params")


@pytest.mark.parametrize(
    ("one", "other"), [("gamma", "beta"), ("beta", "running_mean"), ("gamma", "running_var")]
)
def test_two_swapped_batchnorm_fields_are_refused(
    resnext50: Model, gluon_files: Path, out: Path, tmp_path: Path, one: str, other: str
) -> None:
    swapped = with_table(
        resnext50,
        tmp_path,
        (f"\n{one} = ", "\nPLACE = "),
        (f"\n{other} = ", f"\n{one} = "),
        ("\nPLACE", f"\n{other}"),
    )
    refuses(swapped, out, gluon_files / f"{NAME}.params")


def test_an_eps_of_1e3_is_refused(resnext50: Model, gluon_files: Path, out: Path) -> None:
    loose = replace(resnext50, config=replace(resnext50.config, bn_eps=1e-3))
    refuses(loose, out, gluon_files / f"{NAME}.params")


def test_a_stride_in_the_1x1_is_refused(
    resnext50: Model, gluon_files: Path, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class StrideInReduction(resnext.Bottleneck):
        def __init__(self, *args: Any, **options: Any) -> None:  # noqa: ANN401
            super().__init__(*args, **options)
            self.conv1.stride, self.conv2.stride = self.conv2.stride, self.conv1.stride

    monkeypatch.setattr(resnext, "Bottleneck", StrideInReduction)
    refuses(resnext50, out, gluon_files / f"{NAME}.params")


def test_a_pool_that_rounds_up_is_refused_at_an_odd_size(
    resnext50: Model, gluon_files: Path, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    max_pool = nn.MaxPool2d
    monkeypatch.setattr(nn, "MaxPool2d", lambda *_: max_pool(3, 2, 0, ceil_mode=True))
    refuses(resnext50, out, gluon_files / f"{NAME}.params")


def test_one_weight_off_by_one_ulp_is_refused(
    resnext50: Model, gluon_files: Path, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    load_module = parity.load_module

    def other_weights(path: Path, *rest: Any) -> Any:  # noqa: ANN401
        content = bytearray(path.read_bytes())
        content[-4] ^= 1  # the lowest bit of the last float32
        path.write_bytes(content)
        return load_module(path, *rest)

    monkeypatch.setattr(parity, "load_module", other_weights)
    refuses(resnext50, out, gluon_files / f"{NAME}.params")


def test_a_wrong_cardinality_is_refused(resnext50: Model, gluon_files: Path, out: Path) -> None:
    sixteen = replace(resnext50, config=replace(resnext50.config, cardinality=16, width=8))
    with pytest.raises(MappingError, match=r"shape \(128, 8, 3, 3\) expected, \(128, 4, 3, 3\) found"):
        convert(sixteen, out, gluon_files / f"{NAME}.params")
    assert list(out.iterdir()) == []


@pytest.mark.parametrize(
    ("drop", "add", "message"),
    [
        ("features.6.5.body.7.beta", "", r"missing     features\.6\.5\.body\.7\.beta"),
        ("", "features.6.6.body.7.beta", r"unexpected  features\.6\.6\.body\.7\.beta"),
    ],
)
def test_a_tensor_missing_or_too_many_is_refused(
    resnext50: Model, gluon_files: Path, out: Path, tmp_path: Path, drop: str, add: str, message: str
) -> None:
    arrays = dict(read_params(gluon_files / f"{NAME}.params"))
    arrays.pop(drop, None)
    arrays |= {add: arrays["output.bias"]} if add else {}
    with (tmp_path / "changed.params").open("wb") as stream:
        write_params(stream, arrays)
    with pytest.raises(MappingError, match=message):
        convert(resnext50, out, tmp_path / "changed.params")
    assert list(out.iterdir()) == []


def test_a_truncated_file_is_refused(resnext50: Model, gluon_files: Path, out: Path, tmp_path: Path) -> None:
    content = (gluon_files / f"{NAME}.params").read_bytes()
    (tmp_path / "short.params").write_bytes(content[: len(content) // 2])
    with pytest.raises(ParamsError, match="is the file truncated"):
        convert(resnext50, out, tmp_path / "short.params")
    assert list(out.iterdir()) == []


def test_a_fresh_network_is_refused_for_it_would_prove_nothing(
    resnext50: Model, gluon_files: Path, out: Path
) -> None:
    with pytest.raises(
        ParityError, match=r"does not depend on these(.*\n)*  features\.4\.\{0…2\}\.body\.\{0,3,6\}\.weight"
    ):
        convert(resnext50, out, gluon_files / "fresh.params")
    assert list(out.iterdir()) == []
