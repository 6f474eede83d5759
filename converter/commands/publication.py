"""Create a folder to publish: weights, timm configuration, model card, manifest and hashes."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import shutil
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING

from msgspec import Struct

from converter.commands.arguments import optional_path, to_path, to_weights
from converter.errors import ArtifactError, PublicationError, UsageError
from converter.manifests import artifact_checks, converted_file, target_weights
from converter.manifests.schema import TrainedManifest
from converter.progress import silent
from converter.publishing import card, configuration, hub, parity_report, replacement, signature
from converter.publishing.card import LOCAL_ADDRESS, CardOptions
from converter.publishing.published_files import CARD, CONFIG, MANIFEST, REPORT, WEIGHTS
from converter.publishing.signature import SIGNATURE
from converter.publishing.sums import SUMS
from converter.storage import disk

if TYPE_CHECKING:
    from collections.abc import Sequence

    from converter.manifests.converted_file import ConvertedFile
    from converter.progress import Progress


@dataclass(frozen=True, slots=True, kw_only=True)
class PublicationRequest:
    """What to publish and where.

    Attributes:
        files: the converted files.
        folder: folder of a single file; of several, the folder that holds one folder per model.
        report: parity report of a single file, to be published with it.
        repo: repository on the hub, as "org/name", that the card refers to.
        license: licence of the weights, None as in ``publish``.
        allow_random: whether random weights may be published.
        allow_unproven: whether unproven weights may be published.
        force: whether a folder that we published may be replaced.
        sign_key: private key that signs each folder.
    """

    files: tuple[Path, ...]
    folder: Path
    report: Path | None = None
    repo: str | None = None
    license: str | None = None
    allow_random: bool = False
    allow_unproven: bool = False
    force: bool = False
    sign_key: Path | None = None


@dataclass(frozen=True, slots=True)
class PublishedFolder:
    """A published folder.

    Attributes:
        folder: the folder.
        converted: the converted file that it was made from.
        commit: URL of the commit on the hub, None if it was not uploaded.
    """

    folder: Path
    converted: ConvertedFile
    commit: str | None = None


class PublishedRecord(Struct, frozen=True, kw_only=True):
    """The JSON document of `gluon2torch publish`, one per folder."""

    model: str
    folder: str
    sha256: str
    proven: bool
    official: bool
    random: bool
    signed: bool
    commit: str | None
    trained: bool


def publish(  # noqa: PLR0913 - the options of the command
    files: str | PathLike[str] | Sequence[str | PathLike[str]],
    folder: str | PathLike[str],
    *,
    report: str | PathLike[str] | None = None,
    push: str | None = None,
    private: bool = False,
    license: str | None = None,  # noqa: A002 - the hub's name for it
    allow_random: bool = False,
    allow_unproven: bool = False,
    force: bool = False,
    sign_key: str | PathLike[str] | None = None,
    progress: Progress = silent,
) -> tuple[PublishedFolder, ...]:
    """Make a folder for timm and the Hugging Face Hub of each converted or trained file.

    No folder gets its name before all of them are written.

    Args:
        files: the converted or trained files, or one of them; each may be given as the folder that contains
            it alone.
        folder: folder of a single file; of several, the folder that holds one folder per model.
        report: parity report of a single file, to be published with it.
        push: repository on the hub, as "org/name", that the folder is uploaded to; huggingface_hub finds the
            token.
        private: whether a new repository is private.
        license: licence of the weights, one of the hub's identifiers; by default that of GluonCV's, and none
            for trained weights.
        allow_random: whether random weights may be published.
        allow_unproven: whether unproven weights may be published.
        force: whether a folder that ``publish`` wrote may be replaced.
        sign_key: private key that signs each folder.
        progress: called with a step, the amount done and the total.

    Raises:
        UsageError: if the arguments contradict each other.
        PublicationError: if a file must not be published, or not in this folder.
        SignatureError: if the key cannot sign.
        HubError: if the upload is not possible or fails; the folder is kept.
        ArtifactError: if a file does not match its manifest.
        StorageError: if a folder cannot be written.
    """
    paths = (files,) if isinstance(files, str | PathLike) else tuple(files)
    if not paths:
        raise UsageError("at least one converted file and the folder to create are required")
    if len(paths) > 1 and (report is not None or push is not None):
        raise UsageError("`report` and `push` require a single converted file", "report", "push")
    if private and push is None:
        raise UsageError("`private` requires `push`", "private", "push")
    if push is not None:
        hub.require_ready(push)
    key = optional_path(sign_key)
    if key is not None:
        signature.require_key(key)
    request = PublicationRequest(
        files=tuple(map(to_weights, paths)),
        folder=to_path(folder),
        report=optional_path(report),
        repo=push,
        license=license,
        allow_random=allow_random,
        allow_unproven=allow_unproven,
        force=force,
        sign_key=key,
    )
    folders = run(request, progress)
    if push is None:
        return folders
    commit = hub.push(folders[0].folder, push, private=private)
    return (dataclasses.replace(folders[0], commit=commit),)


def run(request: PublicationRequest, progress: Progress = silent) -> tuple[PublishedFolder, ...]:
    """Publish each file in a folder.

    Raises:
        PublicationError: if a file must not be published, or not in this folder, or if jinja2 is missing.
        ArtifactError: if a file does not match its manifest.
        StorageError: if a file cannot be read, or a folder cannot be written.
    """
    card.require_libraries()
    request = dataclasses.replace(request, folder=_resolve_name(request.folder))
    converted_files = [artifact_checks.read(path) for path in request.files]
    for file in converted_files:
        _require_fit(request, file)
    page = None if request.report is None else parity_report.read(request.report, converted_files)
    publications = tuple(PublishedFolder(_target(request, file), file) for file in converted_files)
    _require_free(request, publications)
    with contextlib.ExitStack() as stack:
        drafts = []
        for done, each in enumerate(publications, start=1):
            draft = stack.enter_context(disk.temporary_folder(each.folder.parent))
            with disk.writing(each.folder):
                _fill(draft, request, each, page)
            drafts.append(draft)
            progress("publishing", done, len(publications))
        for draft, each in zip(drafts, publications, strict=True):
            replacement.place(draft, each.folder, force=request.force)
    return publications


def document(result: PublishedFolder) -> PublishedRecord:
    """Return the JSON document of a folder."""
    converted = result.converted
    return PublishedRecord(
        model=converted.manifest.model,
        folder=str(result.folder),
        sha256=converted.manifest.artifact.sha256,
        proven=converted.proven,
        official=converted.official,
        random=converted.random,
        signed=(result.folder / SIGNATURE).exists(),
        commit=result.commit,
        trained=converted.trained,
    )


def _resolve_name(folder: Path) -> Path:
    """Resolve a folder that ends in ``.`` or ``..`` to a path with a name; keep links."""
    return folder if folder.name not in {"", ".."} else Path(os.path.realpath(folder))


def _require_fit(request: PublicationRequest, converted: ConvertedFile) -> None:
    if converted.random and not request.allow_random:
        raise PublicationError(
            f"{converted.path}: random weights; --allow-random publishes them, marked as random"
        )
    if not isinstance(converted.manifest, TrainedManifest):
        target_weights.refuse(converted.path, converted.manifest.target)
    if converted.model is not None and not converted.model.classifies_images:
        raise PublicationError(
            f"{converted.path}: a model card describes a classifier of RGB images\n"
            f"  expected    a network with a head and 3 input channels\n"
            f"  found       {converted.model}"
        )
    if not converted.trained and not converted.proven and not request.allow_unproven:
        raise PublicationError(
            f"{converted.path}: unproven according to its manifest; --allow-unproven publishes it, marked as "
            "unproven"
        )


def _target(request: PublicationRequest, converted: ConvertedFile) -> Path:
    return request.folder if len(request.files) == 1 else request.folder / converted.manifest.model


def _require_free(request: PublicationRequest, publications: tuple[PublishedFolder, ...]) -> None:
    """Refuse duplicate or occupied folders; first restore those that a killed run had moved."""
    folders = [each.folder for each in publications]
    if duplicates := sorted({str(folder) for folder in folders if folders.count(folder) > 1}):
        raise PublicationError(f"several files would be published as {', '.join(duplicates)}")
    for folder in folders if request.force else {request.folder, *folders}:
        replacement.restore_moved(folder)
        replacement.require_replaceable(folder, force=request.force)


def _fill(draft: Path, request: PublicationRequest, each: PublishedFolder, page: bytes | None) -> None:
    """Write and flush all files of a folder; sums and signature come last, of the files on disk."""
    converted, manifest = each.converted, each.converted.manifest
    _copy(converted.path, draft / WEIGHTS, manifest.artifact.sha256)
    (draft / MANIFEST).write_bytes(converted.manifest_bytes)
    if page is not None:
        (draft / REPORT).write_bytes(page)
    if module := converted_file.generated_module(manifest):
        _copy(converted.path.with_name(module.file), draft / module.file, module.sha256)
    config = configuration.document(manifest, converted.model)
    _write(draft / CONFIG, json.dumps(config, indent=2, ensure_ascii=False) + "\n")
    place = f"hf-hub:{request.repo}" if request.repo else LOCAL_ADDRESS
    report_name = REPORT if page is not None else None
    _write(draft / CARD, card.render(converted, CardOptions(place, request.license, report_name)))
    lines = [f"{disk.sha256(path)}  {path.name}\n" for path in sorted(draft.iterdir())]
    _write(draft / SUMS, "".join(lines))
    if request.sign_key is not None:
        signature.sign(draft, request.sign_key)
    for path in draft.iterdir():
        disk.flush(path)
    disk.flush_folder(draft)


def _copy(source: Path, target: Path, sha256: str) -> None:
    """Copy a file and check the copy.

    Raises:
        ArtifactError: if the file has changed since it was checked.
    """
    shutil.copyfile(source, target)
    if disk.sha256(target) != sha256:
        raise ArtifactError(f"{source}: changed during the copy")


def _write(path: Path, text: str) -> None:
    path.write_text(text, encoding="utf-8", newline="\n")
