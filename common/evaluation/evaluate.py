"""Evaluating a generator: its images against the test images of a data set.

How far are they from the test images, in the features of a classifier? Which digits are there, and
are they the requested ones? Are they copies of training images?
"""

from __future__ import annotations

import json
import secrets
from typing import Any

import keras
import numpy as np
from sklearn.metrics import confusion_matrix

from common.data.dataset import checksum, load_data, name_of
from common.device import seed_everything
from common.evaluation.evaluator import Evaluator, evaluation_inputs, make_evaluator
from common.evaluation.neighbours import nearest, prdc
from common.evaluation.report import NearestTrainingImages, plot_report, table
from common.files import check_writable, new_file, write_file
from common.gan.batches import RealImages, check_finite, generate, labels_of, scaled
from common.images import resolve_show, show_picture
from common.options import Options

# The number of neighbours that define a neighbourhood, as in Naeem et al. 2020.
K = 5
# Images for an evaluation.
SAMPLES = 10_000
# Images whose nearest training image is searched, which is the most expensive part.
SAMPLES_FOR_NEAREST = 2_000


def evaluate_generator(generator: keras.Model, options: Options) -> None:
    """Evaluates a trained generator: a table, `evaluation.json`, and a picture beside it.

    Raises:
        UserError: The generator draws NaN, the files cannot be written, or as `make_evaluator`.
    """
    file = options.outdir / "test_outputs" / "evaluation.json"
    check_writable(file)
    show = resolve_show(options.show)
    train_part = load_data(options.data, image_size=options.image_size)
    evaluator = make_evaluator(generator, options, train_part)
    # a random seed is drawn here, so that the report can name it
    seed = secrets.randbelow(2**32) if options.seed is None else options.seed
    seed_everything(seed)
    inputs = evaluation_inputs(generator, options.samples or SAMPLES, seed)
    images = generate(generator, inputs)
    check_finite(images, options.generator)
    train = RealImages(train_part[0])
    metrics, found = evaluate(evaluator, train, images, labels_of(inputs), seed)
    report = {
        "generator": str(options.generator),
        "data": name_of(options.data),
        "data_sha256": checksum(*train_part),
        "seed": seed,
    } | metrics

    print(table(report))
    with new_file(file, ".png") as file:
        write_file(file, (json.dumps(report, indent=2) + "\n").encode())
        picture = file.with_suffix(".png")
        plot_report(report, found, picture)
    print(f"\nwritten to {file} and {picture}")
    if show:
        show_picture(picture)


def evaluate(
    evaluator: Evaluator,
    train: RealImages,
    images: np.ndarray,
    requested: np.ndarray | None,
    seed: int,
) -> tuple[dict[str, Any], NearestTrainingImages]:
    """Computes all metrics of some images, and for comparison those of as many training images.

    Args:
        evaluator: Knows the test images.
        train: The training images.
        images: float32 of shape (count, size, size, 1) in [0, 1].
        requested: The labels that were asked for, int64 of shape (count,), if any were.
        seed: Chooses the training images.

    Returns:
        The metrics, as JSON can hold them, and the nearest training images.
    """
    features, predicted = evaluator.classifier.predict(images)
    count = min(len(images), len(train.images))
    chosen = np.random.default_rng(seed).permutation(len(train.images))[:count]
    train_features, train_predicted = evaluator.classifier.predict(train.take(chosen)[0])
    report: dict[str, Any] = {
        "samples": len(images),
        "test_images": len(evaluator.images),
        "training_images": count,
        "classifier_accuracy": evaluator.accuracy,
        "warning": evaluator.warning,
        "k": K,
        "generated": evaluator.metrics(features, predicted, requested)
        | prdc(evaluator.features, features, K)._asdict(),
        "training": evaluator.metrics(train_features, train_predicted)
        | prdc(evaluator.features, train_features, K)._asdict(),
    }
    if requested is not None:
        labels = np.arange(evaluator.num_labels)
        matrix = confusion_matrix(requested, predicted, labels=labels)
        report["confusion_matrix"] = matrix.tolist()  # rows: requested, columns: predicted
        report["digit_accuracy_of_each"] = (np.diag(matrix) / matrix.sum(axis=1).clip(1)).tolist()
    everything = scaled(train.images)
    indexes, distances = nearest(images[:SAMPLES_FOR_NEAREST], everything)
    _, test_distances = nearest(evaluator.images[:SAMPLES_FOR_NEAREST], everything)
    report["nearest_training_image"] = {
        "generated": _quantiles(distances),
        "test": _quantiles(test_distances),
        "suspiciously_near": float(np.mean(distances < np.quantile(test_distances, 0.01))),
    }
    pairs = np.stack([images[:10], everything[indexes[:10]]])
    return report, NearestTrainingImages(pairs, distances, test_distances)


def _quantiles(distances: np.ndarray) -> dict[str, float]:
    shares = (0.01, 0.05, 0.25, 0.5, 0.75, 0.95, 0.99)
    values = np.quantile(distances, shares).tolist()
    return {f"{share:.0%}": value for share, value in zip(shares, values, strict=True)}
