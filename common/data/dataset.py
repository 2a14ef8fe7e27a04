"""Data sets: what their arrays mean, in whichever form they come."""

import dataclasses
import functools
import hashlib
import math
import re
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import numpy as np

from common.data import MAX_LABELS, MIN_LABELS, MNIST, num_classes, readers
from common.errors import UserError

_EXPECTED_TEST = (
    "an evaluation needs test images, as x_test and y_test in an .npz file, in IDX files like "
    "t10k-images-idx3-ubyte, or in a folder test beside a folder train"
)


@dataclasses.dataclass(frozen=True, eq=False)
class DataSet:
    """One part of a data set.

    Attributes:
        path: Where it comes from.
        images: Grey images, uint8 of shape (N, size, size), 0 to 255, `size` a multiple of 4.
        labels: Their classes, int64 of shape (N,), from 0; None if there are none.
        names: The names of the classes; empty if they are called 0, 1, 2 and so on.
        has_test: Whether there is a test part with labels.
    """

    path: Path
    images: np.ndarray
    labels: np.ndarray | None
    names: list[str]
    has_test: bool

    @property
    def image_size(self) -> int:
        """The side of the square images."""
        return self.images.shape[1]

    @property
    def num_labels(self) -> int:
        """The number of classes; 0 without labels."""
        return 0 if self.labels is None else num_classes(self.labels)

    def named(self, labels: np.ndarray) -> np.ndarray:
        """The names of labels, as `named` below gives them."""
        return named(labels, self.names)

    @functools.cached_property
    def sha256(self) -> str:
        """The SHA-256 sum of images and labels, which does not depend on the form of the data."""
        content = hashlib.sha256(str(self.images.shape).encode())
        for array in (self.images, self.labels):
            if array is not None:
                content.update(np.ascontiguousarray(array).data)
        return content.hexdigest()

    def __str__(self) -> str:
        """What it holds, in one line.

        mnist.npz: 60,000 images of 28 x 28 pixels, 10 classes of 5,421 to 6,742 images
        """
        count, height, width = self.images.shape
        line = f"{self.path.resolve().name}: {count:,} images of {height} x {width} pixels"
        if self.labels is None:
            return line
        sizes = np.bincount(self.labels)
        fewest, most = sizes.min(), sizes.max()
        share = f"{most:,}" if fewest == most else f"{fewest:,} to {most:,}"
        return f"{line}, {len(sizes):,} classes of {share} images"


def load_dataset(
    path: Path = MNIST,
    part: str = "train",
    image_size: int | None = None,
    needs_labels: bool = True,
) -> DataSet:
    """Loads one part of a data set.

    Classes are the labels that occur in the training part, numbered in their order.

    Args:
        path: A file or a folder, in one of the forms in docs/manual.md (Your own images).
        part: "train" or "test". Of the other part only the labels are read, and the images where
            it is not evident what is white.
        image_size: The side that images are cropped and resized to; None to take them as they are.
        needs_labels: Without, labels that are missing or cannot be used are None.
    """
    arrays = readers.find_arrays(path, image_size)
    images = _images(arrays, part, path, image_size)
    has_test = {"x_test", "y_test"} <= arrays.keys()
    try:
        labels = _labels(arrays, part, path, len(images))
        of_train = labels if part == "train" else _labels(arrays, "train", path)
        numbers, names = _numbered(labels, of_train, path)
    except UserError:
        if needs_labels:
            raise
        return DataSet(path, images, None, [], has_test)
    if part == "train" and needs_labels and names:
        table = [f"{i} is {name}" for i, name in enumerate(names)]
        shown = ", ".join(table if len(table) <= 30 else [*table[:28], "...", table[-1]])
        print(f"{path}: {len(table)} classes, numbered from 0 in their order: {shown}", flush=True)
    return DataSet(path, images, numbers, names, has_test)


def load_data(
    path: Path = MNIST, part: str = "train", image_size: int | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """The images and labels of `load_dataset`."""
    data = load_dataset(path, part, image_size)
    assert data.labels is not None
    return data.images, data.labels


def named(labels: np.ndarray, names: Sequence[str]) -> np.ndarray:
    """The names of labels of shape (count,); the labels themselves if classes have no names."""
    return np.array(names)[labels] if names else labels


# Images: to uint8 of shape (N, size, size)


def _images(arrays: readers.Arrays, part: str, path: Path, image_size: int | None) -> np.ndarray:
    if f"x_{part}" not in arrays:
        expected = readers.FORMATS if part == "train" else _EXPECTED_TEST
        found = ", ".join(list(arrays)[:20]) or "nothing"
        raise UserError(f"data set {path} has no array x_{part}, only {found}: {expected}")
    images = arrays[f"x_{part}"]()
    _check_axes(images, arrays, part, path)
    notes: list[str] = []
    images = _shaped(images, path, notes)
    if images.dtype != np.uint8:
        black, white = _range(images, arrays, part, path)
        if images.dtype.kind not in "iu" or white != 255:  # what is evident is not said
            notes.append(readers.TAKEN.format(black, white))
        # image by image: several copies of all of them might not fit into the memory
        pixels = np.empty(images.shape, np.uint8)
        for i, image in enumerate(images):
            pixels[i] = readers.to_bytes(image, black, white)
        images = pixels
    if image_size is not None and images.shape[1:] != (image_size, image_size):
        images = np.stack([readers.resized(image, image_size) for image in images])
    readers.check_size(images[0], path)
    if part == "train" and notes:
        print(f"{path}: {', '.join(notes)}", flush=True)
    brightest = images.max()
    if part == "train" and brightest < 64:
        advice = f"if {brightest} means white, scale them"
        seen = f"no pixel of {path} is above {brightest} of 255: all images are nearly black"
        print(f"warning: {seen}; {advice}", file=sys.stderr)
    return images


def _check_axes(images: np.ndarray, arrays: readers.Arrays, part: str, path: Path) -> None:
    """Refuses images that are counted by the last axis, as in MATLAB's files."""
    labels = 0
    with suppress(KeyError, UserError):
        labels = max(arrays[f"y_{part}"]().shape, default=0)
    first, *others, last = images.shape if images.ndim > 1 else (0, 0)
    if labels in (first, last):
        is_last = labels != first
    else:  # as many columns as rows, and no axis of colours after them
        is_last = bool(others) and first == others[0] != last and last not in (1, 3, 4)
    if is_last:
        raise UserError(
            f"the images of {path} are of shape {images.shape}, expected (N, size, size): the last "
            "axis seems to count them: move it, with np.moveaxis(x, -1, 0)"
        )


def _shaped(images: np.ndarray, path: Path, notes: list[str]) -> np.ndarray:
    """Numbers of shape (N, height, width); adds to `notes` what was guessed."""
    if images.ndim == 2:  # flattened
        side = math.isqrt(images.shape[1])
        if side**2 == images.shape[1]:
            images = images.reshape(len(images), side, side)
            notes.append(f"rows of {side**2} values are taken for {side} x {side} pixels")
    if images.ndim == 4 and 1 in (images.shape[3], images.shape[1]):  # an axis of one channel
        images = images.squeeze(3 if images.shape[3] == 1 else 1)
    if images.ndim == 3 and images.size and images.dtype.kind in "biuf":
        return images
    raise UserError(
        f"the images of {path} are {images.dtype} of shape {images.shape}, expected grey ones, "
        "uint8 of shape (N, size, size): reshape them, or, where they are in colour, convert them, "
        f"for example with images.mean(axis={1 if 3 in images.shape[1:2] else 3}).astype('uint8')"
    )


def _range(images: np.ndarray, arrays: readers.Arrays, part: str, path: Path) -> readers.Range:
    """Black and white, which are the same in both parts."""
    other = arrays.get("x_test" if part == "train" else "x_train", lambda: images)()
    both = [array for array in (images, other) if array.size and array.dtype == images.dtype]
    return readers.find_range([f(array) for array in both for f in (np.min, np.max)], path)


# Labels: to int64 of shape (N,), from 0


def _labels(arrays: readers.Arrays, part: str, path: Path, count: int | None = None) -> np.ndarray:
    """Labels as whole numbers or text of shape (N,), where N is `count`, if that is known."""
    if f"y_{part}" not in arrays:
        raise UserError(
            f"data set {path} has no labels (y_{part}), which a GAN with labels and evaluations "
            "need: add them, or train dcgan_mnist.py, which needs none"
        )
    labels = arrays[f"y_{part}"]()
    found = f"the labels of {path} are {labels.dtype} of shape {labels.shape}"
    if labels.ndim == 2 and 1 in labels.shape:  # a column, or one of MATLAB's rows
        labels = labels.ravel()
    elif labels.ndim == 2 and labels.dtype.kind in "biuf" and _is_one_hot(labels):
        labels = labels.argmax(axis=1)
    if labels.dtype.kind == "f" and np.isfinite(labels).all() and (labels % 1 == 0).all():
        labels = labels.astype(np.int64)
    if labels.dtype.kind == "S":
        labels = np.char.decode(labels, "utf-8")
    if labels.ndim != 1 or labels.dtype.kind not in "biuU":
        raise UserError(
            f"{found}, expected whole numbers or names, one for each of the {count or 'training'} "
            "images: add such labels"
        )
    if count not in (None, len(labels)):
        raise UserError(
            f"data set {path}: {count:,} images and {len(labels):,} labels given, expected a label "
            "for each image: see which of them belong together"
        )
    return labels


def _is_one_hot(labels: np.ndarray) -> bool:
    return bool(np.isin(labels, (0, 1)).all() and (labels.sum(axis=1) == 1).all())


def _numbered(labels: np.ndarray, of_train: np.ndarray, path: Path) -> tuple[np.ndarray, list[str]]:
    """Labels as numbers of classes, in the order of the training part's; and their names."""
    classes = np.unique(of_train).tolist()
    if not MIN_LABELS <= len(classes) <= MAX_LABELS:
        raise UserError(
            f"the labels of {path} are of {len(classes):,} classes, expected {MIN_LABELS} to "
            f"{MAX_LABELS}: see whether they are labels"
        )
    if all(re.fullmatch(r"[+-]?\d+", str(name)) for name in classes):
        classes.sort(key=int)  # 2 comes before 10, also where they are text
    number = {label: i for i, label in enumerate(classes)}
    others = sorted(set(labels.tolist()) - number.keys())
    if others:
        raise UserError(
            f"the test images of {path} have labels that no training image has, "
            f"{', '.join(map(str, others[:5]))}: give a data set whose two parts belong together"
        )
    names = [str(name) for name in classes]
    numbers = np.array([number[label] for label in labels.tolist()], np.int64)
    return numbers, names if names != [str(i) for i in range(len(names))] else []
