"""Generators in files: ours, Keras 2's, and what is no generator at all."""

import contextlib
import errno
import fcntl
import json
import multiprocessing
import os
import resource
import time
import zipfile
from pathlib import Path

import h5py
import keras
import numpy as np
import pytest
import tf_keras

import cgan_mnist
import chapter
import dcgan_mnist
from common.cli import Parser
from common.errors import UserError
from common.gan.batches import Latent, generate
from common.gan.saving import load_generator, save_generator
from common.sampling.export import export_generator
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


def test_a_files_configuration_is_data(gan, load, tmp_path):
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
    with pytest.raises(UserError, match=r"cannot be read: a folder"):
        (tmp_path / "folder.h5").mkdir()
        load(tmp_path / "folder.h5")
    (tmp_path / "empty").touch()
    with pytest.raises(UserError, match=r"empty is neither an .h5 nor a .keras file"):
        load(tmp_path / "empty")
    with zipfile.ZipFile(tmp_path / "other.keras", "w") as archive:
        archive.writestr("readme.txt", "")
    with pytest.raises(UserError, match=r"not a .keras file \(model.weights.h5 expected"):
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


def draws(build, path, expected, num_labels=0):
    """Whether a file draws, on [0, 1], what the library that wrote it has predicted."""
    inputs = Latent(100, num_labels).draw(np.random.default_rng(0), 4)
    np.testing.assert_allclose(generate(load_generator(path, build), inputs), expected, atol=5e-5)


def predicted(model, num_labels=0):
    inputs = Latent(100, num_labels).draw(np.random.default_rng(0), 4)
    return np.array(model.predict_on_batch(inputs if num_labels else inputs[0]))


WAYS = {
    "model.h5": lambda model, path: model.save(path),
    "model.keras": lambda model, path: model.save(path),
    "only.weights.h5": lambda model, path: model.save_weights(str(path)),
    "weights.h5": lambda model, path: model.save_weights(str(path)),  # Keras 2 alone writes this
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("version", [2, 3])
@pytest.mark.filterwarnings("ignore:You are saving your model as an HDF5 file")
def test_whatever_keras_wrote_draws_whatever_it_is_called(gan, tmp_path, capfd, version, way):
    if (version, way) == (3, "weights.h5"):
        return
    build = chapter.build_generator if version == 2 else gan.program.new_generator
    oracle = randomized(build(28, gan.num_labels))
    expected = predicted(oracle, gan.num_labels)
    file = tmp_path / way
    WAYS[way](oracle, file)
    capfd.readouterr()
    for name in (way, "UPPER.H5", "other.keras", "generator", "g.hdf5", "k\u00e9.KERAS"):
        file = file.rename(tmp_path / name)
        draws(gan.program.new_generator, file, expected, gan.num_labels)
    assert capfd.readouterr() == ("", "")


def variant(library, end="sigmoid", activation=None, epsilon=1e-3, strides=(2, 2, 1, 1), **options):
    """The chapter's generator with changes, in Keras 2 or 3, activations as layers or arguments."""
    layers = library.layers
    x = z = layers.Input((100,))
    x = layers.Reshape((7, 7, 128))(layers.Dense(6272)(x))
    for filters, stride in zip((128, 64, 32, 1), strides, strict=True):
        x = layers.BatchNormalization(epsilon=epsilon)(x)
        x = (activation or layers.ReLU)()(x)
        last = {"activation": end} if filters == 1 else {}
        x = layers.Conv2DTranspose(filters, 5, stride, padding="same", **last, **options)(x)
    return randomized(library.Model(z, x))


@pytest.mark.parametrize("library", [tf_keras, keras])
@pytest.mark.parametrize("name", ["model.h5", "model.keras"])
@pytest.mark.parametrize("end", ["sigmoid", "tanh"])
@pytest.mark.filterwarnings("ignore:You are saving your model as an HDF5 file")
def test_a_generator_that_ends_in_tanh_is_drawn_from_minus_one(tmp_path, library, name, end):
    """And the same network, with activations as arguments and ReLU layers, is the same."""
    oracle = variant(library, end)
    oracle.save(tmp_path / name)
    images = predicted(oracle)
    assert (images.min() < -0.5) == (end == "tanh")
    expected = (images + 1) / 2 if end == "tanh" else images
    draws(dcgan_mnist.new_generator, tmp_path / name, expected)
    # and what is exported draws it, too
    loaded = load_generator(tmp_path / name, dcgan_mnist.new_generator)
    export_generator(loaded, tmp_path / "exported.keras")
    exported = keras.models.load_model(tmp_path / "exported.keras")
    # of twice the range, and after a steeper function: float32 rounds twice as far
    np.testing.assert_allclose(predicted(exported), images, atol=5e-5)


@pytest.mark.parametrize("library", [tf_keras, keras])
@pytest.mark.parametrize("name", ["model.h5", "model.keras"])
@pytest.mark.parametrize(
    ("changes", "expected", "found"),
    [
        ({"strides": (1, 2, 2, 1)}, "strides 2, padding same", "strides 1, padding same"),
        ({"activation": "LeakyReLU"}, "relu", r"LeakyReLU \(negative_slope 0.3\)"),
        ({"epsilon": 1e-5}, "epsilon 0.001", "epsilon 1e-05"),
        ({"end": "linear"}, "sigmoid", "no more"),
        ({"end": "softplus"}, "sigmoid", "softplus"),
    ],
)
@pytest.mark.filterwarnings("ignore:You are saving your model as an HDF5 file")
def test_another_computation_with_the_same_weights_is_refused(
    load_dcgan, tmp_path, library, name, changes, expected, found
):
    if "activation" in changes:
        changes = {"activation": getattr(library.layers, changes["activation"])}
    variant(library, **changes).save(tmp_path / name)
    pattern = f"does not hold this program's generator .*{expected}.* expected, .*{found}.* found"
    with pytest.raises(UserError, match=pattern):
        load_dcgan(tmp_path / name)


@pytest.fixture
def load_dcgan():
    return lambda path: load_generator(path, dcgan_mnist.new_generator)


@pytest.mark.filterwarnings("ignore:You are saving your model as an HDF5 file")
def test_labels_before_the_noise_are_not_taken_for_noise(tmp_path):
    layers = tf_keras.layers
    z, labels = layers.Input((100,)), layers.Input((10,))
    x = layers.concatenate([labels, z])
    x = layers.Reshape((7, 7, 128))(layers.Dense(6272)(x))
    for filters, stride in zip((128, 64, 32, 1), (2, 2, 1, 1), strict=True):
        x = layers.ReLU()(layers.BatchNormalization()(x))
        x = layers.Conv2DTranspose(filters, 5, stride, padding="same")(x)
    tf_keras.Model([z, labels], tf_keras.activations.sigmoid(x)).save(tmp_path / "g.h5")
    with pytest.raises(
        UserError,
        match=r"Concatenate \(100 and 10\) expected, Concatenate \(10 and 100\) found",
    ):
        load_generator(tmp_path / "g.h5", cgan_mnist.new_generator)


def hold(file, how, ready):
    """Keeps a file locked, or open for writing, until the process is ended."""
    with open(file, "rb") if how == "locked" else h5py.File(file, "r+") as held:
        if how == "locked":
            fcntl.flock(held, fcntl.LOCK_EX)
        ready.touch()
        time.sleep(600)


@pytest.mark.slow
@pytest.mark.parametrize("gan", ["dcgan"], indirect=True)
@pytest.mark.parametrize("how", ["locked", "open for writing"])
def test_a_file_that_is_in_use_elsewhere_draws(gan, tmp_path, how):
    generator = randomized(gan.program.new_generator(28, gan.num_labels))
    save_generator(generator, tmp_path / "g.h5")
    process = multiprocessing.get_context("spawn").Process(
        target=hold, args=(tmp_path / "g.h5", how, tmp_path / "ready"), daemon=True
    )
    process.start()
    try:
        while process.is_alive() and not (tmp_path / "ready").exists():
            time.sleep(0.1)
        assert process.is_alive()
        expected = images_of(generator, gan.num_labels)
        draws(gan.program.new_generator, tmp_path / "g.h5", expected, gan.num_labels)
    finally:
        process.kill()
        process.join()


def test_what_is_too_large_is_refused(load_dcgan, tmp_path):
    with open(tmp_path / "large.h5", "wb") as file:
        file.truncate(2**31 + 1)
    with pytest.raises(UserError, match=r"2147483649 bytes found, at most 2147483648 expected"):
        load_dcgan(tmp_path / "large.h5")


def test_an_error_while_reading_is_not_held_against_what_the_file_holds(
    load_dcgan, tmp_path, monkeypatch
):
    def failing(path, mode):
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(Path, "open", failing)
    with pytest.raises(UserError, match=r"g.h5 cannot be read: Input/output error$"):
        load_dcgan(tmp_path / "g.h5")


def test_weights_that_draw_nan_are_refused(gan, load, tmp_path):
    generator = gan.program.new_generator(8, gan.num_labels)
    for weights in generator.weights:
        if "moving_variance" in weights.path:
            weights.assign(-weights)
    save_generator(generator, tmp_path / "generator.h5")
    with pytest.raises(UserError, match=r"generator.h5 draws NaN: "):
        load(tmp_path / "generator.h5")


def test_files_made_to_fill_the_memory_are_refused(load_dcgan, tmp_path):
    with h5py.File(tmp_path / "zeros.h5", "w") as file:
        size = {"shape": (100, 2**24), "chunks": (1, 2**20), "compression": "gzip"}
        file.create_dataset("layers/dense/vars/0", **size)
    with zipfile.ZipFile(tmp_path / "zeros.keras", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("model.weights.h5", bytes(2**27))
    for name in ("zeros.h5", "zeros.keras"):
        with pytest.raises(UserError, match=r"bytes of weights expected, .* found in a file of"):
            load_dcgan(tmp_path / name)
    with h5py.File(tmp_path / "deep.h5", "w") as file:
        file.create_group("/".join(["g"] * 1000))
    with h5py.File(tmp_path / "wide.h5", "w") as file:
        for i in range(20_001):
            file.create_group(str(i))
    with h5py.File(tmp_path / "circle.h5", "w") as file:
        file["again"] = file["/"]
    with h5py.File(tmp_path / "link.h5", "w") as file:
        file["model_weights"] = h5py.ExternalLink("zeros.h5", "/")
    for name in ("deep.h5", "wide.h5", "circle.h5", "link.h5"):
        with pytest.raises(UserError, match=f"{name} is not a file that Keras writes"):
            load_dcgan(tmp_path / name)
    with h5py.File(tmp_path / "outside.h5", "w") as file:
        file.create_dataset("dense/kernel", (4,), external=[("zeros.h5", 0, 16)])
    with pytest.raises(UserError, match="has its weights in other files"):
        load_dcgan(tmp_path / "outside.h5")


def test_lists_of_names_that_keras_has_split_are_joined(gan, load, tmp_path):
    """As it splits those that HDF5 has no room for."""
    generator = randomized(gan.program.new_generator(8, gan.num_labels))
    save_generator(generator, tmp_path / "g.h5")
    with h5py.File(tmp_path / "g.h5", "r+") as file:
        attributes = file["model_weights"].attrs
        names = [name.encode() for name in attributes.pop("layer_names")]
        for i, part in enumerate([names[:5], names[5:6], names[6:]]):
            attributes[f"layer_names{i}"] = part
    np.testing.assert_array_equal(
        images_of(load(tmp_path / "g.h5"), gan.num_labels), images_of(generator, gan.num_labels)
    )


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
