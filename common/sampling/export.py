"""Exporting a generator to formats that need none of this code."""

import io
import json
import shutil
import warnings
import zipfile
from contextlib import redirect_stdout
from pathlib import Path

import keras
import tensorflow as tf

from common.errors import UserError, first_line
from common.files import kind_of, partial_of, refuse_to_replace, write_file, writing
from common.gan.models import class_names, in_float32
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
    if path.is_dir():
        raise UserError(
            f"argument --export: {path} is a folder that is there already: move it away, or give "
            "another name"
        )
    if not overwrite:
        refuse_to_replace(path, "--export")
    if kind_of(path) == ".html":
        write_file(path, page_of(generator, class_names(generator)))
    else:
        _convert(generator, path)
    print(f"written to {path}", flush=True)


def _convert(generator: keras.Model, path: Path) -> None:
    """Has Keras write a generator in another format, and adds the names of its classes."""
    if kind_of(path) == ".onnx":
        import tf2onnx  # noqa: F401  # if it is missing, one line says so
    model, names = in_float32(generator, plain=True), class_names(generator)
    # Keras exports only models that have been called
    model([keras.ops.zeros((1, *x.shape[1:])) for x in model.inputs])
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
                # before Keras 3.12 it prints in spite of `verbose`
                with warnings.catch_warnings(), redirect_stdout(io.StringIO()):
                    warnings.simplefilter("ignore")  # about code of Keras
                    model.export(made, format=kind, verbose=False)
            if names:
                _add_names(made, json.dumps(names))
            made.replace(path)
        except tf.errors.OpError as error:  # such as a full disk
            raise OSError(first_line(error)) from error
        finally:
            shutil.rmtree(scratch, ignore_errors=True)


def _add_names(made: Path, names: str) -> None:
    """Adds the names of classes, a JSON list, `class_names`, where Keras or ONNX ignore it."""
    if kind_of(made) == ".keras":
        with zipfile.ZipFile(made, "a") as archive:
            archive.writestr("class_names.json", names)
    elif kind_of(made) == ".onnx":
        import onnx  # comes with tf2onnx

        model = onnx.load(made)
        model.metadata_props.add(key="class_names", value=names)
        onnx.save(model, made)
    else:
        (made / "assets.extra").mkdir()
        (made / "assets.extra" / "class_names.json").write_text(names)
