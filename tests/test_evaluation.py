"""Metrics of images whose faults are known, and the programs' own evaluations."""

import contextlib
import csv
import io
import json
import shutil

import keras
import numpy as np
import pytest
from matplotlib import image as mpl_image

import cgan_mnist
from common.data import MNIST
from common.data.dataset import load_data, load_dataset
from common.evaluation.classifier import classifier_for
from common.evaluation.evaluate import Evaluator, evaluate
from common.evaluation.metrics import digit_accuracy, prdc
from common.gan.batches import scaled
from common.gan.saving import save_generator
from common.training.callbacks.best import SAMPLES
from conftest import give_classifier, randomized


@pytest.fixture(scope="module")
def evaluator(tmp_path_factory) -> Evaluator:
    """Of the first 2,000 test images, which is enough and fast."""
    images, labels = load_data(MNIST, "test")
    classifier = classifier_for(load_dataset(), tmp_path_factory.mktemp("none"))
    return Evaluator(classifier, images[:2000], labels[:2000])


@pytest.fixture(scope="module")
def digits() -> tuple[np.ndarray, np.ndarray]:
    images, labels = load_data()
    return scaled(images[:4000]), labels[:4000]


def found(evaluator, images) -> dict[str, float]:
    features, predicted = evaluator.classifier.predict(images)
    return evaluator.metrics(features, predicted) | prdc(evaluator.features, features)


@pytest.fixture(scope="module")
def healthy(evaluator, digits) -> dict[str, float]:
    """Of real images, against which the rest is held."""
    return found(evaluator, digits[0][:2000])


def test_real_images_are_good(healthy):
    assert healthy["frechet_distance"] < 0.5
    assert min(healthy[name] for name in ("precision", "recall", "coverage")) > 0.9
    assert healthy["density"] > 0.8
    assert healthy["distance_from_data"] < 0.05


def test_a_class_that_is_missing(evaluator, digits, healthy):
    images, labels = digits
    missing = found(evaluator, images[labels != 3][:2000])
    assert missing["share_of_3"] < 0.005
    assert missing["distance_from_uniform"] == pytest.approx(0.1, abs=0.02)
    assert missing["distance_from_data"] > healthy["distance_from_data"] + 0.05
    assert missing["frechet_distance"] > 4 * healthy["frechet_distance"]
    # a tenth of the real images is no longer covered; those that are there are as good as ever
    for name in ("recall", "coverage"):
        assert healthy[name] - missing[name] == pytest.approx(0.09, abs=0.03)
    assert missing["precision"] == pytest.approx(healthy["precision"], abs=0.03)


def test_copies_of_training_images_are_suspiciously_near(evaluator, digits):
    images, labels = digits
    train = (images[:3000, :, :, 0] * 255).round().astype(np.uint8)
    new, _, far = evaluate(evaluator, train, images[3000:3500], labels[3000:3500], seed=0)
    copied, pairs, near = evaluate(evaluator, train, images[:500], labels[:500], seed=0)
    assert new["nearest_training_image"]["suspiciously_near"] < 0.05
    assert copied["nearest_training_image"]["suspiciously_near"] == 1
    assert near["generated"].max() < 1e-2 < far["generated"].min()
    np.testing.assert_array_equal(near["test images"], far["test images"])
    np.testing.assert_allclose(pairs[0], images[:10], atol=1e-6)
    np.testing.assert_allclose(pairs[0], pairs[1], atol=1e-6)


def test_digits_that_were_asked_for(evaluator, digits):
    """Real test images with their true labels score what the classifier does, shuffled ones 10%."""
    labels = load_data(MNIST, "test")[1][:2000]
    train = (digits[0][:500, :, :, 0] * 255).astype(np.uint8)
    report, _, _ = evaluate(evaluator, train, evaluator.images, labels, seed=0)
    assert report["generated"]["digit_accuracy"] == evaluator.accuracy > 0.98
    assert np.trace(report["confusion_matrix"]) / 2000 == evaluator.accuracy
    rows = np.sum(report["confusion_matrix"], axis=1)
    np.testing.assert_array_equal(rows, np.bincount(labels))
    third = np.array(report["confusion_matrix"])[3]
    assert report["digit_accuracy_of_each"][3] == third[3] / third.sum()
    assert report["generated"]["frechet_distance"] == pytest.approx(0, abs=1e-6)

    shuffled = np.random.default_rng(0).permutation(labels)
    features, predicted = evaluator.classifier.predict(evaluator.images)
    accuracy = evaluator.metrics(features, predicted, shuffled)["digit_accuracy"]
    assert accuracy == digit_accuracy(predicted, shuffled) == pytest.approx(0.1, abs=0.03)


def run(gan, *flags):
    keras.utils.clear_session()
    gan.program.main([str(flag) for flag in flags])


@pytest.fixture(scope="module")
def part_of_mnist(tmp_path_factory):
    """A folder with 3,000 training and 1,000 test images, and MNIST's classifier for them."""
    folder = tmp_path_factory.mktemp("mnist")
    (x_train, y_train), (x_test, y_test) = load_data(), load_data(MNIST, "test")
    train = x_train[:3000], y_train[:3000]
    test = {"x_test": x_test[:1000], "y_test": y_test[:1000]}
    np.savez(folder / "set.npz", x_train=train[0], y_train=train[1], **test)
    give_classifier(folder, *train)
    return folder


@pytest.mark.parametrize(
    ("gan", "whole"),
    [("dcgan", False), pytest.param("cgan", True, marks=pytest.mark.slow)],
    indirect=["gan"],
)
def test_the_programs_table(gan, part_of_mnist, capsys, whole):
    """The same 150 images, evaluated twice: the same table, in files beside the first ones."""
    generator = randomized(gan.program.new_generator(28, gan.num_labels))
    folder = part_of_mnist
    save_generator(generator, folder / "g.h5")
    flags = ["--evaluate", "--samples=150", "--seed=5", f"--outdir={folder}"]
    flags += [] if whole else [f"--data={folder / 'set.npz'}"]
    shutil.rmtree(folder / "test_outputs", ignore_errors=True)
    capsys.readouterr()
    files, printed = [], []
    for name in ("evaluation", "evaluation-1"):
        run(gan, "--generator", folder / "g.h5", *flags)
        files.append((folder / "test_outputs" / f"{name}.json").read_bytes())
        printed.append(capsys.readouterr().out.replace(name, "evaluation"))
    assert files[0] == files[1]
    assert printed[0] == printed[1]
    assert "Frechet distance" in printed[0]
    assert ("Digit accuracy" in printed[0]) == bool(gan.num_labels)

    report = json.loads(files[0])
    assert (report["seed"], report["samples"], report["warning"]) == (5, 150, None)
    assert report["test_images"] == (10_000 if whole else 1000)
    assert report["classifier_accuracy"] >= (0.993 if whole else 0.98)
    assert ("confusion_matrix" in report) == bool(gan.num_labels)
    # what a randomized generator draws are not digits
    assert report["generated"]["precision"] < 0.1 < 0.8 < report["training"]["precision"]
    picture = mpl_image.imread(folder / "test_outputs" / "evaluation.png")
    assert picture.shape[:2] == (650, 1200)


@pytest.fixture(scope="module")
def own_data(tmp_path_factory, small_data):
    """A data set of images of 8 x 8 pixels, alone in its folder."""
    images, labels = small_data
    rng = np.random.default_rng(1)
    test = {"x_test": rng.integers(0, 256, (100, 8, 8), np.uint8), "y_test": np.arange(100) % 10}
    file = tmp_path_factory.mktemp("own") / "set.npz"
    np.savez(file, x_train=images, y_train=labels, **test)
    return file


def trained(gan, own_data, folder, steps):
    """The output of a run, and the rows of history.csv with evaluations, by the steps taken."""
    give_classifier(folder, *load_data(own_data))
    flags = [f"--data={own_data}", "--seed=1", "--batch-size=4", "--save-interval=4"]
    flags += ["--evaluate-interval=3", "--engine=compiled", "--no-show", f"--outdir={folder}"]
    with contextlib.redirect_stdout(io.StringIO()) as out:
        run(gan, *flags, f"--train-steps={steps}")
    with (folder / gan.name / "history.csv").open() as file:
        rows = [*csv.DictReader(file)]
    assert len(rows) == steps
    return out.getvalue(), {int(row["step"]) + 1: row for row in rows if row["frechet_distance"]}


@pytest.mark.slow
def test_metrics_on_the_way(gan, own_data, tmp_path):
    """They are those of best.h5; and after three steps, of the generator after three steps.

    A shorter run ends with that generator. Each is evaluated by hand.
    """
    printed, rows = trained(gan, own_data, tmp_path / "long", 7)
    trained(gan, own_data, tmp_path / "short", 3)
    assert "after 3 steps: frechet distance" in printed
    assert list(rows) == [3, 6, 7]
    assert ("digit_accuracy" in rows[3]) == bool(gan.num_labels)
    assert sum(float(rows[3][f"share_of_{i}"]) for i in range(10)) == pytest.approx(1)
    best = min(rows.values(), key=lambda row: float(row["frechet_distance"]))
    names = ["frechet_distance", "distance_from_data", *(["digit_accuracy"] * bool(gan.num_labels))]
    for file, row in ((f"long/{gan.name}/best.h5", best), (f"short/{gan.name}.h5", rows[3])):
        folder = (tmp_path / file).parent
        give_classifier(folder, *load_data(own_data))
        flags = [f"--data={own_data}", "--seed=1", f"--samples={SAMPLES}", f"--outdir={folder}"]
        run(gan, "-g", tmp_path / file, "--evaluate", *flags)
        report = json.loads((folder / "test_outputs" / "evaluation.json").read_text())
        assert "reads only" in report["warning"]  # nothing learns to read random images
        for name in names:
            assert float(row[name]) == pytest.approx(report["generated"][name], rel=1e-4)


@pytest.fixture(scope="module")
def files(own_data, tmp_path_factory):
    """A folder with two generators, and data sets that they cannot be evaluated with."""
    folder = tmp_path_factory.mktemp("files")
    save_generator(cgan_mnist.new_generator(28, 10), folder / "g.h5")
    save_generator(cgan_mnist.new_generator(8, 3), folder / "three.h5")
    (folder / "small.npz").write_bytes(own_data.read_bytes())
    images = np.random.default_rng(0).integers(0, 256, (40, 28, 28), np.uint8)
    train = {"x_train": images, "y_train": np.arange(40) % 10}
    test = {"x_test": images[:20], "y_test": train["y_train"][:20]}
    np.savez(folder / "train_only.npz", **train)
    np.savez(folder / "few.npz", **train, **test)
    return folder


@pytest.mark.parametrize(
    ("generator", "data", "message"),
    [
        ("g", "train_only.npz", "data set train_only.npz has no array x_test"),
        ("g", "small.npz", "images of small.npz have 8 x 8 pixels, and the generator draws 28 x"),
        ("g", "few.npz", "few.npz has 20 test images, an evaluation needs at least 100"),
        ("three", "small.npz", "small.npz has 10 classes, and the generator draws 3"),
    ],
)
def test_mistakes(generator, data, message, files, fails, monkeypatch):
    monkeypatch.chdir(files)
    assert message in fails(cgan_mnist, "-g", f"{generator}.h5", "--evaluate", "--data", data)
