"""The best generator of a run: which one is kept, and what the user is told of it."""

import contextlib
import csv
import io
import shlex
from types import SimpleNamespace

import keras
import numpy as np
import pytest

import cgan_mnist
import dcgan_mnist
from common.data import MNIST
from common.data.dataset import load_data
from common.errors import UserError
from common.evaluation.classifier import Classifier
from common.evaluation.evaluate import Evaluator
from common.evaluation.metrics import frechet_distance
from common.gan.batches import LatentSampler, generate
from common.gan.saving import load_generator
from common.runs.checkpoints import TrainingState
from common.runs.folder import RunFolder
from common.runs.history import best_step
from common.training.callbacks import best
from common.training.callbacks.best import KeepBest
from common.training.train import _print_generator
from conftest import ROOT, Gan, randomized

SEED = 7


@pytest.fixture(scope="module")
def evaluator(small_data):
    """Of random images, by a classifier that has learnt nothing: what counts is the order."""
    keras.utils.set_random_seed(0)
    return Evaluator(Classifier(10), *small_data)


@pytest.fixture
def gan():
    """One of the two; which one makes no difference."""
    return Gan("cgan_mnist", cgan_mnist, num_labels=10)


@pytest.fixture
def keep(gan, evaluator, tmp_path, monkeypatch):
    monkeypatch.setattr(best, "SAMPLES", 100)
    generator = randomized(gan.program.new_generator(8, gan.num_labels))
    state = TrainingState(SimpleNamespace(generator=generator), [])
    return KeepBest(state, evaluator, tmp_path / "best.h5", every_steps=1, seed=SEED)


def after_step(keep, steps, brightness):
    """Evaluates a generator that draws brighter or darker images; gives its weights."""
    *others, last_bias = randomized(keep.generator).get_weights()
    keep.generator.set_weights([*others, last_bias + brightness])
    logs = {}
    keep.on_steps(steps, logs)
    assert logs == keep.evaluations[steps]
    return keep.generator.get_weights()


def assert_best(gan, keep, weights):
    """best.h5 has these weights."""
    kept = load_generator(keep.file, gan.program.new_generator).get_weights()
    for found, expected in zip(kept, weights, strict=True):
        np.testing.assert_array_equal(found, expected)


def test_the_lowest_distance_is_kept(gan, keep, evaluator, capsys):
    """Neither the first nor the last one; the distance is that of the same noise each time."""
    brightness = {1: 8, 2: 4, 3: -2, 4: -4, 5: -8}
    weights = {steps: after_step(keep, steps, x) for steps, x in brightness.items()}
    lines = capsys.readouterr().out.splitlines()
    rng, expected = np.random.default_rng(SEED), {}
    inputs = LatentSampler.of(keep.generator).draw_in_turn(rng, 100)
    for steps, values in weights.items():
        keep.generator.set_weights(values)
        features, _ = evaluator.classifier.predict(generate(keep.generator, inputs))
        expected[steps] = frechet_distance(evaluator.features, features)
    lowest = min(expected, key=expected.get)
    assert lowest not in (1, 5)
    found = {steps: metrics["frechet_distance"] for steps, metrics in keep.evaluations.items()}
    assert found == pytest.approx(expected)
    assert best_step(keep.evaluations) == lowest
    assert_best(gan, keep, weights[lowest])
    for steps, line in enumerate(lines, 1):
        assert line.startswith(f"after {steps} steps: frechet distance {found[steps]:.4g}, ")
        so_far = found[steps] == min(found[i] for i in range(1, steps + 1))
        assert line.endswith(f"; the lowest so far: {keep.file}") == so_far


def test_nan_ends_the_run_and_the_best_one_stays(gan, keep):
    weights = after_step(keep, 1, 0)
    with pytest.raises(UserError, match="diverged: after 2 steps the generator draws NaN"):
        after_step(keep, 2, np.nan)
    assert_best(gan, keep, weights)


def interval_of(tmp_path, data, *flags):
    """The interval of evaluations of a run that is about to start."""
    runs = []
    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(None):
        patch.setattr(dcgan_mnist, "train", lambda models, noise_input, run: runs.append(run))
        dcgan_mnist.main([f"--data={data}", f"--outdir={tmp_path}", *flags])
    return runs[0].options.evaluate_interval


def test_evaluations_are_the_default_where_the_classifier_ships(tmp_path, small_data):
    assert interval_of(tmp_path, MNIST) == 2500
    assert interval_of(tmp_path, MNIST, "--evaluate-interval=0") == 0
    assert interval_of(tmp_path, MNIST, "--evaluate-interval=70") == 70
    images, labels = load_data()
    np.savez(tmp_path / "without_test.npz", x_train=images, y_train=labels)
    assert interval_of(tmp_path, tmp_path / "without_test.npz") == 0
    np.savez(tmp_path / "small.npz", x_train=small_data[0], y_train=small_data[1])
    assert interval_of(tmp_path, tmp_path / "small.npz") == 0


@pytest.mark.slow
def test_a_run_that_falls_apart(tmp_path, monkeypatch):
    """A good generator, and then D learns too fast: the best one is from before, and it is said."""
    monkeypatch.setattr(best, "SAMPLES", 400)
    new_generator, compile_model = dcgan_mnist.new_generator, dcgan_mnist.compile_model

    def trained_generator(image_size, num_labels=0):
        shipped = load_generator(ROOT / "pretrained" / "dcgan_mnist.h5", new_generator)
        generator = new_generator(image_size, num_labels)
        generator.set_weights(shipped.get_weights())
        return generator

    def compile_too_fast(model, lr, decay):
        compile_model(model, lr * (100 if model.name == "discriminator" else 1), decay)

    monkeypatch.setattr(dcgan_mnist, "new_generator", trained_generator)
    monkeypatch.setattr(dcgan_mnist, "compile_model", compile_too_fast)
    flags = ["--seed=0", "--engine=compiled", "--batch-size=8", "--train-steps=40"]
    flags += ["--evaluate-interval=4", f"--outdir={tmp_path}", "--no-show"]
    with contextlib.redirect_stdout(io.StringIO()) as out:
        dcgan_mnist.main(flags)
    folder = RunFolder(tmp_path / "dcgan_mnist")
    with folder.history.open() as file:
        found = enumerate(row["frechet_distance"] for row in csv.DictReader(file))
        distances = {step + 1: float(distance) for step, distance in found if distance}
    steps = min(distances, key=distances.get)
    assert steps <= 20
    assert distances[40] > 2 * distances[steps]
    *_, line = out.getvalue().splitlines()
    assert line.startswith(f"best generator: {folder.best}, of step {steps} (Frechet ")
    assert f"that of {folder.generator}, the last one, is " in line
    monkeypatch.undo()
    command = shlex.split(line.split("Draw with it: ")[1])
    assert command[:2] == ["python", "dcgan_mnist.py"]
    dcgan_mnist.main([*command[2:], f"--outdir={tmp_path}", "--seed=0"])
    assert (tmp_path / "test_outputs" / "00000.png").exists()


OF_5000 = "(Frechet distance 1.5 of 5,000 images"


@pytest.mark.parametrize(
    ("distances", "line"),
    [
        ({7: 1.5}, f"best generator so far: {{best}}, of step 7 {OF_5000})."),
        ({7: 2.25, 40000: 1.5}, f"best generator: {{last}}, the last one {OF_5000})."),
        (
            {7: 1.5, 40000: 2.25},
            f"best generator: {{best}}, of step 7 {OF_5000}; that of {{last}}, the last one, "
            "is 2.25).",
        ),
    ],
)
def test_the_last_line_of_a_run(gan, capsys, distances, line):
    """Of a stopped run, of one that ends with its best generator, and of one that does not."""
    _, _, run = gan.built(8)
    _print_generator(run, 2000, {})
    assert capsys.readouterr().out == ""
    _print_generator(run, 40000, {})
    last = f"generator: {run.folder.generator}, the last one (without evaluations). Draw with it: "
    assert capsys.readouterr().out.startswith(last)
    evaluations = {steps: {"frechet_distance": x} for steps, x in distances.items()}
    _print_generator(run, max(2000, *distances), evaluations)
    expected = line.format(best=run.folder.best, last=run.folder.generator)
    assert capsys.readouterr().out.startswith(f"{expected} Draw with it: python cgan_mnist.py ")
