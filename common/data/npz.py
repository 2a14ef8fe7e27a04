"""Data sets in NumPy's formats: .npz files, .npy files, and KMNIST's files of one array each."""

from __future__ import annotations

import zipfile
from functools import partial
from pathlib import Path
from typing import IO

import numpy as np

from common.data.formats import FORMATS, Raw, is_of, of_same_set, one_of, read_into, set_of, visible
from common.errors import UserError, first_line
from common.files import open_regular

# The names of the arrays: those of `keras.datasets`, those of MedMNIST, and variants.
_IMAGES = {
    "train": ("x_train", "train_images", "train_x", "images", "x"),
    "test": ("x_test", "test_images", "test_x"),
}
_LABELS = {
    "train": ("y_train", "train_labels", "train_y", "labels", "y"),
    "test": ("y_test", "test_labels", "test_y"),
}
_EXPECTED = {
    "train": FORMATS,
    "test": "an evaluation needs test images too, add them as x_test and y_test",
}


def read_npz(path: Path, part: str) -> Raw:
    """A file of named arrays, or of one array with another file beside it, as KMNIST's are.

    Raises:
        UserError: It cannot be read, or has no such images.
    """
    with _Archive(path) as archive:
        if archive.names == ["arr_0"] and set_of(path) is not None:
            return read_numpy_files(path.parent, part, path)
        images, labels = archive.first_of(_IMAGES[part]), archive.first_of(_LABELS[part])
        if images is None:
            raise UserError(
                f"data set {path} has no array {_IMAGES[part][0]}, only "
                f"{', '.join(archive.names[:20]) or 'none at all'}: {_EXPECTED[part]}"
            )
    return Raw(partial(_read, path, images), partial(_read, path, labels) if labels else None)


def read_npy(path: Path, part: str) -> Raw:
    """A file of one array: images without labels, all for training.

    Raises:
        UserError: Other images were asked for. When they are read: they cannot be.
    """
    if part == "test":
        raise UserError(f"data set {path} has no test images: an evaluation needs an .npz file")
    return Raw(partial(_read_npy, path), None)


def has_numpy_files(folder: Path) -> bool:
    """Whether a folder has files like kmnist-train-imgs.npz and kmnist-train-labels.npz."""
    return len(_numpy_files(folder, "train")) == 2


def read_numpy_files(folder: Path, part: str, chosen: Path | None = None) -> Raw:
    """Such files: each holds one array.

    Args:
        folder: Their folder.
        part: "train" or "test".
        chosen: One of them, to leave out those of other data sets.

    Raises:
        UserError: There are none of this part, or several. When they are read: they cannot be.
    """
    files = _numpy_files(folder, part, chosen)
    if len(files) < 2:
        raise UserError(
            f"data set {folder} has no {part} part: add files like kmnist-{part}-imgs.npz and "
            f"kmnist-{part}-labels.npz"
        )
    images, labels = files
    return Raw(partial(_read, images), partial(_read, labels))


def _numpy_files(folder: Path, part: str, chosen: Path | None = None) -> list[Path]:
    """The files with the images and with the labels of a part, in this order."""
    found = []
    archives = of_same_set(visible(folder.glob("*.npz"), folder), chosen)
    for words in (("image", "img"), ("label",)):
        files = [
            file
            for file in archives
            if is_of(file.name, part) and any(word in file.name.lower() for word in words)
        ]
        if len(files) > 1:
            raise UserError(one_of(files, folder))
        found += files
    return found


def _read(path: Path, name: str | None = None) -> np.ndarray:
    """Reads one array of an archive, or the only one."""
    with _Archive(path) as archive:
        if name is None and len(archive.names) != 1:
            raise UserError(
                f"{path} holds {len(archive.names)} arrays, one expected: save images and labels "
                "in a file each, or give one file with x_train and y_train"
            )
        return archive.read(name or archive.names[0])


def _read_npy(path: Path) -> np.ndarray:
    try:
        with open_regular(path) as file:
            return _array_in(file, f"data set {path}")
    except UserError:
        raise
    except Exception as error:  # whatever a damaged file can make NumPy raise
        raise UserError(f"data set {path} cannot be read: {first_line(error)}") from error


class _Archive:
    """The arrays of an .npz file, each of which is read when it is asked for.

    Whatever a damaged file can make zipfile and NumPy raise becomes a `UserError`.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def __enter__(self) -> _Archive:
        try:
            self._file = open_regular(self.path)
        except OSError as error:
            raise self._damaged(error) from error
        try:
            self._zip = zipfile.ZipFile(self._file)
        except (zipfile.BadZipFile, OSError, ValueError) as error:
            self._file.close()
            raise self._damaged(error) from error
        self.names = [name.removesuffix(".npy") for name in self._zip.namelist()]
        return self

    def __exit__(self, *_: object) -> None:
        self._zip.close()
        self._file.close()

    def first_of(self, names: tuple[str, ...]) -> str | None:
        """The first of some names that is here, in small letters or capitals."""
        by_lower = {name.lower(): name for name in self.names}
        return next((by_lower[name] for name in names if name in by_lower), None)

    def read(self, name: str) -> np.ndarray:
        """One array."""
        try:
            with self._zip.open(f"{name}.npy") as file:
                return _array_in(file, f"{name} of data set {self.path}")
        except UserError:
            raise
        except Exception as error:
            raise self._damaged(error) from error

    def _damaged(self, error: Exception) -> UserError:
        return UserError(
            f"data set {self.path} is cut short or damaged ({first_line(error)}): make it, or "
            "fetch it, again"
        )


def _array_in(file: IO[bytes], what: str) -> np.ndarray:
    """Reads an array, which messages call `what`, after a look at its header."""
    version = np.lib.format.read_magic(file)
    read_header = (
        np.lib.format.read_array_header_1_0
        if version == (1, 0)
        else np.lib.format.read_array_header_2_0
    )
    shape, fortran_order, dtype = read_header(file)
    if dtype.kind not in "biufSU":  # objects are pickled, and could run code
        raise UserError(
            f"{what} is an array of type {dtype}, expected real numbers, or text for labels: "
            "convert it before it is saved, for example with .astype('uint8') or .astype(str)"
        )
    array = read_into(file, shape[::-1] if fortran_order else shape, dtype)
    return array.T if fortran_order else array
