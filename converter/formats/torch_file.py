"""Write weights as a ``.pth``, for ``torch.hub`` and programs that do not read safetensors."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, BinaryIO

import numpy as np

from converter.dtypes import BFLOAT16
from converter.errors import ArtifactError
from converter.formats import array_comparison, checkpoint, torch_package
from converter.formats.file_arrays import FileArray
from converter.storage import disk

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from torch import Tensor

    from converter.formats.file_arrays import AnyArray, Arrays

SUFFIX = ".pth"


@dataclass(frozen=True, slots=True)
class TorchDraft:
    """A ``.pth`` under a temporary name that is written, read back and hashed."""

    path: Path
    sha256: str
    size: int


@contextlib.contextmanager
def draft(folder: Path, state: Arrays) -> Iterator[TorchDraft]:
    """Write a state dict to a temporary file in ``folder``, and delete it on exit unless published.

    The file is read back as by ``torch.load(…, weights_only=True)``, and compared bit by bit.

    Raises:
        StorageError: if the file cannot be written.
        ArtifactError: if it differs when read back.
        TorchUnavailableError: if torch is not installed.
    """
    torch_package.require_torch("--format pth")
    with disk.temporary(folder) as path:
        # To a stream: torch would store a path's name in the file.
        with disk.writing(folder), path.open("r+b") as stream:
            _save(state, stream)
        content = checkpoint.read(path)
        if list(content) != list(state) or any(
            array_comparison.compare(name, content[name], state[name]) for name in state
        ):
            raise ArtifactError("read-back check failed: the .pth differs from what was written")
        yield TorchDraft(path, disk.sha256(path), path.stat().st_size)


def _save(state: Arrays, stream: BinaryIO) -> None:
    """Write a state dict with ``torch.save``.

    Raises:
        OSError: if writing fails.
    """
    import torch  # noqa: PLC0415 - the import takes more than a second, and is rarely needed

    try:
        torch.save({name: tensor(array) for name, array in state.items()}, stream)
    except RuntimeError as error:
        # If writing fails or is interrupted, torch still closes its archive, which raises this error.
        raise error.__context__ or error from None


def tensor(array: AnyArray) -> Tensor:
    """Return a copy of an array as a tensor."""
    import torch  # noqa: PLC0415 - as above

    copy = np.asarray(array) if isinstance(array, FileArray) else np.array(array)
    if copy.dtype == BFLOAT16:  # torch does not convert it from numpy
        return torch.from_numpy(copy.view(np.int16)).view(torch.bfloat16)
    return torch.from_numpy(copy)
