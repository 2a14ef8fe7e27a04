"""Exporting a generator to formats that need none of this code."""

from __future__ import annotations

import io
import warnings
from contextlib import redirect_stdout
from pathlib import Path
from tempfile import TemporaryDirectory

import keras
import tensorflow as tf

from common.errors import UserError, first_line
from common.files import writing
from common.gan.keras2 import BatchNormalization


def export_generator(generator: keras.Model, path: Path) -> None:
    """Writes a generator in another format; it computes in float32 and takes any batch size.

    Args:
        generator: The generator.
        path: A .keras file, for any Keras 3; an .onnx file, whose inputs have the names of the
            generator's; or, without a suffix, a new folder for a TensorFlow SavedModel, whose
            endpoint is `serve`.

    Raises:
        UserError: It cannot be written.
    """
    if path.is_dir() or (path.exists() and not path.suffix):
        raise UserError(
            f"argument --export: {path} is there already: move it away, or give another name"
        )
    # libraries write beside the destination; a rename makes the file appear
    with writing(path), TemporaryDirectory(prefix=f".{path.name}.", dir=path.parent) as scratch:
        made = Path(scratch) / f"generator{path.suffix}"
        try:
            _export(_in_plain_keras(generator), made)
        except tf.errors.OpError as error:
            raise OSError(first_line(error)) from error
        made.replace(path)


def _export(model: keras.Model, path: Path) -> None:
    with redirect_stdout(io.StringIO()), warnings.catch_warnings():
        # Keras prints endpoints, and NumPy warns of a name that Keras asks for
        warnings.filterwarnings("ignore", "In the future `np.object`", FutureWarning)
        if path.suffix == ".keras":
            model.save(path)
        else:
            kind = "onnx" if path.suffix else "tf_saved_model"
            model.export(path, format=kind, verbose=False)


def _in_plain_keras(model: keras.Model) -> keras.Model:
    """A copy of a model made of Keras's own layers, so that its file opens without this project."""

    def plain(layer: keras.Layer) -> keras.Layer:
        kind = type(layer)
        if kind is BatchNormalization:
            kind = keras.layers.BatchNormalization  # the same in inference mode
        return kind.from_config(layer.get_config())

    copy = keras.models.clone_model(model, clone_function=plain)
    copy.set_weights(model.get_weights())
    # Keras exports only models that have been called
    copy([keras.ops.zeros((1, *x.shape[1:])) for x in model.inputs])
    return copy
