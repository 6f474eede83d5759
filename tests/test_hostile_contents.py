"""Well-formed files with strange contents, through every step before a network runs."""

from __future__ import annotations

import contextlib
import json
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import safetensors.numpy
import torch
from fuzz.targets import limited
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays_of
from typer.testing import CliRunner

from converter.cli.app import app
from converter.commands import diff, inspection, inspection_document, reverse_conversion
from converter.errors import ConversionError
from converter.formats.params import write_params
from converter.networks import catalog, loading, selection
from converter.networks.selection import ParamsSource
from converter.parity.options import ParityOptions
from converter.progress import silent

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from converter.dtypes import Array

    Arrays = dict[str, Array]

MODEL = "gluon_cifar_resnext29_32x4d"
DTYPES = ["<f4", "<f8", "<f2", "<i8", "<i4", "i1", "u1", "?"]
# Names of arrays in Gluon and PyTorch, and names in neither.
PARTS = [
    "features",
    "0",
    "7",
    "00",
    "99999999999",
    "conv0",
    "stage1",
    "batchnorm3",
    "dense0",
    "fc",
    "arg:",
    "_",
]
ROLES = [
    "weight",
    "gamma",
    "running_var",
    "num_batches_tracked",
    "",
    "[red]",
    "\n",
    "\x1b[2J",
    "Ⅷ",
    "🔥",
    "x" * 300,
]
NAMES = st.one_of(
    st.builds(
        str.join,
        st.sampled_from([".", "_"]),
        st.lists(st.sampled_from(PARTS + ROLES), min_size=1, max_size=5),
    ),
    st.text(st.characters(exclude_categories=["Cs"]), max_size=20),
)
VALUES = st.sampled_from(DTYPES).flatmap(
    lambda dtype: arrays_of.arrays(
        dtype, arrays_of.array_shapes(min_dims=0, max_dims=5, min_side=0, max_side=3)
    )
)
CONTENTS = st.dictionaries(NAMES, VALUES, min_size=1, max_size=6)


def _params(arrays: Arrays, path: Path) -> None:
    with path.open("wb") as stream:
        write_params(stream, arrays)


def _npz(arrays: Arrays, path: Path) -> None:
    members: Any = {
        f"a{name}".replace("\0", ""): array for name, array in arrays.items()
    }  # does not collide with savez's parameters
    with path.open("wb") as stream:
        np.savez(stream, **members)


def _pth(arrays: Arrays, path: Path) -> None:
    torch.save({name: torch.from_numpy(array.copy()) for name, array in arrays.items()}, path)


WRITERS: dict[str, Callable[[Arrays, Path], None]] = {
    "params": _params,
    "npz": _npz,
    "safetensors": safetensors.numpy.save_file,
    "pth": _pth,
}


def every_stage(path: Path, out: Path) -> None:
    """Run every command on the file; only ConversionErrors are accepted."""
    for done in (
        lambda: json.dumps(
            inspection_document.document(inspection.inspect(path, full=True)), allow_nan=False
        ),
        lambda: diff.diff(path, path),
        lambda: reverse_conversion.run(
            reverse_conversion.ToGluonRequest(weights=path, out=out, options=ParityOptions("none"))
        ),
        lambda: _prepare(path, None),
        lambda: _prepare(path, MODEL),
    ):
        with contextlib.suppress(ConversionError):
            done()
    assert not out.exists()


def _prepare(path: Path, name: str | None) -> None:
    source = ParamsSource(catalog.find(name) if name else None, path)
    with selection.open_source(source, silent) as result:
        loading.load_model(source, result)


@pytest.mark.parametrize("writer", WRITERS)
@settings(
    max_examples=25,
    derandomize=True,
    deadline=None,  # `limited` sets the deadline
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(contents=CONTENTS)
def test_strange_contents_are_shown_or_refused(writer: str, contents: Arrays, tmp_path: Path) -> None:
    path = tmp_path / "a.bin"
    path.unlink(missing_ok=True)
    WRITERS[writer](contents, path)
    with limited():
        every_stage(path, tmp_path / "back.params")


@pytest.mark.parametrize("command", [["inspect"], ["inspect", "--full"], ["diff"]])
@pytest.mark.parametrize("role", ROLES)
def test_escape_sequences_in_names_are_escaped(command: list[str], role: str, tmp_path: Path) -> None:
    first, second = tmp_path / "a.pth", tmp_path / "b.pth"
    _pth({"fc.weight": np.ones(2, np.float32), role: np.ones(2, np.float32)}, first)
    _pth({"fc.weight": np.zeros(2, np.float32), f"{role}.gamma": np.full(2, np.nan, np.float32)}, second)
    files = [str(first), str(second)] if command == ["diff"] else [str(second)]
    result = CliRunner().invoke(app, [*command, *files])
    assert result.exit_code in {0, 1}
    assert not isinstance(result.exception, ConversionError | ValueError)
    assert "\x1b[2J" not in result.output


def test_unexpected_exception_is_detected(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise KeyError("gamma")

    monkeypatch.setattr(diff, "diff", fail)
    _params({"a.b": np.ones(1, np.float32)}, tmp_path / "a.params")
    with pytest.raises(KeyError, match="gamma"):
        every_stage(tmp_path / "a.params", tmp_path / "back.params")
