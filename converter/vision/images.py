"""Find image files, read them as RGB, and collate them in batches."""

from __future__ import annotations

import importlib
import multiprocessing
import os
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from converter import names
from converter.errors import ImageError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from multiprocessing.context import BaseContext

    from torch import Tensor

# The same as in torchvision's ImageFolder.
EXTENSIONS = (".jpg", ".jpeg", ".png", ".ppm", ".bmp", ".pgm", ".tif", ".tiff", ".webp")
# Pillow clips the pixels of these modes to 8 bits instead of scaling them.
HIGH_DEPTH_MODES = {"I", "F", "I;16", "I;16B", "I;16L", "I;16N"}
# Errors that Pillow raises for damaged files; OSError also for files that are not images.
UNREADABLE = (OSError, SyntaxError, ValueError, LookupError, TypeError, EOFError, struct.error)


def require_modules(*modules: str) -> None:
    """Import the modules that images need.

    Raises:
        ImageError: if a module cannot be imported, with the command that installs it.
    """
    for module in modules:
        try:
            importlib.import_module(module)
        except (ImportError, RuntimeError) as error:  # RuntimeError: torchvision for another torch
            raise ImageError(
                f"images need {module}, which cannot be imported: {error}\n"
                "  pip install 'gluon2torch[vision]'"
            ) from error


def find_images(paths: Sequence[Path]) -> tuple[Path, ...]:
    """Return the given files, whatever their names, and all images in the given folders, recursively.

    Raises:
        ImageError: if a path does not exist or is a folder without images, with all such paths.
    """
    files: list[Path] = []
    problems = []
    for path in paths:
        images = [path] if path.is_file() else _images_in(path)
        if not images:
            empty = f"no images in this folder; supported: {', '.join(EXTENSIONS)}"
            problems.append(f"{path}: {empty if path.is_dir() else 'no such file or folder'}")
        files += images
    if problems:
        raise ImageError("\n  ".join(names.shorten(problems)))
    return tuple(dict.fromkeys(files))


def open_rgb(path: Path) -> Any:  # noqa: ANN401 - an image of Pillow, which is optional
    """Read an image as RGB, without applying the orientation in its metadata.

    Raises:
        ImageError: if the file cannot be read, is not an image, or has more than 8 bits per channel.
    """
    from PIL import Image, UnidentifiedImageError  # noqa: PLC0415 - optional

    try:
        with Image.open(path) as image:
            if image.mode in HIGH_DEPTH_MODES:
                raise ImageError(
                    f"{path}: more than 8 bits per channel (mode {image.mode}) are not supported"
                )
            return image.convert("RGB")
    except UnidentifiedImageError as error:
        raise ImageError(f"{path}: not an image, or an unsupported format") from error
    except (*UNREADABLE, Image.DecompressionBombError) as error:
        reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
        raise ImageError(f"{path}: cannot be read as an image: {reason}") from error


@dataclass(frozen=True, slots=True)
class Inputs:
    """A data set of network inputs; the item of an image that cannot be read is its error.

    Shape:
        (3, h, w)
    """

    paths: tuple[Path, ...]
    transform: Callable[[Any], Tensor]

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> Tensor | ImageError:
        try:
            return self.transform(open_rgb(self.paths[index]))
        except ImageError as error:  # raised in a worker, it would become a traceback
            return error


def batches(inputs: Inputs, size: int, workers: int = 0) -> Iterator[Tensor]:
    """Yield the inputs in order, in batches of ``size``; the last one may be smaller.

    Shape:
        (n, 3, h, w)

    Raises:
        ImageError: if images of a batch cannot be read, with all of them.
    """
    from torch.utils.data import DataLoader  # noqa: PLC0415 - takes more than a second

    loader: Any = DataLoader(
        inputs,  # type: ignore[arg-type]  # has the two methods of a Dataset
        size,
        num_workers=workers,
        collate_fn=_collate,
        multiprocessing_context=_context() if workers else None,
    )
    for batch in loader:
        if isinstance(batch, ImageError):
            raise batch
        yield batch


def _context() -> BaseContext:
    """Return the start method of the workers: forks of a process that has imported torchvision, else spawn.

    A fork of this process can deadlock if torch has started threads. A fork server that already runs is used
    as it is.
    """
    if "forkserver" not in multiprocessing.get_all_start_methods():
        return multiprocessing.get_context("spawn")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["torchvision.transforms", __name__])
    return context


def _collate(samples: list[Tensor | ImageError]) -> Tensor | ImageError:
    import torch  # noqa: PLC0415 - as above

    problems = [str(sample) for sample in samples if isinstance(sample, ImageError)]
    tensors = [sample for sample in samples if not isinstance(sample, ImageError)]
    return ImageError("\n  ".join(names.shorten(problems))) if problems else torch.stack(tensors)


def _images_in(folder: Path) -> list[Path]:
    """Return the images in a folder, recursively; links are followed, each folder is visited once."""
    paths: list[Path] = []
    visited: set[str] = set()
    for place, folders, files in os.walk(folder, followlinks=True):
        real = os.path.realpath(place)
        if real in visited:
            folders.clear()
            continue
        visited.add(real)
        paths += [Path(place, name) for name in files]
    return sorted(path for path in paths if path.suffix.lower() in EXTENSIONS)
