"""Files appear whole or not at all."""

import errno
import os
from pathlib import Path

import pytest

from common.errors import UserError
from common.files import check_writable, write_file


def test_writes_and_replaces(tmp_path):
    """Also over what a killed process has left."""
    path = tmp_path / "new" / "grid.png"
    write_file(path, b"first")
    assert path.read_bytes() == b"first"
    (tmp_path / "new" / ".grid.png.partial").write_bytes(b"half of another one")
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


def test_check_writable_leaves_nothing_but_the_folder(tmp_path):
    path = tmp_path / "runs" / "dcgan_mnist.h5"
    check_writable(path)
    assert list(tmp_path.rglob("*")) == [path.parent]
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
