"""The classifier that ships, and those made for other data sets."""

import re

import numpy as np
import pytest

from common.data import MNIST
from common.data.dataset import load_data, load_dataset
from common.errors import UserError
from common.evaluation import classifier
from common.evaluation.classifier import classifier_for, train_classifier
from common.evaluation.metrics import digit_accuracy
from common.gan.batches import scaled


@pytest.fixture(scope="module")
def greys(tmp_path_factory):
    """A data set to be learned in seconds: how bright are 8 x 8 pixels?"""
    rng = np.random.default_rng(0)

    def part(count):
        labels = np.arange(count) % 4
        noise = rng.integers(0, 60, (count, 8, 8))
        return (noise + 60 * labels[:, np.newaxis, np.newaxis]).astype(np.uint8), labels

    (x_train, y_train), (x_test, y_test) = part(200), part(120)
    path = tmp_path_factory.mktemp("greys") / "set.npz"
    np.savez(path, x_train=x_train, y_train=y_train, x_test=x_test, y_test=y_test)
    return path


def test_the_one_for_mnist_reads_it(tmp_path):
    (file,) = MNIST.parent.glob("classifier-*.npz")
    assert file.stat().st_size < 1e6
    images, labels = load_data(MNIST, "test")
    classifier = classifier_for(load_dataset(), tmp_path)
    features, predicted = classifier.predict(scaled(images))
    assert np.mean(predicted == labels) >= 0.993
    assert features.shape == (10_000, 128)
    assert features.dtype == np.float64
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_a_small_data_set_is_learned():
    images, labels = load_data()
    x_test, y_test = load_data(part="test")
    classifier = train_classifier(images[:300, ::2, ::2], labels[:300])
    _, predicted = classifier.predict(scaled(x_test[:1000, ::2, ::2]))
    assert digit_accuracy(predicted, y_test[:1000]) > 0.8


@pytest.mark.slow
def test_rounds_go_on_as_long_as_they_help(greys, rng):
    """A round of so few updates does not learn four greys, and nothing learns random labels."""
    images, labels = load_data(greys)
    accuracies = []
    for y in (labels, rng.permutation(labels)):
        _, predicted = train_classifier(images, y, min_updates=0).predict(scaled(images))
        accuracies.append(digit_accuracy(predicted, y))
    assert accuracies[0] > 0.95 > 0.5 > accuracies[1]


@pytest.mark.slow
def test_the_command(greys, tmp_path, capsys):
    command = [f"--data={greys}", f"--outdir={tmp_path}"]
    classifier.main(command)
    printed = capsys.readouterr().out
    share = re.search(r"it reads ([\d.]+)% of the 120 test images correctly", printed)
    assert float(share[1]) > 90  # of four classes
    (file,) = tmp_path.iterdir()
    described = "set.npz: 200 images of 8 x 8 pixels, 4 classes of 50 images"
    told = f"{described}\ntraining a classifier on {greys}, to be kept as {file}\n"
    assert printed.startswith(told)

    images, labels = load_data(greys, "test")
    kept = classifier_for(load_dataset(greys), tmp_path, may_train=False)
    _, predicted = kept.predict(scaled(images))
    assert 100 * np.mean(predicted == labels) == pytest.approx(float(share[1]), abs=0.01)

    # it is not replaced by surprise; a seed repeats it
    before = file.read_bytes()
    with pytest.raises(SystemExit) as ended:
        classifier.main([*command, "--seed=1"])
    assert ended.value.code == 2
    assert f"{file} is there already: give another, or add --overwr" in capsys.readouterr().err
    assert file.read_bytes() == before
    for seed, same in ((1, False), (0, True)):
        classifier.main([*command, f"--seed={seed}", "--overwrite"])
        assert (file.read_bytes() == before) == same


def test_where_there_is_none_and_no_time(greys, tmp_path):
    with pytest.raises(UserError, match=f"no classifier for {greys} in {tmp_path} yet: make one"):
        classifier_for(load_dataset(greys), tmp_path, may_train=False)
