"""The networks of listings 4.2.1, 4.2.2, 4.3.1 and 4.3.2 against the same in Keras 2."""

import numpy as np
import pytest

import chapter


@pytest.fixture
def pairs(gan):
    """(ours, Keras 2's) for the generator and the discriminator."""
    ours = gan.models()[:2]
    oracles = (
        chapter.build_generator(28, gan.num_labels),
        chapter.build_discriminator(28, gan.num_labels),
    )
    return list(zip(ours, oracles, strict=True))


def test_layers_stand_in_the_listings_order(pairs):
    for ours, oracle in pairs:
        assert ours.name == oracle.name
        assert [type(layer).__name__ for layer in ours.layers if layer.weights] == [
            type(layer).__name__ for layer in oracle.layers if layer.weights
        ]
        # reading from the end, past the inputs, whose order among themselves is of no account
        count = len(ours.layers) - 4
        assert [type(layer).__name__ for layer in ours.layers][-count:] == [
            type(layer).__name__ for layer in oracle.layers
        ][-count:]


def test_layers_have_the_listings_settings(pairs):
    for ours, oracle in pairs:
        for layer, expected in zip(ours.layers[-12:], oracle.layers[-12:], strict=True):
            for setting in ("filters", "kernel_size", "strides", "padding", "activation", "units"):
                theirs = getattr(expected, setting, None)
                mine = getattr(layer, setting, None)
                assert getattr(mine, "__name__", mine) == getattr(theirs, "__name__", theirs)


@pytest.mark.parametrize("training", [False, True])
def test_same_weights_same_output(pairs, gan, rng, training):
    labels = [np.eye(10, dtype=np.float32)[np.arange(8)]] if gan.num_labels else []
    noise = rng.uniform(-1, 1, (8, 100)).astype(np.float32)
    images = rng.uniform(0, 1, (8, 28, 28, 1)).astype(np.float32)
    for (ours, oracle), first in zip(pairs, (noise, images), strict=True):
        weights = [w + rng.normal(0, 0.01, w.shape) for w in ours.get_weights()]
        ours.set_weights(weights)
        oracle.set_weights(weights)
        inputs = [first, *labels]
        np.testing.assert_allclose(
            ours(inputs, training=training),
            np.array(oracle(inputs, training=training)),
            atol=1e-5,
        )


@pytest.mark.parametrize("image_size", [8, 32])
def test_other_image_sizes(gan, image_size):
    generator, discriminator, _ = gan.models(image_size)
    assert generator.output_shape == (None, image_size, image_size, 1)
    assert discriminator.output_shape == (None, 1)
