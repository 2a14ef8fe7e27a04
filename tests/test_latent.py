"""Latent vectors and labels."""

import keras
import numpy as np

from common.gan.batches import Latent, one_hot


def test_noise_is_uniform_in_minus_one_to_one(rng):
    (noise,) = Latent().draw(rng, 2000)
    assert noise.shape == (2000, 100)
    assert noise.dtype == np.float32
    assert noise.min() >= -1.0
    assert noise.max() <= 1.0
    # U(-1, 1) has mean 0 and variance 1/3; the bounds are ten standard errors of 200,000 draws
    assert abs(noise.mean()) < 10 * np.sqrt(1 / 3 / noise.size)
    assert abs(noise.var() - 1 / 3) < 10 * np.sqrt(4 / 45 / noise.size)
    quarters, _ = np.histogram(noise, bins=4, range=(-1, 1))
    np.testing.assert_allclose(quarters / noise.size, 0.25, atol=0.01)


def test_each_draw_is_new(rng):
    latent = Latent(num_labels=10)
    first, second = latent.draw(rng, 16), latent.draw(rng, 16)
    assert not np.array_equal(first[0], second[0])
    assert not np.array_equal(first[1], second[1])


def test_labels_are_one_hot_and_uniform(rng):
    noise, labels = Latent(num_labels=4).draw(rng, 4000)
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
