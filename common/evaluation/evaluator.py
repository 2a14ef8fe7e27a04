"""Comparing generated images with the test images of a data set: what is fast to compute."""

from __future__ import annotations

import keras
import numpy as np

from common.data.dataset import load_data, num_classes
from common.errors import UserError
from common.evaluation.classifier import Classifier, Part, classifier_for, digit_accuracy
from common.evaluation.metrics import frechet_distance, total_variation
from common.gan.batches import Latent, scaled
from common.options import MIN_SAMPLES, Options

# A classifier that reads fewer of the test images rightly makes poor metrics.
_GOOD_CLASSIFIER = 0.9


def evaluation_inputs(
    generator: keras.Model, count: int, seed: int | list[int]
) -> list[np.ndarray]:
    """The inputs of a generator for an evaluation, with the labels of a CGAN in turn.

    Returns:
        `[noise]` or `[noise, labels]`, as from `Latent.draw`.
    """
    return Latent.of(generator).draw_in_turn(np.random.default_rng(seed), count)


class Evaluator:
    """Compares images with the test images of a data set.

    Args:
        classifier: A classifier that was trained on the data set's training images.
        images: The test images, uint8 of shape (N, size, size).
        labels: Their labels, int64 of shape (N,).

    Attributes:
        images: The test images, float32 of shape (N, size, size, 1) in [0, 1].
        features: The classifier's features of the test images: shape (N, 128).
        accuracy: The classifier's accuracy on them: no generator is expected to do better.
        class_histogram: How many of them there are of each class: shape (num_labels,).
    """

    def __init__(self, classifier: Classifier, images: np.ndarray, labels: np.ndarray) -> None:
        self.classifier = classifier
        self.num_labels = classifier.num_labels
        self.images = scaled(images)
        self.features, predicted = classifier.predict(self.images)
        self.accuracy = digit_accuracy(predicted, labels)
        self.class_histogram = np.bincount(labels, minlength=self.num_labels)

    @property
    def warning(self) -> str | None:
        """One line on a classifier that reads the test images badly; None if it reads them well."""
        if self.accuracy >= _GOOD_CLASSIFIER:
            return None
        return (
            f"the classifier reads only {self.accuracy:.0%} of the test images as what they are, "
            "so metrics say little: more training images with right labels make a better one"
        )

    def frechet_distance(self, features: np.ndarray) -> float:
        """The Frechet distance of the features of some images from those of the test images."""
        return frechet_distance(self.features, features)

    def metrics(
        self, features: np.ndarray, predicted: np.ndarray, requested: np.ndarray | None = None
    ) -> dict[str, float]:
        """The metrics that are fast to compute.

        Args:
            features: The classifier's features of some images.
            predicted: The labels that it predicts for them.
            requested: The labels that the generator was asked for, int64 of shape (count,).
        """
        counts = np.bincount(predicted, minlength=self.num_labels)
        metrics = {"frechet_distance": self.frechet_distance(features)}
        if requested is not None:
            metrics["digit_accuracy"] = digit_accuracy(predicted, requested)
        metrics["distance_from_uniform"] = total_variation(counts, np.ones_like(counts))
        metrics["distance_from_data"] = total_variation(counts, self.class_histogram)
        shares = {f"share_of_{i}": n / len(predicted) for i, n in enumerate(counts.tolist())}
        return metrics | shares


def make_evaluator(
    generator: keras.Model, options: Options, train_part: Part, may_train: bool = True
) -> Evaluator:
    """The evaluator of a data set, for a generator that draws such images.

    Args:
        generator: The generator.
        options: Where the data set is, and where its classifier is kept.
        train_part: Its training images and labels.
        may_train: As for `classifier_for`.

    Raises:
        UserError: The data set has no test images, or too few, or the generator draws images of
            another size or other classes. Or as `classifier_for`.
    """
    data = options.data
    images, labels = load_data(data, "test", options.image_size)
    size, drawn = images.shape[1], generator.outputs[0].shape[1]
    if drawn != size:
        raise UserError(
            f"argument --data: the test images of {data} have {size} x {size} pixels, and the "
            f"generator draws {drawn} x {drawn}: give the data set that it was trained on"
        )
    if len(images) < MIN_SAMPLES:
        raise UserError(
            f"argument --data: {data} has {len(images)} test images, an evaluation needs at least "
            f"{MIN_SAMPLES}: add more, or leave evaluations out (--evaluate-interval 0)"
        )
    train_images, train_labels = train_part
    classes = num_classes(train_labels)
    if train_images.shape[1] != size:
        raise UserError(
            f"argument --data: the test images of {data} are of another size than its training "
            "images: give a data set whose two parts belong together"
        )
    num_labels = Latent.of(generator).num_labels
    if num_labels not in (0, classes):
        raise UserError(
            f"argument --data: {data} has {classes} classes, and the generator draws "
            f"{num_labels}: give the data set that it was trained on"
        )
    classifier = classifier_for(train_part, data, options.outdir, may_train, options.image_size)
    return Evaluator(classifier, images, labels)
