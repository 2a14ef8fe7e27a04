"""Compiling the networks and joining them into the adversarial model (listing 4.2.3)."""

from __future__ import annotations

import keras

from common.gan.keras2 import RMSprop, decaying


def compile_model(model: keras.Model, lr: float, decay: float) -> None:
    """Compiles D or the adversarial model as listing 4.2.3 does.

    A model that computes in float16 gets a loss scale (Micikevicius et al.: Mixed Precision
    Training, 2017, arXiv:1710.03740), because many gradients are smaller than float16's smallest
    number.

    Args:
        model: From images or latent vectors to the probability of being real, shape (count, 1).
        lr: Learning rate of RMSprop.
        decay: Decay of RMSprop.
    """
    optimizer = RMSprop(decaying(lr, decay))
    networks = [getattr(part, "layers", [part]) for part in model.layers]
    if any(layer.compute_dtype == "float16" for layers in networks for layer in layers):
        optimizer = keras.optimizers.LossScaleOptimizer(optimizer)
    model.compile(
        loss="binary_crossentropy",
        optimizer=optimizer,
        metrics=["accuracy"],
        jit_compile=False,  # XLA, which Keras may choose, takes 10 times as long on a CPU
    )


def build_adversarial(generator: keras.Model, discriminator: keras.Model, name: str) -> keras.Model:
    """Joins G and D: adversarial(z) = D(G(z)) (listing 4.2.3, figures 4.1.4 and 4.3.3).

    Whatever G takes in after z, the labels of a CGAN, is passed on to D. D is frozen here; the
    alternating step unfreezes it for D's own update.

    Args:
        generator: From `[z]` or `[z, labels]` to images of shape (count, size, size, 1).
        discriminator: From `[images]` or `[images, labels]` to probabilities, shape (count, 1).
        name: The model's name.

    Returns:
        The model from G's inputs to D's output, not yet compiled.
    """
    discriminator.trainable = False
    fake = [generator(generator.inputs), *generator.inputs[1:]]
    return keras.Model(generator.inputs, discriminator(fake), name=name)


def lowest_pixel(generator: keras.Model) -> int:
    """The value that a generator draws black as: -1 if it ends in tanh, otherwise 0."""
    layers = keras.layers
    only_move_pixels = (layers.Reshape, layers.Permute, layers.Cropping2D)
    last = next(x for x in reversed(generator.layers) if not isinstance(x, only_move_pixels))
    if isinstance(last, keras.Model):
        return lowest_pixel(last)
    return -1 if getattr(last, "activation", None) is keras.activations.tanh else 0
