"""One source converts to the same bytes with any Python, numpy, locale, thread count or folder.

`nox -s reproducible` runs these with several Pythons, without torch and MXNet. If a recorded hash changes,
every published file name changes with it: that requires a new major version.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from converter.choices import Precision
from converter.commands import conversion
from converter.dtypes import BFLOAT16
from converter.manifests import schema
from converter.networks import catalog, synthetic
from converter.networks.selection import ParamsSource
from converter.parity.options import ParityOptions

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from converter.dtypes import Array
    from converter.networks.catalog import Model

    Write = Callable[[dict[str, Array]], Path]

UNPROVEN = ParityOptions("none")
DTYPES: dict[str, np.dtype[Any]] = {
    "float64": np.dtype("<f8"),
    "float32": np.dtype("<f4"),
    "float16": np.dtype("<f2"),
    "bfloat16": BFLOAT16,
}
# SHA-256 of the artifact, and of its manifest without the fields that change with our version.
GOLDEN = {
    "float64": (
        "1b64bd96b71f02bdef6094679bdf5809fa258cd8a6f636c1340e786ed508db2f",
        "02c225cb7eac63b6ffa3fe4615955cd8657108f1185036c6ea48fc0f18b3d551",
    ),
    "float32": (
        "085cf322899874104cb6b625741ee9b16df9ad77f090036c3f1a22628413d77a",
        "cb7f14c1f4a26eb7f8d6bace8a03377adcc2c7a6e020c79cf57316d784da0fae",
    ),
    "float16": (
        "dbfb3157b99dff5efdc82fb228ce57a8cd2748c0e40aeba35845a45c1f738937",
        "0ee1761a2d264a2c6d85403ccf05ca1d312764f0fdb8ed422f7199c433192b71",
    ),
    "bfloat16": (
        "9fa9d3c8124a1cb79da6736155b82d170bddd98c73d68601eee623a4e04156ee",
        "f70fe908b974dfcd5260ddd4f0f6cea25db61e0691641d49f2752a9cf56b7b2c",
    ),
    "gluon_cifar_resnext29_32x4d": (
        "bcf53d5e128df4683ac6a1ca19de063e56829f896aa7d23e61a1ef2ff7390a8e",
        "b31dd8844d14825b73e65c858ee941a4442451dd33f6180a47235c4686dd27fd",
    ),
    "gluon_resnet18_v1b": (
        "e5e8c80cab4d1d125c2d6830701d7e6f7a4719a4ba47239a4381e0c862590b33",
        "3871198b8427bd2bc1ac638beca7c4dfd6c4761411f3d0ec2f3b411592d77303",
    ),
}
SEEDED = [name for name in GOLDEN if name not in DTYPES]
RUNS, PROCESSES = 100, 20
SMALLEST = "gluon_cifar_resnext29_32x4d"
ENVIRONMENTS = {
    "LC_ALL": ("C", "C.UTF-8", "de_DE.UTF-8", "tr_TR"),
    "TZ": ("UTC", "Asia/Kathmandu", "America/St_Johns"),
    "OMP_NUM_THREADS": ("1", "2", "7"),
    "PYTHONUTF8": ("0", "1"),
    "PYTHONOPTIMIZE": ("", "2"),
}
UMASKS = (0o000, 0o022, 0o077)
PROGRAM = """
import sys
from pathlib import Path
from converter.commands import conversion
from converter.choices import ReferenceChoice
from converter.networks import catalog
from converter.networks.selection import ParamsSource
from converter.parity.options import ParityOptions
_, name, file, *outs = sys.argv
for out in outs:
    origin = ParamsSource(catalog.find(name), Path(file))
    conversion.run(conversion.ConversionRequest(source=origin, out=Path(out), options=ParityOptions("none")))
"""


def pattern(model: Model, dtype: np.dtype[Any]) -> dict[str, Array]:
    """Return arrays of 1/256 to 255/256 by Gluon's names: exact in every dtype, no random generator."""
    result = {}
    for number, tensor in enumerate(model.mapping.tensors):
        shape = model.shapes[tensor.target]
        counted = np.arange(np.prod(shape), dtype=np.int64) * 7 + number
        result[tensor.source] = ((counted % 255 + 1) / 256).astype(dtype).reshape(shape)
    return result


def hashes(result: conversion.ConversionResult) -> tuple[str, str]:
    """Return the SHA-256 of the artifact and of its manifest, as in GOLDEN."""
    written = result.manifest_file.read_bytes()
    assert schema.encode(result.manifest) == written
    document = json.loads(written)
    del document["version"], document["mapping"]["sha256"], document["schema_version"]
    manifest = (json.dumps(document, sort_keys=True, indent=2, ensure_ascii=False) + "\n").encode()
    contents = (result.artifact.read_bytes(), manifest)
    return hashlib.sha256(contents[0]).hexdigest(), hashlib.sha256(contents[1]).hexdigest()


@pytest.mark.parametrize("dtype", DTYPES)
def test_file_converts_to_the_recorded_bytes(tiny: Model, write: Write, tmp_path: Path, dtype: str) -> None:
    source = ParamsSource(tiny, write(pattern(tiny, DTYPES[dtype])))
    assert (
        hashes(conversion.run(conversion.ConversionRequest(source=source, out=tmp_path, options=UNPROVEN)))
        == GOLDEN[dtype]
    )


@pytest.mark.parametrize("name", SEEDED)
def test_seed_converts_to_the_recorded_bytes(tmp_path: Path, name: str) -> None:
    source = ParamsSource(catalog.find(name), seed=0)
    assert (
        hashes(conversion.run(conversion.ConversionRequest(source=source, out=tmp_path, options=UNPROVEN)))
        == GOLDEN[name]
    )


@pytest.mark.parametrize(
    ("source", "written"), [*itertools.permutations(("float32", "float16", "bfloat16"), 2)]
)
def test_output_dtype_alone_determines_the_bytes(
    tiny: Model, write: Write, tmp_path: Path, source: str, written: str
) -> None:
    request = conversion.ConversionRequest(
        source=ParamsSource(tiny, write(pattern(tiny, DTYPES[source]))),
        out=tmp_path,
        options=UNPROVEN,
        precision=Precision(written),
    )
    assert hashes(conversion.run(request))[0] == GOLDEN[written][0]


def test_tensor_order_changes_only_the_manifest(tiny: Model, write: Write, tmp_path: Path) -> None:
    arrays = pattern(tiny, DTYPES["float32"])
    backwards = dict(reversed(arrays.items()))
    digests = hashes(
        conversion.run(
            conversion.ConversionRequest(
                source=ParamsSource(tiny, write(backwards)), out=tmp_path, options=UNPROVEN
            )
        )
    )
    assert digests[0] == GOLDEN["float32"][0]
    assert digests[1] != GOLDEN["float32"][1]  # the manifest contains the source's SHA-1


def flipped(arrays: dict[str, Array]) -> dict[str, Array]:
    """Flip one bit of one value."""
    name, array = next(iter(arrays.items()))
    changed = array.copy()
    changed.reshape(-1).view(np.uint8)[0] ^= 1
    return arrays | {name: changed}


def swapped(arrays: dict[str, Array]) -> dict[str, Array]:
    """Swap the values of two tensors of one shape."""
    first, second = "features.1.gamma", "features.1.beta"
    return arrays | {first: arrays[second], second: arrays[first]}


@pytest.mark.parametrize("change", [flipped, swapped])
def test_changed_values_change_the_hashes(
    tiny: Model, write: Write, tmp_path: Path, change: Callable[[dict[str, Array]], dict[str, Array]]
) -> None:
    source = ParamsSource(tiny, write(change(pattern(tiny, DTYPES["float32"]))))
    digests = hashes(
        conversion.run(conversion.ConversionRequest(source=source, out=tmp_path, options=UNPROVEN))
    )
    assert digests[0] != GOLDEN["float32"][0]
    assert digests[1] != GOLDEN["float32"][1]


def run(number: int, source: Path, folder: Path) -> set[tuple[str, bytes]]:
    """Convert several times in one process, in an environment chosen by the number.

    Return the artifacts' SHA-256 with their manifests.
    """
    folder.mkdir()
    chosen = {name: values[number % len(values)] for name, values in ENVIRONMENTS.items()}
    chosen |= {"PYTHONHASHSEED": str(number), "PYTHONCOERCECLOCALE": "0"}
    file = str(source) if number % 2 else os.path.relpath(source, folder)
    outs = [f"out-{turn}" for turn in range(RUNS // PROCESSES)]
    subprocess.run(
        [sys.executable, "-c", PROGRAM, SMALLEST, file, *outs],
        check=True,
        cwd=folder,
        env=os.environ | chosen,
        umask=UMASKS[number % len(UMASKS)],
    )
    entries = set()
    for out in outs:
        manifest, weights = sorted((folder / out).iterdir())
        entries.add((hashlib.sha256(weights.read_bytes()).hexdigest(), manifest.read_bytes()))
        weights.unlink()  # a hundred of them would fill the disk
    return entries


def test_hundred_runs_give_one_artifact_and_one_manifest(tmp_path: Path, write: Write) -> None:
    model = catalog.find(SMALLEST)
    source = write(synthetic.random_params(model.mapping, model.shapes, seed=0))
    with ThreadPoolExecutor(os.cpu_count()) as executor:
        folders = [tmp_path / str(number) for number in range(PROCESSES)]
        entries = set().union(*executor.map(run, range(PROCESSES), [source] * PROCESSES, folders))
    assert [sha256 for sha256, _ in entries] == [GOLDEN[SMALLEST][0]]
