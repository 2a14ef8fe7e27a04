"""Data sets in the IDX format, MNIST's own: a file for the images of each part, one for labels.

Files are known by their content, whatever they are called: train-images-idx3-ubyte,
train-images.idx3-ubyte, emnist-letters-train-images-idx3-ubyte.gz, or a folder of such a name with
the file in it.
"""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import IO, NamedTuple

import numpy as np

from common.data.formats import Raw, is_of, of_same_set, one_of, read_into, visible
from common.errors import UserError, first_line
from common.files import kind_of, open_regular

# The types of values by their codes.
_TYPES = {0x08: "u1", 0x09: "i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}
_GZIP = b"\x1f\x8b"


class IdxFile(NamedTuple):
    """An IDX file: its path, the code of its type, and its number of dimensions."""

    path: Path
    code: int
    ndim: int


def looks_like_idx(start: bytes) -> bool:
    """Whether a file that starts with these bytes may be an IDX file, gzipped or not."""
    return start.startswith((_GZIP, b"\0\0"))


def idx_files(folder: Path, chosen: Path | None = None) -> list[IdxFile]:
    """The IDX files in a folder and in its folders, each once.

    Args:
        folder: The folder.
        chosen: One of its files, to leave out those of other data sets.

    Raises:
        UserError: A file is called one and is none, or it cannot be read.
    """
    found = {}
    paths = visible([*folder.iterdir(), *folder.glob("*/*")], folder)
    # those that replace others come last: the chosen one, and unpacked ones
    paths = sorted(of_same_set(paths, chosen), key=lambda x: (x == chosen, kind_of(x) != ".gz"))
    for path in paths:
        name, suffix = path.name.lower(), kind_of(path)
        bare = suffix in ("", ".gz") or suffix.startswith(".idx")
        # thousands of pictures need not be opened
        if not path.is_file() or not (bare or "idx" in name or path == chosen):
            continue
        # idx_7.png and classes_idx.json are what their suffixes say
        named = bare and "idx" in name
        try:
            with _opened(path) as file:
                magic = file.read(4)
        except (OSError, EOFError, zlib.error) as error:
            if named:
                raise UserError(f"{path} cannot be read: {first_line(error)}") from error
            continue
        if len(magic) == 4 and magic[:2] == b"\0\0" and magic[2] in _TYPES:
            found[_usual_name(path.relative_to(folder))] = IdxFile(path, magic[2], magic[3])
        elif named:
            raise UserError(
                f"{path} starts with 0x{magic.hex()}, an IDX file with 0x0000 and the code of a "
                "type: it is damaged, or another kind of file: fetch it again"
            )
    return list(found.values())


def _usual_name(path: Path) -> str:
    """The same for a file's packed and unpacked form, and for its two forms in Kaggle's MNIST.

    These are train-images.idx3-ubyte and train-images-idx3-ubyte/train-images-idx3-ubyte.
    """
    names = (name.lower().removesuffix(".gz").replace(".", "-") for name in path.parts)
    return "/".join(dict.fromkeys(names))


def read_idx_files(folder: Path, files: list[IdxFile], part: str) -> Raw:
    """The images and labels of a part.

    Raises:
        UserError: There are no such images, or more than one file of them. When they are read:
            they cannot be.
    """
    images = _one_of_part(folder, files, part, (3, 4))
    labels = _one_of_part(folder, files, part, (1, 2))
    if images is None:
        names = ", ".join(str(file.path.relative_to(folder)) for file in files[:8])
        raise UserError(
            f"data set {folder} has no images of its {part} part, only {names}: add "
            f"{'train' if part == 'train' else 't10k'}-images-idx3-ubyte"
        )
    return Raw(partial(_read, images), partial(_read, labels) if labels else None)


def _one_of_part(
    folder: Path, files: list[IdxFile], part: str, dimensions: tuple[int, ...]
) -> IdxFile | None:
    found = [
        file
        for file in files
        if file.ndim in dimensions and is_of(str(file.path.relative_to(folder)), part)
    ]
    if len(found) > 1:
        raise UserError(one_of([file.path for file in found], folder))
    return found[0] if found else None


@contextmanager
def _opened(path: Path) -> Iterator[IO[bytes]]:
    """The content of a file, without the compression if it has one."""
    with open_regular(path) as file:
        zipped = file.read(2) == _GZIP
        file.seek(0)
        if zipped:
            with gzip.GzipFile(fileobj=file) as content:
                yield content  # type: ignore[misc]
        else:
            yield file


def _read(idx: IdxFile) -> np.ndarray:
    """Reads a file: magic number, one big-endian size per dimension, values."""
    try:
        with _opened(idx.path) as file:
            header = file.read(4 + 4 * idx.ndim)
            if len(header) < 4 + 4 * idx.ndim:
                raise ValueError("its header is incomplete")
            sizes = np.frombuffer(header, ">u4", offset=4).tolist()
            array = read_into(file, tuple(sizes), np.dtype(_TYPES[idx.code]))
            if file.read(1):
                raise ValueError(f"it has more than the {array.nbytes:,} bytes that it promises")
    except (OSError, EOFError, ValueError, zlib.error) as error:
        raise UserError(
            f"{idx.path} is cut short or damaged ({first_line(error)}): fetch it again"
        ) from error
    # QMNIST's labels have eight columns, the class first
    return array[:, 0] if array.ndim == 2 and idx.code == 0x0C else array
