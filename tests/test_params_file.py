from __future__ import annotations

import hashlib
import os
from dataclasses import replace
from typing import TYPE_CHECKING

import msgspec
import pytest

from converter.errors import SourceError, StorageError
from converter.progress import silent
from converter.sources import params_file

if TYPE_CHECKING:
    from pathlib import Path

    from converter.networks.catalog import Model

CONTENT = b"what GluonCV published" * 1000


@pytest.fixture
def model(tiny: Model) -> Model:
    """Return a model whose published file holds CONTENT."""
    sha1 = hashlib.sha1(CONTENT, usedforsecurity=False).hexdigest()
    return replace(tiny, entry=msgspec.structs.replace(tiny.entry, params_sha1=sha1))


def test_published_file_is_recognised_by_its_hash(model: Model, tmp_path: Path) -> None:
    (tmp_path / "mine.params").write_bytes(CONTENT)
    (tmp_path / "other.params").write_bytes(b"other")
    mine = params_file.from_file(tmp_path / "mine.params", tmp_path, silent)
    assert (mine.name, mine.sha1, mine.is_published(model.published)) == (
        "mine.params",
        model.entry.params_sha1,
        True,
    )
    assert not params_file.from_file(tmp_path / "other.params", tmp_path, silent).is_published(
        model.published
    )


def test_file_with_the_published_name_must_have_the_published_sha1(model: Model, tmp_path: Path) -> None:
    path = tmp_path / model.official_file
    path.write_bytes(CONTENT[:-1])
    with pytest.raises(SourceError, match=f"expected SHA-1 {model.entry.params_sha1}, found [0-9a-f]{{40}}"):
        params_file.verify_published_sha1(params_file.from_file(path, tmp_path, silent), model.published)


def test_pipe_and_folder_are_refused_unread(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "pipe", tmp_path):
        with pytest.raises(StorageError, match=r"not a regular file|a folder, not a file"):
            params_file.from_file(path, tmp_path, silent)


def test_changed_file_is_refused(model: Model, tmp_path: Path) -> None:
    path = tmp_path / "mine.params"
    path.write_bytes(CONTENT)
    source = params_file.from_file(path, tmp_path, silent)
    params_file.verify_published_sha1(source, model.published)
    path.write_bytes(CONTENT + b"more")
    with pytest.raises(StorageError, match="changed while it was read"):
        params_file.verify_published_sha1(source, model.published)
    path.unlink()
    with pytest.raises(StorageError, match="No such file"):
        params_file.verify_published_sha1(source, model.published)


def test_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match=r"none\.params: No such file"):
        params_file.from_file(tmp_path / "none.params", tmp_path, silent)
