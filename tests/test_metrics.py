"""The metrics, against known answers and an independent implementation."""

import numpy as np
import pytest
import scipy.linalg
from prdc import compute_prdc

from common.evaluation.metrics import frechet_distance, nearest, prdc, total_variation


def with_moments(rng, mean, covariance, count=500):
    """A cloud whose mean and covariance are just these."""
    x = rng.normal(size=(count, len(mean)))
    x -= x.mean(axis=0)
    x = x @ np.linalg.inv(np.linalg.cholesky(np.cov(x, rowvar=False))).T
    return x @ np.linalg.cholesky(covariance).T + mean


def test_the_frechet_distance_of_known_gaussians(rng):
    """|m|^2 + sum (s1 - s2)^2, where the covariances commute."""
    real = with_moments(rng, np.zeros(3), np.diag([1.0, 4.0, 9.0]))
    fake = with_moments(rng, np.array([3.0, 4.0, 0.0]), np.diag([4.0, 4.0, 1.0]))
    assert frechet_distance(real, fake) == pytest.approx(25 + 1 + 0 + 4, rel=1e-9)


def test_the_frechet_distance_by_the_root_of_a_matrix(rng):
    """The formula as it is written, where the covariances do not commute."""
    a, b = rng.normal(size=(2, 8, 8))
    real = with_moments(rng, np.zeros(8), a @ a.T)
    fake = with_moments(rng, np.ones(8), b @ b.T)
    root = scipy.linalg.sqrtm(a @ a.T @ b @ b.T)
    expected = 8 + np.trace(a @ a.T + b @ b.T - 2 * root.real)
    assert frechet_distance(real, fake) == pytest.approx(expected, rel=1e-6)
    assert frechet_distance(fake, real) == pytest.approx(expected, rel=1e-6)


def test_where_the_root_of_the_matrix_does_not_exist(rng):
    """A feature that is constant, and fewer images than features."""
    real = with_moments(rng, np.zeros(3), np.eye(3))
    assert frechet_distance(real * [1, 1, 0], real * [1, 1, 0] + 2) == pytest.approx(12)
    few = rng.normal(size=(5, 20))
    assert frechet_distance(few, few) == pytest.approx(0, abs=1e-6)
    assert frechet_distance(few, few + 1) == pytest.approx(20, abs=1e-6)


def test_prdc_is_that_of_its_authors(rng, monkeypatch):
    """Against their own package, of the same name."""
    real = rng.normal(size=(700, 6))
    fake = rng.normal(0.3, 0.8, size=(400, 6))
    for k in (3, 5):
        expected = compute_prdc(real, fake, k)
        assert 0.05 < expected["recall"] < expected["precision"] < 0.995
        assert prdc(real, fake, k) == pytest.approx(expected, rel=1e-12)
        with monkeypatch.context() as patch:
            patch.setattr("common.evaluation.metrics._CHUNK", 0.1)  # many chunks
            assert prdc(real, fake, k) == pytest.approx(expected, rel=1e-12)


def test_total_variation():
    uniform, skewed, other = np.array([[5, 5, 5, 5], [40, 20, 20, 0], [0, 0, 0, 1]])
    assert total_variation(uniform, uniform * 7) == 0
    assert total_variation(uniform, skewed) == pytest.approx(0.25)
    assert total_variation(skewed, other) == 1


def test_the_nearest_image(rng):
    images = rng.random((30, 4, 4, 1), np.float32)
    order = rng.permutation(30)
    shift = np.zeros((30, 4, 4, 1), np.float32)
    shift[:, 0, 0] = 0.003
    shift[:, 1, 1] = 0.004
    indexes, distances = nearest(images[order] + shift, images)
    np.testing.assert_array_equal(indexes, order)
    np.testing.assert_allclose(distances, 0.005, rtol=1e-2)
