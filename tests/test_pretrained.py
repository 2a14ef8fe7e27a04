"""The trained generators that come with the project, against their published evaluations."""

import csv
import gzip
import json

import numpy as np
import pytest

import cgan_mnist
import dcgan_mnist
from common.data.dataset import load_dataset
from common.evaluation.classifier import classifier_for
from common.gan.batches import LatentSampler, generate
from common.gan.saving import load_generator
from conftest import ROOT

PRETRAINED = ROOT / "pretrained"


@pytest.fixture(scope="module")
def train_part():
    return load_dataset()


def evaluated(program, train_part, folder):
    """Of 2,000 images: G's inputs, the predicted labels, and the metrics of evaluation.json."""
    name = program.PROGRAM.name
    generator = load_generator(PRETRAINED / f"{name}.h5", program.new_generator)
    inputs = LatentSampler.of(generator).draw_in_turn(np.random.default_rng(1), 2000)
    classifier = classifier_for(train_part, folder, may_train=False)
    _, predicted = classifier.predict(generate(generator, inputs))
    report = json.loads((PRETRAINED / name / "evaluation.json").read_text())
    return inputs, predicted, report["generated"]


def test_the_cgan_draws_the_requested_digits(train_part, tmp_path):
    """As often as its evaluation.json says, within the sampling error of 2,000 images."""
    inputs, predicted, published = evaluated(cgan_mnist, train_part, tmp_path)
    accuracy = published["digit_accuracy"]
    assert accuracy >= 0.98
    assert np.mean(predicted == inputs[1].argmax(axis=1)) == pytest.approx(accuracy, abs=0.01)


def test_the_dcgan_draws_each_digit_as_often_as_published(train_part, tmp_path):
    _, predicted, published = evaluated(dcgan_mnist, train_part, tmp_path)
    shares = [published[f"share_of_{digit}"] for digit in range(10)]
    # a share of 0.1 of 2,000 images has a standard deviation of 0.007
    np.testing.assert_allclose(np.bincount(predicted, minlength=10) / 2000, shares, atol=0.03)


@pytest.mark.parametrize("name", ["dcgan_mnist", "cgan_mnist"])
def test_its_files_describe_one_run(train_part, name):
    folder = PRETRAINED / name
    config = json.loads((folder / "config.json").read_text())
    report = json.loads((folder / "evaluation.json").read_text())
    with gzip.open(folder / "history.csv.gz", "rt") as file:
        steps = [int(row["step"]) for row in csv.DictReader(file)]
    assert steps == list(range(config["flags"]["train_steps"]))
    assert config["flags"]["seed"] == 0
    assert config["data_sha256"] == report["data_sha256"] == train_part.sha256
    assert report["generator"] == f"pretrained/{name}.h5"
    best = folder / "best.json"  # of a generator that is not the last one
    drawn = json.loads(best.read_text())["steps"] if best.exists() else len(steps)
    stage = ROOT / "docs" / "results" / name / f"{drawn:05d}.json"
    assert json.loads(stage.read_text()) | {"generator": report["generator"]} == report
