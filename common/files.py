"""Atomic writes, and the names of files."""

import io
import itertools
import os
import re
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

from common.errors import UserError

if sys.platform == "win32":
    import msvcrt
else:
    import fcntl


def write_file(path: Path, content: bytes) -> None:
    """Writes a file and its folder; until the file is complete, `path` stays as it was.

    Callers make the whole content in memory first. Not all libraries that write to the disk
    themselves survive a full one: HDF5 aborts the process.
    """
    partial = partial_of(path)
    try:
        with writing(path):
            with partial.open("wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            partial.replace(path)
            _sync_folder(path.parent)
    finally:
        with suppress(OSError):  # the error that writing has met may come here, too
            partial.unlink(missing_ok=True)


def partial_of(path: Path) -> Path:
    """The name that a file has until it is complete.

    It is always the same: what a killed process has left is overwritten.
    """
    return path.with_name(f".{path.name}.partial")


def remove_partials(folder: Path) -> None:
    """Removes what a killed process has left half written in a folder that is locked."""
    for partial in filter(Path.is_file, folder.glob(partial_of(Path("*")).name)):
        partial.unlink()


def check_writable(path: Path) -> None:
    """Checks now, not after hours of training, that `write_file(path, ...)` will work.

    Creates the folder of `path`, and leaves nothing else behind.
    """
    with writing(path):
        if path.is_dir():
            raise UserError(f"cannot write {path}: there is a folder of that name; move it away")
        tempfile.TemporaryFile(dir=path.parent).close()


def lock(file: IO) -> None:
    """Locks a file until it is closed, or the process ends, even if it is killed.

    Raises:
        BlockingIOError: It is locked already; on Windows, a `PermissionError`.
    """
    if sys.platform == "win32":
        msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
    else:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)


def refuse_to_replace(path: Path, flag: str) -> None:
    """Checks that a file which the user has named does not exist."""
    if os.path.exists(path):
        raise UserError(
            f"argument {flag}: {path} is there already: give another, or add --overwrite to "
            "replace it"
        )


def free_file(path: Path, *suffixes: str) -> Path:
    """The first of `00000.png`, `00000-1.png`, `00000-2.png`, ... that no file has.

    A file of the same name with one of the suffixes goes with it: its name has to be free as well.
    """
    numbered = (path.with_stem(f"{path.stem}-{number}") for number in itertools.count(1))
    for free in itertools.chain([path], numbered):
        if not any(free.with_suffix(suffix).exists() for suffix in (path.suffix, *suffixes)):
            break
    return free


def kind_of(path: Path) -> str:
    """The suffix of a file, which says what it holds, in small letters: `.png`."""
    return path.suffix.lower()


def numbered_files(folder: Path, suffix: str) -> list[Path]:
    """The files of a folder that are named after a number of steps, `01500.png`, unordered."""
    return [file for file in folder.glob(f"*{suffix}") if re.fullmatch(r"\d{5,}", file.stem)]


def packed(arrays: dict[str, Any]) -> bytes:
    """Named arrays as an .npz archive."""
    import numpy as np  # slow, and a command line is read without it

    archive = io.BytesIO()
    np.savez(archive, **arrays)
    return archive.getvalue()


def unpacked(content: bytes) -> dict[str, Any]:
    """The reverse of `packed`; a damaged archive can make NumPy raise any exception."""
    import numpy as np

    with np.load(io.BytesIO(content)) as archive:
        return {name: archive[name] for name in archive}


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Creates the folder of `path`, and turns an `OSError` in the context into a `UserError`."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield
    except (FileExistsError, NotADirectoryError) as error:
        what = error.filename2 or error.filename
        raise UserError(f"cannot write {path}: {what} is not a folder") from error
    except OSError as error:
        raise UserError(f"cannot write {path}: {error.strerror or error}") from error


def _sync_folder(folder: Path) -> None:
    """Makes a rename survive a power cut, on systems that offer it."""
    if os.name == "posix":
        descriptor = os.open(folder, os.O_RDONLY)
        with suppress(OSError):  # not all file systems support it
            os.fsync(descriptor)
        os.close(descriptor)
