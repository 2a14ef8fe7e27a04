"""What all forms of data sets share: limits, what readers return, how files are recognized."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import IO, NamedTuple

import numpy as np

from common.errors import UserError

# The limits of a data set. Sides are a multiple of 4 because the generator doubles the size of its
# first feature map twice.
MAX_PIXELS = 2**16
MIN_LABELS, MAX_LABELS = 2, 1000
# More than any data set within them has.
MAX_BYTES = 2**33
FORMATS = (
    "give an .npz file with the arrays x_train and y_train, a folder with IDX files like MNIST's, "
    "or a folder with a folder of pictures for each class"
)


class Raw(NamedTuple):
    """A part of a data set, as it is in the files; each array is read when it is called.

    Attributes:
        images: Gives the images.
        labels: Gives their labels; None if there are none.
    """

    images: Callable[[], np.ndarray]
    labels: Callable[[], np.ndarray] | None


def num_classes(labels: np.ndarray) -> int:
    """The number of classes of the labels of a training part."""
    return int(labels.max()) + 1


def check_size(height: int, width: int, path: Path) -> None:
    """Checks that images are of a size that the networks can draw.

    Raises:
        UserError: They are not.
    """
    if height != width or height % 4 or not 0 < height * width <= MAX_PIXELS:
        raise UserError(
            f"the images of {path} have {height} x {width} pixels, expected square images whose "
            f"side is a multiple of 4, from 4 to {math.isqrt(MAX_PIXELS)}: add --image-size N to "
            "crop and resize them"
        )


def visible(paths: Iterable[Path], folder: Path) -> list[Path]:
    """Paths in a folder, sorted, without the hidden ones, which macOS and notebooks leave there."""
    return sorted(
        path
        for path in paths
        if not any(part.startswith(".") for part in path.relative_to(folder).parts)
    )


def is_of(name: str, part: str) -> bool:
    """Whether a file belongs to a part, "train" or "test"; a name that says nothing is "train"."""
    of_test = any(word in name.lower() for word in ("t10k", "test"))
    return of_test == (part == "test")


def set_of(file: Path) -> str | None:
    """The data set that a file belongs to: what its name says before it says what is in the file.

    "emnist-letters-" of emnist-letters-train-images-idx3-ubyte; None of a name that says nothing.
    """
    found = re.search("train|t10k|test|image|img|label", file.name.lower())
    return file.name.lower()[: found.start()] if found else None


def of_same_set(files: list[Path], chosen: Path | None) -> list[Path]:
    """The files that belong to the data set of one of them; all of them where that is unknown."""
    wanted = chosen and set_of(chosen)
    return [file for file in files if wanted is None or set_of(file) in (wanted, None)]


def one_of(files: list[Path], folder: Path) -> str:
    """What to say of a folder that holds several files where one is expected."""
    names = ", ".join(sorted(str(file.relative_to(folder)) for file in files)[:6])
    return (
        f"data set {folder} holds more than one, {names}: give one of these files, or a folder "
        "with one of them"
    )


def read_into(file: IO[bytes], shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
    """Reads an array, with no second copy of it in memory.

    Raises:
        ValueError: It would be too large, or the file ends before.
    """
    count = 1
    for length in shape:
        count *= length  # Python's integers, which do not overflow
    if count * dtype.itemsize > MAX_BYTES:
        raise ValueError(f"its header promises {count * dtype.itemsize:,} bytes")
    flat = np.empty(count, dtype)
    view = flat.view(np.uint8).data if count else memoryview(b"")
    filled = 0
    while filled < len(view):
        content = file.read(min(2**20, len(view) - filled))
        if not content:
            raise ValueError(f"its header promises {len(view):,} bytes, it has {filled:,}")
        view[filled : filled + len(content)] = content
        filled += len(content)
    return flat.reshape(shape)
