"""Data sets: the real MNIST, other sets in all forms that people have, and what is refused."""

import gzip
import hashlib
import re
import shutil
import struct

import numpy as np
import pytest
from PIL import Image

from common.data import MNIST
from common.data.dataset import load_data, load_dataset
from common.errors import UserError

TWO, TENS = np.array([0, 1]), np.arange(40) % 10
MOVE = "the last axis seems to count them: move it, with np.moveaxis(x, -1, 0)"
IMAGES, LABELS = "train-images-idx3-ubyte", "train-labels-idx1-ubyte"


def idx(array: np.ndarray) -> bytes:
    """The IDX format as its authors describe it: magic, sizes as big-endian int32, bytes."""
    header = struct.pack(f">HBB{array.ndim}I", 0, 8, array.ndim, *array.shape)
    return header + array.astype(np.uint8).tobytes()


def write(file, content):
    """Writes a file, gzipped if its name says so, in a folder that may not exist yet."""
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(gzip.compress(content) if file.suffix == ".gz" else content)


def write_idx(folder, arrays, names=(IMAGES, LABELS)):
    for name, array in zip(names, arrays, strict=True):
        write(folder / name, idx(array))


def npz(folder, **arrays):
    np.savez(folder / "set.npz", **arrays)
    return folder / "set.npz"


def save(file, pixels, **parameters):
    file.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(file, **parameters)


def assert_same(loaded, expected):
    """Images and labels, in the types that everything else relies on."""
    assert loaded[0].dtype == np.uint8
    assert loaded[1].dtype == np.int64
    for found, array in zip(loaded, expected, strict=True):
        np.testing.assert_array_equal(found, array)


def load_images(path, image_size=None):
    """For a GAN without labels."""
    data = load_dataset(path, image_size=image_size, needs_labels=False)
    return data.images, data.labels


def zeros(*shape, dtype=np.uint8):
    return np.zeros(shape, dtype)


def refusal(path, part="train"):
    """What is said, in one line, of data that cannot be loaded."""
    with pytest.raises(UserError) as caught:
        load_data(path, part)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_mnist_is_the_original():
    images, labels = load_data()
    # the MD5 sums of the files that were published
    assert hashlib.md5(idx(images)).hexdigest() == "6bbc9ace898e44ae57da46a324031adb"
    assert hashlib.md5(idx(labels)).hexdigest() == "a25bea736e30d166cdddb491f175f624"
    # the included classifier is named after it, whichever program has loaded it
    sha256 = load_dataset(needs_labels=False).sha256
    assert load_dataset().sha256 == sha256
    assert (MNIST.parent / f"classifier-{sha256[:12]}.npz").exists()


# IDX files


@pytest.mark.parametrize(
    "name",
    [
        IMAGES,
        f"{IMAGES}.gz",
        "train-images.idx3-ubyte",
        f"{IMAGES}/{IMAGES}",
        "emnist-letters-train-images-idx3-ubyte.gz",
        "mnist8m-train-patterns-idx3-ubyte",
        "TRAIN-IMAGES",
        f"latest/{IMAGES}",
    ],
)
def test_idx_files_under_all_names(tmp_path, small_data, name):
    test = small_data[0][:5] // 2, TENS[:5]
    labels = re.sub("images|patterns", "labels", name.replace("IMAGES", "LABELS"))
    write_idx(tmp_path, small_data, (name, labels))
    # the test part, which must not be taken for training
    names = [re.sub("(?i)train-", "t10k-", file) for file in (name, labels)]
    write_idx(tmp_path, test, names)
    assert_same(load_data(tmp_path), small_data)
    assert_same(load_data(tmp_path, "test"), test)
    # a file stands for its folder, whatever else is there
    if "/" not in name:
        write(tmp_path / "damaged", b"\x1f\x8bdamaged")
        assert_same(load_data(tmp_path / name), small_data)


@pytest.mark.parametrize(
    ("code", "dtype", "columns"),
    [(9, "i1", 1), (11, ">i2", 1), (12, ">i4", 1), (13, ">f4", 1), (14, ">f8", 1), (12, ">i4", 8)],
)
def test_labels_of_all_idx_types(tmp_path, small_data, code, dtype, columns):
    """QMNIST's have eight columns, the digit first."""
    labels = np.column_stack([small_data[1], *[np.arange(40)] * 7])[:, :columns].squeeze()
    header = struct.pack(f">HBB{labels.ndim}I", 0, code, labels.ndim, *labels.shape)
    write(tmp_path / IMAGES, idx(small_data[0]))
    write(tmp_path / LABELS, header + labels.astype(dtype).tobytes())
    assert_same(load_data(tmp_path), small_data)


@pytest.mark.parametrize("kind", ["idx", "npz"])
def test_several_data_sets_in_a_folder(tmp_path, small_data, kind):
    """IDX files, or KMNIST's .npz files. A file of one of them chooses it, for both parts."""
    sets = {"k49": small_data, "kmnist": (small_data[0] // 2, small_data[1][::-1])}
    for name, arrays in sets.items():
        for part, end in (("train", 40), ("test", 20)):
            for what, array in zip(("imgs", "labels"), arrays, strict=True):
                file = tmp_path / f"{name}-{part}-{what}"
                write(file, idx(array[:end])) if kind == "idx" else np.savez(file, array[:end])
    assert "more than one: give one of its files, k49-test-im" in refusal(tmp_path)
    for file in sorted(tmp_path.iterdir()):
        images, labels = sets[file.name.split("-")[0]]
        assert_same(load_data(file), (images, labels))
        assert_same(load_data(file, "test"), (images[:20], labels[:20]))
    for file in tmp_path.glob("k49-*"):
        file.unlink()
    assert_same(load_data(tmp_path), sets["kmnist"])
    # the test part of another set is not this one's
    for file in tmp_path.glob("kmnist-test*"):
        file.rename(tmp_path / file.name.replace("kmnist", "k49"))
    file = next(tmp_path.glob("kmnist-train-im*"))
    assert "no array x_test, only x_train, y_train: an eval" in refusal(file, "test")


def test_an_idx_file_in_several_forms(tmp_path, small_data):
    """Packed and unpacked; as Kaggle's archive of MNIST has it; unpacked by a server on the way."""
    write_idx(tmp_path / "a", small_data)
    np.savez(tmp_path / "a" / "kmnist-train-imgs", small_data[0])  # KMNIST is offered as both
    write_idx(tmp_path / "a", small_data, (f"{IMAGES}.gz", f"{LABELS}.gz"))
    write_idx(tmp_path / "b", small_data, (f"{IMAGES}/{IMAGES}", f"{LABELS}/{LABELS}"))
    write_idx(tmp_path / "b", small_data, (IMAGES.replace("-i", ".i"), LABELS.replace("-i", ".i")))
    write_idx(tmp_path / "c", small_data)
    for name in (IMAGES, LABELS):
        (tmp_path / "c" / name).rename(tmp_path / "c" / f"{name}.gz")
    for path in ("a", f"a/{IMAGES}.gz", "b", "c"):
        assert_same(load_data(tmp_path / path), small_data)


def test_other_files_are_no_data(tmp_path, small_data):
    """Neither those of a similar name, nor what macOS and notebooks leave beside data."""
    write_idx(tmp_path / "idx", small_data, ("images-idx3-ubyte", "labels-idx1-ubyte"))
    for name in ("class_to_idx.json", "img_idx0.png", "idx1-ubyte.npz"):
        write(tmp_path / "idx" / name, b"something else")
    (tmp_path / "npz").mkdir()
    for i, array in enumerate(small_data):
        np.savez(tmp_path / "npz" / f"kmnist-train-{('imgs', 'labels')[i]}.npz", array)
        for name in ("a", "b", ".ipynb_checkpoints"):
            save(tmp_path / "png" / name / f"{i}.png", small_data[0][i])
    for file in [path for path in tmp_path.rglob("*") if path.is_file()]:
        file.with_name(f"._{file.name}").write_bytes(b"\0\5\x16\7 of macOS")
    assert_same(load_data(tmp_path / "idx"), small_data)
    # a file that is given is not passed over for those beside it
    assert "of no known format" in refusal(tmp_path / "idx" / "class_to_idx.json")
    assert_same(load_data(tmp_path / "npz"), small_data)
    assert_same(load_data(tmp_path / "png"), (small_data[0][[0, 1, 0, 1]], [0, 0, 1, 1]))


# NumPy's files


@pytest.mark.parametrize(
    "names",
    ["x_train y_train", "train_images train_labels", "X_train Y_train", "images labels", "x y"],
)
def test_names_of_arrays(tmp_path, small_data, names):
    arrays = dict(zip(names.split(), small_data, strict=True))
    path = npz(tmp_path, **arrays, val_images=TWO, test_labels=TWO, other=1)
    assert_same(load_data(path), small_data)


@pytest.mark.parametrize(
    ("change", "note"),
    [
        (lambda x, y: (x[..., None], y), ""),
        (lambda x, y: (x[:, None], y[:, None]), ""),
        (lambda x, y: (np.asfortranarray(x), y), ""),
        (lambda x, y: (x.astype(np.int64), y.astype(float)), ""),
        (lambda x, y: (x, np.eye(10)[y]), ""),
        (lambda x, y: (x > 99, y), "0: black, 1: white"),
        (lambda x, y: (x / 255, y), "0: black, 1: white"),
        (lambda x, y: (x / 127.5 - 1, y), "-1: black, 1: white"),
        (lambda x, y: (x.astype(np.float32), y), "0: black, 255: white"),
        (lambda x, y: (x.astype(np.uint16) * 257, y), "0: black, 65535: white"),
        (lambda x, y: (x.reshape(40, 64) / 255, y), "for 8 x 8 pixels, pixels are taken for 0"),
        (lambda x, y: (x, y * 7 - 3), "classes, numbered from 0 in their order: 0 is -3, 1 is 4"),
        (lambda x, y: (x, np.array(list("abcdefghij"))[y]), "0 is a, 1 is b"),
        (lambda x, y: (x, np.array(list("abcdefghij")).astype("S")[y][None]), "0 is a, 1 is b"),
    ],
)
def test_one_sensible_reading(tmp_path, small_data, capsys, change, note):
    x, y = change(*small_data)
    expected = x * 255 if x.dtype == bool else small_data[0]
    assert_same(load_data(npz(tmp_path, x_train=x, y_train=y)), (expected, small_data[1]))
    out, err = capsys.readouterr()
    assert err == ""
    assert note in out
    assert len(out.splitlines()) == bool(note)


def test_the_test_part_has_the_numbers_of_the_training_part(tmp_path, small_data):
    """Also where it lacks a class."""
    images, labels = small_data
    arrays = {"x_train": images, "y_train": labels + 1, "x_test": images[:2]}
    path = npz(tmp_path, **arrays, y_test=[3, 7])
    assert_same(load_data(path, "test"), (images[:2], [2, 6]))
    path = npz(tmp_path, **arrays, y_test=[0, 7])
    assert "that no training image has, 0: give" in refusal(path, "test")


@pytest.mark.parametrize("labels", [None, np.zeros(40), np.ones(7), TENS.astype(object)])
def test_a_gan_without_labels_needs_none(tmp_path, small_data, labels):
    arrays = {} if labels is None else {"y_train": labels}
    images, found = load_images(npz(tmp_path, x_train=small_data[0], **arrays))
    np.testing.assert_array_equal(images, small_data[0])
    assert found is None
    np.save(tmp_path / "set.npy", small_data[0])
    np.testing.assert_array_equal(load_images(tmp_path / "set.npy")[0], small_data[0])
    labelled = npz(tmp_path, x_train=small_data[0], y_train=small_data[1])
    unlabelled = load_dataset(tmp_path / "set.npy", needs_labels=False)
    assert unlabelled.sha256 != load_dataset(labelled).sha256
    assert str(unlabelled) == "set.npy: 40 images of 8 x 8 pixels"


# CSV files


@pytest.mark.parametrize("name", ["train.csv", "mnist_train.csv.gz"])
@pytest.mark.parametrize("header", ["", "pixel{}", '"{}x1"', "{}"])
@pytest.mark.parametrize("first", [0, 1])
def test_csv_files(tmp_path, small_data, header, name, first):
    """Kaggle's train.csv, and its test.csv, without labels; other people's; pandas's numbers."""
    images, labels = small_data
    table = np.column_stack([labels, images.reshape(40, 64)])[:, first:]
    rows = [[header.format(i) for i in range(65 - first)], *table] if header else table
    content = "\ufeff" + "\r\n".join(",".join(map(str, row)) for row in rows)
    write(tmp_path / name, content.encode())
    if first == 0:
        assert_same(load_data(tmp_path / name), small_data)
        write(tmp_path / name.replace("train", "test"), content.encode())
        assert_same(load_data(tmp_path / name, "test"), small_data)
    loaded = load_dataset(tmp_path / name, needs_labels=False)
    np.testing.assert_array_equal(loaded.images, images)
    assert (loaded.labels is None) == bool(first)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # as where no tests run
def test_csv_files_of_fractions_and_of_something_else(tmp_path, small_data):
    images, labels = small_data
    table = np.column_stack([labels, images.reshape(40, 64) / 255])
    np.savetxt(tmp_path / "train.csv", table, delimiter=",")
    assert_same(load_data(tmp_path / "train.csv"), small_data)
    write(tmp_path / "train.csv", b"name,label\na.png,3\n")
    assert "expected rows of a label and an image's pixels" in refusal(tmp_path / "train.csv")


# Pictures


@pytest.fixture
def pictures(tmp_path, small_data):
    """A folder of pictures for each of two classes, in several formats."""
    for i, image in enumerate(small_data[0]):
        suffix = (".png", ".bmp", ".TIFF")[i % 3]
        save(tmp_path / "pictures" / ("dogs" if i % 2 else "cats") / f"{i:02d}{suffix}", image)
    write(tmp_path / "pictures" / "cats" / "notes.txt", b"not a picture")
    return tmp_path / "pictures"


def test_all_damaged_pictures_are_named_at_once(pictures):
    for i in range(1, 24, 2):
        (pictures / "dogs" / f"{i:02d}.png").write_bytes(b"<html>")
    (pictures / "cats" / "00.png").write_bytes(b"")
    message = refusal(pictures)
    assert f"13 of 48 pictures of {pictures} cannot be read: cats/00.png, dogs/01.png, " in message
    assert "dogs/17.png, ... (cannot identify image file" in message


@pytest.mark.parametrize("suffix", ["ppm", "tga", "jp2", "dds", "pcx", "sgi", "ico"])
def test_formats_of_pictures(tmp_path, small_data, suffix):
    images = small_data[0].repeat(2, 1).repeat(2, 2)  # the least that an icon can be
    save(tmp_path / f"1.{suffix}", images[0])
    np.testing.assert_array_equal(load_images(tmp_path)[0], images[:1])


def test_pictures_at_any_depth(pictures, small_data, capsys):
    """The first folder is the class; nothing is left out without a word."""
    for i, name in enumerate(("cats/old/1.png", "fish/a/b/2.png", "fish/.hidden/3.png")):
        save(pictures / name, small_data[0][i])
    for name in ("dogs/a.mpg", "dogs/.b", "b.mpg", "LICENSE"):
        write(pictures / name, b"")
    order = [*range(0, 40, 2), 0, *range(1, 40, 2), 1]
    assert_same(load_data(pictures), (small_data[0][order], np.repeat([0, 1, 2], [21, 20, 1])))
    out = capsys.readouterr().out
    assert f"{pictures}: files passed over: 4 (2 .mpg, 1 without suffix, 1 .txt)\n" in out
    assert "0 is cats, 1 is dogs, 2 is fish" in out
    assert "test images, as x_test and y_test" in refusal(pictures, "test")
    # as an archive may be unpacked, and with parts
    whole = pictures.parent
    assert load_dataset(whole).names == ["cats", "dogs", "fish"]
    pictures.rename(whole / "train")
    for part in ("test", "val"):
        save(whole / part / "fish" / "c" / "1.png", small_data[0][3])
    assert_same(load_data(whole, "test"), (small_data[0][3:4], [2]))
    capsys.readouterr()
    assert load_dataset(whole).names == ["cats", "dogs", "fish"]
    assert "over: 5 (2 .mpg, 1 without suffix, 1 .txt, 1 in val)" in capsys.readouterr().out


def test_loose_pictures_beside_folders_are_refused(pictures, small_data):
    for i in range(3):
        save(pictures / f"{i}.png", small_data[0][i])
    message = f"{pictures} holds 3 pictures beside folders that hold 40: put all into"
    assert message in refusal(pictures)
    save(pictures.parent / "test" / "cats" / "1.png", small_data[0][0])
    pictures.rename(pictures.parent / "train")
    assert "train holds 3 pictures beside folders that hold 40" in refusal(pictures.parent)


@pytest.mark.parametrize("prefix", ["", "0"])
def test_names_that_are_numbers_are_in_their_order(tmp_path, small_data, prefix):
    """Folders, and labels that are text: 10 comes after 2."""
    names = [f"{prefix}{n}" for n in range(1, 12)]
    images = small_data[0][:11]
    for name, image in zip(names, images, strict=True):
        save(tmp_path / "pictures" / name / "1.png", image)
    data = load_dataset(tmp_path / "pictures")
    assert_same((data.images[data.labels.argsort()], np.sort(data.labels)), (images, np.arange(11)))
    path = npz(tmp_path, x_train=images, y_train=names[::-1])
    assert_same(load_data(path), (images, np.arange(11)[::-1]))
    assert load_dataset(path).names == data.names == names
    assert load_dataset(npz(tmp_path, x_train=images, y_train=list("0123456789a"))).names
    assert load_dataset(npz(tmp_path, x_train=images[:10], y_train=list("0123456789"))).names == []


def test_a_class_may_be_called_train(pictures, small_data):
    """Beside other classes, of buses for example; not beside a test part."""
    save(pictures / "Train" / "1.png", small_data[0][0])
    assert np.bincount(load_data(pictures)[1]).tolist() == [1, 20, 20]
    shutil.copytree(pictures / "Train", pictures / "val")
    assert len(load_images(pictures)[0]) == 1


def test_pictures_without_labels(tmp_path, small_data):
    """One of 8 bits, one of 16, and one that a camera has turned counter-clockwise."""
    turned = Image.Exif()
    turned[0x0112] = 6
    save(tmp_path / "1.png", small_data[0][0])
    save(tmp_path / "2.png", small_data[0][1].astype(np.uint16) * 257)
    save(tmp_path / "3.png", np.rot90(small_data[0][2]), exif=turned)
    images, labels = load_images(tmp_path)
    np.testing.assert_array_equal(images, small_data[0][:3])
    assert labels is None
    assert "has no labels" in refusal(tmp_path)


@pytest.mark.parametrize("white", [1, 255, 1023, 4095, 65535])
def test_the_range_of_pixels_is_one_for_all_of_a_data_set(tmp_path, white, capsys):
    """Of pictures and arrays, whose parts are of different brightness, beside one of 8 bits."""
    dtype, suffix = (np.float32, "tif") if white == 1 else (np.uint16, "png")
    brightest = np.linspace(0, white, 64).astype(dtype).reshape(1, 8, 8)
    darker = brightest // 5 if white > 1 else brightest / 5
    parts = {"train": darker, "test": brightest}
    for part, pixels in parts.items():
        save(tmp_path / part / "a" / f"1.{suffix}", pixels[0])
        save(tmp_path / part / "b" / "1.png", np.full((8, 8), 99, np.uint8))
    arrays = {f"x_{part}": pixels.repeat(2, 0) for part, pixels in parts.items()}
    path = npz(tmp_path, y_train=TWO, y_test=TWO, **arrays)
    for part, pixels in parts.items():
        expected = np.rint(pixels[0] * (255 / white))
        images, _ = load_data(tmp_path, part)
        np.testing.assert_array_equal(images, [expected, np.full((8, 8), 99)])
        np.testing.assert_array_equal(load_data(path, part)[0][1], expected)
    taken = f"1 of 2 pictures have more than 8 bits: pixels are taken for 0: black, {white}: white"
    assert taken in capsys.readouterr().out


@pytest.mark.parametrize("greatest", [60, 9000])
def test_a_range_that_fits_no_rule_is_refused(tmp_path, greatest):
    pixels = np.full((2, 8, 8), greatest, np.uint16)
    npz(tmp_path, x_train=pixels, y_train=TWO)
    for name in "ab":
        save(tmp_path / "pictures" / name / "1.png", pixels[0])
    for name in ("set.npz", "pictures"):
        message = refusal(tmp_path / name)
        assert message.startswith(f"the images of {tmp_path / name} are ")
        # Pillow 10 gives int32
        assert re.search(rf"u?int\d\d from {greatest} to {greatest}, expected", message)


def test_reading_is_shown(pictures, capsys, monkeypatch):
    """By a line, and on a terminal by a bar, which has to end also where pictures are refused."""
    images, _ = load_images(pictures)
    assert capsys.readouterr().out.rstrip().endswith(f"{pictures}: reading 40 pictures")
    monkeypatch.setenv("FORCE_COLOR", "1")  # a terminal, as Rich sees it
    monkeypatch.setenv("TERM", "xterm")
    save(pictures / "fish" / "1.png", images[0, :4, :4])
    assert "several sizes, 8 x 8 and 4 x 4" in refusal(pictures)
    shutil.rmtree(pictures / "fish")
    np.testing.assert_array_equal(load_images(pictures)[0], images)
    assert re.search("(?s)reading 40 pictures\n.*100%", capsys.readouterr().out)


def test_pictures_of_other_sizes_and_colours(tmp_path, capsys):
    """Resized only if asked to; what is cropped, red and black, leaves no trace in the rest."""
    for i, colour in enumerate([(255, 0, 0), (0, 0, 0)]):
        picture = Image.new("RGB", (13 + 12 * i, 8 + 8 * i), colour)
        picture.paste((0, 255, 0), (2 + 2 * i, 0, 10 + 10 * i, 8 + 8 * i))
        save(tmp_path / "ab"[i] / "1.png", np.asarray(picture))
    assert "have 8 x 13 pixels, expected square" in refusal(tmp_path)
    images, _ = load_data(tmp_path, image_size=8)
    assert images.shape == (2, 8, 8)
    np.testing.assert_array_equal(images, 150)  # green, as ITU-R 601-2 weighs it: 0.587
    assert "2 of 2 pictures are in colour: they are read in grey" in capsys.readouterr().out
    np.save(tmp_path / "set.npy", np.asarray(picture.convert("L"))[None])  # the same for arrays
    np.testing.assert_array_equal(load_images(tmp_path / "set.npy", 8)[0], 150)
    save(tmp_path / "a" / "0.png", images[0])
    assert "several sizes, 8 x 8 and 8 x 13: add --image-size N" in refusal(tmp_path)


def test_transparent_pictures_lie_over_white(tmp_path, capsys):
    """Black, more or less opaque: the colour under what is transparent is black as well."""
    alpha = np.zeros((8, 8), np.uint8)
    alpha[2:6, 2:6] = 255
    alpha[0, 0] = 51
    black = np.zeros_like(alpha)
    save(tmp_path / "1.png", np.dstack([black, black, black, alpha]))
    save(tmp_path / "2.png", np.dstack([black, alpha]))
    # one of the greys, or of a palette's colours, is transparent
    save(tmp_path / "3.png", alpha, transparency=0)
    Image.fromarray(alpha).convert("P").save(tmp_path / "4.gif", transparency=0)
    save(tmp_path / "5.png", np.dstack([black, black, black, ~black]))
    images, _ = load_images(tmp_path)
    np.testing.assert_array_equal(images[:2], [255 - alpha] * 2)
    np.testing.assert_array_equal(images[2:4], [np.where(alpha == 0, 255, alpha)] * 2)
    np.testing.assert_array_equal(images[4], 0)
    assert "4 of 5 pictures have transparent pixels: white shows" in capsys.readouterr().out


# Mistakes


@pytest.mark.parametrize("brightest", [1, 15])
def test_images_that_are_nearly_black(tmp_path, capsys, brightest):
    load_data(npz(tmp_path, x_train=zeros(2, 8, 8) + np.uint8(brightest), y_train=TWO))
    warning = f"warning: no pixel of .* is above {brightest} of 255.*\n"
    assert re.fullmatch(warning, capsys.readouterr().err)


@pytest.mark.parametrize(
    ("arrays", "complaint"),
    [
        ({"x_train": zeros(2, 8, 8, 3)}, "uint8 of shape (2, 8, 8, 3), expected grey ones"),
        ({"x_train": zeros(2, 3, 8, 8)}, "for example with images.mean(axis=1).astype('uint8')"),
        ({"x_train": zeros(28, 28, 50), "y_train": None}, MOVE),
        ({"x_train": zeros(28, 28, 1, 50), "y_train": TENS.repeat(2)[:50]}, MOVE),
        ({"x_train": zeros(30, 28, 50), "y_train": TENS.repeat(2)[:50]}, MOVE),
        ({"x_train": zeros(784, 40), "y_train": TENS}, MOVE),
        ({"x_train": zeros(2, 60)}, "(2, 60), expected grey ones, uint8 of shape (N, size, size)"),
        ({"x_train": zeros(0, 8, 8)}, "shape (0, 8, 8), expected"),
        ({"x_train": zeros(2, 8, 8) + 16.0}, "are float64 from 16 to 16, "),
        ({"x_train": zeros(2, 8, 8) + np.nan}, "are float64 from nan to nan, "),
        ({"x_train": zeros(2, 8, 12)}, "have 8 x 12 pixels, expected square"),
        ({"x_train": zeros(2, 30, 30)}, "have 30 x 30 pixels, expected square"),
        ({"x_train": zeros(2, 260, 260)}, "a multiple of 4, from 4 to 256"),
        ({"x_train": np.array([{}, {}])}, "allow_pickle=False): convert it, with .astype("),
        ({"y_train": zeros(3)}, "2 images and 3 labels given"),
        ({"y_train": TWO / 2}, "are float64 of shape (2,), expected"),
        ({"y_train": zeros(2)}, "are of 1 classes, expected 2 to 1000"),
        ({"x_train": zeros(1001, 4, 4), "y_train": np.arange(1001)}, "are of 1,001 classes, expec"),
        ({"y_train": None}, "has no labels (y_train), which"),
        ({"x_train": None, "y_train": None, "data": TWO}, "has no array x_train, only data: give"),
    ],
)
def test_npz_refused(tmp_path, arrays, complaint):
    arrays = {"x_train": zeros(2, 8, 8), "y_train": TWO} | arrays
    path = npz(tmp_path, **{name: x for name, x in arrays.items() if x is not None})
    message = refusal(path)
    assert complaint in message
    assert str(path) in message


def test_images_that_only_look_as_if_counted_by_the_last_axis(tmp_path):
    for shape in (50, 28, 28), (50, 28, 28, 1), (28, 28, 28):
        images, _ = load_images(npz(tmp_path, x_train=zeros(*shape)))
        assert images.shape == (shape[0], 28, 28)
    path = npz(tmp_path, x_train=zeros(28, 28, 32), y_train=TENS[:28])  # as the labels tell
    assert load_images(path, 28)[0].shape == (28, 28, 28)


def test_folders_without_data_are_refused(tmp_path):
    assert refusal(tmp_path).startswith(f"the folder {tmp_path} is empty: give an .npz file")
    write(tmp_path / "a.txt", b"")
    assert f"{tmp_path} holds no data, but other files: 1 (1 .txt): give" in refusal(tmp_path)


def test_files_that_are_no_npz_refused(tmp_path):
    path = tmp_path / "set.npz"
    assert "does not exist: give an .npz file" in refusal(path)
    path.write_text("x_train")
    assert "is of no known format: give an .npz file" in refusal(path)
    path.write_bytes(MNIST.read_bytes()[:100_000])
    assert "cannot be read (File is not a zip file): if it is damaged" in refusal(path)
    np.savez_compressed(path, x_test=np.arange(99999), x_train=zeros(2, 8, 8), y_train=TWO)
    damaged = bytearray(path.read_bytes())
    damaged[5000:5100] = bytes(100)
    path.write_bytes(damaged)
    assert len(load_data(path)[0]) == 2  # the test part is only read where it is needed
    assert f"{path}, x_test cannot be read (" in refusal(path, "test")


@pytest.mark.parametrize(
    ("name", "content", "complaint"),
    [
        (IMAGES, None, "has no array x_train, only y_train: give"),
        (LABELS, None, "has no labels (y_train)"),
        (IMAGES, idx(zeros(40)), "has no array x_train, only y_train: give"),
        (LABELS, b"text", "starts with 0x74657874, an IDX file with 0x0000"),
        (IMAGES, idx(zeros(40, 8, 8))[:-1], f"{IMAGES} cannot be read (cannot reshape"),
        (f"{IMAGES}.gz", gzip.compress(idx(zeros(40, 8, 8)), mtime=0)[:-9], "file ended"),
    ],
)
def test_idx_refused(tmp_path, small_data, name, content, complaint):
    write_idx(tmp_path, small_data)
    (tmp_path / name.removesuffix(".gz")).unlink()
    if content is not None:
        (tmp_path / name).write_bytes(content)
    assert complaint in refusal(tmp_path)
