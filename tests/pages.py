"""Generators for the tests of pages."""

import keras
import numpy as np
from keras import layers

import cgan_mnist
import dcgan_mnist
from common.gan.saving import load_generator
from conftest import ROOT, randomized


def chapters(program, image_size, num_labels=0):
    """A program's generator with random weights."""
    return randomized(program.new_generator(image_size, num_labels))


def included(program):
    """The trained generator that comes with a program."""
    return load_generator(ROOT / "pretrained" / f"{program.PROGRAM.name}.h5", program.new_generator)


def unusual():
    """What the programs' generators have not: each layer and setting that a page knows.

    Labels before z; batch normalization of z itself, after an activation, and of single pixels;
    kernels and strides that are not square, a kernel smaller than its stride, the padding "valid",
    no bias; numbers of filters that are no multiples of four; tanh.
    """
    z, y = keras.Input((7,)), keras.Input((12,))
    x = layers.Concatenate()([y, z])
    x = layers.BatchNormalization()(x)
    x = layers.Dense(16 * 6, activation="leaky_relu", use_bias=False)(x)
    x = layers.Flatten()(layers.Dropout(0.5)(x))
    x = layers.Reshape((4, 4, 6))(x)
    x = layers.BatchNormalization(scale=False, center=False)(x)
    x = layers.Conv2DTranspose(9, (4, 3), (1, 2), padding="same", use_bias=False)(x)
    x = layers.BatchNormalization()(layers.Flatten()(layers.BatchNormalization()(x)))
    x = layers.LeakyReLU(negative_slope=0.3)(layers.Reshape((4, 8, 9))(x))
    x = layers.Conv2DTranspose(5, (2, 2), (3, 1), padding="same", activation=layers.ReLU())(x)
    x = layers.Dense(6, activation="relu")(x)
    x = layers.Conv2DTranspose(1, (5, 9), padding="valid", activation="tanh")(x)
    generator = randomized(keras.Model([z, y], x))
    # with so few channels, larger kernels, or all images would be nearly the same
    larger = [4 * weight if weight.ndim > 1 else weight for weight in generator.get_weights()]
    generator.set_weights(larger)
    return generator


GENERATORS = {
    "included DCGAN": lambda: included(dcgan_mnist),
    "included CGAN": lambda: included(cgan_mnist),
    "8 pixels, 3 labels": lambda: chapters(cgan_mnist, 8, 3),
    "64 pixels, 47 labels": lambda: chapters(cgan_mnist, 64, 47),
    "unusual": unusual,
}


def inputs_for(generator, count, seed=0):
    """Noise, and labels or None."""
    rng = np.random.default_rng(seed)
    noise, *labels = (tensor.shape[1] for tensor in generator.inputs)
    drawn = rng.uniform(-1, 1, (count, noise)).astype(np.float32)
    return drawn, (rng.integers(0, labels[0], count) if labels else None)
