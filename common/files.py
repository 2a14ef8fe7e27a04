"""Writing files so that nobody ever sees half of one."""

from __future__ import annotations

import errno
import io
import os
import re
import shutil
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

import numpy as np

from common.errors import UserError


def write_file(path: Path, content: bytes) -> None:
    """Writes a file, all of it or nothing: until it is complete, `path` stays as it was.

    Callers make the whole content in memory first. Not all libraries that write to the disk
    themselves survive a full one: HDF5 aborts the process.

    Args:
        path: The file to create or replace. Its folder is created if it does not exist.
        content: The new content.

    Raises:
        UserError: The file cannot be written (permissions, a full disk, a folder of that name).
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
        with suppress(OSError):  # whatever made writing fail may make this fail, too
            partial.unlink(missing_ok=True)


def kind_of(path: Path) -> str:
    """The suffix of a file, which says what it holds, in small letters: `.png`."""
    return path.suffix.lower()


def open_regular(path: Path) -> BinaryIO:
    """Opens a file for reading, if it is an ordinary one: a pipe or a device may never end.

    Raises:
        OSError: It cannot be opened, or it is none.
    """
    if not stat.S_ISREG(path.stat().st_mode):
        kind = errno.EISDIR if path.is_dir() else errno.EINVAL
        raise OSError(kind, "a folder" if path.is_dir() else "not an ordinary file", str(path))
    return path.open("rb")


def read_file(path: Path) -> bytes:
    """Reads a whole file, if it is an ordinary one.

    Raises:
        OSError: As `open_regular`, or it cannot be read.
    """
    with open_regular(path) as file:
        return file.read()


def check_writable(path: Path) -> None:
    """Checks now, not after hours of training, that `write_file(path, ...)` will work.

    Creates the folder of `path`, and leaves nothing else behind, nor what killed processes have.

    Raises:
        UserError: The file cannot be written.
    """
    with writing(path):
        if path.is_dir():
            raise UserError(f"cannot write {path}: there is a folder of that name; move it away")
        remove_partials(path.parent, f"*{path.suffix}")
        partial_of(path).touch()
        partial_of(path).unlink()


def check_utf8(path: Path, flag: str) -> None:
    """Checks that TensorFlow itself can write to a path.

    Raises:
        UserError: It cannot, because the name is of other bytes.
    """
    try:
        str(path).encode()
    except UnicodeEncodeError:
        raise UserError(
            f"argument {flag}: {path} is not a name in UTF-8, as TensorFlow needs one: give another"
        ) from None


def remove_partials(folder: Path, name: str = "*") -> None:
    """Removes the partial files and folders that killed processes have left behind.

    Args:
        folder: The folder to search.
        name: The file that was being written, or a pattern.
    """
    for partial in folder.glob(f".{name}.*.partial"):
        number = partial.suffixes[-2][1:] if len(partial.suffixes) > 1 else ""
        if number.isdigit() and not _is_alive(int(number)):
            if partial.is_dir():
                shutil.rmtree(partial, ignore_errors=True)
            else:
                partial.unlink(missing_ok=True)


def _is_alive(process: int) -> bool:
    try:
        os.kill(process, 0)  # sends nothing
    except ProcessLookupError:
        return False
    except OSError:  # it is another user's
        pass
    return True


def exists(path: Path) -> bool:
    """Whether there is such a file or folder, as far as this user can see.

    `Path.exists` raises where a folder may not be searched, or where a name is too long.
    """
    return os.path.exists(path)


def refuse_to_replace(path: Path, flag: str) -> None:
    """Checks that a file which the user has named is not there yet.

    Raises:
        UserError: It is.
    """
    if exists(path):
        raise UserError(
            f"argument {flag}: {path} is there already: give another, or add --overwrite to "
            "replace it"
        )


@contextmanager
def new_file(path: Path, *suffixes: str) -> Iterator[Path]:
    """An empty file of a name that none has yet, made from one that the user did not choose.

    So two programs that write at the same time do not take the same name. If the file is still
    empty when the context ends, it is removed.

    Args:
        path: The name to take if it is free; else `00000-1.png`, `00000-2.png`, ...
        suffixes: Of files that go with it, which have to be free as well.

    Raises:
        UserError: The file cannot be made.
    """
    free, number = path, 0
    while any(exists(free.with_suffix(suffix)) for suffix in suffixes) or not _made(free):
        number += 1
        free = path.with_stem(f"{path.stem}-{number}")
    try:
        yield free
    finally:
        with suppress(OSError):  # somebody may have removed it
            if not free.stat().st_size:
                free.unlink()


def _made(path: Path) -> bool:
    """Creates an empty file, unless there is one of that name."""
    with writing(path):
        try:
            path.open("x").close()
        except FileExistsError:
            return False
    return True


def numbered_files(folder: Path, suffix: str) -> list[Path]:
    """The files of a folder that are named after a number of steps, `01500.png`, unordered."""
    return [file for file in folder.glob(f"*{suffix}") if re.fullmatch(r"\d{5,}", file.stem)]


def packed(arrays: dict[str, np.ndarray]) -> bytes:
    """Named arrays as an .npz archive."""
    archive = io.BytesIO()
    np.savez(archive, **arrays)  # type: ignore[arg-type]  # none is named allow_pickle
    return archive.getvalue()


def unpacked(content: bytes) -> dict[str, np.ndarray]:
    """The reverse of `packed`; a damaged archive can make NumPy raise any exception."""
    with np.load(io.BytesIO(content)) as archive:
        return {name: archive[name] for name in archive}


def partial_of(path: Path) -> Path:
    """The name that a file has until it is complete; it names the process that writes it."""
    return path.with_name(f".{path.name}.{os.getpid()}.partial")


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Creates the folder of `path`, and turns an `OSError` in the context into a `UserError`."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield
    except (FileExistsError, NotADirectoryError) as error:
        raise UserError(f"cannot write {path}: {error.filename} is not a folder") from error
    except OSError as error:
        raise UserError(f"cannot write {path}: {error.strerror or error}") from error


def _sync_folder(folder: Path) -> None:
    """Makes a rename survive a power cut, on systems that offer it."""
    if os.name == "posix":
        descriptor = os.open(folder, os.O_RDONLY)
        with suppress(OSError):  # not all file systems support it
            os.fsync(descriptor)
        os.close(descriptor)
