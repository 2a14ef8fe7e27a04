"""Reads data sets: NumPy's files, IDX files and folders of pictures.

All readers give the arrays of `keras.datasets.mnist`: x_train, y_train, x_test and y_test.
"""

import gzip
import math
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import IO

import numpy as np

from common.data import MAX_PIXELS
from common.errors import UserError, first_line

# Pillow is imported by the functions that use it: most commands read no pictures.

FORMATS = (
    "give an .npz file with the arrays x_train and y_train, a folder with IDX files like MNIST's, "
    "or a folder with a folder of pictures for each class"
)

# What reads each array of a data set.
Arrays = dict[str, Callable[[], np.ndarray]]

# Other names in .npz files: those of MedMNIST, and variants.
_NAMES = {
    "x_train": ("train_images", "train_x", "images", "x"),
    "y_train": ("train_labels", "train_y", "labels", "y"),
    "x_test": ("test_images", "test_x"),
    "y_test": ("test_labels", "test_y"),
}
# The types of values in IDX files, by their codes.
_IDX_TYPES = {0x08: "u1", 0x09: "i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}
_PICTURES = {".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".pgm"}
_TRAIN_FOLDERS = ("train", "training")
_TEST_FOLDERS = ("test", "val", "valid", "validation")


def find_arrays(path: Path, image_size: int | None = None) -> Arrays:
    """Finds the arrays of a data set.

    Args:
        path: A data set, in one of the forms of `dataset.load_data`.
        image_size: The side that pictures are cropped and resized to; None if all have the same.

    Returns:
        What reads each array: those of x_train, y_train, x_test and y_test that there are, and
        others. Pictures are uint8 of shape (N, side, side); other images have the type and shape
        that they have in the file. Labels are numbers or text, of shape (N,) or (N, columns).
    """
    with _reading(f"data set {path}"):
        if not path.exists():
            raise UserError(f"data set {path} does not exist: {FORMATS}")
        return _in_folder(path, image_size) if path.is_dir() else _in_file(path)


def _in_folder(folder: Path, image_size: int | None) -> Arrays:
    files = files_in(folder, 2)
    idx = _by_names(folder, files, _kind_of_idx)
    if idx:
        return idx
    kmnist = _by_names(folder, files, _kind_of_npz)
    if {"x_train", "y_train"} <= kmnist.keys():
        return kmnist
    return _pictures(folder, files_in(folder, 3), image_size)


def _in_file(path: Path) -> Arrays:
    """Finds the arrays in a file; if it holds a single one, the others are in files beside it."""
    kind_of = _kind_of_idx
    with path.open("rb") as file:
        start = file.read(6)
        file.seek(0)
        if start == b"\x93NUMPY":
            return {"x_train": partial(_read_numpy, path)}
        if start.startswith(b"PK"):
            kind_of = _kind_of_npz
            keys = np.load(file, allow_pickle=False).files
            if keys != ["arr_0"] or not kind_of(path):
                return _by_keys(path, keys)
    if not kind_of(path):
        raise UserError(f"data set {path} is of no known format: {FORMATS}")
    beside = [file for file in files_in(path.parent, 2) if _set_of(file) == _set_of(path)]
    return _by_names(path.parent, [path, *beside], kind_of)


def files_in(folder: Path, depth: int) -> list[Path]:
    """The files in a folder, in alphabetical order.

    Hidden ones are left out: macOS and notebooks leave them beside data.

    Args:
        folder: The folder.
        depth: How many levels of folders are searched: 1 for this folder alone.
    """
    found = []
    for path in sorted(folder.iterdir()):
        if path.name.startswith("."):
            continue
        if not path.is_dir():
            found.append(path)
        elif depth > 1:
            found += files_in(path, depth - 1)
    return found


@contextmanager
def _reading(what: str, advice: str = "if it is damaged, get it again") -> Iterator[None]:
    """Turns anything that a damaged file makes another library raise into a `UserError`."""
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        if "allow_pickle" in str(error):  # NumPy's, about arrays of Python's objects
            advice = "convert it, with .astype('uint8') or .astype(str), before it is saved"
        raise UserError(f"{what} cannot be read ({first_line(error)}): {advice}") from error


# NumPy's files and IDX files


def _by_keys(file: Path, keys: list[str]) -> Arrays:
    """Finds arrays in an .npz file, under names in small letters or capitals."""
    found = {key.lower(): key for key in keys}
    for array, others in _NAMES.items():
        for name in others:
            if name in found:
                found.setdefault(array, found[name])
    return {name: partial(_read_numpy, file, key) for name, key in found.items()}


def _by_names(folder: Path, files: list[Path], kind_of: Callable[[Path], str]) -> Arrays:
    """Finds arrays in files of one array each, by the names of the files.

    Args:
        folder: The folder of the data set.
        files: Files in it. Of several forms of a file, the first counts.
        kind_of: Tells images, "x", and labels, "y", from other files, "".
    """
    found: dict[str, dict[str, Path]] = defaultdict(dict)
    for file in files:
        if kind := kind_of(file):
            # the same name if it is gzipped, and for the two forms in Kaggle's MNIST:
            # train-images.idx3-ubyte and train-images-idx3-ubyte/train-images-idx3-ubyte
            inside = str(file.relative_to(folder)).lower().removesuffix(".gz").replace(".", "-")
            name = "/".join(dict.fromkeys(Path(inside).parts))
            part = "test" if re.search("t10k|test", name) else "train"
            found[f"{kind}_{part}"].setdefault(name, file)
    for same in found.values():
        if len(same) > 1:
            names = ", ".join(str(file.relative_to(folder)) for file in same.values())
            raise UserError(
                f"data set {folder} holds more than one, {names}: give one of these files, or a "
                "folder with one of them"
            )
    read = _read_idx if kind_of is _kind_of_idx else _read_numpy
    return {array: partial(read, *same.values()) for array, same in found.items()}


def _set_of(file: Path) -> str:
    """The prefix of a file's name before "train", "images", ...

    "emnist-letters-" for emnist-letters-train-images-idx3-ubyte.
    """
    found = re.search("train|t10k|test|image|img|label", file.name.lower())
    return file.name.lower()[: found.start()] if found else ""


def _kind_of_npz(file: Path) -> str:
    """The kind of a file like kmnist-train-imgs.npz or kmnist-train-labels.npz."""
    found = re.search(r"(image|img|label).*\.npz$", file.name.lower())
    return {"image": "x", "img": "x", "label": "y"}[found[1]] if found else ""


def _kind_of_idx(file: Path) -> str:
    """The kind of an IDX file, which is known by its content: names differ."""
    if file.suffix.lower() in _PICTURES:  # thousands, which need not be opened
        return ""
    with _reading(str(file)), _opened(file) as content:
        magic = content.read(4)
    if len(magic) == 4 and magic[:2] == b"\0\0" and magic[2] in _IDX_TYPES:
        return {1: "y", 2: "y", 3: "x", 4: "x"}.get(magic[3], "")
    if re.search(r"idx\d-[a-z]+(\.gz)?$", file.name.lower()):
        raise UserError(
            f"{file} starts with 0x{magic.hex()}, an IDX file with 0x0000 and the code of a type: "
            "it is damaged, or another kind of file: fetch it again"
        )
    return ""


def _opened(file: Path) -> IO[bytes]:
    """Opens a file, gzipped or not, which its name does not always tell after a download."""
    with file.open("rb") as content:
        is_gzipped = content.read(2) == b"\x1f\x8b"
    return gzip.open(file) if is_gzipped else file.open("rb")  # type: ignore[return-value]


def _read_idx(file: Path) -> np.ndarray:
    """Reads an IDX file: magic number, one big-endian size per dimension, values."""
    with _reading(str(file)), _opened(file) as opened:
        content = opened.read()
        code, ndim = content[2:4]
        sizes = np.frombuffer(content, ">u4", ndim, offset=4).tolist()
        array = np.frombuffer(content, _IDX_TYPES[code], offset=4 + 4 * ndim).reshape(sizes)
    # QMNIST's labels have eight columns, the class first
    return array[:, 0] if ndim == 2 and code == 0x0C else array


def _read_numpy(file: Path, key: str = "") -> np.ndarray:
    """Reads an .npy file, or an array of an .npz file; without a key, its first one."""
    what = f"{key} of data set {file}" if key else f"data set {file}"
    # opened here because NumPy does not close a file that turns out to be damaged
    with _reading(what), file.open("rb") as opened:
        loaded = np.load(opened, allow_pickle=False)
        return loaded if isinstance(loaded, np.ndarray) else loaded[key or loaded.files[0]]


# Pictures


def _pictures(folder: Path, files: list[Path], image_size: int | None) -> Arrays:
    """Finds pictures; their labels are the names of their folders.

    pictures/cats/1.png, pictures/dogs/2.png              all for training
    pictures/train/cats/1.png, pictures/test/cats/3.png   with a part for evaluations
    pictures/1.png                                        without labels
    """
    # such as ("train", "cats", "1.png")
    names = [file.relative_to(folder).parts for file in files if file.suffix.lower() in _PICTURES]
    folders = {name[0].lower(): name[0] for name in names if len(name) > 1}
    train = next((folders[word] for word in _TRAIN_FOLDERS if word in folders), None)
    test = next((folders[word] for word in _TEST_FOLDERS if word in folders), None)
    classes = sorted({name[0] for name in names if len(name) == 2})
    if train in classes and len(classes) > 1 and not test:
        other = next(name for name in classes if name != train)
        print(f"{folder}: {train} is taken for a class, like {other}")
        train = None
    bases = {"train": (train,) if train else ()}
    if train and test:
        bases["test"] = (test,)
    arrays: Arrays = {}
    for part, base in bases.items():
        inside = [name for name in names if name[: len(base)] == base]
        in_classes = [name for name in inside if len(name) == len(base) + 2]
        chosen = in_classes or [name for name in inside if len(name) == len(base) + 1]
        if chosen:
            paths = [folder.joinpath(*name) for name in chosen]
            arrays[f"x_{part}"] = partial(_read_pictures, paths, folder, image_size)
        if in_classes:
            arrays[f"y_{part}"] = partial(np.array, [name[-2] for name in in_classes])
    return arrays


def _read_pictures(files: list[Path], folder: Path, image_size: int | None) -> np.ndarray:
    """Reads pictures in grey: uint8 of shape (N, side, side)."""
    images: list[np.ndarray] = []
    notes: Counter[str] = Counter()
    for file in files:
        with _reading(f"picture {file}", "remove it, or replace it"):
            picture = _grey(file, notes)
        if image_size:
            picture = resized(picture, image_size)
        elif not images:
            check_size(picture, folder)
        elif picture.shape != images[0].shape:
            (height, width), side = picture.shape, len(images[0])
            raise UserError(
                f"the pictures of {folder} have several sizes, {side} x {side} and {height} x "
                f"{width}: add --image-size N to crop them to squares, for example --image-size 28"
            )
        images.append(picture)
    for note, count in notes.items():
        print(f"{count:,} of {len(files):,} pictures {note}")
    return np.stack(images)


def _grey(file: Path, notes: Counter[str]) -> np.ndarray:
    """A picture as uint8 of shape (height, width); adds to `notes` what was done to it."""
    from PIL import Image, ImageOps

    with Image.open(file) as opened:
        picture = ImageOps.exif_transpose(opened)
    if picture.mode.startswith("I"):  # 16 bits, which Pillow would cut off at 255
        return (np.asarray(picture) // 256).clip(0, 255).astype(np.uint8)
    if picture.has_transparency_data:
        picture = picture.convert("RGBA")
        if picture.getchannel("A").getextrema()[0] != 255:
            notes["have transparent pixels: white shows through"] += 1
        paper = Image.new("RGBA", picture.size, "white")
        picture = Image.alpha_composite(paper, picture)
    if picture.mode not in ("1", "L"):
        red, green, blue = picture.convert("RGB").split()
        if not red.tobytes() == green.tobytes() == blue.tobytes():
            notes["are in colour: they are read in grey"] += 1
    return np.asarray(picture.convert("L"))


def resized(image: np.ndarray, side: int) -> np.ndarray:
    """Crops an image, uint8 of shape (height, width), to a square, and resizes it."""
    from PIL import Image

    height, width = image.shape
    length = min(height, width)
    top, left = (height - length) // 2, (width - length) // 2
    # not `ImageOps.fit`, in which pixels outside of the square still blend into its border
    square = Image.fromarray(image[top : top + length, left : left + length])
    return np.asarray(square.resize((side, side), Image.Resampling.LANCZOS))


def check_size(image: np.ndarray, path: Path) -> None:
    """Checks that an image, of shape (height, width), is of a size that the networks can draw."""
    height, width = image.shape
    if height != width or height % 4 or not 0 < height * width <= MAX_PIXELS:
        raise UserError(
            f"the images of {path} have {height} x {width} pixels, expected square images whose "
            f"side is a multiple of 4, from 4 to {math.isqrt(MAX_PIXELS)}: add --image-size N to "
            "crop and resize them"
        )
