"""The best generator of a run: which one is kept, and what the user is told of it."""

import contextlib
import io
import itertools
import shlex
import shutil

import keras
import numpy as np
import pytest

import cgan_mnist
import dcgan_mnist
from common.data import MNIST
from common.data.dataset import load_data
from common.errors import UserError
from common.evaluation.classifier import Classifier
from common.evaluation.evaluate import Evaluator, evaluation_inputs
from common.evaluation.metrics import frechet_distance
from common.files import write_file
from common.gan.batches import generate
from common.gan.saving import load_generator
from common.runs.best import Best, read_best, write_best
from common.runs.folder import RunFolder
from common.training.callbacks import best
from common.training.callbacks.best import KeepBest
from common.training.train import _print_best
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
def generator(gan):
    return gan.program.new_generator(8, gan.num_labels)


@pytest.fixture
def keep(generator, evaluator, tmp_path, monkeypatch):
    """Keeps the best of a run of four steps."""
    monkeypatch.setattr(best, "SAMPLES", 100)
    monkeypatch.setattr(best, "SAMPLES_AT_THE_END", 300)
    folder = RunFolder(tmp_path / "dcgan_mnist")
    keep = KeepBest(generator, evaluator, {}, folder, every_steps=1, seed=SEED)
    keep.set_params({"train_steps": 4})
    return keep


@pytest.fixture
def take(keep):
    """Takes steps after which the generator has these weights."""
    numbers = itertools.count(1)

    def take(*weights):
        for values in weights:
            keep.generator.set_weights(values)
            keep.on_steps(next(numbers), {})
        return [metrics["frechet_distance"] for metrics in keep.evaluations.values()]

    return take


@pytest.fixture
def ranked(generator, evaluator):
    """Weights of four generators, the best first, and their distances by 300 other images.

    They are far enough apart for the order to be the same with any images.
    """
    *others, last_bias = randomized(generator).get_weights()
    of_all = [[*others, last_bias + brightness] for brightness in range(-8, 9)]
    inputs = evaluation_inputs(generator, 300, [SEED, 1])
    found = []
    for weights in of_all:
        generator.set_weights(weights)
        features, _ = evaluator.classifier.predict(generate(generator, inputs))
        found.append((frechet_distance(evaluator.features, features), weights))
    chosen = []
    for distance, weights in sorted(found, key=lambda pair: pair[0]):
        if not chosen or distance > 1.2 * chosen[-1][0]:
            chosen.append((distance, weights))
    distances, weights = zip(*chosen[:4], strict=True)
    return weights, distances


def assert_best(gan, keep, weights):
    """best.h5 has these weights."""
    kept = load_generator(keep.folder.best, gan.program.new_generator).get_weights()
    for found, expected in zip(kept, weights, strict=True):
        np.testing.assert_array_equal(found, expected)


def test_the_lowest_distance_so_far_is_kept(gan, keep, take, ranked):
    """Neither the first nor the last one, whatever came between."""
    (better, worse, worst, _), _ = ranked
    distances = take(worst, better, worse)
    assert_best(gan, keep, better)
    assert read_best(keep.folder) == Best(2, 100, {2: min(distances)})


def test_luck_does_not_decide(gan, keep, take, ranked):
    """One that the images on the way were lucky for loses at the end."""
    (better, worse, worst, last), distances = ranked
    take(worst, better, worse)
    keep.evaluations[1]["frechet_distance"] = 0.0
    take(last)
    assert read_best(keep.folder).steps == 2
    keep.decide()
    assert_best(gan, keep, better)
    expected = {1: distances[2], 2: distances[0], 3: distances[1], 4: distances[3]}
    found = read_best(keep.folder)
    assert found == Best(2, 300, pytest.approx(expected, rel=1e-5))


def test_the_last_one_may_turn_out_to_be_the_best(gan, keep, take, ranked):
    (better, worse, worst, _), _ = ranked
    take(worst, worst, worse, better)
    for steps, lucky in ((1, 1.0), (2, 2.0), (3, 3.0), (4, 4.0)):
        keep.evaluations[steps]["frechet_distance"] = lucky
    keep.decide()
    assert_best(gan, keep, better)
    assert read_best(keep.folder).steps == 4


def test_three_candidates_are_kept(keep, take, ranked):
    weights, _ = ranked
    for steps in range(1, 5):
        take(weights[4 - steps])
        kept = sorted(int(file.stem) for file in keep.folder.candidates())
        assert kept == [1, 2, 3, 4][max(0, steps - 3) : steps]


def test_a_damaged_candidate_is_left_out(gan, keep, take, ranked, capsys):
    (better, worse, worst, last), _ = ranked
    take(worst, better, worse, last)
    file = keep.folder.candidate(3)
    file.write_bytes(file.read_bytes()[:1000])
    capsys.readouterr()
    keep.decide()
    assert_best(gan, keep, better)
    assert list(read_best(keep.folder).frechet_distances) == [1, 2, 4]
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"warning: {file} is cut short or damaged (")


def test_candidates_that_are_gone_are_not_compared(gan, keep, take, ranked):
    """Of a run without evaluations there are none at all."""
    keep.decide()
    assert not keep.folder.best.exists()
    (better, worse, _, last), _ = ranked
    for weights in (better, worse, last):
        take(weights)
    keep.folder.candidate(1).unlink()
    keep.decide()
    assert 1 not in read_best(keep.folder).frechet_distances


def test_nan_ends_the_run_and_the_best_one_stays(gan, keep, take, ranked):
    (better, *_), _ = ranked
    take(better)
    with pytest.raises(UserError, match="diverged: after 2 steps the generator draws NaN"):
        take([values * np.nan for values in better])
    assert_best(gan, keep, better)


def interval_of(tmp_path, data, *flags):
    """The interval of evaluations of a run that is about to start."""
    runs = []
    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(None):
        patch.setattr(dcgan_mnist, "train", lambda models, noise_input, run: runs.append(run))
        dcgan_mnist.main([f"--data={data}", f"--outdir={tmp_path}", *flags])
    runs[0].close()
    assert runs[0].settings.flags["evaluate_interval"] == runs[0].options.evaluate_interval
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
    monkeypatch.setattr(best, "SAMPLES", 300)
    monkeypatch.setattr(best, "SAMPLES_AT_THE_END", 400)
    new_generator, compile_model = dcgan_mnist.new_generator, dcgan_mnist.compile_model

    def trained_generator(image_size, num_labels=0, dtype="float32"):
        shipped = load_generator(ROOT / "pretrained" / "dcgan_mnist.h5", new_generator)
        generator = new_generator(image_size, num_labels, dtype)
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
    found = read_best(folder)
    assert found.steps <= 20
    assert found.frechet_distances[40] > 2 * found.frechet_distance
    *_, line = out.getvalue().splitlines()
    assert line.startswith(f"best generator: {folder.best}, of step {found.steps} (Frechet ")
    assert f"that of {folder.generator}, the last one, is " in line
    monkeypatch.undo()
    command = shlex.split(line.split("Draw with it: ")[1])
    assert command[:2] == ["python", "dcgan_mnist.py"]
    dcgan_mnist.main([*command[2:], f"--outdir={tmp_path}", "--seed=0"])
    assert (tmp_path / "test_outputs" / "00000.png").exists()


OF_2000 = "(Frechet distance 1.5 of 2,000 images"


@pytest.mark.parametrize(
    ("distances", "line"),
    [
        ({7: 1.5}, f"best generator so far: {{best}}, of step 7 {OF_2000})."),
        ({40000: 1.5}, f"best generator: {{last}}, the last one {OF_2000})."),
        (
            {7: 1.5, 40000: 2.25},
            f"best generator: {{best}}, of step 7 {OF_2000}; that of {{last}}, the last one, "
            "is 2.25).",
        ),
    ],
)
def test_the_last_line_of_a_run(gan, capsys, distances, line):
    """Of a stopped run, of one that ends with its best generator, and of one that does not."""
    _, _, run = gan.built(8)
    write_file(run.folder.best, b"")
    write_best(run.folder, Best(min(distances), 2000, distances))
    capsys.readouterr()
    _print_best(run)
    expected = line.format(best=run.folder.best, last=run.folder.generator)
    assert capsys.readouterr().out.startswith(f"{expected} Draw with it: python cgan_mnist.py ")
    shutil.rmtree(run.options.outdir)
