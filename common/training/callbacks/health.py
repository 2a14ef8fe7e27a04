"""Warnings about runs that fail."""

import sys
from pathlib import Path

import keras
import numpy as np

from common.gan.batches import generate
from common.gan.models import layers_of
from common.runs.checkpoints import TrainingState
from common.runs.history import best_step, means
from common.training.callbacks.base import StepCallback, printing

# Steps from one look at the networks to the next, and from one look at the losses.
INTERVAL, LOSS_INTERVAL = 500, 100

# Until then a healthy run looks like a failing one: D's loss starts near 0 (the CGAN's mean over
# the first 500 steps is about 0.1), and a new generator draws 16 times the same grey.
GRACE = 1500
# D's mean loss over a window of steps, after GRACE: 0.40 and more in healthy runs. In one that D
# won it fell to 0.3 within 400 steps, and then was 0.07 to 0.24.
WINDOW = 200
LOWEST_LOSS = 0.3
# From `sample_distance`: 0.2 to 0.4 in healthy runs, as between MNIST's digits of a class; 0.003 in
# collapsed ones.
LOWEST_DISTANCE = 0.05
# Fewer steps than this may leave weights unchanged by chance.
FEWEST_STEPS = 100


class Health(StepCallback):
    """Warns when a run fails, in one line for each kind of failure; the run continues."""

    def __init__(self, state: TrainingState, best: Path) -> None:
        super().__init__(LOSS_INTERVAL)
        self.state = state
        self.best = best
        self._networks = (state.step.generator, state.step.discriminator)
        self._warned: set[str] = set()

    def on_train_begin(self, logs: dict[str, float] | None = None) -> None:
        """Remembers the weights, which steps have to change."""
        self._remember()

    def on_steps(self, steps: int, logs: dict[str, float]) -> None:
        """Checks the losses, and less often the networks."""
        if steps >= GRACE:
            self._check_losses(steps)
        if steps % INTERVAL == 0:
            self._check_gradients(steps)
            if steps >= GRACE:
                self._check_samples(steps)

    def _check_losses(self, steps: int) -> None:
        loss = means(self.state.history[-WINDOW:]).discriminator_loss
        if loss < LOWEST_LOSS:
            best = best_step(self.state.evaluations)
            kept = f"; {self.best} is the best so far, of step {best}" if best else ""
            self._warn(
                steps,
                "the discriminator wins",
                f"its loss was {loss:.2g} in the mean of the last {WINDOW} steps, where 0.5 is "
                "usual: it recognizes nearly every fake, and the generator learns little from "
                f"that and may draw worse from now on{kept}",
            )

    def _check_samples(self, steps: int) -> None:
        noise, *labels = self.state.noise_input
        # of one digit, because different digits differ by their labels alone
        one = [label[:1].repeat(len(noise), axis=0) for label in labels]
        distance = sample_distance(generate(self.state.step.generator, [noise, *one]))
        if distance < LOWEST_DISTANCE:
            self._warn(
                steps,
                "the generator has collapsed",
                "it draws nearly the same image from any noise: samples differ by "
                f"{distance:.2g} in grey, where 0.3 is usual",
            )

    def _check_gradients(self, steps: int) -> None:
        since = steps - self._remembered_at
        for network, before in zip(self._networks, self._before, strict=True):
            pairs = zip(_kernels(network), before, strict=True)
            unchanged = [name for (name, now), (_, then) in pairs if np.array_equal(now, then)]
            if unchanged and since >= FEWEST_STEPS:
                self._warn(
                    steps,
                    f"the {network.name} gets gradients of zero",
                    f"the weights of {', '.join(unchanged)} have not changed in the last {since} "
                    "steps: it does not learn",
                )
        self._remember()

    def _remember(self) -> None:
        self._before = [_kernels(network) for network in self._networks]
        self._remembered_at = len(self.state.history)

    def _warn(self, steps: int, kind: str, meaning: str) -> None:
        if kind not in self._warned:
            self._warned.add(kind)
            with printing():
                print(f"warning: after {steps} steps {kind}: {meaning}", file=sys.stderr)


def sample_distance(images: np.ndarray) -> float:
    """How much images differ: root mean square of pixels, mean over all pairs, from 0 to 1.

    These are two or more, floats of shape (count, size, size, 1) in [0, 1].
    """
    one, other = np.triu_indices(len(images), 1)
    return float(np.sqrt(((images[one] - images[other]) ** 2).mean(axis=(1, 2, 3))).mean())


def _kernels(network: keras.Model) -> list[tuple[str, np.ndarray]]:
    """The kernels of a network, each with the name of its layer."""
    return [
        (layer.name, layer.kernel.numpy())
        for layer in layers_of(network)
        if hasattr(layer, "kernel")
    ]
