"""Exporting a generator to formats that need none of this code."""

from __future__ import annotations

import io
import os
import shutil
import warnings
from contextlib import redirect_stdout
from pathlib import Path

import keras
import tensorflow as tf

from common.errors import UserError, first_line
from common.files import (
    check_writable,
    kind_of,
    partial_of,
    refuse_to_replace,
    write_file,
    writing,
)
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

    Raises:
        UserError: It is there already, it cannot be written, or a page cannot draw with one of the
            generator's layers.
    """
    if os.path.isdir(path):  # `Path.is_dir` raises where a folder may not be searched
        raise UserError(
            f"argument --export: {path} is a folder that is there already: move it away, or give "
            "another name"
        )
    if not overwrite:
        refuse_to_replace(path, "--export")
    if kind_of(path) == ".html":
        page = page_of(generator)  # which may be refused
        check_writable(path)
        write_file(path, page)
    else:
        _convert(generator, path)
    print(f"written to {path}", flush=True)


def _convert(generator: keras.Model, path: Path) -> None:
    """Has Keras write a generator in another format."""
    check_writable(path)
    # libraries write beside the destination; a rename makes the file appear
    scratch = partial_of(path)
    with writing(path):
        shutil.rmtree(scratch, ignore_errors=True)  # what a killed process has left
        scratch.mkdir()
        try:
            made = scratch / f"generator{kind_of(path)}"
            _export(_in_plain_keras(generator), made)
            made.replace(path)
        except tf.errors.OpError as error:
            raise OSError(first_line(error)) from error
        finally:
            shutil.rmtree(scratch, ignore_errors=True)


def _export(model: keras.Model, path: Path) -> None:
    with redirect_stdout(io.StringIO()), warnings.catch_warnings():
        # Keras prints endpoints, and NumPy warns of a name that Keras asks for
        warnings.filterwarnings("ignore", "In the future `np.object`", FutureWarning)
        if kind_of(path) == ".keras":
            model.save(path)
        else:
            kind = "onnx" if kind_of(path) else "tf_saved_model"
            model.export(path, format=kind, verbose=False)


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
