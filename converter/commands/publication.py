"""A folder to publish: weights, what timm must know, a model card, provenance and hashes."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from converter.choices import LICENSE
from converter.errors import ArtifactError, PublicationError
from converter.manifests import artifact_checks
from converter.progress import silent
from converter.publishing import card, signature, sums, timm_config
from converter.publishing.card import HERE, CardOptions
from converter.publishing.signature import SIGNATURE
from converter.publishing.sums import SUMS
from converter.storage import disk, locks

if TYPE_CHECKING:
    from converter.manifests.schema import ConvertedFile
    from converter.progress import Progress

WEIGHTS, CONFIG, CARD, MANIFEST = "model.safetensors", "config.json", "README.md", "manifest.json"
REPORT, MAX_REPORT_BYTES = "parity.html", 1 << 24  # ours have less than 1 MB
ALWAYS = (WEIGHTS, CONFIG, CARD, MANIFEST)  # in every folder; with it sums, a report, a signature
CONVERTED = "as converted from them"  # what a report says of weights that have no file of their own


@dataclass(frozen=True, slots=True)
class PublicationRequest:
    """Which files become which folder: ``folder`` itself of one file, ``folder/NAME`` of several.

    Random and unproven weights must be allowed. ``force``: a folder that we made is replaced. ``repo``, as
    "org/name", is where the folder will be, for the card to say so; ``report`` goes with a single file.
    ``sign_key`` is the private key that signs each folder.
    """

    files: tuple[Path, ...]
    folder: Path
    report: Path | None = None
    repo: str | None = None
    license: str = LICENSE
    allow_random: bool = False
    allow_unproven: bool = False
    force: bool = False
    sign_key: Path | None = None


@dataclass(frozen=True, slots=True)
class PublishedFolder:
    """A folder that is there, and what it was made from."""

    folder: Path
    converted: ConvertedFile


def publish(request: PublicationRequest, progress: Progress = silent) -> tuple[PublishedFolder, ...]:
    """Make the folders. None gets its name before all of them are written.

    Errors: ``PublicationError`` for what must not be published or where, ``ArtifactError`` for a file that
    is not what its manifest says, or that cannot be written.
    """
    request = dataclasses.replace(request, folder=_named(request.folder))
    found = [artifact_checks.read(path) for path in request.files]
    for file in found:
        _require_fit(request, file)
    page = _report(request.report, found) if request.report is not None else None
    planned = tuple(PublishedFolder(_target(request, file), file) for file in found)
    _require_free(request, planned)
    with contextlib.ExitStack() as stack:
        drafts = []
        for done, each in enumerate(planned, start=1):
            draft = stack.enter_context(disk.temporary_folder(each.folder.parent))
            with disk.wrap_os_error(each.folder):
                _fill(draft, request, each, page)
            drafts.append(draft)
            progress("publishing", done, len(planned))
        for draft, each in zip(drafts, planned, strict=True):
            _place(draft, each.folder, force=request.force)
    return planned


def _named(folder: Path) -> Path:
    """Return a folder by its name in another, which ``.`` and ``..`` are not; a link stays one."""
    return folder if folder.name not in {"", ".."} else Path(os.path.realpath(folder))


def _require_fit(request: PublicationRequest, found: ConvertedFile) -> None:
    if found.random and not request.allow_random:
        raise PublicationError(f"{found.path}: random weights; --allow-random publishes them as such")
    if not found.manifest.parity.proven and not request.allow_unproven:
        raise PublicationError(
            f"{found.path}: unproven, its manifest says; --allow-unproven publishes it as such"
        )


def _report(path: Path, found: list[ConvertedFile]) -> bytes:
    """Read a parity report that weights agree with their source; refuse any other file."""
    content = disk.read_small(path, MAX_REPORT_BYTES, PublicationError)
    try:
        page = content.decode()
    except UnicodeDecodeError as error:
        raise PublicationError(f"{path}: no text: {error}") from error
    for each in found:
        _require_report(path, page, each)
    return content


def _require_report(report: Path, page: str, found: ConvertedFile) -> None:
    agreement, sha256 = f"<title>agrees: {found.model.name}</title>", found.manifest.artifact.sha256
    # A report of the conversion, without a file of its own, speaks of weights that were not rounded.
    subject = CONVERTED if CONVERTED in page and found.manifest.narrowing is None else sha256
    for expected in (agreement, found.manifest.source.sha1, subject):
        if expected not in page:
            raise PublicationError(f"{report}: no parity report of {found.path.name}: {expected} not in it")


def _target(request: PublicationRequest, found: ConvertedFile) -> Path:
    return request.folder if len(request.files) == 1 else request.folder / found.model.name


def _require_free(request: PublicationRequest, planned: tuple[PublishedFolder, ...]) -> None:
    """Refuse two files for one folder, and one that may not be replaced; what a killed run took returns."""
    folders = [each.folder for each in planned]
    if twice := sorted({str(folder) for folder in folders if folders.count(folder) > 1}):
        raise PublicationError(f"more than one file would become {', '.join(twice)}")
    for folder in folders if request.force else {request.folder, *folders}:
        if _aside(folder).is_dir():
            with disk.locked(folder.parent):
                _restore(folder)
        _require_replaceable(folder, force=request.force)


def _require_replaceable(folder: Path, *, force: bool) -> None:
    """Refuse a folder that is not empty, or with ``force`` one that holds what is not ours."""
    if folder.is_symlink() or (folder.exists() and not folder.is_dir()):
        raise PublicationError(f"{folder}: a folder expected, or nothing")
    inside = {path.name for path in folder.iterdir()} if folder.is_dir() else set()
    if inside and not force:
        raise PublicationError(f"{folder}: is not empty; --force replaces what was published there")
    if inside and (others := inside - _known(folder)):
        raise PublicationError(
            f"{folder}: is not replaced, it holds what we did not write: {', '.join(sorted(others))}"
        )


def _known(folder: Path) -> set[str]:
    """Return the names of what we published in a folder and nobody changed since: its sums tell."""
    try:
        listed = sums.read(folder)
    except PublicationError:
        return set()
    ours = {*ALWAYS, REPORT}
    if not set(ALWAYS) <= listed.keys() <= ours:
        return set()
    same = {
        name
        for name in listed
        if (folder / name).is_file() and disk.sha256(folder / name, PublicationError) == listed[name]
    }
    return {SUMS, SIGNATURE, *same}


def _fill(draft: Path, request: PublicationRequest, each: PublishedFolder, page: bytes | None) -> None:
    """Write everything into a folder, each file flushed; sums and signature last, of what is on the disk."""
    found, manifest = each.converted, each.converted.manifest
    shutil.copyfile(found.path, draft / WEIGHTS)
    if disk.sha256(draft / WEIGHTS, PublicationError) != manifest.artifact.sha256:
        raise ArtifactError(f"{found.path}: changed while it was copied")
    (draft / MANIFEST).write_bytes(found.manifest_bytes)
    if page is not None:
        (draft / REPORT).write_bytes(page)
    config = timm_config.document(found.model, manifest.labels)
    _write(draft / CONFIG, json.dumps(config, indent=2, ensure_ascii=False) + "\n")
    place = f"hf-hub:{request.repo}" if request.repo else HERE
    report = REPORT if page is not None else None
    _write(draft / CARD, card.render(found, CardOptions(place, request.license, report)))
    lines = [f"{disk.sha256(path, PublicationError)}  {path.name}\n" for path in sorted(draft.iterdir())]
    _write(draft / SUMS, "".join(lines))
    if request.sign_key is not None:
        signature.sign(draft, request.sign_key)
    for path in draft.iterdir():
        disk.flush(path)
    disk.flush_folder(draft)


def _write(path: Path, text: str) -> None:
    path.write_text(text, encoding="utf-8", newline="\n")


def _aside(folder: Path) -> Path:
    """Return where a folder is while another takes its name."""
    return folder.parent / f"{locks.PREFIX}{folder.name}.old"


def _restore(folder: Path) -> None:
    """Give a folder that was put aside its name again, unless something has that."""
    with contextlib.suppress(OSError):
        _aside(folder).replace(folder)


def _discard(folder: Path) -> None:
    """Remove a folder; where we are killed meanwhile, the rest is litter by its name."""
    litter = folder.with_name(locks.temporary_name())
    with contextlib.suppress(OSError):
        folder.replace(litter)
        shutil.rmtree(litter, ignore_errors=True)


def _place(draft: Path, folder: Path, *, force: bool) -> None:
    """Give a folder its name, if that is still free; one that has it goes when the new one is there."""
    aside = _aside(folder)
    with disk.wrap_os_error(folder), disk.locked(folder.parent), contextlib.ExitStack() as undo:
        _restore(folder)
        _require_replaceable(folder, force=force)
        if folder.exists():
            _require_replaceable(aside, force=True)  # of a run that was killed when the new one was there
            _discard(aside)
            folder.replace(aside)
            undo.callback(_restore, folder)
            _require_replaceable(aside, force=force)  # again: nothing is put there now
        draft.replace(folder)
        undo.pop_all()
        disk.flush_folder(folder.parent)
        _discard(aside)
