"""How G and D are put together."""

import sys

import keras
import numpy as np
import pytest

from common.training import train


def test_adversarial_is_d_of_g(gan, rng):
    generator, discriminator, adversarial = gan.models(image_size=8)
    labels = [np.eye(10, dtype=np.float32)[np.arange(6)]] if gan.num_labels else []
    noise = rng.uniform(-1, 1, (6, 100)).astype(np.float32)
    images = np.array(generator([noise, *labels]))
    np.testing.assert_array_equal(adversarial([noise, *labels]), discriminator([images, *labels]))
    assert not discriminator.trainable_weights  # as the listing has it, until D's own turn


def test_the_label_reaches_both_networks(gan, rng):
    if not gan.num_labels:
        pytest.skip("a DCGAN has no labels")
    generator, discriminator, _ = gan.models(image_size=8)
    noise = np.repeat(rng.uniform(-1, 1, (1, 100)), 10, axis=0).astype(np.float32)
    labels = np.eye(10, dtype=np.float32)
    images = np.array(generator([noise, labels]))
    assert len(np.unique(images.reshape(10, -1), axis=0)) == 10
    same_image = np.repeat(images[:1], 10, axis=0)
    assert len(np.unique(discriminator([same_image, labels]))) == 10


def test_no_xla(gan, monkeypatch):
    """It takes ten times as long on a CPU, and Keras, left to choose, may choose it."""
    monkeypatch.setattr(keras.Model, "_resolve_auto_jit_compile", lambda self: True, raising=False)
    monkeypatch.setattr("keras.src.trainers.trainer.model_supports_jit", lambda model: True)
    built = gan.built(image_size=8)
    step_of_training(*built, monkeypatch)
    for model in built[0]:
        assert model.jit_compile is False


def test_hyper_parameters_are_the_chapters(gan, monkeypatch):
    models, noise_input, run = gan.built(image_size=8)
    _, discriminator, adversarial = models
    for model, lr, decay in [(discriminator, 2e-4, 6e-8), (adversarial, 1e-4, 3e-8)]:
        schedule = model.optimizer._learning_rate
        for n in (0, 20_000, 40_000):
            expected = pytest.approx(lr / (1 + decay * n), rel=2e-7)  # float32's resolution
            assert float(schedule(n)) == expected
        assert model.optimizer.rho == 0.9
        assert model.optimizer.epsilon == 1e-7
        assert model.loss == "binary_crossentropy"
    assert adversarial.name == gan.name
    assert noise_input[0].shape == (16, 100)
    assert [list(labels.argmax(axis=1)) for labels in noise_input[1:]] == (
        [[0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 0, 1, 2, 3, 4, 5]] if gan.num_labels else []
    )
    step = step_of_training(models, noise_input, run, monkeypatch)
    assert step.models is models
    assert step.batch_size == 64
    assert step.latent.latent_size == 100
    assert step.latent.num_labels == step.real.num_labels == gan.num_labels


def step_of_training(models, noise_input, run, monkeypatch):
    """The step that `train` makes; training ends before the first one."""
    made = []

    def stop(step, *args):
        made.append(step)
        raise InterruptedError

    # by its name, because the package has a function of that name
    monkeypatch.setattr(sys.modules["common.training.train"], "TrainingState", stop)
    with pytest.raises(InterruptedError):
        train(models, noise_input, run)
    return made[0]
