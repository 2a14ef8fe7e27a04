"""Saving a generator, and loading one into the network that a program builds."""

from __future__ import annotations

import io
import json
import math
from collections.abc import Callable
from itertools import zip_longest
from pathlib import Path
from typing import Any

import h5py
import keras
import numpy as np
from keras.src.legacy.saving import legacy_h5_format

from common.data import MAX_LABELS, MAX_PIXELS, MIN_LABELS
from common.errors import UserError
from common.files import write_file
from common.gan.batches import Latent, check_finite
from common.gan.models import computation, copy_of, last_layer
from common.gan.weights import Shape, Stored, assign, stored_in

# Builds a generator for an image size and a number of classes; a GAN without labels ignores the
# latter.
BuildGenerator = Callable[[int, int], keras.Model]

# The sizes that are tried first: MNIST's.
_IMAGE_SIZE, _NUM_LABELS = 28, 10
# Generators that differ in the range of their pixels alone.
_LAST_ACTIVATIONS = {"sigmoid", "tanh"}
_ADVICE = "give a file saved by its training, or run the program that saved this one"


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

    return copy_of(model, converted)


def load_generator(path: Path, build: BuildGenerator) -> keras.Model:
    """Builds a program's generator and reads its weights from a file.

    Nothing in a file is ever built or run. Its configuration, where it has one, is compared with
    the program's own network, because weights alone do not say what they were trained for: whether
    the images end in a sigmoid or in tanh, how far apart a convolution's outputs are. Where the
    last activation alone is another, the generator gets the file's.

    Args:
        path: A file of Keras 2 or 3, of any name: a whole model or weights alone.
        build: Builds the program's generator.

    Raises:
        UserError: The file cannot be read, it does not hold such a generator, or what it holds
            draws NaN.
    """
    with stored_in(path) as stored:
        generator = _build_for(stored, build)
        own, found = _computation_of(generator), _computation_in(stored)
        if found and own and {own[-1], found[-1]} == _LAST_ACTIVATIONS:
            last_layer(generator).activation = keras.activations.get(found[-1])
        _read(generator, stored)
    # weights can be finite and draw NaN all the same, as with a variance below zero
    inputs = Latent.of(generator).draw(np.random.default_rng(0), 4)
    check_finite(generator(inputs, training=False).numpy(), path)
    return generator


def read_weights(generator: keras.Model, path: Path) -> None:
    """Reads the weights of a generator from a file.

    Raises:
        UserError: The file cannot be read, or it does not hold such a generator.
    """
    with stored_in(path) as stored:
        _read(generator, stored)


def _read(generator: keras.Model, stored: Stored) -> None:
    """Gives a generator the weights of a file of the same network."""
    differences = _differences(generator, stored.shapes)
    own, found = _computation_of(generator), _computation_in(stored)
    if own and found and not differences:
        pairs = [
            pair for pair in zip_longest(own, found, fillvalue="no more") if len(set(pair)) > 1
        ]
        differences = "; ".join(f"{x} expected, {y} found" for x, y in pairs[:3])
        differences += "; ..." if len(pairs) > 3 else ""
    if differences:
        raise UserError(
            f"{stored.path} does not hold this program's generator ({differences}): {_ADVICE}"
        )
    assign(generator, stored)


def _computation_of(generator: keras.Model) -> list[str]:
    """What a program's own network computes; nothing if its layers cannot say."""
    try:
        return computation(json.loads(generator.to_json())["config"])
    except (LookupError, TypeError, ValueError, AttributeError, NotImplementedError):
        return []


def _computation_in(stored: Stored) -> list[str]:
    """What the network in a file computes; nothing if the file does not say, or not legibly."""
    try:
        return computation(stored.config)
    except (LookupError, TypeError, ValueError, AttributeError, RecursionError):
        return []


def _build_for(stored: Stored, build: BuildGenerator) -> keras.Model:
    """Builds the generator whose weights have the shapes found in a file.

    The image size follows from the last matrix, the kernel of a Dense layer. It has a column for
    each value of a feature map or of the image, so their number grows with the square of the image
    size. The first matrix has a row for each input, so without a configuration it gives the number
    of labels, if the latent size is this program's.
    """
    path, found, inputs = stored.path, stored.shapes, _input_sizes(stored.config)
    matrices = [shape for shape in found if len(shape) == 2]
    if any(columns == 1 for _, columns in matrices):
        raise UserError(f"{path} holds a discriminator: give the file of a generator")
    generator = build(_IMAGE_SIZE, _NUM_LABELS)
    differences = _differences(generator, found)
    if not differences:
        return generator
    advice = _ADVICE
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
            advice = f"if it is a generator without labels, {_other_program('dcgan_mnist.py')}"
        elif takes_labels:
            advice = f"if it takes one of {num_labels} labels, {_other_program('cgan_mnist.py')}"
    raise UserError(f"{path} does not hold this program's generator ({differences}): {advice}")


def _other_program(example: str) -> str:
    return f"sample it with the program that trained it, such as {example}"


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


def _input_sizes(config: Any) -> list[int] | None:
    """The sizes of a model's inputs by its configuration."""
    try:
        inputs = config["input_layers"]
        names = [name for name, *_ in ([inputs] if isinstance(inputs[0], str) else inputs)]
        layers = {layer["config"]["name"]: layer["config"] for layer in config["layers"]}
        shapes = (layers[n].get("batch_shape") or layers[n]["batch_input_shape"] for n in names)
        return [int(shape[1]) for shape in shapes]
    except (ValueError, LookupError, TypeError, AttributeError):
        return None
