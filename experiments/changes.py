"""What is changed in the DCGAN: what stands in the place of names of dcgan_mnist.py."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from dcgan_mnist import build_discriminator, build_generator  # before Keras, which it sets up

# isort: split
import keras
import tensorflow as tf
from keras import KerasTensor, Model
from keras.layers import (
    Activation,
    Conv2D,
    Conv2DTranspose,
    LeakyReLU,
    MaxPooling2D,
    UpSampling2D,
)

from common.gan.keras2 import BatchNormalization
from common.gan.models import compile_model, last_layer

# What stands in the place of layers. Each is called as the layer is in the listing.


class BatchStatistics(BatchNormalization):
    """Batch normalization by the statistics of the batch, also where the layer is frozen.

    Since TensorFlow 2.0 a frozen layer of Keras normalizes by its moving statistics, so that D is
    one function in its own turn and another in G's. With TensorFlow 1, of the chapter's time, it
    was the same in both, as in the code of the DCGAN paper. This layer never uses the moving
    statistics: D has no task after training.
    """

    def call(self, inputs: tf.Tensor, training: bool | None = None) -> tf.Tensor:
        """Normalizes float32 of shape (batch, height, width, channels)."""
        return self.normalize(inputs, *tf.nn.moments(inputs, [0, 1, 2]))


class OwnStatistics(BatchStatistics):
    """The same, but real images and fakes are normalized each by statistics of their own.

    D's batch has real images in its first half and fakes in its second. So one update with this
    layer is what the DCGAN paper's code does with two passes, one for either half, before it
    updates D.
    """

    def call(self, inputs: tf.Tensor, training: bool | None = None) -> tf.Tensor:
        """Normalizes float32 of shape (batch, height, width, channels)."""
        # frozen, in G's turn, it gets fakes alone
        parts = tf.split(inputs, 2) if self.trainable else [inputs]
        normalize = super().call
        return tf.concat([normalize(part) for part in parts], axis=0)


def normalized_by(normalization: type[BatchNormalization]) -> Callable:
    """LeakyReLU with batch normalization before it, but not in D's input layer."""

    def leaky_relu(negative_slope: float) -> Callable[[KerasTensor], KerasTensor]:
        def layers(x: KerasTensor) -> KerasTensor:
            return LeakyReLU(negative_slope)(x if _is_image(x) else normalization()(x))

        return layers

    return leaky_relu


def leaky_relu_but_of_images(negative_slope: float) -> Callable[[KerasTensor], KerasTensor]:
    """LeakyReLU, except in D's input layer: what comes from an image goes on as it is.

    For images in [0, 1] this changes nothing. In images in [-1, 1] LeakyReLU would divide the
    differences between what is darker than grey by five.
    """
    return lambda x: x if _is_image(x) else LeakyReLU(negative_slope)(x)


def _is_image(x: KerasTensor) -> bool:
    return x.shape[-1] == 1


def relu(negative_slope: float) -> Activation:
    """ReLU, whose gradient for negative inputs is zero."""
    return Activation("relu")


def convolution_of_at_most_128(filters: int, *args: Any, **settings: Any) -> Conv2D:
    """Conv2D with 128 filters where the listing has 256.

    The listing tells the last layer, which has no strides, by its number of filters. So in the
    listing itself 128 filters would take away the strides of the layer before as well.
    """
    return Conv2D(min(filters, 128), *args, **settings)


def pooled_convolution(filters: int, kernel_size: int, strides: int, **settings: Any) -> Callable:
    """Conv2D without strides, and MaxPooling2D where there were some."""
    convolution = Conv2D(filters, kernel_size, **settings)
    if strides == 1:
        return convolution
    # "same", because convolutions halve 7 to 4
    return lambda x: MaxPooling2D(strides, padding="same")(convolution(x))


def convolution_of_upsampled(
    filters: int, kernel_size: int, strides: int, **settings: Any
) -> Callable:
    """Conv2DTranspose without strides, and UpSampling2D before it where there were some."""
    convolution = Conv2DTranspose(filters, kernel_size, **settings)
    return convolution if strides == 1 else lambda x: convolution(UpSampling2D(strides)(x))


def transposed_convolution_late(
    filters: int, kernel_size: int, strides: int, **settings: Any
) -> Conv2DTranspose:
    """Conv2DTranspose with strides 1, 1, 2, 2 instead of 2, 2, 1, 1.

    Both double the size twice. So the first feature map, a quarter of the image's side, stays.
    """
    return Conv2DTranspose(filters, kernel_size, 3 - strides, **settings)


# What stands in the place of the functions that build and compile models.


def build_tanh_generator(*args: Any) -> Model:
    """Builds the generator with tanh at its end: training then has real images in [-1, 1], too."""
    generator = build_generator(*args)
    last_layer(generator).activation = keras.activations.tanh
    return generator


class Unfrozen(Model):
    """A model that stays trainable when it is told not to be."""

    @property
    def trainable(self) -> bool:
        """True."""
        return True

    @trainable.setter
    def trainable(self, value: bool) -> None:
        pass


def build_unfrozen_discriminator(*args: Any) -> Model:
    """Builds a discriminator that learns in G's turn, too: that G's fakes are real images."""
    discriminator = build_discriminator(*args)
    return Unfrozen(discriminator.inputs, discriminator.outputs, name=discriminator.name)


def compile_at_equal_rates(model: Model, lr: float, decay: float, **settings: Any) -> None:
    """Compiles the adversarial model with D's learning rate, instead of with half of it."""
    factor = 1 if model.name == "discriminator" else 2
    compile_model(model, lr * factor, decay * factor, **settings)


def compile_as_zero_sum_game(model: Model, lr: float, decay: float) -> None:
    """Compiles the adversarial model with the negative of D's loss (equation 4.1.2)."""
    loss = "binary_crossentropy" if model.name == "discriminator" else zero_sum
    compile_model(model, lr, decay, loss)


def zero_sum(y_true: tf.Tensor, y_pred: tf.Tensor) -> tf.Tensor:
    """log(1 - D(G(z))): the negative of D's loss of fakes.

    Args:
        y_true: What G wants D to say, 1.0: shape (batch, 1).
        y_pred: What D says, D(G(z)): shape (batch, 1).

    Returns:
        0 or less, shape (batch,).
    """
    return -keras.losses.binary_crossentropy(1 - y_true, y_pred)


# DCGAN's paper has this one.
adam = functools.partial(keras.optimizers.Adam, beta_1=0.5)
