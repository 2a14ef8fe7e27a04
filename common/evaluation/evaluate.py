"""Evaluating a generator: its images against the test images of a data set.

How far are they from the test images, in the features of a classifier? Which digits are there, and
are they the requested ones? Are they copies of training images?
"""

import json
from pathlib import Path
from typing import Any

import keras
import numpy as np

from common.data.dataset import DataSet, load_dataset
from common.device import seed_everything
from common.errors import UserError
from common.evaluation.classifier import Classifier, classifier_for
from common.evaluation.metrics import (
    K,
    digit_accuracy,
    frechet_distance,
    nearest,
    prdc,
    total_variation,
)
from common.evaluation.report import plot_report, table
from common.files import check_writable, free_file, write_file
from common.gan.batches import LatentSampler, generate, labels_of, scaled
from common.images import resolve_show, show_picture
from common.options import MIN_SAMPLES, Options

# Images for an evaluation.
SAMPLES = 10_000
# Images whose nearest training image is searched for, which takes longest.
SAMPLES_FOR_NEAREST = 2_000
# A classifier with a lower accuracy makes poor metrics.
_GOOD_CLASSIFIER = 0.9


def evaluate_generator(generator: keras.Model, options: Options) -> None:
    """Evaluates a trained generator: a table, `evaluation.json`, and a picture beside it."""
    import sklearn  # noqa: F401  # if it is missing, now

    file = options.outdir / "test_outputs" / "evaluation.json"
    check_writable(file)
    show = resolve_show(options.show)
    data = load_dataset(options.data, "train", options.image_size)
    test = load_dataset(options.data, "test", options.image_size)
    print(data, flush=True)
    evaluator = make_evaluator(generator, data, test, options.outdir)
    rng = seed_everything(options.seed)
    inputs = LatentSampler.of(generator).draw_in_turn(rng, options.samples or SAMPLES)
    images, requested = generate(generator, inputs), labels_of(inputs)
    metrics, pairs, distances = evaluate(evaluator, data.images, images, requested, options.seed)
    report = {
        "generator": str(options.generator),
        "data": options.data_name,
        "data_sha256": data.sha256,
        "seed": options.seed,
        **({"class_names": data.names} if data.names else {}),
    } | metrics

    print(table(report))
    file = free_file(file, ".png")
    picture = file.with_suffix(".png")
    write_file(file, (json.dumps(report, indent=2) + "\n").encode())
    write_file(picture, plot_report(report, pairs, distances))
    print(f"\nwritten to {file} and {picture}")
    if show:
        show_picture(picture)


class Evaluator:
    """Compares images with the test images of a data set, by metrics that are fast to compute.

    Args:
        classifier: A classifier that was trained on the data set's training images.
        images: The test images, uint8 of shape (N, size, size).
        labels: Their labels, int64 of shape (N,).

    Attributes:
        images: The test images, float32 of shape (N, size, size, 1) in [0, 1].
        features: The classifier's features of the test images: shape (N, 128).
        accuracy: The classifier's accuracy on them: no generator is expected to do better.
        class_histogram: The number of them in each class: shape (num_labels,).
    """

    def __init__(self, classifier: Classifier, images: np.ndarray, labels: np.ndarray) -> None:
        self.classifier = classifier
        self.images = scaled(images)
        self.features, predicted = classifier.predict(self.images)
        self.accuracy = digit_accuracy(predicted, labels)
        self.class_histogram = np.bincount(labels, minlength=classifier.num_labels)

    @property
    def warning(self) -> str | None:
        """One line on a classifier that reads the test images badly; None if it reads them well."""
        if self.accuracy >= _GOOD_CLASSIFIER:
            return None
        return (
            f"the classifier reads only {self.accuracy:.0%} of the test images correctly, so "
            "metrics say little: more training images with right labels make a better one"
        )

    def metrics(
        self, features: np.ndarray, predicted: np.ndarray, requested: np.ndarray | None = None
    ) -> dict[str, float]:
        """Computes the metrics of some images.

        `features` and `predicted` are what the classifier gives for them, `requested` the labels
        that the generator was asked for, int64 of shape (count,).
        """
        counts = np.bincount(predicted, minlength=self.classifier.num_labels)
        metrics = {"frechet_distance": frechet_distance(self.features, features)}
        if requested is not None:
            metrics["digit_accuracy"] = digit_accuracy(predicted, requested)
        metrics["distance_from_uniform"] = total_variation(counts, np.ones_like(counts))
        metrics["distance_from_data"] = total_variation(counts, self.class_histogram)
        shares = {f"share_of_{i}": n / len(predicted) for i, n in enumerate(counts.tolist())}
        return metrics | shares


def make_evaluator(
    generator: keras.Model, data: DataSet, test: DataSet, outdir: Path, may_train: bool = True
) -> Evaluator:
    """The evaluator of the two parts of a data set for a generator.

    Other arguments are those of `classifier_for`.
    """
    assert test.labels is not None
    drawn = generator.outputs[0].shape[1]
    for part, size in {"training": data.image_size, "test": test.image_size}.items():
        if size != drawn:
            raise UserError(
                f"argument --data: the {part} images of {data.path} have {size} x {size} pixels, "
                f"and the generator draws {drawn} x {drawn}: give the data set that it was trained "
                f"on, or add --image-size {drawn}"
            )
    if len(test.images) < MIN_SAMPLES:
        raise UserError(
            f"argument --data: {data.path} has {len(test.images)} test images, an evaluation needs "
            f"at least {MIN_SAMPLES}: add more, or leave evaluations out (--evaluate-interval 0)"
        )
    num_labels = LatentSampler.of(generator).num_labels
    if num_labels not in (0, data.num_labels):
        raise UserError(
            f"argument --data: {data.path} has {data.num_labels} classes, and the generator draws "
            f"{num_labels}: give the data set that it was trained on"
        )
    return Evaluator(classifier_for(data, outdir, may_train), test.images, test.labels)


def evaluate(
    evaluator: Evaluator,
    train_images: np.ndarray,
    images: np.ndarray,
    requested: np.ndarray | None,
    seed: int,
) -> tuple[dict[str, Any], np.ndarray, dict[str, np.ndarray]]:
    """Computes all metrics of some images, and for comparison those of as many training images.

    Args:
        evaluator: Knows the test images.
        train_images: The training images, uint8 of shape (N, size, size).
        images: float32 of shape (count, size, size, 1) in [0, 1].
        requested: The labels that were asked for, int64 of shape (count,), if any were.
        seed: Chooses the training images.

    Returns:
        The metrics, as JSON can hold them; the first ten images with the nearest training images,
        float32 of shape (2, 10, size, size, 1) in [0, 1]; and the distances to the nearest training
        image, of generated and of test images, each of shape (count,).
    """
    count = min(len(images), len(train_images))
    chosen = np.random.default_rng(seed).permutation(len(train_images))[:count]
    everything = scaled(train_images)
    report: dict[str, Any] = {
        "samples": len(images),
        "test_images": len(evaluator.images),
        "training_images": count,
        "classifier_accuracy": evaluator.accuracy,
        "warning": evaluator.warning,
        "k": K,
    }
    compared = {"generated": (images, requested), "training": (everything[chosen], None)}
    for name, (x, labels) in compared.items():
        features, predicted = evaluator.classifier.predict(x)
        report[name] = evaluator.metrics(features, predicted, labels)
        report[name] |= prdc(evaluator.features, features)
        if labels is not None:
            matrix = np.zeros((evaluator.classifier.num_labels,) * 2, int)
            np.add.at(matrix, (labels, predicted), 1)
            report["confusion_matrix"] = matrix.tolist()  # rows: requested, columns: predicted
            of_each = np.diag(matrix) / matrix.sum(axis=1).clip(1)
            report["digit_accuracy_of_each"] = of_each.tolist()
    indexes, distances = nearest(images[:SAMPLES_FOR_NEAREST], everything)
    _, test_distances = nearest(evaluator.images[:SAMPLES_FOR_NEAREST], everything)
    report["nearest_training_image"] = {
        "generated": _quantiles(distances),
        "test": _quantiles(test_distances),
        "suspiciously_near": float(np.mean(distances < np.quantile(test_distances, 0.01))),
    }
    pairs = np.stack([images[:10], everything[indexes[:10]]])
    return report, pairs, {"generated": distances, "test images": test_distances}


def _quantiles(distances: np.ndarray) -> dict[str, float]:
    shares = (0.01, 0.05, 0.25, 0.5, 0.75, 0.95, 0.99)
    return {f"{share:.0%}": float(np.quantile(distances, share)) for share in shares}
