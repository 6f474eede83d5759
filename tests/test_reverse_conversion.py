from __future__ import annotations

import hashlib
from dataclasses import replace
from typing import TYPE_CHECKING, BinaryIO

import numpy as np
import pytest
import safetensors.torch
import torch

from converter.choices import Precision
from converter.commands import conversion, reverse_conversion
from converter.dtypes import BFLOAT16
from converter.errors import (
    ArtifactError,
    CheckpointError,
    ConversionError,
    MappingError,
    ParityError,
    PrecisionError,
)
from converter.formats.params import load_params, write_params
from converter.networks import catalog, matching
from converter.networks.selection import ParamsSource
from converter.parity.options import ParityOptions

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from converter.dtypes import Array
    from converter.networks.catalog import Model

    Write = Callable[[dict[str, Array]], Path]

UNPROVEN = ParityOptions("none")
AGAINST_NUMPY = ParityOptions("numpy", sizes=[(33, 47)], dtypes=["float64"])


@pytest.fixture(autouse=True)
def tiny_catalog(tiny: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    """Reduce the catalog to the tiny model."""
    monkeypatch.setattr(catalog, "models", lambda: {tiny.name: tiny})


@pytest.fixture
def state(tiny: Model, tiny_params: dict[str, Array]) -> dict[str, torch.Tensor]:
    """Return the tiny network's PyTorch state dict."""
    arrays = matching.rename(tiny.mapping, tiny_params, tiny.shapes, "tiny")
    return {name: torch.tensor(array) for name, array in arrays.items()}


@pytest.fixture
def back(tmp_path: Path) -> Path:
    """Return the output path, in a folder of its own so that leftovers are noticed."""
    (tmp_path / "back").mkdir()
    return tmp_path / "back" / "back.params"


def save(state: object, folder: Path, name: str = "trained.pth") -> Path:
    torch.save(state, folder / name)
    return folder / name


def reverse(weights: Path, back: Path, options: ParityOptions = UNPROVEN) -> reverse_conversion.ToGluonResult:
    return reverse_conversion.run(
        reverse_conversion.ToGluonRequest(weights=weights, out=back, options=options)
    )


def convert(params: Path, folder: Path) -> conversion.ConversionResult:
    return conversion.run(
        conversion.ConversionRequest(source=ParamsSource(None, params), out=folder, options=UNPROVEN)
    )


def assert_refused(
    request: reverse_conversion.ToGluonRequest, error: type[ConversionError], message: str
) -> None:
    """Check that a request is refused and leaves no output."""
    with pytest.raises(error, match=message):
        reverse_conversion.run(request)
    assert list(request.out.parent.iterdir()) == []


def as_float16(params: dict[str, Array]) -> dict[str, Array]:
    """Return the result of ``net.cast('float16')``: float16 with BatchNorms in float32."""
    return {
        name: array if name.endswith(("gamma", "beta", "mean", "var")) else array.astype(np.float16)
        for name, array in params.items()
    }


def as_float64(params: dict[str, Array]) -> dict[str, Array]:
    return {name: array.astype(np.float64) * (1 + 1e-12) for name, array in params.items()}


def as_bfloat16(params: dict[str, Array]) -> dict[str, Array]:
    return {name: array.astype(BFLOAT16) for name, array in params.items()}


@pytest.mark.parametrize("change", [dict, as_float16, as_float64, as_bfloat16])
def test_file_round_trips_byte_for_byte(
    change: Callable[[dict[str, Array]], dict[str, Array]],
    tiny_params: dict[str, Array],
    write: Write,
    back: Path,
    tmp_path: Path,
) -> None:
    params = write(change(tiny_params))
    result = reverse(convert(params, tmp_path / "out").artifact, back)
    assert back.read_bytes() == params.read_bytes()
    assert result.sha1 == hashlib.sha1(params.read_bytes(), usedforsecurity=False).hexdigest()
    assert (result.size, result.tensors) == (params.stat().st_size, len(tiny_params))
    assert (result.source_sha1, result.is_original, result.is_published) == (result.sha1, True, False)
    assert list(back.parent.iterdir()) == [back]


@pytest.mark.parametrize("change", [dict, as_float16, as_float64, as_bfloat16])
def test_reverse_conversion_is_proven(
    change: Callable[[dict[str, Array]], dict[str, Array]],
    tiny_params: dict[str, Array],
    write: Write,
    back: Path,
    tmp_path: Path,
) -> None:
    artifact = convert(write(change(tiny_params)), tmp_path / "out").artifact
    proof = reverse(artifact, back, AGAINST_NUMPY).parity
    assert (proof.proven, proof.reference, len(proof.checks)) == (True, "numpy", 1)


def test_changed_number_changes_the_file(
    state: dict[str, torch.Tensor], tiny_params: dict[str, Array], write: Write, back: Path, tmp_path: Path
) -> None:
    state["fc.bias"][3] += 1e-6
    reverse(save(state, tmp_path), back)
    changed_names = [name for name, array in load_params(back).items() if (array != tiny_params[name]).any()]
    assert changed_names == ["output.bias"]
    assert back.read_bytes() != write(tiny_params).read_bytes()


WRAPPED: dict[str, Callable[[dict[str, torch.Tensor]], object]] = {
    "plain": dict,
    "DataParallel": lambda state: {f"module.{name}": tensor for name, tensor in state.items()},
    "compiled": lambda state: {f"_orig_mod.{name}": tensor for name, tensor in state.items()},
    "state_dict": lambda state: {"epoch": 3, "state_dict": state},
    "both": lambda state: {"model": {f"module.{name}": tensor for name, tensor in state.items()}},
    "shuffled": lambda state: dict(sorted(state.items(), reverse=True)),
    "without counters": lambda state: {name: tensor for name, tensor in state.items() if tensor.shape},
}


@pytest.mark.parametrize("wrap", WRAPPED.values(), ids=WRAPPED)
def test_pth_in_any_wrapping_gives_the_same_bytes(
    wrap: Callable[[dict[str, torch.Tensor]], object],
    state: dict[str, torch.Tensor],
    tiny_params: dict[str, Array],
    write: Write,
    back: Path,
    tmp_path: Path,
) -> None:
    result = reverse(save(wrap(state), tmp_path), back)
    assert back.read_bytes() == write(tiny_params).read_bytes()
    assert (result.name, result.source_sha1, result.is_original) == ("tiny", None, False)


def test_safetensors_gives_the_same_bytes(
    state: dict[str, torch.Tensor], tiny_params: dict[str, Array], write: Write, back: Path, tmp_path: Path
) -> None:
    safetensors.torch.save_file(state, tmp_path / "trained.safetensors")
    reverse(tmp_path / "trained.safetensors", back)
    assert back.read_bytes() == write(tiny_params).read_bytes()


def test_head_of_another_size_is_kept(state: dict[str, torch.Tensor], back: Path, tmp_path: Path) -> None:
    state |= {"fc.weight": state["fc.weight"][:3].clone(), "fc.bias": state["fc.bias"][:3].clone()}
    model = reverse(save(state, tmp_path), back).model
    assert model
    assert model.config.num_classes == 3
    assert load_params(back)["output.weight"].shape == (3, 2048)


@pytest.mark.parametrize("overwrite", [False, True])
def test_folder_is_never_overwritten(
    overwrite: bool, state: dict[str, torch.Tensor], back: Path, tmp_path: Path
) -> None:
    back.mkdir()
    request = reverse_conversion.ToGluonRequest(
        weights=save(state, tmp_path), out=back, options=UNPROVEN, overwrite=overwrite
    )
    with pytest.raises(ArtifactError, match=r"back\.params: exists and is not a regular file"):
        reverse_conversion.run(request)


def test_gluon_file_is_refused(tiny_params: dict[str, Array], write: Write, back: Path) -> None:
    message = (
        r"holiday\.params: has Gluon's parameter names already; .*: convert auto OUT --params .*\.params"
    )
    assert_refused(
        reverse_conversion.ToGluonRequest(weights=write(tiny_params), out=back, options=UNPROVEN),
        CheckpointError,
        message,
    )


@pytest.mark.parametrize("number", [np.nan, np.inf])
@pytest.mark.parametrize("options", [UNPROVEN, AGAINST_NUMPY], ids=["unproven", "numpy"])
def test_nonfinite_values_are_refused(
    number: float, options: ParityOptions, state: dict[str, torch.Tensor], back: Path, tmp_path: Path
) -> None:
    state["layer1.0.conv2.weight"][0, 0, 0, 0] = number
    request = reverse_conversion.ToGluonRequest(weights=save(state, tmp_path), out=back, options=options)
    assert_refused(request, ConversionError, r"contains NaN or infinity")


def test_unknown_tensors_are_refused_with_the_nearest_model(
    state: dict[str, torch.Tensor], back: Path, tmp_path: Path
) -> None:
    state["layer5.0.conv1.weight"] = torch.ones(8, 4, 1, 1)
    request = reverse_conversion.ToGluonRequest(weights=save(state, tmp_path), out=back, options=UNPROVEN)
    assert_refused(
        request,
        MappingError,
        r"trained\.pth: the tensors match no model; the closest is tiny: blocks 1-2-1-1",
    )


def test_ambiguous_tensors_are_refused_unless_a_model_is_named(
    tiny: Model, state: dict[str, torch.Tensor], back: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(catalog, "models", lambda: {name: replace(tiny, name=name) for name in ("a", "b")})
    request = reverse_conversion.ToGluonRequest(weights=save(state, tmp_path), out=back, options=UNPROVEN)
    assert_refused(request, MappingError, r"match more than one model: a or b\n  select one with --model")
    assert reverse_conversion.run(replace(request, model=catalog.find("b"))).name == "b"


def test_named_model_that_does_not_fit_is_refused(
    tiny: Model, state: dict[str, torch.Tensor], back: Path, tmp_path: Path
) -> None:
    del state["layer4.0.bn2.running_var"]
    request = reverse_conversion.ToGluonRequest(
        weights=save(state, tmp_path), out=back, model=tiny, options=UNPROVEN
    )
    assert_refused(
        request, MappingError, r"the names do not match the model\n  missing     layer4\.0\.bn2\.running_var"
    )


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_dtype_that_cannot_hold_the_weights_is_refused(
    dtype: str, state: dict[str, torch.Tensor], back: Path, tmp_path: Path
) -> None:
    request = reverse_conversion.ToGluonRequest(
        weights=save(state, tmp_path), out=back, options=UNPROVEN, precision=Precision(dtype)
    )
    assert_refused(request, PrecisionError, rf"trained\.pth: these weights do not fit {dtype} ")


def test_float16_weights_are_written_as_float32_on_request(
    state: dict[str, torch.Tensor], back: Path, tmp_path: Path
) -> None:
    halves = {name: tensor.half() if tensor.shape else tensor for name, tensor in state.items()}
    weights = save(halves, tmp_path)
    reverse_conversion.run(
        reverse_conversion.ToGluonRequest(
            weights=weights, out=back, options=AGAINST_NUMPY, precision=Precision.float32
        )
    )
    arrays = load_params(back)
    assert {str(array.dtype) for array in arrays.values()} == {"float32"}
    assert np.array_equal(arrays["features.0.weight"], halves["conv1.weight"].float().numpy())


def test_manifest_is_used_only_for_its_own_weights(
    state: dict[str, torch.Tensor], tiny_params: dict[str, Array], write: Write, back: Path, tmp_path: Path
) -> None:
    result = convert(write(tiny_params), tmp_path / "out")
    assert reverse(result.artifact, back).source_sha1 == result.manifest.source.sha1
    state["fc.bias"][0] += 1
    safetensors.torch.save_file(state, result.artifact)
    other = reverse(result.artifact, back.with_name("other.params"))
    assert (other.source_sha1, other.is_original) == (None, False)


@pytest.mark.parametrize("text", ["{", "[]", "{}", '{"artifact": 3}', "\xff", "[" * 100_000])
def test_invalid_manifest_is_ignored(
    text: str, state: dict[str, torch.Tensor], back: Path, tmp_path: Path
) -> None:
    weights = save(state, tmp_path)
    weights.with_suffix(".json").write_bytes(text.encode("latin-1"))
    assert reverse(weights, back).source_sha1 is None


@pytest.mark.parametrize(("depth", "is_used"), [(10, True), (100_000, False)])
def test_deeply_nested_manifest_is_ignored(
    depth: int, tiny_params: dict[str, Array], write: Write, back: Path, tmp_path: Path, *, is_used: bool
) -> None:
    result = convert(write(tiny_params), tmp_path / "out")
    content = result.manifest_file.read_text().rstrip().removesuffix("}")
    result.manifest_file.write_text(f'{content}, "more": {"[" * depth}{"]" * depth}}}')
    source = result.manifest.source.sha1 if is_used else None
    assert reverse(result.artifact, back).source_sha1 == source


def write_with_flipped_bit(stream: BinaryIO, arrays: dict[str, Array]) -> None:
    """Write the parameters with one bit of one value flipped."""
    changed = {name: array.copy() for name, array in arrays.items()}
    changed["output.bias"].view(np.uint32)[2] ^= 1
    write_params(stream, changed)


def write_reordered(stream: BinaryIO, arrays: dict[str, Array]) -> None:
    write_params(stream, dict(sorted(arrays.items(), reverse=True)))


@pytest.mark.parametrize("corrupt", [write_with_flipped_bit, write_reordered])
def test_file_that_reads_back_differently_leaves_no_output(
    corrupt: Callable[[BinaryIO, dict[str, Array]], None],
    state: dict[str, torch.Tensor],
    back: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    weights = save(state, tmp_path)
    monkeypatch.setattr(reverse_conversion, "write_params", corrupt)
    assert_refused(
        reverse_conversion.ToGluonRequest(weights=weights, out=back, options=UNPROVEN),
        ArtifactError,
        "read-back check failed: the file differs",
    )


def test_proof_uses_the_written_file_and_detects_one_bit(
    state: dict[str, torch.Tensor], back: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reverse_conversion, "write_params", write_with_flipped_bit)
    monkeypatch.setattr(reverse_conversion, "_require_reads_back", lambda *_: None)
    request = reverse_conversion.ToGluonRequest(
        weights=save(state, tmp_path), out=back, options=AGAINST_NUMPY
    )
    assert_refused(request, ParityError, r"tensors differ\n  .*1 of 10 elements differ")


def test_checkpoint_is_never_overwritten_by_its_own_conversion(
    state: dict[str, torch.Tensor], tmp_path: Path
) -> None:
    path = save(state, tmp_path)
    before = path.read_bytes()
    with pytest.raises(ArtifactError, match=r"trained\.pth: the output would overwrite an input"):
        reverse_conversion.run(
            reverse_conversion.ToGluonRequest(weights=path, out=path, options=UNPROVEN, overwrite=True)
        )
    assert path.read_bytes() == before
