"""Networks from published folders, local or on the Hugging Face Hub, as timm creates them."""

from __future__ import annotations

import json
import re
import shutil
import sys
from typing import TYPE_CHECKING, Any

import pytest
import timm
import torch
from hub_server import COMMIT, REPO, hub_server
from timm.models import save_for_hf

from converter.commands import conversion, publication
from converter.parity.options import ParityOptions
from resnext_torch import WeightsError, create_model, resolve_data_config

if TYPE_CHECKING:
    from pathlib import Path

    from hub_server import Hub

    from resnext_torch import ResNeXt

__all__ = ["hub_server"]  # a fixture

NAME = "gluon_resnet18_v1b"
LABELS = tuple(f"kind {number}" for number in range(1000))
SHARED = {"architecture", "tag", "custom_load"}  # timm's own


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder that gluon2torch published, with class names."""
    folder = tmp_path_factory.mktemp("published")
    (folder / "labels").write_text("\n".join(LABELS))
    result = conversion.convert(
        NAME, folder / "out", random=0, labels=folder / "labels", options=ParityOptions("none")
    )
    request = publication.PublicationRequest(
        files=(result.artifact,), folder=folder / "published", allow_random=True, allow_unproven=True
    )
    publication.run(request)
    return folder / "published"


@pytest.fixture
def described(published: Path, tmp_path: Path) -> Path:
    """Return a copy of the folder without the weights."""
    ignored = shutil.ignore_patterns("*.safetensors")
    return shutil.copytree(published, tmp_path / "described", ignore=ignored)


def same(first: Any, second: Any) -> bool:  # noqa: ANN401 - ours or timm's
    state = second.state_dict()
    return all(torch.equal(state[name], tensor) for name, tensor in first.state_dict().items())


def change(folder: Path, **values: object) -> None:
    file = folder / "config.json"
    content = {**json.loads(file.read_text()), **values}
    file.write_text(json.dumps({key: value for key, value in content.items() if value is not None}))


def test_local_folder_gives_the_network_of_timm(published: Path) -> None:
    ours = create_model(f"local-dir:{published}", pretrained=True)
    theirs: Any = timm.create_model(f"local-dir:{published}", pretrained=True)
    assert same(ours, theirs)
    expected = {key: value for key, value in theirs.pretrained_cfg.items() if key not in SHARED}
    assert ours.pretrained_cfg["architecture"] == NAME
    result = {key: ours.pretrained_cfg.get(key) for key in expected}
    assert json.loads(json.dumps(result)) == json.loads(json.dumps(expected))
    assert ours.class_names == LABELS == tuple(theirs.pretrained_cfg["label_names"])
    assert same(create_model(weights=published), ours)
    assert create_model(NAME, weights=published).class_names == LABELS


def test_folder_without_pretrained_has_initial_weights(described: Path) -> None:
    change(described, num_classes=7, model_args={"in_chans": 1}, safe_serialization=True)
    model = create_model(f"local-dir:{described}")
    assert (model.num_classes, model.in_chans, model.class_names) == (7, 1, ())
    assert create_model(f"local-dir:{described}", num_classes=3).num_classes == 3
    with pytest.raises(WeightsError, match=r"expected a \.safetensors or \.pth file, found none"):
        create_model(f"local-dir:{described}", pretrained=True)


def test_manifest_names_the_network_that_timm_lacks(described: Path) -> None:
    change(described, architecture=None)
    assert create_model(f"local-dir:{described}").pretrained_cfg["architecture"] == NAME
    (described / "manifest.json").unlink()
    with pytest.raises(WeightsError, match=r"no config\.json or manifest\.json names a network$"):
        create_model(f"local-dir:{described}")


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"architecture": "senet154"}, r"senet154 is not in list_models\(\)$"),
        ({"architecture": "vit_tiny"}, r"vit_tiny is not in list_models\(\)$"),
        ({"model_args": {"act_layer": "silu"}}, "arguments that are not supported: act_layer$"),
        (
            {"architecture": "resnet50d", "model_args": {"output_stride": 8}},
            "timm's dilated gluon_resnet50_v1d pools in its shortcuts, ours does not; use timm$",
        ),
    ],
)
def test_other_network_of_timm_is_refused(described: Path, values: dict[str, object], message: str) -> None:
    change(described, **values)
    with pytest.raises(WeightsError, match=message):
        create_model(f"local-dir:{described}")


def test_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=re.escape(f"{tmp_path / 'none'}: no such folder")):
        create_model(f"local-dir:{tmp_path / 'none'}")


def test_folder_and_weights_contradict_each_other(published: Path) -> None:
    with pytest.raises(ValueError, match=r"^expected weights or local-dir:, found both$"):
        create_model(f"local-dir:{published}", published)


def test_folder_that_timm_saved_is_loaded(tmp_path: Path) -> None:
    theirs: Any = timm.create_model("resnet18", num_classes=3, in_chans=1)
    theirs.pretrained_cfg = {**theirs.pretrained_cfg, "crop_pct": 0.95, "test_input_size": (3, 288, 288)}
    config = {"num_classes": 3, "label_names": ["a", "b", "c"]}
    save_for_hf(
        theirs, str(tmp_path), model_config=config, model_args={"in_chans": 1}, safe_serialization=True
    )
    ours = create_model(f"local-dir:{tmp_path}", pretrained=True).eval()
    assert same(theirs, ours)
    assert ours.class_names == ("a", "b", "c")
    data = resolve_data_config({}, model=ours)
    assert (data["crop_pct"], data["input_size"]) == (0.95, (1, 224, 224))
    assert resolve_data_config({}, model=ours, use_test_size=True)["input_size"] == (1, 288, 288)


@pytest.fixture
def repository(server: Hub, published: Path) -> Hub:
    """Return a hub with the published folder."""
    server.files = {path.name: path.read_bytes() for path in published.iterdir() if path.is_file()}
    return server


def from_hub(cache: Path, *, name: str = REPO, pretrained: bool = True) -> ResNeXt:
    return create_model(f"hf-hub:{name}", pretrained=pretrained, cache_dir=cache)


def test_repository_gives_the_network_of_the_folder(repository: Hub, published: Path, tmp_path: Path) -> None:
    model = from_hub(tmp_path)
    assert same(model, create_model(weights=published))
    assert model.class_names == LABELS
    assert (model.pretrained_cfg["source"], model.pretrained_cfg["hf_hub_id"]) == ("hf-hub", REPO)
    fetched = [path.rpartition("/")[2] for path in repository.requested if path.startswith("GET")]
    assert fetched == ["config.json", "manifest.json", "SHA256SUMS", "model.safetensors"]
    from_hub(tmp_path)
    assert sum(path.startswith("GET") for path in repository.requested) == len(fetched)


def test_weights_are_downloaded_only_if_they_are_used(repository: Hub, tmp_path: Path) -> None:
    assert from_hub(tmp_path, name=f"{REPO}@v1", pretrained=False).num_classes == 1000
    assert f"GET /{REPO}/resolve/v1/config.json" in repository.requested
    assert not any(path.endswith("model.safetensors") for path in repository.requested)
    assert len(COMMIT) == 40


def test_changed_weights_are_refused(repository: Hub, tmp_path: Path) -> None:
    content = repository.files["model.safetensors"]
    repository.files["model.safetensors"] = content[:-1] + bytes([content[-1] ^ 1])
    with pytest.raises(WeightsError, match=r"model\.safetensors: damaged or renamed: expected SHA-256"):
        from_hub(tmp_path)


@pytest.mark.parametrize(
    ("name", "missing", "message"),
    [
        ("org/other", "", "hf-hub:org/other: cannot be downloaded: .*404"),
        (REPO, "config.json", f"hf-hub:{REPO}: cannot be downloaded: .*404"),
        (REPO, "model.safetensors", f"hf-hub:{REPO}: cannot be downloaded: .*404"),
        ("a/b/c", "", "hf-hub:a/b/c: cannot be downloaded: Repo id must be"),
    ],
)
def test_missing_file_or_repository_is_reported(
    name: str, missing: str, message: str, repository: Hub, tmp_path: Path
) -> None:
    repository.files.pop(missing, None)
    with pytest.raises(WeightsError, match=message):
        from_hub(tmp_path, name=name)


def test_missing_huggingface_hub_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(WeightsError, match=r"hf-hub: needs huggingface_hub: pip install huggingface_hub$"):
        from_hub(tmp_path)
