"""Data sets: what their arrays mean, whatever form they come in."""

import hashlib
import math
import sys
from pathlib import Path

import numpy as np

from common.data import MAX_LABELS, MIN_LABELS, MNIST
from common.data.readers import FORMATS, Arrays, check_size, find_arrays, resized
from common.errors import UserError

_EXPECTED = {
    "train": FORMATS,
    "test": "an evaluation needs test images, as x_test and y_test in an .npz file, in IDX files "
    "like t10k-images-idx3-ubyte, or in a folder test beside a folder train",
}
# With fewer images of a class, on average, labels are more likely something else.
_FEW_IMAGES = 3


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
    """
    arrays = find_arrays(path, image_size)
    images = _images(arrays, part, path, image_size)
    labels = _labels(arrays, part, path, len(images))
    of_train = labels if part == "train" else _labels(arrays, "train", path)
    numbers, classes = _numbered(labels, of_train, path)
    if part == "train":
        _describe(classes, len(images), path)
    return images, numbers


def load_images(path: Path, image_size: int | None = None) -> tuple[np.ndarray, np.ndarray | None]:
    """Loads the training part of a data set for a GAN without labels.

    Args:
        path: As for `load_data`.
        image_size: The same.

    Returns:
        As `load_data`; the labels are None if there are none, or if they cannot be used.
    """
    arrays = find_arrays(path, image_size)
    images = _images(arrays, "train", path, image_size)
    try:
        labels = _labels(arrays, "train", path, len(images))
        return images, _numbered(labels, labels, path)[0]
    except UserError:
        return images, None


def checksum(images: np.ndarray, labels: np.ndarray | None) -> str:
    """The SHA-256 sum of a data set's training part, which does not depend on its form.

    Args:
        images: uint8 of shape (N, size, size), as from `load_data`.
        labels: int64 of shape (N,); None if there are none.
    """
    content = hashlib.sha256(str(images.shape).encode())
    for array in (images, labels):
        if array is not None:
            content.update(np.ascontiguousarray(array).data)
    return content.hexdigest()


# Images: to uint8 of shape (N, size, size)


def _images(arrays: Arrays, part: str, path: Path, image_size: int | None) -> np.ndarray:
    if f"x_{part}" not in arrays:
        others = f"only {', '.join(list(arrays)[:20])}" if arrays else "nor any other"
        raise UserError(f"data set {path} has no array x_{part}, {others}: {_EXPECTED[part]}")
    images = arrays[f"x_{part}"]()
    notes = []
    if images.ndim == 2:  # flattened
        side = math.isqrt(images.shape[1])
        if side**2 == images.shape[1]:
            images = images.reshape(len(images), side, side)
            notes.append(f"rows of {side**2} values are taken for {side} x {side} pixels")
    if images.ndim == 4 and 1 in (images.shape[3], images.shape[1]):  # an axis of one channel
        images = images.squeeze(3 if images.shape[3] == 1 else 1)
    if images.ndim != 3 or not images.size or images.dtype.kind not in "biuf":
        raise UserError(_refused(images, path))
    images, meaning = _to_bytes(images, path)
    notes += meaning
    if image_size is not None and images.shape[1:] != (image_size, image_size):
        images = np.stack([resized(image, image_size) for image in images])
    check_size(images[0], path)
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


def _to_bytes(images: np.ndarray, path: Path) -> tuple[np.ndarray, list[str]]:
    """Pixels as uint8, 0 to 255, and what they were taken for, unless it is evident."""
    if images.dtype.kind == "b":
        return images.astype(np.uint8) * 255, ["pixels are taken for False: black, True: white"]
    lowest, highest = images.min(), images.max()  # NaN if any is
    if images.dtype.kind in "iu":
        if lowest >= 0 and highest <= 255:
            return images.astype(np.uint8, copy=False), []
    else:
        for black, white in ((0, 1), (-1, 1), (0, 255)):
            if lowest >= black and highest <= white:
                factor = 255 / (white - black)
                # image by image: several copies of all of them might not fit into the memory
                pixels = [np.rint((x - black) * factor).astype(np.uint8) for x in images]
                meaning = f"pixels are taken for {black}: black, {white}: white"
                return np.stack(pixels), [meaning]
    raise UserError(
        f"the images of {path} are {images.dtype} from {lowest:.6g} to {highest:.6g}, expected "
        "0 to 255, or fractions from 0 to 1 or -1 to 1: scale them"
    )


def _warn_of_images(images: np.ndarray, path: Path) -> None:
    if images.max() <= 1:
        _warn(
            f"no pixel of {path} is above 1 of 255: all images are nearly black; if 1 means white, "
            "multiply them by 255"
        )
    elif len(images) > 1 and (images == images[0]).all():
        _warn(f"all {len(images):,} images of {path} are the same: see how they were made")


# Labels: to int64 of shape (N,), from 0


def _labels(arrays: Arrays, part: str, path: Path, count: int | None = None) -> np.ndarray:
    """Labels as whole numbers or text of shape (N,), where N is `count`, if that is known."""
    if f"y_{part}" not in arrays:
        raise UserError(
            f"data set {path} has no labels (y_{part}), which a GAN with labels and evaluations "
            "need: add them, or train dcgan_mnist.py, which needs none"
        )
    labels = arrays[f"y_{part}"]()
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
            f"{found}, expected whole numbers, one for each of the {count or 'training'} images: "
            "add such labels"
        )
    return labels


def _is_one_hot(labels: np.ndarray) -> bool:
    numbers = labels.dtype.kind in "biuf"
    return numbers and bool(np.isin(labels, (0, 1)).all() and (labels.sum(axis=1) == 1).all())


def _numbered(
    labels: np.ndarray, of_train: np.ndarray, path: Path
) -> tuple[np.ndarray, np.ndarray]:
    """Labels as numbers of classes; and the classes: the labels of the training part, in order."""
    classes = np.unique(of_train)
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
    return np.searchsorted(classes, labels).astype(np.int64), classes


def _describe(classes: np.ndarray, count: int, path: Path) -> None:
    """Prints which number stands for which label, and warns of too many classes."""
    if not np.array_equal(classes, np.arange(len(classes))):
        table = [f"{i} is {label}" for i, label in enumerate(classes.tolist())]
        shown = ", ".join(table if len(table) <= 30 else [*table[:28], "...", table[-1]])
        print(f"{path}: {len(table)} classes, numbered from 0 in their order: {shown}", flush=True)
    if count < _FEW_IMAGES * len(classes):
        _warn(
            f"the {count:,} images of {path} are of {len(classes):,} classes: see whether their "
            "labels are labels"
        )


def _warn(message: str) -> None:
    print(f"warning: {message}", file=sys.stderr)
