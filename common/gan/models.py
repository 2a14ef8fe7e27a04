"""Compiling the networks and joining them into the adversarial model (listing 4.2.3)."""

import math
from collections.abc import Callable, Iterator

import keras

from common.gan.keras2 import BatchNormalization, RMSprop, decaying

_CONVOLUTIONS = (keras.layers.Conv2D, keras.layers.Conv2DTranspose)


def compile_model(
    model: keras.Model,
    lr: float,
    decay: float,
    loss: str | Callable = "binary_crossentropy",
    optimizer: Callable[..., keras.optimizers.Optimizer] = RMSprop,
) -> None:
    """Compiles D or the adversarial model as listing 4.2.3 does.

    Its outputs are probabilities of being real, of shape (count, 1). `optimizer` makes the
    optimizer from the schedule of its learning rate.
    """
    model.compile(
        loss=loss,
        optimizer=optimizer(decaying(lr, decay)),
        metrics=["accuracy"],
        jit_compile=False,  # XLA, which Keras may choose, takes 10 times as long on a CPU
    )


def set_precision(model: keras.Model, precision: str) -> None:
    """Sets what the convolutions of D or the adversarial model, compiled in float32, compute in.

    Weights and all other layers stay in float32, and so do convolutions of a single pixel: in
    bfloat16 oneDNN leaves parts of their gradient uninitialized. Those of 2 x 2 pixels and more
    were found right.

    A model whose convolutions compute in float16 gets a loss scale (Micikevicius et al.: Mixed
    Precision Training, 2017, arXiv:1710.03740), because many gradients are smaller than float16's
    smallest number.
    """
    if precision == "float32":
        return
    for layer in layers_of(model):
        if isinstance(layer, _CONVOLUTIONS) and not _sees_one_pixel(layer):
            layer.dtype_policy = f"mixed_{precision}"
    if precision == "float16":
        model.optimizer = keras.optimizers.LossScaleOptimizer(model.optimizer)


def _sees_one_pixel(convolution: keras.Layer) -> bool:
    return {*convolution.input.shape[1:3], *convolution.output.shape[1:3]} == {1}


def build_adversarial(generator: keras.Model, discriminator: keras.Model, name: str) -> keras.Model:
    """Joins G and D: adversarial(z) = D(G(z)) (listing 4.2.3, figures 4.1.4 and 4.3.3).

    G's inputs after z, the labels of a CGAN, are also D's. D is frozen here; the alternating step
    unfreezes it for D's own update.

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


def layers_of(network: keras.Model) -> Iterator[keras.Layer]:
    """The layers of a network, and of the networks within it, in their order."""
    for layer in network.layers:
        if isinstance(layer, keras.Model):
            yield from layers_of(layer)
        else:
            yield layer


def count_activations(network: keras.Model) -> int:
    """The number of values that all layers of a network compute for one image."""
    return sum(math.prod(layer.output.shape[1:]) for layer in layers_of(network))


def in_float32(network: keras.Model, plain: bool = False) -> keras.Model:
    """A copy of a network that computes in float32 in all layers.

    A plain copy has Keras's own batch normalization, which computes the same in inference mode, so
    that a file of it opens without this project.
    """

    def copied(layer: keras.Layer) -> keras.Layer:
        kind = type(layer)
        if plain and kind is BatchNormalization:
            kind = keras.layers.BatchNormalization
        return kind.from_config(layer.get_config() | {"dtype": "float32"})

    copy = keras.models.clone_model(network, clone_function=copied, recursive=True)
    copy.set_weights(network.get_weights())
    return copy


def class_names(generator: keras.Model) -> list[str]:
    """The names of a generator's classes; empty if they are called 0, 1, 2 and so on."""
    return list(getattr(generator, "class_names", []))


def last_layer(generator: keras.Model) -> keras.Layer:
    """The last layer with an activation: layers after it only move the pixels."""
    return next(x for x in reversed([*layers_of(generator)]) if hasattr(x, "activation"))


def lowest_pixel(generator: keras.Model) -> int:
    """The value that a generator draws black as: -1 if it ends in tanh, otherwise 0."""
    return -1 if last_layer(generator).activation is keras.activations.tanh else 0
