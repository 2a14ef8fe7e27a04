"""Files appear whole or not at all."""

import errno
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from common.data.dataset import MNIST, checksum
from common.errors import UserError
from common.evaluation.classifier import classifier_for
from common.files import (
    check_writable,
    new_file,
    refuse_to_replace,
    remove_partials,
    write_file,
)
from common.runs.checkpoints import Checkpoints
from common.runs.folder import RunFolder
from common.runs.history import read_history
from common.runs.run import read_settings

PIXELS = np.zeros((1, 4, 4), np.uint8)


def test_writes_and_replaces(tmp_path):
    path = tmp_path / "new" / "grid.png"
    write_file(path, b"first")
    assert path.read_bytes() == b"first"
    write_file(path, b"second")
    assert path.read_bytes() == b"second"
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize("failing", ["fsync", "replace"])
def test_a_failure_leaves_the_old_file_and_nothing_else(tmp_path, monkeypatch, failing):
    """Wherever it happens; until the rename the old file is seen."""
    path = tmp_path / "grid.png"
    path.write_text("old")

    def fail(*_):
        assert path.read_text() == "old"
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(*((os, "fsync") if failing == "fsync" else (Path, "replace")), fail)
    with pytest.raises(UserError, match=r"cannot write .*grid.png: No space left on device"):
        write_file(path, b"new")
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_full_device(tmp_path, monkeypatch):
    """The kernel's own, at the first byte."""
    path = tmp_path / "grid.png"
    path.write_text("old")
    monkeypatch.setattr("common.files.partial_of", lambda _: Path("/dev/full"))
    monkeypatch.setattr(Path, "unlink", lambda *_, **__: None)  # of all files, not this one
    with pytest.raises(UserError, match=r"cannot write .*grid.png: No space left on device"):
        write_file(path, b"new")
    assert path.read_text() == "old"


@pytest.mark.parametrize(
    ("name", "read"),
    [
        ("config.json", lambda path: read_settings(RunFolder(path))),
        ("history.csv", lambda path: read_history(path / "history.csv")),
        ("checkpoints/00001.npz", lambda path: Checkpoints(path / "checkpoints").restore(None)),
        (
            f"classifier-{checksum(PIXELS, None)[:12]}.npz",
            lambda path: classifier_for((PIXELS, None), MNIST, path),
        ),
    ],
)
def test_only_ordinary_files_are_read(tmp_path, name, read):
    """A pipe or a device may never end; this one does."""
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).symlink_to("/dev/null")
    with pytest.raises(UserError, match=rf"{name} .*not an ordinary file"):
        read(tmp_path)


def test_check_writable_leaves_nothing_but_the_folder(tmp_path):
    check_writable(tmp_path / "runs" / "dcgan_mnist.h5")
    assert list(tmp_path.rglob("*")) == [tmp_path / "runs"]


def test_check_writable_keeps_what_is_there(tmp_path):
    path = tmp_path / "dcgan_mnist.h5"
    path.write_text("old")
    check_writable(path)
    assert path.read_text() == "old"


def test_check_writable_complains(tmp_path):
    (tmp_path / "file").touch()
    for folder in (tmp_path / "file", tmp_path / "file" / "runs"):
        with pytest.raises(UserError, match=r"cannot write .*/dcgan_mnist.h5: .* is not a folder"):
            check_writable(folder / "dcgan_mnist.h5")
    with pytest.raises(UserError, match=r"cannot write /proc/runs/dcgan_mnist.h5: "):
        check_writable(Path("/proc/runs/dcgan_mnist.h5"))
    (tmp_path / "dcgan_mnist.h5").mkdir()
    with pytest.raises(UserError, match="there is a folder of that name"):
        check_writable(tmp_path / "dcgan_mnist.h5")


def test_remove_partials(tmp_path):
    """Of the files named and of processes that have ended; the rest is none of our business."""
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    stays = [f".cgan_mnist.h5.{ended.pid}.partial", f".dcgan_mnist.h5.{os.getpid()}.partial"]
    stays += [".bashrc", "dcgan_mnist.h5", f"notes.{ended.pid}.partial", ".x.partial"]
    for name in stays:
        (tmp_path / name).touch()
    (tmp_path / f".dcgan_mnist.h5.{ended.pid}.partial").mkdir()
    remove_partials(tmp_path, "dcgan_mnist.h5")
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(stays)
    remove_partials(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(stays[1:])


def test_no_file_is_replaced_by_surprise(tmp_path):
    file = tmp_path / "00000.png"
    refuse_to_replace(file, "--output")
    with new_file(file) as first, new_file(file) as second:
        assert (first, second) == (file, tmp_path / "00000-1.png")
        first.write_text("written")
    assert list(tmp_path.iterdir()) == [file]  # nothing was written to the second
    (tmp_path / "00000-1.json").touch()
    with new_file(file, ".json") as third:
        assert third == tmp_path / "00000-2.png"
    with pytest.raises(UserError, match=r"--output: .*00000.png is there already.*--overwrite"):
        refuse_to_replace(file, "--output")
