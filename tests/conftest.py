"""What the tests share."""
# ruff: noqa: E402  # the environment comes before what reads it

import os

# What programs are run in: a user's environment, without a log level, without a display, and
# without the width of a terminal, which pytest-xdist sets.
ENVIRONMENT = {
    name: value
    for name, value in os.environ.items()
    if name not in ("TF_CPP_MIN_LOG_LEVEL", "COLUMNS") and "DISPLAY" not in name
}
os.environ.pop("TF_CPP_MIN_LOG_LEVEL", None)

import common.device  # noqa: F401  # before Keras, which it sets up

# isort: split
import contextlib
import csv
import dataclasses
import sys
import tempfile
from pathlib import Path
from types import ModuleType

import h5py
import numpy as np
import pytest

import cgan_mnist
import dcgan_mnist
from common.data import MNIST
from common.data.dataset import DataSet
from common.gan.batches import RealImages
from common.gan.models import lowest_pixel, set_precision
from common.gan.step import AlternatingStep, Models
from common.options import Options
from common.runs.run import Run
from common.training.train import make_step

ROOT = Path(__file__).resolve().parent.parent


def give_classifier(folder: Path, images: np.ndarray, labels: np.ndarray) -> Path:
    """Puts MNIST's classifier in the place of that of other training images of ten classes.

    Their own would take long to train, and nothing learns to read random images.
    """
    (shipped,) = MNIST.parent.glob("classifier-*.npz")
    sha256 = DataSet(folder, images, labels, [], True).sha256
    file = folder / f"classifier-{sha256[:12]}.npz"
    folder.mkdir(exist_ok=True)
    file.write_bytes(shipped.read_bytes())
    return file


def randomized(generator):
    """Gives every weight, the moving statistics too, a value that none has at first.

    Such that the images are neither flat nor black and white. For models of Keras 2 and 3.
    """
    rng = np.random.default_rng(3)
    draw = {
        "kernel": lambda shape: rng.normal(0, 0.1, shape),
        "bias": lambda shape: rng.normal(0, 0.1, shape),
        "gamma": lambda shape: rng.normal(1, 0.1, shape),
        "beta": lambda shape: rng.normal(0, 0.5, shape),
        "moving_mean": lambda shape: rng.normal(0, 0.1, shape),
        "moving_variance": lambda shape: rng.uniform(0.5, 2, shape),
    }
    names = [weight.name.split("/")[-1].split(":")[0] for weight in generator.weights]
    shapes = [tuple(weight.shape) for weight in generator.weights]
    generator.set_weights([draw[name](shape) for name, shape in zip(names, shapes, strict=True)])
    return generator


def tiles(grid: np.ndarray, image_size: int) -> np.ndarray:
    """The 16 images of a grid: blocks of pixels with gaps of 6 around them."""
    scale = 84 // image_size
    starts = [6 + i * (image_size * scale + 6) for i in range(4)]
    pixels = np.arange(image_size) * scale
    return np.array([grid[np.ix_(y + pixels, x + pixels)] for y in starts for x in starts])


def contents(folder: Path) -> dict[str, bytes]:
    """Of every file in a folder and in those below it, by its path there."""
    files = (path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


def history(folder: Path, name: str) -> list[list[str]]:
    """What history.csv says, but for the seconds, which are never the same."""
    with (folder / name / "history.csv").open() as file:
        rows = list(csv.reader(file))
    seconds = rows[0].index("seconds")
    return [row[:seconds] + row[seconds + 1 :] for row in rows]


def assert_same_run(folder: Path, other: Path, name: str) -> None:
    """Weights, optimizers, random generators, history, pictures and the best one, bit for bit."""
    files, others = contents(folder), contents(other)
    assert files.keys() == others.keys()
    assert history(folder, name) == history(other, name)
    for file in files:
        if file.endswith(".npz"):
            with np.load(folder / file) as a, np.load(other / file) as b:
                assert a.files == b.files
                for array in a.files:
                    columns = np.s_[:, :-1] if array == "history" else ...
                    np.testing.assert_array_equal(a[array][columns], b[array][columns])
        elif file.endswith(".png"):
            assert files[file] == others[file]
        elif file.endswith(".h5"):
            with h5py.File(folder / file) as a, h5py.File(other / file) as b:
                compared = []

                def compare(path, item, other=b, compared=compared):
                    if isinstance(item, h5py.Dataset):
                        np.testing.assert_array_equal(item, other[path])
                        compared.append(path)

                a.visititems(compare)
                assert len(compared) == 26


@dataclasses.dataclass
class Gan:
    """One of the chapter's two GANs."""

    name: str
    program: ModuleType
    num_labels: int

    def built(self, image_size: int = 28) -> tuple[Models, list[np.ndarray], Run]:
        """What the program builds and hands to `train`: `(models, noise_input, run)`."""
        handed_over = []
        labels = np.arange(4 * max(self.num_labels, 2)) % max(self.num_labels, 2)
        with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
            patch.setattr(self.program, "train", lambda *args: handed_over.extend(args))
            data = Path(folder) / "set.npz"
            shape = (len(labels), image_size, image_size)
            images = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
            np.savez(data, x_train=images, y_train=labels)
            with contextlib.redirect_stdout(None):
                self.program.main(["--data", str(data), "--outdir", folder, "--seed=0"])
        return tuple(handed_over)

    def models(self, image_size: int = 28, precision: str = "float32") -> Models:
        """The program's (generator, discriminator, adversarial)."""
        models = self.built(image_size)[0]
        for model in models[1:]:
            set_precision(model, precision)
        return models

    def step(
        self,
        models: Models,
        x_train: np.ndarray,
        y_train: np.ndarray | None,
        rng: np.random.Generator,
        batch_size: int = 64,
        engine: str = "train_on_batch",
        precision: str = "float32",
    ) -> AlternatingStep:
        """Makes the alternating step of the program."""
        labels = y_train if self.num_labels else None
        real = RealImages(x_train, labels, lowest_pixel(models[0]))
        options = Options(batch_size=batch_size, engine=engine, precision=precision)
        return make_step(models, real, rng, options)


@pytest.fixture(params=["dcgan", "cgan"], scope="module")
def gan(request: pytest.FixtureRequest) -> Gan:
    """Each of the two in turn."""
    if request.param == "dcgan":
        return Gan("dcgan_mnist", dcgan_mnist, num_labels=0)
    return Gan("cgan_mnist", cgan_mnist, num_labels=10)


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(0)


@pytest.fixture(scope="module")
def small_data() -> tuple[np.ndarray, np.ndarray]:
    """40 random images of 8 x 8 pixels, the smallest the networks can halve and double twice."""
    rng = np.random.default_rng(0)
    return rng.integers(0, 256, (40, 8, 8), np.uint8), np.arange(40) % 10


@pytest.fixture(scope="module")
def data(small_data, tmp_path_factory) -> Path:
    """A file with these as a data set; for evaluations there are 160 test images, four of each."""
    file = tmp_path_factory.mktemp("data") / "set.npz"
    train = dict(zip(("x_train", "y_train"), small_data, strict=True))
    test = {"x_test": np.tile(small_data[0], (4, 1, 1)), "y_test": np.tile(small_data[1], 4)}
    np.savez(file, **train, **test)
    return file


@pytest.fixture
def fails(capsys, monkeypatch, tmp_path_factory):
    """Runs a program that has to fail, in an empty folder; gives the line it says."""
    monkeypatch.chdir(tmp_path_factory.mktemp("current"))

    def run(program, *arguments):
        with pytest.raises(SystemExit) as caught:
            program.main([str(argument) for argument in arguments])
        out, err = capsys.readouterr()
        assert caught.value.code == 2
        assert "Traceback" not in out + err
        assert "loss" not in out  # not a step was taken
        assert not [*Path().rglob("config.json")]
        lines = err.splitlines()
        assert len(lines) == 1
        prefix = f"{program.PROGRAM.name}.py: error: "
        assert lines[0].startswith(prefix)
        return lines[0].removeprefix(prefix)

    return run


@pytest.fixture(autouse=True, scope="module")
def _end_processes():
    """Ends what the tests of a module have started, also where they fail."""
    yield
    if "processes" in sys.modules:
        sys.modules["processes"].end_all()
