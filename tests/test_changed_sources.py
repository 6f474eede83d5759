"""A source that is modified, truncated or removed while it is read is refused, without a crash."""

from __future__ import annotations

import mmap
import os
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import faults
import pytest
import safetensors.numpy

from converter.commands import conversion, diff, parity_check, reverse_conversion
from converter.errors import LabelsError, StorageError
from converter.formats import array_comparison
from converter.formats.params import write_params
from converter.networks import matching
from converter.networks.selection import ParamsSource
from converter.parity.options import ParityOptions

if TYPE_CHECKING:
    from collections.abc import Callable

    from converter.dtypes import Array
    from converter.formats.array_comparison import TensorDiff
    from converter.formats.file_arrays import AnyArray
    from converter.networks.catalog import Model

CHANGED = "the file was changed while it was read"
AGAINST_NUMPY = ParityOptions("numpy", sizes=[(33, 33)], dtypes=["float32"])
ROUNDS = 10


@pytest.fixture
def params(tiny_params: dict[str, Array], write: Callable[[dict[str, Array]], Path]) -> Path:
    return write(tiny_params)


def overwrite(path: Path) -> None:
    """Change a byte and restore the modification time."""
    before = path.stat()
    with path.open("r+b") as stream:
        stream.seek(before.st_size // 2)
        stream.write(b"\x55")
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


CHANGES: dict[str, tuple[Callable[[Path], None], str]] = {
    "emptied": (lambda path: os.truncate(path, 0), CHANGED),
    "cut off": (lambda path: os.truncate(path, path.stat().st_size // 2), CHANGED),
    "longer": (lambda path: os.truncate(path, path.stat().st_size + 1), CHANGED),
    "written to, of the same age": (overwrite, CHANGED),
    "removed": (os.unlink, "No such file or directory"),
}


@pytest.mark.skipif(sys.platform == "win32", reason="Windows locks open files")
@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("step", ["writing", "proving"])
def test_changed_source_is_refused_and_leaves_no_files(
    tiny: Model, params: Path, tmp_path: Path, change: str, step: str
) -> None:
    do, message = CHANGES[change]
    out, done = tmp_path / "out", list[str]()

    def progress(at: str, *_: int) -> None:
        if at == step and not done:
            done.append(at)
            do(params)

    with pytest.raises(StorageError, match=message):
        conversion.run(
            conversion.ConversionRequest(source=ParamsSource(tiny, params), out=out, options=AGAINST_NUMPY),
            progress,
        )
    assert not out.exists()


def test_change_takes_precedence_over_another_error(
    tiny: Model, params: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        overwrite(params)
        raise LabelsError("something else")

    monkeypatch.setattr("converter.formats.artifact.verify", refuse)
    with pytest.raises(StorageError, match=CHANGED):
        conversion.run(
            conversion.ConversionRequest(
                source=ParamsSource(tiny, params), out=tmp_path / "out", options=ParityOptions("none")
            )
        )


@pytest.mark.skipif(sys.platform == "win32", reason="Windows locks folders with open files")
@pytest.mark.parametrize(
    "consumer", ["converter.networks.loading.open_params", "converter.sources.params_file.sha1"]
)
def test_temporarily_swapped_file_is_refused(
    tiny: Model, tiny_params: dict[str, Array], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, consumer: str
) -> None:
    for name in ("mine", "theirs"):
        (tmp_path / name).mkdir()
        tiny_params["output.bias"][0] += 1
        with (tmp_path / name / "a.params").open("wb") as stream:
            write_params(stream, tiny_params)
    swapping, module, function = Path(tmp_path / "swapped"), *consumer.rsplit(".", 1)
    read = getattr(sys.modules[module], function)

    def swap() -> None:
        for old, new in (("mine", swapping.name), ("theirs", "mine"), (swapping.name, "theirs")):
            (tmp_path / old).rename(tmp_path / new)

    def read_theirs(*arguments: object, **named: object) -> object:
        swap()
        try:
            return read(*arguments, **named)
        finally:
            swap()

    monkeypatch.setattr(consumer, read_theirs)
    request = conversion.ConversionRequest(
        source=ParamsSource(tiny, tmp_path / "mine/a.params"),
        out=tmp_path / "out",
        options=ParityOptions("none"),
    )
    # A race: the SHA-1 is computed in another thread, which may find no file between two renames.
    with pytest.raises(StorageError, match=f"{CHANGED}|No such file or directory"):
        conversion.run(request)
    assert not (tmp_path / "out").exists()


@pytest.fixture
def checkpoint(tiny: Model, tiny_params: dict[str, Array], tmp_path: Path) -> Path:
    state = matching.rename(tiny.mapping, tiny_params, tiny.shapes, "tiny")
    safetensors.numpy.save_file(state, tmp_path / "theirs.safetensors")
    return tmp_path / "theirs.safetensors"


def run_diff(_: Model, params: Path, checkpoint: Path, out: Path) -> None:  # noqa: ARG001 - same signature as the others
    diff.diff(params, checkpoint)


def run_to_gluon(tiny: Model, _: Path, checkpoint: Path, out: Path) -> None:
    reverse_conversion.run(
        reverse_conversion.ToGluonRequest(weights=checkpoint, out=out, model=tiny, options=AGAINST_NUMPY)
    )


def run_parity(tiny: Model, params: Path, checkpoint: Path, out: Path) -> None:  # noqa: ARG001 - same signature as the others
    parity_check.run(
        parity_check.ComparisonRequest(
            source=ParamsSource(tiny, params), weights=checkpoint, options=AGAINST_NUMPY
        )
    )


CONSUMERS = {"diff": run_diff, "to-gluon": run_to_gluon, "parity": run_parity}


@pytest.mark.skipif(sys.platform == "win32", reason="Windows locks open files")
@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("consumer", CONSUMERS)
def test_changed_checkpoint_is_refused(
    tiny: Model,
    params: Path,
    checkpoint: Path,
    tmp_path: Path,
    change: str,
    consumer: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    do, message = CHANGES[change]
    done = list[object]()
    compare = array_comparison.compare

    def compare_after_change(name: str, one: AnyArray, other: AnyArray) -> TensorDiff | None:
        if not done:
            done.append(do(checkpoint))
        return compare(name, one, other)

    monkeypatch.setattr("converter.formats.array_comparison.compare", compare_after_change)
    with pytest.raises(StorageError, match=message):
        CONSUMERS[consumer](tiny, params, checkpoint, tmp_path / "out.params")
    assert done
    assert not (tmp_path / "out.params").exists()


def truncate_repeatedly(path: Path, rounds: int) -> None:
    """Truncate a file and write it again, repeatedly."""
    content = path.read_bytes()
    for _ in range(rounds):
        os.truncate(path, len(content) // 3)
        path.write_bytes(content)


@pytest.mark.skipif(sys.platform == "win32", reason="Windows locks open files")
def test_truncation_at_any_moment_does_not_crash(tiny: Model, params: Path, in_memory: Path) -> None:
    out = in_memory / "out"
    messages = [in_memory / f"told{number}" for number in range(ROUNDS)]
    writer = faults.start(truncate_repeatedly, params, 1_000_000)
    for number in range(ROUNDS):
        request = conversion.ConversionRequest(
            source=ParamsSource(tiny, params), out=out, options=ParityOptions("none")
        )
        assert (
            faults.finish(faults.start(faults.convert_reporting, request, in_memory, messages[number])) == 0
        )
    writer.kill()
    texts = {path.read_text() for path in messages}
    assert all(text == "converted" or text.startswith(str(params)) for text in texts)
    assert not out.exists() or not faults.defects(out)


def read_mapped(path: Path) -> None:
    with path.open("rb") as stream, mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as memory:
        os.truncate(path, 0)
        print(memory[0])  # noqa: T201 - forces the read


@pytest.mark.skipif(sys.platform != "linux", reason="needs Linux's SIGBUS")
def test_truncated_mapped_file_kills_the_process(params: Path) -> None:
    assert faults.finish(faults.start(read_mapped, params)) == -signal.SIGBUS
