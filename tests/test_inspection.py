from __future__ import annotations

import gzip
import hashlib
import json
import struct
import subprocess
import sys
import zipfile
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import safetensors.numpy
import torch
from test_detection import gluon_arrays, prefixed_arrays

from converter.commands import inspection, inspection_document
from converter.dtypes import BFLOAT16
from converter.errors import CheckpointError, ConversionError, ParamsError, SourceError
from converter.formats.params import write_params
from converter.networks import catalog, matching

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from converter.commands.inspection_result import Inspection
    from converter.dtypes import Array
    from converter.networks.catalog import Model

    Write = Callable[[dict[str, Array]], Path]

PARTS = {
    "features.0": "stem",
    "features.1": "stem",
    "output": "head",
    **{f"features.{number + 3}": f"layer{number}" for number in range(1, 5)},
}
PROGRAM = """\
import sys
from pathlib import Path
from converter.commands import inspection, inspection_document
import safetensors, safetensors.numpy
def peak():
    return int(Path("/proc/self/status").read_text().partition("VmHWM:")[2].split()[0]) * 1024
before = peak()
found = inspection.inspect(Path(sys.argv[1]), full=sys.argv[2] == "full")
print(found.numbers, peak() - before)
"""
GIGABYTES = 3 << 30
SMALL = 1 << 26  # small enough to be read completely


@pytest.fixture
def tiny_catalog(tiny: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    """Reduce the catalog to the tiny model."""
    monkeypatch.setattr(catalog, "models", lambda: {tiny.name: tiny})


def inspect(path: Path, *, full: bool = False) -> Inspection:
    return inspection.inspect(path, full=full)


def sha1(path: Path) -> str:
    return hashlib.sha1(path.read_bytes(), usedforsecurity=False).hexdigest()


def write_sparse(path: Path, arrays: dict[str, Array]) -> Path:
    """Write a list of float32 arrays with holes in place of their values."""
    with path.open("wb") as stream:
        stream.write(struct.pack("<QQQ", 0x112, 0, len(arrays)))
        for array in arrays.values():
            stream.write(struct.pack(f"<Iii{array.ndim}q", 0xF993FAC9, 0, array.ndim, *array.shape))
            stream.write(struct.pack("<iii", 1, 0, 0))
            stream.seek(4 * array.size, 1)
        stream.write(struct.pack("<Q", len(arrays)))
        for name in arrays:
            stream.write(struct.pack("<Q", len(name)) + name.encode())
    return path


def write_sparse_safetensors(path: Path, size: int) -> Path:
    spec = {"w": {"dtype": "F32", "shape": [size // 4], "data_offsets": [0, size]}}
    header = json.dumps(spec).encode().ljust(96)
    with path.open("wb") as stream:
        stream.write(struct.pack("<Q", len(header)) + header)
        stream.truncate(8 + len(header) + size)
    return path


def write_sparse_params(path: Path, size: int) -> Path:
    return write_sparse(path, {"w.weight": np.broadcast_to(np.float32(0), size // 4)})


def save_legacy(path: Path, params: dict[str, Array]) -> None:
    content = struct.pack("<QQQ", 0x112, 0, len(params))
    for array in params.values():
        content += struct.pack(f"<I{array.ndim}I", array.ndim, *array.shape)
        content += struct.pack("<iii", 1, 0, 0) + array.tobytes()
    content += struct.pack("<Q", len(params))
    path.write_bytes(content + b"".join(struct.pack("<Q", len(name)) + name.encode() for name in params))


def save_v2(path: Path, params: dict[str, Array]) -> None:
    with path.open("wb") as stream:
        write_params(stream, params)


def save_npz(path: Path, params: dict[str, Array]) -> None:
    with path.open("wb") as stream:
        arrays: dict[str, Any] = params
        np.savez(stream, **arrays)


GLUON = [
    ("ndarray-list", save_v2, ("V2",)),
    ("ndarray-list", save_legacy, ("legacy",)),
    ("npz", save_npz, ()),
]


@pytest.mark.usefixtures("tiny_catalog")
@pytest.mark.parametrize(("container", "save", "records"), GLUON, ids=["list", "legacy", "npz"])
def test_every_gluon_container_is_recognised(
    container: str,
    save: Callable[[Path, dict[str, Array]], None],
    records: tuple[str, ...],
    tiny: Model,
    tiny_params: dict[str, Array],
    tmp_path: Path,
) -> None:
    save(tmp_path / "a.params", tiny_params)
    result = inspect(tmp_path / "a.params")
    assert (result.container, result.records, result.dialect) == (container, records, "structural")
    assert (result.file, result.size) == ("a.params", (tmp_path / "a.params").stat().st_size)
    assert (result.models, result.nearest, result.archive, result.remark) == ((tiny,), None, None, None)
    assert (result.tensors, result.dtypes) == (102, (("float32", 102),))
    assert result.numbers == sum(array.size for array in tiny_params.values())
    assert (result.sha1, result.official, result.statistics) == (None, None, None)


@pytest.mark.usefixtures("tiny_catalog")
@pytest.mark.parametrize("container", ["safetensors", "pth"])
@pytest.mark.parametrize("full", [False, True])
def test_every_pytorch_container_is_recognised(
    container: str, full: bool, tiny: Model, tiny_params: dict[str, Array], tmp_path: Path
) -> None:
    state = matching.rename(tiny.mapping, tiny_params, tiny.shapes, "tiny")
    if container == "pth":
        torch.save({"model": {f"module.{name}": torch.tensor(state[name]) for name in state}}, tmp_path / "a")
    else:
        safetensors.numpy.save_file(state, tmp_path / "a")
    result = inspect(tmp_path / "a", full=full)
    assert (result.container, result.dialect, result.models) == (container, "PyTorch", (tiny,))
    assert result.dtypes == (("float32", 102), ("int64", len(tiny.mapping.target_only)))
    assert result.numbers == sum(array.size for array in tiny_params.values())
    assert result.sha1 == (sha1(tmp_path / "a") if full else None)
    if result.statistics is not None:
        assert sum(row.numbers for row in result.statistics) == result.numbers


@pytest.mark.usefixtures("tiny_catalog")
@pytest.mark.parametrize("archive", ["gzip", "zip"])
def test_large_compressed_file_is_read_only_with_full(
    archive: str,
    tiny: Model,
    tiny_params: dict[str, Array],
    write: Write,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(inspection, "MAX_UNPACKED", write(tiny_params).stat().st_size - 1)
    path, packed = write(tiny_params), tmp_path / "packed"
    if archive == "gzip":
        packed.write_bytes(gzip.compress(path.read_bytes(), 1))
    else:
        with zipfile.ZipFile(packed, "w") as opened:
            opened.write(path, "a.params")
    result, complete = inspect(packed), inspect(packed, full=True)
    assert (result.archive, result.container, result.tensors) == (archive, None, None)
    assert result.remark == "packed; use --full to read the contents"
    assert (complete.archive, complete.container, complete.models) == (archive, "ndarray-list", (tiny,))
    assert (complete.file, complete.size, complete.remark) == ("packed", packed.stat().st_size, None)
    assert complete.sha1 == sha1(path)  # of the unpacked file


def test_damaged_file_in_an_archive_is_refused_by_the_archives_name(write: Write, tmp_path: Path) -> None:
    packed = tmp_path / "packed.params.gz"
    packed.write_bytes(gzip.compress(write({"a.weight": np.ones(9, np.float32)}).read_bytes()[:-1]))
    with pytest.raises(ParamsError, match=r"packed\.params\.gz: .*is the file truncated"):
        inspect(packed, full=True)


@pytest.mark.skipif(sys.platform != "linux", reason="needs VmHWM in /proc")
@pytest.mark.parametrize("write_file", [write_sparse_params, write_sparse_safetensors])
@pytest.mark.parametrize(("size", "full"), [(GIGABYTES, False), (SMALL, False), (SMALL, True)])
def test_only_headers_of_three_gigabytes_are_read(
    write_file: Callable[[Path, int], Path], size: int, full: bool, tmp_path: Path
) -> None:
    path = write_file(tmp_path / "huge", size)
    arguments = [sys.executable, "-c", PROGRAM, str(path), "full" * full]
    numbers, grown = map(int, subprocess.check_output(arguments, timeout=60).split())
    assert numbers == size // 4
    assert grown > SMALL if full else grown < SMALL // 8


@pytest.mark.parametrize("name", catalog.models())
def test_every_model_is_detected_from_its_headers(name: str, tmp_path: Path) -> None:
    model = catalog.find(name).with_config(num_classes=7)
    result = inspect(write_sparse(tmp_path / "a", gluon_arrays(model)))
    assert (result.models, result.nearest) == ((model,), None)


@pytest.mark.parametrize("version", ["c", "d"])
def test_models_with_equal_names_are_all_listed(version: str, tmp_path: Path) -> None:
    model = catalog.find(f"gluon_resnet50_v1{version}")
    both = inspect(write_sparse(tmp_path / "a", prefixed_arrays(model)))
    one = inspect(write_sparse(tmp_path / "b", prefixed_arrays(model, f"resnetv1{version}_")))
    assert [result.name for result in both.models] == ["gluon_resnet50_v1c", "gluon_resnet50_v1d"]
    assert (both.dialect, both.prefix) == ("stripped prefix", None)
    assert (one.dialect, one.prefix, one.models) == ("prefix", f"resnetv1{version}_", (model,))


def test_unknown_model_has_a_nearest(tmp_path: Path) -> None:
    arrays = gluon_arrays(catalog.find("gluon_senet154"))
    arrays |= {"features.99.gamma": np.ones(3, np.float32)}
    del arrays["features.0.weight"]
    result = inspect(write_sparse(tmp_path / "a", arrays))
    assert (result.models, result.nearest, result.dialect) == ((), "gluon_senet154", "structural")
    assert result.verdict.startswith(
        "parameters of no supported network; the closest is gluon_senet154; try "
    )
    assert (result.remark or "").splitlines() == [
        "missing     features.0.weight",
        "  unexpected  features.99.gamma      closest match: features.0.weight",
    ]


def test_names_in_no_style_get_a_remark(write: Write) -> None:
    result = inspect(write({"w": np.ones(3, np.float32), "count": np.ones(2, np.int32)}), full=True)
    assert result.verdict.startswith(
        "parameters of no supported network: these names follow no supported naming style; "
    )
    assert (result.remark or "").startswith("w\n  count\n  supported: ")
    assert (result.dialect, result.models, result.tensors, result.numbers) == (None, (), 2, 3)
    assert [(row.part, row.role) for row in result.statistics or ()] == [("all", "other")]


@pytest.mark.usefixtures("tiny_catalog")
def test_published_file_is_recognised_by_all_its_bytes(
    tiny: Model, tiny_params: dict[str, Array], write: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    fields = {name: getattr(tiny.entry, name) for name in tiny.entry.__struct_fields__}
    published = catalog.Entry(**{**fields, "params_sha1": sha1(write(tiny_params))})
    monkeypatch.setattr(catalog, "models", lambda: {"tiny": replace(tiny, entry=published)})
    assert inspect(write(tiny_params), full=True).official == "tiny"
    assert inspect(write(tiny_params)).official is None
    tiny_params["output.bias"].view(np.uint32)[0] ^= 1
    assert inspect(write(tiny_params), full=True).official is False


@pytest.mark.usefixtures("tiny_catalog")
def test_statistics_equal_numpys(tiny_params: dict[str, Array], write: Write) -> None:
    tiny_params["output.bias"][:4] = np.nan, np.inf, -np.inf, 0
    groups: dict[tuple[str, str], list[Array]] = {}
    for name, array in tiny_params.items():
        part = next(part for prefix, part in PARTS.items() if name.startswith(f"{prefix}."))
        groups.setdefault((part, name.rpartition(".")[2]), []).append(array.ravel())
    rows = {(row.part, row.role): row for row in inspect(write(tiny_params), full=True).statistics or ()}
    assert list(rows) == list(groups)
    for place, arrays in groups.items():
        joined = np.concatenate(arrays).astype(np.float64)
        finite, row = joined[np.isfinite(joined)], rows[place]
        assert (row.arrays, row.numbers, row.zeros) == (len(arrays), joined.size, (joined == 0).sum())
        assert (row.least, row.largest) == (finite.min(), finite.max())
        assert (row.mean, row.deviation) == pytest.approx((finite.mean(), finite.std()), rel=1e-12)
        assert row.not_finite == (3 if place == ("head", "bias") else 0)


@pytest.mark.parametrize("numbers", [[np.nan], [np.nan, np.inf, 1], [], [1e308] * 9, [-1e308, 1e308]])
@pytest.mark.parametrize("dtype", [np.float64, np.float16, BFLOAT16])
def test_document_is_strict_json_for_any_values(numbers: list[float], dtype: type, tmp_path: Path) -> None:
    with np.errstate(over="ignore"):
        safetensors.numpy.save_file({"w": np.array(numbers).astype(dtype)}, tmp_path / "a")
    document = inspection_document.document(inspect(tmp_path / "a", full=True))
    (row,) = json.loads(json.dumps(document, allow_nan=False))["statistics"]
    assert row["numbers"] == len(numbers)


def test_checksum_is_verified_only_with_full(tmp_path: Path) -> None:
    save_npz(tmp_path / "a", {"a.weight": np.ones(999, np.float32)})
    content = bytearray((tmp_path / "a").read_bytes())
    content[1000] ^= 1
    (tmp_path / "a").write_bytes(content)
    assert inspect(tmp_path / "a").numbers == 999
    with pytest.raises(
        ParamsError, match=r"^a: byte \d+: a\.weight\.npy: wrong checksum: the file is damaged"
    ):
        inspect(tmp_path / "a", full=True)


@pytest.mark.parametrize(
    ("content", "error", "message"),
    [
        (b"", CheckpointError, r"a: the file is empty"),
        (b"hello, world", CheckpointError, r"begins with b'hello, wo"),
        (b"\x1f\x8b" + bytes(16), SourceError, "cannot be unpacked: Unknown compression method"),
        (b"\x12\x01" + bytes(15), ParamsError, "is the file truncated"),
        (b"\x80nothing", CheckpointError, r"cannot be read as a weights-only \.pth"),
        (struct.pack("<Q", 99) + b"{", CheckpointError, "cannot be read as safetensors"),
    ],
)
def test_unreadable_file_is_refused(
    content: bytes, error: type[ConversionError], message: str, tmp_path: Path
) -> None:
    (tmp_path / "a").write_bytes(content)
    with pytest.raises(error, match=message):
        inspect(tmp_path / "a", full=True)
