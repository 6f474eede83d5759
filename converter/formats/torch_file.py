"""The same weights as a ``.pth`` of torch's, for ``torch.hub`` and whoever reads no safetensors."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, BinaryIO

import numpy as np

from converter.dtypes import BFLOAT16
from converter.errors import ArtifactError
from converter.formats import array_comparison, checkpoint
from converter.storage import disk

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from torch import Tensor

    from converter.formats.file_arrays import AnyArray, Arrays

SUFFIX = ".pth"


@dataclass(frozen=True, slots=True)
class TorchDraft:
    """A ``.pth`` that is written, read back and hashed, and has no final name yet."""

    path: Path
    sha256: str
    size: int


@contextlib.contextmanager
def draft(folder: Path, state: Arrays) -> Iterator[TorchDraft]:
    """Write a state dict to a temporary file in ``folder``; on leaving it is gone, published or not.

    It is read back as ``torch.load(…, weights_only=True)`` does, and compared bit for bit.
    Errors: ``ArtifactError``.
    """
    with disk.temporary(folder) as path:
        # To a stream, for a file's name would be in its bytes.
        with disk.wrap_os_error(folder), path.open("r+b") as stream:
            _save(state, stream)
        found = checkpoint.read(path)
        if list(found) != list(state) or any(
            array_comparison.compare(name, found[name], state[name]) for name in state
        ):
            raise ArtifactError("read back: the .pth differs from what was written")
        yield TorchDraft(path, disk.sha256(path, ArtifactError), path.stat().st_size)


def _save(state: Arrays, stream: BinaryIO) -> None:
    """Write a state dict as torch does. Errors: ``OSError``."""
    import torch  # noqa: PLC0415 - takes more than a second, and few ask for this file

    try:
        torch.save({name: tensor(array) for name, array in state.items()}, stream)
    except RuntimeError as error:
        # torch ends its archive although writing has failed or was interrupted, and stumbles over that.
        raise error.__context__ or error from None


def tensor(array: AnyArray) -> Tensor:
    """Return a copy of an array."""
    import torch  # noqa: PLC0415 - as below

    numbers = np.array(array)
    if numbers.dtype == BFLOAT16:  # which torch does not know from numpy
        return torch.from_numpy(numbers.view(np.int16)).view(torch.bfloat16)
    return torch.from_numpy(numbers)
