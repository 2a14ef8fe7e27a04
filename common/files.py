"""How does a file come into being without ever being seen half written?"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from common.errors import UserError


def write_file(path: Path, content: bytes) -> None:
    """Writes a file, all of it or nothing: until it is complete, `path` stays as it was.

    Whoever has something to write makes it whole in memory first. Libraries that write to the disk
    themselves do not all survive a full one: HDF5 brings the process down.

    Args:
        path: The file to create or replace. Its folder is created if it does not exist.
        content: What it is to hold.

    Raises:
        UserError: It cannot be written (permissions, a full disk, a folder of that name).
    """
    partial = _beside(path)
    try:
        with writing(path):
            with partial.open("wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            partial.replace(path)
            _sync_folder(path.parent)
    finally:
        with suppress(OSError):  # what made writing fail may keep us from cleaning up
            partial.unlink(missing_ok=True)


def check_writable(path: Path) -> None:
    """Finds out now, not after hours of training, whether `write_file(path, ...)` will work.

    Leaves the folder of `path` behind, and nothing else.

    Raises:
        UserError: The file cannot be written.
    """
    with writing(path):
        if path.is_dir():
            raise UserError(f"cannot write {path}: there is a folder of that name; move it away")
        _beside(path).touch()
        _beside(path).unlink()


def remove_partials(folder: Path, name: str = "*") -> None:
    """Removes what a process that was killed has left half written.

    Args:
        folder: To be looked through.
        name: The file that was to be written, or a pattern; nobody else may be writing such.
    """
    for partial in folder.glob(f".{name}.*.partial"):
        partial.unlink(missing_ok=True)


def numbered_files(folder: Path, suffix: str) -> list[Path]:
    """The files of a folder that are named after a number of steps, `01500.png`, in no order."""
    return [file for file in folder.glob(f"*{suffix}") if re.fullmatch(r"\d{5,}", file.stem)]


def _beside(path: Path) -> Path:
    return path.with_name(f".{path.name}.{os.getpid()}.partial")


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Makes the folder of `path`; what keeps a file from being written is the user's to mend.

    Raises:
        UserError: In place of an `OSError`.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield
    except (FileExistsError, NotADirectoryError) as error:
        raise UserError(f"cannot write {path}: {error.filename} is not a folder") from error
    except OSError as error:
        raise UserError(f"cannot write {path}: {error.strerror or error}") from error


def _sync_folder(folder: Path) -> None:
    """Makes a rename outlast a power cut, where the system has a way to."""
    if os.name == "posix":
        descriptor = os.open(folder, os.O_RDONLY)
        with suppress(OSError):  # not all file systems have one
            os.fsync(descriptor)
        os.close(descriptor)
