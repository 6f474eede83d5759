"""Parameters from checkpoints on the Hugging Face Hub, which a loopback server imitates."""

from __future__ import annotations

import hashlib
import importlib.util
import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import huggingface_hub
import msgspec
import numpy as np
import pytest
import torch
from hub_server import COMMIT, REPO, hub_server
from huggingface_hub import constants
from safetensors.numpy import load, save
from serving import serving, status
from typer.testing import CliRunner

import converter
from converter.cli.app import convert_app
from converter.commands import pretrained as provider
from converter.errors import MappingError, SourceError, UsageError
from converter.formats.params import write_params
from converter.networks import catalog, hub_source, matching, synthetic
from converter.parity.options import ParityOptions
from resnext_torch import WeightsError, create_model, pretrained

if TYPE_CHECKING:
    from collections.abc import Iterator

    from hub_server import Hub

    from converter.networks.catalog import Model

__all__ = ["hub_server"]  # a fixture

NAME, COPY = "gluon_resnet18_v1b", "timm/resnet18.gluon_in1k"
SOURCE = f"hf-hub:{REPO}"
UNPROVEN = ParityOptions("none")
QUICK = ParityOptions("numpy", sizes=[(33, 47)], dtypes=["float64"])
WEIGHTS = "model.safetensors"


@dataclass(frozen=True)
class Checkpoint:
    """A model with seeded parameters in place of the published ones, and the same as timm publishes them."""

    model: Model
    content: bytes


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Checkpoint:
    model = catalog.find(NAME)
    params = synthetic.random_params(model.mapping, model.shapes, seed=0)
    file = tmp_path_factory.mktemp("published") / "file.params"
    with file.open("wb") as stream:
        write_params(stream, params)
    sha1 = hashlib.sha1(file.read_bytes(), usedforsecurity=False).hexdigest()
    state = matching.rename(model.mapping, params, model.shapes, "file")
    return Checkpoint(
        replace(model, entry=msgspec.structs.replace(model.entry, params_sha1=sha1)),
        save({name: np.asarray(array) for name, array in state.items()}),
    )


@pytest.fixture
def hub(
    server: Hub, checkpoint: Checkpoint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Hub]:
    """Serve the checkpoint, with empty caches and an empty bucket."""
    server.files[WEIGHTS] = checkpoint.content
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setenv("MXNET_HOME", str(tmp_path / "mxnet"))
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    with serving(status(404)) as bucket:
        monkeypatch.setenv("MXNET_GLUON_REPO", bucket.url)
        yield server


@pytest.fixture
def published(checkpoint: Checkpoint, monkeypatch: pytest.MonkeyPatch) -> None:
    """Declare the seeded parameters to be the published ones."""
    models = catalog.models()
    monkeypatch.setattr(catalog, "models", lambda: models | {NAME: checkpoint.model})


def cached(tmp_path: Path) -> Path:
    return tmp_path / "mxnet" / "models" / catalog.find(NAME).official_file


@pytest.mark.usefixtures("hub", "published")
@pytest.mark.parametrize("model", [NAME, "auto"])
def test_rebuilt_file_with_the_published_sha1_is_official(model: str, tmp_path: Path) -> None:
    result = converter.convert(model, tmp_path / "out", source=SOURCE, options=UNPROVEN)
    source = result.manifest.source
    assert (source.official, source.file) == (True, "tiny.params")
    assert source.hub == msgspec.convert({"repository": REPO, "revision": COMMIT}, type(source.hub))
    assert json.loads(result.manifest_file.read_text())["source"]["hub"]["revision"] == COMMIT


@pytest.mark.usefixtures("hub")
def test_rebuilt_file_with_another_sha1_is_not_official(tmp_path: Path) -> None:
    out = tmp_path / "out"
    result = CliRunner().invoke(convert_app, [NAME, str(out), "--from", SOURCE, "--reference", "numpy"])
    assert result.exit_code == 0, result.stderr
    assert "tiny.params: structural names, SHA-1" in result.stdout
    assert "(not a published file)\n" in result.stdout
    assert f"from    rebuilt from {SOURCE}@{COMMIT[:8]}\n" in result.stdout
    (file,) = out.glob("*.json")
    manifest = json.loads(file.read_text())
    assert (manifest["source"]["official"], manifest["parity"]["proven"]) == (False, True)


def test_revision_is_requested_and_a_cached_file_needs_no_network(
    hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = f"{SOURCE}@{COMMIT}"
    first = converter.convert(NAME, tmp_path / "a", source=place, options=UNPROVEN)
    assert all(f"/resolve/{COMMIT}/" in each for each in hub.requested)
    hub.files.clear()
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    second = converter.convert(NAME, tmp_path / "b", source=place, options=UNPROVEN)
    assert first.manifest == second.manifest
    with pytest.raises(
        SourceError, match=r"org/other: not in the Hub's cache, and not downloaded: HF_HUB_OFFLINE is set"
    ):
        converter.convert(NAME, tmp_path / "c", source="hf-hub:org/other", options=UNPROVEN)
    assert not (tmp_path / "c").exists()


@pytest.mark.usefixtures("hub")
def test_download_is_reported(tmp_path: Path, checkpoint: Checkpoint) -> None:
    steps: list[tuple[str, int, int]] = []
    converter.convert(
        NAME, tmp_path, source=SOURCE, options=UNPROVEN, progress=lambda *step: steps.append(step)
    )
    size = len(checkpoint.content)
    assert ("downloading", size, size) in steps


@pytest.mark.usefixtures("hub")
@pytest.mark.parametrize(
    ("model", "source", "error", "message"),
    [
        (NAME, "hf-hub:org/none", SourceError, "hf-hub:org/none: cannot be downloaded: 404"),
        ("gluon_resnet34_v1b", SOURCE, MappingError, f"hf-hub:{REPO}: the names do not match the model"),
        ("gluon_senet154", "hf-hub:timm/senet154.gluon_in1k", SourceError, "computes other outputs"),
        ("senet_154", "hf-hub:Timm/senet154.gluon_in1k", SourceError, "computes other outputs"),
        (NAME, "timm/resnet18", UsageError, r"expected hf-hub:ORG/NAME\[@REVISION\], found 'timm/resnet18'"),
        (NAME, "hf-hub:../..", SourceError, "hf-hub:../..: cannot be downloaded: Repo id must use"),
        (NAME, "hf-hub:org/tiny/file", UsageError, "expected hf-hub:ORG/NAME"),
    ],
)
def test_other_repository_is_refused(
    model: str, source: str, error: type[Exception], message: str, tmp_path: Path
) -> None:
    with pytest.raises(error, match=message):
        converter.convert(model, tmp_path / "out", source=source, options=UNPROVEN)
    assert not [*(tmp_path / "out").glob("*")]


@pytest.mark.parametrize("model", [NAME, "auto"])
def test_checkpoint_of_another_network_with_the_same_tensors_is_refused(
    hub: Hub, model: str, tmp_path: Path
) -> None:
    hub.files["config.json"] = b'{"architecture": "resnetblur18"}'
    with pytest.raises(SourceError, match=f"^{SOURCE}: weights of resnetblur18, not of {NAME}"):
        converter.convert(model, tmp_path / "out", source=SOURCE, options=UNPROVEN)
    assert not [*(tmp_path / "out").glob("*")]


@pytest.mark.usefixtures("published")
def test_published_weights_need_no_description(hub: Hub, tmp_path: Path) -> None:
    hub.files["config.json"] = b'{"architecture": "resnetblur18"}'
    result = converter.convert(NAME, tmp_path, source=SOURCE, options=UNPROVEN)
    assert result.manifest.source.official


def test_configuration_belongs_to_the_commit_of_the_weights(
    hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.files["config.json"] = b'{"architecture": "resnet18"}'
    converter.convert(NAME, tmp_path / "a", source=SOURCE, options=UNPROVEN)
    assert f"GET /{REPO}/resolve/{COMMIT}/config.json" in hub.requested
    (file,) = (tmp_path / "hub").rglob("config.json")
    file.unlink()
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(
        SourceError, match=f"{SOURCE}@{COMMIT}: config.json: not in the Hub's cache, and not downloaded"
    ):
        converter.convert(NAME, tmp_path / "b", source=SOURCE, options=UNPROVEN)


def test_folder_that_publish_wrote_is_converted(hub: Hub, tmp_path: Path) -> None:
    """A dilated network, which only its configuration shows."""
    written = converter.convert(NAME, tmp_path / "a", random=1, output_stride=8, options=UNPROVEN)
    files = (str(written.artifact),)
    converter.publish(files, tmp_path / "published", allow_random=True, allow_unproven=True)
    hub.files = {file.name: file.read_bytes() for file in (tmp_path / "published").iterdir()}
    with pytest.raises(SourceError, match="output stride 8"):
        converter.convert(NAME, tmp_path / "b", source=SOURCE, options=UNPROVEN)
    again = converter.convert("auto", tmp_path / "b", source=SOURCE, output_stride=8, options=UNPROVEN)
    assert again.manifest.artifact.sha256 == written.manifest.artifact.sha256
    assert again.model.arguments == {"output_stride": 8}


@pytest.mark.usefixtures("hub")
def test_senet_of_unknown_origin_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A smaller network takes the place of SENet-154, which has 460 MB."""
    monkeypatch.setattr(hub_source, "SENET", NAME)
    with pytest.raises(SourceError, match=f"^{SOURCE}: timm's senet154 computes other outputs"):
        converter.convert(NAME, tmp_path / "out", source=SOURCE, options=UNPROVEN)
    assert not [*(tmp_path / "out").glob("*")]


@pytest.mark.usefixtures("hub", "published")
def test_published_senet_is_converted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hub_source, "SENET", NAME)
    assert converter.convert(NAME, tmp_path, source=SOURCE, options=UNPROVEN).manifest.source.official


def test_unusable_values_are_reported_with_the_repository(
    hub: Hub, checkpoint: Checkpoint, tmp_path: Path
) -> None:
    state = load(checkpoint.content)
    hub.files[WEIGHTS] = save({**state, "conv1.weight": state["conv1.weight"] * np.float32(np.inf)})
    with pytest.raises(MappingError, match=f"^{SOURCE}: these weights are not usable"):
        converter.convert(NAME, tmp_path / "out", source=SOURCE, options=UNPROVEN)
    assert not [*(tmp_path / "out").glob("*")]


def test_pickle_under_the_name_of_safetensors_is_not_read(hub: Hub, tmp_path: Path) -> None:
    torch.save({"conv1.weight": torch.zeros(3)}, tmp_path / "pickle.pth")
    hub.files[WEIGHTS] = (tmp_path / "pickle.pth").read_bytes()
    with pytest.raises(SourceError, match=f"^{SOURCE}: its {WEIGHTS} is not a safetensors file"):
        converter.convert(NAME, tmp_path / "out", source=SOURCE, options=UNPROVEN)


def test_repository_without_safetensors_is_refused(hub: Hub, tmp_path: Path) -> None:
    hub.files = {"pytorch_model.bin": b"pickle"}
    with pytest.raises(SourceError, match=f"{REPO}: has no {WEIGHTS}, and other files are not read"):
        converter.convert(NAME, tmp_path / "out", source=SOURCE, options=UNPROVEN)


def test_rounded_checkpoint_is_not_official(hub: Hub, checkpoint: Checkpoint, tmp_path: Path) -> None:
    state = load(checkpoint.content)
    hub.files[WEIGHTS] = save(
        {name: array.astype(np.float16) if array.ndim else array for name, array in state.items()}
    )
    result = converter.convert(NAME, tmp_path, source=SOURCE, options=UNPROVEN)
    assert (result.manifest.source.official, result.manifest.artifact.dtypes) == (False, ("float16",))


def test_source_excludes_other_parameters(tmp_path: Path) -> None:
    for other in (["--params", "a.params"], ["--random", "0"]):
        result = CliRunner().invoke(convert_app, [NAME, str(tmp_path), "--from", SOURCE, *other])
        assert result.exit_code == 2
        assert "--from" in result.stderr
        assert "cannot be used together" in result.stderr


def test_damaged_file_in_the_cache_is_refused(hub: Hub, tmp_path: Path) -> None:
    converter.convert(NAME, tmp_path / "a", source=SOURCE, options=UNPROVEN)
    (blob,) = (tmp_path / "hub").glob("*/blobs/*")
    blob.write_bytes(blob.read_bytes()[:-1] + b"\x01")
    with pytest.raises(SourceError, match=f"damaged in the Hub's cache; delete {blob}"):
        converter.convert(NAME, tmp_path / "b", source=SOURCE, options=UNPROVEN)
    assert not [*(tmp_path / "b").glob("*")]
    blob.unlink()
    assert converter.convert(NAME, tmp_path / "b", source=SOURCE, options=UNPROVEN).artifact.exists()
    assert len(hub.requested) > 2


def test_error_of_the_client_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise RuntimeError("Cannot send a request, as the client has been closed.")

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", fail)
    with pytest.raises(SourceError, match=f"{REPO}: cannot be downloaded: Cannot send a request"):
        converter.convert(NAME, tmp_path, source=SOURCE, options=UNPROVEN)


def test_hub_that_does_not_answer_is_reported_at_once(
    hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(
        SourceError,
        match=r"not in the Hub's cache, and http://127\.0\.0\.1:9 does not answer: ConnectionError",
    ):
        converter.convert(NAME, tmp_path, source=SOURCE, options=UNPROVEN)
    assert hub.requested == []


def test_missing_client_is_reported_with_the_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    with pytest.raises(SourceError, match=r'needs huggingface_hub: pip install "gluon2torch\[hub\]"'):
        converter.convert(NAME, tmp_path, source=SOURCE, options=UNPROVEN)


@pytest.mark.usefixtures("hub")
def test_missing_client_is_one_of_the_places_that_were_tried(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    with pytest.raises(
        SourceError, match=rf"\n  hub       hf-hub:{COPY}: needs huggingface_hub: pip install"
    ):
        converter.convert(NAME, tmp_path / "out", options=UNPROVEN)
    assert not [*(tmp_path / "out").glob("*")]


@pytest.mark.usefixtures("published")
def test_copy_on_the_hub_is_used_after_the_bucket(hub: Hub, tmp_path: Path) -> None:
    hub.place = COPY
    result = CliRunner().invoke(convert_app, [NAME, str(tmp_path / "out"), "--reference", "none"])
    assert result.exit_code == 0, result.stderr
    assert f"{cached(tmp_path).name}: structural names, SHA-1" in result.stdout
    assert "(the published file)\n" in result.stdout
    assert f"from    rebuilt from hf-hub:{COPY}@{COMMIT[:8]}\n" in result.stdout
    assert [path.name for path in cached(tmp_path).parent.glob("[!.]*")] == [cached(tmp_path).name]
    hub.files.clear()
    again = converter.convert(NAME, tmp_path / "again", options=UNPROVEN)
    assert (again.manifest.source.official, again.manifest.source.hub) == (True, None)


@pytest.mark.usefixtures("published")
def test_pretrained_network_comes_from_the_copy_on_the_hub(
    hub: Hub, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    hub.place = COPY
    monkeypatch.setattr(provider, "PROOF", QUICK)
    monkeypatch.setattr(pretrained, "_converter", lambda _: provider.provide)
    caplog.set_level("INFO", "resnext_torch")
    model = create_model(NAME, pretrained=True)
    assert caplog.messages[-1] == f"rebuilt GluonCV's file from hf-hub:{COPY}@{COMMIT}"
    manifest = json.loads(Path(model.pretrained_cfg["file"]).with_suffix(".json").read_text())
    assert manifest["source"]["hub"] == {"repository": COPY, "revision": COMMIT}
    assert (manifest["source"]["official"], manifest["parity"]["proven"]) == (True, True)


def test_copy_with_another_sha1_is_refused(hub: Hub, tmp_path: Path) -> None:
    """Nobody named a repository, so that only the published SHA-1 says what it contains."""
    hub.place = COPY
    with pytest.raises(SourceError) as refused:
        converter.convert(NAME, tmp_path / "out", options=UNPROVEN)
    lines = str(refused.value).splitlines()
    assert [line.split()[0] for line in lines[1:4]] == ["cache", "download", "hub"]
    assert lines[3].startswith(f"  hub       hf-hub:{COPY}: expected SHA-1 ")
    assert f"  convert {NAME} OUT --from hf-hub:{COPY}  the same weights, perhaps in another form" in lines
    assert not [*(tmp_path / "out").glob("*"), *cached(tmp_path).parent.glob("[!.]*")]
    assert not [path for path in cached(tmp_path).parent.glob(".*") if path.suffix != ".lock"]


def test_senet_has_no_copy() -> None:
    copies = {name: hub_source.copy_of(name) for name in catalog.models()}
    assert copies["gluon_senet154"] is None
    assert str(copies["gluon_resnext101_64x4d"]) == "hf-hub:timm/resnext101_64x4d.gluon_in1k"
    assert sum(copy is not None for copy in copies.values()) == 20


def test_pretrained_names_every_place_that_was_tried(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    hub.files.clear()
    monkeypatch.setattr(pretrained, "_converter", lambda _: provider.provide)
    with pytest.raises(WeightsError, match=rf"(?s)cache .*download .*hub  .*{COPY}: cannot be downloaded"):
        create_model(NAME, pretrained=True)
