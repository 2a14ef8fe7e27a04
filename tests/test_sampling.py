"""Which digits of which noise, walks through latent space, and the files they go to."""

import base64
import io
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy.stats import kstest, norm

import cgan_mnist
import dcgan_mnist
from common.errors import UserError
from common.gan.batches import LatentSampler
from common.gan.saving import load_generator, save_generator
from common.images import image_grid
from common.sampling.samples import choose, classes_of, interpolate, walks
from conftest import randomized


def chosen(*digits, count=None, num_labels=10):
    classes = classes_of(digits, num_labels)
    return choose(LatentSampler(100, num_labels), np.random.default_rng(1), classes, count)


def walked(*digits, count=10, steps=10, num_labels=10):
    classes = classes_of(digits, num_labels)
    return walks(LatentSampler(100, num_labels), np.random.default_rng(1), classes, count, steps)


@pytest.mark.parametrize(
    ("asked", "count", "expected", "columns"),
    [
        (["8"], None, [8] * 16, 4),
        (["0", "1", "2"], None, [0, 1, 2] * 6, 6),  # in whole rows, 16 at least
        (["20", "2", "6"], None, [2, 0, 2, 6] * 4, 4),
        (["08"], None, [0, 8] * 8, 4),
        ([str(digit) * 10 for digit in range(10)], None, np.arange(10).repeat(10), 10),
        # as often as makes the grid nearly square, each row from the first digit on
        (["2026"], 10_000, [2, 0, 2, 6] * 2500, 100),
        (["01"], 2000, [0, 1] * 1000, 44),
        (["0123456789"], 3, [0, 1, 2], 3),
    ],
)
def test_digits_in_their_order(asked, count, expected, columns):
    """A number that is not a class is read digit by digit."""
    found = chosen(*asked, count=count)
    np.testing.assert_array_equal(found.noise_class, expected)
    np.testing.assert_array_equal(found.noise_input[1], np.eye(10)[expected])
    assert found.columns == columns


def test_a_number_may_be_a_class():
    """Where there are more than ten of them, 20 is the 21st; and 99 is two nines."""
    np.testing.assert_array_equal(classes_of(["20", "99"], 26), [20, 9, 9])


def test_classes_with_names():
    """A number is one where names are none; where they are, it is a name."""
    named = ["circle", "cross", "7"]
    np.testing.assert_array_equal(classes_of(["cross", "0", "7", "2"], 3, named), [1, 0, 2, 2])
    numbers = ["1", "2", "10"]
    np.testing.assert_array_equal(classes_of(["10", "1"], 3, numbers), [2, 0])
    for text in ("0", "12"):
        with pytest.raises(UserError, match=f"{text!r} given, expected a class that .*: 1, 2, 10"):
            classes_of([text], 3, numbers)


@pytest.mark.parametrize(("count", "columns"), [(1, 1), (5, 3), (16, 4), (17, 5), (10_000, 100)])
def test_any_number_in_a_near_square(count, columns):
    found = chosen(count=count)
    assert len(found.noise_input[0]) == count
    assert found.columns == columns


def test_random_digits():
    assert set(chosen(count=100).noise_class) == set(range(10))


def ends(rng, count=200):
    return rng.uniform(-1, 1, (2, count, 100)).astype(np.float32)


def test_a_walk_is_spherical_between_normal_vectors(rng):
    """White 2016: sin((1 - t) w) / sin(w) a + sin(t w) / sin(w) b, of normally distributed z."""
    starts, stops = ends(rng, 3)
    path = interpolate(starts, stops, 5)
    assert (path.shape, path.dtype) == ((3, 5, 100), np.float32)
    np.testing.assert_allclose(path[:, [0, -1]], np.stack([starts, stops], axis=1), atol=1e-6)
    path = norm.ppf((path.astype(float) + 1) / 2)
    for start, stop, walk in zip(starts, stops, path, strict=True):
        a, b = (norm.ppf((z.astype(float) + 1) / 2) for z in (start, stop))
        omega = np.arccos(a @ b / np.linalg.norm(a) / np.linalg.norm(b))
        for t, point in zip(np.arange(5) / 4, walk, strict=True):
            expected = (np.sin((1 - t) * omega) * a + np.sin(t * omega) * b) / np.sin(omega)
            np.testing.assert_allclose(point, expected, atol=1e-4)


def test_all_along_the_way_z_is_uniform(rng):
    """Which is what the generator knows; on a straight line it is not."""
    starts, stops = ends(rng)
    middle = interpolate(starts, stops, 3)[:, 1]
    assert kstest(middle.ravel(), "uniform", args=(-1, 2)).pvalue > 0.01
    assert kstest(((starts + stops) / 2).ravel(), "uniform", args=(-1, 2)).pvalue < 1e-9


@pytest.mark.parametrize("z", [np.full((1, 100), 0.5), np.ones((1, 100)), -np.ones((1, 100))])
def test_walks_at_the_edges(z):
    """From a z to itself, and at entries of exactly 1 and -1, which U[-1, 1) may draw."""
    np.testing.assert_allclose(interpolate(z, z, 4), np.stack([z] * 4, axis=1), atol=1e-6)
    there_and_back = interpolate(z, -z, 4)
    assert np.isfinite(there_and_back).all()
    assert np.abs(there_and_back).max() <= 1


def test_walks_in_rows():
    """Each from a z of its own to another; a CGAN's keep their digit."""
    found = walked(num_labels=0, count=3, steps=6)
    assert found.columns == 6
    assert [x.shape for x in found.noise_input] == [(18, 100)]
    paths = found.noise_input[0].reshape(3, 6, 100)
    assert len({tuple(path[0]) for path in paths} | {tuple(path[-1]) for path in paths}) == 6
    in_turn = walked(count=12, steps=4).noise_class
    np.testing.assert_array_equal(in_turn, np.repeat(np.arange(12) % 10, 4))
    assert set(walked("7").noise_class) == {7}


def test_walks_from_digit_to_digit():
    found = walked("3", "8", "3", count=2, steps=5)
    noise, labels = found.noise_input
    assert found.columns == 9
    assert len(noise) == 18
    for walk in range(2):
        rows = slice(9 * walk, 9 * walk + 9)
        assert np.ptp(noise[rows], axis=0).max() == 0  # at a fixed z
        eight = [0, 0.25, 0.5, 0.75, 1, 0.75, 0.5, 0.25, 0]
        np.testing.assert_allclose(labels[rows, 8], eight, atol=1e-6)
        np.testing.assert_allclose(labels[rows, 3], 1 - np.array(eight), atol=1e-6)
        assert labels[rows].sum() == pytest.approx(9)
    assert (noise[0] != noise[9]).any()


@pytest.mark.parametrize(
    ("digits", "count", "steps", "found"),
    [((), 101, 100, "101 walks of 100 images"), ("012", 10, 501, "10 walks of 1001 images")],
)
def test_more_walks_than_can_be_looked_at(digits, count, steps, found):
    with pytest.raises(UserError, match=f"--samples: {found} are more than 10000 images"):
        walked(*digits, count=count, steps=steps)


@pytest.fixture(scope="module")
def generator_file(tmp_path_factory):
    file = tmp_path_factory.mktemp("generator") / "cgan_mnist.h5"
    save_generator(randomized(cgan_mnist.new_generator(8, 10)), file)
    return file


@pytest.fixture
def draw(generator_file, tmp_path, monkeypatch, capsys):
    """Runs the CGAN's program in an empty folder; gives what it has drawn and printed."""
    monkeypatch.chdir(tmp_path)

    def run(*flags, output=None):
        output = [f"--output={output}"] if output else []
        cgan_mnist.main(["-g", str(generator_file), "--seed=4", *flags, *output])
        return capsys.readouterr().out

    return run


def expected_images(generator_file, classes, seed=4):
    """What the generator makes of the seed's noise, by Keras's own `predict`."""
    generator = load_generator(generator_file, cgan_mnist.new_generator)
    noise = np.random.default_rng(seed).uniform(-1, 1, (len(classes), 100))
    return generator.predict([noise, np.eye(10)[classes]], verbose=0)


def read(file):
    with Image.open(file) as picture:
        return np.asarray(picture.convert("L"))


def test_pictures_and_arrays_of_many(draw, generator_file):
    printed, _ = (draw("--digit=2026", "--samples=600", output=x) for x in ("sub/a.png", "a.npz"))
    classes = np.resize([2, 0, 2, 6], 600)
    with np.load("a.npz") as archive:
        assert archive.files == ["images", "labels"]
        images, labels = archive["images"], archive["labels"]
    assert (images.shape, images.dtype) == ((600, 8, 8, 1), np.float32)
    np.testing.assert_allclose(images, expected_images(generator_file, classes), atol=1e-5)
    np.testing.assert_array_equal(labels, classes)
    np.testing.assert_array_equal(read("sub/a.png"), image_grid(images, 24))
    note, written, labels = printed.splitlines()[:3]
    assert note == "there is no class 2026: it is drawn as 2, 0, 2, 6"
    assert written == "written to sub/a.png"
    assert labels.startswith("test_outputs Labels for generated images:  [2 0 2 6 2 0 2 6")


def test_labels_between_two_classes(draw):
    draw("--digit=01", "--interpolate=3", "--samples=1", output="b.npz")
    with np.load("b.npz") as archive:
        np.testing.assert_array_equal(archive["labels"][:, :2], [[1, 0], [0.5, 0.5], [0, 1]])


def test_an_svg_is_pixel_exact(draw):
    draw(output="a.svg")
    draw(output="a.png")
    text = Path("a.svg").read_text()
    (png,) = re.findall(r'"data:image/png;base64,([^"]+)"', text)
    picture = np.asarray(Image.open(io.BytesIO(base64.b64decode(png))).convert("L"))
    np.testing.assert_array_equal(picture, read("a.png"))
    assert "image-rendering:pixelated" in text
    # as many points as pixels: 72 to the inch, and 96 as browsers count
    width, height = re.search(r'<svg [^>]*width="([\d.]+)pt" height="([\d.]+)pt"', text).groups()
    assert (float(width) / 0.75, float(height) / 0.75) == pytest.approx(picture.shape[::-1])


def test_a_pdf_is_one_page_of_the_grid(draw):
    draw(output="a.pdf")
    draw(output="a.png")
    content = Path("a.pdf").read_bytes()
    assert content.startswith(b"%PDF-")
    box = re.search(rb"/MediaBox \[ ?0 0 ([\d.]+) ([\d.]+) ?\]", content).groups()
    side = read("a.png").shape[0]
    assert [float(length) / 0.75 for length in box] == pytest.approx([side, side], abs=0.01)
    size = re.findall(rb"/(?:Width|Height) (\d+)", content)
    assert {int(length) for length in size} == {side}


@pytest.mark.parametrize("kind", ["png", "svg", "pdf", "npz"])
def test_the_same_seed_gives_the_same_file(draw, kind):
    """There is no time and no random name in it."""
    for name in ("a", "b"):
        draw(output=f"{name}.{kind}")
    assert Path(f"a.{kind}").read_bytes() == Path(f"b.{kind}").read_bytes()


def test_an_animated_walk(draw):
    draw("--interpolate=4", "--samples=5", output="a.gif")
    draw("--interpolate=4", "--samples=5", output="a.npz")
    with np.load("a.npz") as archive:
        rows = archive["images"].reshape(5, 4, 8, 8, 1)
    with Image.open("a.gif") as animation:
        assert animation.n_frames == 6
        # there and back again, without showing either end twice
        for frame, step in enumerate([0, 1, 2, 3, 2, 1]):
            animation.seek(frame)
            shown = np.asarray(animation.convert("L"))
            np.testing.assert_array_equal(shown, image_grid(rows[:, step]))
        assert animation.info["loop"] == 0
    draw("--interpolate", "--samples=1", output="b.gif")
    with Image.open("b.gif") as animation:
        assert animation.n_frames == 30 + 28


@pytest.mark.parametrize(
    ("flags", "name"),
    [
        ([], "00000.png"),
        (["-d", "8"], "00008.png"),
        (["-d", "2026"], "2026.png"),
        (["-d", "0", "1", "2"], "0-1-2.png"),
        (["--interpolate", "--digit", "0", "1"], "interpolation.png"),
    ],
)
def test_default_names(draw, flags, name):
    printed = draw(*flags)
    # which digit stands where; between two of them there is no label to tell
    assert f"written to test_outputs/{name}\n" in printed
    assert ("\ntest_outputs Labels" in printed) == ("--interpolate" not in flags)
    assert [str(file) for file in Path().rglob("*.*")] == [f"test_outputs/{name}"]


def test_the_dcgan_too(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    save_generator(randomized(dcgan_mnist.new_generator(8)), tmp_path / "g.h5")
    dcgan_mnist.main(["-g", "g.h5", "--seed=0", "--samples=5", "--output=a.npz"])
    dcgan_mnist.main(["-g", "g.h5", "--seed=0", "--interpolate", "--output=b.png"])
    with np.load("a.npz") as archive:
        assert archive.files == ["images"]
        assert len(archive["images"]) == 5
    assert read("b.png").shape == (10 * 86 + 6, 10 * 86 + 6)
    assert capsys.readouterr().out == "written to a.npz\nwritten to b.png\n"


def test_pictures_that_are_there_stay(draw, tmp_path, capsys):
    """Names that the program chooses get a number; those of the user are refused."""
    draw("--seed=1")
    first = Path("test_outputs/00000.png").read_bytes()
    assert "written to test_outputs/00000-1.png\n" in draw("--seed=2")
    assert Path("test_outputs/00000.png").read_bytes() == first
    draw("--seed=1", "--output=A.PNG")
    assert Path("A.PNG").read_bytes() == first
    with pytest.raises(SystemExit):
        draw("--seed=2", "--output=A.PNG")
    assert "argument --output: A.PNG is there already" in capsys.readouterr().err
    assert Path("A.PNG").read_bytes() == first
    draw("--seed=2", "--output=A.PNG", "--overwrite")
    assert Path("A.PNG").read_bytes() == Path("test_outputs/00000-1.png").read_bytes()
