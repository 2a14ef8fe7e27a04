"""DCGAN on MNIST: listings 4.2.1 to 4.2.4 of the chapter on GANs.

A generator turns noise into images of digits; a discriminator tells them from real ones. They are
trained in turns, each against the other. After [1], with the chapter's changes: a sigmoid at the
end of the generator, no batch normalization in the discriminator, RMSprop.

[1] Radford, Metz, Chintala: Unsupervised Representation Learning with Deep Convolutional
    Generative Adversarial Networks, 2015, arXiv:1511.06434
"""

from collections.abc import Sequence

from common.program import Options, Program

PROGRAM = Program(__name__, __file__, "Train a DCGAN on MNIST, or draw digits.")

from keras import Input, KerasTensor, Model
from keras.layers import (
    Activation,
    Conv2D,
    Conv2DTranspose,
    Dense,
    Flatten,
    LeakyReLU,
    Reshape,
)

from common.gan import BatchNormalization, LatentSampler, build_adversarial, compile_model
from common.training import Run, train

LATENT_SIZE = 100


def build_generator(inputs: KerasTensor, image_size: int) -> Model:
    """Builds the generator: BN-ReLU-Conv2DTranspose, four times (listing 4.2.1).

    Args:
        inputs: Input of the generator, z: shape (batch, latent_size), in [-1, 1].
        image_size: Side of the square images, a multiple of 4.

    Returns:
        The model from z to images: shape (batch, image_size, image_size, 1), in [0, 1].
    """
    image_resize = image_size // 4
    kernel_size = 5
    layer_filters = [128, 64, 32, 1]

    x = Dense(image_resize * image_resize * layer_filters[0])(inputs)
    x = Reshape((image_resize, image_resize, layer_filters[0]))(x)

    for filters in layer_filters:
        # the first two layers double the size of the feature map, the last two keep it
        strides = 2 if filters > layer_filters[-2] else 1
        x = BatchNormalization()(x)
        x = Activation("relu")(x)
        x = Conv2DTranspose(filters, kernel_size, strides, padding="same")(x)

    x = Activation("sigmoid")(x)
    return Model([inputs], x, name="generator")


def build_discriminator(inputs: KerasTensor) -> Model:
    """Builds the discriminator: LeakyReLU-Conv2D, four times (listing 4.2.2).

    Args:
        inputs: Input of the discriminator, images: shape (batch, size, size, 1), in [0, 1].

    Returns:
        The model from images to the probability that they are real: shape (batch, 1).
    """
    kernel_size = 5
    layer_filters = [32, 64, 128, 256]

    x = inputs
    for filters in layer_filters:
        # the first three layers halve the size of the feature map, the last one keeps it
        strides = 1 if filters == layer_filters[-1] else 2
        x = LeakyReLU(negative_slope=0.2)(x)
        x = Conv2D(filters, kernel_size, strides=strides, padding="same")(x)

    x = Flatten()(x)
    x = Dense(1)(x)
    x = Activation("sigmoid")(x)
    return Model([inputs], x, name="discriminator")


def new_generator(image_size: int, num_labels: int = 0) -> Model:
    """Builds a generator together with its input. It has no use for labels."""
    return build_generator(Input((LATENT_SIZE,), name="z_input"), image_size)


def build_and_train_models(run: Run) -> None:
    """Builds D, G and the adversarial model and trains them (listing 4.2.3)."""
    image_size = run.data.image_size
    lr, decay = 2e-4, 6e-8

    inputs = Input((image_size, image_size, 1), name="discriminator_input")
    discriminator = build_discriminator(inputs)
    compile_model(discriminator, lr, decay)
    discriminator.summary()

    generator = new_generator(image_size)
    generator.summary()

    # G learns through D at half of D's learning rate, which keeps the two in balance
    adversarial = build_adversarial(generator, discriminator, name=run.name)
    compile_model(adversarial, lr * 0.5, decay * 0.5)
    adversarial.summary()

    # the sample grids show images of the same noise
    noise_input = LatentSampler.of(generator).draw(run.rng, 16)
    train((generator, discriminator, adversarial), noise_input, run)


def test_generator(generator: Model, options: Options) -> None:
    """Draws digits with a trained generator: 16, or what the user asks for."""
    PROGRAM.draw(generator, options)


def main(argv: Sequence[str] | None = None) -> None:
    """The command line."""
    PROGRAM.run(argv, build_and_train_models, new_generator, test_generator)


if __name__ == "__main__":
    main()
