"""SIGKILL at every step: files with final names are complete, and the next run removes temporary files."""

from __future__ import annotations

import itertools
import shutil
import signal
import sys
from typing import TYPE_CHECKING

import faults
import pytest

from converter.commands import conversion
from converter.formats.params import write_params
from converter.networks.selection import ParamsSource
from converter.parity.options import ParityOptions

if TYPE_CHECKING:
    from pathlib import Path

    from converter.dtypes import Array
    from converter.networks.catalog import Model

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="Windows has neither SIGKILL nor fork")

# The options, whether a .pth is written too, the step between kills, and the step between progress reports.
CONVERSIONS = {
    "unproven": (ParityOptions("none"), False, 1, 8),
    "as .pth too": (ParityOptions("none"), True, 3, 8),
    "proven": (ParityOptions("numpy", sizes=[33], dtypes=["float32"]), False, 4, 8),
}
MIN_STEPS = 40
CONSECUTIVE_KILLS = 4  # before a run that clears up after all of them


@pytest.mark.parametrize("kind", CONVERSIONS)
def test_killed_run_leaves_only_complete_files_and_the_next_cleans_up(
    kind: str, tiny: Model, tiny_params: dict[str, Array], in_memory: Path
) -> None:
    options, pth, stride, reports = CONVERSIONS[kind]
    params, temporary = in_memory / "holiday.params", in_memory / "temporary"
    temporary.mkdir()
    with params.open("wb") as stream:
        write_params(stream, tiny_params)
    request = conversion.ConversionRequest(
        source=ParamsSource(tiny, params),
        out=in_memory / "out",
        options=options,
        pth=pth,
    )
    for kill_at in itertools.count(step=stride):
        status = faults.finish(faults.start(faults.convert, request, temporary, kill_at, reports))
        assert status in {0, -signal.SIGKILL}
        assert not faults.defects(request.out), f"at step {kill_at}"
        if status and kill_at // stride % CONSECUTIVE_KILLS:
            continue
        assert faults.finish(faults.start(faults.convert, request, temporary)) == 0
        assert not faults.defects(request.out)
        suffixes = {name.rpartition(".")[2] for name in faults.contents(request.out)}
        assert suffixes == {"json", "safetensors"} | ({"pth"} if pth else set())
        assert len(faults.contents(request.out)) == len(suffixes)
        assert not faults.contents(temporary)
        if status == 0:
            break
        shutil.rmtree(request.out)
    assert kill_at >= MIN_STEPS


def test_incomplete_or_misnamed_file_is_detected(tiny: Model, tmp_path: Path) -> None:
    result = conversion.run(
        conversion.ConversionRequest(
            source=ParamsSource(tiny, seed=0), out=tmp_path, options=ParityOptions("none")
        )
    )
    assert not faults.defects(tmp_path)
    content = result.artifact.read_bytes()
    result.artifact.write_bytes(content[:-1])
    assert faults.defects(tmp_path) == [
        f"{result.manifest_file.name}: claims {result.artifact.name}",
        f"{result.artifact.name}: not what its name says",
    ]
    result.artifact.unlink()
    assert faults.defects(tmp_path) == [f"{result.manifest_file.name}: claims {result.artifact.name}"]
