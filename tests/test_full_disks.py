"""A full or read-only disk is refused with the path, and no output remains."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import faults
import pytest

from converter.commands import conversion, reverse_conversion
from converter.errors import ArtifactError, ConversionError, ReferenceFailedError, StorageError
from converter.formats import archives
from converter.networks.selection import ParamsSource
from converter.parity.options import ParityOptions
from converter.progress import silent
from converter.references import gluon
from converter.references.probes import Probe
from converter.storage import disk

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from converter.dtypes import Array
    from converter.networks.catalog import Model

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="needs Linux mounts and limits")

KILOBYTE, MEGABYTE = 1 << 10, 1 << 20
UNPROVEN = ParityOptions("none")
MODEL = "gluon_resnet18_v1b"
NO_ROOM = "No space left on device"


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Callable[..., Path]]:
    """Return a function that mounts an in-memory disk of a given size, with extra mount options."""
    mounted: list[Path] = []

    def mount(size: int, options: str = "") -> Path:
        place = tmp_path / f"disk{len(mounted)}"
        place.mkdir()
        command = ["mount", "-t", "tmpfs", "-o", f"size={size}{options}", "tmpfs", str(place)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            pytest.skip(f"no disk can be mounted: {done.stderr.strip()}")
        mounted.append(place)
        return place

    yield mount
    for place in mounted:
        subprocess.run(["umount", place], check=True)  # noqa: S607 - wherever umount is installed


@pytest.fixture
def params(tiny_params: dict[str, Array], write: Callable[[dict[str, Array]], Path]) -> Path:
    return write(tiny_params)


def tiny_request(
    model: Model, params: Path, out: Path, *, as_pth: bool = False
) -> conversion.ConversionRequest:
    return conversion.ConversionRequest(
        source=ParamsSource(model, params), out=out, options=UNPROVEN, pth=as_pth
    )


# The safetensors and the .pth have 11.4 MB each: room for a page, half a file, one file and a half.
@pytest.mark.parametrize("size", [16 * KILOBYTE, 6 * MEGABYTE, 17 * MEGABYTE])
def test_full_disk_is_named_and_left_empty(
    small_disk: Callable[..., Path], tiny: Model, params: Path, size: int
) -> None:
    out = small_disk(size)
    with pytest.raises(StorageError, match=f"{out}: cannot be written: {NO_ROOM}"):
        conversion.run(tiny_request(tiny, params, out, as_pth=True))
    assert not faults.contents(out)


def test_no_room_for_the_manifest_leaves_no_weights(
    small_disk: Callable[..., Path], tiny: Model, params: Path, tmp_path: Path
) -> None:
    made = conversion.run(tiny_request(tiny, params, tmp_path / "out")).artifact.stat().st_size
    out = small_disk(-(-made // 4096) * 4096)  # just the pages that the weights fill
    with pytest.raises(StorageError, match=f"{out}: cannot be written: {NO_ROOM}"):
        conversion.run(tiny_request(tiny, params, out))
    assert not faults.contents(out)


@pytest.mark.parametrize("limit", [100, MEGABYTE, 11 * MEGABYTE])
@pytest.mark.parametrize("as_pth", [False, True])
def test_file_size_limit_is_reported_as_a_refusal(
    tiny: Model, params: Path, tmp_path: Path, limit: int, *, as_pth: bool
) -> None:
    request = tiny_request(tiny, params, tmp_path / "out", as_pth=as_pth)
    message_file = tmp_path / "told"
    assert faults.finish(faults.start(faults.convert_reporting, request, tmp_path, message_file, limit)) == 0
    assert message_file.read_text() == f"{request.out}: cannot be written: File too large"
    assert not request.out.exists()


def test_full_disk_is_reported_when_writing_params(
    small_disk: Callable[..., Path], tiny: Model, params: Path, tmp_path: Path
) -> None:
    weights = conversion.run(tiny_request(tiny, params, tmp_path / "out")).artifact
    folder = small_disk(MEGABYTE)
    with pytest.raises(StorageError, match=f"back.params: cannot be written: {NO_ROOM}"):
        reverse_conversion.run(
            reverse_conversion.ToGluonRequest(
                weights=weights, out=folder / "back.params", model=tiny, options=UNPROVEN
            )
        )
    assert not faults.contents(folder)


def test_full_disk_is_reported_when_writing_text(small_disk: Callable[..., Path]) -> None:
    report = small_disk(16 * KILOBYTE) / "report.html"
    with pytest.raises(StorageError, match=f"report.html: cannot be written: {NO_ROOM}"):
        disk.write_text(report, "x" * MEGABYTE)
    assert not faults.contents(report.parent)


def test_full_disk_is_distinguished_from_a_damaged_archive(
    small_disk: Callable[..., Path], tmp_path: Path
) -> None:
    import gzip  # noqa: PLC0415 - used only here

    packed = tmp_path / "big.params.gz"
    packed.write_bytes(gzip.compress(os.urandom(MEGABYTE)))
    unpacked = small_disk(16 * KILOBYTE) / "unpacked.params"
    with pytest.raises(StorageError, match=f"unpacked.params: cannot be written: {NO_ROOM}"):
        archives.unpack(packed, unpacked, silent)


@pytest.mark.parametrize("room", [8 * KILOBYTE, 4 * MEGABYTE])
def test_full_temporary_folder_is_reported_as_a_refusal(
    small_disk: Callable[..., Path], tmp_path: Path, room: int
) -> None:
    temporary, output = small_disk(room), tmp_path / "said"
    arguments = ["convert", MODEL, str(tmp_path / "out"), "--random", "0", "--reference", "none"]
    assert faults.finish(faults.start(faults.command, arguments, temporary, output)) == 1
    assert output.read_text() == f"refused  {temporary}: cannot be written: {NO_ROOM}\n"
    assert not faults.contents(temporary)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("room", "error", "message"),
    [
        (8 * KILOBYTE, StorageError, r"cannot be written: \d+ requested and \d+ written"),
        (256 * KILOBYTE, ReferenceFailedError, "no space for GluonCV's outputs"),
    ],
)
def test_reference_outputs_that_fill_the_disk_are_a_refusal(
    small_disk: Callable[..., Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    room: int,
    error: type[ConversionError],
    message: str,
) -> None:
    filler = tmp_path / "filler"
    filler.write_text("#!/bin/sh\nexec cat /dev/zero >$2/0-0.npy\n")
    filler.chmod(0o755)
    temporary = small_disk(room)
    monkeypatch.setattr("tempfile.tempdir", str(temporary))
    probes = (Probe("float32", (65, 95)),)
    with (
        pytest.raises(error, match=message),
        gluon.start(filler, gluon.GluonRequest(layers=("features.0",), document={}), probes) as run,
    ):
        run.outputs(0)
    assert not faults.contents(temporary)


def test_read_only_disk_is_refused_before_any_work(
    small_disk: Callable[..., Path], tiny: Model, tmp_path: Path
) -> None:
    out = small_disk(MEGABYTE, ",ro")
    with pytest.raises(StorageError, match=f"{out}: cannot be written: Read-only file system"):
        conversion.run(tiny_request(tiny, tmp_path / "not read yet", out))


@pytest.mark.parametrize(("inside", "message"), [("", "File exists"), ("/deeper", "Not a directory")])
def test_output_folder_that_is_a_file_is_refused(
    tiny: Model, params: Path, inside: str, message: str
) -> None:
    with pytest.raises(StorageError, match=f"holiday.params{inside}: cannot be written: {message}$"):
        conversion.run(tiny_request(tiny, params, Path(f"{params}{inside}")))


def test_missing_labels_file_is_refused_before_any_work(tiny: Model, tmp_path: Path) -> None:
    source = ParamsSource(tiny, tmp_path / "not read yet")
    request = conversion.ConversionRequest(
        source=source, out=tmp_path, options=UNPROVEN, labels=tmp_path / "classes.txt"
    )
    with pytest.raises(StorageError, match=r"classes\.txt: No such file or directory"):
        conversion.run(request)


def test_folder_at_the_manifest_path_is_refused(tiny: Model, params: Path, tmp_path: Path) -> None:
    name = conversion.run(tiny_request(tiny, params, tmp_path / "first")).manifest_file.name
    (tmp_path / "out" / name).mkdir(parents=True)
    with pytest.raises(ArtifactError, match=r"\.json: cannot be written: a folder has this name"):
        conversion.run(tiny_request(tiny, params, tmp_path / "out"))
    assert faults.contents(tmp_path / "out") == [name]
