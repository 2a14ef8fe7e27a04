"""What must compute as in Keras 2: against the formulas in float64, and against tf-keras."""

import keras
import numpy as np
import pytest
import tensorflow as tf
import tf_keras

from common.gan.keras2 import BatchNormalization, RMSprop, decaying

# Gradients as this GAN has them: many are far below the 3e-4 that Keras 3's epsilon amounts to.
GRADIENTS = np.random.default_rng(0).normal(size=(50, 200)) * np.logspace(-9, 0, 200)


def minimize(optimizer, variable_class) -> np.ndarray:
    variable = variable_class(np.linspace(-1, 1, 200, dtype=np.float32))
    for gradient in GRADIENTS.astype(np.float32):
        optimizer.apply_gradients([(tf.constant(gradient), variable)])
    return variable.numpy()


@pytest.mark.parametrize("decay", [6e-8, 0.1])
def test_rmsprop_is_its_formula(decay):
    lr, rho, epsilon = 2e-4, 0.9, 1e-7
    w, v = np.linspace(-1, 1, 200), np.zeros(200)
    for n, g in enumerate(GRADIENTS):
        v = rho * v + (1 - rho) * g**2
        w -= lr / (1 + decay * n) * g / (np.sqrt(v) + epsilon)
    # float32 weights around 1 are 6e-8 off at each of 50 updates
    np.testing.assert_allclose(minimize(RMSprop(decaying(lr, decay)), keras.Variable), w, atol=3e-6)


@pytest.mark.parametrize("decay", [6e-8, 0.1])
@pytest.mark.filterwarnings("ignore:The `lr` argument is deprecated")
def test_rmsprop_is_keras_2s(decay):
    oracle = tf_keras.optimizers.legacy.RMSprop(lr=2e-4, decay=decay)
    np.testing.assert_allclose(
        minimize(RMSprop(decaying(2e-4, decay)), keras.Variable),
        minimize(oracle, tf.Variable),
        atol=1e-6,
    )


@pytest.fixture
def feature_maps(rng: np.random.Generator) -> np.ndarray:
    return rng.normal(3.0, 2.0, size=(4, 5, 6, 7)).astype(np.float32)


def test_batch_normalization_is_its_formula(feature_maps, rng):
    layer = BatchNormalization()
    layer.build(feature_maps.shape)
    gamma, beta, moving_mean, moving_variance = rng.uniform(0.5, 2.0, size=(4, 7))
    layer.set_weights([gamma, beta, moving_mean, moving_variance])
    x = feature_maps.astype(np.float64)

    inference = (x - moving_mean) / np.sqrt(moving_variance + 1e-3) * gamma + beta
    np.testing.assert_allclose(layer(feature_maps, training=False), inference, atol=1e-5)
    np.testing.assert_array_equal(layer.get_weights()[2], moving_mean.astype(np.float32))

    mean, variance = x.mean(axis=(0, 1, 2)), x.var(axis=(0, 1, 2))
    training = (x - mean) / np.sqrt(variance + 1e-3) * gamma + beta
    np.testing.assert_allclose(layer(feature_maps, training=True), training, atol=1e-5)

    unbiased = x.var(axis=(0, 1, 2), ddof=1)
    assert abs(unbiased / variance - 1).min() > 0.008  # the difference can be seen below
    np.testing.assert_allclose(layer.get_weights()[2], 0.99 * moving_mean + 0.01 * mean, rtol=1e-6)
    np.testing.assert_allclose(
        layer.get_weights()[3], 0.99 * moving_variance + 0.01 * unbiased, rtol=1e-6
    )


def test_batch_normalization_is_keras_2s(feature_maps):
    ours, oracle = BatchNormalization(), tf_keras.layers.BatchNormalization()
    for _ in range(3):
        np.testing.assert_array_equal(
            ours(feature_maps, training=True), oracle(feature_maps, training=True)
        )
    for weight, expected in zip(ours.get_weights(), oracle.get_weights(), strict=True):
        np.testing.assert_allclose(weight, expected, rtol=1e-6)


@pytest.mark.parametrize("settings", [{"scale": False}, {"center": False}, {"axis": 1}], ids=str)
def test_settings_of_batch_normalization_are_kerass(feature_maps, settings):
    """Apart from the moving variance of other axes than the last, which is Keras 3's."""
    ours, oracle = BatchNormalization(**settings), tf_keras.layers.BatchNormalization(**settings)
    for training in (True,) if "axis" in settings else (True, False):
        found, expected = (layer(feature_maps, training=training) for layer in (ours, oracle))
        np.testing.assert_allclose(found, expected, atol=1e-4)


@pytest.mark.parametrize("training", [True, False])
def test_batch_normalization_of_rank_2_is_keras_2s(rng, training):
    """Of the outputs of a Dense layer, which the fused kernel does not take."""
    ours, oracle = BatchNormalization(), tf_keras.layers.BatchNormalization()
    inputs = rng.normal(3.0, 2.0, size=(3, 6, 7)).astype(np.float32)
    weights = rng.uniform(0.5, 2.0, size=(4, 7))
    for layer in (ours, oracle):
        layer.build((None, 7))
        layer.set_weights(weights)
    for batch in inputs:
        np.testing.assert_allclose(
            ours(batch, training=training), oracle(batch, training=training), rtol=1e-5, atol=1e-6
        )
    for weight, expected in zip(ours.get_weights(), oracle.get_weights(), strict=True):
        np.testing.assert_allclose(weight, expected, rtol=1e-6)
    moved = [
        not np.allclose(w, start) for w, start in zip(ours.get_weights(), weights, strict=True)
    ]
    assert moved == [False, False, training, training]


def test_synchronized_over_one_device_it_is_the_fused_kernel(feature_maps):
    """What it computes over several, without the kernel, is shown in test_distribution.py."""
    synchronized, fused = BatchNormalization(synchronized=True), BatchNormalization()
    np.testing.assert_allclose(
        synchronized(feature_maps, training=True), fused(feature_maps, training=True), atol=1e-5
    )
    for weight, expected in zip(synchronized.get_weights(), fused.get_weights(), strict=True):
        np.testing.assert_allclose(weight, expected, rtol=1e-6)
    assert not synchronized.get_config()["synchronized"], "a file knows nothing of devices"


def test_a_frozen_layer_does_not_learn(feature_maps, rng):
    """It normalizes by its moving statistics, as Keras 2's, and passes gradients on."""
    ours, oracle = BatchNormalization(), tf_keras.layers.BatchNormalization()
    weights = rng.uniform(0.5, 2.0, size=(4, 7))
    found = []
    for layer in (ours, oracle):
        layer.build(feature_maps.shape)
        layer.set_weights(weights)
        layer.trainable = False

        @tf.function
        def run(inputs, layer=layer):
            outputs = layer(inputs, training=True)
            return outputs, tf.gradients(outputs, inputs)[0]

        found.append(run(tf.constant(feature_maps)))
        if layer is ours:
            # whose gradient, in this mode, TensorFlow refuses on a GPU: it is not deterministic
            graph = run.get_concrete_function(tf.constant(feature_maps)).graph
            assert not [op.type for op in graph.get_operations() if "FusedBatchNorm" in op.type]
        for weight, before in zip(layer.get_weights(), weights, strict=True):
            np.testing.assert_allclose(weight, before, rtol=1e-6)
    for value, expected in zip(*found, strict=True):
        np.testing.assert_allclose(value, expected, rtol=1e-5, atol=1e-6)
    # without its turn to learn, as where digits are drawn
    np.testing.assert_allclose(ours(feature_maps, training=False), found[1][0], atol=1e-5)
