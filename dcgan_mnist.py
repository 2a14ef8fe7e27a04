"""DCGAN on MNIST: listings 4.2.1 to 4.2.4 of the chapter on GANs.

A generator turns noise into images of digits; a discriminator tells them from real ones. They are
trained in turns, each against the other. After [1], with the chapter's changes: a sigmoid at the
end of the generator, no batch normalization in the discriminator, RMSprop.

[1] Radford, Metz, Chintala: Unsupervised Representation Learning with Deep Convolutional
    Generative Adversarial Networks, 2015, arXiv:1511.06434
"""

from common import runtime  # before Keras, which it sets up

# isort: split
from collections.abc import Sequence

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

from common.cli import Options, Parser
from common.gan.batches import LATENT_SIZE, Latent
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

MODEL_NAME = "dcgan_mnist"

EXAMPLES = """examples:
  python dcgan_mnist.py                             train as in the chapter (hours on a CPU)
  python dcgan_mnist.py --train-steps 2000          train until strokes appear
  python dcgan_mnist.py --generator=dcgan_mnist.h5  draw 16 digits: test_outputs/00000.png
  python dcgan_mnist.py -g dcgan_mnist.h5 --evaluate  measure how good its digits are
  python dcgan_mnist.py --resume                    go on with a run that was stopped
  python dcgan_mnist.py --data fashion/ --outdir f  train on other images
"""


def build_generator(inputs: KerasTensor, image_size: int, dtype: str = "float32") -> Model:
    """Builds the generator: BN-ReLU-Conv2DTranspose, four times (listing 4.2.1).

    Args:
        inputs: Input of the generator, z: shape (batch, latent_size), in [-1, 1].
        image_size: Side of the square images, a multiple of 4.
        dtype: What convolutions compute in, one of `runtime.PRECISIONS`; the rest is float32.

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
        x = Conv2DTranspose(filters, kernel_size, strides, padding="same", dtype=dtype)(x)

    x = Activation("sigmoid")(x)
    return Model([inputs], x, name="generator")


def build_discriminator(inputs: KerasTensor, dtype: str = "float32") -> Model:
    """Builds the discriminator: LeakyReLU-Conv2D, four times (listing 4.2.2).

    Args:
        inputs: Input of the discriminator, images: shape (batch, size, size, 1), in [0, 1].
        dtype: As in `build_generator`.

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
        x = Conv2D(filters, kernel_size, strides=strides, padding="same", dtype=dtype)(x)

    x = Flatten()(x)
    x = Dense(1)(x)
    x = Activation("sigmoid")(x)
    return Model([inputs], x, name="discriminator")


def new_generator(image_size: int, num_labels: int = 0, dtype: str = "float32") -> Model:
    """Builds a generator together with its input."""
    return build_generator(Input((LATENT_SIZE,), name="z_input"), image_size, dtype)


def build_and_train_models(options: Options) -> None:
    """Builds D, G and the adversarial model and trains them (listing 4.2.3)."""
    run = Run(MODEL_NAME, options)
    options = run.options
    rng = runtime.set_up(options)
    dtype = runtime.PRECISIONS[options.precision]
    x_train, _ = load_data(options.data)
    image_size = x_train.shape[1]
    lr, decay = 2e-4, 6e-8

    inputs = Input((image_size, image_size, 1), name="discriminator_input")
    discriminator = build_discriminator(inputs, dtype)
    compile_model(discriminator, lr, decay)
    discriminator.summary()

    generator = new_generator(image_size, dtype=dtype)
    generator.summary()

    # G learns through D at half of D's learning rate, which keeps the two in balance
    adversarial = build_adversarial(generator, discriminator, name=MODEL_NAME)
    compile_model(adversarial, lr * 0.5, decay * 0.5)
    adversarial.summary()

    models = (generator, discriminator, adversarial)
    real, latent = RealImages(x_train), Latent()
    noise_input = latent.draw(rng, 16)
    step = new_step(models, real, latent, rng, options)
    train(step, noise_input, run)


def test_generator(generator: Model, options: Options) -> None:
    """Draws digits with a trained generator: 16, or what the user asks for."""
    rng = runtime.seed_everything(options.seed)
    save_samples(generator, new_samples(Latent(), rng, options), options)


def main(argv: Sequence[str] | None = None) -> None:
    """The command line."""
    parser = Parser(MODEL_NAME, "Train a DCGAN on MNIST, or draw digits with it.", EXAMPLES)
    options = parser.options(argv)
    with parser.one_line_errors():
        if options.figures:
            draw_figures(options.outdir / MODEL_NAME)
        elif options.generator is None:
            build_and_train_models(options)
        else:
            generator = load_generator(options.generator, new_generator, conditional=False)
            use_generator(generator, options, draw=test_generator)


if __name__ == "__main__":
    main()
