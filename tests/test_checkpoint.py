from __future__ import annotations

import contextlib
import itertools
import json
import os
import pickle
import struct
import zipfile
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import safetensors.numpy
import safetensors.torch
import torch
from torch import nn

from converter.dtypes import BFLOAT16
from converter.errors import CheckpointError, ParamsError, SourceError, StorageError
from converter.formats import archives, checkpoint, detect
from converter.formats.kinds import Kind
from converter.progress import silent

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from converter.dtypes import Array
    from converter.formats.file_arrays import Arrays

ARRAYS: dict[str, Array] = {
    "conv1.weight": np.arange(12, dtype=np.float32).reshape(1, 3, 2, 2),
    "bn1.bias": np.array([-0.0, np.nan, 1e-42], np.float32),
    "bn1.running_mean": np.ones(2, np.float16),
    "bn1.num_batches_tracked": np.full(1, 3),
}
STATE = {name: torch.from_numpy(array) for name, array in ARRAYS.items()}
FORMATS = {
    "safetensors": lambda path: safetensors.numpy.save_file(ARRAYS, path),
    "pth": lambda path: torch.save(STATE, path),
    "legacy": lambda path: torch.save(STATE, path, _use_new_zipfile_serialization=False),
}


def save(content: object, path: Path) -> Path:
    torch.save(content, path)
    return path


def assert_same(arrays: Arrays, expected: Arrays = ARRAYS) -> None:
    assert {
        name: (array.dtype, array.shape, np.asarray(array).tobytes()) for name, array in arrays.items()
    } == {name: (array.dtype, array.shape, np.asarray(array).tobytes()) for name, array in expected.items()}


@pytest.mark.parametrize("write_file", FORMATS.values(), ids=FORMATS)
def test_every_format_is_read_bit_for_bit(write_file: Callable[[Path], None], tmp_path: Path) -> None:
    write_file(tmp_path / "a")
    assert_same(checkpoint.read(tmp_path / "a"))


def with_header(header: bytes, data: bytes, path: Path) -> Path:
    path.write_bytes(struct.pack("<Q", len(header)) + header + data)
    return path


@pytest.mark.parametrize("order", [*itertools.permutations(ARRAYS)], ids=lambda order: "-".join(order)[:40])
def test_safetensors_values_do_not_depend_on_the_data_order(order: tuple[str, ...], tmp_path: Path) -> None:
    ends = list(itertools.accumulate(ARRAYS[name].nbytes for name in order))
    types = {np.dtype(np.float32): "F32", np.dtype(np.float16): "F16", np.dtype(np.int64): "I64"}
    entries = {
        name: {
            "dtype": types[ARRAYS[name].dtype],
            "shape": ARRAYS[name].shape,
            "data_offsets": (end - ARRAYS[name].nbytes, end),
        }
        for name, end in zip(order, ends, strict=True)
    }
    header = json.dumps({name: entries[name] for name in ARRAYS}).encode()
    path = with_header(header, b"".join(ARRAYS[name].tobytes() for name in order), tmp_path / "a")
    assert_same(safetensors.numpy.load_file(path))
    assert_same(checkpoint.read(path))


@pytest.mark.parametrize(
    "header",
    [
        b'{"a":{"dtype":"F32","shape":[2],"data_offsets":[8,16]},"a":{"dtype":"F32","shape":[4],"data_offsets":[0,16]}}',
        b'{"\\u0061":{"dtype":"F32","shape":[4],"data_offsets":[0,16]}}',
        b'{"__metadata__":null,"a":{"dtype":"F32","shape":[4],"data_offsets":[0,16]}}',
        b'{"a":{"dtype":"F32","shape":[4],"data_offsets":[0,16],"more":1}}  ',
    ],
    ids=["duplicate name", "escaped name", "no metadata", "unknown key"],
)
def test_unusual_header_is_read_as_safetensors_reads_it(header: bytes, tmp_path: Path) -> None:
    path = with_header(header, np.arange(4, dtype=np.float32).tobytes(), tmp_path / "a")
    assert_same(checkpoint.read(path), safetensors.numpy.load_file(path))


def test_header_that_safetensors_never_writes_is_refused(tmp_path: Path) -> None:
    path = with_header(b'{"a":["F32",[4],[0,16]]}', np.arange(4, dtype=np.float32).tobytes(), tmp_path / "a")
    assert list(safetensors.numpy.load_file(path)) == ["a"]
    with pytest.raises(CheckpointError, match="a: its header has a form that safetensors does not write"):
        checkpoint.read(path)


@pytest.mark.parametrize("entry", ['{"data_offsets":["0",16]}', '{"data_offsets":[0.5,16]}', "[]", "null"])
def test_header_replaced_while_reading_is_refused(
    entry: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = np.arange(4, dtype=np.float32).tobytes()
    path = with_header(
        b'{"a":{"dtype":"F32","shape":[4],"data_offsets":[0,16]}}'.ljust(80), data, tmp_path / "a"
    )

    @contextlib.contextmanager
    def open_then_replace(*_: object, **__: object) -> Iterator[Any]:
        with safetensors.safe_open(path, framework="np") as opened:
            yield opened
        with path.open("r+b") as stream:
            stream.seek(8)
            stream.write(f'{{"a":{entry}}}'.ljust(80).encode())

    monkeypatch.setattr("converter.formats.checkpoint.safe_open", open_then_replace)
    with pytest.raises(StorageError, match="a: the file was changed while it was read"):
        checkpoint.read(path)


def test_params_file_is_read(write: Callable[[dict[str, Array]], Path]) -> None:
    assert_same(checkpoint.read(write(ARRAYS)))


def test_format_is_detected_from_the_content(tmp_path: Path) -> None:
    assert_same(checkpoint.read(save(STATE, tmp_path / "a.safetensors")))


@pytest.mark.parametrize("wrapper", ["state_dict", "model", "state_dict_ema", "model_ema"])
def test_state_dict_is_found_in_a_training_checkpoint(wrapper: str, tmp_path: Path) -> None:
    assert_same(checkpoint.read(save({"epoch": 3, "optimizer": {}, wrapper: STATE}, tmp_path / "a")))


@pytest.mark.parametrize("prefix", ["module.", "_orig_mod.", "module._orig_mod.", "_orig_mod.module."])
def test_wrapper_prefix_is_removed(prefix: str, tmp_path: Path) -> None:
    wrapped = {f"{prefix}{name}": tensor for name, tensor in STATE.items()}
    assert_same(checkpoint.read(save(wrapped, tmp_path / "a.pth")))
    safetensors.torch.save_file(wrapped, tmp_path / "a.safetensors")
    assert_same(checkpoint.read(tmp_path / "a.safetensors"))


def test_prefix_of_only_some_names_is_kept(tmp_path: Path) -> None:
    state = {"module.weight": torch.zeros(1), "weight": torch.ones(1)}
    assert checkpoint.read(save(state, tmp_path / "a")) == {"module.weight": 0, "weight": 1}


def test_parameters_that_require_gradients_are_read(tmp_path: Path) -> None:
    parameter = nn.Parameter(torch.ones(2))
    assert_same(checkpoint.read(save({"a": parameter}, tmp_path / "a")), {"a": np.ones(2, np.float32)})


class Toucher:
    """Runs a shell command when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return os.system, (f"touch '{self.path}'",)


@pytest.mark.parametrize("options", [{}, {"_use_new_zipfile_serialization": False}], ids=["zip", "legacy"])
def test_pickle_is_not_executed(options: dict[str, bool], tmp_path: Path) -> None:
    touched = tmp_path / "touched"
    torch.save({"a": torch.ones(2), "b": Toucher(touched)}, tmp_path / "a.pth", **options)
    with pytest.raises(
        CheckpointError, match=r"a\.pth: cannot .* weights-only .*: it calls (posix|nt)\.system; "
    ):
        checkpoint.read(tmp_path / "a.pth")
    assert not touched.exists()
    torch.load(tmp_path / "a.pth", weights_only=False)  # negative control: this file executes code
    assert touched.exists()


def test_bare_pickle_is_not_executed(tmp_path: Path) -> None:
    touched = tmp_path / "touched"
    (tmp_path / "a.pth").write_bytes(pickle.dumps(Toucher(touched)))
    with pytest.raises(CheckpointError, match=r"a\.pth: a pickle of Python objects, not a file of param"):
        checkpoint.read(tmp_path / "a.pth")
    assert not touched.exists()
    pickle.loads((tmp_path / "a.pth").read_bytes())  # noqa: S301 - negative control, as above
    assert touched.exists()


def test_pickled_module_is_refused_with_a_hint(tmp_path: Path) -> None:
    path = save({"model": nn.Linear(2, 2)}, tmp_path / "a.pth")
    expected = (
        r"it calls torch\.nn\.modules\.linear\.Linear; save it with torch\.save\(model\.state_dict\(\), …\)"
    )
    with pytest.raises(CheckpointError, match=expected):
        checkpoint.read(path)


NEITHER = r"not a \.safetensors, \.pth or \.params file: it begins with b'"
NO_SAFETENSORS = "cannot be read as safetensors: "
NO_ZIP = r"cannot be read as a weights-only \.pth: File is not a zip file"
NO_PICKLE = r"cannot be read as a weights-only \.pth: (?!File is not a zip file)"


@pytest.mark.parametrize(
    ("form", "kept", "message"),
    [
        *(("safetensors", kept, NEITHER) for kept in (1, 8)),
        *(("safetensors", kept, NO_SAFETENSORS) for kept in (9, 60, -200, -1)),
        ("pth", 1, NEITHER),
        *(("pth", kept, NO_ZIP) for kept in (8, 9, 60, -200, -1)),
        *(("legacy", kept, NO_PICKLE) for kept in (1, 8, 9, 60, -200, -1)),
    ],
)
def test_truncated_file_is_refused(form: str, kept: int, message: str, tmp_path: Path) -> None:
    FORMATS[form](tmp_path / "whole")
    (tmp_path / "a").write_bytes((tmp_path / "whole").read_bytes()[:kept])
    with pytest.raises(CheckpointError, match=f"a: {message}"):
        checkpoint.read(tmp_path / "a")


@pytest.mark.parametrize("write_file", FORMATS.values(), ids=FORMATS)
def test_damaged_file_is_read_or_refused(write_file: Callable[[Path], None], tmp_path: Path) -> None:
    write_file(tmp_path / "whole")
    content = (tmp_path / "whole").read_bytes()
    outcomes = {damage(content, place, tmp_path / "a") for place in range(0, len(content), 7)}
    assert outcomes == {"read", "refused"}


def damage(content: bytes, place: int, path: Path) -> str:
    path.write_bytes(content[:place] + bytes([content[place] ^ 0x55]) + content[place + 1 :])
    try:
        checkpoint.read(path)
    except (CheckpointError, ParamsError):
        return "refused"
    return "read"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", r"a: the file is empty"),
        (b"GIF89a, and more", r"a: not a .*: it begins with b'GIF89a, a'"),
        (b"PK\x03\x04 and no more", r"a: cannot be read as a weights-only \.pth: File is not a zip file"),
        (b"\x80\x02", r"a: cannot be read as a weights-only \.pth: pickle exhausted before"),
        (b"\x02\0\0\0\0\0\0\0{]", r"a: cannot be read as safetensors: .*header"),
    ],
)
def test_unknown_format_is_refused(content: bytes, message: str, tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(content)
    with pytest.raises(CheckpointError, match=message):
        checkpoint.read(tmp_path / "a")


def test_truncated_params_file_is_refused(write: Callable[[dict[str, Array]], Path]) -> None:
    path = write(ARRAYS)
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(ParamsError, match="is the file truncated"):
        checkpoint.read(path)


@pytest.mark.parametrize(("name", "message"), [("", "a folder, not a file"), ("none.pth", "No such file")])
def test_folder_or_missing_file_is_refused(name: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(StorageError, match=message):
        checkpoint.read(tmp_path / name)


@pytest.mark.parametrize("content", [{}, [torch.ones(1)], torch.ones(1), {"state_dict": {}}])
def test_file_without_a_state_dict_is_refused(content: object, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"a\.pth: expected a state dict, found no tensors"):
        checkpoint.read(save(content, tmp_path / "a.pth"))


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (3, "expected a tensor, found int"),
        ({"weight": torch.ones(1)}, "expected a tensor, found dict"),
        (torch.ones(1).to(torch.float8_e4m3fn), "Got unsupported ScalarType Float8_e4m3fn"),
        (torch.eye(2).to_sparse(), "can't convert Sparse layout tensor to numpy"),
        (torch.ones(1, device="meta"), "can't convert meta device type tensor to numpy"),
    ],
    ids=["number", "dict", "float8", "sparse", "meta"],
)
def test_unreadable_entries_are_named(value: object, message: str, tmp_path: Path) -> None:
    content = STATE | dict.fromkeys(["layer1.0.a", "layer1.1.a"], value)
    expected = rf"a\.pth: some entries cannot be read as arrays\n  layer1\.\{{0…1\}}\.a: {message}"
    with pytest.raises(CheckpointError, match=expected):
        checkpoint.read(save(content, tmp_path / "a.pth"))


def test_safetensors_dtype_unknown_to_numpy_is_refused(tmp_path: Path) -> None:
    weight = torch.ones(1).to(torch.float8_e4m3fn)
    safetensors.torch.save_file(STATE | {"fc.weight": weight}, tmp_path / "a")
    with pytest.raises(CheckpointError, match=r"a: some entries.*\n  fc\.weight: unsupported type F8_E4M3$"):
        checkpoint.read(tmp_path / "a")


@pytest.mark.parametrize("form", ["pth", "safetensors"])
def test_bfloat16_is_read_bit_for_bit(form: str, tmp_path: Path) -> None:
    weight = torch.randn(5, 3, generator=torch.Generator().manual_seed(0)).to(torch.bfloat16)
    path = tmp_path / f"a.{form}"
    if form == "pth":
        torch.save({"fc.weight": weight.T}, path)
    else:
        safetensors.torch.save_file({"fc.weight": weight.T.contiguous()}, path)
    values = np.asarray(checkpoint.read(path)["fc.weight"])
    assert values.dtype == BFLOAT16
    assert torch.equal(torch.tensor(values.view(np.int16)), weight.T.contiguous().view(torch.int16))


def test_every_unreadable_entry_is_named(tmp_path: Path) -> None:
    path = save({"epoch" * number: number for number in range(1, 31)}, tmp_path / "a.pth")
    with pytest.raises(CheckpointError, match=r"(\n  (epoch)+: .*){30}$"):
        checkpoint.read(path)


def test_header_length_resembling_a_pickle_is_read_as_safetensors(tmp_path: Path) -> None:
    for size in range(200):  # until the first byte, part of the header's length, equals a pickle's first byte
        safetensors.numpy.save_file({"a" * size: np.ones(1, np.float32)}, tmp_path / "a")
        if (tmp_path / "a").read_bytes()[0] == 0x80:
            break
    assert (tmp_path / "a").read_bytes().startswith(b"\x80")
    assert detect.kind(tmp_path / "a") is Kind.safetensors
    assert list(checkpoint.read(tmp_path / "a")) == ["a" * size]
    torch.save({"a": torch.ones(1)}, tmp_path / "b", _use_new_zipfile_serialization=False)
    assert (tmp_path / "b").read_bytes().startswith(b"\x80")
    assert detect.kind(tmp_path / "b") is Kind.torch


def test_safetensors_starting_like_a_zip_is_refused(tmp_path: Path) -> None:
    header = b'{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}'
    length = int.from_bytes(b"PK\x03\x04", "little")
    with (tmp_path / "a").open("wb") as stream:
        stream.write(struct.pack("<Q", length) + header.ljust(length) + bytes(4))
    with zipfile.ZipFile(tmp_path / "a", "a") as archive:
        archive.writestr("x.params", b"")
    with pytest.raises(CheckpointError, match="a: ambiguous: begins like a zip and like a safetensors"):
        checkpoint.read(tmp_path / "a")
    with pytest.raises(CheckpointError, match="a: ambiguous"):
        archives.unpack(tmp_path / "a", tmp_path / "unpacked", silent)


def test_pth_containing_params_is_refused(tmp_path: Path) -> None:
    path = save(STATE, tmp_path / "a.pth")
    assert_same(checkpoint.read(path))
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("a/x.params", b"")
    with pytest.raises(
        SourceError, match=r"a\.pth: ambiguous zip: contains both a \.params and 'a/data.pkl'"
    ):
        checkpoint.read(path)
