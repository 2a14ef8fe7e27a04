"""How does a generator get into a file, and back out of one?"""

from __future__ import annotations

import io
import math
import zipfile
from collections.abc import Callable
from pathlib import Path

import h5py
import keras
import numpy as np
from keras.src.legacy.saving import legacy_h5_format

from common.errors import UserError, first_line
from common.files import write_file
from common.gan.batches import LATENT_SIZE
from common.gan.data import MAX_LABELS, MAX_PIXELS, MIN_LABELS

# File formats by their suffixes and by how such files begin.
_SIGNATURES = {
    ".h5": b"\x89HDF\r\n\x1a\n",
    ".hdf5": b"\x89HDF\r\n\x1a\n",
    ".keras": b"PK\x03\x04",
}
# The Dense layer of listing 4.2.1 feeds (image_size / 4)^2 * 128 units.
_FIRST_FILTERS = 128


def save_generator(generator: keras.Model, path: Path) -> None:
    """Saves a generator in Keras's HDF5 format, as the chapter does.

    Whatever it was trained in, the one in the file computes in float32.

    Raises:
        UserError: The file cannot be written.
    """
    # What `generator.save(path)` does, which has HDF5 write to the disk, and warns of a legacy.
    content = io.BytesIO()
    with h5py.File(content, "w") as file:
        legacy_h5_format.save_model_to_hdf5(_in_float32(generator), file, include_optimizer=False)
    write_file(path, content.getvalue())


def _in_float32(model: keras.Model) -> keras.Model:
    """A copy of a model that computes in float32 in all of its layers."""

    def in_float32(layer: keras.Layer) -> keras.Layer:
        return type(layer).from_config(layer.get_config() | {"dtype": "float32"})

    copy = keras.models.clone_model(model, clone_function=in_float32)
    copy.set_weights(model.get_weights())
    return copy


def load_generator(
    path: Path, build: Callable[[int, int], keras.Model], conditional: bool
) -> keras.Model:
    """Builds a generator from code and reads its weights from a file.

    Nothing else is taken from the file, so that it can never run code, and files of Keras 2, whose
    configurations Keras 3 refuses, load as well.

    Args:
        path: An .h5 file of Keras 2 or 3, or a .keras file.
        build: From an image size and a number of labels (0 without conditions) to a generator.
        conditional: Whether the generator has to take labels.

    Raises:
        UserError: There is no such file, or it does not hold such a generator.
    """
    image_size, num_labels = _read_sizes(path)
    if conditional and not num_labels:
        raise UserError(
            f"{path} holds a generator without labels, this program needs one that takes them: "
            "sample it with dcgan_mnist.py"
        )
    if num_labels and not conditional:
        raise UserError(
            f"{path} holds a generator that takes one of {num_labels} labels, this program needs "
            "one without labels: sample it with cgan_mnist.py"
        )
    generator = build(image_size, num_labels)
    try:
        generator.load_weights(path)
    except Exception as error:  # whatever a file's content can make Keras and h5py raise
        raise UserError(
            f"{path} does not hold the chapter's generator: {first_line(error)}"
        ) from error
    if not all(np.isfinite(weights).all() for weights in generator.get_weights()):
        raise UserError(f"{path} holds NaN or infinity: its training has diverged, train another")
    return generator


def _read_sizes(path: Path) -> tuple[int, int]:
    """Reads off a file's weights which generator it holds: `(image_size, num_labels)`.

    The chapter's networks differ in their matrices, the weights of Dense layers. A generator has
    one, with a row for each entry of z and of the one-hot label. A discriminator ends in one with
    a single column.
    """
    matrices = {shape for shape in _weight_shapes(path) if len(shape) == 2}
    if any(columns == 1 for _, columns in matrices):
        raise UserError(f"{path} holds a discriminator: give the file of a generator")
    if len(matrices) == 1:
        rows, columns = matrices.pop()
        image_size = 4 * math.isqrt(columns // _FIRST_FILTERS)
        num_labels = rows - LATENT_SIZE
        if (
            columns == (image_size // 4) ** 2 * _FIRST_FILTERS
            and 0 < image_size**2 <= MAX_PIXELS
            and (num_labels == 0 or MIN_LABELS <= num_labels <= MAX_LABELS)
        ):
            return image_size, num_labels
    raise UserError(f"{path} does not hold the chapter's generator: give a file saved by training")


def _weight_shapes(path: Path) -> list[tuple[int, ...]]:
    """The shapes of all weights in a file, those of an optimizer left out.

    Raises:
        UserError: It cannot be read as what its name says it is.
    """
    signature = _SIGNATURES.get(path.suffix)
    if signature is None:
        raise UserError(f"generator {path}: expected a file named .h5, .hdf5 or .keras")
    shapes: list[tuple[int, ...]] = []

    def visit(name: str | bytes, item: h5py.Group | h5py.Dataset) -> None:
        if isinstance(item, h5py.Dataset) and not str(name).startswith("optimizer"):
            shapes.append(item.shape)

    try:
        content = path.read_bytes()
    except OSError as error:
        raise UserError(f"generator {path} cannot be read: {error.strerror}") from error
    if not content.startswith(signature):
        raise UserError(f"{path} is not a {path.suffix} file: give one saved by training")
    try:
        if signature == _SIGNATURES[".keras"]:
            with zipfile.ZipFile(path) as archive:
                content = archive.read("model.weights.h5")
        with h5py.File(io.BytesIO(content), "r") as weights:
            weights.visititems(visit)
    except Exception as error:  # whatever a damaged file can make zipfile and h5py raise
        raise UserError(
            f"{path} is cut short or damaged ({first_line(error)}): save it again"
        ) from error
    return shapes
