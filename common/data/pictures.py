"""Data sets as folders of pictures: a folder for each class, as torchvision and Keras read them.

pictures/cats/1.png, pictures/dogs/2.png              all for training
pictures/train/cats/1.png, pictures/test/cats/3.png   with a part for evaluations
pictures/1.png                                        without labels
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from common.data.formats import FORMATS, Raw, check_size, visible
from common.errors import UserError, first_line
from common.files import kind_of, open_regular

_SUFFIXES = {".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".pgm"}
_PARTS = {"train": ("train", "training"), "test": ("test", "val", "valid", "validation")}
# More than any camera has; a file may promise more than the memory holds.
_MAX_PIXELS = 2**27


def read_pictures(folder: Path, part: str, image_size: int | None) -> Raw:
    """Pictures, in grey; their labels are the names of their folders.

    Args:
        folder: The folder.
        part: "train" or "test".
        image_size: The side that pictures are cropped and resized to; None if all have the same.

    Raises:
        UserError: There are no pictures. When they are read: one cannot be, or their sizes differ.
    """
    base = _folder_of(folder, part)
    inside = visible(base.iterdir(), base)
    classes = [path for path in inside if path.is_dir() and _pictures_in(path)]
    files = [file for path in classes or [base] for file in _pictures_in(path)]
    if not files:
        held = ", ".join(path.name for path in inside[:8]) or "nothing"
        raise UserError(f"data set {base} holds no images, only {held}: {FORMATS}")
    labels = np.array([file.parent.name for file in files])
    return Raw(partial(_read, files, folder, image_size), (lambda: labels) if classes else None)


def resized(images: Iterable[np.ndarray], image_size: int) -> np.ndarray:
    """Crops images to squares, around their centres, and resizes them.

    Args:
        images: uint8 of shape (height, width) each.
        image_size: The side of the squares.

    Returns:
        uint8 of shape (N, image_size, image_size).
    """
    size = (image_size, image_size)
    squares = []
    for image in images:
        side = min(image.shape)
        top, left = ((length - side) // 2 for length in image.shape)
        # cropped first, so that what is cropped does not bleed into the border
        square = Image.fromarray(np.ascontiguousarray(image[top : top + side, left : left + side]))
        squares.append(np.asarray(square.resize(size, Image.Resampling.LANCZOS)))
    return np.array(squares)


def _folder_of(folder: Path, part: str) -> Path:
    """The folder of a part, if the data set has parts; else all of it is for training."""
    inside = [path for path in visible(folder.iterdir(), folder) if path.is_dir()]
    folders = {path.name.lower(): path for path in inside}
    found = {
        name: next((folders[word] for word in words if word in folders), None)
        for name, words in _PARTS.items()
    }
    if found["train"] and not found["test"] and _pictures_in(found["train"]):
        others = [path.name for path in inside if path != found["train"] and _pictures_in(path)]
        if others:
            if part == "train":
                print(f"{folder}: {found['train'].name} is taken for a class, like {others[0]}")
            found["train"] = None
    if part == "train":
        return found["train"] or folder
    if not (found["train"] and found["test"]):
        raise UserError(
            f"data set {folder} has no test images, which an evaluation needs: put the classes "
            "into two folders, train and test"
        )
    return found["test"]


def _pictures_in(folder: Path) -> list[Path]:
    return [path for path in visible(folder.iterdir(), folder) if kind_of(path) in _SUFFIXES]


def _read(files: list[Path], folder: Path, image_size: int | None) -> np.ndarray:
    side = image_size or _common_side(files, folder)
    images = np.empty((len(files), side, side), np.uint8)
    notes: Counter[str] = Counter()
    for i, file in enumerate(files):
        pixels = _grey(file, notes)
        images[i] = pixels if image_size is None else resized([pixels], image_size)[0]
    for note, count in notes.items():
        print(f"{count:,} of {len(files):,} pictures {note}")
    return images


def _common_side(files: list[Path], folder: Path) -> int:
    """The side of all pictures, from their headers: refused ones are not decoded for nothing."""
    sizes: Counter[tuple[int, int]] = Counter()
    for file in files:
        with _opened(file) as picture:
            sizes[picture.size] += 1
    if len(sizes) > 1:
        found = ", ".join(f"{count} of {w} x {h}" for (w, h), count in sizes.most_common(4))
        raise UserError(
            f"the pictures of {folder} have {len(sizes)} sizes ({found}): add --image-size N to "
            "crop them to squares of N x N pixels, for example --image-size 28"
        )
    ((width, height),) = sizes
    check_size(height, width, folder)
    return width


@contextmanager
def _opened(file: Path) -> Iterator[Image.Image]:
    """A picture of which only the header has been read; its pixels are read where they are used."""
    try:
        with open_regular(file) as content, Image.open(content) as opened:
            if opened.width * opened.height > _MAX_PIXELS:
                raise ValueError(f"it promises {opened.width} x {opened.height} pixels")
            yield opened
    except Exception as error:  # whatever a damaged file can make Pillow raise
        raise UserError(
            f"picture {file} cannot be read ({first_line(error)}): remove it, or replace it"
        ) from error


def _grey(file: Path, notes: Counter[str]) -> np.ndarray:
    """A picture as uint8 of shape (height, width); adds to `notes` what was done to it."""
    with _opened(file) as opened:
        picture = ImageOps.exif_transpose(opened)
        if picture.mode.startswith("I"):  # 16 bits, which Pillow would cut off at 255
            return (np.asarray(picture) // 256).clip(0, 255).astype(np.uint8)
        if picture.has_transparency_data:
            picture = picture.convert("RGBA")
            if (np.asarray(picture.getchannel("A")) < 255).any():
                notes["have transparent pixels: white shows through"] += 1
            paper = Image.new("RGBA", picture.size, "white")
            picture = Image.alpha_composite(paper, picture)
        if picture.mode not in ("1", "L") and not _is_grey(picture):
            notes["are in colour: they are read in grey"] += 1
        return np.asarray(picture.convert("L"))


def _is_grey(picture: Image.Image) -> bool:
    """Whether a picture that could have colours has none."""
    red, green, blue = picture.convert("RGB").split()
    return red.tobytes() == green.tobytes() == blue.tobytes()
