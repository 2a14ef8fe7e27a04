"""Both programs as a user runs them: from a shell, on real MNIST, with a small budget."""

import ctypes
import gc
import importlib
import json
import re
import resource
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from matplotlib import image as mpl_image

import chapter
import conftest
import dcgan_mnist
from common.options import ENGINES
from common.runs.checkpoints import TrainingState
from common.runs.folder import RunFolder
from common.training.callbacks.output import SampleGrid
from common.training.callbacks.progress import LogLine
from common.training.loop import run_steps
from conftest import ENVIRONMENT, ROOT, assert_same_run, contents, randomized, tiles
from processes import run

PARAMETERS = {
    "dcgan_mnist": ("1,080,577", "1,301,505", "2,382,082"),
    "cgan_mnist": ("1,090,001", "1,364,225", "2,454,226"),
}
FLAGS = ("--train-steps=3", "--save-interval=2", "--seed=1", "--log-interval=1")
LINE = re.compile(
    r"(\d+): \[discriminator loss: (\d+\.\d{6}), acc: ([01]\.\d{6})\]"
    r" \[adversarial loss: (\d+\.\d{6}), acc: ([01]\.\d{6})\]"
)


def run_from_a_shell(folder, name, *arguments, **environment) -> subprocess.CompletedProcess:
    """Without the test's fork server: as users start it."""
    return subprocess.run(
        [sys.executable, ROOT / f"{name}.py", *map(str, arguments)],
        cwd=folder,
        env=ENVIRONMENT | environment,
        capture_output=True,
        encoding="utf-8",
        stdin=subprocess.DEVNULL,
    )


@pytest.fixture(scope="module")
def bare(tmp_path_factory):
    """An environment in which the packages are missing that only some commands need."""
    folder = tmp_path_factory.mktemp("bare")
    for name in ("scipy", "sklearn", "tensorboard", "tf2onnx", "onnx"):
        (folder / f"{name}.py").write_text(f"raise ModuleNotFoundError(name={name!r})")
    return {"PYTHONPATH": str(folder)}


@pytest.fixture(scope="module", params=["dcgan_mnist", "cgan_mnist"])
def trained(request, tmp_path_factory, bare):
    """`(name, folder, what the run printed)` of three steps on real MNIST."""
    folder = tmp_path_factory.mktemp(request.param)
    done = run_from_a_shell(folder, request.param, *FLAGS, **bare)
    assert done.returncode == 0, done.stderr
    return request.param, folder, done


def test_training_prints_what_the_chapter_prints(trained):
    name, _, done = trained
    assert done.stderr == ""
    assert re.findall(r'Model: "(\w+)"', done.stdout) == ["discriminator", "generator", name]
    assert tuple(re.findall(r"Total params: ([\d,]+)", done.stdout)) == PARAMETERS[name]
    label_line, *lines, evaluation, best = done.stdout.splitlines()[-6:]
    assert [int(LINE.fullmatch(line)[1]) for line in lines] == [0, 1, 2]
    losses = [float(LINE.fullmatch(line)[2]) for line in lines]
    assert losses[0] == pytest.approx(np.log(2), abs=0.05)  # D cannot yet tell
    assert losses[2] < losses[0]  # and learns
    expected = "cgan_mnist Labels for generated images:  [0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5]"
    assert (label_line == expected) == (name == "cgan_mnist")
    assert evaluation.startswith("after 3 steps: frechet distance ")
    assert best.startswith(f"best generator: {name}.h5, the last one (Frechet distance ")
    draw = shlex.join([sys.executable, f"{ROOT / name}.py", f"--generator={name}.h5"])
    early = "digits of MNIST can be read after about 1,500 steps"
    assert best.endswith(f"of 5,000 images; {early}). Draw with it: {draw}")


def test_training_writes_what_the_chapter_writes(trained):
    name, folder, _ = trained
    assert sorted(contents(folder)) == [
        f"{name}.h5",
        f"{name}/00002.png",
        f"{name}/00003.png",
        f"{name}/best.h5",
        f"{name}/checkpoints/00002.npz",
        f"{name}/checkpoints/00003.npz",
        f"{name}/config.json",
        f"{name}/evolution.gif",
        f"{name}/evolution.png",
        f"{name}/history.csv",
        f"{name}/lock",
        f"{name}/losses.png",
    ]
    assert mpl_image.imread(folder / name / "00003.png").shape == (366, 366)


@pytest.fixture(scope="module")
def again(trained, tmp_path_factory):
    """`(folder, what the run printed, peak memory in KiB)` of the same run once more."""
    name, _, _ = trained
    folder = tmp_path_factory.mktemp("again")
    status, out, err = run(ROOT, train_and_tell, name, [*FLAGS, f"--outdir={folder}"])
    assert status == 0, err
    printed, _, peak = out.rpartition("peak of memory: ")
    return folder, printed, int(peak)


def train_and_tell(name, arguments):
    """Trains, and prints the most memory that the process has had."""
    importlib.import_module(name).main(arguments)
    print("peak of memory:", resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)


@pytest.mark.slow
def test_the_same_seed_gives_the_same_weights(trained, again):
    name, folder, done = trained
    other, printed, _ = again
    # the command that draws is that of a program that was started by its path
    expected = done.stdout.replace(f"{sys.executable} {ROOT / name}.py", f"python {name}.py")
    assert printed.replace(f"{other}/", "") == expected
    assert_same_run(folder, other, name)


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="other systems count in other units")
def test_a_run_on_mnist_stays_below_1500_megabytes(again):
    assert 0.3e9 < again[2] * 1024 < 1.5e9


@pytest.mark.parametrize(
    ("package", "flags"),
    [
        ("scikit-learn", ["-g", ROOT / "pretrained" / "dcgan_mnist.h5", "--evaluate"]),
        pytest.param(
            *("tf2onnx", ["-g", ROOT / "pretrained" / "dcgan_mnist.h5", "--export=g.onnx"]),
            marks=pytest.mark.slow,
        ),
        pytest.param("tensorboard", ["--train-steps=2", "--tensorboard"], marks=pytest.mark.slow),
    ],
)
def test_a_missing_package_is_named_where_it_is_needed(tmp_path, bare, package, flags):
    done = run_from_a_shell(tmp_path, "dcgan_mnist", *flags, **bare)
    advice = f"run {sys.executable} -m pip install {package}"
    assert done.stderr == f"dcgan_mnist.py: error: {package} is not installed: {advice}\n"
    assert done.returncode == 2


@pytest.mark.slow
def test_resuming_and_drawing_need_no_other_package(tmp_path, data, bare):
    train, resume = [f"--data={data}", "--train-steps=2"], ["--resume", "--train-steps=3"]
    for flags in (train, resume, ["-g", "dcgan_mnist.h5"]):
        done = run_from_a_shell(tmp_path, "dcgan_mnist", *flags, **bare)
        assert (done.returncode, done.stderr) == (0, "")
    walk = ["-g", "dcgan_mnist.h5", "--interpolate", "--output=walk.gif"]
    done = run_from_a_shell(tmp_path, "dcgan_mnist", *walk, **bare)
    assert (done.returncode, done.stdout) == (0, "written to walk.gif\n")


@pytest.mark.filterwarnings("ignore:You are saving your model as an HDF5 file")
def test_asking_for_an_8_from_a_generator_of_keras_2(tmp_path):
    """As the chapter does it, with a file such as the book's readers have."""
    oracle = randomized(chapter.build_generator(num_labels=10))
    oracle.save(tmp_path / "cgan_mnist.h5")
    flags = ["--generator=cgan_mnist.h5", "--digit=8", "--seed=3"]
    status, out, err = run(tmp_path, "cgan_mnist", *flags)
    assert (status, err) == (0, "")
    eights = " ".join(["8"] * 16)
    assert out == (
        "written to test_outputs/00008.png\n"
        f"test_outputs Labels for generated images:  [{eights}]\n"
    )
    assert sorted(contents(tmp_path)) == ["cgan_mnist.h5", "test_outputs/00008.png"]

    noise = np.random.default_rng(3).uniform(-1, 1, (16, 100))
    expected = oracle.predict([noise, np.eye(10)[np.full(16, 8)]], verbose=0)
    picture = mpl_image.imread(tmp_path / "test_outputs" / "00008.png")
    assert expected.std() > 0.2
    np.testing.assert_allclose(tiles(picture, 28), expected[:, :, :, 0], atol=0.51 / 255)


def test_own_data(tmp_path, small_data):
    """Other images and other classes than MNIST's, to the end; classes keep their names."""
    images, _ = small_data
    names = np.array(["circle", "cross", "½ / 3"])
    np.savez(tmp_path / "set.npz", x_train=images, y_train=names[np.arange(40) % 3])
    flags = ["--data=set.npz", "--train-steps=2", "--batch-size=100", "--seed=0"]
    status, out, err = run(tmp_path, "cgan_mnist", *flags)
    assert status == 0, err
    assert "set.npz: 40 images of 8 x 8 pixels, 3 classes of 13 to 14 images\n" in out
    assert "images:  ['circle' 'cross' '½ / 3' 'circle' 'cross'" in out
    *_, last = out.splitlines()
    assert last.startswith("generator: cgan_mnist.h5, the last one (without evaluations; digits")
    assert last.endswith("cgan_mnist.py --generator=cgan_mnist.h5")
    config = json.loads((tmp_path / "cgan_mnist" / "config.json").read_text())
    assert config["class_names"] == [*names]

    draw = ["--generator=cgan_mnist.h5", "--samples=4", "--seed=3", "--digit"]
    status, out, err = run(tmp_path, "cgan_mnist", *draw, "½ / 3", "1")
    assert (status, err) == (0, "")
    assert out == (
        "written to test_outputs/½_3-1.png\n"
        "test_outputs Labels for generated images:  ['½ / 3' 'cross' '½ / 3' 'cross']\n"
    )
    status, _, err = run(tmp_path, "cgan_mnist", *draw, "square")
    assert status == 2
    assert "'square' given, expected a class that cgan_mnist.h5 draws: circle, cross, ½ / 3" in err


@pytest.mark.slow
def test_a_console_without_unicode(tmp_path, data):
    """Keras draws its summaries with box characters."""
    flags = [f"--data={data}", "--train-steps=1"]
    done = run_from_a_shell(tmp_path, "dcgan_mnist", *flags, PYTHONIOENCODING="ascii")
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""


@pytest.mark.skipif(
    sys.platform != "linux" or not hasattr(ctypes.CDLL(None), "mallinfo2"),
    reason="counts what glibc 2.33 and newer tell",
)
@pytest.mark.slow
@pytest.mark.parametrize("engine", ENGINES)
def test_memory_does_not_grow_with_the_steps(engine, tmp_path):
    """Of networks so small that what a step leaves behind shows within seconds.

    Counted is what is in use, exactly: resident memory comes and goes by 10 MB, with which of the
    freed pages the allocator keeps.
    """
    status, out, err = run(tmp_path, take_steps_and_count, engine)
    assert status == 0, err
    (early, early_objects), (late, late_objects) = (
        map(int, line) for line in re.findall(r"used (\d+) (\d+)", out)
    )
    assert early > 50e6  # TensorFlow's own memory is in it
    assert (late - early) / 600 < 500  # bytes a step
    assert 4 <= (late_objects - early_objects) / 600 < 8  # what the history keeps of a step


def take_steps_and_count(engine):
    """Takes 200 steps, and 600 more; prints the bytes and the objects in use after either."""
    fields = "arena ordblks smblks hblks hblkhd usmblks fsmblks uordblks fordblks keepcost"

    class Mallinfo2(ctypes.Structure):
        _fields_ = [(name, ctypes.c_size_t) for name in fields.split()]

    mallinfo2 = ctypes.CDLL(None).mallinfo2
    mallinfo2.restype = Mallinfo2
    gan = conftest.Gan("dcgan_mnist", dcgan_mnist, 0)
    models = gan.models(image_size=8)
    images = np.zeros((10, 8, 8), np.uint8)
    step = gan.step(models, images, None, np.random.default_rng(0), batch_size=4, engine=engine)
    state = TrainingState(step, step.latent.draw(step.rng, 16))
    grids = SampleGrid(state, RunFolder(Path("grids")), every_steps=100)
    history = []
    for steps in (200, 800):
        run_steps(
            *(models[2], step, history, [LogLine(1), grids], steps, 100),
            steps_per_execution=step.steps_per_execution,
        )
        gc.collect()
        info = mallinfo2()
        print("used", info.uordblks + info.hblkhd, sys.getallocatedblocks())
