"""Images from files: found, read as RGB, and brought together in batches."""

from __future__ import annotations

import importlib
import os
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from converter import names
from converter.errors import ImageError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from torch import Tensor

# Those that torchvision's ImageFolder takes.
EXTENSIONS = (".jpg", ".jpeg", ".png", ".ppm", ".bmp", ".pgm", ".tif", ".tiff", ".webp")
DEEP = {"I", "F", "I;16", "I;16B", "I;16L", "I;16N"}  # modes that Pillow clips, and does not scale
# What Pillow raises at files that are damaged; an OSError, too, where a file is none of an image.
UNREADABLE = (OSError, SyntaxError, ValueError, LookupError, TypeError, EOFError, struct.error)


def require(*modules: str) -> None:
    """Import what images need.

    Errors: ``ImageError`` that tells how to install it.
    """
    for module in modules:
        try:
            importlib.import_module(module)
        except (ImportError, RuntimeError) as error:  # the latter: torchvision of another torch
            raise ImageError(
                f"images need {module}, which cannot be imported: pip install 'gluon2torch[vision]'; {error}"
            ) from error


def find(places: Sequence[Path]) -> tuple[Path, ...]:
    """Return the images that are meant: files, whatever their names, and all in a folder and its folders.

    Errors: ``ImageError`` with every place that is not there, or is a folder without an image.
    """
    found: list[Path] = []
    refused = []
    for place in places:
        inside = [place] if place.is_file() else _within(place)
        if not inside:
            empty = f"no image in it; looked for {', '.join(EXTENSIONS)}"
            refused.append(f"{place}: {empty if place.is_dir() else 'no such file or folder'}")
        found += inside
    if refused:
        raise ImageError("\n  ".join(names.shorten(refused)))
    return tuple(dict.fromkeys(found))


def open_rgb(path: Path) -> Any:  # noqa: ANN401 - Pillow's image, which need not be installed
    """Read an image as RGB, as its pixels lie: an orientation noted beside them is not applied.

    Errors: ``ImageError``.
    """
    from PIL import Image, UnidentifiedImageError  # noqa: PLC0415 - need not be installed

    try:
        with Image.open(path) as image:
            if image.mode in DEEP:
                raise ImageError(f"{path}: has more than 8 bits a pixel ({image.mode}), which RGB would cut")
            return image.convert("RGB")
    except UnidentifiedImageError as error:
        raise ImageError(f"{path}: not an image, or of a kind that is not read") from error
    except (*UNREADABLE, Image.DecompressionBombError) as error:
        reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
        raise ImageError(f"{path}: cannot be read as an image: {reason}") from error


@dataclass(frozen=True, slots=True)
class Inputs:
    """A network's inputs by the number of their image; in the place of one that cannot be read, why.

    Shapes: (3, h, w).
    """

    paths: tuple[Path, ...]
    transform: Callable[[Any], Tensor]

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, number: int) -> Tensor | ImageError:
        try:
            return self.transform(open_rgb(self.paths[number]))
        except ImageError as error:  # which would come out of another process as its traceback
            return error


def batches(inputs: Inputs, size: int, workers: int = 0) -> Iterator[Tensor]:
    """Give the inputs in their order, ``size`` at a time; the last batch has what is left.

    Shapes: (n, 3, h, w).
    Errors: ``ImageError`` with every image of a batch that cannot be read.
    """
    from torch.utils.data import DataLoader  # noqa: PLC0415 - takes more than a second

    loader: Any = DataLoader(
        inputs,  # type: ignore[arg-type]  # a dataset is what has these two methods
        size,
        num_workers=workers,
        collate_fn=_stacked,
        # A fork of a process in which torch has started threads may wait for one of them for ever.
        multiprocessing_context="spawn" if workers else None,
    )
    for batch in loader:
        if isinstance(batch, ImageError):
            raise batch
        yield batch


def _stacked(samples: list[Tensor | ImageError]) -> Tensor | ImageError:
    import torch  # noqa: PLC0415 - as above

    refused = [str(sample) for sample in samples if isinstance(sample, ImageError)]
    tensors = [sample for sample in samples if not isinstance(sample, ImageError)]
    return ImageError("\n  ".join(names.shorten(refused))) if refused else torch.stack(tensors)


def _within(folder: Path) -> list[Path]:
    """Return the images in a folder and its folders, where links lead too, of each folder once."""
    found: list[Path] = []
    seen: set[str] = set()
    for place, folders, files in os.walk(folder, followlinks=True):
        real = os.path.realpath(place)
        if real in seen:
            folders.clear()
            continue
        seen.add(real)
        found += [Path(place, name) for name in files]
    return sorted(path for path in found if path.suffix.lower() in EXTENSIONS)
