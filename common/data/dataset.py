"""Data sets: real images and their labels, whatever form they come in."""

from __future__ import annotations

import hashlib
import math
import sys
from pathlib import Path

import numpy as np

from common.data.formats import FORMATS, MAX_LABELS, MIN_LABELS, Raw, check_size
from common.data.idx import idx_files, looks_like_idx, read_idx_files
from common.data.npz import has_numpy_files, read_npy, read_npz, read_numpy_files
from common.data.pictures import read_pictures, resized
from common.errors import UserError, first_line
from common.files import open_regular

PROJECT = Path(__file__).resolve().parent.parent.parent
MNIST = PROJECT / "data" / "mnist.npz"

# With fewer images of a class, on average, labels are more likely something else.
_FEW_IMAGES = 3


def name_of(path: Path) -> str:
    """The name of a data set in config.json: relative to the project if it belongs to it.

    `PROJECT / name_of(path)` is the path again, also after the project has been moved.
    """
    path = path.resolve()
    return (path.relative_to(PROJECT) if PROJECT in path.parents else path).as_posix()


def load_data(
    path: Path = MNIST, part: str = "train", image_size: int | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Loads the images and labels of one part of a data set.

    Args:
        path: An .npz file in the layout of `keras.datasets.mnist` (arrays `x_train`, `y_train`,
            `x_test` and `y_test`) or of MedMNIST; a folder with IDX files, or with KMNIST's .npz
            files, or one of these files; an .npy file; or a folder with a folder of pictures for
            each class, or with folders train and test of these.
        part: "train" or "test"; of the other part at most the labels are read.
        image_size: The side that images are cropped and resized to; None to take them as they are.

    Returns:
        `(images, labels)`: grey images, uint8 of shape (N, size, size), 0 to 255, `size` a
        multiple of 4; and their labels, int64 of shape (N,), from 0. Classes are the labels that
        occur in the training part, numbered in their order.

    Raises:
        UserError: There is no such data set, it cannot be read, or it holds something else.
    """
    raw = _read(path, part, image_size)
    images = _images(raw.images(), path, part, image_size)
    labels = _plain_labels(raw, len(images), path)
    of_train = labels
    if part == "test":
        of_train = _plain_labels(_read(path, "train", image_size), None, path)
    return images, _numbered(labels, of_train, path, part)


def load_images(path: Path, image_size: int | None = None) -> tuple[np.ndarray, np.ndarray | None]:
    """Loads the training part of a data set for a GAN without labels.

    Args:
        path: As for `load_data`.
        image_size: The same.

    Returns:
        As `load_data`; the labels are None where there are none, or none of use.

    Raises:
        UserError: As `load_data`, because of the images.
    """
    raw = _read(path, "train", image_size)
    images = _images(raw.images(), path, "train", image_size)
    try:
        labels = _plain_labels(raw, len(images), path)
        return images, _numbered(labels, labels, path, "train", quiet=True)
    except UserError:
        return images, None


def checksum(images: np.ndarray, labels: np.ndarray | None) -> str:
    """The SHA-256 sum of a data set's training part, in whatever form it comes.

    Args:
        images: uint8 of shape (N, size, size), as from `load_data`.
        labels: int64 of shape (N,); None if there are none.
    """
    content = hashlib.sha256(str(images.shape).encode())
    for array in (images, labels):
        if array is not None:
            content.update(np.ascontiguousarray(array).data)
    return content.hexdigest()


def _read(path: Path, part: str, image_size: int | None) -> Raw:
    """A part of a data set, from the reader of its format."""
    try:
        if path.is_dir():
            return _read_folder(path, part, image_size)
        with open_regular(path) as file:
            start = file.read(6)
    except FileNotFoundError:
        raise UserError(f"data set {path} does not exist: {FORMATS}") from None
    except OSError as error:
        raise UserError(f"data set {path} cannot be read: {first_line(error)}") from error
    if start.startswith(b"PK"):
        return read_npz(path, part)
    if start == b"\x93NUMPY":
        return read_npy(path, part)
    if looks_like_idx(start):  # one of the files of a folder
        files = idx_files(path.parent, path)
        if any(file.path == path for file in files):
            return read_idx_files(path.parent, files, part)
    raise UserError(f"data set {path} is of no known format: {FORMATS}")


def _read_folder(path: Path, part: str, image_size: int | None) -> Raw:
    files = idx_files(path)
    if files:
        return read_idx_files(path, files, part)
    if has_numpy_files(path):
        return read_numpy_files(path, part)
    return read_pictures(path, part, image_size)


# Images: to uint8 of shape (N, size, size)


def _images(images: np.ndarray, path: Path, part: str, image_size: int | None) -> np.ndarray:
    notes = []
    if images.ndim == 2:  # flattened
        side = math.isqrt(images.shape[1])
        if side**2 == images.shape[1]:
            images = images.reshape(len(images), side, side)
            notes.append(f"rows of {side**2} values are taken for {side} x {side} pixels")
    if images.ndim == 4:  # an axis of channels, first or last, of one channel
        axis = 3 if images.shape[3] == 1 else 1
        if images.shape[axis] != 1:
            raise UserError(_refused(images, path))
        images = images.squeeze(axis)
    if images.ndim != 3 or not images.size or images.dtype.kind not in "biuf":
        raise UserError(_refused(images, path))
    images, meaning = _to_bytes(images, path)
    notes += [meaning] if meaning else []
    if image_size is not None and images.shape[1:] != (image_size, image_size):
        images = resized(images, image_size)
    height, width = images.shape[1:]
    check_size(height, width, path)
    if part == "train":
        if notes:
            print(f"{path}: {', '.join(notes)}", flush=True)
        _warn_of_images(images, path)
    return images


def _refused(images: np.ndarray, path: Path) -> str:
    found = f"the images of {path} are {images.dtype} of shape {images.shape}"
    if images.ndim == 4 and {3, 4} & {images.shape[1], images.shape[3]}:
        return (
            f"{found}, in colour, and the chapter's networks draw grey: convert them, for example "
            f"with images.mean(axis={3 if images.shape[3] in (3, 4) else 1}).astype('uint8')"
        )
    return f"{found}, expected uint8 of shape (N, size, size): convert or reshape them"


def _to_bytes(images: np.ndarray, path: Path) -> tuple[np.ndarray, str]:
    """Pixels as uint8, 0 to 255, and what they were taken for; empty if they were that."""
    if images.dtype == np.uint8:
        return images, ""
    if images.dtype.kind == "b":
        return images.astype(np.uint8) * 255, "pixels are taken for False: black, True: white"
    lowest, highest = images.min(), images.max()  # NaN if any is
    if images.dtype.kind in "iu":
        if lowest >= 0 and highest <= 255:
            return images.astype(np.uint8), ""
    elif lowest >= 0 and highest <= 1:
        return _scaled(images, 0, 255), "pixels are taken for 0: black, 1: white"
    elif lowest >= -1 and highest <= 1:
        return _scaled(images, 1, 127.5), "pixels are taken for -1: black, 1: white"
    elif lowest >= 0 and highest <= 255:
        return _scaled(images, 0, 1), "pixels are taken for 0: black, 255: white"
    raise UserError(
        f"the images of {path} are {images.dtype} from {lowest:.6g} to {highest:.6g}, expected "
        "0 to 255, or fractions from 0 to 1 or -1 to 1: scale them"
    )


def _scaled(images: np.ndarray, offset: float, factor: float) -> np.ndarray:
    """Pixels as uint8, image by image, to need no second copy of all of them."""
    scaled = np.empty(images.shape, np.uint8)
    for target, image in zip(scaled, images, strict=True):
        target[...] = np.rint((image + offset) * factor)
    return scaled


def _warn_of_images(images: np.ndarray, path: Path) -> None:
    if images.max() <= 1:
        _warn(
            f"no pixel of {path} is above 1 of 255: all images are nearly black; if 1 means white, "
            "multiply them by 255"
        )
    elif len(images) > 1 and (images == images[0]).all():
        _warn(f"all {len(images):,} images of {path} are the same: see how they were made")


# Labels: to int64 of shape (N,), from 0


def _plain_labels(raw: Raw, count: int | None, path: Path) -> np.ndarray:
    """Labels as integers or strings of shape (count,), whatever count is if it is None."""
    if raw.labels is None:
        raise UserError(
            f"data set {path} has no labels (y_train), which a GAN with labels and evaluations "
            "need: add them, or train dcgan_mnist.py, which needs none"
        )
    labels = raw.labels()
    found = f"the labels of {path} are {labels.dtype} of shape {labels.shape}"
    if labels.ndim == 2 and labels.shape[1] == 1:
        labels = labels[:, 0]
    elif labels.ndim == 2 and _is_one_hot(labels):
        labels = labels.argmax(axis=1)
    if labels.dtype.kind == "f" and np.isfinite(labels).all() and (labels % 1 == 0).all():
        labels = labels.astype(np.int64)
    as_expected = labels.ndim == 1 and labels.dtype.kind in "biuUS"
    if not as_expected or count not in (None, len(labels)):
        raise UserError(
            f"{found}, expected whole numbers, one for each of the {count} images: add such labels"
        )
    return labels


def _is_one_hot(labels: np.ndarray) -> bool:
    numbers = labels.dtype.kind in "biuf"
    return numbers and bool(np.isin(labels, (0, 1)).all() and (labels.sum(axis=1) == 1).all())


def _numbered(
    labels: np.ndarray, of_train: np.ndarray, path: Path, part: str, quiet: bool = False
) -> np.ndarray:
    """Labels as numbers of classes, the classes being the labels of the training part."""
    classes, counts = np.unique(of_train, return_counts=True)
    if not MIN_LABELS <= len(classes) <= MAX_LABELS:
        raise UserError(
            f"the labels of {path} are of {len(classes):,} classes, expected {MIN_LABELS} to "
            f"{MAX_LABELS}: see whether they are labels"
        )
    others = np.setdiff1d(labels, classes)
    if len(others):
        raise UserError(
            f"the test images of {path} have labels that no training image has, "
            f"{', '.join(map(str, others[:5]))}: give a data set whose two parts belong together"
        )
    if part == "train" and not quiet:
        if not np.array_equal(classes, np.arange(len(classes))):
            print(f"{path}: {_table(classes)}", flush=True)
        if counts.mean() < _FEW_IMAGES:
            _warn(
                f"the {len(labels):,} images of {path} are of {len(classes):,} classes: see "
                "whether their labels are labels"
            )
    return np.searchsorted(classes, labels).astype(np.int64)


def _table(classes: np.ndarray) -> str:
    """Which number stands for which label."""
    numbered = [f"{i} is {label}" for i, label in enumerate(classes.tolist())]
    shown = numbered if len(numbered) <= 30 else [*numbered[:28], "...", numbered[-1]]
    return f"{len(numbered)} classes, numbered from 0 in their order: {', '.join(shown)}"


def _warn(message: str) -> None:
    print(f"warning: {message}", file=sys.stderr)
