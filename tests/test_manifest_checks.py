from __future__ import annotations

import hashlib
import json
import os
import shutil
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from converter.commands import conversion, publication, verification
from converter.errors import ArtifactError, CatalogError, ConversionError, StorageError
from converter.formats import artifact
from converter.manifests import artifact_checks, converted_file, schema
from converter.manifests.source_records import SourceRecord
from converter.networks import catalog
from converter.networks.selection import ParamsSource
from converter.parity.options import ParityOptions

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

NAME = "gluon_cifar_resnext29_32x4d"

VERSIONS = {"numpy": "2.0.0", "torch": "2.13.0"}
CHECK: dict[str, Any] = {
    "dtype": "float32",
    "seed": 0,
    "limit": 1e-5,
    "size": "65x95",
    "layers": len(catalog.find(NAME).mapping.layers),
    "max_abs": 0.1,
    "relative": 1e-6,
    "worst": {"layer": "output", "relative": 1e-6, "limit": 1e-4},
}


@pytest.fixture(scope="session")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    request = conversion.ConversionRequest(
        source=ParamsSource(catalog.find(NAME), seed=0),
        out=tmp_path_factory.mktemp("original"),
        options=ParityOptions("none"),
    )
    return conversion.run(request).artifact


@pytest.fixture
def file(original: Path, tmp_path: Path) -> Path:
    """Return a copy that a test may damage."""
    for path in (original, original.with_suffix(".json")):
        shutil.copy(path, tmp_path)
    return tmp_path / original.name


@pytest.fixture
def edit(file: Path) -> Callable[[Callable[[dict[str, Any]], object]], None]:
    """Return a function that edits the manifest."""

    def change(edit: Callable[[dict[str, Any]], object]) -> None:
        content = json.loads(file.with_suffix(".json").read_text())
        edit(content)
        file.with_suffix(".json").write_text(json.dumps(content))

    return change


def test_file_and_manifest_are_read(file: Path) -> None:
    converted = artifact_checks.read(file)
    assert converted.model == catalog.find(NAME)
    assert converted.manifest.artifact.bytes == file.stat().st_size
    assert (converted.random, converted.official, converted.proven) == (True, False, False)
    assert converted.manifest_bytes == file.with_suffix(".json").read_bytes()


def test_changed_byte_is_refused(file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)
    with pytest.raises(
        ArtifactError, match=r"sha256 differs from the manifest: expected [0-9a-f]{64}, found [0-9a-f]{64}$"
    ):
        artifact_checks.read(file)


def test_truncated_file_is_refused(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-1])
    with pytest.raises(
        ArtifactError, match="bytes differs from the manifest: expected 19220728, found 19220727"
    ):
        artifact_checks.read(file)


def test_renamed_file_is_refused(file: Path) -> None:
    for path in (file, file.with_suffix(".json")):
        path.rename(path.with_name(f"other{path.suffix}"))
    with pytest.raises(
        ArtifactError, match=f"name differs from the manifest: expected {NAME}.*, found other.safetensors"
    ):
        artifact_checks.read(file.with_name("other.safetensors"))


@pytest.mark.parametrize("change", ["missing", "no JSON", "no manifest"])
def test_missing_or_invalid_manifest_is_refused(file: Path, change: str) -> None:
    manifest = file.with_suffix(".json")
    manifest.unlink() if change == "missing" else manifest.write_text("{" if change == "no JSON" else "{}")
    error, reason = (
        (StorageError, r"\.json: No such file")
        if change == "missing"
        else (ArtifactError, "not a manifest: ")
    )
    with pytest.raises(error, match=reason):
        artifact_checks.read(file)


def test_deeply_nested_manifest_is_refused(file: Path) -> None:
    place = file.with_suffix(".json")
    content = place.read_text().rstrip().removesuffix("}")

    def nest(depth: int) -> None:
        place.write_text(f'{content}, "more": {"[" * depth}{"]" * depth}}}')

    nest(10)
    assert artifact_checks.read(file).model == catalog.find(NAME)
    nest(100_000)
    with pytest.raises(ArtifactError, match=r"\.json: not a manifest: .* while deserializing an object$"):
        artifact_checks.read(file)


def test_other_suffix_is_not_called_a_manifest(file: Path, tmp_path: Path) -> None:
    other = file.rename(tmp_path / "weights.bin")
    with pytest.raises(StorageError, match=r"weights\.json: No such file"):
        artifact_checks.read(other)


def test_manifest_in_place_of_the_artifact_is_refused(file: Path) -> None:
    with pytest.raises(ArtifactError, match=r"\.json: is a manifest; name the \.safetensors next to it"):
        artifact_checks.read(file.with_suffix(".json"))


def test_missing_file_is_named(file: Path) -> None:
    file.unlink()
    with pytest.raises(StorageError, match=r"\.safetensors: No such file"):
        artifact_checks.read(file)


def test_tensors_of_another_model_are_refused(file: Path, edit: Callable[..., None]) -> None:
    edit(lambda content: content.update(model="gluon_resnext50_32x4d"))
    with pytest.raises(
        ArtifactError, match=f"its manifest names gluon_resnext50_32x4d, but its tensors match {NAME}"
    ):
        artifact_checks.read(file)


def test_unknown_model_is_refused(file: Path, edit: Callable[..., None]) -> None:
    edit(lambda content: content.update(model="vgg"))
    with pytest.raises(CatalogError, match="unknown model 'vgg'"):
        artifact_checks.read(file)


def test_too_few_class_names_are_refused(file: Path, edit: Callable[..., None]) -> None:
    edit(lambda content: content.update(labels=["cat", "dog"]))
    with pytest.raises(ArtifactError, match="its manifest lists 2 class names, its head has 10 classes"):
        artifact_checks.read(file)


ROUNDED = schema.RoundingRecord(
    dtype="float16",
    before=schema.ParityRecord(proven=False, reference="none", versions={}, checks=()),
    logits=schema.LogitsRecord(dtype="float64", size="65x95", seed=0, max_abs=0.1, relative=0.1),
)


@pytest.mark.parametrize(
    ("sha1", "official"), [("e8ff9f4f9cb319dfbf524d01e487af9a7f8a3cf5", True), ("0" * 40, False)]
)
def test_official_requires_the_published_sha1(sha1: str, *, official: bool) -> None:
    model = catalog.find("gluon_cifar_resnext29_16x64d")
    manifest = schema.Manifest(
        model=model.name,
        source=SourceRecord(file="mine.params", sha1=sha1, official=not official),
        mapping=schema.MappingRecord(file="cifar_resnext.toml", sha256=""),
        artifact=schema.ArtifactRecord(
            file="mine.safetensors", sha256="", bytes=0, dtypes=("float32",), tensors=0, parameters=0
        ),
        parity=schema.ParityRecord(proven=False, reference="none", versions={}, checks=()),
        labels=None,
        version="0.1.0",
    )
    assert converted_file.ConvertedFile(model.mapping_file, model, manifest, b"").official == official
    rounded = msgspec.structs.replace(manifest, narrowing=ROUNDED)
    assert not converted_file.ConvertedFile(model.mapping_file, model, rounded, b"").official


def test_unpublished_sha1_is_not_official(file: Path, edit: Callable[..., None]) -> None:
    edit(lambda content: content["source"].update(sha1="0" * 40, file="mine.params"))
    edit(lambda content: content["artifact"].update(file=file.name))
    assert not artifact_checks.read(file).official


@pytest.mark.parametrize(
    ("section", "field", "value"),
    [
        ("source", "sha1", "<script>"),
        ("mapping", "sha256", "# Owned"),
        ("artifact", "sha256", "0"),
        ("parity", "reference", "<img src=x>"),
    ],
)
def test_invalid_hash_or_reference_is_refused(
    file: Path, edit: Callable[..., None], section: str, field: str, value: str
) -> None:
    edit(lambda content: content[section].update({field: value}))
    with pytest.raises(ArtifactError, match=f"not a manifest: .*{section}.{field}"):
        artifact_checks.read(file)


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("tensors", 7, "tensors are not those"),
        ("dtypes", ["<b>"], "tensors are not those"),
        ("parameters", 7, "number of parameters is not the one"),
    ],
)
def test_manifest_must_match_the_tensors(
    file: Path, edit: Callable[..., None], field: str, value: object, message: str
) -> None:
    edit(lambda content: content["artifact"].update({field: value}))
    with pytest.raises(ArtifactError, match=rf"\.safetensors: its {message} in its manifest$"):
        artifact_checks.read(file)


def test_proof_without_checks_is_refused(file: Path, edit: Callable[..., None]) -> None:
    edit(lambda content: content["parity"].update(proven=True))
    with pytest.raises(ArtifactError, match=r"\.json: claims a proof but names no reference"):
        artifact_checks.read(file)


def state(file: Path) -> dict[str, torch.Tensor]:
    return {
        name: tensor.clone() for name, tensor in load_file(file).items()
    }  # cloned because the file is overwritten


OTHER_HEADER = "its header is not the canonical one for its tensors"
OTHER_FORMATS: dict[str, tuple[Callable[[Path], object], str]] = {
    "a pickle": (
        lambda file: torch.save(state(file), file),
        r"expected a converted \.safetensors, found pth",
    ),
    "prefixed names": (
        lambda file: save_file(
            {f"module.{name}": tensor for name, tensor in state(file).items()}, file, {"format": "pt"}
        ),
        OTHER_HEADER,
    ),
    "other metadata": (lambda file: save_file(state(file), file, {"format": "np"}), OTHER_HEADER),
}


@pytest.mark.parametrize(("write", "message"), OTHER_FORMATS.values(), ids=OTHER_FORMATS)
def test_other_file_formats_are_refused_despite_a_matching_manifest(
    file: Path, edit: Callable[..., None], write: Callable[[Path], object], message: str
) -> None:
    write(file)
    content = file.read_bytes()
    record = {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
    edit(lambda manifest: manifest["artifact"].update(record))
    with pytest.raises(ArtifactError, match=rf"\.safetensors: {message}$"):
        artifact_checks.read(file)


@pytest.mark.parametrize(
    "wrong",
    [
        {"dtype": "float8"},
        {"layers": 0},
        {"worst": {"layer": "output", "relative": -5.0, "limit": 1e-4}},
        {"worst": {"layer": "output", "relative": -0.5, "limit": 1e-4}},
        {"worst": {"layer": "output", "relative": 1.0, "limit": 1e30}},
    ],
)
def test_proof_with_invalid_limits_is_refused(
    file: Path, edit: Callable[..., None], wrong: dict[str, Any]
) -> None:
    edit(
        lambda content: content["parity"].update(
            proven=True, reference="numpy", versions=VERSIONS, checks=[CHECK | wrong]
        )
    )
    with pytest.raises(ArtifactError, match="claims a proof, but output differs by"):
        artifact_checks.read(file)


@pytest.mark.parametrize(("relative", "refused"), [(1e-5, False), (1e-3, True)])
def test_proof_beyond_its_own_limit_is_refused(
    file: Path, edit: Callable[..., None], relative: float, *, refused: bool
) -> None:
    check = CHECK | {"worst": {"layer": "features.0", "relative": relative, "limit": 1e-4}}
    edit(
        lambda content: content["parity"].update(
            proven=True, reference="numpy", versions=VERSIONS, checks=[check]
        )
    )
    if refused:
        expected = r"claims a proof, but features\.0 differs by 1\.0e-03 .*; expected at most 1e-04"
        with pytest.raises(ArtifactError, match=expected):
            artifact_checks.read(file)
    else:
        assert artifact_checks.read(file).proven


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"relative": 0.1}, r"the logits differ by 1\.0e-01 in float32 at 65x95; expected at most 1e-05"),
        ({"relative": -1.0}, "the logits differ by"),
        ({"max_abs": -5.0}, "the logits differ by"),
    ],
)
def test_proof_with_differing_logits_is_refused(
    file: Path, edit: Callable[..., None], wrong: dict[str, float], message: str
) -> None:
    edit(
        lambda content: content["parity"].update(
            proven=True, reference="numpy", versions=VERSIONS, checks=[CHECK]
        )
    )
    assert artifact_checks.read(file).proven
    edit(lambda content: content["parity"].update(checks=[CHECK | wrong]))
    with pytest.raises(ArtifactError, match=f"claims a proof, but {message}"):
        artifact_checks.read(file)


def test_proof_of_rounded_weights_is_refused(file: Path, edit: Callable[..., None]) -> None:
    edit(
        lambda content: content["parity"].update(
            proven=True, reference="numpy", versions=VERSIONS, checks=[CHECK]
        )
    )
    edit(lambda content: content.update(narrowing=msgspec.to_builtins(ROUNDED)))
    with pytest.raises(ArtifactError, match="claims a proof of weights that were rounded afterwards"):
        artifact_checks.read(file)


@pytest.mark.parametrize(
    "wrong", [{"layers": 1}, {"worst": CHECK["worst"] | {"layer": "layer9"}}], ids=["a number", "a name"]
)
def test_proof_of_other_layers_is_refused(
    file: Path, edit: Callable[..., None], wrong: dict[str, Any]
) -> None:
    edit(
        lambda content: content["parity"].update(
            proven=True, reference="numpy", versions=VERSIONS, checks=[CHECK | wrong]
        )
    )
    with pytest.raises(ArtifactError, match="the layers in its proof are not those of"):
        artifact_checks.read(file)


@pytest.mark.parametrize("size", ["../../nonsense", "0x5", "65", ""])
def test_proof_with_an_invalid_size_is_refused(file: Path, edit: Callable[..., None], size: str) -> None:
    check = CHECK | {"size": size}
    edit(
        lambda content: content["parity"].update(
            proven=True, reference="numpy", versions=VERSIONS, checks=[check]
        )
    )
    with pytest.raises(ArtifactError, match=r"not a manifest: .*size"):
        artifact_checks.read(file)


def add_proof(manifest: dict[str, Any], **changes: object) -> dict[str, Any]:
    """Add a valid proof to a manifest, with changes, and return the manifest."""
    proof = {"proven": True, "reference": "numpy", "versions": VERSIONS, "checks": [CHECK]}
    manifest["parity"].update({**proof, **changes})
    return manifest


def test_valid_proof_is_accepted(file: Path, edit: Callable[..., None]) -> None:
    edit(add_proof)
    assert artifact_checks.read(file).proven


def test_published_sha1_needs_the_published_number_of_classes() -> None:
    model = catalog.find("gluon_resnext50_32x4d")
    assert converted_file.is_published(model, model.entry.params_sha1)
    fewer = replace(model, config=replace(model.config, num_classes=10))
    assert not converted_file.is_published(fewer, model.entry.params_sha1)
    assert not converted_file.is_published(model, "0" * 40)


@pytest.mark.parametrize("other", [np.zeros(5, np.int64), np.float32(1.5)])
def test_counter_of_another_shape_or_dtype_is_refused(
    file: Path, edit: Callable[..., None], other: np.ndarray[Any, Any]
) -> None:
    arrays = {name: tensor.numpy() for name, tensor in state(file).items()}
    counter = next(name for name in arrays if name.endswith("num_batches_tracked"))
    arrays[counter] = np.asarray(other)
    header, order = artifact.layout(arrays)
    content = header + b"".join(arrays[name].tobytes() for name in order)
    file.write_bytes(content)
    record = {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
    edit(
        lambda manifest: manifest["artifact"].update(
            record, dtypes=sorted({str(array.dtype) for array in arrays.values() if array.shape})
        )
    )
    with pytest.raises(
        ConversionError, match=f"{counter}: expected an integer scalar, found {other.dtype} of shape"
    ):
        artifact_checks.read(file)


INVALID: dict[str, tuple[Callable[[dict[str, Any]], object], str]] = {
    "official with an unpublished SHA-1": (
        lambda m: m["source"].update(official=True),
        "official differs from the manifest: expected false, found true",
    ),
    "changed mapping file": (
        lambda m: m["mapping"].update(sha256="0" * 64),
        "mapping differs from the manifest: ",
    ),
    "missing .pth": (
        lambda m: m["artifact"].update(pth={"file": "a-00000000.pth", "sha256": "0" * 64, "bytes": 1}),
        r"a-00000000\.pth: No such file",
    ),
    "a .pth with NUL": (
        lambda m: m["artifact"].update(pth={"file": "a\0-00000000.pth", "sha256": "0" * 64, "bytes": 1}),
        r"not a manifest: .*artifact\.pth\.file",
    ),
    "a SHA-1 with a line break": (
        lambda m: m["source"].update(sha1="0" * 40 + "\n"),
        r"not a manifest: .*source\.sha1",
    ),
    "a SHA-256 with a line break": (
        lambda m: m["artifact"].update(sha256=m["artifact"]["sha256"] + "\n"),
        r"not a manifest: .*artifact\.sha256",
    ),
    "a size with a line break": (
        lambda m: m["parity"].update(checks=[CHECK | {"size": "65x95\n"}]),
        r"not a manifest: .*size",
    ),
    "proof below the smallest size": (
        lambda m: m["parity"].update(checks=[CHECK | {"size": "31x95"}]),
        "size of a proof: expected 32 to 2048 pixels, found 31x95",
    ),
    "proof above the largest size": (
        lambda m: m["parity"].update(checks=[CHECK | {"size": "65x2049"}]),
        "size of a proof: expected 32 to 2048 pixels, found 65x2049",
    ),
    "proof of a missing graph": (
        lambda m: m["parity"].update(definition="graph", reference="numpy", proven=True, checks=[CHECK]),
        "claims a proof against graph, but its graph is None",
    ),
    "GluonCV's name of the model": (
        lambda m: m.update(model="cifar_resnext29_32x4d"),
        f"model in its manifest: expected {NAME}, found its alias cifar_resnext29_32x4d",
    ),
    "published SHA-1 with another number of classes": (
        lambda m: m["source"].update(
            sha1=catalog.find("gluon_resnext50_32x4d").entry.params_sha1, official=True
        ),
        "official differs from the manifest: expected false, found true",
    ),
    "graph with an invalid hash": (
        lambda m: m["source"].update(symbol="net-symbol.json", symbol_sha256="zz"),
        r"not a manifest: .*source\.symbol_sha256",
    ),
    "final softmax as a number": (
        lambda m: m["source"].update(final_softmax=7),
        r"not a manifest: .*source\.final_softmax",
    ),
    "proof that does not use the graph": (
        lambda m: add_proof(m, definition=None)["source"].update(symbol="a.json", symbol_sha256="0" * 64),
        "has a graph, but its proof is not against the graph",
    ),
    "proof by MXNet without its version": (
        lambda m: add_proof(m, reference="gluon"),
        "claims a proof without the version of gluoncv and mxnet",
    ),
    "proof without versions": (
        lambda m: add_proof(m, versions={}),
        "claims a proof without the version of numpy and torch",
    ),
    "duplicate check": (lambda m: add_proof(m, checks=[CHECK, CHECK]), "lists the same check twice"),
    "proof without a reference": (
        lambda m: add_proof(m, reference="none"),
        "claims a proof but names no reference",
    ),
    "custom limit": (
        lambda m: add_proof(m, checks=[CHECK | {"limit": 1e9}]),
        "contradictory numbers in float32 at 65x95",
    ),
    "relative difference without an absolute one": (
        lambda m: add_proof(m, checks=[CHECK | {"max_abs": 0}]),
        "contradictory numbers in float32 at 65x95",
    ),
    "seed as text": (
        lambda m: add_proof(m, checks=[CHECK | {"seed": "abc"}]),
        r"not a manifest: .*seed",
    ),
    "escape sequence in a class name": (
        lambda m: m.update(labels=[*"abcdefghi", "\x1b[31m"]),
        r"the class name '\\x1b\[31m' has unprintable",
    ),
    "rounding to another type": (
        lambda m: m.update(narrowing=msgspec.to_builtins(ROUNDED)),
        "claims rounding to float16, but the weights are float32",
    ),
    "fixed gammas without a graph": (
        lambda m: m["source"].update(fixed_gammas=["features.1.gamma"]),
        "describes a graph but names none",
    ),
    "negative schema": (lambda m: m.update(schema_version=-1), "not a manifest: .*schema_version"),
    "empty class name": (lambda m: m.update(labels=[*"abcdefghi", ""]), "the name of class 9 is empty"),
    "class name with spaces": (
        lambda m: m.update(labels=[*"abcdefghi", " j"]),
        "the class name ' j' begins or ends with a space",
    ),
}


@pytest.mark.parametrize(("change", "message"), INVALID.values(), ids=INVALID)
def test_verify_and_publish_refuse_the_same_manifests(
    change: Callable[[dict[str, Any]], object],
    message: str,
    file: Path,
    edit: Callable[..., None],
    tmp_path: Path,
) -> None:
    assert verification.verify(file).holds
    edit(change)
    assert not verification.verify(file).holds
    request = publication.PublicationRequest(
        files=(file,), folder=tmp_path / "published", allow_random=True, allow_unproven=True
    )
    with pytest.raises(ConversionError, match=message):
        publication.run(request)
    assert not (tmp_path / "published").exists()


def test_forged_version_does_not_count_as_passing(file: Path, edit: Callable[..., None]) -> None:
    def findings(what: str) -> list[bool | None]:
        return [finding.holds for finding in verification.verify(file).checks if finding.what == what]

    assert findings("mapping") == [True]
    for version in ("0.0.1", "999"):
        edit(lambda m, version=version: m.update(version=version))
        edit(lambda m: m["mapping"].update(sha256="0" * 64))
        assert findings("mapping") == [None]
    assert verification.verify(file).holds


def test_summary_is_found_among_other_json_files(file: Path) -> None:
    manifest = file.with_suffix(".json")
    manifest.rename(file.parent / "z.json")
    os.mkfifo(file.parent / "a.json")
    (file.parent / "b.json").write_bytes(b'{"artifact": "\xff"}')
    (file.parent / "c.json").write_text('{"artifact": ' + "[" * 100_000)
    summary = converted_file.find_manifest(file)
    assert summary is not None
    assert converted_file.warning(summary) == "the weights are random numbers"
    (file.parent / "z.json").unlink()
    assert converted_file.find_manifest(file) is None
