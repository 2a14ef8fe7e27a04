"""Saving a generator, and loading one into the network that a program builds."""

from __future__ import annotations

import io
import json
import math
import re
import zipfile
from collections.abc import Callable
from pathlib import Path

import h5py
import keras
import numpy as np
from keras.src.legacy.saving import legacy_h5_format

from common.data.formats import MAX_LABELS, MAX_PIXELS, MIN_LABELS
from common.errors import UserError, first_line
from common.files import write_file
from common.gan.batches import Latent

# Builds a generator for an image size and a number of classes; a GAN without labels ignores the
# latter.
BuildGenerator = Callable[[int, int], keras.Model]
Shape = tuple[int, ...]

# File formats by their suffixes, and the first bytes of such files.
_SIGNATURES = {
    ".h5": b"\x89HDF\r\n\x1a\n",
    ".hdf5": b"\x89HDF\r\n\x1a\n",
    ".keras": b"PK\x03\x04",
}
# The sizes that are tried first: MNIST's.
_IMAGE_SIZE, _NUM_LABELS = 28, 10


def save_generator(generator: keras.Model, path: Path) -> None:
    """Saves a generator in Keras's HDF5 format, as the chapter does.

    The generator in the file computes in float32, whatever it was trained in.

    Raises:
        UserError: The file cannot be written.
    """
    # As `generator.save(path)`, which has HDF5 write to the disk and warns of a legacy format.
    content = io.BytesIO()
    with h5py.File(content, "w") as file:
        legacy_h5_format.save_model_to_hdf5(in_float32(generator), file, include_optimizer=False)
    write_file(path, content.getvalue())


def in_float32(model: keras.Model) -> keras.Model:
    """A copy of a model that computes in float32 in all layers."""

    def converted(layer: keras.Layer) -> keras.Layer:
        return type(layer).from_config(layer.get_config() | {"dtype": "float32"})

    copy = keras.models.clone_model(model, clone_function=converted)
    copy.set_weights(model.get_weights())
    return copy


def load_generator(path: Path, build: BuildGenerator) -> keras.Model:
    """Builds a program's generator and reads its weights from a file.

    Nothing but weights is read from the file. So it can never run code, and files of Keras 2, whose
    configurations Keras 3 refuses, load as well.

    Args:
        path: An .h5 file of Keras 2 or 3, or a .keras file.
        build: Builds the program's generator.

    Raises:
        UserError: The file cannot be read, or it does not hold such a generator.
    """
    generator = _build_for(path, *_shapes_in(path), build)
    read_weights(generator, path)
    return generator


def read_weights(generator: keras.Model, path: Path) -> None:
    """Reads the weights of a generator from a file.

    Raises:
        UserError: The file cannot be read, or it does not hold such a generator.
    """
    try:
        generator.load_weights(path)
    except Exception as error:  # whatever a file's content can make Keras and h5py raise
        raise UserError(
            f"{path} does not hold this program's generator: {first_line(error)}"
        ) from error
    if not all(np.isfinite(weights).all() for weights in generator.get_weights()):
        raise UserError(f"{path} holds NaN or infinity: its training has diverged, train another")


def _build_for(
    path: Path, found: list[Shape], inputs: list[int] | None, build: BuildGenerator
) -> keras.Model:
    """Builds the generator whose weights have the shapes found in a file.

    The image size follows from the last matrix, the kernel of a Dense layer. It has a column for
    each value of a feature map or of the image, so their number grows with the square of the image
    size. The first matrix has a row for each input, so without a configuration it gives the number
    of labels, if the latent size is this program's.
    """
    matrices = [shape for shape in found if len(shape) == 2]
    if any(columns == 1 for _, columns in matrices):
        raise UserError(f"{path} holds a discriminator: give the file of a generator")
    generator = build(_IMAGE_SIZE, _NUM_LABELS)
    differences = _differences(generator, found)
    if not differences:
        return generator
    advice = "give a file saved by its training, or run the program that saved this one"
    own = [shape for shape in _shapes_of(generator) if len(shape) == 2]
    if own and matrices:
        latent = Latent.of(generator)
        latent_size, *label_sizes = inputs or [latent.latent_size]
        num_labels = sum(label_sizes) if inputs else matrices[0][0] - latent_size
        if latent_size != latent.latent_size:
            raise UserError(
                f"{path} does not hold this program's generator (latent size {latent.latent_size} "
                f"expected, {latent_size} found; {differences}): {advice}"
            )
        image_size = round(_IMAGE_SIZE * math.sqrt(matrices[-1][1] / own[-1][1]))
        takes_labels = MIN_LABELS <= num_labels <= MAX_LABELS
        if (takes_labels if latent.conditional else num_labels == 0) and (
            image_size % 4 == 0 and 0 < image_size**2 <= MAX_PIXELS
        ):
            generator = build(image_size, num_labels)
            differences = _differences(generator, found)
            if not differences:
                return generator
        elif latent.conditional and num_labels == 0:
            advice = "if it is a generator without labels, sample it with dcgan_mnist.py"
        elif takes_labels:
            advice = f"if it takes one of {num_labels} labels, sample it with cgan_mnist.py"
    raise UserError(f"{path} does not hold this program's generator ({differences}): {advice}")


def _differences(generator: keras.Model, found: list[Shape]) -> str:
    """How the shapes of a generator's weights differ from others; empty if they do not.

    Files list layers by their names, networks in the order of use. So the order is ignored.
    """
    expected, others = _shapes_of(generator), list(found)
    missing = []
    for shape in expected:
        if shape in others:
            others.remove(shape)
        else:
            missing.append(shape)
    if not missing and not others:
        return ""
    return f"weights of shape {_listed(missing)} expected, {_listed(others)} found"


def _listed(shapes: list[Shape]) -> str:
    """The largest of some shapes."""
    distinct = sorted(set(shapes), key=math.prod, reverse=True)
    few = ", ".join(map(str, distinct[:4]))
    return (few or "none") + (", ..." if len(distinct) > 4 else "")


def _shapes_of(generator: keras.Model) -> list[Shape]:
    return [tuple(weight.shape) for weight in generator.weights]


def _shapes_in(path: Path) -> tuple[list[Shape], list[int] | None]:
    """The shapes of all weights in a file, without an optimizer's, in the order of their names.

    And the sizes of the model's inputs, if the file has a configuration that says so.

    Raises:
        UserError: The file cannot be read as what its name says.
    """
    signature = _SIGNATURES.get(path.suffix)
    if signature is None:
        raise UserError(f"generator {path}: expected a file named .h5, .hdf5 or .keras")
    try:
        content = path.read_bytes()
    except OSError as error:
        raise UserError(f"generator {path} cannot be read: {error.strerror}") from error
    if not content.startswith(signature):
        raise UserError(f"{path} is not a {path.suffix} file: give one saved by training")
    shapes: dict[str, Shape] = {}
    config: str | bytes = b""

    def visit(name: str | bytes, item: h5py.Group | h5py.Dataset) -> None:
        if isinstance(item, h5py.Dataset) and not str(name).startswith("optimizer"):
            shapes[str(name)] = item.shape

    try:
        if signature == _SIGNATURES[".keras"]:
            with zipfile.ZipFile(path) as archive:
                content = archive.read("model.weights.h5")
                config = archive.read("config.json")
        with h5py.File(io.BytesIO(content), "r") as weights:
            weights.visititems(visit)
            config = weights.attrs.get("model_config", config)
    except Exception as error:  # whatever a damaged file can make zipfile and h5py raise
        raise UserError(
            f"{path} is cut short or damaged ({first_line(error)}): save it again"
        ) from error
    return [shapes[name] for name in sorted(shapes, key=_natural_order)], _input_sizes(config)


def _input_sizes(config: str | bytes) -> list[int] | None:
    """The sizes of a model's inputs by its configuration, which is read as data and never run."""
    try:
        model = json.loads(config)["config"]
        names = [name for name, *_ in model["input_layers"]]
        layers = {layer["config"]["name"]: layer["config"] for layer in model["layers"]}
        shapes = (layers[n].get("batch_shape") or layers[n]["batch_input_shape"] for n in names)
        return [int(shape[1]) for shape in shapes]
    except (ValueError, LookupError, TypeError, AttributeError):
        return None


def _natural_order(name: str) -> list[tuple[str, int]]:
    """Sorts dense_2 before dense_10."""
    return [(text, int(digits or 0)) for text, digits in re.findall(r"(\D*)(\d*)", name)]
