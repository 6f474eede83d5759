"""Killed at every step: whatever has a name is whole, and the next run leaves nothing of the last."""

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
from converter.networks.loading import ParamsSource
from converter.parity.options import ParityOptions

if TYPE_CHECKING:
    from pathlib import Path

    from converter.dtypes import Array
    from converter.networks.catalog import Model

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="Windows has neither SIGKILL nor fork")

# How a conversion is made, and every which step of it is tried.
WAYS = {
    "unproven": (ParityOptions("none"), False, 3),
    "as .pth too": (ParityOptions("none"), True, 23),
    "proven": (ParityOptions("numpy", sizes=[33], dtypes=["float32"]), False, 29),
}
LEAST_STEPS = 500
KILLED_IN_A_ROW = 4  # before a run that clears up after all of them


@pytest.mark.parametrize("way", WAYS)
def test_a_run_that_is_killed_leaves_only_what_is_whole_and_the_next_clears_up(
    way: str, tiny: Model, tiny_params: dict[str, Array], in_memory: Path
) -> None:
    options, pth, stride = WAYS[way]
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
    for die_at in itertools.count(step=stride):
        status = faults.finish(faults.start(faults.convert, request, temporary, die_at))
        assert status in {0, -signal.SIGKILL}
        assert not faults.complaints(request.out), f"at step {die_at}"
        if status and die_at // stride % KILLED_IN_A_ROW:
            continue
        assert faults.finish(faults.start(faults.convert, request, temporary)) == 0
        assert not faults.complaints(request.out)
        suffixes = {name.rpartition(".")[2] for name in faults.contents(request.out)}
        assert suffixes == {"json", "safetensors"} | ({"pth"} if pth else set())
        assert len(faults.contents(request.out)) == len(suffixes)
        assert not faults.contents(temporary)
        if status == 0:
            break
        shutil.rmtree(request.out)
    assert die_at >= LEAST_STEPS


def test_what_is_not_whole_or_not_as_it_says_is_seen(tiny: Model, tmp_path: Path) -> None:
    result = conversion.run(
        conversion.ConversionRequest(
            source=ParamsSource(tiny, seed=0), out=tmp_path, options=ParityOptions("none")
        )
    )
    assert not faults.complaints(tmp_path)
    content = result.artifact.read_bytes()
    result.artifact.write_bytes(content[:-1])
    assert faults.complaints(tmp_path) == [
        f"{result.manifest_file.name}: claims {result.artifact.name}",
        f"{result.artifact.name}: not what its name says",
    ]
    result.artifact.unlink()
    assert faults.complaints(tmp_path) == [f"{result.manifest_file.name}: claims {result.artifact.name}"]
