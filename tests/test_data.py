"""Data sets: the real MNIST, other sets in both layouts, and what is refused."""

import gzip
import hashlib
import struct

import numpy as np
import pytest

from common.errors import UserError
from common.gan.data import MNIST, load_data

IMAGES, LABELS = "train-images-idx3-ubyte", "train-labels-idx1-ubyte"


def idx(array: np.ndarray) -> bytes:
    """The IDX format as its authors describe it: magic, sizes as big-endian int32, bytes."""
    header = struct.pack(f">HBB{array.ndim}I", 0, 8, array.ndim, *array.shape)
    return header + array.astype(np.uint8).tobytes()


def write_idx(folder, images, labels, compress=False):
    for name, array in [(IMAGES, images), (LABELS, labels)]:
        if compress:
            (folder / f"{name}.gz").write_bytes(gzip.compress(idx(array)))
        else:
            (folder / name).write_bytes(idx(array))


def test_mnist_is_the_original():
    images, labels = load_data()
    assert images.shape == (60000, 28, 28)
    # the MD5 sums of the files that were published
    assert hashlib.md5(idx(images)).hexdigest() == "6bbc9ace898e44ae57da46a324031adb"
    assert hashlib.md5(idx(labels)).hexdigest() == "a25bea736e30d166cdddb491f175f624"


def test_npz(tmp_path, small_data):
    images, labels = small_data
    # the layout holds test data too, which training does not need; labels come in many integers
    np.savez(tmp_path / "set.npz", x_train=images, y_train=labels.astype(np.int32), other=1)
    loaded_images, loaded_labels = load_data(tmp_path / "set.npz")
    np.testing.assert_array_equal(loaded_images, images)
    np.testing.assert_array_equal(loaded_labels, labels)
    assert loaded_images.dtype == np.uint8


@pytest.mark.parametrize("compress", [False, True])
def test_idx_files(tmp_path, small_data, compress):
    write_idx(tmp_path, *small_data, compress=compress)
    loaded_images, loaded_labels = load_data(tmp_path)
    np.testing.assert_array_equal(loaded_images, small_data[0])
    np.testing.assert_array_equal(loaded_labels, small_data[1])


def test_largest_images_and_most_classes(tmp_path):
    images = np.zeros((1000, 4, 4), np.uint8)
    np.savez(tmp_path / "a.npz", x_train=images, y_train=np.arange(1000))
    assert load_data(tmp_path / "a.npz")[1].max() == 999
    np.savez(tmp_path / "b.npz", x_train=np.zeros((2, 256, 256), np.uint8), y_train=[0, 1])
    assert load_data(tmp_path / "b.npz")[0].shape == (2, 256, 256)


def zeros(*shape, dtype=np.uint8):
    return np.zeros(shape, dtype)


TWO = np.array([0, 1])


@pytest.mark.parametrize(
    ("arrays", "complaint"),
    [
        ({"x_train": zeros(2, 8, 8)}, "has no array y_train, only x_train"),
        ({"images": TWO}, "has no array x_train, only images"),
        ({}, "only none at all"),
        ({"x_train": zeros(2, 8, 8, 1), "y_train": TWO}, "uint8 of shape (2, 8, 8, 1), expected"),
        ({"x_train": zeros(2, 64), "y_train": TWO}, "uint8 of shape (2, 64), expected"),
        ({"x_train": zeros(0, 8, 8), "y_train": TWO[:0]}, "shape (0, 8, 8), expected"),
        ({"x_train": zeros(2, 8, 8, dtype=float), "y_train": TWO}, "are float64 of shape"),
        ({"x_train": zeros(2, 8, 12), "y_train": TWO}, "have 8 x 12 pixels, expected square"),
        ({"x_train": zeros(2, 30, 30), "y_train": TWO}, "have 30 x 30 pixels, expected square"),
        ({"x_train": zeros(2, 0, 0), "y_train": TWO}, "have 0 x 0 pixels, expected square"),
        ({"x_train": zeros(2, 260, 260), "y_train": TWO}, "a multiple of 4, from 4 to 256"),
        ({"x_train": zeros(2, 8, 8), "y_train": zeros(3)}, "expected integers of shape (2,)"),
        ({"x_train": zeros(2, 8, 8), "y_train": zeros(2, 10)}, "expected integers of shape (2,)"),
        ({"x_train": zeros(2, 8, 8), "y_train": TWO / 2}, "are float64 of shape (2,), expected"),
        ({"x_train": zeros(2, 8, 8), "y_train": zeros(2)}, "go from 0 to 0, expected 2 to 1000"),
        ({"x_train": zeros(2, 8, 8), "y_train": TWO - 1}, "go from -1 to 0, expected 2 to 1000"),
        ({"x_train": zeros(2, 8, 8), "y_train": TWO * 1000}, "go from 0 to 1000, expected 2"),
        ({"x_train": np.array([{}, {}]), "y_train": TWO}, "cannot be read (Object arrays"),
    ],
)
def test_npz_refused(tmp_path, arrays, complaint):
    np.savez(tmp_path / "set.npz", **arrays)
    with pytest.raises(UserError) as caught:
        load_data(tmp_path / "set.npz")
    assert complaint in str(caught.value)
    assert str(tmp_path / "set.npz") in str(caught.value)
    assert "\n" not in str(caught.value)


def test_files_that_are_no_npz_refused(tmp_path):
    path = tmp_path / "set.npz"
    with pytest.raises(UserError, match="does not exist"):
        load_data(path)
    path.write_text("x_train")
    with pytest.raises(UserError, match=r"is not an .npz file, or cut short"):
        load_data(path)
    path.write_bytes(MNIST.read_bytes()[:100_000])
    with pytest.raises(UserError, match=r"is not an .npz file, or cut short"):
        load_data(path)
    np.savez_compressed(path, x_train=np.arange(99999), y_train=TWO)
    damaged = bytearray(path.read_bytes())
    damaged[5000:5100] = bytes(100)
    path.write_bytes(damaged)
    with pytest.raises(UserError, match="cannot be read"):
        load_data(path)


@pytest.mark.parametrize(
    ("name", "content", "complaint"),
    [
        (IMAGES, None, f"has neither {IMAGES} nor {IMAGES}.gz"),
        (LABELS, None, f"has neither {LABELS} nor {LABELS}.gz"),
        (
            IMAGES,
            idx(zeros(40)),
            "magic number 0x00000801, an IDX file of this name with 0x00000803",
        ),
        (LABELS, idx(zeros(40, 8, 8)), "starts with the magic number 0x00000803, "),
        (LABELS, b"", "magic number 0x, "),
        (IMAGES, idx(zeros(40, 8, 8))[:-1], "has 2575 bytes, its header promises 2576"),
        (IMAGES, idx(zeros(40, 8, 8)) + b"0", "has 2577 bytes, its header promises 2576"),
        (IMAGES, idx(zeros(40, 8, 8))[:9], "has 9 bytes, its header promises"),
        (f"{IMAGES}.gz", b"not compressed", "cannot be read: Not a gzipped file"),
        (
            f"{IMAGES}.gz",
            gzip.compress(idx(zeros(40, 8, 8)), mtime=0)[:-9],
            "cannot be read: Compressed",
        ),
        (LABELS, idx(zeros(39)), "expected integers of shape (40,)"),
    ],
)
def test_idx_refused(tmp_path, small_data, name, content, complaint):
    write_idx(tmp_path, *small_data)
    (tmp_path / name.removesuffix(".gz")).unlink()
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError) as caught:
        load_data(tmp_path)
    assert complaint in str(caught.value)
    assert "\n" not in str(caught.value)
