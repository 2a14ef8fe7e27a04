"""How does a file come into being without ever being seen half written?"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from common.errors import UserError


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Gives a name beside `path` to write to, and renames that file to `path` at the end.

    Until then, and for good if the block fails, `path` stays as it was.

    Args:
        path: The file to create or replace. Its folder is created if it does not exist. The name
            to write to has the same suffix, by which Keras and Matplotlib choose a format.

    Raises:
        UserError: The file cannot be written (permissions, a full disk, a folder of that name).
    """
    partial = _beside(path)
    try:
        with _writing(path):
            yield partial
            with partial.open("rb+") as file:
                os.fsync(file.fileno())
            partial.replace(path)
            _sync_folder(path.parent)
    finally:
        with suppress(OSError):  # what made writing fail may keep us from cleaning up
            partial.unlink()


def check_writable(path: Path) -> None:
    """Finds out now, not after hours of training, whether `replacing(path)` will work.

    Leaves the folder of `path` behind, and nothing else.

    Raises:
        UserError: The file cannot be written.
    """
    if path.is_dir():
        raise UserError(f"cannot write {path}: there is a folder of that name; move it away")
    with _writing(path):
        _beside(path).touch()
        _beside(path).unlink()


def remove_partials(*folders: Path) -> None:
    """Removes what a process that was killed has left half written.

    Args:
        folders: To be looked through; nobody else may be writing there.
    """
    for folder in folders:
        for partial in folder.glob(".*.[0-9]*.*"):
            partial.unlink(missing_ok=True)


def _sync_folder(folder: Path) -> None:
    """Makes a rename outlast a power cut, where the system has a way to."""
    if os.name == "posix":
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _beside(path: Path) -> Path:
    return path.with_name(f".{path.stem}.{os.getpid()}{path.suffix}")


@contextmanager
def _writing(path: Path) -> Iterator[None]:
    """Makes the folder of `path`; what keeps a file from being written is the user's to mend."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield
    except (FileExistsError, NotADirectoryError) as error:
        raise UserError(f"cannot write {path}: {error.filename} is not a folder") from error
    except OSError as error:
        raise UserError(f"cannot write {path}: {error.strerror or error}") from error
