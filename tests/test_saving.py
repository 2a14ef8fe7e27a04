"""Generators in files: ours, Keras 2's, and files of something else."""

import fcntl
import json
import zipfile

import h5py
import keras
import numpy as np
import pytest
import tf_keras
from PIL import Image

import chapter
import dcgan_mnist
from common.errors import UserError
from common.gan.batches import LatentSampler, generate
from common.gan.saving import load_generator, save_generator
from common.sampling.export import export_generator
from conftest import randomized

pytestmark = pytest.mark.filterwarnings("ignore:You are saving your model as an HDF5 file")


@pytest.fixture
def load(gan):
    """Loads a file as the program does."""
    return lambda path: load_generator(path, gan.program.new_generator)


def images_of(model, num_labels=0):
    inputs = LatentSampler(100, num_labels).draw(np.random.default_rng(0), 4)
    return np.array(model.predict_on_batch(inputs if num_labels else inputs[0]))


def assert_same_weights(loaded, saved):
    for weights, expected in zip(loaded.get_weights(), saved.get_weights(), strict=True):
        np.testing.assert_array_equal(weights, expected)


def save_as_before_2_13(model, path):
    """The layout of .weights.h5 files before TensorFlow 2.13."""
    model.save_weights(path)
    with h5py.File(path, "r+") as file:
        file.move("layers", "_layer_checkpoint_dependencies")


FORMS = {
    "model.h5": lambda model, path: model.save(path),
    "model.keras": lambda model, path: model.save(path),
    "only.weights.h5": lambda model, path: model.save_weights(path),
}
FORMS_OF_KERAS_2 = FORMS | {
    "weights.h5": lambda model, path: model.save_weights(path),
    "older.weights.h5": save_as_before_2_13,
}


def test_what_was_saved_is_loaded(gan, load, tmp_path, capfd):
    """Also by plain Keras: anyone can use the generator without this project."""
    generator = randomized(gan.program.new_generator(28, gan.num_labels))
    path = tmp_path / f"{gan.name}.h5"
    save_generator(generator, path)
    loaded = load(path)
    assert_same_weights(loaded, generator)
    expected = images_of(generator, gan.num_labels)
    np.testing.assert_array_equal(images_of(loaded, gan.num_labels), expected)
    assert list(tmp_path.iterdir()) == [path]
    # Keras would warn of a legacy format
    assert capfd.readouterr() == ("", "")
    plain = keras.models.load_model(path, compile=False)
    assert {type(layer).__module__.split(".")[0] for layer in plain.layers} == {"keras"}
    # its batch normalization rounds otherwise
    np.testing.assert_allclose(images_of(plain, gan.num_labels), expected, atol=1e-5)


@pytest.mark.parametrize("form", FORMS_OF_KERAS_2)
def test_generators_of_keras_2_load(gan, load, tmp_path, capfd, form):
    """Those are what the book's readers have; Keras 3 itself refuses them."""
    oracle = randomized(chapter.build_generator(28, gan.num_labels))
    FORMS_OF_KERAS_2[form](oracle, str(tmp_path / form))
    if form == "model.h5":
        with pytest.raises((TypeError, ValueError)):
            keras.models.load_model(tmp_path / form, compile=False)
    check_file_of_any_name(load, tmp_path / form, oracle, gan.num_labels, capfd)


@pytest.mark.parametrize("form", FORMS)
def test_generators_of_keras_3_load(gan, load, tmp_path, capfd, form):
    generator = randomized(gan.program.new_generator(28, gan.num_labels))
    FORMS[form](generator, str(tmp_path / form))
    check_file_of_any_name(load, tmp_path / form, generator, gan.num_labels, capfd)


def check_file_of_any_name(load, file, saved, num_labels, capfd):
    """Checks that a file is loaded exactly, whatever its suffix says."""
    expected = images_of(saved, num_labels)
    # neither flat grey nor all the same
    assert expected.std() > 0.2
    assert expected.std(axis=0).mean() > 0.1
    capfd.readouterr()
    for name in (file.name, "UPPER.H5", "k\u00e9.keras"):
        file = file.rename(file.with_name(name))
        loaded = load(file)
        assert_same_weights(loaded, saved)
    np.testing.assert_allclose(images_of(loaded, num_labels), expected, atol=1e-6)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("image_size", [8, 64])
def test_sizes_are_read_off_the_file(gan, load, tmp_path, form, image_size):
    num_labels = 26 if gan.num_labels else 0
    FORMS[form](gan.program.new_generator(image_size, num_labels), tmp_path / form)
    loaded = load(tmp_path / form)
    assert loaded.output_shape == (None, image_size, image_size, 1)
    assert [tensor.shape[1] for tensor in loaded.inputs] == [100, 26][: len(loaded.inputs)]


@pytest.mark.parametrize("library", [tf_keras, keras])
@pytest.mark.parametrize("form", FORMS)
def test_the_states_of_optimizers_and_random_generators_are_not_weights(tmp_path, library, form):
    def build(layers, model):
        z = layers.Input((100,))
        x = layers.Dropout(0.5)(layers.Dense(16, activation="sigmoid")(z))
        return model([z], layers.Reshape((4, 4, 1))(x))

    oracle = build(library.layers, library.Model)
    oracle.compile(loss="mse", optimizer="rmsprop")
    oracle.train_on_batch(np.ones((4, 100)), np.zeros((4, 4, 4, 1)))
    FORMS[form](oracle, str(tmp_path / form))
    loaded = load_generator(tmp_path / form, lambda *_: build(keras.layers, keras.Model))
    assert_same_weights(loaded, oracle)


def test_a_files_configuration_is_data(gan, load, tmp_path):
    """It could hold code: a Lambda layer's, or the name of any class."""
    generator = randomized(gan.program.new_generator(28, gan.num_labels))
    evil = json.dumps({"class_name": "Lambda", "module": "os", "config": {"function": "system"}})
    save_generator(generator, tmp_path / "evil.h5")
    with h5py.File(tmp_path / "evil.h5", "r+") as file:
        file.attrs["model_config"] = evil
    generator.save(tmp_path / "evil.keras")
    with (
        pytest.warns(UserWarning, match="Duplicate name"),
        zipfile.ZipFile(tmp_path / "evil.keras", "a") as archive,
    ):
        archive.writestr("config.json", evil)
    for name in ("evil.h5", "evil.keras"):
        assert_same_weights(load(tmp_path / name), generator)


def variant(library, end):
    """The chapter's generator in Keras 2 or 3, with another end and activations as arguments."""
    layers = library.layers
    x = z = layers.Input((100,))
    x = layers.Reshape((7, 7, 128))(layers.Dense(6272)(x))
    for filters, stride in ((128, 2), (64, 2), (32, 1), (1, 1)):
        x = layers.ReLU()(layers.BatchNormalization()(x))
        last = {"activation": end} if filters == 1 else {}
        x = layers.Conv2DTranspose(filters, 5, stride, padding="same", **last)(x)
    return randomized(library.Model(z, x))


@pytest.mark.parametrize("library", [tf_keras, keras])
@pytest.mark.parametrize("name", ["model.h5", "model.keras"])
@pytest.mark.parametrize("end", ["sigmoid", "tanh"])
def test_a_generator_that_ends_in_tanh_is_drawn_from_minus_one(tmp_path, library, name, end):
    oracle = variant(library, end)
    oracle.save(tmp_path / name)
    images = images_of(oracle)
    assert (images.min() < -0.5) == (end == "tanh")
    loaded = load_generator(tmp_path / name, dcgan_mnist.new_generator)
    drawn = generate(loaded, LatentSampler(100).draw(np.random.default_rng(0), 4))
    expected = (images + 1) / 2 if end == "tanh" else images
    np.testing.assert_allclose(drawn, expected, atol=5e-5)
    # and what is exported draws it, too
    export_generator(loaded, tmp_path / "exported.keras")
    exported = keras.models.load_model(tmp_path / "exported.keras")
    # of twice the range, and after a steeper function: float32 rounds twice as far
    np.testing.assert_allclose(images_of(exported), images, atol=5e-5)


@pytest.mark.parametrize("library", [tf_keras, keras])
@pytest.mark.parametrize("name", ["model.h5", "model.keras"])
@pytest.mark.parametrize("end", ["linear", "softplus"])
def test_another_last_activation_is_refused(tmp_path, library, name, end):
    variant(library, end).save(tmp_path / name)
    with pytest.raises(UserError, match=f"sigmoid as the last activation expected, {end} found"):
        load_generator(tmp_path / name, dcgan_mnist.new_generator)


@pytest.mark.parametrize("form", FORMS_OF_KERAS_2)
def test_the_other_programs_generator_is_refused(gan, load, tmp_path, form):
    others_labels = 0 if gan.num_labels else 10
    FORMS_OF_KERAS_2[form](chapter.build_generator(28, others_labels), str(tmp_path / form))
    own, other = ((100 + n, 6272) for n in (gan.num_labels, others_labels))
    differences = f"weights of shape {own} expected, {other} found"
    with pytest.raises(UserError) as refused:
        load(tmp_path / form)
    assert f"{form} does not hold this program's generator ({differences})" in str(refused.value)
    assert "such as cgan_mnist.py if it takes labels, dcgan_mnist.py if not" in str(refused.value)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("sizes", [(784, 10), (100, 6272), (110, 6272)])
def test_another_network_is_refused(gan, load, tmp_path, form, sizes):
    """Also one whose Dense layer is right, but without the layers after it; D, and what has it."""
    network = keras.Sequential([keras.Input(sizes[:1]), keras.layers.Dense(sizes[1])])
    complaint = r"does not hold this program's generator .*expected, .*found"
    for other in (network, *gan.models()[1:]):
        FORMS[form](other, tmp_path / form)
        with pytest.raises(UserError, match=complaint):
            load(tmp_path / form)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("kept", [0.999, 0.5, 0])
def test_a_truncated_file_is_refused(gan, load, tmp_path, form, kept):
    FORMS[form](gan.program.new_generator(28, gan.num_labels), tmp_path / form)
    content = (tmp_path / form).read_bytes()
    (tmp_path / form).write_bytes(content[: int(kept * len(content))])
    with pytest.raises(UserError, match=r"is not a complete \.h5 or \.keras file of Keras \("):
        load(tmp_path / form)


def test_files_of_something_else_are_refused(load, tmp_path):
    (tmp_path / "text.h5").write_text("not a model")
    Image.new("L", (28, 28)).save(tmp_path / "00000.png")
    np.savez(tmp_path / "set.npz", x_train=np.zeros((2, 28, 28), np.uint8))
    for file in list(tmp_path.iterdir()):
        with pytest.raises(UserError, match=rf"{file.name} is not a complete .*: give one saved"):
            load(file)
    with h5py.File(tmp_path / "set.h5", "w") as data:
        data["x_train"] = np.zeros((2, 28, 28))
    with pytest.raises(UserError, match=r"set.h5 does not hold .*, \(2, 28, 28\) found"):
        load(tmp_path / "set.h5")
    with pytest.raises(UserError, match=r"missing.h5 cannot be read: No such file or directory"):
        load(tmp_path / "missing.h5")


@pytest.mark.parametrize("damaged", ["kernel", "moving_variance"])
def test_weights_that_draw_nan_are_refused(gan, load, tmp_path, damaged):
    """A variance below zero is finite, but its root is not."""
    factor = np.nan if damaged == "kernel" else -1
    generator = gan.program.new_generator(8, gan.num_labels)
    for weights in generator.weights:
        if damaged in weights.path:
            weights.assign(weights * factor)
    save_generator(generator, tmp_path / "generator.h5")
    with pytest.raises(UserError, match=r"generator\.h5 holds or draws NaN"):
        load(tmp_path / "generator.h5")


@pytest.mark.parametrize("how", ["locked", "open for writing"])
def test_a_file_that_is_in_use_elsewhere_draws(tmp_path, how):
    path = tmp_path / "g.h5"
    generator = randomized(dcgan_mnist.new_generator(8))
    save_generator(generator, path)
    with path.open("rb") if how == "locked" else h5py.File(path, "r+") as held:
        if how == "locked":
            fcntl.flock(held, fcntl.LOCK_EX)
            h5py.File(path).close()  # HDF5 itself asks for no lock, which some file systems refuse
        assert_same_weights(load_generator(path, dcgan_mnist.new_generator), generator)
