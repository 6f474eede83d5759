"""Draw boxes and masks on images, with torchvision."""

from __future__ import annotations

import colorsys
from typing import TYPE_CHECKING, Any

import numpy as np

from converter import names
from converter.errors import ImageError, UsageError
from converter.storage import disk

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from torch import Tensor

    from converter.vision.class_lists import ClassList
    from converter.vision.detections import Detection

SUFFIXES = (".png", ".jpg", ".jpeg", ".webp")  # of a file; any other path is a folder
DRAWN = ".png"  # of the files in a folder
ALPHA = 0.6  # opacity of a mask
BACKGROUND = "background"  # a class whose pixels keep their colours
GOLDEN = 0.618  # of the circle of hues, so that neighbouring classes differ


def destinations(draw: Path, images: Sequence[Path]) -> dict[Path, Path]:
    """Return the file of each image's drawing.

    Args:
        draw: a file, for one image, or a folder.
        images: the images.

    Raises:
        UsageError: if several drawings would have one name.
        ArtifactError: if a drawing would overwrite an image.
    """
    if draw.suffix.lower() in SUFFIXES and not draw.is_dir():
        if len(images) > 1:
            raise UsageError(
                f"`draw`: {draw} is one file, and there are {len(images)} images: name a folder", "draw"
            )
        files = dict.fromkeys(images, draw)
    else:
        files = {image: draw / f"{image.stem}{DRAWN}" for image in images}
    images_of: dict[Path, list[Path]] = {}
    for image, file in files.items():
        disk.require_other(file, images)
        images_of.setdefault(file, []).append(image)
    if same := [str(image) for each in images_of.values() if len(each) > 1 for image in each]:
        lines = ["`draw`: these images have the same name; draw them one by one", *names.shorten(same)]
        raise UsageError("\n  ".join(lines), "draw")
    return files


def boxes(image: Any, found: Sequence[Detection]) -> Any:  # noqa: ANN401 - images of Pillow, which is optional
    """Return an image with the boxes and the labels of objects."""
    import torch  # noqa: PLC0415 - takes more than a second
    from torchvision.utils import draw_bounding_boxes  # noqa: PLC0415 - as above

    visible = [each for each in found if each.box[0] < each.box[2] and each.box[1] < each.box[3]]
    if not visible:
        return image
    drawn = draw_bounding_boxes(
        _pixels(image),
        torch.tensor([each.box for each in visible]),
        [f"{each.label} {each.score:.2f}" for each in visible],
        [_colour(each.index) for each in visible],
        width=max(2, round(max(image.size) / 400)),
    )
    return _image(drawn)


def masks(image: Any, classified: Tensor, classes: ClassList) -> Any:  # noqa: ANN401 - as above
    """Return an image whose pixels are tinted by their classes.

    Shape:
        classified: the size of the image
    """
    import torch  # noqa: PLC0415 - as above
    from torchvision.utils import draw_segmentation_masks  # noqa: PLC0415 - as above

    numbers: list[int] = classified.flatten().bincount().nonzero().flatten().tolist()
    present = [number for number in numbers if classes.name(number).lower() != BACKGROUND]
    if not present:
        return image
    regions = classified == torch.tensor(present)[:, None, None]
    colours = [_colour(number) for number in present]
    return _image(draw_segmentation_masks(_pixels(image), regions, ALPHA, colours))


def save(image: Any, path: Path) -> None:  # noqa: ANN401 - as above
    """Write an image; an existing file is replaced.

    Raises:
        StorageError: if it cannot be written.
        ImageError: if Pillow has no writer for its format.
    """
    from PIL import Image  # noqa: PLC0415 - optional

    formats = Image.registered_extensions()
    if (suffix := path.suffix.lower()) not in formats:
        raise ImageError(f"{path}: Pillow cannot write {suffix} here")
    with disk.temporary(path.parent) as part, disk.writing(path):
        image.save(part, format=formats[suffix])
        disk.place(part, path, overwrite=True)


def _colour(number: int) -> tuple[int, int, int]:
    """Return the colour of a class."""
    red, green, blue = colorsys.hsv_to_rgb(number * GOLDEN % 1, 0.85, 0.95)
    return round(red * 255), round(green * 255), round(blue * 255)


def _pixels(image: Any) -> Tensor:  # noqa: ANN401 - as above
    import torch  # noqa: PLC0415 - as above

    return torch.from_numpy(np.array(image)).permute(2, 0, 1).contiguous()


def _image(pixels: Tensor) -> Any:  # noqa: ANN401 - as above
    from PIL import Image  # noqa: PLC0415 - optional

    return Image.fromarray(pixels.permute(1, 2, 0).numpy())
