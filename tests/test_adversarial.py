"""How G and D are put together."""

import numpy as np


def test_adversarial_is_d_of_g(gan, rng):
    generator, discriminator, adversarial = gan.models(image_size=8)
    labels = [np.eye(10, dtype=np.float32)[np.arange(6)]] if gan.num_labels else []
    noise = rng.uniform(-1, 1, (6, 100)).astype(np.float32)
    images = np.array(generator([noise, *labels]))
    np.testing.assert_array_equal(adversarial([noise, *labels]), discriminator([images, *labels]))
    assert adversarial.name == gan.name


def test_the_label_reaches_both_networks(gan, rng):
    if not gan.num_labels:
        return
    generator, discriminator, _ = gan.models(image_size=8)
    noise = np.repeat(rng.uniform(-1, 1, (1, 100)), 10, axis=0).astype(np.float32)
    labels = np.eye(10, dtype=np.float32)
    images = np.array(generator([noise, labels]))
    assert len(np.unique(images.reshape(10, -1), axis=0)) == 10
    same_image = np.repeat(images[:1], 10, axis=0)
    assert len(np.unique(discriminator([same_image, labels]))) == 10


def test_only_the_generator_is_trainable_in_adversarial(gan):
    generator, discriminator, adversarial = gan.models(image_size=8)
    trainable = {id(weight) for weight in adversarial.trainable_weights}
    assert trainable == {id(weight) for weight in generator.trainable_weights}
    assert len(trainable) == 2 + 4 * 4  # Dense, and four times BN and Conv2DTranspose
    assert not discriminator.trainable_weights


def test_no_xla(gan):
    """It makes the step ten times slower on a CPU, and "auto" may choose it."""
    models = gan.models(image_size=8)
    assert not any(model.jit_compile for model in models)
