"""Generators in files: ours, Keras 2's, and what is no generator at all."""

import contextlib
import json
import resource
import zipfile

import h5py
import keras
import numpy as np
import pytest

import chapter
import dcgan_mnist
from common.cli import Parser
from common.errors import UserError
from common.gan.batches import Latent
from common.gan.saving import load_generator, save_generator
from conftest import randomized
from processes import run


@pytest.fixture
def load(gan):
    """Loads a file as the program does."""
    return lambda path: load_generator(path, gan.program.new_generator)


def images_of(generator, num_labels):
    inputs = Latent(100, num_labels).draw(np.random.default_rng(0), 4)
    return np.array(generator.predict_on_batch(inputs))


def test_the_images_compared_below_are_no_flat_grey(gan):
    images = images_of(randomized(gan.program.new_generator(28, gan.num_labels)), gan.num_labels)
    assert images.std() > 0.2
    assert images.std(axis=0).mean() > 0.1  # and each is another


def test_what_was_saved_is_loaded(gan, load, tmp_path, recwarn, capfd):
    generator = randomized(gan.program.new_generator(28, gan.num_labels))
    path = tmp_path / f"{gan.name}.h5"
    save_generator(generator, path)
    loaded = load(path)
    np.testing.assert_array_equal(
        images_of(loaded, gan.num_labels), images_of(generator, gan.num_labels)
    )
    for weights, expected in zip(loaded.get_weights(), generator.get_weights(), strict=True):
        np.testing.assert_array_equal(weights, expected)
    assert list(tmp_path.iterdir()) == [path]
    # Keras would warn of a legacy format
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("image_size", [8, 64])
def test_sizes_are_read_off_the_file(gan, load, tmp_path, image_size):
    num_labels = 26 if gan.num_labels else 0
    path = tmp_path / "generator.h5"
    save_generator(gan.program.new_generator(image_size, num_labels), path)
    loaded = load(path)
    assert loaded.output_shape == (None, image_size, image_size, 1)
    assert [tensor.shape[1] for tensor in loaded.inputs] == [100, 26][: len(loaded.inputs)]


def test_plain_keras_loads_our_files(gan, tmp_path):
    """Anyone can use the generator without this project."""
    generator = randomized(gan.program.new_generator(28, gan.num_labels))
    save_generator(generator, tmp_path / "generator.h5")
    loaded = keras.models.load_model(tmp_path / "generator.h5", compile=False)
    assert {type(layer).__module__.split(".")[0] for layer in loaded.layers} == {"keras"}
    inputs = Latent(100, gan.num_labels).draw(np.random.default_rng(0), 4)
    np.testing.assert_allclose(
        loaded.predict_on_batch(inputs if gan.num_labels else inputs[0]),
        images_of(generator, gan.num_labels),
        atol=1e-5,  # its batch normalization rounds otherwise
    )


@pytest.mark.parametrize("suffix", [".h5", ".hdf5", ".keras"])
@pytest.mark.filterwarnings("ignore:You are saving your model as an HDF5 file")
def test_generators_of_keras_2_load(gan, load, tmp_path, suffix):
    """Those are what the book's readers have; Keras 3 itself refuses them."""
    oracle = randomized(chapter.build_generator(28, gan.num_labels))
    path = tmp_path / f"generator{suffix}"
    oracle.save(path)
    inputs = Latent(100, gan.num_labels).draw(np.random.default_rng(0), 4)
    expected = oracle.predict_on_batch(inputs)
    np.testing.assert_allclose(images_of(load(path), gan.num_labels), expected, atol=1e-6)
    if suffix == ".h5":
        with pytest.raises((TypeError, ValueError)):
            keras.models.load_model(path, compile=False)


@pytest.mark.filterwarnings("ignore:You are saving your model as an HDF5 file")
def test_a_compiled_generator_of_keras_2_loads(gan, load, tmp_path):
    oracle = randomized(chapter.build_generator(28, gan.num_labels))
    oracle.compile(loss="mse", optimizer="rmsprop")
    inputs = Latent(100, gan.num_labels).draw(np.random.default_rng(0), 4)
    oracle.train_on_batch(inputs, np.zeros((4, 28, 28, 1)))
    oracle.save(tmp_path / "generator.h5")
    expected = oracle.predict_on_batch(inputs)
    loaded = load(tmp_path / "generator.h5")
    np.testing.assert_allclose(images_of(loaded, gan.num_labels), expected, atol=1e-6)


def test_keras_files_load(gan, load, tmp_path):
    generator = randomized(gan.program.new_generator(28, gan.num_labels))
    generator.save(tmp_path / "generator.keras")
    np.testing.assert_array_equal(
        images_of(load(tmp_path / "generator.keras"), gan.num_labels),
        images_of(generator, gan.num_labels),
    )


def test_a_files_configuration_is_not_even_read(gan, load, tmp_path):
    """It could hold code: a Lambda layer's, or the name of any class."""
    generator = randomized(gan.program.new_generator(28, gan.num_labels))
    expected = images_of(generator, gan.num_labels)
    evil = json.dumps({"class_name": "Lambda", "module": "os", "config": {"function": "system"}})

    save_generator(generator, tmp_path / "evil.h5")
    with h5py.File(tmp_path / "evil.h5", "r+") as file:
        file.attrs["model_config"] = evil
    np.testing.assert_array_equal(images_of(load(tmp_path / "evil.h5"), gan.num_labels), expected)

    generator.save(tmp_path / "good.keras")
    with (
        zipfile.ZipFile(tmp_path / "good.keras") as good,
        zipfile.ZipFile(tmp_path / "evil.keras", "w") as archive,
    ):
        for name in good.namelist():
            archive.writestr(name, evil if name == "config.json" else good.read(name))
    np.testing.assert_array_equal(
        images_of(load(tmp_path / "evil.keras"), gan.num_labels), expected
    )


@pytest.mark.parametrize("suffix", [".h5", ".keras"])
@pytest.mark.filterwarnings("ignore:You are saving your model as an HDF5 file")
def test_the_other_programs_generator_is_refused(gan, load, tmp_path, suffix):
    path = tmp_path / f"generator{suffix}"
    chapter.build_generator(28, 0 if gan.num_labels else 10).save(path)
    expected = "without labels.*dcgan_mnist.py" if gan.num_labels else "10 labels.*cgan_mnist.py"
    with pytest.raises(
        UserError, match=rf"generator{suffix} does not hold .*expected, .*found.*{expected}"
    ):
        load(path)


@pytest.mark.parametrize("which", [1, 2])
@pytest.mark.parametrize("suffix", [".h5", ".keras"])
@pytest.mark.filterwarnings("ignore:You are saving your model as an HDF5 file")
def test_a_discriminator_is_refused(gan, load, tmp_path, suffix, which):
    """And so is the adversarial model, which has one in it."""
    path = tmp_path / f"file{suffix}"
    gan.models()[which].save(path)
    with pytest.raises(UserError, match=r"holds a discriminator: give the file of a generator"):
        load(path)


def test_another_network_is_refused(load, tmp_path):
    path = tmp_path / "file.h5"
    classifier = keras.Sequential([keras.Input((784,)), keras.layers.Dense(10)])
    save_generator(classifier, path)
    with pytest.raises(
        UserError, match=r"does not hold this program's generator .*expected, .*found"
    ):
        load(path)


def test_a_generator_of_another_shape_is_refused(gan, load, tmp_path):
    """Its Dense layer is right, but layers after it are missing."""
    path = tmp_path / "file.h5"
    rows = 100 + gan.num_labels
    save_generator(keras.Sequential([keras.Input((rows,)), keras.layers.Dense(6272)]), path)
    with pytest.raises(
        UserError, match=r"does not hold this program's generator .*\(5, 5, 128, 128\)"
    ):
        load(path)
    path = tmp_path / "file.keras"
    keras.Sequential([keras.Input((rows,)), keras.layers.Dense(6272)]).save(path)
    with pytest.raises(UserError, match="does not hold this program's generator "):
        load(path)


@pytest.mark.parametrize("suffix", [".h5", ".keras"])
@pytest.mark.parametrize("kept", [0.999, 0.5, 0.001])
def test_a_truncated_file_is_refused(gan, load, tmp_path, suffix, kept):
    path = tmp_path / f"generator{suffix}"
    generator = gan.program.new_generator(28, gan.num_labels)
    if suffix == ".h5":
        save_generator(generator, path)
    else:
        generator.save(path)
    content = path.read_bytes()
    path.write_bytes(content[: int(kept * len(content))])
    with pytest.raises(UserError, match="is cut short or damaged"):
        load(path)


def test_files_of_other_kinds_are_refused(load, tmp_path):
    for suffix in (".h5", ".keras"):
        path = tmp_path / f"text{suffix}"
        path.write_text("not a model")
        with pytest.raises(UserError, match=rf"text{suffix} is not a {suffix} file"):
            load(path)
    with pytest.raises(UserError, match=r"cannot be read: No such file or directory"):
        load(tmp_path / "missing.h5")
    with pytest.raises(UserError, match=r"cannot be read: Is a directory"):
        (tmp_path / "folder.h5").mkdir()
        load(tmp_path / "folder.h5")
    with pytest.raises(UserError, match=r"expected a file named .h5, .hdf5 or .keras"):
        load(tmp_path / "dcgan_mnist.pt")
    with zipfile.ZipFile(tmp_path / "other.keras", "w") as archive:
        archive.writestr("readme.txt", "")
    with pytest.raises(UserError, match=r"is cut short or damaged \(.*model.weights.h5"):
        load(tmp_path / "other.keras")


@pytest.mark.parametrize("suffix", [".h5", ".keras"])
def test_bits_that_flip_never_cost_more_than_a_line(gan, load, tmp_path, suffix):
    path = tmp_path / f"generator{suffix}"
    generator = gan.program.new_generator(8, gan.num_labels)
    if suffix == ".h5":
        save_generator(generator, path)
    else:
        generator.save(path)
    content = path.read_bytes()
    rng = np.random.default_rng(0)
    for _ in range(40):
        damaged = bytearray(content)
        # most of a file is weights, in which a flipped bit is just another weight
        for position in rng.integers(0, 8000, size=20):
            damaged[position] = rng.integers(256)
        path.write_bytes(damaged)
        with contextlib.suppress(UserError):
            load(path)


def test_weights_that_are_not_finite_are_refused(gan, load, tmp_path):
    generator = gan.program.new_generator(8, gan.num_labels)
    generator.set_weights([w * np.nan for w in generator.get_weights()])
    save_generator(generator, tmp_path / "generator.h5")
    with pytest.raises(UserError, match="holds NaN or infinity"):
        load(tmp_path / "generator.h5")


def test_a_size_no_generator_has_is_refused_before_it_is_built(load, tmp_path):
    with h5py.File(tmp_path / "huge.h5", "w") as file:
        file.create_dataset("dense/kernel", shape=(100, 128 * 10_000**2), chunks=(1, 128))
    with pytest.raises(
        UserError, match=r"does not hold this program's generator .*expected, .*found"
    ):
        load(tmp_path / "huge.h5")


def save_with_limit(file, limit):
    """Saves a generator where files cannot be larger."""
    generator = dcgan_mnist.new_generator(8)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
    parser = Parser("dcgan_mnist", "")
    with parser.one_line_errors():
        save_generator(generator, file)


@pytest.mark.parametrize("limit", [0, 100_000])
def test_a_disk_that_fills_up_while_a_generator_is_saved(tmp_path, limit):
    """HDF5 itself would take the process down with it."""
    path = tmp_path / "dcgan_mnist.h5"
    path.write_text("old")
    status, _, err = run(tmp_path, save_with_limit, path, limit)
    assert status == 2
    assert err == f"dcgan_mnist.py: error: cannot write {path}: File too large\n"
    assert list(tmp_path.iterdir()) == [path]
    assert path.read_text() == "old"
