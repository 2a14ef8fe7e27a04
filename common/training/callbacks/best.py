"""Evaluations during training, and the best generator, which need not be the last one."""

from pathlib import Path

import numpy as np

from common.errors import diverged
from common.evaluation.evaluate import Evaluator
from common.gan.batches import LatentSampler, generate, labels_of
from common.gan.saving import save_generator
from common.runs.checkpoints import TrainingState
from common.runs.history import best_step
from common.training.callbacks.base import StepCallback, printing

# Images of an evaluation. Over the noise, a DCGAN's Frechet distance has a standard deviation of 4%
# for 5,000 images, and of 8% for 2,000.
SAMPLES = 5_000


class KeepBest(StepCallback):
    """Evaluates the generator, and keeps the best one: that with the lowest Frechet distance.

    The metrics are added to the evaluations of the run, from which the step of the best generator
    follows, and to the `logs` of the step, for the callbacks after this one.

    The best generator is written to `file` before the checkpoint that holds the evaluation. So a
    run that is killed in between repeats both when it is resumed. The seed is that of the noise,
    which is the same for all evaluations of a run.
    """

    def __init__(
        self, state: TrainingState, evaluator: Evaluator, file: Path, every_steps: int, seed: int
    ) -> None:
        super().__init__(every_steps)
        self.generator = state.step.generator
        self.evaluations = state.evaluations
        self.evaluator = evaluator
        self.file = file
        rng = np.random.default_rng(seed)
        self.inputs = LatentSampler.of(self.generator).draw_in_turn(rng, SAMPLES)

    def on_steps(self, steps: int, logs: dict[str, float]) -> None:
        """Evaluates the generator, and saves it if it is the best one so far."""
        images = generate(self.generator, self.inputs)
        if not np.isfinite(images).all():
            raise diverged(f"after {steps} steps the generator draws NaN")
        predicted = self.evaluator.classifier.predict(images)
        metrics = self.evaluator.metrics(*predicted, labels_of(self.inputs))
        self.evaluations[steps] = metrics
        logs.update(metrics)
        names = [name for name in metrics if not name.startswith("share_of_")]
        line = ", ".join(f"{name.replace('_', ' ')} {metrics[name]:.4g}" for name in names)
        if steps == best_step(self.evaluations):
            save_generator(self.generator, self.file)
            line += f"; the lowest so far: {self.file}"
        with printing():
            print(f"after {steps} steps: {line}", flush=True)
