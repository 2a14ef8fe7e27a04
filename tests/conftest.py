"""What the tests share."""

import os

# The suite checks what users see; their own log level is the business of test_runtime.py.
os.environ.pop("TF_CPP_MIN_LOG_LEVEL", None)

from common import runtime  # before Keras, which it sets up  # isort: skip

import dataclasses
from pathlib import Path
from types import ModuleType

import keras
import numpy as np
import pytest
from keras import Input

import cgan_mnist
import dcgan_mnist
from common.adversarial import build_adversarial, compile_model
from common.data import RealImages
from common.latent import Latent
from common.steps import AlternatingStep

PROGRAMS = Path(__file__).resolve().parent.parent


@dataclasses.dataclass
class Gan:
    """One of the chapter's two GANs."""

    name: str
    program: ModuleType
    num_labels: int

    def models(self, image_size: int = 28) -> tuple[keras.Model, keras.Model, keras.Model]:
        """Builds (generator, discriminator, adversarial) as the program does."""
        inputs = [Input((image_size, image_size, 1))]
        if self.num_labels:
            inputs += [Input((self.num_labels,)), image_size]
        discriminator = self.program.build_discriminator(*inputs)
        compile_model(discriminator, 2e-4, 6e-8)
        generator = self.program.new_generator(image_size, self.num_labels)
        adversarial = build_adversarial(generator, discriminator, name=self.name)
        compile_model(adversarial, 1e-4, 3e-8)
        return generator, discriminator, adversarial

    def step(
        self, models, x_train, y_train, rng: np.random.Generator, batch_size: int = 64
    ) -> AlternatingStep:
        """Makes the alternating step of the program."""
        real = RealImages(x_train, y_train if self.num_labels else None)
        return AlternatingStep(models, real, Latent(num_labels=self.num_labels), batch_size, rng)


@pytest.fixture(params=["dcgan", "cgan"])
def gan(request: pytest.FixtureRequest) -> Gan:
    """Each of the two in turn, from the same initial weights every time."""
    runtime.seed_everything(0)
    if request.param == "dcgan":
        return Gan("dcgan_mnist", dcgan_mnist, num_labels=0)
    return Gan("cgan_mnist", cgan_mnist, num_labels=10)


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(0)


@pytest.fixture
def small_data(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """40 random images of 8 x 8 pixels, the smallest the networks can halve and double twice."""
    return rng.integers(0, 256, (40, 8, 8), np.uint8), np.arange(40) % 10
