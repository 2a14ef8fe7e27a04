"""CGAN on MNIST: listings 4.3.1 to 4.3.3 of the chapter on GANs.

The DCGAN of dcgan_mnist.py, conditioned on a digit: both networks are told, by a one-hot label,
which one it is to be, after [1]. So one can ask the generator for an 8.

[1] Mirza, Osindero: Conditional Generative Adversarial Nets, 2014, arXiv:1411.1784
"""

from common import runtime  # before Keras, which it sets up

# isort: split
from collections.abc import Sequence

import numpy as np
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

from common.cli import Options, Parser, digits
from common.gan.batches import LATENT_SIZE, Latent, one_hot
from common.gan.data import RealImages, load_data
from common.gan.keras2 import BatchNormalization
from common.gan.models import build_adversarial, compile_model
from common.gan.saving import load_generator
from common.gan.step import new_step
from common.program import use_generator
from common.runs.run import Run
from common.sampling.samples import new_samples, save_samples
from common.training.figures import draw_figures
from common.training.train import train

MODEL_NAME = "cgan_mnist"

EXAMPLES = """examples:
  python cgan_mnist.py                                     train as in the chapter (hours on a CPU)
  python cgan_mnist.py --train-steps 2000                  train until digits appear
  python cgan_mnist.py --generator=cgan_mnist.h5           draw 16 digits: test_outputs/00000.png
  python cgan_mnist.py -g cgan_mnist.h5 --evaluate         measure how good its digits are
  python cgan_mnist.py --resume                            go on with a run that was stopped
  python cgan_mnist.py --generator=cgan_mnist.h5 --digit=8 draw 16 eights: test_outputs/00008.png
"""


def build_discriminator(
    inputs: KerasTensor, y_labels: KerasTensor, image_size: int, dtype: str = "float32"
) -> Model:
    """Builds the discriminator, conditioned on a label (listing 4.3.1).

    Args:
        inputs: Input of the discriminator, images: shape (batch, size, size, 1), in [0, 1].
        y_labels: Input for their one-hot labels: shape (batch, num_labels).
        image_size: Side of the square images, a multiple of 4.
        dtype: What convolutions compute in, one of `runtime.PRECISIONS`; the rest is float32.

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
        x = Conv2D(filters, kernel_size, strides=strides, padding="same", dtype=dtype)(x)

    x = Flatten()(x)
    x = Dense(1)(x)
    x = Activation("sigmoid")(x)
    return Model([inputs, y_labels], x, name="discriminator")


def build_generator(
    inputs: KerasTensor, y_labels: KerasTensor, image_size: int, dtype: str = "float32"
) -> Model:
    """Builds the generator, conditioned on a label (listing 4.3.2).

    Args:
        inputs: Input of the generator, z: shape (batch, latent_size), in [-1, 1].
        y_labels: Input for the one-hot labels to draw: shape (batch, num_labels).
        image_size: Side of the square images, a multiple of 4.
        dtype: As in `build_discriminator`.

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
        x = Conv2DTranspose(filters, kernel_size, strides, padding="same", dtype=dtype)(x)

    x = Activation("sigmoid")(x)
    return Model([inputs, y_labels], x, name="generator")


def new_generator(image_size: int, num_labels: int, dtype: str = "float32") -> Model:
    """Builds a generator together with its inputs."""
    inputs = Input((LATENT_SIZE,), name="z_input")
    y_labels = Input((num_labels,), name="class_labels")
    return build_generator(inputs, y_labels, image_size, dtype)


def build_and_train_models(options: Options) -> None:
    """Builds D, G and the adversarial model and trains them (listings 4.2.3 and 4.3.3)."""
    run = Run(MODEL_NAME, options)
    options = run.options
    rng = runtime.set_up(options)
    dtype = runtime.PRECISIONS[options.precision]
    x_train, y_train = load_data(options.data)
    real = RealImages(x_train, y_train)
    image_size, num_labels = x_train.shape[1], real.num_labels
    lr, decay = 2e-4, 6e-8

    inputs = Input((image_size, image_size, 1), name="discriminator_input")
    y_labels = Input((num_labels,), name="class_labels")
    discriminator = build_discriminator(inputs, y_labels, image_size, dtype)
    compile_model(discriminator, lr, decay)
    discriminator.summary()

    generator = new_generator(image_size, num_labels, dtype)
    generator.summary()

    # G learns through D at half of D's learning rate, which keeps the two in balance
    adversarial = build_adversarial(generator, discriminator, name=MODEL_NAME)
    compile_model(adversarial, lr * 0.5, decay * 0.5)
    adversarial.summary()

    models = (generator, discriminator, adversarial)
    latent = Latent(num_labels=num_labels)
    # the sample grid shows each digit in turn
    noise_class = np.arange(16) % num_labels
    noise_input = [latent.draw(rng, 16)[0], one_hot(noise_class, num_labels)]
    print(MODEL_NAME, "Labels for generated images: ", noise_class)
    step = new_step(models, real, latent, rng, options)
    train(step, noise_input, run)


def test_generator(generator: Model, options: Options) -> None:
    """Draws digits with a trained generator: 16 random ones, or what the user asks for."""
    rng = runtime.seed_everything(options.seed)
    latent = Latent(num_labels=generator.inputs[1].shape[1])
    samples = new_samples(latent, rng, options)
    save_samples(generator, samples, options)
    if options.interpolate is None:
        print("test_outputs Labels for generated images: ", samples.noise_class)


def main(argv: Sequence[str] | None = None) -> None:
    """The command line."""
    parser = Parser(MODEL_NAME, "Train a CGAN on MNIST, or draw digits with it.", EXAMPLES)
    parser.drawing.add_argument(
        "-d",
        "--digit",
        type=digits,
        nargs="+",
        metavar="DIGIT",
        help="the digit to draw; or several, in this order in each row of the picture: 0 1 2, or "
        "in one word, 2026 being 2 0 2 6; with --interpolate, the walk from digit to digit "
        "(default: random ones)",
    )
    options = parser.options(argv)
    with parser.one_line_errors():
        if options.figures:
            draw_figures(options.outdir / MODEL_NAME)
        elif options.generator is None:
            build_and_train_models(options)
        else:
            generator = load_generator(options.generator, new_generator, conditional=True)
            use_generator(generator, options, draw=test_generator)


if __name__ == "__main__":
    main()
