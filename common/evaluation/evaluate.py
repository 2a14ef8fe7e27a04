"""How good are the digits?

What a generator draws is held against the test images of a data set: where both lie in the eyes of
a classifier, which digits there are, whether they are the ones that were asked for, and whether
they are copies of training images.
"""

from __future__ import annotations

import json
import secrets
from pathlib import Path
from typing import Any

import keras
import numpy as np
from sklearn.metrics import confusion_matrix

from common.cli import MIN_SAMPLES, Options
from common.errors import UserError
from common.evaluation.classifier import Classifier, classifier_for
from common.evaluation.metrics import frechet_distance, nearest, support, total_variation
from common.evaluation.report import NearestTrainingImages, plot_report, table
from common.files import check_writable, write_file
from common.gan.batches import Latent, generate, one_hot
from common.gan.data import RealImages, checksum, load_data, name_of
from common.gan.saving import save_generator
from common.pictures import resolve_show, show_picture
from common.runs.checkpoints import TrainingState
from common.runtime import seed_everything
from common.training.callbacks.core import StepCallback

# Neighbours that make a neighbourhood, as in Naeem et al. 2020.
K = 5
# Images for an evaluation, and for one on the way.
SAMPLES = 10_000
SAMPLES_ON_THE_WAY = 2_000
# Images whose nearest training image is looked for: the most expensive part.
SAMPLES_FOR_NEAREST = 2_000


def evaluation_inputs(generator: keras.Model, count: int, seed: int | None) -> list[np.ndarray]:
    """The inputs of a generator for an evaluation, the labels of a CGAN in turn: 0, 1, 2, ...

    Returns:
        `[noise]` or `[noise, labels]`, as in `Latent.draw`.
    """
    num_labels = generator.inputs[1].shape[1] if len(generator.inputs) > 1 else 0
    noise, *labels = Latent(num_labels=num_labels).draw(np.random.default_rng(seed), count)
    return [noise, *(one_hot(np.arange(count) % num_labels, num_labels) for _ in labels)]


class Judge:
    """Compares images with the test images of a data set.

    Args:
        classifier: Reads the images; it was trained on the data set's training images.
        images: The test images, uint8 of shape (N, size, size).
        labels: Their labels, int64 of shape (N,).

    Attributes:
        features: The classifier's features of the test images: shape (N, 128).
        accuracy: The share of them that the classifier reads rightly: no generator is expected to
            do better.
        class_histogram: How many of them there are of each class: shape (num_labels,).
    """

    def __init__(self, classifier: Classifier, images: np.ndarray, labels: np.ndarray) -> None:
        self.classifier = classifier
        self.num_labels = classifier.num_labels
        self.images = RealImages(images).take(np.arange(len(images)))[0]
        self.features, read = classifier.read(self.images)
        self.accuracy = digit_accuracy(read, labels)
        self.class_histogram = np.bincount(labels, minlength=self.num_labels)

    def figures(self, read: tuple[np.ndarray, np.ndarray], asked: np.ndarray | None) -> dict:
        """The figures that are fast to compute, and all of them plain numbers.

        Args:
            read: What the classifier reads: `(features, labels)`.
            asked: The labels that were asked for, integers of shape (count,), if any were.
        """
        features, labels = read
        counts = np.bincount(labels, minlength=self.num_labels)
        figures = {"frechet_distance": frechet_distance(self.features, features)}
        if asked is not None:
            figures["digit_accuracy"] = digit_accuracy(labels, asked)
        figures["distance_from_uniform"] = total_variation(counts, np.ones_like(counts))
        figures["distance_from_data"] = total_variation(counts, self.class_histogram)
        return figures | {f"share_of_{i}": n / len(labels) for i, n in enumerate(counts.tolist())}


def digit_accuracy(read: np.ndarray, asked: np.ndarray) -> float:
    """How often the classifier reads the label that was asked for: a share from 0 to 1."""
    return float(np.mean(read == asked))


def judge_for(generator: keras.Model, data: Path, outdir: Path, may_train: bool = True) -> Judge:
    """The judge of a data set, for a generator that draws such images.

    Raises:
        UserError: The data set has no test images, or too few, or the generator draws images of
            another size or other classes. Or as `classifier_for` does.
    """
    images, labels = load_data(data, "test")
    size, drawn = images.shape[1], generator.outputs[0].shape[1]
    if drawn != size:
        raise UserError(
            f"argument --data: the test images of {data} have {size} x {size} pixels, and the "
            f"generator draws {drawn} x {drawn}: give the data set that it was trained on"
        )
    if len(images) < MIN_SAMPLES:
        raise UserError(
            f"argument --data: {data} has {len(images)} test images, an evaluation needs at least "
            f"{MIN_SAMPLES}"
        )
    train_images, train_labels = load_data(data)
    classes = int(train_labels.max()) + 1
    if train_images.shape[1] != size or labels.max() >= classes:
        raise UserError(
            f"argument --data: the test images of {data} are of another size, or of other classes, "
            "than its training images: give a data set whose two parts belong together"
        )
    for asked in generator.inputs[1:]:
        if asked.shape[1] != classes:
            raise UserError(
                f"argument --data: {data} has {classes} classes, and the generator draws "
                f"{asked.shape[1]}: give the data set that it was trained on"
            )
    return Judge(classifier_for(data, outdir, may_train), images, labels)


class Evaluate(StepCallback):
    """Takes the fast figures of the generator every so many steps, and keeps the best one.

    It adds them to the `logs` of the step, for the callbacks after it, and to the history. The best
    generator is the one with the lowest Frechet distance: a run may well end with a worse one.

    Args:
        generator: The generator.
        judge: Knows the test images.
        state: The state of the run.
        interval: Steps from one evaluation to the next.
        seed: Of the noise, which is the same each time.
        best: The file of the best generator.
    """

    def __init__(
        self,
        generator: keras.Model,
        judge: Judge,
        state: TrainingState,
        interval: int,
        seed: int | None,
        best: Path,
    ) -> None:
        super().__init__()
        self.generator = generator
        self.judge = judge
        self.state = state
        self.interval = interval
        self.best = best
        self.inputs = evaluation_inputs(generator, SAMPLES_ON_THE_WAY, seed)

    def on_train_batch_end(self, batch: int, logs: dict[str, float]) -> None:
        """Evaluates the generator, if it is time to.

        Raises:
            UserError: It no longer draws numbers, or its file cannot be written.
        """
        steps = self.step + 1
        if steps % self.interval:
            return
        images = generate(self.generator, self.inputs)
        if not np.isfinite(images).all():
            raise UserError(
                f"training has diverged: after {steps} steps the generator draws NaN; what was "
                "saved is from before: start again with another --seed"
            )
        figures = self.judge.figures(self.judge.classifier.read(images), _asked(self.inputs))
        self.state.evaluations[steps] = figures
        logs.update(figures)
        names = [name for name in figures if not name.startswith("share_of_")]
        told = ", ".join(f"{name.replace('_', ' ')} {figures[name]:.4g}" for name in names)
        distances = [other["frechet_distance"] for other in self.state.evaluations.values()]
        if figures["frechet_distance"] == min(distances):
            save_generator(self.generator, self.best)
            told += f"; the lowest so far: {self.best}"
        print(f"after {steps} steps: {told}", flush=True)


def evaluate_generator(generator: keras.Model, options: Options) -> None:
    """Evaluates a trained generator: a table, `evaluation.json`, and a picture beside it.

    Raises:
        UserError: The files cannot be written, or as `judge_for` does.
    """
    file = options.outdir / "test_outputs" / "evaluation.json"
    check_writable(file)
    show = resolve_show(options.show)
    judge = judge_for(generator, options.data, options.outdir)
    seed = secrets.randbelow(2**32) if options.seed is None else options.seed  # to be told
    seed_everything(seed)
    inputs = evaluation_inputs(generator, options.samples or SAMPLES, seed)
    images = generate(generator, inputs)
    real = RealImages(load_data(options.data)[0])
    report, found = evaluate(judge, real, images, _asked(inputs), seed)
    report = {
        "generator": str(options.generator),
        "data": name_of(options.data),
        "data_sha256": checksum(options.data),
        "seed": seed,
    } | report

    print(table(report))
    write_file(file, (json.dumps(report, indent=2) + "\n").encode())
    picture = file.with_suffix(".png")
    plot_report(report, found, picture)
    print(f"\nwritten to {file} and {picture}")
    if show:
        show_picture(picture)


def evaluate(
    judge: Judge,
    train: RealImages,
    images: np.ndarray,
    asked: np.ndarray | None,
    seed: int,
) -> tuple[dict[str, Any], NearestTrainingImages]:
    """Takes all figures of some images, and beside them those of as many training images.

    Args:
        judge: Knows the test images.
        train: The training images.
        images: float32 of shape (count, size, size, 1) in [0, 1].
        asked: The labels that were asked for, int64 of shape (count,), if any were.
        seed: Picks the training images.

    Returns:
        The figures, as JSON can hold them, and what the nearest training images are.
    """
    features, labels = judge.classifier.read(images)
    count = min(len(images), len(train.images))
    picked = np.random.default_rng(seed).permutation(len(train.images))[:count]
    train_read = judge.classifier.read(train.take(picked)[0])
    report: dict[str, Any] = {
        "samples": len(images),
        "test_images": len(judge.images),
        "training_images": count,
        "classifier_accuracy": judge.accuracy,
        "k": K,
        "generated": judge.figures((features, labels), asked)
        | support(judge.features, features, K)._asdict(),
        "training": judge.figures(train_read, None)
        | support(judge.features, train_read[0], K)._asdict(),
    }
    if asked is not None:
        matrix = confusion_matrix(asked, labels, labels=np.arange(judge.num_labels))
        report["confusion_matrix"] = matrix.tolist()  # rows: asked for, columns: read
        report["digit_accuracy_of_each"] = (np.diag(matrix) / matrix.sum(axis=1).clip(1)).tolist()
    everything = train.take(np.arange(len(train.images)))[0]
    indexes, distances = nearest(images[:SAMPLES_FOR_NEAREST], everything)
    _, test_distances = nearest(judge.images[:SAMPLES_FOR_NEAREST], everything)
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


def _asked(inputs: list[np.ndarray]) -> np.ndarray | None:
    """The labels in a generator's inputs, if it takes any."""
    return inputs[1].argmax(axis=1) if len(inputs) > 1 else None
