"""Does a run have the signature of failure?"""

from __future__ import annotations

import sys

import keras
import numpy as np

from common.gan.batches import generate
from common.training.callbacks.core import StepCallback

# Steps from one look to the next.
INTERVAL = 500

# Until then a healthy run looks like a failing one: D's loss starts near 0 (the CGAN's mean over
# the first 500 steps is about 0.1), and a new generator draws 16 times the same grey.
GRACE = 1500
# D's mean loss over so many steps, after GRACE: 0.38 and more in healthy runs, 0.002 where D has
# won for good, and 0.07 to 0.24 where G moves too fast for it now and then.
WINDOW = 1000
LOWEST_LOSS = 0.1
# The distance of samples, as `distance_of_samples` tells it: 0.2 to 0.4 in healthy runs, as between
# MNIST's digits of a class; 0.003 in collapsed ones.
LOWEST_DISTANCE = 0.05
# Fewer steps than these may leave weights as they are by chance.
FEWEST_STEPS = 100


class Health(StepCallback):
    """Says so when a run fails, in one line for each kind of failure, while it goes on.

    Args:
        generator: The generator.
        discriminator: The discriminator.
        noise_input: The inputs of the generator for the sample grids, as in `Latent.draw`.
        history: The run's history, a row for each step: `COLUMNS` of `common.runs.checkpoints`.
    """

    def __init__(
        self,
        generator: keras.Model,
        discriminator: keras.Model,
        noise_input: list[np.ndarray],
        history: list[tuple[float, ...]],
    ) -> None:
        super().__init__()
        self.networks = (generator, discriminator)
        self.noise_input = noise_input
        self.history = history
        self._told: set[str] = set()

    def on_train_begin(self, logs: dict[str, float] | None = None) -> None:
        """Notes the weights that steps have to change."""
        self._remember()

    def on_train_batch_end(self, batch: int, logs: dict[str, float] | None = None) -> None:
        """Looks at the run, if it is time to."""
        if (self.step + 1) % INTERVAL:
            return
        self._look_at_gradients()
        if self.step + 1 >= GRACE:
            self._look_at_losses()
            self._look_at_samples()

    def _look_at_losses(self) -> None:
        loss = np.mean([row[0] for row in self.history[-WINDOW:]])
        if loss < LOWEST_LOSS:
            self._tell(
                "the discriminator has won",
                f"its loss was {loss:.2g} in the mean of the last {WINDOW} steps, where 0.5 is "
                "usual: it tells every fake, and the generator learns nothing from that",
            )

    def _look_at_samples(self) -> None:
        noise, *labels = self.noise_input
        # of one digit, for different ones differ by their labels alone
        one = [label[:1].repeat(len(noise), axis=0) for label in labels]
        distance = distance_of_samples(generate(self.networks[0], [noise, *one]))
        if distance < LOWEST_DISTANCE:
            self._tell(
                "the generator has collapsed",
                f"whatever the noise, it draws nearly the same: samples differ by {distance:.2g} "
                "in grey, where 0.3 is usual",
            )

    def _look_at_gradients(self) -> None:
        if len(self.history) - self._remembered_at >= FEWEST_STEPS:
            for network, before in zip(self.networks, self._before, strict=True):
                still = [
                    layer
                    for layer, kernel in _kernels(network).items()
                    if np.array_equal(kernel, before[layer])
                ]
                if still:
                    self._tell(
                        f"the {network.name} gets gradients of zero",
                        f"the weights of {', '.join(still)} have not changed in the last "
                        f"{len(self.history) - self._remembered_at} steps: it does not learn",
                    )
        self._remember()

    def _remember(self) -> None:
        self._before = [_kernels(network) for network in self.networks]
        self._remembered_at = len(self.history)

    def _tell(self, kind: str, meaning: str) -> None:
        if kind not in self._told:
            self._told.add(kind)
            print(f"warning: after {self.step + 1} steps {kind}: {meaning}", file=sys.stderr)


def distance_of_samples(images: np.ndarray) -> float:
    """How much images differ, in the mean over all pairs.

    Args:
        images: Floats of shape (count, size, size, 1) in [0, 1]; two or more.

    Returns:
        The root of the mean square of the difference of their pixels, from 0 to 1.
    """
    one, other = np.triu_indices(len(images), 1)
    return float(np.sqrt(((images[one] - images[other]) ** 2).mean(axis=(1, 2, 3))).mean())


def _kernels(network: keras.Model) -> dict[str, np.ndarray]:
    """The matrices and kernels of a network, by their layers."""
    return {
        layer.name: layer.kernel.numpy() for layer in network.layers if hasattr(layer, "kernel")
    }
