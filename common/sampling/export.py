"""Exporting a generator to formats that need none of this code."""

import os
import shutil
import warnings
from pathlib import Path

import keras
import tensorflow as tf

from common.errors import UserError, first_line
from common.files import kind_of, partial_of, refuse_to_replace, write_file, writing
from common.gan.keras2 import BatchNormalization
from common.gan.models import copy_of
from common.sampling.page import page_of


def export_generator(generator: keras.Model, path: Path, overwrite: bool = False) -> None:
    """Writes a generator in another format; it computes in float32 and takes any batch size.

    Args:
        generator: The generator.
        path: A .keras file, for any Keras 3; an .onnx file, whose inputs have the names of the
            generator's; an .html file, a page that draws; or, without a suffix, a new folder for a
            TensorFlow SavedModel, whose endpoint is `serve`.
        overwrite: Whether a file of that name is replaced; a folder never is.
    """
    if os.path.isdir(path):
        raise UserError(
            f"argument --export: {path} is a folder that is there already: move it away, or give "
            "another name"
        )
    if not overwrite:
        refuse_to_replace(path, "--export")
    if kind_of(path) == ".html":
        write_file(path, page_of(generator))
    else:
        _convert(_in_plain_keras(generator), path)
    print(f"written to {path}", flush=True)


def _convert(model: keras.Model, path: Path) -> None:
    """Has Keras write a model in another format."""
    scratch = partial_of(path)
    with writing(path):
        shutil.rmtree(scratch, ignore_errors=True)  # what a killed process has left
        scratch.mkdir()
        # libraries write beside the destination; a rename makes the file appear
        made = scratch / f"generator{kind_of(path)}"
        try:
            if kind_of(path) == ".keras":
                model.save(made)
            else:
                kind = "onnx" if kind_of(path) else "tf_saved_model"
                with warnings.catch_warnings():
                    # NumPy's, of a name that Keras asks for
                    warnings.filterwarnings("ignore", "In the future `np.object`", FutureWarning)
                    model.export(made, format=kind, verbose=False)
            made.replace(path)
        except tf.errors.OpError as error:  # such as a full disk
            raise OSError(first_line(error)) from error
        finally:
            shutil.rmtree(scratch, ignore_errors=True)


def _in_plain_keras(model: keras.Model) -> keras.Model:
    """A copy of a model made of Keras's own layers, so that its file opens without this project."""

    def plain(layer: keras.Layer) -> keras.Layer:
        kind = type(layer)
        if kind is BatchNormalization:
            kind = keras.layers.BatchNormalization  # the same in inference mode
        return kind.from_config(layer.get_config())

    copy = copy_of(model, plain)
    # Keras exports only models that have been called
    copy([keras.ops.zeros((1, *x.shape[1:])) for x in model.inputs])
    return copy
