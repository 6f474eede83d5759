"""A source that is written to, cut off or removed while it is read: a refusal, and never a crash."""

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
from converter.errors import CheckpointError, LabelsError, SourceError
from converter.formats import array_comparison
from converter.formats.params import write_params
from converter.networks import matching
from converter.networks.loading import ParamsSource
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
    """Change a byte, and set the time of the last change back."""
    before = path.stat()
    with path.open("r+b") as stream:
        stream.seek(before.st_size // 2)
        stream.write(b"\x55")
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


HARMS: dict[str, tuple[Callable[[Path], None], str]] = {
    "emptied": (lambda path: os.truncate(path, 0), CHANGED),
    "cut off": (lambda path: os.truncate(path, path.stat().st_size // 2), CHANGED),
    "longer": (lambda path: os.truncate(path, path.stat().st_size + 1), CHANGED),
    "written to, of the same age": (overwrite, CHANGED),
    "removed": (os.unlink, "No such file or directory"),
}


@pytest.mark.skipif(sys.platform == "win32", reason="an open file is locked there")
@pytest.mark.parametrize("harm", HARMS)
@pytest.mark.parametrize("step", ["writing", "proving"])
def test_a_source_that_changes_is_refused_and_leaves_nothing(
    tiny: Model, params: Path, tmp_path: Path, harm: str, step: str
) -> None:
    do, message = HARMS[harm]
    out, done = tmp_path / "out", list[str]()

    def progress(at: str, *_: int) -> None:
        if at == step and not done:
            done.append(at)
            do(params)

    with pytest.raises(SourceError, match=message):
        conversion.run(
            conversion.ConversionRequest(source=ParamsSource(tiny, params), out=out, options=AGAINST_NUMPY),
            progress,
        )
    assert not out.exists()


def test_another_refusal_gives_way_to_the_change_that_may_be_its_cause(
    tiny: Model, params: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        overwrite(params)
        raise LabelsError("something else")

    monkeypatch.setattr("converter.formats.artifact.verify", refuse)
    with pytest.raises(SourceError, match=CHANGED):
        conversion.run(
            conversion.ConversionRequest(
                source=ParamsSource(tiny, params), out=tmp_path / "out", options=ParityOptions("none")
            )
        )


@pytest.mark.skipif(sys.platform == "win32", reason="a folder with open files is locked there")
@pytest.mark.parametrize(
    "consumer", ["converter.formats.params.open_params", "converter.sources.params_file.sha1"]
)
def test_another_file_under_the_same_name_for_a_moment_is_not_taken(
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
    # A race: the SHA-1 is computed in another thread, which finds no file between two of the renames.
    with pytest.raises(SourceError, match=f"{CHANGED}|No such file or directory"):
        conversion.run(request)
    assert not (tmp_path / "out").exists()


@pytest.fixture
def checkpoint(tiny: Model, tiny_params: dict[str, Array], tmp_path: Path) -> Path:
    state = matching.rename(tiny.mapping, tiny_params, tiny.shapes, "tiny")
    safetensors.numpy.save_file(state, tmp_path / "theirs.safetensors")
    return tmp_path / "theirs.safetensors"


def run_diff(_: Model, params: Path, checkpoint: Path, out: Path) -> None:  # noqa: ARG001 - as the others
    diff.diff(params, checkpoint)


def run_to_gluon(tiny: Model, _: Path, checkpoint: Path, out: Path) -> None:
    reverse_conversion.run(
        reverse_conversion.ToGluonRequest(weights=checkpoint, out=out, model=tiny, options=AGAINST_NUMPY)
    )


def run_parity(tiny: Model, params: Path, checkpoint: Path, out: Path) -> None:  # noqa: ARG001 - as the others
    parity_check.run(
        parity_check.ComparisonRequest(
            source=ParamsSource(tiny, params), weights=checkpoint, options=AGAINST_NUMPY
        )
    )


CONSUMERS = {"diff": run_diff, "to-gluon": run_to_gluon, "parity": run_parity}


@pytest.mark.skipif(sys.platform == "win32", reason="as above")
@pytest.mark.parametrize("harm", HARMS)
@pytest.mark.parametrize("consumer", CONSUMERS)
def test_a_checkpoint_that_changes_while_it_is_read_is_refused(
    tiny: Model,
    params: Path,
    checkpoint: Path,
    tmp_path: Path,
    harm: str,
    consumer: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    do, message = HARMS[harm]
    done = list[object]()
    compare = array_comparison.compare

    def compare_after_harm(name: str, one: AnyArray, other: AnyArray) -> TensorDiff | None:
        if not done:
            done.append(do(checkpoint))
        return compare(name, one, other)

    monkeypatch.setattr("converter.formats.array_comparison.compare", compare_after_harm)
    with pytest.raises(CheckpointError, match=message):
        CONSUMERS[consumer](tiny, params, checkpoint, tmp_path / "out.params")
    assert done
    assert not (tmp_path / "out.params").exists()


def flicker(path: Path, rounds: int) -> None:
    """Cut a file off and write it again, over and over."""
    content = path.read_bytes()
    for _ in range(rounds):
        os.truncate(path, len(content) // 3)
        path.write_bytes(content)


@pytest.mark.skipif(sys.platform == "win32", reason="as above")
def test_no_moment_of_cutting_off_crashes_a_conversion(tiny: Model, params: Path, in_memory: Path) -> None:
    out = in_memory / "out"
    told = [in_memory / f"told{number}" for number in range(ROUNDS)]
    writer = faults.start(flicker, params, 1_000_000)
    for number in range(ROUNDS):
        request = conversion.ConversionRequest(
            source=ParamsSource(tiny, params), out=out, options=ParityOptions("none")
        )
        assert faults.finish(faults.start(faults.refusal, request, in_memory, told[number])) == 0
    writer.kill()
    texts = {path.read_text() for path in told}
    assert all(text == "converted" or text.startswith(str(params)) for text in texts)
    assert not out.exists() or not faults.complaints(out)


def read_mapped(path: Path) -> None:
    with path.open("rb") as stream, mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as memory:
        os.truncate(path, 0)
        print(memory[0])  # noqa: T201 - so that it is read


@pytest.mark.skipif(sys.platform != "linux", reason="the signal is another elsewhere")
def test_a_mapped_file_that_is_cut_off_would_end_the_process(params: Path) -> None:
    assert faults.finish(faults.start(read_mapped, params)) == -signal.SIGBUS
