"""Data sets: the real MNIST, other sets in all forms that people have, and what is refused."""

import gzip
import hashlib
import os
import re
import shutil
import struct
import zipfile

import numpy as np
import pytest
from PIL import Image

from common.data.dataset import MNIST, checksum, load_data, load_images
from common.errors import UserError

TWO = np.array([0, 1])
IMAGES, LABELS = "train-images-idx3-ubyte", "train-labels-idx1-ubyte"


def idx(array: np.ndarray) -> bytes:
    """The IDX format as its authors describe it: magic, sizes as big-endian int32, bytes."""
    header = struct.pack(f">HBB{array.ndim}I", 0, 8, array.ndim, *array.shape)
    return header + array.astype(np.uint8).tobytes()


def write_idx(folder, images, labels, compress=False):
    folder.mkdir(exist_ok=True)
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


def assert_same(loaded, expected):
    """Images and labels, in the types that everything else relies on."""
    assert loaded[0].dtype == np.uint8
    assert loaded[1].dtype == np.int64
    for found, array in zip(loaded, expected, strict=True):
        np.testing.assert_array_equal(found, array)


# IDX files under all names


@pytest.mark.parametrize(
    ("images_name", "labels_name"),
    [
        ("train-images.idx3-ubyte", "train-labels.idx1-ubyte"),
        ("train-images-idx3-ubyte/train-images-idx3-ubyte", "train-labels-idx1-ubyte/x"),
        ("emnist-letters-train-images-idx3-ubyte.gz", "emnist-letters-train-labels-idx1-ubyte.gz"),
        ("images-idx3-ubyte", "labels-idx1-ubyte"),
        ("TRAIN-IMAGES", "TRAIN-LABELS"),
    ],
)
def test_idx_files_under_other_names(tmp_path, small_data, images_name, labels_name):
    # the test part, which must not be taken for training
    test = {"t10k-images.idx3-ubyte": small_data[0][:5] // 2, "t10k-labels.idx1-ubyte": TWO[:1]}
    for name, array in {images_name: small_data[0], labels_name: small_data[1], **test}.items():
        content = idx(array)
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(gzip.compress(content) if name.endswith("gz") else content)
    assert_same(load_data(tmp_path), small_data)
    # the file with the images stands for its folder
    if "/" not in images_name:
        assert_same(load_data(tmp_path / images_name), small_data)


@pytest.mark.parametrize(("code", "dtype"), [(9, "i1"), (11, ">i2"), (12, ">i4"), (14, ">f8")])
def test_labels_of_all_idx_types(tmp_path, small_data, code, dtype):
    (tmp_path / IMAGES).write_bytes(idx(small_data[0]))
    header = struct.pack(">HBBI", 0, code, 1, 40)
    (tmp_path / LABELS).write_bytes(header + small_data[1].astype(dtype).tobytes())
    assert_same(load_data(tmp_path), small_data)


def test_labels_of_qmnist(tmp_path, small_data):
    """Eight columns, the digit first."""
    (tmp_path / "qmnist-train-images-idx3-ubyte").write_bytes(idx(small_data[0]))
    labels = np.column_stack([small_data[1], *[np.arange(40)] * 7])
    header = struct.pack(">HBB2I", 0, 12, 2, 40, 8)
    content = gzip.compress(header + labels.astype(">i4").tobytes())
    (tmp_path / "qmnist-train-labels-idx2-int.gz").write_bytes(content)
    assert_same(load_data(tmp_path), small_data)


@pytest.mark.parametrize("kind", ["idx", "npz"])
def test_several_data_sets_in_a_folder(tmp_path, small_data, kind):
    """A file of one of them chooses it, for both parts; the other has other images and labels."""
    sets = {"k49-": small_data, "kmnist-": (small_data[0] // 2, small_data[1][::-1])}
    names = (IMAGES, LABELS) if kind == "idx" else ("train-imgs.npz", "train-labels.npz")
    for prefix, arrays in sets.items():
        for name, array in zip(names, arrays, strict=True):
            if kind == "idx":
                (tmp_path / f"{prefix}{name}").write_bytes(idx(array))
            else:
                np.savez(tmp_path / f"{prefix}{name}", array)
    with pytest.raises(UserError, match=r"more than one, k49-train-im.*give one of these files"):
        load_data(tmp_path)
    for prefix, arrays in sets.items():
        for name in names:
            assert_same(load_data(tmp_path / f"{prefix}{name}"), arrays)
    # the test part of another set is none of this one's
    (tmp_path / f"k49-{names[0]}").rename(tmp_path / f"k49-{names[0].replace('train', 'test')}")
    (tmp_path / f"k49-{names[1]}").rename(tmp_path / f"k49-{names[1].replace('train', 'test')}")
    with pytest.raises(UserError, match=r"has no (images of its )?test part"):
        load_data(tmp_path / f"kmnist-{names[0]}", "test")


def test_an_idx_file_that_is_there_twice(tmp_path, small_data):
    """Packed and unpacked; or as Kaggle's archive of MNIST has it."""
    write_idx(tmp_path / "a", *small_data)
    write_idx(tmp_path / "a", *small_data, compress=True)
    assert_same(load_data(tmp_path / "a"), small_data)
    assert_same(load_data(tmp_path / "a" / f"{IMAGES}.gz"), small_data)
    for name, array in zip((IMAGES, LABELS), small_data, strict=True):
        (tmp_path / "b" / name).mkdir(parents=True)
        (tmp_path / "b" / name / name).write_bytes(idx(array))
        (tmp_path / "b" / name.replace("-idx", ".idx")).write_bytes(idx(array))
    assert_same(load_data(tmp_path / "b"), small_data)


def test_a_file_that_is_named_is_not_passed_over_for_its_neighbours(tmp_path, small_data):
    write_idx(tmp_path, *small_data)
    (tmp_path / "other.tar.gz").write_bytes(gzip.compress(b"not IDX"))
    np.savez(tmp_path / "mine.npz", small_data[0])
    for name, complaint in {"other.tar.gz": "of no known format", "mine.npz": "no array x"}.items():
        with pytest.raises(UserError, match=complaint):
            load_data(tmp_path / name)
    (tmp_path / IMAGES).rename(tmp_path / "pictures.raw")
    assert_same(load_data(tmp_path / "pictures.raw"), small_data)


def test_hidden_files_are_no_data(tmp_path, small_data):
    """What macOS and notebooks leave beside data is neither a file of it nor a class."""
    write_idx(tmp_path / "idx", *small_data)
    (tmp_path / "npz").mkdir()
    for i, array in enumerate(small_data):
        np.savez(tmp_path / "npz" / f"kmnist-train-{('imgs', 'labels')[i]}.npz", array)
        for name in ("a", "b", ".ipynb_checkpoints"):
            (tmp_path / "png" / name).mkdir(parents=True, exist_ok=True)
            Image.fromarray(small_data[0][i]).save(tmp_path / "png" / name / f"{i}.png")
    for file in [path for path in tmp_path.rglob("*") if path.is_file()]:
        file.with_name(f"._{file.name}").write_bytes(b"\0\5\x16\7 of macOS")
    assert_same(load_data(tmp_path / "idx"), small_data)
    assert_same(load_data(tmp_path / "npz"), small_data)
    images = small_data[0][[0, 1, 0, 1]]
    assert_same(load_data(tmp_path / "png"), (images, [0, 0, 1, 1]))


def test_a_name_with_idx_and_another_suffix_makes_no_idx_file(tmp_path, small_data):
    write_idx(tmp_path, *small_data)
    for name in ("class_to_idx.json", "img_idx0.png", "idx1-ubyte.npz"):
        (tmp_path / name).write_text("something else")
    assert_same(load_data(tmp_path), small_data)
    (tmp_path / IMAGES).rename(tmp_path / f"{IMAGES}.bin")  # is one by its content
    assert_same(load_data(tmp_path), small_data)


# NumPy's files


@pytest.mark.parametrize("name", ["kmnist", "k49"])
def test_kmnists_own_numpy_files(tmp_path, small_data, name):
    images, labels = small_data
    for part, array in {"train": images, "test": images[:20] // 2}.items():
        np.savez_compressed(tmp_path / f"{name}-{part}-imgs.npz", array)
        of_part = labels[: len(array)].astype(np.uint8)
        np.savez_compressed(tmp_path / f"{name}-{part}-labels.npz", of_part)
    assert_same(load_data(tmp_path), small_data)
    assert_same(load_data(tmp_path / f"{name}-train-imgs.npz"), small_data)
    assert_same(load_data(tmp_path, "test"), (images[:20] // 2, labels[:20]))


@pytest.mark.parametrize(
    "names",
    [("train_images", "train_labels"), ("X_train", "Y_train"), ("images", "labels"), ("x", "y")],
)
def test_other_names_of_arrays(tmp_path, small_data, names):
    others = {"val_images": TWO, "test_labels": TWO}
    np.savez(tmp_path / "set.npz", **dict(zip(names, small_data, strict=True)), **others)
    assert_same(load_data(tmp_path / "set.npz"), small_data)


ONE_HOT = np.eye(10)[np.arange(40) % 10]


@pytest.mark.parametrize(
    ("change", "note"),
    [
        (lambda x, y: (x[..., None], y), ""),
        (lambda x, y: (x[:, None], y[:, None]), ""),
        (lambda x, y: (np.asfortranarray(x), y), ""),
        (lambda x, y: (x.astype(np.int64), y.astype(float)), ""),
        (lambda x, y: (x, ONE_HOT), ""),
        (lambda x, y: (x, ONE_HOT.astype(bool)), ""),
        (lambda x, y: (x / 255, y), "0: black, 1: white"),
        (lambda x, y: ((x / 255).astype(np.float32), y), "0: black, 1: white"),
        (lambda x, y: (x / 127.5 - 1, y), "-1: black, 1: white"),
        (lambda x, y: (x.astype(np.float32), y), "0: black, 255: white"),
        (lambda x, y: (x.reshape(40, 64), y), "rows of 64 values are taken for 8 x 8 pixels"),
        (lambda x, y: (x.reshape(40, 64) / 255, y), "8 x 8 pixels, pixels are taken for 0: black"),
        (lambda x, y: (x, y + 1), "10 classes, numbered from 0 in their order: 0 is 1, 1 is 2, "),
        (lambda x, y: (x, y * 7 - 3), "0 is -3, 1 is 4"),
        (lambda x, y: (x, np.where(y, y, -1)), "0 is -1, 1 is 1, 2 is 2"),
        (lambda x, y: (x, np.array(list("abcdefghij"))[y]), "0 is a, 1 is b"),
    ],
)
def test_one_sensible_reading(tmp_path, small_data, capsys, change, note):
    x, y = change(*small_data)
    np.savez(tmp_path / "set.npz", x_train=x, y_train=y)
    assert_same(load_data(tmp_path / "set.npz"), small_data)
    out, err = capsys.readouterr()
    assert err == ""
    assert note in out
    assert len(out.splitlines()) == bool(note)


def test_black_and_white(tmp_path, small_data):
    np.savez(tmp_path / "set.npz", x_train=small_data[0] > 99, y_train=small_data[1])
    images, _ = load_data(tmp_path / "set.npz")
    np.testing.assert_array_equal(images, np.where(small_data[0] > 99, 255, 0))


def test_the_test_part_has_the_numbers_of_the_training_part(tmp_path, small_data):
    """Also where it lacks a class."""
    images, labels = small_data
    test = {"x_test": images[:20], "y_test": np.repeat([3, 7], 10)}
    np.savez(tmp_path / "set.npz", x_train=images, y_train=labels + 1, **test)
    _, of_test = load_data(tmp_path / "set.npz", "test")
    np.testing.assert_array_equal(of_test, np.repeat([2, 6], 10))
    test["y_test"][0] = 0
    np.savez(tmp_path / "set.npz", x_train=images, y_train=labels + 1, **test)
    with pytest.raises(UserError, match="labels that no training image has, 0: give a data set"):
        load_data(tmp_path / "set.npz", "test")


@pytest.mark.parametrize(
    "labels",
    [
        None,
        {"y_train": np.zeros(40)},
        {"y_train": np.ones(40)},
        {"y_train": np.ones(7)},
        {"y_train": np.array(["a", 1] * 20, object)},
    ],
)
def test_a_gan_without_labels_needs_none(tmp_path, small_data, labels):
    np.savez(tmp_path / "set.npz", x_train=small_data[0], **(labels or {}))
    images, found = load_images(tmp_path / "set.npz")
    np.testing.assert_array_equal(images, small_data[0])
    assert found is None
    np.save(tmp_path / "set.npy", small_data[0])
    np.testing.assert_array_equal(load_images(tmp_path / "set.npy")[0], small_data[0])
    assert checksum(images, None) != checksum(*small_data)


def test_the_checksum_of_mnist_is_that_of_earlier_versions():
    """Runs of theirs can be resumed, and the classifier is named after it."""
    assert checksum(*load_data()) == checksum(*load_images(MNIST))
    assert (MNIST.parent / f"classifier-{checksum(*load_data())[:12]}.npz").exists()


# Pictures


@pytest.fixture
def pictures(tmp_path, small_data):
    """A folder of pictures for each of two classes, in several formats, each twice as large."""
    for i, image in enumerate(small_data[0]):
        suffix = (".png", ".bmp", ".TIFF")[i % 3]
        file = tmp_path / "pictures" / ("dogs" if i % 2 else "cats") / f"{i:02d}{suffix}"
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(file)
    (tmp_path / "pictures" / "cats" / "notes.txt").write_text("not a picture")
    return tmp_path / "pictures"


def test_folders_of_pictures(pictures, small_data, capsys):
    expected = np.concatenate([small_data[0][::2], small_data[0][1::2]])
    assert_same(load_data(pictures), (expected, np.repeat([0, 1], 20)))
    assert "2 classes, numbered from 0 in their order: 0 is cats, 1 is dogs" in (
        capsys.readouterr().out
    )


def test_parts_of_pictures(pictures, small_data):
    with pytest.raises(UserError, match=r"has no test images.*two folders, train and test"):
        load_data(pictures, "test")
    whole = pictures.parent / "whole"
    (whole / "test").mkdir(parents=True)
    (pictures / "dogs").rename(whole / "test" / "dogs")
    (pictures / "cats").rename(whole / "test" / "cats")
    (whole / "test").rename(whole / "train")
    (whole / "validation" / "dogs").mkdir(parents=True)
    Image.fromarray(small_data[0][0]).save(whole / "validation" / "dogs" / "1.png")
    assert len(load_data(whole)[0]) == 40
    assert_same(load_data(whole, "test"), (small_data[0][:1], [1]))


def test_a_class_may_be_called_train(pictures, small_data, capsys):
    """Beside other classes, of buses for example; not beside class folders or a test part."""
    (pictures / "Train").mkdir()
    Image.fromarray(small_data[0][0]).save(pictures / "Train" / "1.png")
    _, labels = load_data(pictures)
    np.testing.assert_array_equal(np.bincount(labels), [1, 20, 20])
    assert f"{pictures}: Train is taken for a class, like " in capsys.readouterr().out
    for name in ("val", "test"):
        shutil.copytree(pictures / "Train", pictures / name)
        images, labels = load_images(pictures)
        assert (len(images), labels) == (1, None)
    for name in ("val", "test"):
        shutil.rmtree(pictures / name)
    for name in ("cats", "dogs"):
        (pictures / name).rename(pictures / "Train" / name)
    assert len(load_data(pictures)[0]) == 40


def test_pictures_without_labels(tmp_path, small_data):
    for i in range(5):
        Image.fromarray(small_data[0][i]).save(tmp_path / f"{i}.png")
    images, labels = load_images(tmp_path)
    np.testing.assert_array_equal(images, small_data[0][:5])
    assert labels is None
    with pytest.raises(UserError, match="has no labels"):
        load_data(tmp_path)


def test_pictures_of_other_sizes_and_colours(tmp_path, capsys):
    """Resized only if asked to; a checkerboard in colour, 12 x 8, has a square in the middle."""
    for i, colour in enumerate([(255, 0, 0), (0, 0, 0)]):
        picture = Image.new("RGB", (12 + 12 * i, 8 + 8 * i), colour)
        picture.paste((0, 255, 0), (2 + 2 * i, 0, 10 + 10 * i, 8 + 8 * i))
        (tmp_path / "ab"[i]).mkdir()
        picture.save(tmp_path / "ab"[i] / "1.png")
    with pytest.raises(
        UserError, match=r"2 sizes \(1 of 12 x 8, 1 of 24 x 16\): add --image-size N"
    ):
        load_data(tmp_path)
    images, _ = load_data(tmp_path, image_size=8)
    assert images.shape == (2, 8, 8)
    np.testing.assert_array_equal(images, 150)  # green, as ITU-R 601-2 weighs it: 0.587
    assert "2 of 2 pictures are in colour: they are read in grey" in capsys.readouterr().out


def test_pictures_of_16_bits(tmp_path):
    for i in range(2):
        (tmp_path / "ab"[i]).mkdir()
        Image.fromarray(np.full((4, 4), 255 * 256 * i + 255, np.uint16)).save(
            tmp_path / "ab"[i] / "1.png"
        )
    np.testing.assert_array_equal(load_data(tmp_path)[0].max(axis=(1, 2)), [0, 255])


def test_transparent_pictures_lie_over_white(tmp_path, capsys):
    """Black, more or less opaque: the colour under what is transparent is black as well."""
    alpha = np.zeros((8, 8), np.uint8)
    alpha[2:6, 2:6] = 255
    alpha[0, 0] = 51
    black = np.zeros_like(alpha)
    Image.fromarray(np.dstack([black, black, black, alpha])).save(tmp_path / "1.png")
    Image.fromarray(np.dstack([black, alpha])).save(tmp_path / "2.png")
    # one of the greys, or of a palette's colours, is transparent
    Image.fromarray(alpha).save(tmp_path / "3.png", transparency=0)
    Image.fromarray(alpha).convert("P").save(tmp_path / "4.gif", transparency=0)
    Image.fromarray(np.dstack([black, black, black, ~black])).save(tmp_path / "5.png")
    images, _ = load_images(tmp_path)
    np.testing.assert_array_equal(images[:2], [255 - alpha] * 2)
    np.testing.assert_array_equal(images[2:4], [np.where(alpha == 0, 255, alpha)] * 2)
    np.testing.assert_array_equal(images[4], 0)
    assert "4 of 5 pictures have transparent pixels: white shows" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("sizes", "complaint"),
    [([(8, 8), (12, 8)], "2 sizes"), ([(12, 8), (12, 8)], "have 8 x 12 pixels")],
)
def test_sizes_are_compared_before_pictures_are_decoded(tmp_path, sizes, complaint):
    """Of these files the header is whole and nothing else."""
    for i, size in enumerate(sizes):
        file = tmp_path / f"{i}.png"
        Image.new("L", size).save(file)
        file.write_bytes(file.read_bytes()[:45])
    with pytest.raises(UserError, match=complaint):
        load_images(tmp_path)


def test_a_damaged_picture_is_named(pictures):
    file = pictures / "cats" / "00.png"
    file.write_bytes(file.read_bytes()[:50])
    with pytest.raises(UserError, match=r"picture .*00.png cannot be read \(.*\): remove it"):
        load_data(pictures)


def test_arrays_are_resized_if_asked_to(tmp_path, small_data):
    np.savez(tmp_path / "set.npz", x_train=small_data[0].repeat(2, 1).repeat(2, 2), y_train=TENS)
    images, _ = load_data(tmp_path / "set.npz", image_size=8)
    assert np.abs(images.astype(int) - small_data[0]).mean() < 30  # of random pixels


TENS = np.arange(40) % 10


@pytest.mark.parametrize(
    ("arrays", "warning"),
    [
        ({"x_train": np.eye(8, dtype=np.uint8)[None].repeat(40, 0)}, "no pixel of .* is above 1"),
        ({"x_train": np.full((40, 8, 8), 9, np.uint8)}, "all 40 images of .* are the same"),
        ({"y_train": np.arange(40)}, "the 40 images of .* are of 40 classes: see whether"),
    ],
)
def test_data_that_cannot_be_meant(tmp_path, small_data, capsys, arrays, warning):
    np.savez(tmp_path / "set.npz", **({"x_train": small_data[0], "y_train": TENS} | arrays))
    load_data(tmp_path / "set.npz")
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("warning: ")
    assert re.search(warning, line)


def test_largest_images_and_most_classes(tmp_path):
    images = np.zeros((1000, 4, 4), np.uint8)
    np.savez(tmp_path / "a.npz", x_train=images, y_train=np.arange(1000))
    assert load_data(tmp_path / "a.npz")[1].max() == 999
    np.savez(tmp_path / "b.npz", x_train=np.zeros((2, 256, 256), np.uint8), y_train=[0, 1])
    assert load_data(tmp_path / "b.npz")[0].shape == (2, 256, 256)


def zeros(*shape, dtype=np.uint8):
    return np.zeros(shape, dtype)


@pytest.mark.parametrize(
    ("arrays", "complaint"),
    [
        ({"x_train": zeros(2, 8, 8)}, "has no labels (y_train), which"),
        ({"pictures": TWO}, "has no array x_train, only pictures"),
        ({}, "only none at all"),
        ({"x_train": zeros(2, 8, 8, 3), "y_train": TWO}, "in colour, and the chapter's networks"),
        ({"x_train": zeros(2, 3, 8, 8), "y_train": TWO}, "images.mean(axis=1).astype"),
        ({"x_train": zeros(2, 8, 8, 2), "y_train": TWO}, "uint8 of shape (2, 8, 8, 2), expected"),
        ({"x_train": zeros(2, 60), "y_train": TWO}, "uint8 of shape (2, 60), expected"),
        ({"x_train": zeros(2, 0), "y_train": TWO}, "uint8 of shape (2, 0, 0), expected"),
        ({"x_train": zeros(0, 8, 8), "y_train": TWO[:0]}, "shape (0, 8, 8), expected"),
        ({"x_train": zeros(2, 8, 8) + 1e3, "y_train": TWO}, "are float64 from 1000 to 1000, "),
        ({"x_train": zeros(2, 8, 8) + np.nan, "y_train": TWO}, "are float64 from nan to nan, "),
        ({"x_train": zeros(2, 8, 8, dtype=int) - 300, "y_train": TWO}, "scale them"),
        ({"x_train": zeros(2, 8, 12), "y_train": TWO}, "have 8 x 12 pixels, expected square"),
        ({"x_train": zeros(2, 30, 30), "y_train": TWO}, "have 30 x 30 pixels, expected square"),
        ({"x_train": zeros(2, 0, 0), "y_train": TWO}, "uint8 of shape (2, 0, 0), expected"),
        ({"x_train": zeros(2, 260, 260), "y_train": TWO}, "a multiple of 4, from 4 to 256"),
        (
            {"x_train": zeros(2, 8, 8), "y_train": zeros(3)},
            "one for each of the 2 images",
        ),
        (
            {"x_train": zeros(2, 8, 8), "y_train": zeros(2, 10)},
            "one for each of the 2 images",
        ),
        ({"x_train": zeros(2, 8, 8), "y_train": TWO / 2}, "are float64 of shape (2,), expected"),
        ({"x_train": zeros(2, 8, 8), "y_train": zeros(2)}, "are of 1 classes, expected 2 to 1000"),
        (
            {"x_train": zeros(2000, 4, 4), "y_train": np.arange(2000)},
            "are of 2,000 classes, expected 2",
        ),
        (
            {"x_train": np.array([{}, {}]), "y_train": TWO},
            "is an array of type object, expected real numbers, or text for labels: convert it",
        ),
        ({"x_train": zeros(2, 8, 8, dtype=complex), "y_train": TWO}, "array of type complex128"),
        ({"x_train": zeros(2, 8, 8), "y_train": TWO.astype(object)}, "y_train of data set"),
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
    with pytest.raises(UserError, match=r"is of no known format: give an .npz file"):
        load_data(path)
    path.write_bytes(MNIST.read_bytes()[:100_000])
    with pytest.raises(UserError, match=r"is cut short or damaged \(File is not a zip file\)"):
        load_data(path)
    np.savez_compressed(path, x_train=np.arange(99999), y_train=TWO)
    damaged = bytearray(path.read_bytes())
    damaged[5000:5100] = bytes(100)
    path.write_bytes(damaged)
    with pytest.raises(UserError, match="is cut short or damaged"):
        load_data(path)


@pytest.mark.parametrize(
    ("name", "content", "complaint"),
    [
        (IMAGES, None, f"has no images of its train part, only {LABELS}: add {IMAGES}"),
        (LABELS, None, "has no labels (y_train)"),
        (IMAGES, idx(zeros(40)), f"holds more than one, {IMAGES}, {LABELS}: give one of"),
        (LABELS, b"text", "starts with 0x74657874, an IDX file with 0x0000"),
        (LABELS, b"", "starts with 0x, an IDX file"),
        (IMAGES, idx(zeros(40, 8, 8))[:-1], "its header promises 2,560 bytes, it has 2,559"),
        (IMAGES, idx(zeros(40, 8, 8)) + b"0", "it has more than the 2,560 bytes"),
        (IMAGES, idx(zeros(40, 8, 8))[:9], "(its header is incomplete): fetch it again"),
        (IMAGES, idx(zeros(40, 8, 8))[:4] + b"\xff" * 12, "its header promises 79,"),
        (f"{IMAGES}.gz", b"not compressed", f"{IMAGES}.gz starts with 0x6e6f7420"),
        (
            f"{IMAGES}.gz",
            gzip.compress(idx(zeros(40, 8, 8)), mtime=0)[:-9],
            "is cut short or damaged (Compressed file ended",
        ),
        (LABELS, idx(zeros(39)), "one for each of the 40 images"),
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


def test_only_ordinary_files_are_read(tmp_path, small_data):
    """A pipe or a device may never end."""
    os.mkfifo(tmp_path / "set.npz")
    with pytest.raises(UserError, match=r"set.npz cannot be read: not an ordinary file"):
        load_data(tmp_path / "set.npz")
    write_idx(tmp_path, *small_data)
    (tmp_path / IMAGES).unlink()
    (tmp_path / IMAGES).symlink_to("/dev/zero")
    with pytest.raises(UserError, match="has no images of its train part"):
        load_data(tmp_path)


def test_a_header_is_checked_before_what_it_promises_is_read(tmp_path):
    """A file of some bytes that promises 80 GB of zeros."""
    header = np.lib.format.header_data_from_array_1_0(np.zeros((1, 4, 4), np.uint8))
    header["shape"] = (5 * 10**9, 4, 4)
    with zipfile.ZipFile(tmp_path / "set.npz", "w") as archive:
        with archive.open("x_train.npy", "w") as file:
            np.lib.format.write_array_header_1_0(file, header)
            file.write(bytes(1000))
        archive.writestr("y_train.npy", b"")
    with pytest.raises(UserError, match="its header promises 80,000,000,000 bytes"):
        load_data(tmp_path / "set.npz")
