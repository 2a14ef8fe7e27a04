"""Reads data sets: NumPy's files, IDX files, CSV files and folders of pictures.

All readers give the arrays of `keras.datasets.mnist`: x_train, y_train, x_test and y_test.
"""

import gzip
import math
import os
import re
import warnings
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import cache, partial
from pathlib import Path
from typing import IO

import numpy as np
from PIL import Image, ImageOps
from rich.console import Console
from rich.progress import Progress

from common.data import MAX_PIXELS
from common.errors import UserError, first_line

FORMATS = (
    "give an .npz file with the arrays x_train and y_train, a .csv file like Kaggle's train.csv, a "
    "folder with IDX files like MNIST's, or a folder with a folder of pictures for each class"
)

# What reads each array of a data set, and the values of black and white.
Arrays = dict[str, Callable[[], np.ndarray]]
Range = tuple[int, int]
# Other names in .npz files: those of MedMNIST, and variants.
_NAMES = {
    "x_train": ("train_images", "train_x", "images", "x"),
    "y_train": ("train_labels", "train_y", "labels", "y"),
    "x_test": ("test_images", "test_x"),
    "y_test": ("test_labels", "test_y"),
}
# The words that end the name of a set in the names of files: "emnist-letters-train-images".
_WORDS = "train|t10k|test|image|img|pattern|label|idx"
# The types of values in IDX files, by their codes.
_IDX_TYPES = {0x08: "u1", 0x09: "i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}
# Formats that Pillow knows, but does not read, or only with the help of other programs.
_NO_PICTURES = {"BUFR", "EPS", "GRIB", "HDF5", "MPEG", "PALM", "PDF", "WMF"}
_TRAIN_FOLDERS = ("train", "training")
_TEST_FOLDERS = ("test", "val", "valid", "validation")
# The modes in which Pillow gives pictures of more than 8 bits.
_DEEP = ("I", "F")
# The values that black and white may have; the first two are for fractions.
_RANGES = ((0, 1), (-1, 1), (0, 255), (0, 1023), (0, 4095), (0, 65535))
TAKEN = "pixels are taken for {}: black, {}: white"


def find_arrays(path: Path, image_size: int | None = None) -> Arrays:
    """Finds the arrays of a data set; the arguments are those of `dataset.load_dataset`.

    Returns:
        What reads each array: those of x_train, y_train, x_test and y_test that there are, and
        others. Pictures are uint8 of shape (N, side, side); other images have the type and shape
        that they have in the file. Labels are numbers or text, of shape (N,) or (N, columns).
    """
    with _reading(path):
        if not path.exists():
            raise UserError(f"data set {path} does not exist: {FORMATS}")
        if not path.is_dir():
            return _in_file(path)
        files = _files_in(path)
        # KMNIST comes in both forms, and some download both
        sets = _sets(path, [file for file in files if file.suffix != ".npz"]) or _sets(path, files)
        if len(sets) > 1:
            names = ", ".join(str(file.relative_to(path)) for file in sets)
            raise UserError(f"data set {path} holds more than one: give one of its files, {names}")
        return next(iter(sets.values()), None) or _by_folders(path, files, image_size)


def _in_file(path: Path) -> Arrays:
    """Finds the arrays in a file; if it holds a single one, the others are in files beside it."""
    if path.name.lower().endswith((".csv", ".csv.gz")):
        return _by_columns(path)
    if _kind_of(path):
        files = [file for file in sorted(path.parent.iterdir()) if file.is_file()]
        beside = [file for file in files if re.search(_WORDS, file.name.lower())]
        return _sets(path.parent, [path, *beside])[path]
    with path.open("rb") as file:
        start = file.read(6)
        if start == b"\x93NUMPY":
            return {"x_train": partial(_read_numpy, path)}
        if start.startswith(b"PK"):
            file.seek(0)
            return _by_keys(path, np.load(file, allow_pickle=False).files)
    raise UserError(f"data set {path} is of no known format: {FORMATS}")


def _files_in(folder: Path) -> list[Path]:
    """The files in a folder, at any depth, in alphabetical order.

    Hidden ones are left out: macOS and notebooks leave them beside data.
    """
    paths = [path for path in sorted(folder.iterdir()) if not path.name.startswith(".")]
    return [file for path in paths for file in (_files_in(path) if path.is_dir() else [path])]


@contextmanager
def _reading(what: object, advice: str = "if it is damaged, get it again") -> Iterator[None]:
    """Turns anything that a damaged file makes another library raise into a `UserError`."""
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        if "allow_pickle" in str(error):  # NumPy's, about arrays of Python's objects
            advice = "convert it, with .astype('uint8') or .astype(str), before it is saved"
        reason = first_line(error)
        raise UserError(f"data set {what} cannot be read ({reason}): {advice}") from error


# NumPy's files and IDX files


def _by_keys(file: Path, keys: list[str]) -> Arrays:
    """Finds arrays in an .npz file, under names in small letters or capitals."""
    found = {key.lower(): key for key in keys}
    for array, others in _NAMES.items():
        for name in others:
            if name in found:
                found.setdefault(array, found[name])
    return {name: partial(_read_numpy, file, key) for name, key in found.items()}


def _sets(folder: Path, files: list[Path]) -> dict[Path, Arrays]:
    """Finds data sets in files of one array each, IDX files or KMNIST's .npz files.

    What the names of files begin with tells the sets apart, such as "emnist-letters-". Of several
    forms of a file the first counts: gzipped and not, or, in Kaggle's MNIST,
    train-images.idx3-ubyte and train-images-idx3-ubyte/train-images-idx3-ubyte.

    Returns:
        The arrays of each set, by its first file.
    """
    first: dict[str, Path] = {}
    sets: dict[Path, Arrays] = defaultdict(dict)
    for file in files:
        if kind := _kind_of(file):
            parts = [part.lower() for part in file.relative_to(folder).parts]
            begin = "".join(re.split(_WORDS, part)[0] for part in parts)
            part = "test" if re.search("(t10k|test)(?!.*train)", "/".join(parts)) else "train"
            read = partial(_read_numpy if file.suffix == ".npz" else _read_idx, file)
            sets[first.setdefault(begin, file)].setdefault(f"{kind}_{part}", read)
    return sets


def _kind_of(file: Path) -> str:
    """Tells files of one array, images ("x") or labels ("y"), from all others ("").

    IDX files are known by their content: their names differ.
    """
    if file.suffix.lower() in _suffixes():  # thousands, which need not be opened
        return ""
    with _reading(file):
        found = re.search("image|img|label", file.name.lower())
        if file.suffix == ".npz" and found:
            with file.open("rb") as opened:
                is_single = np.load(opened, allow_pickle=False).files == ["arr_0"]
            return {"image": "x", "img": "x", "label": "y"}[found[0]] if is_single else ""
        with _opened(file) as content:
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
    with _reading(file), _opened(file) as opened:
        content = opened.read()
        code, ndim = content[2:4]
        sizes = np.frombuffer(content, ">u4", ndim, offset=4).tolist()
        array = np.frombuffer(content, _IDX_TYPES[code], offset=4 + 4 * ndim).reshape(sizes)
    # QMNIST's labels have eight columns, the class first
    return array[:, 0] if ndim == 2 and code == 0x0C else array


def _read_numpy(file: Path, key: str = "") -> np.ndarray:
    """Reads an .npy file, or an array of an .npz file; without a key, its first one."""
    # opened here because NumPy does not close a file that turns out to be damaged
    with _reading(f"{file}, {key}" if key else file), file.open("rb") as opened:
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
        first = 0 if math.isqrt(columns) ** 2 == columns else 1  # of the pixels
        arrays[f"x_{part}"] = partial(np.asarray, table[:, first:])
        if first:
            arrays[f"y_{part}"] = partial(np.asarray, table[:, 0])
    return arrays


def _read_csv(file: Path) -> np.ndarray:
    """Reads numbers of shape (rows, columns): uint8 if they all fit, else float32."""
    with _reading(file, "expected rows of a label and an image's pixels, as in Kaggle's train.csv"):
        with _opened(file) as opened:
            first = opened.readline().decode("utf-8-sig").lower().strip()
        # pandas numbers columns that have no names
        numbers = ",".join(map(str, range(first.count(",") + 1)))
        skipped = 1 if first == numbers or re.search(r"[^-+.,e\d\s]", first) else 0
        read = partial(np.loadtxt, file, delimiter=",", skiprows=skipped, encoding="utf-8-sig")
        with suppress(ValueError), warnings.catch_warnings():
            warnings.simplefilter(
                "error", DeprecationWarning
            )  # before NumPy 2 it cuts fractions off
            return read(dtype=np.uint8, ndmin=2)  # eight times as fast
        return read(dtype=np.float32, ndmin=2)


# Pixels, of arrays and of pictures


def find_range(extremes: list, path: Path) -> Range:
    """The values of black and white in images that are not of 8 bits.

    White is the least of the usual values that no pixel exceeds. Where even the brightest pixel is
    below a quarter of it, white is something else, and all images would be read as nearly black.
    `extremes` are the least and the greatest value of each image, or of all, in their own type.
    """
    lowest, highest = np.min(extremes), np.max(extremes)  # NaN if any is
    for black, white in _RANGES[0 if highest.dtype.kind in "bf" else 2 :]:
        if black <= lowest and white / 4 <= highest <= white:
            return black, white
    raise UserError(
        f"the images of {path} are {highest.dtype} from {lowest:.6g} to {highest:.6g}, "
        "expected 0 to 255, 1023, 4095 or 65535, or fractions from 0 to 1 or -1 to 1, and more "
        "than a quarter of that at least once: scale them, or make them uint8 if 255 is white"
    )


def to_bytes(image: np.ndarray, black: int, white: int) -> np.ndarray:
    """An image as uint8."""
    return np.rint((image - black) * (255 / (white - black))).astype(np.uint8)


def resized(image: np.ndarray, side: int) -> np.ndarray:
    """Crops an image, uint8 of shape (height, width), to a square, and resizes it."""
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
    formats = Image.registered_extensions()
    return {suffix for suffix, name in formats.items() if name not in _NO_PICTURES}


def _by_folders(folder: Path, files: list[Path], image_size: int | None) -> Arrays:
    """Finds pictures; their labels are the names of their folders.

    pictures/cats/1.png, pictures/dogs/old/2.png          all for training
    pictures/train/cats/1.png, pictures/test/cats/3.png   with a part for evaluations
    pictures/1.png                                        without labels
    """
    pictures = [file for file in files if file.suffix.lower() in _suffixes()]
    kinds = [file.suffix.lower() or "without suffix" for file in files]
    others = Counter(kind for kind in kinds if kind not in _suffixes())
    if not pictures:
        found = f"holds no data, but other files: {_counts(others)}" if files else "is empty"
        raise UserError(f"the folder {folder} {found}: {FORMATS}")
    # an archive is often a folder that holds a single one
    root = Path(os.path.commonpath([file.parent for file in pictures]))
    bases = _parts(root, pictures)
    parts = [
        [file for file in pictures if file.parts[: len(base.parts)] == base.parts]
        for base in bases.values()
    ]
    chosen = [file for of_part in parts for file in of_part]
    outside = sorted(set(pictures).difference(chosen))
    others.update(f"in {file.relative_to(root).parts[0]}" for file in outside)
    if others:
        print(f"{folder}: files passed over: {_counts(others)}", flush=True)
    find = cache(partial(_range_of, folder, chosen))
    arrays: Arrays = {}
    for (part, base), of_part in zip(bases.items(), parts, strict=True):
        arrays[f"x_{part}"] = partial(_read_pictures, folder, of_part, image_size, find)
        if classes := _classes(base, of_part):
            arrays[f"y_{part}"] = partial(np.array, classes)
    return arrays


def _counts(kinds: Counter[str]) -> str:
    shown = [f"{count:,} {kind}" for kind, count in kinds.most_common(5)]
    return f"{kinds.total():,} ({', '.join(shown + ['...'] * (len(kinds) > 5))})"


def _parts(root: Path, pictures: list[Path]) -> dict[str, Path]:
    """The folder of each part."""
    folders = {name.lower(): root / name for name in _classes(root, pictures)}
    train = next((folders[word] for word in _TRAIN_FOLDERS if word in folders), root)
    test = next((folders[word] for word in _TEST_FOLDERS if word in folders), root)
    if root not in (train, test):
        return {"train": train, "test": test}
    # without a test part, a folder train beside others may be a class: pictures of trains
    return {"train": root if any(file.parent == train for file in pictures) else train}


def _classes(folder: Path, pictures: list[Path]) -> list[str]:
    """The first folder of each picture in a folder; empty if all are in the folder itself."""
    names = [file.parts[len(folder.parts) :] for file in pictures]
    classes = [name[0] for name in names if len(name) > 1]
    if 0 < len(classes) < len(names):
        raise UserError(
            f"{folder} holds {len(names) - len(classes):,} pictures beside folders that hold "
            f"{len(classes):,}: put all into folders, one for each class, or move away what does "
            "not belong there"
        )
    return classes


def _range_of(folder: Path, files: list[Path]) -> Range:
    """Black and white in those pictures that have more than 8 bits."""
    print(f"{folder}: looking for the brightest pixel", flush=True)
    extremes = []
    for file in files:
        with suppress(Exception), Image.open(file) as opened:  # damaged ones are named later
            if opened.mode.startswith(_DEEP):
                pixels = np.asarray(opened)
                extremes += [pixels.min(), pixels.max()]
    return find_range(extremes, folder)


def _read_pictures(
    folder: Path, files: list[Path], image_size: int | None, find: Callable[[], Range]
) -> np.ndarray:
    """Reads pictures in grey: uint8 of shape (N, side, side). `find` returns their `_range_of`."""
    pixels = np.empty(0, np.uint8)
    notes: Counter[str] = Counter()
    damaged: dict[str, str] = {}
    print(f"{folder}: reading {len(files):,} pictures", flush=True)
    console = Console()
    with Progress(console=console, transient=True, disable=not console.is_terminal) as bar:
        for i, file in enumerate(bar.track(files, description="")):
            try:
                with Image.open(file) as opened:
                    picture = ImageOps.exif_transpose(opened)
            except Exception as error:  # Pillow has no type of its own for damaged files
                damaged[str(file.relative_to(folder))] = first_line(error)
                continue
            image = _grey(picture, notes, find)
            if image_size:
                image = resized(image, image_size)
            if not pixels.size:
                check_size(image, folder)
                # a list of images would be in the memory beside the array that is made of it
                pixels = np.empty((len(files), *image.shape), np.uint8)
            if image.shape != pixels.shape[1:]:
                sizes = " and ".join("{} x {}".format(*x.shape) for x in (pixels[0], image))
                raise UserError(
                    f"the pictures of {folder} have several sizes, {sizes}: add --image-size N to "
                    "crop them to squares, for example --image-size 28"
                )
            pixels[i] = image
    if damaged:
        shown = ", ".join([*damaged][:10] + ["..."] * (len(damaged) > 10))
        raise UserError(
            f"{len(damaged):,} of {len(files):,} pictures of {folder} cannot be read: {shown} "
            f"({next(iter(damaged.values()))}): remove them, or replace them"
        )
    for note, count in notes.items():
        print(f"{count:,} of {len(files):,} pictures {note}", flush=True)
    return pixels


def _grey(picture: Image.Image, notes: Counter[str], find: Callable[[], Range]) -> np.ndarray:
    """A picture as uint8 of shape (height, width); adds to `notes` what was done to it."""
    if picture.mode.startswith(_DEEP):  # Pillow would cut off what is above 255
        notes[f"have more than 8 bits: {TAKEN.format(*find())}"] += 1
        return to_bytes(np.asarray(picture), *find())
    if picture.has_transparency_data:
        picture = picture.convert("RGBA")
        if picture.getchannel("A").getextrema()[0] != 255:
            notes["have transparent pixels: white shows through"] += 1
        picture = Image.alpha_composite(Image.new("RGBA", picture.size, "white"), picture)
    if picture.mode not in ("1", "L"):
        red, green, blue = picture.convert("RGB").split()
        if not red.tobytes() == green.tobytes() == blue.tobytes():
            notes["are in colour: they are read in grey"] += 1
    return np.asarray(picture.convert("L"))
