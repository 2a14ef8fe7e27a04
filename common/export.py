"""How does a generator get to programs that know nothing of this one?"""

from __future__ import annotations

import io
import os
import shutil
import tempfile
import warnings
from contextlib import redirect_stdout
from pathlib import Path

import keras

from common.errors import UserError, first_line
from common.files import check_writable, write_file
from common.keras2 import BatchNormalization


def export_generator(generator: keras.Model, path: Path) -> None:
    """Writes a generator in another format; it computes in float32 and takes any batch size.

    Args:
        generator: The generator.
        path: A .keras file, for any Keras 3, which needs no code of this project; an .onnx file,
            whose inputs are called as the generator's are; or, without a suffix, a new folder for
            a TensorFlow SavedModel, whose endpoint is `serve`.

    Raises:
        UserError: It cannot be written.
    """
    if path.suffix:
        check_writable(path)
    elif path.exists():
        raise UserError(
            f"argument --export: {path} is there already: move it away, or give another folder"
        )
    plain = _in_plain_keras(generator)
    # libraries write to files of their own, which become the user's when they are complete
    with tempfile.TemporaryDirectory() as scratch:
        made = Path(scratch) / f"generator{path.suffix}"
        with redirect_stdout(io.StringIO()), warnings.catch_warnings():
            # Keras tells of endpoints, and asks NumPy for what it has no longer
            warnings.filterwarnings("ignore", "In the future `np.object`", FutureWarning)
            if path.suffix == ".keras":
                plain.save(made)
            elif path.suffix == ".onnx":
                plain.export(made, format="onnx", verbose=False)
            else:
                plain.export(made, format="tf_saved_model", verbose=False)
        if path.suffix:
            write_file(path, made.read_bytes())
            return
        partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            shutil.copytree(made, partial)
            partial.rename(path)
        except OSError as error:
            shutil.rmtree(partial, ignore_errors=True)
            raise UserError(f"cannot write {path}: {first_line(error)}") from error


def _in_plain_keras(model: keras.Model) -> keras.Model:
    """The same model made of Keras's own layers, whose files open without this project."""

    def plain(layer: keras.Layer) -> keras.Layer:
        kind = type(layer)
        if kind is BatchNormalization:
            kind = keras.layers.BatchNormalization  # which computes the same when not training
        return kind.from_config(layer.get_config())

    copy = keras.models.clone_model(model, clone_function=plain)
    copy.set_weights(model.get_weights())
    # Keras exports what has been called
    copy([keras.ops.zeros((1, *x.shape[1:])) for x in model.inputs])
    return copy
