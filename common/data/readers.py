"""Reads data sets: NumPy's files, IDX files, CSV files and folders of pictures.

All readers give the arrays of `keras.datasets.mnist`: x_train, y_train, x_test and y_test.
"""

import gzip
import math
import os
import re
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import cache, partial
from pathlib import Path
from typing import IO, NamedTuple

import numpy as np

from common.data import MAX_PIXELS
from common.errors import UserError, first_line

# Pillow and Rich are imported by the functions that use them: most commands read no pictures.

FORMATS = (
    "give an .npz file with the arrays x_train and y_train, a .csv file like Kaggle's train.csv, a "
    "folder with IDX files like MNIST's, or a folder with a folder of pictures for each class"
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
# Formats that Pillow knows, but does not read, or only with the help of other programs.
_NO_PICTURES = {"BUFR", "EPS", "GRIB", "HDF5", "MPEG", "PALM", "PDF", "WMF"}
_TRAIN_FOLDERS = ("train", "training")
_TEST_FOLDERS = ("test", "val", "valid", "validation")
# The modes in which Pillow gives pictures of more than 8 bits.
_DEEP = ("I", "F")
# Reading that takes fewer seconds needs no progress bar.
_SHORT = 2.0
# The values that black and white may have: in floats, and in all numbers.
_OF_FLOATS = ((0, 1), (-1, 1))
_OF_NUMBERS = ((0, 255), (0, 1023), (0, 4095), (0, 65535))


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
    files = _files_in(folder, 2)
    idx = _by_names(folder, files, _kind_of_idx)
    if idx:
        return idx
    kmnist = _by_names(folder, files, _kind_of_npz)
    if {"x_train", "y_train"} <= kmnist.keys():
        return kmnist
    return _by_folders(folder, _files_in(folder), image_size)


def _in_file(path: Path) -> Arrays:
    """Finds the arrays in a file; if it holds a single one, the others are in files beside it."""
    if path.name.lower().endswith((".csv", ".csv.gz")):
        return _by_columns(path)
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
    beside = [file for file in _files_in(path.parent, 2) if _set_of(file) == _set_of(path)]
    return _by_names(path.parent, [path, *beside], kind_of)


def _files_in(folder: Path, depth: int | None = None) -> list[Path]:
    """The files in a folder, in alphabetical order.

    Hidden ones are left out: macOS and notebooks leave them beside data.

    Args:
        folder: The folder.
        depth: How many levels of folders are searched: 1 for this folder alone, None for all.
    """
    found = []
    for path in sorted(folder.iterdir()):
        if path.name.startswith("."):
            continue
        if not path.is_dir():
            found.append(path)
        elif depth != 1:
            found += _files_in(path, depth and depth - 1)
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
    if file.suffix.lower() in _suffixes():  # thousands, which need not be opened
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


# CSV files


def _by_columns(path: Path) -> Arrays:
    """Finds the arrays in a CSV file like Kaggle's train.csv: in each row a label, and pixels.

    There may be no labels, and no names of columns. The test part is in test.csv beside it.
    """
    test = path.with_name(path.name.replace("train", "test"))
    files = {"train": path} | ({"test": test} if test != path and test.exists() else {})
    arrays: Arrays = {}
    for part, file in files.items():
        table = _read_csv(file)
        columns = table.shape[1]
        if math.isqrt(columns) ** 2 == columns:
            arrays[f"x_{part}"] = partial(np.asarray, table)
        else:
            arrays[f"x_{part}"] = partial(np.asarray, table[:, 1:])
            arrays[f"y_{part}"] = partial(np.asarray, table[:, 0])
    return arrays


def _read_csv(file: Path) -> np.ndarray:
    """Reads numbers of shape (rows, columns): uint8 if they all fit, else float32."""
    advice = "expected rows of a label and the pixels of an image, as in Kaggle's train.csv"
    with _reading(f"data set {file}", advice):
        with _opened(file) as opened:
            first = opened.readline().decode("utf-8-sig").lower().strip()
        # pandas numbers columns that have no names
        numbers = ",".join(map(str, range(first.count(",") + 1)))
        skipped = 1 if first == numbers or re.search(r"[^-+.,e\d\s]", first) else 0
        read = partial(np.loadtxt, file, delimiter=",", skiprows=skipped, encoding="utf-8-sig")
        try:
            return read(dtype=np.uint8, ndmin=2)  # eight times as fast
        except ValueError:
            return read(dtype=np.float32, ndmin=2)


# Pixels, of arrays and of pictures


class Range(NamedTuple):
    """The values of black and white in images that are not of 8 bits."""

    black: int
    white: int

    @classmethod
    def of(cls, extremes: list, path: Path) -> "Range":
        """Finds the range of a data set: white is the least of the usual values that none exceeds.

        Where even the brightest pixel is below a quarter of it, white is something else, and all
        images would be read as nearly black.

        Args:
            extremes: The least and the greatest value of each image, or of all, in their own type.
            path: The data set.
        """
        lowest, highest = np.min(extremes), np.max(extremes)  # NaN if any is
        for black, white in (_OF_FLOATS if highest.dtype.kind == "f" else ()) + _OF_NUMBERS:
            if black <= lowest and white / 4 <= highest <= white:
                return cls(black, white)
        raise UserError(
            f"the images of {path} are {highest.dtype} from {lowest:.6g} to {highest:.6g}, "
            "expected 0 to 255, 1023, 4095 or 65535, or fractions from 0 to 1 or -1 to 1, and more "
            "than a quarter of that at least once: scale them, or make them uint8 if 255 is white"
        )

    def __str__(self) -> str:
        return f"pixels are taken for {self.black}: black, {self.white}: white"

    def to_bytes(self, image: np.ndarray) -> np.ndarray:
        """An image as uint8."""
        scaled = (image - self.black) * (255 / (self.white - self.black))
        return np.rint(scaled).astype(np.uint8)


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


# Pictures


@cache
def _suffixes() -> set[str]:
    """Those of all pictures that Pillow reads."""
    from PIL import Image

    Image.init()
    formats = Image.registered_extensions()
    return {suffix for suffix, name in formats.items() if name not in _NO_PICTURES}


def _by_folders(folder: Path, files: list[Path], image_size: int | None) -> Arrays:
    """Finds pictures; their labels are the names of their folders.

    pictures/cats/1.png, pictures/dogs/old/2.png          all for training
    pictures/train/cats/1.png, pictures/test/cats/3.png   with a part for evaluations
    pictures/1.png                                        without labels
    """
    pictures = [file for file in files if file.suffix.lower() in _suffixes()]
    kinds = Counter(file.suffix.lower() or "without suffix" for file in files)
    for suffix in _suffixes():
        del kinds[suffix]
    if not pictures:
        found = f"holds no data, but other files: {_counts(kinds)}" if files else "is empty"
        raise UserError(f"the folder {folder} {found}: {FORMATS}")
    # an archive is often a folder that holds a single one
    root = Path(os.path.commonpath([file.parent for file in pictures]))
    names = [file.relative_to(root).parts for file in pictures]  # such as ("train", "a", "1.png")
    _refuse_loose(root, names)
    parts = {}
    arrays: Arrays = {}
    for part, base in _bases(root, names).items():
        inside = [name[len(base) :] for name in names if name[: len(base)] == base]
        _refuse_loose(root.joinpath(*base), inside)
        parts[part] = [root.joinpath(*base, *name) for name in inside]
        if len(inside[0]) > 1:
            arrays[f"y_{part}"] = partial(np.array, [name[0] for name in inside])
    chosen = [file for of_part in parts.values() for file in of_part]
    outside = sorted(set(pictures).difference(chosen))
    kinds.update(f"in {file.relative_to(root).parts[0]}" for file in outside)
    read = partial(_read_pictures, folder, image_size, cache(partial(_range_in, folder, chosen)))
    for part, of_part in parts.items():
        arrays[f"x_{part}"] = partial(read, of_part, kinds if part == "train" else Counter())
    return arrays


def _counts(kinds: Counter[str]) -> str:
    shown = [f"{count:,} {kind}" for kind, count in kinds.most_common(5)]
    return f"{kinds.total():,} ({', '.join(shown + ['...'] * (len(kinds) > 5))})"


def _refuse_loose(folder: Path, names: list[tuple[str, ...]]) -> None:
    loose = sum(len(name) == 1 for name in names)
    if 0 < loose < len(names):
        raise UserError(
            f"{folder} holds {loose:,} pictures beside folders that hold {len(names) - loose:,}: "
            "put all into folders, one for each class, or move away what does not belong there"
        )


def _bases(root: Path, names: list[tuple[str, ...]]) -> dict[str, tuple[str, ...]]:
    """The folder of each part, such as ("train",); () is the root, if there is one part."""
    folders = {name[0].lower(): name[0] for name in names if len(name) > 1}
    train = next((folders[word] for word in _TRAIN_FOLDERS if word in folders), None)
    test = next((folders[word] for word in _TEST_FOLDERS if word in folders), None)
    if train and test:
        return {"train": (train,), "test": (test,)}
    others = [name for name in folders.values() if name != train]
    if train and others and any(name[0] == train and len(name) == 2 for name in names):
        print(f"{root}: {train} is taken for a class, like {others[0]}")
        train = None
    return {"train": (train,) if train else ()}


def _range_in(folder: Path, files: list[Path]) -> Range:
    """Black and white in those pictures that have more than 8 bits."""
    from PIL import Image

    extremes = []
    for file in _shown(files):
        with suppress(Exception), Image.open(file) as opened:  # damaged ones are named later
            if opened.mode.startswith(_DEEP):
                pixels = np.asarray(opened)
                extremes += [pixels.min(), pixels.max()]
    return Range.of(extremes, folder)


def _read_pictures(
    folder: Path,
    image_size: int | None,
    find_range: Callable[[], Range],
    files: list[Path],
    passed_over: Counter[str],
) -> np.ndarray:
    """Reads pictures in grey: uint8 of shape (N, side, side)."""
    pixels = np.empty(0, np.uint8)
    notes: Counter[str] = Counter()
    damaged: dict[str, str] = {}
    for i, file in enumerate(_shown(files)):
        try:
            picture = _grey(file, notes, find_range)
        except UserError:
            raise
        except Exception as error:  # which has no type of its own for damaged files
            damaged[str(file.relative_to(folder))] = first_line(error)
            continue
        if image_size:
            picture = resized(picture, image_size)
        if not pixels.size:
            check_size(picture, folder)
            # a list of pictures would be in the memory beside the array that is made of it
            pixels = np.empty((len(files), *picture.shape), np.uint8)
        if picture.shape != pixels.shape[1:]:
            sizes = [f"{height} x {width}" for height, width in (pixels.shape[1:], picture.shape)]
            raise UserError(
                f"the pictures of {folder} have several sizes, {' and '.join(sizes)}: add "
                "--image-size N to crop them to squares, for example --image-size 28"
            )
        pixels[i] = picture
    if damaged:
        shown = ", ".join([*damaged][:10] + ["..."] * (len(damaged) > 10))
        raise UserError(
            f"{len(damaged):,} of {len(files):,} pictures of {folder} cannot be read: {shown} "
            f"({next(iter(damaged.values()))}): remove them, or replace them"
        )
    for note, count in notes.items():
        print(f"{count:,} of {len(files):,} pictures {note}", flush=True)
    if passed_over:
        print(f"{folder}: files passed over: {_counts(passed_over)}", flush=True)
    return pixels


def _shown(files: list[Path]) -> Iterator[Path]:
    """Gives pictures to read; where that takes long, says so, with a bar on a terminal."""
    from rich.console import Console
    from rich.progress import Progress

    begun = time.monotonic()
    remaining = iter(files)
    for done, file in enumerate(remaining, 1):
        yield file
        if time.monotonic() - begun > _SHORT and done < len(files):
            break
    else:
        return
    console = Console()
    if console.is_terminal and not console.is_dumb_terminal:
        with Progress(console=console, transient=True) as bar:
            task = bar.add_task(
                f"reading {len(files):,} pictures", total=len(files), completed=done
            )
            for file in remaining:
                yield file
                bar.advance(task)
    else:
        print(f"reading {len(files):,} pictures", flush=True)
        yield from remaining


def _grey(file: Path, notes: Counter[str], find_range: Callable[[], Range]) -> np.ndarray:
    """A picture as uint8 of shape (height, width); adds to `notes` what was done to it."""
    from PIL import Image, ImageOps

    with Image.open(file) as opened:
        picture = ImageOps.exif_transpose(opened)
    if picture.mode.startswith(_DEEP):  # Pillow would cut off what is above 255
        notes[f"have more than 8 bits: {find_range()}"] += 1
        return find_range().to_bytes(np.asarray(picture))
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
