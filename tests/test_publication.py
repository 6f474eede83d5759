"""Published folders load in timm with the reference's logits, other heads and other channels."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import pytest
import timm
import timm.data.config
import torch
from documents import as_dict, as_document
from safetensors.torch import load_file

from converter.commands import conversion, parity_check, publication
from converter.commands.publication import PublicationRequest
from converter.errors import ArtifactError, ConversionError, PublicationError, ReportError, StorageError
from converter.formats.params import write_params
from converter.networks import catalog
from converter.networks.selection import ParamsSource
from converter.networks.synthetic import random_params
from converter.parity import json_report, report
from converter.parity.options import ParityOptions
from converter.publishing import card, timm_config
from converter.storage import disk, locks
from converter.targets.building import WithoutInitialization
from resnext_torch import WeightsError, create_model
from resnext_torch.names import TIMM_ARCHITECTURES

if TYPE_CHECKING:
    from collections.abc import Callable

    from converter.parity.json_report import Document

LIMIT = 1e-5  # relative to the logits' standard deviation, in float32; measured 2e-7
LARGE, SMALL = "gluon_resnext50_32x4d", "gluon_cifar_resnext29_32x4d"
ALL_FILES = {"README.md", "SHA256SUMS", "config.json", "manifest.json", "model.safetensors"}
ALLOWED: dict[str, Any] = {"allow_random": True, "allow_unproven": True}


def convert(name: str, out: Path) -> Path:
    """Convert seeded parameters without a proof."""
    return conversion.run(
        conversion.ConversionRequest(
            source=ParamsSource(catalog.find(name), seed=0), out=out, options=ParityOptions("none")
        )
    ).artifact


@pytest.fixture(scope="session")
def large(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a published folder of ResNeXt-50 with random weights."""
    folder = tmp_path_factory.mktemp("large")
    file = convert(LARGE, folder)
    publication.run(PublicationRequest(files=(file,), folder=folder / "published", **ALLOWED))
    return folder / "published"


@pytest.fixture(scope="session")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a converted file of the smallest network with random weights."""
    return convert(SMALL, tmp_path_factory.mktemp("small"))


@pytest.fixture(scope="session")
def proven(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a converted file, proven against numpy, whose parameters are not marked as random."""
    folder, model = tmp_path_factory.mktemp("proven"), catalog.find(SMALL)
    labels = folder / "labels.txt"
    labels.write_text("".join(f"kind {number}\n" for number in range(10)))
    with (folder / "mine.params").open("wb") as stream:
        write_params(stream, random_params(model.mapping, model.shapes, seed=1))
    options = ParityOptions("numpy", sizes=[(33, 33)], dtypes=["float32"])
    request = conversion.ConversionRequest(
        source=ParamsSource(model, folder / "mine.params"), out=folder, options=options, labels=labels
    )
    return conversion.run(request).artifact


@pytest.fixture
def make_request(tmp_path: Path) -> Callable[..., PublicationRequest]:
    """Return a function that makes a request for ``tmp_path/out`` with everything allowed."""

    def make(*files: Path, **options: Any) -> PublicationRequest:  # noqa: ANN401 - fields of several types
        return PublicationRequest(files=files, folder=tmp_path / "out", **{**ALLOWED, **options})

    return make


def timm_model(folder: Path, **options: Any) -> Any:  # noqa: ANN401 - a module with untyped layers
    """Return timm's model of a folder, without initial values that the pretrained ones replace."""
    with WithoutInitialization() if options.get("pretrained") else contextlib.nullcontext():
        return timm.create_model(f"local-dir:{folder}", **options)


def images(channels: int = 3) -> torch.Tensor:
    return torch.randn(2, channels, 97, 65, generator=torch.Generator().manual_seed(0))


def logits(model: torch.nn.Module, x: torch.Tensor) -> torch.Tensor:
    with torch.inference_mode():
        output: torch.Tensor = model.eval()(x)
    return output


def relative_difference(first: torch.Tensor, second: torch.Tensor) -> float:
    return float((first - second).abs().max() / first.std())


def test_timm_gives_the_reference_logits(large: Path) -> None:
    theirs = timm_model(large, pretrained=True)
    ours = create_model(LARGE, large)
    assert relative_difference(logits(ours, images()), logits(theirs, images())) <= LIMIT
    untrained = timm_model(large, pretrained=False)
    assert relative_difference(logits(ours, images()), logits(untrained, images())) > LIMIT


def test_timm_can_replace_the_head(large: Path) -> None:
    model = timm_model(large, pretrained=True, num_classes=7)
    assert logits(model, images()).shape == (2, 7)
    complete = timm_model(large, pretrained=True)
    assert torch.equal(model.layer4[2].conv3.weight, complete.layer4[2].conv3.weight)


@pytest.mark.parametrize("channels", [1, 4])
def test_timm_can_change_the_input_channels(large: Path, channels: int) -> None:
    model = timm_model(large, pretrained=True, in_chans=channels)
    assert logits(model, images(channels)).shape == (2, 1000)
    assert model.conv1.weight.shape[1] == channels


@pytest.mark.parametrize(
    ("key", "options"), [("classifier", {"num_classes": 7}), ("first_conv", {"in_chans": 1})]
)
def test_timm_fails_without_the_config_key(
    large: Path, tmp_path: Path, key: str, options: dict[str, int]
) -> None:
    config = json.loads((large / "config.json").read_text())
    del config["pretrained_cfg"][key]
    (tmp_path / "config.json").write_text(json.dumps(config))
    (tmp_path / "model.safetensors").symlink_to(large / "model.safetensors")
    with pytest.raises(RuntimeError, match="size mismatch"):
        timm_model(tmp_path, pretrained=True, **options)


def test_timm_reads_the_preprocessing(large: Path) -> None:
    resolve: Any = timm.data.config.resolve_data_config
    resolved = resolve({}, model=timm_model(large))
    assert (tuple(resolved["input_size"]), resolved["crop_pct"], resolved["interpolation"]) == (
        (3, 224, 224),
        0.875,
        "bicubic",
    )


def test_card_code_loads_the_model_and_extracts_features(
    large: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(large)
    blocks = re.findall(r"```python\n(.*?)```", (large / "README.md").read_text(), re.DOTALL)
    names: dict[str, Any] = {"tensor": images(), "torch": torch, "NUM_FINETUNE_CLASSES": 5}
    for block in (block for block in blocks if "urllib" not in block):
        exec(block, names)  # noqa: S102 - the card's own code
    assert [level.shape[1] for level in names["levels"]] == [64, 256, 512, 1024, 2048]
    assert names["model"].num_classes == 5


@pytest.mark.parametrize("name", TIMM_ARCHITECTURES)
def test_timm_network_has_the_same_tensor_names(name: str) -> None:
    model = catalog.find(name)
    config = timm_config.document(model, None)
    with torch.device("meta"), WithoutInitialization():
        theirs = timm.create_model(config["architecture"], pretrained_cfg=config["pretrained_cfg"])
    assert {name: tuple(tensor.shape) for name, tensor in theirs.state_dict().items()} == model.shapes
    assert f"{config['pretrained_cfg']['first_conv']}.weight" in model.shapes


@pytest.mark.parametrize(
    "name",
    [
        "gluon_resnet18_v1b",
        "gluon_resnet50_v1c",
        "gluon_resnet50_v1d",
        "gluon_resnet50_v1s",
        "gluon_seresnext50_32x4d",
    ],
)
def test_timm_network_gives_the_same_logits(name: str) -> None:
    ours = create_model(name)
    with WithoutInitialization():
        theirs = timm.create_model(TIMM_ARCHITECTURES[name])
    theirs.load_state_dict(ours.state_dict(), strict=True)
    assert relative_difference(logits(ours, images()), logits(theirs, images())) <= LIMIT


def test_different_network_with_equal_tensors_gives_other_logits() -> None:
    ours = create_model("gluon_resnet18_v1b")
    with WithoutInitialization():
        theirs = timm.create_model("resnet18")
    theirs.load_state_dict(ours.state_dict(), strict=True)
    theirs.maxpool = torch.nn.MaxPool2d(3, 2, ceil_mode=True)
    assert relative_difference(logits(ours, images()), logits(theirs, images())) > LIMIT


def test_folder_holds_all_files_and_valid_checksums(
    small: Path, make_request: Callable[..., PublicationRequest]
) -> None:
    (actual,) = publication.run(make_request(small))
    assert {path.name for path in actual.folder.iterdir()} == ALL_FILES
    assert (actual.folder / "model.safetensors").read_bytes() == small.read_bytes()
    assert (actual.folder / "manifest.json").read_bytes() == small.with_suffix(".json").read_bytes()
    check = ["sha256sum", "-c", "--strict", "SHA256SUMS"]
    result = subprocess.run(check, cwd=actual.folder, capture_output=True, text=True, check=True)
    assert result.stdout.count(": OK") == len(ALL_FILES) - 1
    (actual.folder / "config.json").write_text("{}")
    assert subprocess.run(check, cwd=actual.folder, capture_output=True, check=False).returncode == 1


def test_publishing_is_reproducible(small: Path, tmp_path: Path) -> None:
    for name in ("first", "second"):
        publication.run(PublicationRequest(files=(small,), folder=tmp_path / name, **ALLOWED))
    for path in (tmp_path / "first").iterdir():
        assert path.read_bytes() == (tmp_path / "second" / path.name).read_bytes()


def test_proven_file_is_published_with_its_labels(proven: Path, tmp_path: Path) -> None:
    (result,) = publication.run(PublicationRequest(files=(proven,), folder=tmp_path / "out"))
    config = json.loads((result.folder / "config.json").read_text())
    assert config["num_classes"] == config["pretrained_cfg"]["num_classes"] == 10
    assert config["label_names"] == [f"kind {number}" for number in range(10)]
    assert "architecture" not in config
    text = (result.folder / "README.md").read_text()
    assert "UNPROVEN" not in text
    assert "the built-in NumPy reference" in text
    assert "**timm does not have this network**" in text


def test_labels_reach_timm(tmp_path: Path) -> None:
    model = catalog.find("gluon_resnet18_v1b").with_config(num_classes=2)
    (tmp_path / "config.json").write_text(json.dumps(timm_config.document(model, ("cat", "dog"))))
    result = timm_model(tmp_path)
    assert (result.num_classes, result.pretrained_cfg["label_names"]) == (2, ["cat", "dog"])


def test_several_files_get_a_folder_each(small: Path, proven: Path, tmp_path: Path) -> None:
    other = convert("gluon_resnet18_v1b", tmp_path)
    result = publication.run(PublicationRequest(files=(small, other), folder=tmp_path / "out", **ALLOWED))
    assert [each.folder for each in result] == [
        tmp_path / "out" / SMALL,
        tmp_path / "out" / "gluon_resnet18_v1b",
    ]
    assert all({path.name for path in each.folder.iterdir()} == ALL_FILES for each in result)
    with pytest.raises(PublicationError, match=f"several files would be published as .*{SMALL}"):
        publication.run(PublicationRequest(files=(small, proven), folder=tmp_path / "new", **ALLOWED))


@pytest.mark.parametrize(
    ("refused", "message"),
    [
        ({"allow_random": False}, "random weights; --allow-random publishes them, marked as random"),
        ({"allow_unproven": False}, "unproven according to its manifest; --allow-unproven"),
    ],
)
def test_random_and_unproven_weights_need_permission(
    small: Path,
    make_request: Callable[..., PublicationRequest],
    tmp_path: Path,
    refused: dict[str, bool],
    message: str,
) -> None:
    with pytest.raises(PublicationError, match=message):
        publication.run(make_request(small, **refused))
    assert list(tmp_path.iterdir()) == []


def test_nonempty_folder_is_not_replaced_without_force(
    small: Path, make_request: Callable[..., PublicationRequest]
) -> None:
    publication.run(make_request(small))
    with pytest.raises(PublicationError, match="not empty; --force replaces a folder that publish wrote"):
        publication.run(make_request(small))


def test_force_replaces_only_published_files(
    small: Path, proven: Path, make_request: Callable[..., PublicationRequest]
) -> None:
    (before,) = publication.run(make_request(small))
    (after,) = publication.run(make_request(proven, force=True))
    assert (after.folder / "model.safetensors").read_bytes() == proven.read_bytes()
    assert [path.name for path in before.folder.parent.iterdir()] == ["out"]
    (after.folder / "thesis.tex").touch()
    with pytest.raises(
        PublicationError, match=r"not replaced: it contains files that publish did not write: thesis\.tex"
    ):
        publication.run(make_request(small, force=True))
    assert (after.folder / "thesis.tex").exists()


def test_file_in_place_of_the_folder_is_not_replaced(
    small: Path, make_request: Callable[..., PublicationRequest], tmp_path: Path
) -> None:
    (tmp_path / "out").write_text("precious")
    with pytest.raises(PublicationError, match="exists and is not a folder"):
        publication.run(make_request(small, force=True))


def test_failure_leaves_no_files(
    small: Path,
    make_request: Callable[..., PublicationRequest],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    def fail(*_: object) -> str:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(card, "render", fail)
    with pytest.raises(StorageError, match="out: cannot be written: No space left on device"):
        publication.run(make_request(small))
    assert list(tmp_path.iterdir()) == []


def test_existing_folder_is_restored_if_the_rename_fails(
    small: Path,
    make_request: Callable[..., PublicationRequest],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    (before,) = publication.run(make_request(small))
    replace_path = Path.replace

    def fail(path: Path, target: Path) -> Path:
        if locks.TEMPORARY.fullmatch(path.name):
            raise PermissionError(13, "Permission denied")
        return replace_path(path, target)

    monkeypatch.setattr(Path, "replace", fail)
    with pytest.raises(StorageError, match="out: cannot be written: Permission denied"):
        publication.run(make_request(small, force=True))
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
    assert {path.name for path in before.folder.iterdir()} == ALL_FILES


def test_current_folder_can_be_published_to(
    small: Path,
    make_request: Callable[..., PublicationRequest],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    (tmp_path / "out").mkdir()
    monkeypatch.chdir(tmp_path / "out")
    (result,) = publication.run(dataclasses.replace(make_request(small), folder=Path()))
    assert result.folder == tmp_path / "out"
    assert {path.name for path in result.folder.iterdir()} == ALL_FILES


def test_parent_folder_is_resolved_to_its_name(
    small: Path,
    make_request: Callable[..., PublicationRequest],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    (tmp_path / "out" / "inner").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "out" / "inner")
    with pytest.raises(
        PublicationError, match="/out: not replaced: it contains files that publish did not write: inner"
    ):
        publication.run(dataclasses.replace(make_request(small, force=True), folder=Path("..")))


def test_second_of_two_concurrent_runs_is_refused(
    small: Path, proven: Path, make_request: Callable[..., PublicationRequest], tmp_path: Path
) -> None:
    def meanwhile(*_: object) -> None:
        publication.run(make_request(proven))

    with pytest.raises(PublicationError, match="not empty; --force replaces a folder that publish wrote"):
        publication.run(make_request(small), meanwhile)
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
    assert (tmp_path / "out" / "model.safetensors").read_bytes() == proven.read_bytes()


def test_force_keeps_a_file_added_while_publishing(
    small: Path, proven: Path, make_request: Callable[..., PublicationRequest], tmp_path: Path
) -> None:
    publication.run(make_request(small))
    thesis = tmp_path / "out" / "thesis.tex"
    with pytest.raises(PublicationError, match=r"files that publish did not write: thesis\.tex"):
        publication.run(make_request(proven, force=True), lambda *_: thesis.touch())
    assert {path.name for path in thesis.parent.iterdir()} == {*ALL_FILES, "thesis.tex"}
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_force_keeps_a_file_added_just_before_the_rename(
    small: Path,
    make_request: Callable[..., PublicationRequest],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    publication.run(make_request(small))
    thesis = tmp_path / "out" / "thesis.tex"
    replace_path = Path.replace

    def late(path: Path, target: Path) -> Path:
        if path == thesis.parent:
            thesis.touch()
        return replace_path(path, target)

    monkeypatch.setattr(Path, "replace", late)
    with pytest.raises(PublicationError, match=r"files that publish did not write: thesis\.tex"):
        publication.run(make_request(small, force=True))
    assert {path.name for path in thesis.parent.iterdir()} == {*ALL_FILES, "thesis.tex"}
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


@pytest.mark.parametrize("empty", [False, True], ids=["missing folder", "empty folder"])
def test_folder_moved_by_a_killed_run_is_restored(
    small: Path, proven: Path, make_request: Callable[..., PublicationRequest], tmp_path: Path, *, empty: bool
) -> None:
    (before,) = publication.run(make_request(small))
    before.folder.rename(tmp_path / ".convert-out.old")  # killed before the new folder was renamed
    if empty:
        before.folder.mkdir()
    with pytest.raises(PublicationError, match="not empty; --force replaces a folder that publish wrote"):
        publication.run(make_request(proven))
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
    assert (before.folder / "model.safetensors").read_bytes() == small.read_bytes()


def test_leftovers_of_killed_runs_are_deleted(
    small: Path, make_request: Callable[..., PublicationRequest], tmp_path: Path
) -> None:
    (before,) = publication.run(make_request(small))
    shutil.copytree(before.folder, tmp_path / ".convert-out.old")  # killed after the new folder was renamed
    (tmp_path / locks.temporary_name()).mkdir()  # killed while the new folder was written
    disk._sweep_once.cache_clear()  # as in another process
    (after,) = publication.run(make_request(small, force=True))
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
    assert {path.name for path in after.folder.iterdir()} == ALL_FILES


def test_foreign_files_are_not_deleted(
    small: Path, make_request: Callable[..., PublicationRequest], tmp_path: Path
) -> None:
    publication.run(make_request(small))
    (tmp_path / ".convert-out.old").mkdir()
    (tmp_path / ".convert-out.old" / "thesis.tex").touch()
    with pytest.raises(
        PublicationError,
        match=r"\.convert-out\.old: not replaced: .* did not write: thesis\.tex",
    ):
        publication.run(make_request(small, force=True))
    assert (tmp_path / ".convert-out.old" / "thesis.tex").exists()
    assert (tmp_path / "out" / "model.safetensors").exists()


def test_weights_changed_while_copying_are_refused(
    small: Path,
    make_request: Callable[..., PublicationRequest],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    def corrupt(source: Path, target: Path) -> None:
        target.write_bytes(source.read_bytes()[:-1] + b"!")

    monkeypatch.setattr(shutil, "copyfile", corrupt)
    with pytest.raises(ArtifactError, match="changed during the copy"):
        publication.run(make_request(small))
    assert list(tmp_path.iterdir()) == []


@pytest.fixture(scope="session")
def page(proven: Path) -> str:
    """Return the parity report of that file, as `gluon2torch parity` writes it."""
    source = ParamsSource(catalog.find(SMALL), proven.parent / "mine.params")
    options = ParityOptions("numpy", sizes=[(33, 33)], dtypes=["float32"])
    comparison = parity_check.run(
        parity_check.ComparisonRequest(source=source, weights=proven, options=options)
    )
    return report.render(json_report.build(comparison))


def with_data(page: str, document: Document) -> bytes:
    """Return a report in which only the data are replaced; its charts and tables stay as they are."""
    opening, _, closing = report.DATA.pattern.partition(b"(.*?)")
    data = opening + msgspec.json.encode(document).replace(b"<", rb"\u003c") + closing
    return report.DATA.sub(lambda _: data, page.encode())


def test_matching_report_is_published(
    proven: Path, page: str, make_request: Callable[..., PublicationRequest], tmp_path: Path
) -> None:
    path = tmp_path / "report.html"
    path.write_text(page, encoding="utf-8")
    (result,) = publication.run(make_request(proven, report=path))
    assert (result.folder / "parity.html").read_bytes() == path.read_bytes()
    assert hashlib.sha256(path.read_bytes()).hexdigest() in (result.folder / "SHA256SUMS").read_text()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model": "tiny"}, f"model: expected {SMALL}, found tiny"),
        ({"agrees": False}, "result: expected agrees, found differs"),
        ({"checks": []}, "result: expected agrees, found differs"),
        ({"blind": ["features.0"]}, "result: expected agrees, found differs"),
        ({"tensors": {"compared": 0}}, "result: expected agrees, found differs"),
        ({"reference": {"name": "none"}}, "result: expected agrees, found differs"),
        ({"source": {"symbol_sha256": "0" * 64}}, "SHA-256 of the graph: expected None, found 0{64}"),
        ({"source": {"sha1": "other"}}, "SHA-1 of the parameters: expected [0-9a-f]{40}, found other"),
        ({"weights": {"sha256": "other"}}, "SHA-256 of the weights: expected [0-9a-f]{64}, found other"),
    ],
    ids=["model", "result", "checks", "vacuous", "tensors", "reference", "graph", "parameters", "weights"],
)
def test_report_of_other_weights_is_refused(
    proven: Path,
    page: str,
    make_request: Callable[..., PublicationRequest],
    tmp_path: Path,
    changes: dict[str, Any],
    message: str,
) -> None:
    path = tmp_path / "report.html"
    content = as_dict(report.parse(page.encode(), path))
    for key, value in changes.items():
        content[key] = content[key] | value if isinstance(value, dict) else value
    path.write_bytes(with_data(page, as_document(content)))
    with pytest.raises(PublicationError, match=rf"report\.html: not a report of {proven.name}: {message}"):
        publication.run(make_request(proven, report=path))


@pytest.mark.parametrize(
    ("layer", "change"),
    [
        (3, {"agrees": False}),
        (3, {"relative": 9.0, "limit": 10.0}),
        (3, {"relative": None}),
        (3, {"relative": -1.0}),
        (3, {"source": "other"}),
        (3, {"target": "other"}),
        (-1, {"relative": 5e-5}),  # the logits have a lower limit than the layers before them
    ],
)
def test_report_with_a_contradictory_layer_is_refused(
    proven: Path,
    page: str,
    make_request: Callable[..., PublicationRequest],
    tmp_path: Path,
    layer: int,
    change: dict[str, Any],
) -> None:
    path = tmp_path / "report.html"
    content = as_dict(report.parse(page.encode(), path))
    (check,) = (check for check in content["checks"] if check["dtype"] == "float32")
    check["layers"][layer] |= change
    path.write_bytes(with_data(page, as_document(content)))
    with pytest.raises(PublicationError, match="result: expected agrees, found differs"):
        publication.run(make_request(proven, report=path))


def test_report_with_a_layer_twice_is_refused(
    proven: Path, page: str, make_request: Callable[..., PublicationRequest], tmp_path: Path
) -> None:
    path = tmp_path / "report.html"
    content = as_dict(report.parse(page.encode(), path))
    content["checks"][0]["layers"].append(content["checks"][0]["layers"][0])
    path.write_bytes(with_data(page, as_document(content)))
    with pytest.raises(PublicationError, match="result: expected agrees, found differs"):
        publication.run(make_request(proven, report=path))


def test_report_with_two_documents_is_refused(
    proven: Path, page: str, make_request: Callable[..., PublicationRequest], tmp_path: Path
) -> None:
    path = tmp_path / "report.html"
    (data,) = re.findall(r'<script type="application/json" id="document".*?</script>', page)
    path.write_text(page.replace(data, data + data), encoding="utf-8")
    with pytest.raises(ReportError, match="expected one document, found 2"):
        publication.run(make_request(proven, report=path))


def test_report_on_the_conversion_itself_is_published_with_unrounded_weights(
    proven: Path, page: str, make_request: Callable[..., PublicationRequest], tmp_path: Path
) -> None:
    path = tmp_path / "report.html"
    document = msgspec.structs.replace(report.parse(page.encode(), path), weights=None)
    path.write_bytes(with_data(page, document))
    (result,) = publication.run(make_request(proven, report=path))
    assert (result.folder / "parity.html").exists()


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda _: None, StorageError, "No such file"),
        (os.mkfifo, StorageError, "not a regular file"),
        (lambda path: path.symlink_to("/dev/zero"), StorageError, "not a regular file"),
        (lambda path: path.write_bytes(b"\xff"), ReportError, "not a parity report of this version: "),
        (
            lambda path: path.write_bytes(bytes(report.MAX_BYTES + 1)),
            StorageError,
            "more than 16777216 bytes",
        ),
    ],
)
def test_unreadable_report_is_refused(
    proven: Path,
    make_request: Callable[..., PublicationRequest],
    tmp_path: Path,
    make: Callable[[Path], object],
    error: type[ConversionError],
    message: str,
) -> None:
    path = tmp_path / "report.html"
    make(path)
    with pytest.raises(error, match=rf"report\.html: {message}"):
        publication.run(make_request(proven, report=path))


def test_published_report_is_the_one_that_was_checked(
    proven: Path,
    page: str,
    make_request: Callable[..., PublicationRequest],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    path, copy = tmp_path / "report.html", shutil.copyfile
    path.write_text(page, encoding="utf-8")

    def change(source: Path, target: Path) -> None:
        path.write_text("other")
        copy(source, target)

    monkeypatch.setattr(shutil, "copyfile", change)
    (result,) = publication.run(make_request(proven, report=path))
    assert (result.folder / "parity.html").read_text(encoding="utf-8") == page


def test_resnext_torch_loads_a_published_folder(
    small: Path, make_request: Callable[..., PublicationRequest]
) -> None:
    (result,) = publication.run(make_request(small))
    loaded = create_model(SMALL, result.folder).state_dict()
    assert torch.equal(loaded["fc.weight"], load_file(small)["fc.weight"])


def test_resnext_torch_refuses_a_changed_byte(
    small: Path, make_request: Callable[..., PublicationRequest]
) -> None:
    (result,) = publication.run(make_request(small))
    weights = result.folder / "model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    with pytest.raises(WeightsError, match=r"model\.safetensors: damaged or renamed: expected SHA-256 "):
        create_model(SMALL, result.folder)
    content[-1] ^= 1
    weights.write_bytes(content)
    create_model(SMALL, result.folder)


def test_force_does_not_trust_foreign_checksums(
    small: Path, make_request: Callable[..., PublicationRequest], tmp_path: Path
) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "thesis.txt").write_text("precious")
    sha256 = hashlib.sha256(b"precious").hexdigest()
    (tmp_path / "out" / "SHA256SUMS").write_text(f"{sha256}  thesis.txt\n")
    with pytest.raises(PublicationError, match=r"publish did not write: SHA256SUMS, thesis\.txt"):
        publication.run(make_request(small, force=True))
    assert (tmp_path / "out" / "thesis.txt").read_text() == "precious"


def test_force_keeps_an_edited_card(small: Path, make_request: Callable[..., PublicationRequest]) -> None:
    (result,) = publication.run(make_request(small))
    card = result.folder / "README.md"
    card.write_text(card.read_text() + "my own words\n")
    with pytest.raises(PublicationError, match=r"publish did not write: README\.md"):
        publication.run(make_request(small, force=True))
    assert card.read_text().endswith("my own words\n")
