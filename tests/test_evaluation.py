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

from common.data.dataset import MNIST, load_data
from common.evaluation.classifier import classifier_for, digit_accuracy
from common.evaluation.evaluate import evaluate
from common.evaluation.evaluator import Evaluator, evaluation_inputs
from common.evaluation.neighbours import prdc
from common.gan.batches import RealImages, generate, scaled
from common.gan.saving import save_generator
from conftest import assert_same_run, give_classifier, randomized


@pytest.fixture(scope="module")
def evaluator(tmp_path_factory) -> Evaluator:
    """Of the first 2,000 test images, which is enough and fast."""
    images, labels = load_data(MNIST, "test")
    classifier = classifier_for(load_data(), MNIST, tmp_path_factory.mktemp("none"))
    return Evaluator(classifier, images[:2000], labels[:2000])


@pytest.fixture(scope="module")
def digits() -> tuple[np.ndarray, np.ndarray]:
    images, labels = load_data()
    return scaled(images[:4000]), labels[:4000]


def found(evaluator, images) -> dict[str, float]:
    features, predicted = evaluator.classifier.predict(images)
    metrics = evaluator.metrics(features, predicted)
    return metrics | prdc(evaluator.features, features, 5)._asdict()


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


def test_one_class_alone(evaluator, digits, healthy):
    images, labels = digits
    alone = found(evaluator, images[labels == 3])
    assert alone["share_of_3"] > 0.99
    assert alone["distance_from_uniform"] == pytest.approx(0.9, abs=0.01)
    assert alone["frechet_distance"] > 100 * healthy["frechet_distance"]
    for name in ("recall", "coverage"):
        assert alone[name] == pytest.approx(0.1, abs=0.03)
    assert alone["precision"] > 0.8


def test_noise(evaluator, digits, healthy):
    rng = np.random.default_rng(0)
    noise = rng.normal(0, 0.1, (2000, 28, 28, 1)).astype(np.float32)
    little, much = (found(evaluator, (digits[0][:2000] + n * noise).clip(0, 1)) for n in (1, 3))
    assert little["frechet_distance"] > 50 * healthy["frechet_distance"]
    assert much["frechet_distance"] > 2 * little["frechet_distance"]
    assert little["precision"] < 0.3
    for name in ("precision", "recall", "density", "coverage"):
        assert much[name] < little[name] < healthy[name]


def test_the_same_images_again_and_again(evaluator, digits, healthy):
    """Mode collapse of the kind that a class histogram does not show."""
    few = found(evaluator, np.repeat(digits[0][:50], 40, axis=0))
    assert few["precision"] == pytest.approx(healthy["precision"], abs=0.05)
    assert few["recall"] < 0.01
    assert few["coverage"] < 0.2
    assert few["frechet_distance"] > 4 * healthy["frechet_distance"]


def test_copies_of_training_images_are_suspiciously_near(evaluator, digits):
    images, labels = digits
    train = RealImages((images[:3000, :, :, 0] * 255).round().astype(np.uint8))
    new, near_new = evaluate(evaluator, train, images[3000:3500], labels[3000:3500], seed=0)
    copied, near_copied = evaluate(evaluator, train, images[:500], labels[:500], seed=0)
    assert new["nearest_training_image"]["suspiciously_near"] < 0.05
    assert copied["nearest_training_image"]["suspiciously_near"] == 1
    assert near_copied.distances.max() < 1e-2 < near_new.distances.min()
    np.testing.assert_allclose(near_copied.pairs[0], near_copied.pairs[1], atol=1e-6)


def test_digits_that_were_asked_for(evaluator, digits):
    """Real test images with their true labels score what the classifier does, shuffled ones 10%."""
    labels = load_data(MNIST, "test")[1][:2000]
    train = RealImages((digits[0][:500, :, :, 0] * 255).astype(np.uint8))
    report, _ = evaluate(evaluator, train, evaluator.images, labels, seed=0)
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


def test_inputs_in_turn(gan):
    generator = gan.program.new_generator(8, gan.num_labels)
    noise, *labels = inputs = evaluation_inputs(generator, 300, seed=1)
    assert noise.shape == (300, 100)
    for one_hot in labels:
        np.testing.assert_array_equal(one_hot.argmax(axis=1), np.arange(300) % 10)
    assert len(inputs) == len(generator.inputs)
    images = generate(randomized(generator), inputs)
    expected = generator.predict(inputs, verbose=0)
    np.testing.assert_allclose(images, expected, atol=1e-5)


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


@pytest.mark.slow
def test_the_programs_table(gan, part_of_mnist, capsys):
    report = evaluated_twice(gan, part_of_mnist, [f"--data={part_of_mnist / 'set.npz'}"], capsys)
    assert report["test_images"] == 1000
    assert report["classifier_accuracy"] >= 0.98
    assert report["warning"] is None
    assert report["training"]["precision"] > 0.8


@pytest.mark.slow
@pytest.mark.parametrize("gan", ["cgan"], indirect=True)
def test_the_programs_table_of_mnist(gan, tmp_path, capsys):
    report = evaluated_twice(gan, tmp_path, [], capsys)
    assert report["test_images"] == 10_000
    assert report["classifier_accuracy"] >= 0.993
    assert report["warning"] is None
    assert report["training"]["precision"] > 0.9


def evaluated_twice(gan, folder, flags, capsys):
    """Evaluates the same 150 images twice; gives the report, which is the same each time."""
    generator = randomized(gan.program.new_generator(28, gan.num_labels))
    save_generator(generator, folder / "g.h5")
    files, printed = [], []
    flags = ["--evaluate", "--samples=150", "--seed=5", f"--outdir={folder}", *flags]
    for _ in range(2):
        shutil.rmtree(folder / "test_outputs", ignore_errors=True)
        capsys.readouterr()
        run(gan, "--generator", folder / "g.h5", *flags)
        files.append((folder / "test_outputs" / "evaluation.json").read_bytes())
        printed.append(capsys.readouterr().out)
    assert files[0] == files[1]
    assert printed[0] == printed[1]
    assert "Frechet distance" in printed[0]
    assert ("Digit accuracy" in printed[0]) == bool(gan.num_labels)

    report = json.loads(files[0])
    assert report["seed"] == 5
    assert report["samples"] == 150
    assert ("confusion_matrix" in report) == bool(gan.num_labels)
    # nobody takes the randomized generator's images for digits
    assert report["generated"]["precision"] < 0.1
    picture = mpl_image.imread(folder / "test_outputs" / "evaluation.png")
    assert picture.shape[0] > 500
    first = generate(generator, evaluation_inputs(generator, 150, seed=5))[0, :, :, 0]
    shown = picture[56 : 56 + 84 : 3, 116 : 116 + 84 : 3, 0]
    np.testing.assert_allclose(shown, first, atol=0.51 / 255)
    return report


@pytest.fixture(scope="module")
def own_data(tmp_path_factory, small_data):
    """A data set of images of 8 x 8 pixels, alone in its folder."""
    images, labels = small_data
    rng = np.random.default_rng(1)
    test = {"x_test": rng.integers(0, 256, (100, 8, 8), np.uint8), "y_test": np.arange(100) % 10}
    file = tmp_path_factory.mktemp("own") / "set.npz"
    np.savez(file, x_train=images, y_train=labels, **test)
    return file


@pytest.fixture(scope="module")
def classifier_file(own_data, small_data):
    """A classifier for that data set, beside it."""
    return give_classifier(own_data.parent, *small_data)


def start(own_data):
    flags = [f"--data={own_data}", "--seed=1", "--batch-size=4", "--save-interval=4"]
    return [*flags, "--evaluate-interval=3", "--engine=compiled", "--no-show"]


@pytest.fixture(scope="module")
def whole_run(gan, own_data, small_data, tmp_path_factory):
    """`(folder, output)` of a run of seven steps that nothing interrupts."""
    folder = tmp_path_factory.mktemp("whole")
    give_classifier(folder, *small_data)
    with contextlib.redirect_stdout(io.StringIO()) as out:
        run(gan, *start(own_data), "--train-steps=7", f"--outdir={folder}")
    return folder, out.getvalue()


def evaluations(gan, folder):
    """The rows of history.csv in which evaluations are, by the number of steps taken."""
    with (folder / gan.name / "history.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 7
    return {int(row["step"]) + 1: row for row in rows if row["frechet_distance"]}


def assert_evaluated_by_hand(gan, generator, row, own_data, classifier_file, tmp_path):
    """A generator's own evaluation gives the metrics of the evaluation on the way."""
    (tmp_path / classifier_file.name).write_bytes(classifier_file.read_bytes())
    flags = [f"--data={own_data}", "--seed=1", "--samples=2000", f"--outdir={tmp_path}"]
    run(gan, "-g", generator, "--evaluate", *flags)
    report = json.loads((tmp_path / "test_outputs" / "evaluation.json").read_text())
    # nothing learns to read random images
    assert "reads only" in report["warning"]
    names = ["frechet_distance", "distance_from_data", *(["digit_accuracy"] * bool(gan.num_labels))]
    for name in names:
        assert float(row[name]) == pytest.approx(report["generated"][name], rel=1e-4)


@pytest.mark.slow
def test_metrics_on_the_way(gan, whole_run, own_data, classifier_file, tmp_path):
    """They are printed and in the history, and the best generator is the one that has them."""
    folder, printed = whole_run
    assert "after 3 steps: frechet distance" in printed
    rows = evaluations(gan, folder)
    assert list(rows) == [3, 6, 7]
    assert ("digit_accuracy" in rows[3]) == bool(gan.num_labels)
    assert sum(float(rows[3][f"share_of_{i}"]) for i in range(10)) == pytest.approx(1)
    best = min(rows.values(), key=lambda row: float(row["frechet_distance"]))
    generator = folder / gan.name / "best.h5"
    assert_evaluated_by_hand(gan, generator, best, own_data, classifier_file, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("gan", ["cgan"], indirect=True)
def test_metrics_of_a_run_that_was_interrupted(
    gan, whole_run, own_data, classifier_file, tmp_path, capsys
):
    """They are the same; and those after three steps are of the generator after three steps.

    The first part of the run ends with that generator.
    """
    whole, _ = whole_run
    cut, by_hand = tmp_path / "cut", tmp_path / "by_hand"
    for folder in (cut, by_hand):
        folder.mkdir()
    (cut / classifier_file.name).write_bytes(classifier_file.read_bytes())
    run(gan, *start(own_data), "--train-steps=3", f"--outdir={cut}")
    row = evaluations(gan, whole)[3]
    generator = cut / f"{gan.name}.h5"
    assert_evaluated_by_hand(gan, generator, row, own_data, classifier_file, by_hand)
    # the grid of the earlier end, which the whole run does not have
    (cut / gan.name / "00003.png").unlink()
    capsys.readouterr()
    run(gan, "--resume", "--train-steps=7", f"--outdir={cut}")
    printed, warnings = capsys.readouterr()
    assert "warning: the classifier reads only" in warnings
    assert "after 3 steps: frechet" not in printed
    assert "after 6 steps: frechet" in printed
    assert_same_run(whole, cut, gan.name)


@pytest.fixture(scope="module")
def files(gan, own_data, tmp_path_factory):
    """A folder with a generator, and data sets that it cannot be evaluated with."""
    folder = tmp_path_factory.mktemp("files")
    save_generator(gan.program.new_generator(28, gan.num_labels), folder / "g.h5")
    (folder / "small.npz").write_bytes(own_data.read_bytes())
    images = np.random.default_rng(0).integers(0, 256, (40, 28, 28), np.uint8)
    train = {"x_train": images, "y_train": np.arange(40) % 10}
    np.savez(folder / "train_only.npz", **train)
    test = {"x_test": images[:20], "y_test": train["y_train"][:20]}
    np.savez(folder / "few.npz", **train, **test)
    return folder


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--samples=99"], "argument --samples: 99 given, --evaluate needs at least 100"),
        (["--data=train_only.npz"], "data set train_only.npz has no array x_test"),
        (["--data=small.npz"], "have 8 x 8 pixels, and the generator draws 28 x 28"),
        (["--data=few.npz"], "few.npz has 20 test images, an evaluation needs at least 100"),
        (["--data=nothing.npz"], "data set nothing.npz does not exist"),
        (["--digit=8"], "-d/--digit: has no effect together with --evaluate"),
        (["--train-steps=8"], "argument --train-steps: is for training"),
    ],
)
def test_mistakes(flags, message, gan, files, monkeypatch, capsys):
    if gan.num_labels == 0 and flags == ["--digit=8"]:
        message = "unrecognized arguments: --digit=8"
    monkeypatch.chdir(files)
    capsys.readouterr()
    with pytest.raises(SystemExit) as ended:
        run(gan, "-g", "g.h5", "--evaluate", *flags)
    assert ended.value.code == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1


def test_other_classes_than_the_data_set_has(
    gan, own_data, classifier_file, tmp_path, monkeypatch, capsys
):
    """Of a CGAN alone: a DCGAN draws no classes."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / classifier_file.name).write_bytes(classifier_file.read_bytes())
    save_generator(gan.program.new_generator(8, gan.num_labels and 3), tmp_path / "g.h5")
    flags = ["-g", "g.h5", "--evaluate", "--samples=100", f"--data={own_data}"]
    if not gan.num_labels:
        run(gan, *flags)
        assert (tmp_path / "test_outputs" / "evaluation.json").exists()
        return
    with pytest.raises(SystemExit):
        run(gan, *flags)
    assert "has 10 classes, and the generator draws 3" in capsys.readouterr().err


def test_no_test_images_is_found_out_before_the_first_step(gan, tmp_path, small_data, capsys):
    np.savez(tmp_path / "set.npz", x_train=small_data[0], y_train=small_data[1])
    with pytest.raises(SystemExit) as ended:
        run(gan, f"--data={tmp_path / 'set.npz'}", "--evaluate-interval=5", f"--outdir={tmp_path}")
    assert ended.value.code == 2
    assert "has no array x_test" in capsys.readouterr().err
    assert not (tmp_path / gan.name / "config.json").exists()
