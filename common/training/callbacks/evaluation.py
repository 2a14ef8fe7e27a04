"""Evaluations on the way."""

from __future__ import annotations

from pathlib import Path

import keras
import numpy as np

from common.errors import UserError
from common.evaluation.evaluate import Evaluator, evaluation_inputs
from common.gan.batches import generate, labels_of
from common.gan.saving import save_generator
from common.runs.history import Evaluations
from common.training.callbacks.base import StepCallback

# Images for an evaluation on the way.
SAMPLES = 2_000


class Evaluate(StepCallback):
    """Evaluates the generator at multiples of some steps, and keeps the best one.

    The metrics are added to the `logs` of the step, for the callbacks after this one, and to the
    evaluations of the run. The best generator has the lowest Frechet distance; a run may well end
    with a worse one.

    Args:
        generator: The generator.
        evaluator: Knows the test images.
        evaluations: Those of the run so far.
        interval: Steps from one evaluation to the next.
        seed: Of the noise, which is the same each time.
        best: The file of the best generator.
    """

    def __init__(
        self,
        generator: keras.Model,
        evaluator: Evaluator,
        evaluations: Evaluations,
        interval: int,
        seed: int | None,
        best: Path,
    ) -> None:
        super().__init__()
        self.generator = generator
        self.evaluator = evaluator
        self.evaluations = evaluations
        self.interval = interval
        self.best = best
        self.inputs = evaluation_inputs(generator, SAMPLES, seed)

    def on_train_batch_end(self, batch: int, logs: dict[str, float]) -> None:
        """Evaluates the generator, if this step is a multiple of the interval.

        Raises:
            UserError: It draws NaN, or its file cannot be written.
        """
        steps = self.step + 1
        if steps % self.interval:
            return
        images = generate(self.generator, self.inputs)
        if not np.isfinite(images).all():
            raise UserError(
                f"training has diverged: after {steps} steps the generator draws NaN; the files "
                "were saved before that: start again with another --seed"
            )
        predicted = self.evaluator.classifier.predict(images)
        metrics = self.evaluator.metrics(*predicted, labels_of(self.inputs))
        self.evaluations[steps] = metrics
        logs.update(metrics)
        names = [name for name in metrics if not name.startswith("share_of_")]
        line = ", ".join(f"{name.replace('_', ' ')} {metrics[name]:.4g}" for name in names)
        lowest = min(other["frechet_distance"] for other in self.evaluations.values())
        if metrics["frechet_distance"] == lowest:
            save_generator(self.generator, self.best)
            line += f"; the lowest so far: {self.best}"
        print(f"after {steps} steps: {line}", flush=True)
