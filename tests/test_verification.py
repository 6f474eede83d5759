"""Every possible defect of a file or folder is detected, without false alarms."""

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
from converter.errors import ConversionError, StorageError, VerificationError
from converter.networks import catalog
from converter.networks.selection import ParamsSource
from converter.parity.options import ParityOptions

if TYPE_CHECKING:
    from collections.abc import Callable

    Change = Callable[[Path], object]

NAME = "gluon_cifar_resnext29_32x4d"
WEIGHTS, SUMS = "model.safetensors", "SHA256SUMS"
ALLOWED: dict[str, Any] = {"allow_random": True, "allow_unproven": True}

CONFIG = "config.json"
CLASS_NAME_CHECKS = {(CONFIG, "class names"), (CONFIG, "configuration")}
PUBLISHED = ("README.md", "config.json", "manifest.json", WEIGHTS)


@pytest.fixture(scope="session")
def originals(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with a converted file and its ``.pth`` in ``out``, and a ``published`` folder."""
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
    """Return a copy that a test may damage."""
    return shutil.copytree(originals / "published", tmp_path / "published")


@pytest.fixture
def out(originals: Path, tmp_path: Path) -> Path:
    return shutil.copytree(originals / "out", tmp_path / "out")


def flip_last_bit(path: Path) -> None:
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


def rewrite_sums(folder: Path) -> None:
    """Recompute the checksums, as a forger would."""
    listed = [path for path in sorted(folder.iterdir()) if path.name not in {SUMS, "model.sig"}]
    lines = [f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {path.name}\n" for path in listed]
    (folder / SUMS).write_text("".join(lines))


def edit_json(place: str, *keys: str, value: object) -> Change:
    """Return a change of a JSON file and its checksum."""

    def change(folder: Path) -> None:
        content = json.loads((folder / place).read_text())
        inner = content
        for key in keys[:-1]:
            inner = inner[key]
        inner[keys[-1]] = value
        (folder / place).write_text(json.dumps(content))
        rewrite_sums(folder)

    return change


def link_weights_outside(folder: Path) -> None:
    (folder / WEIGHTS).rename(folder.parent / "elsewhere")
    (folder / WEIGHTS).symlink_to(folder.parent / "elsewhere")


def unjudged(path: Path) -> set[tuple[str, str]]:
    return {(finding.place, finding.what) for finding in verify(path).checks if finding.holds is None}


def failing(path: Path) -> set[tuple[str, str]]:
    verification = verify(path)
    wrong = {(finding.place, finding.what) for finding in verification.checks if finding.holds is False}
    assert verification.holds is (not wrong)
    return wrong


def find_file(out: Path, suffix: str) -> Path:
    (result,) = out.glob(f"*{suffix}")
    return result


def test_published_folder_passes(published: Path) -> None:
    verification = verify(published)
    assert (verification.holds, verification.signed) == (True, False)
    checked = {finding.what for finding in verification.checks}
    assert checked == {
        "form", "sum", "manifest", "bytes", "sha256", "hash in its name", "tensors", "official", "weights",
        "classes", "class names", "configuration", "mapping", "contents",
    }  # fmt: skip
    assert {finding.place for finding in verification.checks if finding.what == "sum"} == {
        path.name for path in published.iterdir() if path.name != SUMS
    }


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (
            lambda folder: flip_last_bit(folder / WEIGHTS),
            {(WEIGHTS, "sum"), (WEIGHTS, "sha256"), (WEIGHTS, "hash in its name")},
        ),
        (lambda folder: flip_last_bit(folder / "README.md"), {("README.md", "sum")}),
        (lambda folder: (folder / "README.md").unlink(), {("README.md", "file")}),
        (lambda folder: (folder / WEIGHTS).unlink(), {(WEIGHTS, "file")}),
        (add("pickle.bin"), {("pickle.bin", "sum")}),
        (add("deep/down.py"), {("deep/down.py", "sum")}),
        (add(".gitignore"), {(".gitignore", "sum")}),
        (add(SUMS, "nonsense"), {(SUMS, "form"), *((name, "sum") for name in PUBLISHED)}),
        (add("manifest.json", "{}"), {("manifest.json", "sum"), ("manifest.json", "manifest")}),
        (add(".convert-0123.part"), {(".convert-0123.part", "file"), (".convert-0123.part", "sum")}),
        (link_weights_outside, {(WEIGHTS, "kind"), (WEIGHTS, "file")}),
        (lambda folder: os.mkfifo(folder / "pipe"), {("pipe", "kind")}),
        (lambda folder: (folder / "gone").symlink_to("nowhere"), {("gone", "kind")}),
        (edit_json("manifest.json", "artifact", "sha256", value="0" * 64), {(WEIGHTS, "sha256")}),
        (edit_json("manifest.json", "artifact", "bytes", value=1), {(WEIGHTS, "bytes")}),
        (
            edit_json("manifest.json", "artifact", "file", value="x-00000000.safetensors"),
            {(WEIGHTS, "hash in its name")},
        ),
        (edit_json("manifest.json", "artifact", "tensors", value=1), {(WEIGHTS, "tensors")}),
        (edit_json("manifest.json", "model", value="gluon_resnext50_32x4d"), {(WEIGHTS, "tensors")}),
        (edit_json("manifest.json", "model", value="vgg"), {(WEIGHTS, "tensors")}),
        (edit_json("manifest.json", "source", "official", value=True), {(WEIGHTS, "official")}),
        (edit_json("manifest.json", "parity", "proven", value=True), {("manifest.json", "manifest")}),
        (edit_json("manifest.json", "labels", value=list("abcdefghij")), CLASS_NAME_CHECKS),
        (edit_json("config.json", "num_classes", value=11), {(CONFIG, "classes"), (CONFIG, "configuration")}),
        (edit_json("config.json", "architecture", value="resnet34"), {(CONFIG, "configuration")}),
        (edit_json("config.json", "pretrained_cfg", "mean", value=[0, 0, 0]), {(CONFIG, "configuration")}),
        (edit_json("manifest.json", "mapping", "sha256", value="0" * 64), {(WEIGHTS, "mapping")}),
        (edit_json("manifest.json", "mapping", "file", value="resnext.toml"), {(WEIGHTS, "mapping")}),
        (edit_json("config.json", "num_classes", value="ten"), {("config.json", "form")}),
    ],
)  # fmt: skip
def test_changed_folder_fails_the_expected_checks(
    published: Path, change: Change, expected: set[tuple[str, str]]
) -> None:
    change(published)
    assert failing(published) == expected


@pytest.mark.parametrize(("depth", "what"), [(10, "configuration"), (100_000, "form")])
def test_deeply_nested_config_fails(published: Path, depth: int, what: str) -> None:
    content = (published / CONFIG).read_text().rstrip().removesuffix("}")
    (published / CONFIG).write_text(f'{content}, "more": {"[" * depth}{"]" * depth}}}')
    rewrite_sums(published)
    assert failing(published) == {(CONFIG, what)}


@pytest.mark.parametrize(
    ("depth", "expected"), [(10, set()), (100_000, {("manifest.json", "manifest")})], ids=["10", "100000"]
)
def test_deeply_nested_manifest_fails(published: Path, depth: int, expected: set[tuple[str, str]]) -> None:
    content = (published / "manifest.json").read_text().rstrip().removesuffix("}")
    (published / "manifest.json").write_text(f'{content}, "more": {"[" * depth}{"]" * depth}}}')
    rewrite_sums(published)
    assert failing(published) == expected


def test_missing_checksums_fail(published: Path) -> None:
    (published / SUMS).unlink()
    assert (SUMS, "form") in failing(published)


@pytest.mark.parametrize("name", [SUMS, "model.sig"])
def test_checksums_that_list_themselves_or_the_signature_fail(published: Path, name: str) -> None:
    (published / "model.sig").touch()
    with (published / SUMS).open("a") as stream:
        stream.write(f"{'0' * 64}  {name}\n")
    assert (SUMS, "form") in failing(published)


def test_link_within_the_folder_is_a_file(published: Path) -> None:
    (published / "README.md").rename(published / "card")
    (published / "README.md").symlink_to("card")
    rewrite_sums(published)
    assert failing(published) == set()


def test_hub_cache_files_are_listed_but_not_judged(published: Path) -> None:
    add(".gitattributes")(published)
    add(".cache/huggingface/download/model.safetensors.metadata")(published)
    assert verify(published).holds
    assert {place for place, what in unjudged(published) if what == "file"} == {
        ".cache/huggingface",
        ".gitattributes",
    }
    add(".cache/other")(published)
    assert failing(published) == {(".cache/other", "sum")}


def test_cyclic_link_fails(published: Path, out: Path) -> None:
    for folder in (published, out):
        (folder / "loop").symlink_to("loop")
        assert failing(folder) == {("loop", "kind")}


@pytest.mark.parametrize("depth", [64, 65, 1500])
def test_folders_are_searched_to_a_maximum_depth(published: Path, depth: int) -> None:
    nested = [published.joinpath(*["d"] * number) for number in range(1, depth + 1)]
    for folder in nested:
        folder.mkdir()
    (published / "d" / "x").touch()
    deepest = {("/".join(["d"] * 65), "kind")} if depth > 64 else set()
    try:
        assert failing(published) == {("d/x", "sum"), *deepest}
    finally:
        (published / "d" / "x").unlink()
        for folder in reversed(nested):  # pytest's own removal overflows the stack
            folder.rmdir()


def test_completely_forged_folder_passes_the_hash_checks(published: Path) -> None:
    (published / "README.md").write_text("Mine.")
    assert failing(published) == {("README.md", "sum")}
    rewrite_sums(published)
    assert failing(published) == set()


def test_converted_file_passes(out: Path) -> None:
    verification = verify(find_file(out, ".safetensors"))
    assert (verification.holds, verification.signed) == (True, False)
    assert {finding.place for finding in verification.checks} == {
        find_file(out, ".safetensors").name,
        find_file(out, ".pth").name,
    }
    assert failing(out) == set()


@pytest.mark.parametrize(
    ("change", "suffix", "checks"),
    [
        (flip_last_bit, ".safetensors", {"sha256", "hash in its name"}),
        (flip_last_bit, ".pth", {"sha256", "hash in its name"}),
        (Path.unlink, ".pth", {"file"}),
    ],
)
def test_changed_converted_file_fails(out: Path, change: Change, suffix: str, checks: set[str]) -> None:
    change(find_file(out, suffix))
    assert failing(out) == {(file_name_in_manifest(out, suffix), what) for what in checks}


def file_name_in_manifest(out: Path, suffix: str) -> str:
    record = json.loads(find_file(out, ".json").read_text())["artifact"]
    file: str = record["file"] if suffix == ".safetensors" else record["pth"]["file"]
    return file


def test_renamed_file_fails(out: Path) -> None:
    for suffix in (".safetensors", ".json"):
        find_file(out, suffix).rename(out / f"other{suffix}")
    assert failing(out) == {("other.safetensors", "name")}


def test_file_without_its_manifest_fails(out: Path) -> None:
    find_file(out, ".json").unlink()
    assert failing(out) == {(find_file(out, ".safetensors").name, "manifest")}


def test_manifest_without_its_file_fails(out: Path, originals: Path) -> None:
    lost = shutil.copy(find_file(originals / "out", ".json"), out / "lost.json")
    assert failing(out) == {(Path(lost).name, "artifact")}


def test_pth_outside_the_folder_is_not_read(out: Path) -> None:
    edit = json.loads(find_file(out, ".json").read_text())
    edit["artifact"]["pth"]["file"] = "../../secret.pth"
    find_file(out, ".json").write_text(json.dumps(edit))
    assert failing(out) == {(find_file(out, ".safetensors").name, "manifest")}


def test_unrelated_files_are_listed_but_not_judged(out: Path) -> None:
    for name in ("summary.json", "notes.txt"):
        add(name, "[]")(out)
    verification = verify(out)
    assert verification.holds
    assert {place for place, what in unjudged(out) if what == "file"} == {"notes.txt", "summary.json"}


def test_temporary_file_of_a_killed_run_fails(out: Path) -> None:
    add(".convert-0123.part")(out)
    assert failing(out) == {(".convert-0123.part", "file")}


def test_leftovers_of_a_killed_publication_fail(published: Path) -> None:
    shutil.copytree(published, published.parent / ".convert-published.old")
    assert failing(published.parent) == {
        (f".convert-published.old/{path.name}", "file") for path in published.iterdir()
    }


def test_parent_of_published_folders_is_verified_folder_by_folder(published: Path) -> None:
    flip_last_bit(published / "README.md")
    assert failing(published.parent) == {("published/README.md", "sum")}


@pytest.mark.parametrize(
    ("name", "error", "message"),
    [
        ("nowhere", StorageError, "nowhere: No such file"),
        ("empty", VerificationError, "empty: contains neither a converted file nor a published folder"),
        ("notes.txt", VerificationError, r"notes\.txt: expected a converted \.safetensors file or a folder"),
        ("pipe", StorageError, "pipe: not a regular file"),
    ],
)
def test_unknown_path_is_refused(
    tmp_path: Path, name: str, error: type[ConversionError], message: str
) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "notes.txt").touch()
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(error, match=message):
        verify(tmp_path / name)


def test_folder_that_was_never_published_is_refused_in_one_message(tmp_path: Path) -> None:
    for name in ("model.safetensors", "config.json", "README.md", "vocab.txt"):
        (tmp_path / name).touch()
    with pytest.raises(
        VerificationError, match=r": not a published folder, and not a folder of conv"
    ) as caught:
        verify(tmp_path)
    assert str(caught.value).splitlines()[-1] == f"  try         gluon2torch inspect {tmp_path}"


@pytest.mark.parametrize("names", [{SUMS}, {"manifest.json"}, {SUMS, CONFIG, "README.md"}])
def test_published_folder_with_missing_files_is_still_checked(published: Path, names: set[str]) -> None:
    for name in names:
        (published / name).unlink()
    assert {name for name, _ in failing(published)} & names


def test_verification_does_not_import_torch(originals: Path) -> None:
    program = (
        "import sys, pathlib; from converter.commands.verification import verify\n"
        "print(verify(pathlib.Path(sys.argv[1])).holds, 'torch' in sys.modules)"
    )
    command = [sys.executable, "-P", "-c", program, str(originals / "published")]
    assert subprocess.check_output(command, text=True).split() == ["True", "False"]


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root ignores permissions")
def test_unreadable_files_are_reported(published: Path, out: Path) -> None:
    (published / "README.md").chmod(0)
    assert failing(published) == {("README.md", "sum")}
    out.chmod(0)
    try:
        with pytest.raises(StorageError, match="out: Permission denied"):
            verify(out)
        with pytest.raises(StorageError, match=r"x\.safetensors: Permission denied"):
            verify(out / "x.safetensors")
    finally:
        out.chmod(0o700)


def test_random_weights_are_reported(out: Path, published: Path) -> None:
    assert (find_file(out, ".safetensors").name, "weights") in unjudged(out)
    assert (WEIGHTS, "weights") in unjudged(published)
    edit_json("manifest.json", "source", "file", value="mine.params")(published)
    edit_json("manifest.json", "artifact", "file", value=f"{NAME}-{'0' * 8}.safetensors")(published)
    assert (WEIGHTS, "weights") not in unjudged(published)


def test_tables_of_another_version_are_not_compared(published: Path) -> None:
    edit_json("manifest.json", "mapping", "sha256", value="0" * 64)(published)
    edit_json("config.json", "pretrained_cfg", "crop_pct", value=1.0)(published)
    assert failing(published)
    edit_json("manifest.json", "version", value="0.0.1")(published)
    assert not failing(published)


def test_unknown_file_with_a_checksum_is_listed(published: Path, out: Path) -> None:
    add("pytorch_model.bin")(published)
    rewrite_sums(published)
    assert not failing(published)
    assert ("pytorch_model.bin", "contents") in unjudged(published)
    assert (find_file(out, ".pth").name, "tensors") in unjudged(out)
