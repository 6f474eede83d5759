from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import msgspec
import numpy as np
import pytest
import safetensors.torch
import torch

from converter.choices import Precision
from converter.commands import conversion
from converter.dtypes import BFLOAT16
from converter.errors import ParityError, PrecisionError
from converter.formats import artifact, checkpoint, precision
from converter.networks import matching
from converter.networks.selection import ParamsSource
from converter.parity import execution
from converter.parity.options import ParityOptions
from converter.progress import silent
from converter.references.probes import Probe
from resnext_torch import ResNeXt

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from torch import nn

    from converter.dtypes import Array
    from converter.networks.catalog import Model
    from resnext_torch import Config

AGAINST_NUMPY = ParityOptions("numpy", sizes=[(33, 47)], dtypes=["float64"])

BITS = {2: torch.int16, 4: torch.int32, 8: torch.int64}
TYPES = {
    "float64": np.dtype(np.float64),
    "float32": np.dtype(np.float32),
    "float16": np.dtype(np.float16),
    "bfloat16": BFLOAT16,
}
COUNTER = "bn1.num_batches_tracked"


def tensor(array: Array) -> torch.Tensor:
    """Return the same bits in torch, which cannot import bfloat16 from numpy."""
    if array.dtype != BFLOAT16:
        return torch.tensor(array)
    return torch.tensor(array.view(np.int16)).view(torch.bfloat16)


def bits(result: torch.Tensor) -> torch.Tensor:
    return result.view(BITS[result.element_size()])


def varied_numbers(dtype: np.dtype[np.generic]) -> Array:
    """Return numbers from float16's whole range, including ties and subnormals."""
    generator = np.random.Generator(np.random.PCG64(5))
    numbers = generator.standard_normal(50_000) * np.exp2(generator.integers(-26, 13, 50_000))
    ties = 1 + np.arange(-64, 65) * 2.0**-12  # halfway between neighbours in float16 or bfloat16
    edges = [0.0, -0.0, 2.0**-24, 2.0**-25, 3 * 2.0**-26, -(2.0**-14), 60000.0]
    rounded: Array = np.concatenate([numbers, ties, -ties, 1 + np.arange(257) * 2.0**-9, edges]).astype(dtype)
    return rounded


def cast(array: Array, target: Precision) -> Array:
    return precision.cast({"fc.weight": array}, target)["fc.weight"]


def test_keep_returns_the_same_objects() -> None:
    state = {name: np.ones(3, dtype) for name, dtype in TYPES.items()}
    assert precision.cast(state, Precision.keep) is state


@pytest.mark.parametrize("target", ["float32", "float16", "bfloat16"])
@pytest.mark.parametrize("source", TYPES)
def test_every_dtype_is_rounded_as_in_torch(source: str, target: str) -> None:
    array = varied_numbers(TYPES[source])
    result, expected = cast(array, Precision(target)), tensor(array).to(getattr(torch, target))
    assert result.dtype == TYPES[target]
    assert torch.equal(bits(tensor(result)), bits(expected))


@pytest.mark.parametrize("target", ["float16", "bfloat16"])
def test_rounding_is_to_nearest(target: str) -> None:
    array = np.array([1 + 1.5 * 2.0**-8, 1 + 1.5 * 2.0**-11], np.float32)
    number = 0 if target == "bfloat16" else 1
    rounded = cast(array, Precision(target)).astype(np.float64)[number]
    assert rounded == 1 + 2.0 ** (-7 if target == "bfloat16" else -10)
    cut = np.uint32(0xFFFF0000 if target == "bfloat16" else 0xFFFFE000)
    assert (array.view(np.uint32) & cut).view(np.float32)[number] == 1 != rounded


@pytest.mark.parametrize("target", ["float32", "float16", "bfloat16"])
def test_arrays_of_the_target_dtype_are_not_copied(target: str) -> None:
    state = {name: np.ones(3, dtype) for name, dtype in TYPES.items()}
    converted = precision.cast(state, Precision(target))
    assert [name for name in state if converted[name] is state[name]] == [target]


@pytest.mark.parametrize("target", ["float32", "float16", "bfloat16"])
@pytest.mark.parametrize("shape", [(), (1,)])
def test_counters_are_not_cast(target: str, shape: tuple[int, ...]) -> None:
    counter = np.full(shape, (1 << 40) + 1)  # not representable in any of the three
    converted = precision.cast({COUNTER: counter, "bn1.weight": np.ones(2)}, Precision(target))
    assert converted[COUNTER] is counter
    assert converted["bn1.weight"].dtype == TYPES[target]


@pytest.mark.parametrize(
    ("target", "largest", "beyond"),
    [("float16", 65504.0, 65520.0), ("bfloat16", 3.3895314e38, 3.4e38), ("float32", 3.4028234e38, 3.5e38)],
)
def test_overflowing_values_are_refused_by_name(target: str, largest: float, beyond: float) -> None:
    names = [f"layer1.{number}.conv1.weight" for number in range(3)]
    state = {name: np.array([1.0, -largest]) for name in [*names, "fc.bias"]}
    precision.cast(state, Precision(target))
    state |= {name: np.array([1.0, -beyond]) for name in names}
    message = rf"values outside the range of {target}\n  layer1\.\{{0…2\}}\.conv1\.weight$"
    with pytest.raises(PrecisionError, match=message):
        precision.cast(state, Precision(target))


@pytest.mark.parametrize(
    ("source", "target", "number", "same"),
    [
        ("float32", "float16", 0.5, True),
        ("float32", "float16", 0.1, False),
        ("float32", "bfloat16", 1 + 2.0**-7, True),
        ("float32", "bfloat16", 1 + 2.0**-8, False),
        ("float16", "bfloat16", 1 + 2.0**-8, False),
        ("bfloat16", "float16", 2.0**-30, False),  # underflows to zero
        ("float64", "float32", 1 + 2.0**-23, True),
        ("float64", "float32", 1 + 2.0**-24, False),
        ("float16", "float32", 0.1, True),
        ("bfloat16", "float32", 0.1, True),
        ("float32", "float32", 0.1, True),
    ],
)
def test_cast_is_lossless_unless_a_number_is_rounded(
    source: str, target: str, number: float, same: bool
) -> None:
    array = np.ones((2, 3), TYPES[source])
    array[1, 1] = number
    state = {"conv1.weight": np.zeros(4, TYPES[source]), "fc.weight": array, COUNTER: np.array(3)}
    assert precision.lossless(state, precision.cast(state, Precision(target))) is same


def test_one_changed_bit_is_not_lossless() -> None:
    state = {f"layer{number}": np.full(5, 0.5, np.float32) for number in range(4)}
    other = {name: array.copy() for name, array in state.items()}
    assert precision.lossless(state, other)
    other["layer2"].view(np.uint32)[3] ^= 1
    assert not precision.lossless(state, other)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_narrow_dtypes_are_widened_exactly(dtype: str) -> None:
    array = varied_numbers(TYPES[dtype])
    values = np.asarray(precision.widen(array))
    assert values.dtype == np.float32
    assert values.astype(array.dtype).tobytes() == array.tobytes()


@pytest.mark.parametrize("dtype", ["float32", "float64", "int64"])
def test_dtypes_that_mxnet_computes_in_are_not_widened(dtype: str) -> None:
    array = np.ones(3, dtype)
    assert precision.widen(array) is array


MIXED: dict[str, Array] = {
    "conv1.weight": np.arange(6, dtype=np.float16).reshape(1, 6),
    "bn1.weight": np.array([0.1, -0.0], np.float32),
    "bn1.running_var": np.array([1e-300, 2.5]),
    "fc.weight": np.arange(3).astype(BFLOAT16),
    "fc.bias": np.array([1.5], np.float16),
    COUNTER: np.array(7),
}


def test_mixed_dtypes_are_written_as_by_safetensors(tmp_path: Path) -> None:
    assert written(MIXED, tmp_path) == safetensors_bytes(MIXED, tmp_path)


@pytest.mark.parametrize("target", ["float32", "float16", "bfloat16"])
def test_cast_state_is_written_as_by_safetensors(target: str, tmp_path: Path) -> None:
    state = {**precision.cast({**MIXED, "bn1.running_var": np.array([1e-30, 2.5])}, Precision(target))}
    assert written(state, tmp_path) == safetensors_bytes(state, tmp_path) != written(MIXED, tmp_path)


def written(state: dict[str, Array], folder: Path) -> bytes:
    with artifact.draft(folder, state, silent) as result:
        artifact.verify(result, state)
        return result.path.read_bytes()


def safetensors_bytes(state: dict[str, Array], folder: Path) -> bytes:
    """Return the bytes that safetensors' own writer produces for the same tensors."""
    tensors = {name: tensor(array) for name, array in state.items()}
    safetensors.torch.save_file(tensors, folder / "own", metadata={"format": "pt"})
    return (folder / "own").read_bytes()


def logits(state: dict[str, torch.Tensor], model: Model) -> torch.Tensor:
    """Return our module's float64 logits without the converter's loader and runner."""
    module = ResNeXt(model.config).double().eval()
    module.load_state_dict({name: tensor.double() for name, tensor in state.items()})
    with torch.inference_mode():
        output: torch.Tensor = module(torch.from_numpy(Probe("float64", (65, 95)).input()))
    return output


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_rounding_error_is_measured_and_unrounded_weights_proven(
    dtype: str,
    tiny: Model,
    tiny_params: dict[str, Array],
    write: Callable[[dict[str, Array]], Path],
    tmp_path: Path,
) -> None:
    source = ParamsSource(tiny, write(tiny_params))
    result = conversion.run(
        conversion.ConversionRequest(
            source=source, out=tmp_path, options=AGAINST_NUMPY, precision=Precision(dtype)
        )
    )
    arrays = matching.rename(tiny.mapping, tiny_params, tiny.shapes, "tiny")
    state = {name: torch.tensor(array) for name, array in arrays.items()}
    narrow = {name: t.to(getattr(torch, dtype)) if t.shape else t for name, t in state.items()}
    written = safetensors.torch.load_file(result.artifact)
    assert [name for name, tensor in narrow.items() if not torch.equal(tensor, written[name])] == []
    before, after = logits(state, tiny), logits(narrow, tiny)
    max_abs = float((before - after).abs().max())
    rounding = result.manifest.narrowing
    assert rounding is not None
    assert (rounding.dtype, rounding.logits.dtype, rounding.logits.size) == (
        dtype,
        "float64",
        "65x95",
    )
    assert rounding.logits.max_abs == pytest.approx(max_abs, rel=1e-9)
    assert rounding.logits.relative == pytest.approx(max_abs / float(before.std(correction=0)), rel=1e-9)
    assert (rounding.before.proven, len(rounding.before.checks)) == (True, 1)
    assert msgspec.to_builtins(result.manifest.parity) == {
        "proven": False,
        "reference": "none",
        "definition": None,
        "versions": {},
        "checks": (),
    }
    assert result.manifest.artifact.dtypes == (dtype,)


def test_network_that_differs_before_rounding_is_refused(tiny: Model, tmp_path: Path) -> None:
    loose = replace(tiny, config=replace(tiny.config, bn_eps=1e-3))
    request = conversion.ConversionRequest(
        source=ParamsSource(loose, seed=0), out=tmp_path, options=AGAINST_NUMPY, precision=Precision.float16
    )
    with pytest.raises(ParityError, match=r"suspect    eps: 1e-05 in the reference, 0\.001 in the module"):
        conversion.run(request)
    assert list(tmp_path.iterdir()) == []


def test_overflowing_weights_leave_no_output(
    tiny: Model, tiny_params: dict[str, Array], write: Callable[[dict[str, Array]], Path], tmp_path: Path
) -> None:
    tiny_params["output.bias"][3] = 1e5
    request = conversion.ConversionRequest(
        source=ParamsSource(tiny, write(tiny_params)),
        out=tmp_path,
        options=ParityOptions("none"),
        precision=Precision.float16,
    )
    with pytest.raises(PrecisionError, match=r"range of float16\n  fc\.bias$"):
        conversion.run(request)
    assert [path.name for path in tmp_path.iterdir()] == ["holiday.params"]


@pytest.mark.parametrize("layer", ["layer2.1.conv2", "bn1", "fc"])
def test_float64_proof_detects_a_change_of_1e_10(
    layer: str,
    tiny: Model,
    tiny_params: dict[str, Array],
    write: Callable[[dict[str, Array]], Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def load_changed(path: Path, config: Config) -> nn.Module:
        arrays = {name: np.array(array) for name, array in checkpoint.read(path).items()}
        arrays[f"{layer}.weight"].flat[0] += 1e-10
        return execution.stream(arrays, config)

    params = write({name: array.astype(np.float64) for name, array in tiny_params.items()})
    request = conversion.ConversionRequest(
        source=ParamsSource(tiny, params), out=tmp_path / "out", options=AGAINST_NUMPY
    )
    assert conversion.run(request).manifest.parity.proven
    monkeypatch.setattr(execution, "load", load_changed)
    with pytest.raises(ParityError, match=rf"first mismatch  .* → {layer} .*, float64 at 33x47"):
        conversion.run(request)
