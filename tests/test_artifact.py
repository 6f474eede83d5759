from __future__ import annotations

import errno
import hashlib
import os
import struct
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from converter.errors import ArtifactError, StorageError
from converter.formats import artifact
from converter.formats.file_arrays import PIECE
from converter.progress import silent
from converter.storage import background

if TYPE_CHECKING:
    from pathlib import Path

    from converter.dtypes import Array

STATE: dict[str, Array] = {
    "conv1.weight": np.arange(6, dtype=np.float32).reshape(1, 2, 3, 1),
    "bn1.num_batches_tracked": np.zeros((), np.int64),
    "bn1.bias": np.array([-0.0, np.nan, 1e-42], np.float32),
}
HEADER = (
    b'{"__metadata__":{"format":"pt"},'
    b'"bn1.num_batches_tracked":{"dtype":"I64","shape":[],"data_offsets":[0,8]},'
    b'"bn1.bias":{"dtype":"F32","shape":[3],"data_offsets":[8,20]},'
    b'"conv1.weight":{"dtype":"F32","shape":[1,2,3,1],"data_offsets":[20,44]}}'
)


MANIFEST = b'{"a": "\xc3\x97"}\n'


def write(folder: Path, state: dict[str, Array] = STATE) -> Path:
    with artifact.draft(folder, state, silent) as written:
        return artifact.publish(written, folder / "a.safetensors", b"{}").with_suffix(".safetensors")


def test_file_has_the_documented_bytes(tmp_path: Path) -> None:
    padded = HEADER + b" " * (-len(HEADER) % 8)
    buffers = b"".join(
        STATE[name].tobytes() for name in ("bn1.num_batches_tracked", "bn1.bias", "conv1.weight")
    )
    assert write(tmp_path).read_bytes() == struct.pack("<Q", len(padded)) + padded + buffers


def test_bytes_equal_those_of_the_safetensors_library(tmp_path: Path, tiny_params: dict[str, Array]) -> None:
    for number, state in enumerate((STATE, tiny_params | STATE)):
        save_file(state, tmp_path / "theirs", metadata={"format": "pt"})
        ours = write(tmp_path / str(number), state)
        assert ours.read_bytes() == (tmp_path / "theirs").read_bytes()


def test_bytes_do_not_depend_on_the_tensor_order(tmp_path: Path) -> None:
    backwards = dict(reversed(STATE.items()))
    assert write(tmp_path / "a").read_bytes() == write(tmp_path / "b", backwards).read_bytes()


def test_safetensors_library_reads_every_bit_back(tmp_path: Path) -> None:
    state = load_file(write(tmp_path))
    assert {name: array.tobytes() for name, array in state.items()} == {
        name: array.tobytes() for name, array in STATE.items()
    }


def test_draft_reports_the_files_hash_and_size(tmp_path: Path) -> None:
    with artifact.draft(tmp_path, STATE, silent) as written:
        content = written.path.read_bytes()
    assert written.sha256 == hashlib.sha256(content).hexdigest()
    assert written.size == len(content)
    assert artifact.file_name("net", written.sha256) == f"net-{written.sha256[:8]}.safetensors"


def test_unpublished_draft_is_deleted(tmp_path: Path) -> None:
    with artifact.draft(tmp_path, STATE, silent):
        assert len(list(tmp_path.iterdir())) == 1
    assert list(tmp_path.iterdir()) == []


def test_draft_is_deleted_after_an_error(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="stop"), artifact.draft(tmp_path, STATE, silent):
        raise RuntimeError("stop")
    assert list(tmp_path.iterdir()) == []


def test_intact_draft_verifies(tmp_path: Path) -> None:
    with artifact.draft(tmp_path, STATE, silent) as written:
        artifact.verify(written, STATE)


@pytest.mark.parametrize("place", range(0, 8 + len(HEADER) + 44, 5))
def test_flipped_byte_anywhere_is_detected(tmp_path: Path, place: int) -> None:
    with artifact.draft(tmp_path, STATE, silent) as written:
        content = bytearray(written.path.read_bytes())
        content[place] ^= 1
        written.path.write_bytes(content)
        with pytest.raises(ArtifactError, match="read-back check failed: "):
            artifact.verify(written, STATE)


@pytest.mark.parametrize(("cut", "tail"), [(1, b""), (0, b"\0")])
def test_missing_or_extra_byte_is_detected(tmp_path: Path, cut: int, tail: bytes) -> None:
    with artifact.draft(tmp_path, STATE, silent) as written:
        content = written.path.read_bytes()
        written.path.write_bytes(content[: len(content) - cut] + tail)
        with pytest.raises(ArtifactError, match="read-back check failed: "):
            artifact.verify(written, STATE)


def test_every_chunk_of_a_large_tensor_is_verified(tmp_path: Path) -> None:
    state = {"w": np.arange(2 * PIECE + 5, dtype=np.uint8)}
    for place in (0, PIECE - 1, PIECE, 2 * PIECE + 4):
        with artifact.draft(tmp_path, state, silent) as written:
            artifact.verify(written, state)
            changed = {"w": state["w"].copy()}
            changed["w"][place] ^= 1
            with pytest.raises(ArtifactError, match="read-back check failed: w differs"):
                artifact.verify(written, changed)


def test_differing_tensor_is_named(tmp_path: Path) -> None:
    with artifact.draft(tmp_path, STATE, silent) as written:
        content = bytearray(written.path.read_bytes())
        content[-1] ^= 1
        written.path.write_bytes(content)
        with pytest.raises(ArtifactError, match=r"read-back check failed: conv1\.weight differs"):
            artifact.verify(written, STATE)


def test_negative_zero_differs_from_zero(tmp_path: Path) -> None:
    with artifact.draft(tmp_path, STATE, silent) as written:
        positive = STATE | {"bn1.bias": np.array([0.0, np.nan, 1e-42], np.float32)}
        with pytest.raises(ArtifactError, match=r"bn1\.bias differs"):
            artifact.verify(written, positive)


def test_manifest_is_published_next_to_the_artifact(tmp_path: Path) -> None:
    with artifact.draft(tmp_path, STATE, silent) as written:
        manifest_path = artifact.publish(written, tmp_path / "net-01234567.safetensors", MANIFEST)
    assert manifest_path == tmp_path / "net-01234567.json"
    assert manifest_path.read_bytes() == MANIFEST
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "net-01234567.json",
        "net-01234567.safetensors",
    ]


def test_symlink_with_the_final_name_is_replaced_not_followed(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.write_text("precious")
    folder = tmp_path / "out"
    folder.mkdir()
    (folder / "a.safetensors").symlink_to(outside)
    write(folder)
    assert outside.read_text() == "precious"
    assert not (folder / "a.safetensors").is_symlink()


@pytest.mark.parametrize("name", ["a.safetensors", "a.json"])
def test_folder_with_a_final_name_is_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / name).mkdir()
    with pytest.raises(ArtifactError, match=f"{name}: cannot be written: a folder has this name"):
        write(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_header_with_other_names_types_or_metadata_is_refused(tmp_path: Path) -> None:
    save_file(STATE, tmp_path / "good", metadata={"format": "pt"})
    save_file(STATE, tmp_path / "bare")
    artifact._verify_header(tmp_path / "good", STATE)
    with pytest.raises(ArtifactError, match="other names, types or shapes"):
        artifact._verify_header(tmp_path / "good", STATE | {"more": np.zeros(1, np.float32)})
    with pytest.raises(ArtifactError, match=r"expected metadata \{'format': 'pt'\}, found None"):
        artifact._verify_header(tmp_path / "bare", STATE)


def test_files_and_folder_are_flushed_to_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    flushed = []
    monkeypatch.setattr("os.fsync", lambda descriptor: flushed.append(os.fstat(descriptor).st_ino))
    weights = write(tmp_path)
    files = (weights, weights.with_suffix(".json"), tmp_path)
    assert sorted(flushed) == sorted(path.stat().st_ino for path in files)


def test_background_flush_error_leaves_no_files(tmp_path: Path) -> None:
    def fail() -> None:
        raise OSError(errno.EIO, "Input/output error")

    failed = background.start(fail)
    with (
        pytest.raises(StorageError, match="cannot be written: Input/output error"),
        artifact.draft(tmp_path, STATE, silent) as written,
    ):
        artifact.publish(replace(written, flushed=failed), tmp_path / "a.safetensors", b"{}")
    assert list(tmp_path.iterdir()) == []


def test_output_folder_that_is_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "out").write_text("a file")
    with (
        pytest.raises(StorageError, match="out: cannot be written: File exists"),
        artifact.draft(tmp_path / "out", STATE, silent),
    ):
        pass


def test_full_disk_leaves_no_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(StorageError, match="cannot be written: No space left on device"):
        write(tmp_path)
    assert list(tmp_path.iterdir()) == []
