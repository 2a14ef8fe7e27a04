"""CGAN on MNIST: listings 4.3.1 to 4.3.3 of the chapter on GANs.

The DCGAN of dcgan_mnist.py, conditioned on a digit: both networks get a one-hot label that says
which digit it is, after [1]. So one can ask the generator for an 8.

[1] Mirza, Osindero: Conditional Generative Adversarial Nets, 2014, arXiv:1411.1784
"""

from collections.abc import Sequence

from common.program import Options, Program

PROGRAM = Program(__name__, __file__, "Train a CGAN on MNIST, or draw digits.", conditional=True)

from keras import Input, KerasTensor, Model
from keras.layers import (
    Activation,
    Conv2D,
    Conv2DTranspose,
    Dense,
    Flatten,
    LeakyReLU,
    Reshape,
    concatenate,
)

from common.gan import BatchNormalization, LatentSampler, build_adversarial, compile_model
from common.training import Run, train

LATENT_SIZE = 100


def build_discriminator(inputs: KerasTensor, y_labels: KerasTensor, image_size: int) -> Model:
    """Builds the discriminator, conditioned on a label (listing 4.3.1).

    Args:
        inputs: Input of the discriminator, images: shape (batch, size, size, 1), in [0, 1].
        y_labels: Input for their one-hot labels: shape (batch, num_labels).
        image_size: Side of the square images, a multiple of 4.

    Returns:
        The model from images and labels to the probability that the images are real and of these
        labels: shape (batch, 1).
    """
    kernel_size = 5
    layer_filters = [32, 64, 128, 256]

    # the label becomes a second channel of the image
    y = Dense(image_size * image_size)(y_labels)
    y = Reshape((image_size, image_size, 1))(y)
    x = concatenate([inputs, y])

    for filters in layer_filters:
        # the first three layers halve the size of the feature map, the last one keeps it
        strides = 1 if filters == layer_filters[-1] else 2
        x = LeakyReLU(negative_slope=0.2)(x)
        x = Conv2D(filters, kernel_size, strides=strides, padding="same")(x)

    x = Flatten()(x)
    x = Dense(1)(x)
    x = Activation("sigmoid")(x)
    return Model([inputs, y_labels], x, name="discriminator")


def build_generator(inputs: KerasTensor, y_labels: KerasTensor, image_size: int) -> Model:
    """Builds the generator, conditioned on a label (listing 4.3.2).

    Args:
        inputs: Input of the generator, z: shape (batch, latent_size), in [-1, 1].
        y_labels: Input for the one-hot labels to draw: shape (batch, num_labels).
        image_size: Side of the square images, a multiple of 4.

    Returns:
        The model from z and labels to images: shape (batch, image_size, image_size, 1), in [0, 1].
    """
    image_resize = image_size // 4
    kernel_size = 5
    layer_filters = [128, 64, 32, 1]

    x = concatenate([inputs, y_labels], axis=1)
    x = Dense(image_resize * image_resize * layer_filters[0])(x)
    x = Reshape((image_resize, image_resize, layer_filters[0]))(x)

    for filters in layer_filters:
        # the first two layers double the size of the feature map, the last two keep it
        strides = 2 if filters > layer_filters[-2] else 1
        x = BatchNormalization()(x)
        x = Activation("relu")(x)
        x = Conv2DTranspose(filters, kernel_size, strides, padding="same")(x)

    x = Activation("sigmoid")(x)
    return Model([inputs, y_labels], x, name="generator")


def new_generator(image_size: int, num_labels: int) -> Model:
    """Builds a generator together with its inputs."""
    inputs = Input((LATENT_SIZE,), name="z_input")
    y_labels = Input((num_labels,), name="class_labels")
    return build_generator(inputs, y_labels, image_size)


def build_and_train_models(run: Run) -> None:
    """Builds D, G and the adversarial model and trains them (listings 4.2.3 and 4.3.3)."""
    image_size, num_labels = run.data.image_size, run.data.num_labels
    lr, decay = 2e-4, 6e-8

    inputs = Input((image_size, image_size, 1), name="discriminator_input")
    y_labels = Input((num_labels,), name="class_labels")
    discriminator = build_discriminator(inputs, y_labels, image_size)
    compile_model(discriminator, lr, decay)
    discriminator.summary()

    generator = new_generator(image_size, num_labels)
    generator.summary()

    # G learns through D at half of D's learning rate, which keeps the two in balance
    adversarial = build_adversarial(generator, discriminator, name=run.name)
    compile_model(adversarial, lr * 0.5, decay * 0.5)
    adversarial.summary()

    # the sample grids show images of the same noise, each digit in turn
    noise_input = LatentSampler.of(generator).draw_in_turn(run.rng, 16)
    print(run.name, "Labels for generated images: ", run.data.named(noise_input[1].argmax(axis=1)))
    train((generator, discriminator, adversarial), noise_input, run)


def test_generator(generator: Model, options: Options) -> None:
    """Draws digits with a trained generator: 16 random ones, or what the user asks for."""
    samples = PROGRAM.draw(generator, options)
    if options.interpolate is None:
        print("test_outputs Labels for generated images: ", samples.noise_class)


def main(argv: Sequence[str] | None = None) -> None:
    """The command line."""
    PROGRAM.run(argv, build_and_train_models, new_generator, test_generator)


if __name__ == "__main__":
    main()
