"""The trained generators that come with the project, and what is said of them."""

import csv
import gzip
import json

import numpy as np
import pytest

import cgan_mnist
import dcgan_mnist
from common.evaluation.classifier import classifier_for
from common.evaluation.evaluate import evaluation_inputs, generate
from common.gan.data import MNIST, checksum
from common.gan.saving import load_generator
from conftest import ROOT

PRETRAINED = ROOT / "pretrained"


def drawn(program, folder):
    """Of 2,000 images: what G was given, how they are read, and what its evaluation.json tells."""
    name = program.MODEL_NAME
    conditional = program is cgan_mnist
    generator = load_generator(PRETRAINED / f"{name}.h5", program.new_generator, conditional)
    inputs = evaluation_inputs(generator, 2000, seed=1)
    read = classifier_for(MNIST, folder).read(generate(generator, inputs))[1]
    report = json.loads((PRETRAINED / name / "evaluation.json").read_text())
    return inputs, read, report["generated"]


def test_the_cgan_draws_what_it_is_asked_for(tmp_path):
    """As often as its evaluation.json says, but for what chance makes of 2,000 images."""
    inputs, read, figures = drawn(cgan_mnist, tmp_path)
    told = figures["digit_accuracy"]
    assert told >= 0.98
    assert np.mean(read == inputs[1].argmax(axis=1)) == pytest.approx(told, abs=0.01)


def test_the_dcgan_draws_each_digit_as_often_as_told(tmp_path):
    _, read, figures = drawn(dcgan_mnist, tmp_path)
    told = [figures[f"share_of_{digit}"] for digit in range(10)]
    # a share of 0.1 of 2,000 images has a standard deviation of 0.007
    np.testing.assert_allclose(np.bincount(read, minlength=10) / 2000, told, atol=0.03)


@pytest.mark.parametrize("name", ["dcgan_mnist", "cgan_mnist"])
def test_its_files_tell_of_one_run(name):
    folder = PRETRAINED / name
    config = json.loads((folder / "config.json").read_text())
    report = json.loads((folder / "evaluation.json").read_text())
    with gzip.open(folder / "history.csv.gz", "rt") as file:
        steps = [int(row["step"]) for row in csv.DictReader(file)]
    assert steps == list(range(config["flags"]["train_steps"]))
    assert config["flags"]["seed"] == 0
    assert config["data_sha256"] == report["data_sha256"] == checksum(MNIST)
    assert report["generator"] == f"pretrained/{name}.h5"
    stage = ROOT / "docs" / "results" / name / f"{len(steps):05d}.json"
    assert json.loads(stage.read_text()) | {"generator": report["generator"]} == report
