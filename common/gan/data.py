"""Reading data sets: real images and their labels."""

from __future__ import annotations

import gzip
import hashlib
import math
import zipfile
from pathlib import Path

import numpy as np

from common.errors import UserError, first_line

PROJECT = Path(__file__).resolve().parent.parent.parent
MNIST = PROJECT / "data" / "mnist.npz"

# The limits of a data set. Sides are a multiple of 4 because the generator doubles the size of its
# first feature map twice.
MAX_PIXELS = 2**16
MIN_LABELS, MAX_LABELS = 2, 1000

# For each part of a data set, its images and labels: arrays of an .npz file, or IDX files.
_ARRAYS = {"train": ("x_train", "y_train"), "test": ("x_test", "y_test")}
_IDX_FILES = {
    "train": ("train-images-idx3-ubyte", "train-labels-idx1-ubyte"),
    "test": ("t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"),
}
_EXPECTED = {
    "train": "give an .npz file with the arrays x_train and y_train, or a folder with IDX files",
    "test": "an evaluation needs test images too, add them as x_test and y_test",
}


def name_of(path: Path) -> str:
    """The name of a data set in config.json: relative to the project if it belongs to it.

    `PROJECT / name_of(path)` is the path again, also after the project has been moved.
    """
    path = path.resolve()
    return (path.relative_to(PROJECT) if PROJECT in path.parents else path).as_posix()


def load_data(path: Path = MNIST, part: str = "train") -> tuple[np.ndarray, np.ndarray]:
    """Loads the images and labels of one part of a data set.

    Args:
        path: An .npz file in the layout of `keras.datasets.mnist` (arrays `x_train`, `y_train`,
            `x_test` and `y_test`), or a folder with MNIST's IDX files under their original names,
            gzipped or not. Fashion-MNIST and KMNIST come in both forms.
        part: "train" or "test"; the other part is not read.

    Returns:
        `(images, labels)`: grey images, uint8 of shape (N, size, size), 0 to 255, `size` a
        multiple of 4; and their labels, int64 of shape (N,), from 0.

    Raises:
        UserError: The file does not exist, cannot be read, or holds something else.
    """
    if _is_folder(path):
        images_file, labels_file = _IDX_FILES[part]
        images, labels = _read_idx(path, images_file, 3), _read_idx(path, labels_file, 1)
    else:
        images, labels = _read_npz(path, part)
    _check_images(images, path)
    _check_labels(labels, len(images), path)
    return images, labels.astype(np.int64)


def checksum(images: np.ndarray, labels: np.ndarray) -> str:
    """The SHA-256 sum of a data set's training images and labels, in whatever files they come.

    Args:
        images: uint8 of shape (N, size, size), as from `load_data`.
        labels: int64 of shape (N,).
    """
    content = hashlib.sha256(str(images.shape).encode())
    content.update(images.tobytes())
    content.update(labels.tobytes())
    return content.hexdigest()


def _is_folder(path: Path) -> bool:
    """Whether a data set is a folder; if not, it is a file that can be opened."""
    try:
        if path.is_dir():
            return True
        with path.open("rb"):
            return False
    except FileNotFoundError:
        raise UserError(f"data set {path} does not exist: {_EXPECTED['train']}") from None
    except OSError as error:
        raise UserError(f"data set {path} cannot be read: {error.strerror}") from error


def _read_npz(path: Path, part: str) -> tuple[np.ndarray, np.ndarray]:
    expected = _EXPECTED[part]
    if not zipfile.is_zipfile(path):
        raise UserError(f"data set {path} is not an .npz file, or cut short: {expected}")
    try:
        # Pickled objects, which could run code, are refused by np.load's default.
        with np.load(path) as archive:
            names = list(archive)
            found = {name: archive[name] for name in _ARRAYS[part] if name in names}
    except Exception as error:  # whatever a damaged file can make zipfile and NumPy raise
        raise UserError(f"data set {path} cannot be read ({first_line(error)})") from error
    for name in _ARRAYS[part]:
        if not isinstance(found.get(name), np.ndarray):
            raise UserError(
                f"data set {path} has no array {name}, only {', '.join(names) or 'none at all'}: "
                f"{expected}"
            )
    images, labels = (found[name] for name in _ARRAYS[part])
    return images, labels


def _read_idx_bytes(folder: Path, name: str) -> bytes:
    plain, gzipped = folder / name, folder / f"{name}.gz"
    path = plain if plain.exists() else gzipped
    try:
        return gzip.decompress(path.read_bytes()) if path is gzipped else path.read_bytes()
    except FileNotFoundError:
        raise UserError(f"data set {folder} has neither {name} nor {name}.gz") from None
    except Exception as error:  # whatever a damaged file can make gzip raise
        reason = (isinstance(error, OSError) and error.strerror) or first_line(error)
        raise UserError(f"{path} cannot be read: {reason}") from error


def _read_idx(folder: Path, name: str, ndim: int) -> np.ndarray:
    """Reads one IDX file: magic number, one big-endian size per dimension, unsigned bytes."""
    raw = _read_idx_bytes(folder, name)
    path = folder / name
    magic = raw[:4]
    expected = bytes([0, 0, 0x08, ndim])  # 0x08: unsigned bytes
    if magic != expected:
        raise UserError(
            f"{path} starts with the magic number 0x{magic.hex()}, "
            f"an IDX file of this name with 0x{expected.hex()}: fetch it again"
        )
    start = 4 + 4 * ndim
    # A header that is itself cut short reads as sizes of 0 and fails the comparison below.
    shape = [int.from_bytes(raw[i : i + 4], "big") for i in range(4, start, 4)]
    if len(raw) != start + math.prod(shape):
        raise UserError(
            f"{path} has {len(raw)} bytes, its header promises {start + math.prod(shape)}: "
            "the file is damaged, fetch it again"
        )
    return np.frombuffer(raw, np.uint8, offset=start).reshape(shape)


def _check_images(images: np.ndarray, path: Path) -> None:
    if images.dtype != np.uint8 or images.ndim != 3 or not len(images):
        raise UserError(
            f"the images of {path} are {images.dtype} of shape {images.shape}, "
            "expected uint8 of shape (N, size, size)"
        )
    height, width = images.shape[1:]
    if height != width or height % 4 or not 0 < height * width <= MAX_PIXELS:
        raise UserError(
            f"the images of {path} have {height} x {width} pixels, expected square images whose "
            f"side is a multiple of 4, from 4 to {math.isqrt(MAX_PIXELS)}: pad or crop them"
        )


def _check_labels(labels: np.ndarray, count: int, path: Path) -> None:
    if labels.dtype.kind not in "iu" or labels.shape != (count,):
        raise UserError(
            f"the labels of {path} are {labels.dtype} of shape {labels.shape}, "
            f"expected integers of shape ({count},), one for each image"
        )
    lowest, highest = int(labels.min()), int(labels.max())
    if lowest < 0 or not MIN_LABELS <= highest + 1 <= MAX_LABELS:
        raise UserError(
            f"the labels of {path} go from {lowest} to {highest}, "
            f"expected {MIN_LABELS} to {MAX_LABELS} classes counted from 0"
        )
