"""The classifier that evaluations are based on: a small convolutional network.

    python -m common.evaluation.classifier [--data PATH] [--image-size N] [--seed N] [--outdir DIR]

trains one on the training images of a data set. This command, with the default seed, has made the
one for MNIST that is included, in data/.
"""

from collections.abc import Sequence
from pathlib import Path

import keras
import numpy as np
from keras import layers

from common.cli import CommandParser
from common.data import MNIST, num_classes
from common.data.dataset import DataSet, load_dataset
from common.device import seed_everything
from common.errors import UserError
from common.evaluation.metrics import digit_accuracy
from common.files import check_writable, packed, refuse_to_replace, unpacked, write_file
from common.gan.batches import scaled
from common.options import path, seed_number

COMMAND = "python -m common.evaluation.classifier"
# What the included weights were trained with.
SEED = 0
# A round of the training.
EPOCHS, TRAIN_BATCH_SIZE = 8, 128
# Images classified at a time, to limit memory.
_BATCH_SIZE = 500


class Classifier:
    """A small network: four convolutions, the mean of each feature map, one Dense layer.

    It takes images of any size, because it averages the last feature maps. These 128 means are the
    features that Frechet distances are measured in.

    Attributes:
        model: From images to features, shape (batch, 128), and probabilities, shape (batch,
            num_labels).
    """

    def __init__(self, num_labels: int) -> None:
        self.num_labels = num_labels
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
        self.model = keras.Model(inputs, [features, probabilities], name="classifier")

    def predict(self, images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Classifies images, float32 of shape (count, size, size, 1) in [0, 1].

        Returns their features, float64 of shape (count, 128), and predicted labels, int64 of shape
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
    images: np.ndarray, labels: np.ndarray, seed: int = SEED, min_updates: int = 500
) -> Classifier:
    """Trains a classifier until it has learned its images, or no longer improves.

    Adam with a cosine decay, batches of 128, in rounds of 8 epochs. One round is enough for MNIST.

    Args:
        images: uint8 of shape (N, size, size).
        labels: Integers of shape (N,), from 0.
        seed: Determines its initial weights and the order of the images.
        min_updates: The least of a round; a smaller data set is repeated in each epoch.
    """
    seed_everything(seed)
    classifier = Classifier(num_classes(labels))
    network = keras.Model(classifier.model.inputs, classifier.model.outputs[1])
    repeats = max(1, -(-min_updates * TRAIN_BATCH_SIZE // (EPOCHS * len(images))))
    x, y = scaled(np.concatenate([images] * repeats)), np.concatenate([labels] * repeats)
    updates = EPOCHS * -(-len(x) // TRAIN_BATCH_SIZE)
    accuracy, before = 0.0, -1.0
    while accuracy < 0.95 and accuracy - before >= 0.05:  # a round that gains less is the last
        network.compile(
            keras.optimizers.Adam(keras.optimizers.schedules.CosineDecay(2e-3, updates)),
            "sparse_categorical_crossentropy",
            metrics=["accuracy"],
            jit_compile=False,
        )
        network.fit(x, y, batch_size=TRAIN_BATCH_SIZE, epochs=EPOCHS, verbose=2)
        _, predicted = classifier.predict(x[: len(images)])
        accuracy, before = digit_accuracy(predicted, labels), accuracy
    return classifier


def classifier_for(data: DataSet, outdir: Path, may_train: bool = True) -> Classifier:
    """Returns the classifier of a data set: the included one, one made earlier, or a new one.

    Args:
        data: The training part of the data set, with labels.
        outdir: The folder of classifiers made earlier, and for a new one.
        may_train: Whether a new one may be trained, which takes minutes on a CPU.
    """
    for folder in (MNIST.parent, outdir):
        file = _file_in(folder, data.sha256)
        if file.exists():
            weights = [*unpacked(file.read_bytes()).values()]
            classifier = Classifier(len(weights[-1]))
            classifier.model.set_weights(weights)
            return classifier
    if not may_train:
        raise UserError(
            f"there is no classifier for {data.path} in {outdir} yet: make one first, with "
            f"{COMMAND} and the same --data, --image-size and --outdir"
        )
    return make_classifier(data, outdir)


def make_classifier(data: DataSet, outdir: Path, seed: int = SEED) -> Classifier:
    """Trains the classifier of a data set, and keeps it in `outdir`, in place of an earlier one."""
    assert data.labels is not None
    file = _file_in(outdir, data.sha256)
    print(f"training a classifier on {data.path}, to be kept as {file}", flush=True)
    classifier = train_classifier(data.images, data.labels, seed)
    weights = {str(i): weight for i, weight in enumerate(classifier.model.get_weights())}
    write_file(file, packed(weights))
    return classifier


def ships_for(data_sha256: str) -> bool:
    """Whether the classifier of a data set is included."""
    return _file_in(MNIST.parent, data_sha256).exists()


def _file_in(folder: Path, data_sha256: str) -> Path:
    """The file of a classifier, named after its data, so that it is used for no other."""
    return folder / f"classifier-{data_sha256[:12]}.npz"


def main(argv: Sequence[str] | None = None) -> None:
    """The command line."""
    parser = CommandParser(COMMAND, "Train the classifier that evaluations are based on.")
    parser.add_flag("data")
    parser.add_flag("image_size")
    parser.add_argument("--seed", type=seed_number, metavar="N", help="default: %(default)s")
    parser.add_argument("--outdir", type=path, metavar="DIR", help="default: the current folder")
    parser.add_argument("--overwrite", action="store_true", help="replace the one that is there")
    parser.set_defaults(data=MNIST, image_size=None, seed=SEED, outdir=Path(), overwrite=False)
    options = parser.parse_args(argv)
    with parser.one_line_errors():
        data = load_dataset(options.data, "train", options.image_size)
        test = load_dataset(options.data, "test", options.image_size)
        print(data, flush=True)
        file = _file_in(options.outdir, data.sha256)
        if not options.overwrite:
            refuse_to_replace(file, "--outdir")
        check_writable(file)
        classifier = make_classifier(data, options.outdir, options.seed)
        _, predicted = classifier.predict(scaled(test.images))
        assert test.labels is not None
        share = digit_accuracy(predicted, test.labels)
        print(f"it reads {share:.2%} of the {len(test.images)} test images correctly")


if __name__ == "__main__":
    main()
