"""Batches: latent vectors, labels, real images."""

import keras
import numpy as np

from common.gan.batches import LatentSampler, RealImages, generate, one_hot
from common.gan.models import lowest_pixel


def test_noise_is_uniform_in_minus_one_to_one(rng):
    (noise,) = LatentSampler(100).draw(rng, 2000)
    assert noise.shape == (2000, 100)
    assert noise.dtype == np.float32
    assert noise.min() >= -1.0
    assert noise.max() <= 1.0
    # U(-1, 1) has mean 0 and variance 1/3; the bounds are ten standard errors of 200,000 draws
    assert abs(noise.mean()) < 10 * np.sqrt(1 / 3 / noise.size)
    assert abs(noise.var() - 1 / 3) < 10 * np.sqrt(4 / 45 / noise.size)
    quarters, _ = np.histogram(noise, bins=4, range=(-1, 1))
    np.testing.assert_allclose(quarters / noise.size, 0.25, atol=0.01)


def test_labels_are_one_hot_and_uniform(rng):
    noise, labels = LatentSampler(100, 4).draw(rng, 4000)
    assert noise.shape == (4000, 100)
    assert labels.shape == (4000, 4)
    assert labels.dtype == np.float32
    assert set(np.unique(labels)) == {0.0, 1.0}
    np.testing.assert_array_equal(labels.sum(axis=1), 1.0)
    # five standard deviations of a binomial
    np.testing.assert_allclose(labels.sum(axis=0), 1000, atol=5 * np.sqrt(4000 * 3 / 16))


def test_one_hot_is_kerass():
    labels = np.array([3, 0, 9, 3])
    np.testing.assert_array_equal(one_hot(labels, 10), keras.utils.to_categorical(labels, 10))


def test_real_images_are_scaled_per_batch(rng):
    # every pixel of image i is i, and its label is i % 10
    images = np.broadcast_to(np.arange(256, dtype=np.uint8)[:, None, None], (256, 8, 8))
    real = RealImages(images, np.arange(256) % 10)
    assert real.images is images
    assert real.num_labels == 10
    x, y = real.take(real.draw_indexes(rng, 5000))
    assert x.shape == (5000, 8, 8, 1)
    assert x.dtype == y.dtype == np.float32
    indexes = np.rint(x[:, 0, 0, 0] * 255).astype(int)
    expected = indexes[:, None, None, None] / 255.0
    np.testing.assert_allclose(x, np.broadcast_to(expected, x.shape), rtol=1e-7)
    np.testing.assert_array_equal(y.argmax(axis=1), indexes % 10)
    assert set(indexes) == set(range(256))  # all are picked, with replacement


def test_real_images_for_a_generator_that_ends_in_tanh(small_data):
    images, labels = small_data
    x, _ = RealImages(images, labels, lowest=-1).take(np.arange(40))
    assert x.dtype == np.float32
    np.testing.assert_allclose(x[..., 0], images.astype(float) / 127.5 - 1, atol=1e-6)


def test_images_of_a_generator_that_ends_in_tanh(rng):
    z = keras.Input((3,))
    images = keras.layers.Reshape((2, 2, 1))(keras.layers.Dense(4, activation="tanh")(z))
    generator = keras.Model([z], images)
    assert lowest_pixel(generator) == -1
    noise = rng.uniform(-1, 1, (300, 3)).astype(np.float32)
    expected = (generator.predict(noise, verbose=0).astype(float) + 1) / 2
    assert expected.min() < 0.4 < 0.6 < expected.max()
    np.testing.assert_allclose(generate(generator, [noise]), expected, atol=1e-6)


def test_a_generators_inputs(gan, rng):
    """Which `LatentSampler` reads from the generator: the chapter's sizes, and others."""
    for num_labels in (gan.num_labels, gan.num_labels and 3):
        latent = LatentSampler.of(gan.program.new_generator(8, num_labels))
        assert (latent.latent_size, latent.num_labels) == (100, num_labels)
        _, *labels = latent.draw_in_turn(rng, 7)
        assert [list(x.argmax(axis=1)) for x in labels] == (
            [[i % num_labels for i in range(7)]] if num_labels else []
        )
