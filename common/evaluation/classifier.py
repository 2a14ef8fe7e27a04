"""Which digit is it? The judge of the generators: a small convolutional network.

    python -m common.evaluation.classifier [--data PATH] [--seed N] [--outdir DIR]

trains it on the training images of a data set. The one for MNIST comes with this project, in data/,
made by that command as it stands.
"""

from __future__ import annotations

from common import runtime  # before Keras, which it sets up

# isort: split
import sys
from collections.abc import Sequence
from pathlib import Path

import keras
import numpy as np
from keras import layers

from common.cli import CommandParser, seed_number
from common.errors import UserError, first_line
from common.files import check_writable, write_file
from common.gan.data import MNIST, RealImages, checksum, load_data
from common.runs.checkpoints import packed, unpacked

# What the shipped weights were trained with.
SEED = 0
EPOCHS = 8
# Images that are read at a time.
_BATCH = 500


def build_classifier(num_labels: int) -> keras.Model:
    """Builds the network: four convolutions, the mean of each feature map, one Dense layer.

    It takes images of any size, for it looks at the means of the last feature maps. These 128
    numbers are the features in which a Frechet distance is measured.

    Returns:
        The model from images, float32 of shape (batch, size, size, 1) in [0, 1], to two outputs:
        features of shape (batch, 128), and probabilities of shape (batch, num_labels).
    """
    inputs = keras.Input((None, None, 1))
    x = layers.Conv2D(16, 5, padding="same", activation="relu")(inputs)
    x = layers.MaxPooling2D(padding="same")(x)
    for filters in (32, 64, 128):
        x = layers.Conv2D(filters, 3, padding="same", use_bias=False)(x)
        # moving statistics that keep up also where a data set is small, and steps are few
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

    def read(self, images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Looks at images.

        Args:
            images: float32 of shape (count, size, size, 1) in [0, 1].

        Returns:
            Their features, float64 of shape (count, 128), and the labels read, int64 of shape
            (count,).
        """
        features, labels = [], []
        for start in range(0, len(images), _BATCH):
            # called, and not asked to predict, which Keras would compile with XLA
            seen, probabilities = self.model(images[start : start + _BATCH], training=False)
            features.append(seen.numpy().astype(np.float64))
            labels.append(probabilities.numpy().argmax(axis=1))
        return np.concatenate(features), np.concatenate(labels)


def train_classifier(
    images: np.ndarray, labels: np.ndarray, seed: int = SEED, epochs: int = EPOCHS
) -> Classifier:
    """Trains a classifier: Adam with a cosine decay, batches of 128.

    Args:
        images: uint8 of shape (N, size, size).
        labels: Integers of shape (N,), from 0.
        seed: Of its initial weights and of the order of the images.
        epochs: How often it sees each image.
    """
    runtime.seed_everything(seed)
    x = RealImages(images).take(np.arange(len(images)))[0]
    classifier = Classifier(build_classifier(int(labels.max()) + 1))
    network = keras.Model(classifier.model.inputs, classifier.model.outputs[1])
    steps = epochs * -(-len(x) // 128)
    network.compile(
        keras.optimizers.Adam(keras.optimizers.schedules.CosineDecay(2e-3, steps)),
        "sparse_categorical_crossentropy",
        metrics=["accuracy"],
        jit_compile=False,
    )
    network.fit(x, labels, batch_size=128, epochs=epochs, verbose=2)
    return classifier


def classifier_for(data: Path, outdir: Path, may_train: bool = True) -> Classifier:
    """The classifier of a data set: shipped or made before, or else trained now and kept.

    Args:
        data: The data set.
        outdir: Where a new one is kept, and an earlier one looked for.
        may_train: Whether there is time to train one, minutes on a CPU.

    Raises:
        UserError: The data set or the file cannot be read, the file cannot be written, or there
            is none and `may_train` is False.
    """
    name = _file_name(data)
    for folder in (MNIST.parent, outdir):
        if (folder / name).exists():
            return _load(folder / name)
    if not may_train:
        raise UserError(
            f"there is no classifier for {data} yet: make one first, with "
            f"python -m common.evaluation.classifier --data {data} --outdir {outdir}"
        )
    return make_classifier(data, outdir)


def make_classifier(data: Path, outdir: Path, seed: int = SEED) -> Classifier:
    """Trains the classifier of a data set, and keeps it in `outdir`.

    Raises:
        UserError: The data set cannot be read, or the file cannot be written.
    """
    images, labels = load_data(data)
    file = outdir / _file_name(data)
    check_writable(file)
    print(f"training a classifier on {data}, to be kept as {file}", flush=True)
    classifier = train_classifier(images, labels, seed)
    weights = {str(i): weight for i, weight in enumerate(classifier.model.get_weights())}
    write_file(file, packed(weights))
    return classifier


def _file_name(data: Path) -> str:
    """Named after the data, so that it is not taken for that of another data set."""
    return f"classifier-{checksum(data)[:12]}.npz"


def _load(file: Path) -> Classifier:
    try:
        weights = unpacked(file.read_bytes())
        ordered = [weights[str(i)] for i in range(len(weights))]
        classifier = Classifier(build_classifier(ordered[-1].shape[0]))
        classifier.model.set_weights(ordered)
        return classifier
    except Exception as error:  # whatever a damaged file can make NumPy and Keras raise
        raise UserError(
            f"{file} is not a classifier ({first_line(error)}): remove it, and it is made anew"
        ) from error


def main(argv: Sequence[str] | None = None) -> None:
    """The command line."""
    parser = CommandParser("python -m common.evaluation.classifier", __doc__.splitlines()[0])
    parser.add_data()
    parser.add_argument(
        "--seed",
        type=seed_number,
        default=SEED,
        metavar="N",
        help="of the weights that it starts from, and of the order of the images "
        "(default: %(default)s)",
    )
    parser.add_argument(
        "--outdir", type=Path, default=Path(), metavar="DIR", help="where to (default: here)"
    )
    options = parser.parse_args(argv)
    with parser.one_line_errors():
        classifier = make_classifier(options.data, options.outdir, options.seed)
        x_test, y_test = load_data(options.data, "test")
        _, read = classifier.read(RealImages(x_test).take(np.arange(len(x_test)))[0])
        print(f"it reads {np.mean(read == y_test):.2%} of the {len(x_test)} test images rightly")


if __name__ == "__main__":
    main(sys.argv[1:])
