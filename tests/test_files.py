"""Files appear whole or not at all."""

from pathlib import Path

import pytest

from common.errors import UserError
from common.files import check_writable, replacing


def test_replaces_at_the_end_only(tmp_path):
    path = tmp_path / "new" / "grid.png"
    with replacing(path) as partial:
        partial.write_text("first")
        assert partial.suffix == ".png"
        assert not path.exists()
    assert path.read_text() == "first"
    with replacing(path) as partial:
        partial.write_text("second")
        assert path.read_text() == "first"
    assert path.read_text() == "second"
    assert list(path.parent.iterdir()) == [path]


def test_a_failure_leaves_the_old_file_and_nothing_else(tmp_path):
    path = tmp_path / "grid.png"
    path.write_text("old")
    with pytest.raises(ZeroDivisionError), replacing(path) as partial:
        partial.write_text("half of the ne")
        raise ZeroDivisionError
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_full_disk_is_the_users_to_mend(tmp_path):
    path = tmp_path / "grid.png"
    path.write_text("old")
    with (
        pytest.raises(UserError, match=r"cannot write .*grid.png: No space left on device"),
        replacing(path) as partial,
    ):
        partial.symlink_to("/dev/full")
        with partial.open("w") as file:
            file.write("new")
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


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
