"""Each thing that can be wrong with a file or a folder is found, and nothing else is."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from converter.commands import conversion, publication
from converter.commands.publication import PublicationRequest
from converter.commands.verification import verify
from converter.errors import VerificationError
from converter.networks import catalog
from converter.networks.loading import ParamsSource
from converter.parity.options import ParityOptions

if TYPE_CHECKING:
    from collections.abc import Callable

    Change = Callable[[Path], object]

NAME = "gluon_cifar_resnext29_32x4d"
WEIGHTS, SUMS = "model.safetensors", "SHA256SUMS"
ALLOWED: dict[str, Any] = {"allow_random": True, "allow_unproven": True}

CONFIG = "config.json"
RENAMED = {(CONFIG, "class names"), (CONFIG, "configuration")}
PUBLISHED = ("README.md", "config.json", "manifest.json", WEIGHTS)


@pytest.fixture(scope="session")
def originals(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder ``out`` with a converted file and its ``.pth``, and a ``published`` one."""
    folder = tmp_path_factory.mktemp("originals")
    request = conversion.ConversionRequest(
        source=ParamsSource(catalog.find(NAME), seed=0),
        out=folder / "out",
        options=ParityOptions("none"),
        pth=True,
    )
    publication.run(
        PublicationRequest(files=(conversion.run(request).artifact,), folder=folder / "published", **ALLOWED)
    )
    return folder


@pytest.fixture
def published(originals: Path, tmp_path: Path) -> Path:
    """A copy that a test may spoil."""
    return shutil.copytree(originals / "published", tmp_path / "published")


@pytest.fixture
def out(originals: Path, tmp_path: Path) -> Path:
    return shutil.copytree(originals / "out", tmp_path / "out")


def flip(path: Path) -> None:
    with path.open("r+b") as stream:
        stream.seek(-1, os.SEEK_END)
        last = stream.read(1)[0]
        stream.seek(-1, os.SEEK_END)
        stream.write(bytes([last ^ 1]))


def add(name: str, content: str = "") -> Change:
    def change(folder: Path) -> None:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(content)

    return change


def resum(folder: Path) -> None:
    """Write the sums anew, as whoever forges a folder does."""
    listed = [path for path in sorted(folder.iterdir()) if path.name not in {SUMS, "model.sig"}]
    lines = [f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {path.name}\n" for path in listed]
    (folder / SUMS).write_text("".join(lines))


def edited(place: str, *keys: str, value: object) -> Change:
    """Change what a JSON file says, and its sum too."""

    def change(folder: Path) -> None:
        content = json.loads((folder / place).read_text())
        inner = content
        for key in keys[:-1]:
            inner = inner[key]
        inner[keys[-1]] = value
        (folder / place).write_text(json.dumps(content))
        resum(folder)

    return change


def lead_out(folder: Path) -> None:
    (folder / WEIGHTS).rename(folder.parent / "elsewhere")
    (folder / WEIGHTS).symlink_to(folder.parent / "elsewhere")


def seen(path: Path) -> set[tuple[str, str]]:
    return {(finding.place, finding.what) for finding in verify(path).checks if finding.holds is None}


def failing(path: Path) -> set[tuple[str, str]]:
    found = verify(path)
    wrong = {(finding.place, finding.what) for finding in found.checks if finding.holds is False}
    assert found.holds is (not wrong)
    return wrong


def named(out: Path, suffix: str) -> Path:
    (found,) = out.glob(f"*{suffix}")
    return found


def test_what_was_published_holds(published: Path) -> None:
    found = verify(published)
    assert (found.holds, found.signed) == (True, False)
    checked = {finding.what for finding in found.checks}
    assert checked == {
        "form", "sum", "manifest", "bytes", "sha256", "hash in its name", "tensors", "official", "weights",
        "classes", "class names", "configuration", "mapping", "contents",
    }  # fmt: skip
    assert {finding.place for finding in found.checks if finding.what == "sum"} == {
        path.name for path in published.iterdir() if path.name != SUMS
    }


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (
            lambda folder: flip(folder / WEIGHTS),
            {(WEIGHTS, "sum"), (WEIGHTS, "sha256"), (WEIGHTS, "hash in its name")},
        ),
        (lambda folder: flip(folder / "README.md"), {("README.md", "sum")}),
        (lambda folder: (folder / "README.md").unlink(), {("README.md", "file")}),
        (lambda folder: (folder / WEIGHTS).unlink(), {(WEIGHTS, "file")}),
        (add("pickle.bin"), {("pickle.bin", "sum")}),
        (add("deep/down.py"), {("deep/down.py", "sum")}),
        (add(".gitignore"), {(".gitignore", "sum")}),
        (add(SUMS, "nonsense"), {(SUMS, "form"), *((name, "sum") for name in PUBLISHED)}),
        (add("manifest.json", "{}"), {("manifest.json", "sum"), ("manifest.json", "manifest")}),
        (add(".convert-0123.part"), {(".convert-0123.part", "file"), (".convert-0123.part", "sum")}),
        (lead_out, {(WEIGHTS, "kind"), (WEIGHTS, "file")}),
        (lambda folder: os.mkfifo(folder / "pipe"), {("pipe", "kind")}),
        (lambda folder: (folder / "gone").symlink_to("nowhere"), {("gone", "kind")}),
        (edited("manifest.json", "artifact", "sha256", value="0" * 64), {(WEIGHTS, "sha256")}),
        (edited("manifest.json", "artifact", "bytes", value=1), {(WEIGHTS, "bytes")}),
        (
            edited("manifest.json", "artifact", "file", value="x-00000000.safetensors"),
            {(WEIGHTS, "hash in its name")},
        ),
        (edited("manifest.json", "artifact", "tensors", value=1), {(WEIGHTS, "tensors")}),
        (edited("manifest.json", "model", value="gluon_resnext50_32x4d"), {(WEIGHTS, "tensors")}),
        (edited("manifest.json", "model", value="vgg"), {(WEIGHTS, "tensors")}),
        (edited("manifest.json", "source", "official", value=True), {(WEIGHTS, "official")}),
        (edited("manifest.json", "parity", "proven", value=True), {("manifest.json", "manifest")}),
        (edited("manifest.json", "labels", value=list("abcdefghij")), RENAMED),
        (edited("config.json", "num_classes", value=11), {(CONFIG, "classes"), (CONFIG, "configuration")}),
        (edited("config.json", "architecture", value="resnet34"), {(CONFIG, "configuration")}),
        (edited("config.json", "pretrained_cfg", "mean", value=[0, 0, 0]), {(CONFIG, "configuration")}),
        (edited("manifest.json", "mapping", "sha256", value="0" * 64), {(WEIGHTS, "mapping")}),
        (edited("manifest.json", "mapping", "file", value="resnext.toml"), {(WEIGHTS, "mapping")}),
        (edited("config.json", "num_classes", value="ten"), {("config.json", "form")}),
    ],
)  # fmt: skip
def test_what_was_changed_is_found(published: Path, change: Change, expected: set[tuple[str, str]]) -> None:
    change(published)
    assert failing(published) == expected


@pytest.mark.parametrize(("depth", "what"), [(10, "configuration"), (100_000, "form")])
def test_deeply_nested_config_is_found(published: Path, depth: int, what: str) -> None:
    content = (published / CONFIG).read_text().rstrip().removesuffix("}")
    (published / CONFIG).write_text(f'{content}, "more": {"[" * depth}{"]" * depth}}}')
    resum(published)
    assert failing(published) == {(CONFIG, what)}


@pytest.mark.parametrize(
    ("depth", "expected"), [(10, set()), (100_000, {("manifest.json", "manifest")})], ids=["10", "100000"]
)
def test_deeply_nested_manifest_is_found(published: Path, depth: int, expected: set[tuple[str, str]]) -> None:
    content = (published / "manifest.json").read_text().rstrip().removesuffix("}")
    (published / "manifest.json").write_text(f'{content}, "more": {"[" * depth}{"]" * depth}}}')
    resum(published)
    assert failing(published) == expected


def test_sums_that_are_gone_are_missed(published: Path) -> None:
    (published / SUMS).unlink()
    assert (SUMS, "form") in failing(published)


@pytest.mark.parametrize("name", [SUMS, "model.sig"])
def test_sums_that_no_other_program_finds_right_do_not_hold(published: Path, name: str) -> None:
    (published / "model.sig").touch()
    with (published / SUMS).open("a") as stream:
        stream.write(f"{'0' * 64}  {name}\n")
    assert (SUMS, "form") in failing(published)


def test_a_link_within_the_folder_is_a_file(published: Path) -> None:
    (published / "README.md").rename(published / "card")
    (published / "README.md").symlink_to("card")
    resum(published)
    assert failing(published) == set()


def test_what_the_hub_leaves_is_seen_and_not_judged(published: Path) -> None:
    add(".gitattributes")(published)
    add(".cache/huggingface/download/model.safetensors.metadata")(published)
    assert verify(published).holds
    assert {place for place, what in seen(published) if what == "file"} == {
        ".cache/huggingface",
        ".gitattributes",
    }
    add(".cache/other")(published)
    assert failing(published) == {(".cache/other", "sum")}


def test_a_link_to_itself_is_found(published: Path, out: Path) -> None:
    for folder in (published, out):
        (folder / "loop").symlink_to("loop")
        assert failing(folder) == {("loop", "kind")}


@pytest.mark.parametrize("depth", [64, 65, 1500])
def test_folders_are_looked_into_up_to_a_depth(published: Path, depth: int) -> None:
    nested = [published.joinpath(*["d"] * number) for number in range(1, depth + 1)]
    for folder in nested:
        folder.mkdir()
    (published / "d" / "x").touch()
    deepest = {("/".join(["d"] * 65), "kind")} if depth > 64 else set()
    try:
        assert failing(published) == {("d/x", "sum"), *deepest}
    finally:
        (published / "d" / "x").unlink()
        for folder in reversed(nested):  # pytest's own way of it overruns the stack
            folder.rmdir()


def test_a_folder_that_was_forged_as_a_whole_holds_as_far_as_hashes_go(published: Path) -> None:
    (published / "README.md").write_text("Mine.")
    assert failing(published) == {("README.md", "sum")}
    resum(published)
    assert failing(published) == set()


def test_a_converted_file_holds(out: Path) -> None:
    found = verify(named(out, ".safetensors"))
    assert (found.holds, found.signed) == (True, False)
    assert {finding.place for finding in found.checks} == {
        named(out, ".safetensors").name,
        named(out, ".pth").name,
    }
    assert failing(out) == set()


@pytest.mark.parametrize(
    ("change", "suffix", "whats"),
    [
        (flip, ".safetensors", {"sha256", "hash in its name"}),
        (flip, ".pth", {"sha256", "hash in its name"}),
        (Path.unlink, ".pth", {"file"}),
    ],
)
def test_a_converted_file_that_was_changed_is_found(
    out: Path, change: Change, suffix: str, whats: set[str]
) -> None:
    change(named(out, suffix))
    assert failing(out) == {(named_in_manifest(out, suffix), what) for what in whats}


def named_in_manifest(out: Path, suffix: str) -> str:
    said = json.loads(named(out, ".json").read_text())["artifact"]
    file: str = said["file"] if suffix == ".safetensors" else said["pth"]["file"]
    return file


def test_another_name_is_found(out: Path) -> None:
    for suffix in (".safetensors", ".json"):
        named(out, suffix).rename(out / f"other{suffix}")
    assert failing(out) == {("other.safetensors", "name")}


def test_a_file_without_its_manifest_is_found(out: Path) -> None:
    named(out, ".json").unlink()
    assert failing(out) == {(named(out, ".safetensors").name, "manifest")}


def test_a_manifest_without_its_file_is_found(out: Path, originals: Path) -> None:
    lost = shutil.copy(named(originals / "out", ".json"), out / "lost.json")
    assert failing(out) == {(Path(lost).name, "artifact")}


def test_a_pth_elsewhere_is_not_looked_for(out: Path) -> None:
    edit = json.loads(named(out, ".json").read_text())
    edit["artifact"]["pth"]["file"] = "../../secret.pth"
    named(out, ".json").write_text(json.dumps(edit))
    assert failing(out) == {(named(out, ".safetensors").name, "manifest")}


def test_other_files_in_a_folder_are_seen_and_not_judged(out: Path) -> None:
    for name in ("summary.json", "notes.txt"):
        add(name, "[]")(out)
    found = verify(out)
    assert found.holds
    assert {place for place, what in seen(out) if what == "file"} == {"notes.txt", "summary.json"}


def test_what_a_stopped_run_left_is_found(out: Path) -> None:
    add(".convert-0123.part")(out)
    assert failing(out) == {(".convert-0123.part", "file")}


def test_what_a_stopped_publication_left_is_found(published: Path) -> None:
    shutil.copytree(published, published.parent / ".convert-published.old")
    assert failing(published.parent) == {
        (f".convert-published.old/{path.name}", "file") for path in published.iterdir()
    }


def test_folders_of_published_folders_are_checked_one_by_one(published: Path) -> None:
    flip(published / "README.md")
    assert failing(published.parent) == {("published/README.md", "sum")}


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("nowhere", "nowhere: No such file"),
        ("empty", "empty: neither a converted file nor a published folder is in it"),
        ("notes.txt", r"notes\.txt: a converted \.safetensors expected, or a folder"),
        ("pipe", "pipe: a file was expected"),
    ],
)
def test_what_is_nothing_of_ours_is_refused(tmp_path: Path, name: str, message: str) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "notes.txt").touch()
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(VerificationError, match=message):
        verify(tmp_path / name)


def test_torch_is_not_needed(originals: Path) -> None:
    program = (
        "import sys, pathlib; from converter.commands.verification import verify\n"
        "print(verify(pathlib.Path(sys.argv[1])).holds, 'torch' in sys.modules)"
    )
    command = [sys.executable, "-P", "-c", program, str(originals / "published")]
    assert subprocess.check_output(command, text=True).split() == ["True", "False"]


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may read everything")
def test_what_may_not_be_read_is_said(published: Path, out: Path) -> None:
    (published / "README.md").chmod(0)
    assert failing(published) == {("README.md", "sum")}
    out.chmod(0)
    try:
        with pytest.raises(VerificationError, match="out: Permission denied"):
            verify(out)
        with pytest.raises(VerificationError, match=r"x\.safetensors: Permission denied"):
            verify(out / "x.safetensors")
    finally:
        out.chmod(0o700)


def test_random_weights_are_called_random(out: Path, published: Path) -> None:
    assert (named(out, ".safetensors").name, "weights") in seen(out)
    assert (WEIGHTS, "weights") in seen(published)
    edited("manifest.json", "source", "file", value="mine.params")(published)
    edited("manifest.json", "artifact", "file", value=f"{NAME}-{'0' * 8}.safetensors")(published)
    assert (WEIGHTS, "weights") not in seen(published)


def test_what_is_of_another_version_is_not_held_to_this_ones_tables(published: Path) -> None:
    edited("manifest.json", "mapping", "sha256", value="0" * 64)(published)
    edited("config.json", "pretrained_cfg", "crop_pct", value=1.0)(published)
    assert failing(published)
    edited("manifest.json", "version", value="0.0.1")(published)
    assert not failing(published)


def test_a_file_that_publish_does_not_write_is_seen_though_it_has_a_sum(published: Path, out: Path) -> None:
    add("pytorch_model.bin")(published)
    resum(published)
    assert not failing(published)
    assert ("pytorch_model.bin", "contents") in seen(published)
    assert (named(out, ".pth").name, "tensors") in seen(out)
