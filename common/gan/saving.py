"""Saving a generator, and loading one into the network that a program builds."""

import io
import json
import math
import tempfile
import zipfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import h5py
import keras
import numpy as np
from keras.src.legacy.saving import legacy_h5_format

from common.errors import UserError, first_line
from common.files import write_file
from common.gan.batches import LatentSampler, check_finite
from common.gan.models import class_names, copy_of, last_layer

# Builds a generator for an image size and a number of classes; a GAN without labels ignores the
# latter.
BuildGenerator = Callable[[int, int], keras.Model]
Shape = tuple[int, ...]

# The sizes that are tried first: MNIST's.
_IMAGE_SIZE, _NUM_LABELS = 28, 10
# Where HDF5 files have the weights of layers, apart from the states of optimizers and metrics; the
# last one before TensorFlow 2.13.
_GROUPS = ("model_weights", "layers", "_layer_checkpoint_dependencies")
# Where a file has the names of the classes.
_NAMES = "class_names"
_ADVICE = (
    "give a file saved by its training, or draw with the program that saved this one, such as "
    "cgan_mnist.py if it takes labels, dcgan_mnist.py if not"
)


class _Stored(NamedTuple):
    """What a file holds.

    Attributes:
        path: The file.
        hdf5: The HDF5 file with the weights: the file itself, or the one in the archive.
        suffix: The suffix by which Keras recognizes the layout of the HDF5 file.
        shapes: The shapes of all weights; layers of one class are in their order.
        config: The configuration of the model, parsed JSON; empty in a file of weights alone.
        names: The names of the classes, if the file has any.
    """

    path: Path
    hdf5: bytes
    suffix: str
    shapes: list[Shape]
    config: dict[str, Any]
    names: list[str]


def save_generator(generator: keras.Model, path: Path) -> None:
    """Saves a generator in Keras's HDF5 format, as the chapter does.

    The generator in the file computes in float32, in whichever precision it was trained.
    """
    # As `generator.save(path)`, which has HDF5 write to the disk and warns of a legacy format.
    content = io.BytesIO()
    with h5py.File(content, "w") as file:
        legacy_h5_format.save_model_to_hdf5(in_float32(generator), file, include_optimizer=False)
        names = [name.encode() for name in class_names(generator)]
        if names:  # Keras ignores attributes that it does not know
            legacy_h5_format.save_attributes_to_hdf5_group(file, _NAMES, names)
    write_file(path, content.getvalue())


def in_float32(model: keras.Model) -> keras.Model:
    """A copy of a model that computes in float32 in all layers."""

    def converted(layer: keras.Layer) -> keras.Layer:
        return type(layer).from_config(layer.get_config() | {"dtype": "float32"})

    return copy_of(model, converted)


def load_generator(path: Path, build: BuildGenerator) -> keras.Model:
    """Builds a program's generator and reads its weights from a file.

    Nothing in a file is ever built or run. The shapes of the weights give the image size and the
    number of classes; the configuration, if the file has one, says whether the images end in a
    sigmoid or in tanh.

    Args:
        path: A file of Keras 2 or 3, of any name: a whole model or weights alone, in HDF5 or as a
            .keras archive.
        build: Builds the program's generator.
    """
    stored = _stored_in(path)
    generator = _build_for(stored, build)
    own, found = _last_activation(generator.get_config()), _last_activation(stored.config)
    if found not in (own, None):
        if {own, found} != {"sigmoid", "tanh"}:
            raise _refused(path, f"{own} as the last activation expected, {found} found")
        last_layer(generator).activation = keras.activations.get(found)
    _load_weights(generator, stored)
    # weights can be finite and draw NaN all the same, as with a variance below zero
    inputs = LatentSampler.of(generator).draw(np.random.default_rng(0), 4)
    check_finite(generator(inputs, training=False).numpy(), path)
    generator.class_names = stored.names
    return generator


def _stored_in(path: Path) -> _Stored:
    """Reads a file, and looks up what it holds."""
    try:
        hdf5 = path.read_bytes()
    except OSError as error:
        raise UserError(f"generator {path} cannot be read: {first_line(error)}") from error
    config: str | bytes = b""
    found: list[str] = []  # names of classes
    try:
        if hdf5.startswith(b"PK"):  # an archive
            with zipfile.ZipFile(io.BytesIO(hdf5)) as archive:
                if f"{_NAMES}.json" in archive.namelist():
                    found = json.loads(archive.read(f"{_NAMES}.json"))
                hdf5, config = archive.read("model.weights.h5"), archive.read("config.json")
        with h5py.File(io.BytesIO(hdf5)) as file:
            weights = file[next((name for name in _GROUPS if name in file), "/")]
            names = legacy_h5_format.load_attributes_from_hdf5_group(weights, "layer_names")
            layers = [weights[name] for name in names] or [weights]
            shapes = [shape for layer in layers for shape in _shapes_in(layer)]
            config = config or file.attrs.get("model_config", b"")
            found += legacy_h5_format.load_attributes_from_hdf5_group(file, _NAMES)
        parsed = json.loads(config)["config"] if config else {}
    except Exception as error:  # other and damaged files can make zipfile and h5py raise any
        raise UserError(
            f"{path} is not a complete .h5 or .keras file of Keras ({first_line(error)}): give one "
            "saved by training"
        ) from error
    suffix = ".h5" if names else ".weights.h5"
    return _Stored(path, hdf5, suffix, shapes, parsed, found)


def _shapes_in(group: h5py.Group) -> list[Shape]:
    """The shapes of the weights in a group, those of dense_2 before those of dense_10."""
    names: list[str] = []
    group.visit(names.append)
    items = [group[name] for name in sorted(names, key=lambda name: (len(name), name))]
    weights = (x for x in items if isinstance(x, h5py.Dataset) and "seed_generator" not in x.name)
    return [x.shape for x in weights]


def _last_activation(config: dict[str, Any]) -> str | None:
    """The last activation of a network by its configuration, such as "tanh"; None if unknown."""
    for layer in reversed(config.get("layers", [])):
        inner = layer["config"]
        found = _last_activation(inner) if "layers" in inner else inner.get("activation")
        if found is not None:
            return found if isinstance(found, str) else found["class_name"]  # a name or an object
    return None


def _input_sizes(config: dict[str, Any]) -> list[int]:
    """The sizes of a network's inputs by its configuration, in no particular order."""
    inputs = [x["config"] for x in config.get("layers", []) if x["class_name"] == "InputLayer"]
    return [(x.get("batch_shape") or x["batch_input_shape"])[-1] for x in inputs]


def _build_for(stored: _Stored, build: BuildGenerator) -> keras.Model:
    """Builds the generator whose weights have the shapes found in a file.

    The image size follows from the last matrix, the kernel of a Dense layer. It has a column for
    each value of a feature map or of the image, so their number grows with the square of the image
    size. The first matrix has a row for each value of the inputs, so it gives the number of labels.
    """
    generator = build(_IMAGE_SIZE, _NUM_LABELS)
    inputs, sizes = [x.shape[1] for x in generator.inputs], _input_sizes(stored.config)
    own = [x.shape for x in generator.weights if len(x.shape) == 2]
    found = [shape for shape in stored.shapes if len(shape) == 2]
    if any(columns == 1 for _, columns in found):
        raise UserError(f"{stored.path} holds a discriminator: give the file of a generator")
    if sizes and (inputs[0] not in sizes or len(inputs) != len(sizes)):
        raise _refused(stored.path, f"inputs of {inputs} values expected, {sizes} found")
    if own and found:
        num_labels = found[0][0] - inputs[0]
        image_size = round(_IMAGE_SIZE * math.sqrt(found[-1][1] / own[-1][1]))
        fits = (num_labels > 0) == (len(inputs) > 1) and image_size > 0 and image_size % 4 == 0
        if fits and (image_size, num_labels) != (_IMAGE_SIZE, sum(inputs[1:])):
            generator = build(image_size, num_labels)
    expected, others = Counter(x.shape for x in generator.weights), Counter(stored.shapes)
    if expected != others:
        missing, more = (
            max(shapes, key=math.prod, default="none")
            for shapes in (expected - others, others - expected)
        )
        raise _refused(stored.path, f"weights of shape {missing} expected, {more} found")
    return generator


def _load_weights(generator: keras.Model, stored: _Stored) -> None:
    """Has Keras read the weights, from a copy whose suffix tells it the layout."""
    try:
        with tempfile.TemporaryDirectory() as folder:
            copy = Path(folder, f"generator{stored.suffix}")
            copy.write_bytes(stored.hdf5)
            generator.load_weights(copy)
    except Exception as error:  # a damaged file can make h5py raise any
        raise UserError(
            f"the weights in {stored.path} cannot be read ({first_line(error)}): {_ADVICE}"
        ) from error
    if not all(np.isfinite(weights).all() for weights in generator.get_weights()):
        raise UserError(
            f"{stored.path} holds NaN or infinity: its training has diverged, train another"
        )


def _refused(path: Path, differences: str) -> UserError:
    return UserError(f"{path} does not hold this program's generator ({differences}): {_ADVICE}")
