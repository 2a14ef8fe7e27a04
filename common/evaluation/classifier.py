"""The classifier that evaluations are based on: a small convolutional network.

    python -m common.evaluation.classifier [--data PATH] [--image-size N] [--seed N] [--outdir DIR]

trains one on the training images of a data set. The one for MNIST ships in data/; this command made
it, with the default seed.
"""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path

from common.cli import CommandParser
from common.options import path, seed_number

# What the shipped weights were trained with.
SEED = 0

COMMAND = "python -m common.evaluation.classifier"
PARSER = CommandParser(COMMAND, "Train the classifier that evaluations are based on.")
PARSER.add_flag("data")
PARSER.add_flag("image_size")
PARSER.add_argument(
    "--seed",
    type=seed_number,
    default=SEED,
    metavar="N",
    help="of the initial weights and the order of the images (default: %(default)s)",
)
PARSER.add_argument(
    "--outdir",
    type=path,
    default=Path(),
    metavar="DIR",
    help="the folder to write it to (default: the current one)",
)
PARSER.add_argument(
    "--overwrite", action="store_true", help="replace the one that is there, if there is one"
)

if __name__ == "__main__":
    PARSER.parse_args()  # a mistake, or --help, need not wait for TensorFlow to load

from common import device  # before Keras, which it sets up

# isort: split

import keras
import numpy as np
from keras import layers

from common.data.dataset import MNIST, checksum, load_data, num_classes
from common.errors import UserError, first_line
from common.files import check_writable, packed, refuse_to_replace, unpacked, write_file
from common.gan.batches import scaled

# The images and labels of one part of a data set, from `load_data`.
Part = tuple[np.ndarray, np.ndarray]

# In a round of the training.
EPOCHS = 8
# A small data set is repeated within an epoch, so that there are so many updates.
MIN_UPDATES = 500
_TRAIN_BATCH_SIZE = 128
# Another round follows while a smaller share of the training images is read rightly, and as long as
# a round adds this much to it.
_ENOUGH, _WORTHWHILE = 0.95, 0.05
# Images classified at a time, to limit memory.
_BATCH_SIZE = 500


def build_classifier(num_labels: int) -> keras.Model:
    """Builds the network: four convolutions, the mean of each feature map, one Dense layer.

    It takes images of any size, because it averages the last feature maps. These 128 means are the
    features that Frechet distances are measured in.

    Returns:
        The model from images, float32 of shape (batch, size, size, 1) in [0, 1], to two outputs:
        features of shape (batch, 128), and probabilities of shape (batch, num_labels).
    """
    inputs = keras.Input((None, None, 1))
    x = layers.Conv2D(16, 5, padding="same", activation="relu")(inputs)
    x = layers.MaxPooling2D(padding="same")(x)
    for filters in (32, 64, 128):
        x = layers.Conv2D(filters, 3, padding="same", use_bias=False)(x)
        # fast moving statistics, because a small data set has few updates
        x = layers.BatchNormalization(momentum=0.9)(x)
        x = layers.Activation("relu")(x)
        if filters == 64:
            x = layers.MaxPooling2D(padding="same")(x)
    features = layers.GlobalAveragePooling2D()(x)
    probabilities = layers.Dense(num_labels, activation="softmax")(features)
    return keras.Model(inputs, [features, probabilities], name="classifier")


class Classifier:
    """A trained classifier.

    Args:
        model: What `build_classifier` gives.
    """

    def __init__(self, model: keras.Model) -> None:
        self.model = model
        self.num_labels: int = model.outputs[1].shape[1]

    def predict(self, images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Classifies images.

        Args:
            images: float32 of shape (count, size, size, 1) in [0, 1].

        Returns:
            Their features, float64 of shape (count, 128), and predicted labels, int64 of shape
            (count,).
        """
        features, labels = [], []
        for start in range(0, len(images), _BATCH_SIZE):
            # not `model.predict`, which Keras would compile with XLA
            batch = images[start : start + _BATCH_SIZE]
            of_batch, probabilities = self.model(batch, training=False)
            features.append(of_batch.numpy().astype(np.float64))
            labels.append(probabilities.numpy().argmax(axis=1))
        return np.concatenate(features), np.concatenate(labels)


def train_classifier(
    images: np.ndarray, labels: np.ndarray, seed: int = SEED, min_updates: int = MIN_UPDATES
) -> Classifier:
    """Trains a classifier until it has learned its images, or no longer improves.

    Adam with a cosine decay, batches of 128, in rounds of 8 epochs. One round is enough for MNIST.

    Args:
        images: uint8 of shape (N, size, size).
        labels: Integers of shape (N,), from 0.
        seed: Determines its initial weights and the order of the images.
        min_updates: At least so many updates are in a round.
    """
    device.seed_everything(seed)
    x = scaled(images)
    classifier = Classifier(build_classifier(num_classes(labels)))
    network = keras.Model(classifier.model.inputs, classifier.model.outputs[1])
    repeats = -(-min_updates * _TRAIN_BATCH_SIZE // (EPOCHS * len(x)))
    x_epoch, y_epoch = x, labels
    if repeats > 1:
        x_epoch, y_epoch = (np.concatenate([array] * repeats) for array in (x, labels))
    updates = EPOCHS * -(-len(x_epoch) // _TRAIN_BATCH_SIZE)
    accuracy, before = 0.0, -1.0
    while accuracy < _ENOUGH and accuracy - before >= _WORTHWHILE:
        network.compile(
            keras.optimizers.Adam(keras.optimizers.schedules.CosineDecay(2e-3, updates)),
            "sparse_categorical_crossentropy",
            metrics=["accuracy"],
            jit_compile=False,
        )
        network.fit(x_epoch, y_epoch, batch_size=_TRAIN_BATCH_SIZE, epochs=EPOCHS, verbose=2)
        accuracy, before = digit_accuracy(classifier.predict(x)[1], labels), accuracy
    return classifier


def digit_accuracy(predicted: np.ndarray, labels: np.ndarray) -> float:
    """How often the classifier predicts these labels: a share from 0 to 1."""
    return float(np.mean(predicted == labels))


def classifier_for(
    train_part: Part,
    data: Path,
    outdir: Path,
    may_train: bool = True,
    image_size: int | None = None,
) -> Classifier:
    """The classifier of a data set: one that ships or was made before, or a new one.

    Args:
        train_part: The training images and labels of the data set.
        data: Its path, for messages.
        outdir: Where a new classifier is kept, and an earlier one is looked for.
        may_train: Whether a new one may be trained, which takes minutes on a CPU.
        image_size: What its images were resized to, for messages as well.

    Raises:
        UserError: The file cannot be read or written, or there is none and `may_train` is False.
    """
    name = _file_name(checksum(*train_part))
    for folder in (MNIST.parent, outdir):
        if (folder / name).exists():
            return _load(folder / name)
    if not may_train:
        flags = ["--data", str(data), "--outdir", str(outdir)]
        flags += ["--image-size", str(image_size)] if image_size else []
        raise UserError(
            f"there is no classifier for {data} yet: make one first, with {COMMAND} "
            f"{shlex.join(flags)}"
        )
    return make_classifier(train_part, data, outdir)


def make_classifier(
    train_part: Part, data: Path, outdir: Path, seed: int = SEED, overwrite: bool = False
) -> Classifier:
    """Trains the classifier of a data set, and keeps it in `outdir`.

    Raises:
        UserError: It is there already, and `overwrite` is False; or it cannot be written.
    """
    file = outdir / _file_name(checksum(*train_part))
    if not overwrite:
        refuse_to_replace(file, "--outdir")
    check_writable(file)
    print(f"training a classifier on {data}, to be kept as {file}", flush=True)
    classifier = train_classifier(*train_part, seed)
    weights = {str(i): weight for i, weight in enumerate(classifier.model.get_weights())}
    write_file(file, packed(weights))
    return classifier


def ships_for(data_sha256: str) -> bool:
    """Whether the classifier of a data set comes with the programs."""
    return (MNIST.parent / _file_name(data_sha256)).exists()


def _file_name(data_sha256: str) -> str:
    """Named after the data, so that it is not used for another data set."""
    return f"classifier-{data_sha256[:12]}.npz"


def _load(file: Path) -> Classifier:
    try:
        weights = unpacked(file.read_bytes())
        ordered = [weights[str(i)] for i in range(len(weights))]
        classifier = Classifier(build_classifier(ordered[-1].shape[0]))
        classifier.model.set_weights(ordered)
        return classifier
    except Exception as error:  # whatever a damaged file can make NumPy and Keras raise
        raise UserError(
            f"{file} is not a classifier ({first_line(error)}): remove it, and a new one is trained"
        ) from error


def main(argv: Sequence[str] | None = None) -> None:
    """The command line."""
    options = PARSER.parse_args(argv)
    with PARSER.one_line_errors():
        train_part = load_data(options.data, image_size=options.image_size)
        x_test, y_test = load_data(options.data, "test", options.image_size)
        classifier = make_classifier(
            train_part, options.data, options.outdir, options.seed, options.overwrite
        )
        _, predicted = classifier.predict(scaled(x_test))
        share = digit_accuracy(predicted, y_test)
        print(f"it reads {share:.2%} of the {len(x_test)} test images as what they are")


if __name__ == "__main__":
    main()
