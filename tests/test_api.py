"""The public API: plain arguments, lazy imports, the results of the commands."""

from __future__ import annotations

import doctest
import re
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch

import converter
import resnext_torch
from converter import ConversionError, ParityOptions
from converter.errors import CatalogError, UsageError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

NAME = "gluon_cifar_resnext29_32x4d"
UNPROVEN = ParityOptions("none")
LAZY = """
import sys, converter
assert dir(converter) == sorted([*converter.__all__, "__version__"])
heavy = {"msgspec", "numpy", "requests", "rich", "safetensors", "torch", "typer"} & sys.modules.keys()
assert not heavy, heavy
converter.ParityOptions, converter.ConversionError, converter.convert, converter.list_models
assert "torch" not in sys.modules
"""


def test_examples_of_the_docstring_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    results = doctest.testmod(converter, optionflags=doctest.IGNORE_EXCEPTION_DETAIL)
    assert results.attempted > 10
    assert results.failed == 0


def test_names_are_imported_on_first_use() -> None:
    subprocess.run([sys.executable, "-c", LAZY], check=True)


@pytest.mark.parametrize("name", converter.__all__)
def test_every_public_name_exists_and_is_documented(name: str) -> None:
    assert getattr(converter, name).__doc__


def test_unknown_name_raises() -> None:
    with pytest.raises(AttributeError, match=r"module 'converter' has no attribute 'walk'"):
        converter.walk  # noqa: B018 - the attribute is the test


def test_dir_of_the_networks_lists_the_public_names() -> None:
    names = [name for name in dir(resnext_torch) if not name.startswith("__")]
    assert names == sorted(resnext_torch.__all__)


def test_params_are_detected_from_a_path_as_text(tmp_path: Path) -> None:
    made = converter.convert(NAME, str(tmp_path / "a"), random=0, options=UNPROVEN)
    back = str(tmp_path / "back.params")
    converter.to_gluon(str(made.artifact), back, options=UNPROVEN)
    detected = converter.convert("auto", str(tmp_path / "b"), params=back, options=UNPROVEN)
    assert detected.model.name == NAME
    assert detected.manifest.artifact.sha256 == made.manifest.artifact.sha256
    assert detected.manifest.source.sha1 == made.manifest.source.sha1


def test_comparison_of_a_conversion_passes_and_of_other_weights_fails(tmp_path: Path) -> None:
    options = ParityOptions("numpy", sizes=[32], dtypes=["float64"])
    other = converter.convert(NAME, tmp_path, random=1, options=UNPROVEN).artifact
    assert converter.compare(NAME, random=0, options=options).passed
    assert not converter.compare(NAME, random=0, weights=other, options=options).passed


def test_published_folder_verifies(tmp_path: Path) -> None:
    made = converter.convert(NAME, tmp_path / "out", random=0, options=UNPROVEN)
    (folder,) = converter.publish(
        made.artifact, tmp_path / "published", allow_random=True, allow_unproven=True
    )
    assert folder.folder == tmp_path / "published"
    assert converter.verify(folder.folder).holds
    with (folder.folder / "model.safetensors").open("r+b") as stream:
        stream.seek(-1, 2)
        stream.write(b"\1")
    assert not converter.verify(folder.folder).holds


def test_many_models_by_pattern(tmp_path: Path) -> None:
    started: list[str] = []
    outcomes = converter.convert_many(
        [NAME, "*18_v1b"], tmp_path, random=0, options=UNPROVEN, jobs=1, on_start=started.append
    )
    assert started == [NAME, "gluon_resnet18_v1b"] == [outcome.model for outcome in outcomes]
    assert {outcome.status.value for outcome in outcomes} == {"converted"}


def test_params_are_written_complete_or_not_at_all(tmp_path: Path) -> None:
    made = converter.convert(NAME, tmp_path / "out", random=0, options=UNPROVEN)
    converter.to_gluon(made.artifact, tmp_path / "a.params", options=UNPROVEN)
    arrays = converter.load_params(tmp_path / "a.params")
    converter.save_params(arrays, tmp_path / "b.params")
    assert (tmp_path / "b.params").read_bytes() == (tmp_path / "a.params").read_bytes()
    with pytest.raises(ConversionError, match=r"^x: MXNet has no dtype complex64$"):
        converter.save_params({"x": arrays["output.bias"].astype("complex64")}, tmp_path / "b.params")
    assert (tmp_path / "b.params").read_bytes() == (tmp_path / "a.params").read_bytes()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"model": "auto"}, "auto-detection requires `params`"),
        ({"params": "a", "random": 0}, "`params` and `random` cannot be used together"),
        ({"symbol": "a"}, "`symbol` requires `params`"),
        ({"random": -1}, "`random`: expected an integer of at least 0, found -1"),
        (
            {"random": 0, "dtype": "int8"},
            "`dtype`: expected keep, float32, float16, bfloat16, found 'int8'",
        ),
    ],
)
def test_wrong_arguments_are_refused(arguments: dict[str, object], message: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=message):
        converter.convert(out=tmp_path / "out", **{"model": NAME, **arguments})  # type: ignore[arg-type]
    assert not (tmp_path / "out").exists()


def test_unknown_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CatalogError, match="did you mean gluon_resnext50_32x4d"):
        converter.convert("gluon_resnext50", tmp_path, random=0)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"reference": "mxnet"}, "`reference`: expected auto, gluon, numpy, none, found 'mxnet'"),
        (
            {"reference": "none", "sizes": [64]},
            "`sizes` and `dtypes` require a reference",
        ),
        ({"sizes": [16]}, "`sizes`: expected 32 to 2048 pixels, found 16"),
        ({"sizes": [(64, 4096)]}, "`sizes`: expected 32 to 2048 pixels, found 4096"),
        ({"sizes": 64}, "`sizes`: expected a list of sizes, found 64"),
        ({"sizes": [(64,)]}, "`sizes`: expected (height, width) or a number of pixels"),
        ({"sizes": ["64"]}, "`sizes`: expected (height, width) or a number of pixels"),
        ({"sizes": [64.0]}, "`sizes`: expected (height, width) or a number of pixels"),
        ({"dtypes": ["float16"]}, "`dtypes`: expected float64 or float32, found 'float16'"),
    ],
)
def test_wrong_parity_options_are_refused(arguments: dict[str, object], message: str) -> None:
    with pytest.raises(UsageError, match=re.escape(message)):
        ParityOptions(**arguments)  # type: ignore[arg-type]


@pytest.mark.parametrize("size", [64, (64, 64), [64, 64], np.int64(64)], ids=repr)
def test_equal_sizes_make_equal_options(size: int) -> None:
    assert ParityOptions(sizes=[size], dtypes="float64") == ParityOptions(sizes=(64,), dtypes=("float64",))
    assert hash(ParityOptions(sizes=[size])) == hash(ParityOptions(sizes=[64]))


def test_usage_error_names_the_parameters_of_the_message() -> None:
    with pytest.raises(UsageError) as caught:
        ParityOptions("none", sizes=[64])
    assert caught.value.parameters == ("sizes", "dtypes", "reference")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"random": -1}, "`random`: expected an integer of at least 0, found -1"),
        ({"random": 0, "jobs": 0}, "`jobs`: expected at least 1, found 0"),
        ({"random": 0, "params_dir": "."}, "`params_dir` and `random` cannot be used together"),
    ],
)
def test_wrong_arguments_of_a_batch_are_refused(
    arguments: dict[str, Any], message: str, tmp_path: Path
) -> None:
    with pytest.raises(UsageError, match=message):
        converter.convert_many(NAME, tmp_path / "out", **arguments)
    assert not (tmp_path / "out").exists()


def test_path_with_a_null_character_is_refused(tmp_path: Path) -> None:
    calls: list[Callable[[str], object]] = [
        converter.inspect,
        converter.verify,
        lambda path: converter.convert(NAME, path, random=0),
        lambda path: converter.convert(NAME, tmp_path / "out", params=path),
    ]
    for call in calls:
        with pytest.raises(UsageError, match="null character"):
            call(f"{tmp_path}/a\0b")


def test_file_with_the_name_of_a_model_does_not_hide_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / NAME).touch()
    assert converter.convert(NAME, "out", random=0, options=UNPROVEN).model.name == NAME
    (tmp_path / "my.params").touch()
    with pytest.raises(UsageError, match=r"my\.params is a file, not a model; use auto with `params`"):
        converter.convert("my.params", "out")
    with pytest.raises(CatalogError, match="unknown model"):
        converter.convert("x" * 300, "out")


def test_save_params_accepts_what_numpy_converts(tmp_path: Path) -> None:
    converter.save_params({"a": [1.0, 2.0], "b": torch.ones(2)}, tmp_path / "a.params")
    assert {name: array.tolist() for name, array in converter.load_params(tmp_path / "a.params").items()} == {
        "a": [1.0, 2.0],
        "b": [1.0, 1.0],
    }


def test_errors_are_an_attribute_of_the_package() -> None:
    program = "import converter; print(converter.errors.UsageError.__name__)"
    assert subprocess.check_output([sys.executable, "-c", program], text=True) == "UsageError\n"


def test_parity_options_make_a_probe_for_each_size_in_each_precision() -> None:
    probes = ParityOptions(sizes=[64, (97, 131), 64]).probes
    assert [(probe.dtype, probe.size) for probe in probes] == [
        ("float32", (64, 64)),
        ("float32", (97, 131)),
        ("float64", (64, 64)),
        ("float64", (97, 131)),
    ]
