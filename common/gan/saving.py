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
from common.gan.batches import LatentSampler
from common.gan.models import class_names, in_float32, last_layer

# Builds a generator for an image size and a number of classes; a GAN without labels ignores the
# latter.
BuildGenerator = Callable[[int, int], keras.Model]
Shape = tuple[int, ...]

# The sizes that are tried first: MNIST's.
_IMAGE_SIZE, _NUM_LABELS = 28, 10
# The groups of HDF5 files that hold the weights of layers, and no states of optimizers or metrics.
# The last one is from before TensorFlow 2.13.
_GROUPS = ("model_weights", "layers", "_layer_checkpoint_dependencies")
# Where a file has the names of the classes.
_NAMES = "class_names"


class _Stored(NamedTuple):
    """What a file holds."""

    hdf5: bytes  # the file itself, or the HDF5 file with the weights in an archive
    suffix: str  # by which Keras recognizes the layout of the HDF5 file
    shapes: list[Shape]  # of all weights; those of layers of one class are in the network's order
    inputs: list[int]  # the sizes of the network's inputs; empty in a file of weights alone
    activation: str | None  # the last one of the network; None in a file of weights alone
    names: list[str]  # of the classes, if they have any


def save_generator(generator: keras.Model, path: Path) -> None:
    """Saves a generator in Keras's HDF5 format, as the chapter does.

    The generator in the file computes in float32, in whichever precision it was trained.
    """
    # not by `generator.save(path)`, where HDF5 itself writes to the disk, and Keras warns of it
    content = io.BytesIO()
    with h5py.File(content, "w") as file:
        legacy_h5_format.save_model_to_hdf5(in_float32(generator), file, include_optimizer=False)
        names = [name.encode() for name in class_names(generator)]
        if names:  # Keras ignores attributes that it does not know
            legacy_h5_format.save_attributes_to_hdf5_group(file, _NAMES, names)
    write_file(path, content.getvalue())


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
    generator = _build_for(stored.shapes, build)
    expected, found = Counter(x.shape for x in generator.weights), Counter(stored.shapes)
    if expected != found:
        missing, more = (
            max(shapes, key=math.prod, default="none")
            for shapes in (expected - found, found - expected)
        )
        raise _refused(path, f"weights of shape {missing} expected, {more} found")
    inputs = [x.shape[1] for x in generator.inputs]
    if stored.inputs and sorted(inputs) != sorted(stored.inputs):
        raise _refused(path, f"inputs of {inputs} values expected, {stored.inputs} found")
    own, last = _last_activation(generator.get_config()), stored.activation
    if last not in (own, None) and {own, last} != {"sigmoid", "tanh"}:
        raise _refused(path, f"{own} as the last activation expected, {last} found")
    _load_weights(generator, stored, path)
    if last is not None:
        last_layer(generator).activation = keras.activations.get(last)
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
        network = json.loads(config)["config"] if config else {}
        layers = [x["config"] for x in network.get("layers", ()) if x["class_name"] == "InputLayer"]
        inputs = [(x.get("batch_shape") or x["batch_input_shape"])[-1] for x in layers]
    except Exception as error:  # other and damaged files can make zipfile and h5py raise any
        raise UserError(
            f"{path} is not a complete .h5 or .keras file of Keras ({first_line(error)}): give one "
            "saved by training"
        ) from error
    suffix = ".h5" if names else ".weights.h5"
    return _Stored(hdf5, suffix, shapes, inputs, _last_activation(network), found)


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


def _build_for(shapes: list[Shape], build: BuildGenerator) -> keras.Model:
    """Builds a generator whose weights have the shapes found in a file, if there is one.

    The image size follows from the last matrix, the kernel of a Dense layer. It has a column for
    each value of a feature map or of the image, so their number grows with the square of the image
    size. The first matrix has a row for each value of the inputs, so it gives the number of labels.
    """
    generator = build(_IMAGE_SIZE, _NUM_LABELS)
    latent = LatentSampler.of(generator)
    own = [x.shape for x in generator.weights if len(x.shape) == 2]
    found = [shape for shape in shapes if len(shape) == 2]
    if own and found:
        num_labels = found[0][0] - latent.latent_size
        image_size = round(_IMAGE_SIZE * math.sqrt(found[-1][1] / own[-1][1]))
        is_possible = image_size > 0 and image_size % 4 == 0
        if is_possible and (num_labels > 0) == (latent.num_labels > 0):
            return build(image_size, num_labels)
    return generator


def _load_weights(generator: keras.Model, stored: _Stored, path: Path) -> None:
    """Has Keras read the weights, from a copy whose suffix tells it the layout."""
    try:
        with tempfile.TemporaryDirectory() as folder:
            copy = Path(folder, f"generator{stored.suffix}")
            copy.write_bytes(stored.hdf5)
            generator.load_weights(copy)
    except Exception as error:  # other and damaged files can make h5py raise any
        raise _refused(path, first_line(error)) from error
    # weights can be finite and draw NaN all the same, as with a variance below zero
    noise_input = LatentSampler.of(generator).draw(np.random.default_rng(0), 4)
    arrays = [*generator.get_weights(), generator(noise_input, training=False).numpy()]
    if not all(np.isfinite(array).all() for array in arrays):
        raise UserError(
            f"{path} holds or draws NaN or infinity: its training has diverged, or it is damaged: "
            "give another generator"
        )


def _refused(path: Path, why: str) -> UserError:
    return UserError(
        f"{path} does not hold this program's generator ({why}): give a file saved by its "
        "training, or draw with the program that saved this one, such as cgan_mnist.py if it takes "
        "labels, dcgan_mnist.py if not"
    )
