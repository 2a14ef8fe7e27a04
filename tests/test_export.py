"""Generators in formats that know nothing of this project draw the same images."""

import json
import subprocess
import sys
import zipfile

import keras
import numpy as np
import onnxruntime
import pytest
import tensorflow as tf

import cgan_mnist
from common.gan.saving import save_generator
from common.sampling.export import export_generator
from conftest import ENVIRONMENT, randomized


@pytest.fixture(scope="module")
def generator(gan):
    return randomized(gan.program.new_generator(28, gan.num_labels))


@pytest.fixture
def drawn(generator, rng):
    """`(inputs, images)` of seven; one is not enough for an export that has a fixed batch size."""
    noise = rng.uniform(-1, 1, (7, 100)).astype(np.float32)
    inputs = [noise, np.eye(10, dtype=np.float32)[np.arange(7)]][: len(generator.inputs)]
    images = generator.predict(inputs, verbose=0)
    assert images.std() > 0.1
    return inputs, images


def test_onnx_draws_the_same_in_onnxruntime(generator, drawn, tmp_path):
    inputs, images = drawn
    export_generator(generator, tmp_path / "a" / "generator.onnx")
    session = onnxruntime.InferenceSession(str(tmp_path / "a" / "generator.onnx"))
    assert [x.name for x in session.get_inputs()] == [x.name for x in generator.inputs]
    for count in (1, 7):
        fed = {x.name: array[:count] for x, array in zip(generator.inputs, inputs, strict=True)}
        (found,) = session.run(None, fed)
        assert found.dtype == np.float32
        np.testing.assert_allclose(found, images[:count], atol=1e-5, rtol=0)
    assert [file.name for file in tmp_path.rglob("*.*")] == ["generator.onnx"]


def test_a_saved_model_draws_the_same_in_tensorflow(generator, drawn, tmp_path, capfd):
    inputs, images = drawn
    export_generator(generator, tmp_path / "generator")
    assert capfd.readouterr().out == f"written to {tmp_path / 'generator'}\n"
    model = tf.saved_model.load(str(tmp_path / "generator"))
    for count in (1, 7):
        arguments = [tf.constant(array[:count]) for array in inputs]
        named = {x.name: array for x, array in zip(generator.inputs, arguments, strict=True)}
        (found,) = model.signatures["serving_default"](**named).values()
        np.testing.assert_allclose(found, images[:count], atol=1e-5, rtol=0)
    assert {file.name for file in tmp_path.iterdir()} == {"generator"}


def test_a_keras_file_opens_without_this_project(generator, drawn, tmp_path):
    inputs, images = drawn
    export_generator(generator, tmp_path / "generator.keras")
    np.savez(tmp_path / "inputs.npz", *inputs)
    code = (
        "import os, keras, numpy as np; "
        "model = keras.models.load_model('generator.keras'); "
        "archive = np.load('inputs.npz'); "
        "inputs = [archive[name] for name in archive.files]; "
        "np.save('images.npy', model.predict(inputs, verbose=0))"
    )
    environment = ENVIRONMENT | {"KERAS_BACKEND": "tensorflow"}
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    np.testing.assert_allclose(np.load(tmp_path / "images.npy"), images, atol=1e-5, rtol=0)


@pytest.mark.parametrize("name", ["g.onnx", "g.keras", "g"])
def test_names_of_classes_are_in_the_file(name, tmp_path):
    """Without names, nothing is added; the file opens as ever."""
    generator = cgan_mnist.new_generator(8, 2)
    for names in ((), ("T-shirt/top", "\u978b")):
        path = tmp_path / str(len(names)) / name
        generator.class_names = names
        export_generator(generator, path)
        if name == "g.onnx":
            session = onnxruntime.InferenceSession(str(path))
            held = session.get_modelmeta().custom_metadata_map.get("class_names")
        elif name == "g.keras":
            keras.models.load_model(path)
            archive = zipfile.Path(path) / "class_names.json"
            held = archive.read_text() if archive.exists() else None
        else:
            tf.saved_model.load(str(path))
            held = "".join(file.read_text() for file in path.glob("assets.extra/*")) or None
        assert held == (json.dumps(names) if names else None)


@pytest.mark.parametrize(
    ("target", "complaint"),
    [
        ("there", "argument --export: there is a folder that is there already: move it away"),
        ("g.keras", "argument --export: g.keras is there already: give another, or add --overwr"),
        ("file/generator.onnx", "cannot write file/generator.onnx: "),
        ("file/generator", "cannot write file/generator: "),
    ],
)
def test_what_cannot_be_written(gan, generator, tmp_path, monkeypatch, capsys, target, complaint):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "there").mkdir()
    for name in ("file", "g.keras"):
        (tmp_path / name).write_text("precious")
    save_generator(generator, tmp_path / "g.h5")
    with pytest.raises(SystemExit) as stopped:
        gan.program.main(["-g", "g.h5", "--export", target])
    assert stopped.value.code == 2
    err = capsys.readouterr().err
    assert err.startswith(f"{gan.name}.py: error: {complaint}")
    assert err.count("\n") == 1
    for name in ("file", "g.keras"):
        assert (tmp_path / name).read_text() == "precious"
    expected = ["file", "g.h5", "g.keras", "there"]
    assert sorted(file.name for file in tmp_path.iterdir()) == expected
