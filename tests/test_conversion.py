from __future__ import annotations

import hashlib
import json
import re
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from converter import __version__
from converter.choices import Precision
from converter.commands import conversion
from converter.errors import (
    ArtifactError,
    MappingError,
    ParamsError,
    ParityError,
    ReferenceFailedError,
    ReferenceUnavailableError,
    StorageError,
)
from converter.formats import artifact
from converter.manifests import schema
from converter.networks import catalog
from converter.networks.selection import ParamsSource
from converter.parity.options import ParityOptions
from converter.references import gluon

if TYPE_CHECKING:
    from collections.abc import Callable

    from converter.dtypes import Array
    from converter.networks.catalog import Model
    from converter.networks.mapping import Mapping

    Write = Callable[[dict[str, Array]], Path]

UNPROVEN = ParityOptions("none")
AGAINST_NUMPY = ParityOptions("numpy", sizes=[(33, 47)], dtypes=["float64"])


@pytest.fixture
def out(tmp_path: Path) -> Path:
    folder = tmp_path / "out"
    folder.mkdir()
    return folder


def convert(model: Model, out: Path, params: Path) -> conversion.ConversionResult:
    return conversion.run(
        conversion.ConversionRequest(source=ParamsSource(model, params), out=out, options=UNPROVEN)
    )


def script(path: Path, text: str) -> Path:
    """Write a shell script to be used in place of a Python interpreter."""
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return path


def contents(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_every_array_is_renamed_bit_for_bit(
    tiny: Model, tiny_mapping: Mapping, tiny_params: dict[str, Array], write: Write, out: Path
) -> None:
    state = load_file(convert(tiny, out, write(tiny_params)).artifact)
    for source, target in tiny_mapping.to_target().items():
        assert state.pop(target).tobytes() == tiny_params[source].tobytes()
    assert {name: int(array) for name, array in state.items()} == dict.fromkeys(tiny_mapping.target_only, 0)


def test_file_name_and_manifest_match_the_content(
    tiny: Model, tiny_params: dict[str, Array], write: Write, out: Path
) -> None:
    params = write(tiny_params)
    result = convert(tiny, out, params)
    content = result.artifact.read_bytes()
    sha256 = hashlib.sha256(content).hexdigest()
    assert contents(out) == [f"tiny-{sha256[:8]}.json", f"tiny-{sha256[:8]}.safetensors"]
    assert result.manifest_file.read_bytes() == schema.encode(result.manifest)
    assert json.loads(result.manifest_file.read_bytes()) == {
        "model": "tiny",
        "source": {
            "file": "holiday.params",
            "sha1": hashlib.sha1(params.read_bytes(), usedforsecurity=False).hexdigest(),
            "archive": None,
            "container": "ndarray-list",
            "records": ["V2"],
            "dialect": "structural",
            "symbol": None,
            "symbol_sha256": None,
            "final_softmax": None,
            "fixed_gammas": [],
            "official": False,
        },
        "mapping": {
            "file": "resnext.toml",
            "sha256": hashlib.sha256(tiny.mapping_file.read_bytes()).hexdigest(),
        },
        "artifact": {
            "file": result.artifact.name,
            "sha256": sha256,
            "bytes": len(content),
            "dtypes": ["float32"],
            "tensors": len(tiny.shapes),
            "parameters": sum(
                array.size for name, array in tiny_params.items() if "running" not in name.rpartition(".")[2]
            ),
        },
        "parity": {"proven": False, "reference": "none", "definition": None, "versions": {}, "checks": []},
        "labels": None,
        "version": __version__,
        "schema_version": 1,
    }


def test_same_file_converts_to_the_same_bytes(
    tiny: Model, tiny_params: dict[str, Array], write: Write, tmp_path: Path
) -> None:
    params = write(tiny_params)
    first, second = (convert(tiny, tmp_path / name, params) for name in ("a", "b"))
    assert first.artifact.name == second.artifact.name
    assert first.artifact.read_bytes() == second.artifact.read_bytes()
    assert first.manifest_file.read_bytes() == second.manifest_file.read_bytes()


def test_second_conversion_replaces_the_first(
    tiny: Model, tiny_params: dict[str, Array], write: Write, out: Path
) -> None:
    params = write(tiny_params)
    convert(tiny, out, params)
    before = contents(out)
    convert(tiny, out, params)
    assert contents(out) == before


def test_number_of_classes_is_that_of_the_head(
    tiny: Model, tiny_params: dict[str, Array], write: Write, out: Path
) -> None:
    tiny_params["output.weight"] = tiny_params["output.weight"][:3].copy()
    tiny_params["output.bias"] = tiny_params["output.bias"][:3].copy()
    state = load_file(convert(tiny, out, write(tiny_params)).artifact)
    assert state["fc.weight"].shape == (3, 2048)


def test_ambiguous_head_raises(tiny: Model, tiny_params: dict[str, Array], write: Write, out: Path) -> None:
    tiny_params["output.bias"] = tiny_params["output.bias"][:3].copy()
    with pytest.raises(MappingError, match=r"output\.bias: expected shape \(10,\), found \(3,\)"):
        convert(tiny, out, write(tiny_params))
    assert contents(out) == []


def test_random_parameters_are_marked_in_every_name(tiny: Model, out: Path) -> None:
    result = conversion.run(
        conversion.ConversionRequest(source=ParamsSource(tiny, seed=7), out=out, options=UNPROVEN)
    )
    assert result.artifact.name.startswith("tiny.random-")
    assert result.manifest_file.name.startswith("tiny.random-")
    assert result.manifest.artifact.file == result.artifact.name
    assert result.manifest.source.file == "tiny.random-7.params"
    assert result.manifest.source.official is False


def test_missing_tensor_leaves_no_output(
    tiny: Model, tiny_params: dict[str, Array], write: Write, out: Path
) -> None:
    del tiny_params["features.5.1.body.4.running_var"]
    with pytest.raises(MappingError, match=r"missing     features\.5\.1\.body\.4\.running_var"):
        convert(tiny, out, write(tiny_params))
    assert contents(out) == []


def test_extra_tensor_leaves_no_output(
    tiny: Model, tiny_params: dict[str, Array], write: Write, out: Path
) -> None:
    tiny_params["features.5.2.body.4.running_var"] = np.ones(16, np.float32)
    with pytest.raises(MappingError, match=r"unexpected  features\.5\.2\.body\.4\.running_var"):
        convert(tiny, out, write(tiny_params))
    assert contents(out) == []


def test_wrong_cardinality_leaves_no_output(
    tiny: Model, tiny_params: dict[str, Array], write: Write, out: Path
) -> None:
    halved = replace(tiny, config=replace(tiny.config, cardinality=1, width=8))
    message = r"features\.4\.0\.body\.3\.weight: expected shape \(8, 8, 3, 3\), found \(8, 4, 3, 3\)"
    with pytest.raises(MappingError, match=message):
        convert(halved, out, write(tiny_params))
    assert contents(out) == []


def test_truncated_file_leaves_no_output(
    tiny: Model, tiny_params: dict[str, Array], write: Write, out: Path
) -> None:
    params = write(tiny_params)
    params.write_bytes(params.read_bytes()[:-1])
    with pytest.raises(ParamsError, match="is the file truncated"):
        convert(tiny, out, params)
    assert contents(out) == []


def test_byte_flipped_while_writing_leaves_no_output(
    tiny: Model, tiny_params: dict[str, Array], write: Write, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    verify = artifact.verify

    def flip_then_verify(written: artifact.ArtifactDraft, state: dict[str, Array]) -> None:
        with written.path.open("r+b") as stream:
            stream.seek(written.size // 2)
            byte = stream.read(1)[0]
            stream.seek(written.size // 2)
            stream.write(bytes([byte ^ 0x10]))
        verify(written, state)

    monkeypatch.setattr(artifact, "verify", flip_then_verify)
    with pytest.raises(ArtifactError, match=r"read-back check failed: .* differs from what was written"):
        convert(tiny, out, write(tiny_params))
    assert contents(out) == []


def test_matching_model_is_suggested(out: Path, write: Write) -> None:
    other = catalog.find("gluon_resnext101_32x4d")
    table = other.mapping
    arrays: dict[str, Any] = {
        tensor.source: np.broadcast_to(np.float32(1), other.shapes[tensor.target]) for tensor in table.tensors
    }
    with pytest.raises(
        MappingError,
        match=r"^.*: these are the tensors of gluon_resnext101_32x4d(\n  unexpected  .*)+\n"
        r"  try         gluon_resnext101_32x4d in place of gluon_resnext50_32x4d, or auto$",
    ):
        convert(catalog.find("gluon_resnext50_32x4d"), out, write(arrays))


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_nonfinite_values_are_refused_without_a_proof(
    tiny: Model, tiny_params: dict[str, Array], write: Write, out: Path, value: float
) -> None:
    tiny_params["features.4.0.body.3.weight"][1, 2, 0, 0] = value
    with pytest.raises(MappingError, match=r"features\.4\.0\.body\.3\.weight: contains NaN or infinity"):
        convert(tiny, out, write(tiny_params))


def test_large_finite_values_are_accepted(
    tiny: Model, tiny_params: dict[str, Array], write: Write, out: Path
) -> None:
    tiny_params["output.bias"][:] = 3e38
    assert convert(tiny, out, write(tiny_params)).artifact.is_file()


def test_negative_variance_is_refused(
    tiny: Model, tiny_params: dict[str, Array], write: Write, out: Path
) -> None:
    tiny_params["features.1.running_var"][3] = -1e-3
    with pytest.raises(MappingError, match=r"features\.1\.running_var: contains a negative variance"):
        convert(tiny, out, write(tiny_params))


def test_file_replaced_while_reading_is_refused(
    tiny: Model, tiny_params: dict[str, Array], write: Write, out: Path, tmp_path: Path
) -> None:
    params = write(tiny_params)
    other = tmp_path / "other.params"
    other.write_bytes(params.read_bytes())

    def replace_file(step: str, done: int, total: int) -> None:
        if step == "writing" and done == total:
            other.replace(params)

    request = conversion.ConversionRequest(source=ParamsSource(tiny, params), out=out, options=UNPROVEN)
    with pytest.raises(StorageError, match="the file was changed while it was read"):
        conversion.run(request, replace_file)
    assert contents(out) == []


def test_gluon_python_must_be_executable(
    tiny: Model, tiny_params: dict[str, Array], write: Write, out: Path, tmp_path: Path
) -> None:
    text = tmp_path / "text"
    text.write_text("no program")
    text.chmod(0o755)
    request = conversion.ConversionRequest(
        source=ParamsSource(tiny, write(tiny_params)), out=out, options=ParityOptions(gluon_python=text)
    )
    with pytest.raises(ReferenceUnavailableError, match="text cannot be started: Exec format error"):
        conversion.run(request)


def test_interpreter_without_mxnet_is_refused_with_alternatives(
    tiny: Model, tiny_params: dict[str, Array], write: Write, out: Path, tmp_path: Path
) -> None:
    subprocess.check_call([sys.executable, "-m", "venv", "--without-pip", tmp_path / "empty"])
    request = conversion.ConversionRequest(
        source=ParamsSource(tiny, write(tiny_params)),
        out=out,
        options=ParityOptions(gluon_python=tmp_path / "empty" / "bin" / "python"),
    )
    with pytest.raises(
        ReferenceUnavailableError, match=r"(?s)No module named 'numpy'\nYou can:.*--reference none"
    ):
        conversion.run(request)
    assert contents(out) == []


def test_output_of_a_crashed_reference_is_quoted(
    tiny: Model, tiny_params: dict[str, Array], write: Write, out: Path, tmp_path: Path
) -> None:
    crash = script(tmp_path / "crash", "echo the last words\nexit 3")
    request = conversion.ConversionRequest(
        source=ParamsSource(tiny, write(tiny_params)), out=out, options=ParityOptions(gluon_python=crash)
    )
    with pytest.raises(
        ReferenceUnavailableError, match="its process ended with status 3 and printed:\nthe last words"
    ):
        conversion.run(request)
    assert contents(out) == []


@pytest.mark.parametrize(
    "answer", ["true", "echo '{}' >$2/reply.json", "echo '{\"versi' >$2/reply.json", "kill -9 $$"]
)
def test_invalid_reply_of_the_reference_is_refused(
    tiny: Model, tiny_params: dict[str, Array], write: Write, out: Path, tmp_path: Path, answer: str
) -> None:
    nonsense = script(tmp_path / "nonsense", answer)
    request = conversion.ConversionRequest(
        source=ParamsSource(tiny, write(tiny_params)), out=out, options=ParityOptions(gluon_python=nonsense)
    )
    with pytest.raises(ReferenceUnavailableError, match=r"ended with status -?\d and printed:\n\(nothing\)"):
        conversion.run(request)
    assert contents(out) == []


def test_unused_reference_process_is_killed(tmp_path: Path) -> None:
    sleeper = script(tmp_path / "sleeper", "exec sleep 60")
    with gluon.start(sleeper, gluon.GluonRequest(layers=(), document={}), ()) as run:
        assert run.child.process.poll() is None
    assert run.child.process.poll() == -signal.SIGKILL
    assert not run.child.folder.exists()


def test_missing_interpreter_is_refused(tiny: Model, out: Path) -> None:
    request = conversion.ConversionRequest(
        source=ParamsSource(tiny, seed=0), out=out, options=ParityOptions(gluon_python=Path("/none/python"))
    )
    with pytest.raises(ReferenceUnavailableError, match="/none/python is not an executable"):
        conversion.run(request)


def test_torch_is_not_imported_without_a_proof(out: Path) -> None:
    program = """\
import sys
from pathlib import Path
from converter.networks import catalog
from converter.commands import conversion
from converter.networks.selection import ParamsSource
from converter.choices import ReferenceChoice, Precision
from converter.parity.options import ParityOptions
origin = ParamsSource(catalog.find("gluon_resnext50_32x4d"), seed=0)
request = conversion.ConversionRequest(source=origin, out=Path(sys.argv[1]), options=ParityOptions("none"))
conversion.run(request)
print("torch" in sys.modules, "mxnet" in sys.modules)
"""
    printed = subprocess.check_output([sys.executable, "-c", program, str(out)], text=True)
    assert printed == "False False\n"
    assert len(contents(out)) == 2


def test_proof_without_mxnet_records_the_numpy_reference(
    tiny: Model, tiny_params: dict[str, Array], write: Write, out: Path
) -> None:
    result = conversion.run(
        conversion.ConversionRequest(
            source=ParamsSource(tiny, write(tiny_params)), out=out, options=AGAINST_NUMPY
        )
    )
    record = result.manifest.parity
    (check,) = record.checks
    assert (record.proven, record.reference) == (True, "numpy")
    assert record.versions.keys() == {"numpy", "python", "torch"}
    assert msgspec.to_builtins(check).keys() == {
        *("dtype", "size", "seed", "max_abs", "relative", "limit"),
        *("layers", "worst"),
    }
    assert check.layers == len(tiny.mapping.layers)
    assert 0 < check.relative <= check.limit == 1e-12


def test_auto_falls_back_to_numpy_if_mxnet_is_missing(
    tiny: Model, tiny_params: dict[str, Array], write: Write, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    options = replace(AGAINST_NUMPY, reference="auto")
    result = conversion.run(
        conversion.ConversionRequest(source=ParamsSource(tiny, write(tiny_params)), out=out, options=options)
    )
    assert result.manifest.parity.reference == "numpy"


def test_auto_falls_back_to_numpy_if_mxnet_cannot_start(
    tiny: Model,
    tiny_params: dict[str, Array],
    write: Write,
    out: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    answer = 'echo \'{"unavailable": "no libquadmath"}\' >$2/reply.json'
    crash = script(tmp_path / "crash", f"touch {tmp_path}/was-asked; {answer}")
    monkeypatch.setattr("importlib.util.find_spec", lambda _: True)
    monkeypatch.setattr(sys, "executable", str(crash))
    options = replace(AGAINST_NUMPY, reference="auto")
    result = conversion.run(
        conversion.ConversionRequest(source=ParamsSource(tiny, write(tiny_params)), out=out, options=options)
    )
    assert (tmp_path / "was-asked").exists()
    assert result.manifest.parity.reference == "numpy"


def test_auto_does_not_fall_back_if_gluoncv_fails(
    tiny: Model,
    tiny_params: dict[str, Array],
    write: Write,
    out: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda _: True)
    monkeypatch.setattr(sys, "executable", str(script(tmp_path / "crash", "echo it objects; exit 3")))
    options = replace(AGAINST_NUMPY, reference="auto")
    with pytest.raises(
        ReferenceFailedError, match="its process ended with status 3 and printed:\nit objects"
    ):
        conversion.run(
            conversion.ConversionRequest(
                source=ParamsSource(tiny, write(tiny_params)), out=out, options=options
            )
        )
    assert contents(out) == []


def test_requested_gluon_reference_does_not_fall_back(
    tiny: Model, tiny_params: dict[str, Array], write: Write, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    request = conversion.ConversionRequest(
        source=ParamsSource(tiny, write(tiny_params)), out=out, options=ParityOptions("gluon")
    )
    with pytest.raises(ReferenceUnavailableError, match="mxnet and gluoncv not installed"):
        conversion.run(request)


def test_differing_network_leaves_no_output_and_names_the_layer(
    tiny: Model, tiny_params: dict[str, Array], write: Write, out: Path
) -> None:
    loose = replace(tiny, config=replace(tiny.config, bn_eps=1e-3))
    request = conversion.ConversionRequest(
        source=ParamsSource(loose, write(tiny_params)), out=out, options=AGAINST_NUMPY
    )
    expected = (
        r"(?s)first mismatch  features\.1 → bn1 \(batchnorm\), float64 at 33x47: largest difference .*"
        r"suspect    eps: 1e-05 in the reference, 0\.001 in the module$"
    )
    with pytest.raises(ParityError, match=expected):
        conversion.run(request)
    assert contents(out) == []


def test_unproven_run_does_not_replace_a_proof(
    tiny: Model, tiny_params: dict[str, Array], write: Write, out: Path
) -> None:
    params = write(tiny_params)
    proven = conversion.run(
        conversion.ConversionRequest(source=ParamsSource(tiny, params), out=out, options=AGAINST_NUMPY)
    )
    before = proven.manifest_file.read_bytes()
    with pytest.raises(
        ArtifactError,
        match="already describes the same weights with a proof in float64 against numpy, which this run",
    ):
        convert(tiny, out, params)
    assert proven.manifest_file.read_bytes() == before
    assert len(contents(out)) == 2
    conversion.run(
        conversion.ConversionRequest(source=ParamsSource(tiny, params), out=out, options=AGAINST_NUMPY)
    )


@pytest.mark.parametrize(
    ("more", "lost"),
    [
        ({"options": AGAINST_NUMPY, "precision": Precision.float16}, "a proof in float64 against numpy"),
        ({"pth": True}, "a .pth"),
    ],
)
def test_run_does_not_drop_a_proof_before_rounding_or_a_pth(
    tiny: Model, tiny_params: dict[str, Array], write: Write, out: Path, more: dict[str, Any], lost: str
) -> None:
    request = conversion.ConversionRequest(
        source=ParamsSource(tiny, write(tiny_params)), out=out, **{"options": UNPROVEN, **more}
    )
    before = conversion.run(request).manifest_file.read_bytes()
    with pytest.raises(ArtifactError, match=f"with {re.escape(lost)}, which this run"):
        conversion.run(replace(request, options=UNPROVEN, pth=False))
    assert [path.read_bytes() for path in out.glob("*.json")] == [before]


def test_proof_in_another_dtype_does_not_replace_a_proof(
    tiny: Model, tiny_params: dict[str, Array], write: Write, out: Path
) -> None:
    weaker = ParityOptions("numpy", sizes=[(33, 47)], dtypes=["float32"])
    request = conversion.ConversionRequest(
        source=ParamsSource(tiny, write(tiny_params)), out=out, options=AGAINST_NUMPY
    )
    conversion.run(request)
    with pytest.raises(ArtifactError, match="with a proof in float64 against numpy, which this run"):
        conversion.run(replace(request, options=weaker))


def test_run_without_labels_does_not_replace_class_names(
    tiny: Model, tiny_params: dict[str, Array], write: Write, out: Path, tmp_path: Path
) -> None:
    params, names = write(tiny_params), tmp_path / "classes.txt"
    names.write_text("\n".join("abcdefghij"))
    conversion.run(
        conversion.ConversionRequest(
            source=ParamsSource(tiny, params), out=out, options=UNPROVEN, labels=names
        )
    )
    with pytest.raises(ArtifactError, match="with class names, which this run"):
        convert(tiny, out, params)
    proven = conversion.run(
        conversion.ConversionRequest(
            source=ParamsSource(tiny, params), out=out, options=AGAINST_NUMPY, labels=names
        )
    )
    assert proven.manifest.labels == tuple("abcdefghij")


def test_unreadable_manifest_is_replaced(
    tiny: Model, tiny_params: dict[str, Array], write: Write, out: Path
) -> None:
    params = write(tiny_params)
    convert(tiny, out, params).manifest_file.write_text("{")
    assert convert(tiny, out, params).manifest_file.read_text().startswith('{\n  "artifact"')


def test_new_folder_is_removed_after_a_refusal(
    tiny: Model, tiny_params: dict[str, Array], write: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise ArtifactError("enough")

    monkeypatch.setattr(artifact, "verify", refuse)
    with pytest.raises(ArtifactError, match="enough"):
        convert(tiny, tmp_path / "new", write(tiny_params))
    assert not (tmp_path / "new").exists()


def test_pytorch_checkpoint_is_refused_as_a_source(tiny: Model, tmp_path: Path, out: Path) -> None:
    save_file({"fc.bias": np.ones(3, np.float32)}, tmp_path / "a.safetensors")
    with pytest.raises(
        ParamsError,
        match=r": a PyTorch checkpoint \(safetensors\), .*\n  .*: gluon2torch to-gluon .* OUT\.params$",
    ):
        convert(tiny, out, tmp_path / "a.safetensors")
