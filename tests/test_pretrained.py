"""``create_model(name, pretrained=True)``: GluonCV's bucket, conversion, proof and cache."""

from __future__ import annotations

import hashlib
import io
import json
import os
import shutil
import tomllib
import zipfile
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
import pytest
import torch
from serving import serving, status, whole

from converter.commands import pretrained as provider
from converter.formats.params import write_params
from converter.networks import catalog, synthetic
from converter.parity.options import ParityOptions
from resnext_torch import ResNeXt, WeightsError, create_model, pretrained, weight_files

if TYPE_CHECKING:
    from converter.networks.catalog import Model

NAME = "gluon_resnet18_v1b"
PYPROJECT = Path(__file__).parents[1] / "pyproject.toml"
GROUPS = tomllib.loads(PYPROJECT.read_text())["project"]["entry-points"]


@dataclass(frozen=True)
class Converted:
    """The first call: the model with the published parameters, the folders, and what was requested."""

    model: Model
    root: Path
    network: ResNeXt
    requests: int

    @property
    def file(self) -> Path:
        (file,) = cache(self.root).glob("*.safetensors")
        return file


def cache(root: Path) -> Path:
    """Return the folder of converted files below torch's cache."""
    return root / "torch" / "hub" / "checkpoints" / "gluon2torch"


def install(root: Path, patch: pytest.MonkeyPatch, *, converter: bool = True) -> None:
    """Use caches below a folder and the entry points of pyproject.toml, also in a checkout."""
    metadata = root / "site" / "gluon2torch-0.dist-info"
    metadata.mkdir(parents=True)
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: gluon2torch\nVersion: 0\n")
    lines = [
        f"[{group}]\n{name} = {value}\n" for group, each in GROUPS.items() for name, value in each.items()
    ]
    (metadata / "entry_points.txt").write_text("".join(lines) if converter else "")
    patch.syspath_prepend(root / "site")
    patch.setenv("MXNET_HOME", str(root / "mxnet"))
    patch.setenv("TORCH_HOME", str(root / "torch"))
    patch.setenv("NO_PROXY", "127.0.0.1")


def use_catalog(model: Model, patch: pytest.MonkeyPatch) -> None:
    """Use a catalog with this model, and a proof that takes a second."""
    models = catalog.models()
    patch.setattr(catalog, "models", lambda: models | {NAME: model})
    patch.setattr(provider, "PROOF", ParityOptions("numpy", sizes=[(33, 47)], dtypes=["float64"]))


@pytest.fixture(scope="module")
def converted(tmp_path_factory: pytest.TempPathFactory) -> Converted:
    """Call ``create_model`` with empty caches and seeded parameters on a server in place of the bucket."""
    root = tmp_path_factory.mktemp("first")
    model = catalog.find(NAME)
    with (root / "a.params").open("wb") as stream:
        write_params(stream, synthetic.random_params(model.mapping, model.shapes, seed=0))
    content = (root / "a.params").read_bytes()
    sha1 = hashlib.sha1(content, usedforsecurity=False).hexdigest()
    model = replace(model, entry=msgspec.structs.replace(model.entry, params_sha1=sha1))
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as stored:
        stored.writestr(model.official_file, content)
    with pytest.MonkeyPatch.context() as patch, serving(whole(archive.getvalue())) as bucket:
        patch.setenv("MXNET_GLUON_REPO", bucket.url)
        install(root, patch)
        use_catalog(model, patch)
        network = create_model("resnet18_v1b", pretrained=True)
        return Converted(model, root, network, len(bucket.seen))


@pytest.fixture
def other(converted: Converted, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a folder with GluonCV's cache alone, and no server."""
    install(tmp_path, monkeypatch)
    use_catalog(converted.model, monkeypatch)
    models = tmp_path / "mxnet" / "models"
    models.mkdir(parents=True)
    published = converted.root / "mxnet" / "models" / converted.model.official_file
    (models / converted.model.official_file).symlink_to(published)
    monkeypatch.setenv("MXNET_GLUON_REPO", "http://127.0.0.1:9")
    return tmp_path


def same(first: ResNeXt, second: ResNeXt) -> bool:
    state = second.state_dict()
    return all(torch.equal(state[name], tensor) for name, tensor in first.state_dict().items())


def test_weights_are_downloaded_converted_proven_and_cached(converted: Converted) -> None:
    file = converted.file
    manifest = json.loads(file.with_suffix(".json").read_text())
    assert {path.name for path in cache(converted.root).iterdir()} == {file.name, f"{file.stem}.json"}
    assert (manifest["parity"]["proven"], manifest["source"]["official"]) == (True, True)
    assert manifest["source"]["sha1"] == converted.model.entry.params_sha1
    assert converted.network.pretrained_cfg["file"] == str(file)
    assert converted.network.pretrained_cfg["architecture"] == NAME
    assert same(converted.network, create_model(weights=file))
    assert converted.requests == 1


def test_cached_file_needs_no_converter_and_no_network(
    converted: Converted, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    install(tmp_path, monkeypatch, converter=False)
    monkeypatch.setenv("TORCH_HOME", str(converted.root / "torch"))
    assert same(create_model(NAME, True), converted.network)  # noqa: FBT003 - timm's second positional argument
    mine = shutil.copytree(cache(converted.root), tmp_path / "mine")
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "empty"))
    model = create_model(NAME, pretrained=True, cache_dir=mine, num_classes=3)
    assert model.num_classes == 3
    assert model.pretrained_cfg["file"] == str(mine / converted.file.name)
    with pytest.raises(
        WeightsError, match=r"no converter is installed\n  try         pip install gluon2torch, or"
    ):
        create_model(NAME, pretrained=True)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        (("parity", "proven"), False),
        (("source", "official"), False),
        (("artifact", "sha256"), "0" * 64),
        (("artifact", "file"), "other.safetensors"),
        (("model",), "gluon_resnet34_v1b"),
        (("model_args",), {"output_stride": 8}),
        (("narrowing",), {}),
    ],
)
def test_file_that_is_not_proven_is_not_used(
    key: tuple[str, ...], value: object, converted: Converted, tmp_path: Path
) -> None:
    path = tmp_path / converted.file.name
    path.symlink_to(converted.file)
    manifest = json.loads(converted.file.with_suffix(".json").read_text())
    path.with_suffix(".json").write_text(json.dumps(manifest))
    assert weight_files.is_proven(path, NAME)
    *parents, last = key
    target = manifest
    for parent in parents:
        target = target[parent]
    target[last] = value
    path.with_suffix(".json").write_text(json.dumps(manifest))
    assert not weight_files.is_proven(path, NAME)


def test_damaged_and_foreign_files_are_not_used(converted: Converted, other: Path) -> None:
    """timm downloads gluon_resnet18_v1b-0757602b.pth into the folder above."""
    folder = shutil.copytree(cache(converted.root), cache(other))
    damaged = folder / converted.file.name
    with damaged.open("r+b") as stream:
        stream.seek(-1, os.SEEK_END)
        stream.write(b"\x55")
    (folder / f"{NAME}-0757602b.safetensors").write_bytes(b"foreign")
    (folder.parent / f"{NAME}-0757602b.pth").write_bytes(b"foreign")
    assert not weight_files.is_proven(damaged, NAME)
    assert pretrained.provide(NAME) == damaged
    assert weight_files.is_proven(damaged, NAME)


def test_failed_proof_leaves_no_file(
    converted: Converted, other: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = replace(converted.model.config, bn_eps=2e-5)
    use_catalog(replace(converted.model, config=config), monkeypatch)
    with pytest.raises(WeightsError, match=r"eps: 1e-05"):
        create_model(NAME, pretrained=True)
    assert [*cache(other).rglob("*")] == []


def test_failed_download_is_reported_and_leaves_no_file(
    other: Path, converted: Converted, monkeypatch: pytest.MonkeyPatch
) -> None:
    (other / "mxnet" / "models" / converted.model.official_file).unlink()
    with serving(status(404)) as bucket:
        monkeypatch.setenv("MXNET_GLUON_REPO", bucket.url)
        with pytest.raises(WeightsError, match=r"not in the cache and cannot be downloaded\n(.*\n)*.* 404 "):
            create_model(NAME, pretrained=True)
    assert [*cache(other).rglob("*")] == []


def test_unproven_file_of_a_converter_is_refused(
    converted: Converted, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    install(tmp_path, monkeypatch)
    use_catalog(converted.model, monkeypatch)
    monkeypatch.setattr(provider, "PROOF", ParityOptions("none"))
    monkeypatch.setenv("MXNET_HOME", str(converted.root / "mxnet"))
    with pytest.raises(WeightsError, match=r"the converter did not prove the weights$"):
        pretrained.provide(NAME)


def test_unpublished_weights_are_refused() -> None:
    with pytest.raises(
        WeightsError, match=r"^gluon_senet154e: GluonCV published no weights of this network\n"
    ):
        create_model("gluon_senet154e", pretrained=True)


def test_weights_and_pretrained_contradict_each_other(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"^expected weights or pretrained=True, found both$"):
        create_model(NAME, tmp_path, pretrained=True)
    assert [*tmp_path.iterdir()] == []
