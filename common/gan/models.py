"""How are G and D put together and compiled?"""

from __future__ import annotations

import keras

from common.gan.keras2 import RMSprop, decaying


def compile_model(model: keras.Model, lr: float, decay: float) -> None:
    """Compiles D or the adversarial model as listing 4.2.3 does.

    Many gradients are smaller than float16's smallest number. A model that computes in float16
    learns from a scaled loss: as large as its gradients allow, which are scaled down again before
    they are applied (Micikevicius et al.: Mixed Precision Training, 2017, arXiv:1710.03740).

    Args:
        model: Takes in images or latent vectors and gives the probability of being real,
            shape (count, 1).
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

    The conditions of a CGAN, whatever G takes in after z, are passed on to D. D is frozen here;
    `AlternatingStep` thaws it for its own update.

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
