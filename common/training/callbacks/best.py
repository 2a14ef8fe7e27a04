"""Evaluations on the way, and the best generator, which need not be the last one."""

from __future__ import annotations

import sys

import keras
import numpy as np

from common.errors import UserError, diverged
from common.evaluation.evaluate import Evaluator, evaluation_inputs
from common.evaluation.metrics import frechet_distance
from common.files import write_file
from common.gan.batches import generate, labels_of
from common.gan.saving import in_float32, read_weights, save_generator
from common.runs.best import Best, write_best
from common.runs.folder import RunFolder
from common.runs.history import Evaluations
from common.training.callbacks.base import StepCallback, printing

# Images of an evaluation on the way, and for each generator that is compared at the end.
SAMPLES, SAMPLES_AT_THE_END = 2_000, 5_000
# How many generators are kept for the comparison at the end.
CANDIDATES = 3


def generate_after(steps: int, generator: keras.Model, inputs: list[np.ndarray]) -> np.ndarray:
    """Generates images, as `generate` does, to evaluate them after so many steps of a training.

    Raises:
        UserError: The generator draws NaN.
    """
    images = generate(generator, inputs)
    if not np.isfinite(images).all():
        raise diverged(f"after {steps} steps the generator draws NaN")
    return images


class KeepBest(StepCallback):
    """Evaluates the generator at multiples of some steps and after the last one; keeps the best.

    The best generator has the lowest Frechet distance. That of 2,000 images is a matter of luck,
    too: with other noise it is another, by 8% for a DCGAN. So the generators with the three lowest
    ones are kept, and when the run is complete, these and the last one are compared by 5,000 images
    each, of other noise. Until then best.h5 is the one with the lowest distance so far.

    The metrics are added to the `logs` of the step, for the callbacks after this one, and to the
    evaluations of the run.

    Args:
        generator: The generator.
        evaluator: Knows the test images.
        evaluations: Those of the run so far.
        folder: The run's folder.
        every_steps: Steps from one evaluation to the next.
        seed: Of the noise, which is the same each time.
    """

    def __init__(
        self,
        generator: keras.Model,
        evaluator: Evaluator,
        evaluations: Evaluations,
        folder: RunFolder,
        every_steps: int,
        seed: int,
    ) -> None:
        super().__init__(every_steps)
        self.generator = generator
        self.evaluator = evaluator
        self.evaluations = evaluations
        self.folder = folder
        self.seed = seed
        self.inputs = evaluation_inputs(generator, SAMPLES, seed)

    def on_steps(self, steps: int, logs: dict[str, float]) -> None:
        """Evaluates the generator.

        Raises:
            UserError: It draws NaN, or its file cannot be written.
        """
        images = generate_after(steps, self.generator, self.inputs)
        predicted = self.evaluator.classifier.predict(images)
        metrics = self.evaluator.metrics(*predicted, labels_of(self.inputs))
        self.evaluations[steps] = metrics
        logs.update(metrics)
        names = [name for name in metrics if not name.startswith("share_of_")]
        line = ", ".join(f"{name.replace('_', ' ')} {metrics[name]:.4g}" for name in names)
        candidates = self._candidates()
        if steps in candidates:
            save_generator(self.generator, self.folder.candidate(steps))
            kept = {self.folder.candidate(number) for number in candidates}
            for file in set(self.folder.candidates()) - kept:
                file.unlink()
        if steps == candidates[0]:
            self._set_best(Best(steps, SAMPLES, {steps: metrics["frechet_distance"]}))
            line += f"; the lowest so far: {self.folder.best}"
        with printing():
            print(f"after {steps} steps: {line}", flush=True)

    def decide(self) -> None:
        """Compares the candidates and the last generator, with which the run has ended.

        Raises:
            UserError: The best one cannot be written.
        """
        others = [
            steps
            for steps in self._candidates()
            if steps != self.params["train_steps"] and self.folder.candidate(steps).exists()
        ]
        if not others:
            return  # there is nothing to compare with
        inputs = evaluation_inputs(self.generator, SAMPLES_AT_THE_END, [self.seed, 1])
        generator = in_float32(self.generator)
        distances = {self.params["train_steps"]: self._distance(generator, inputs)}
        for steps in others:
            file = self.folder.candidate(steps)
            try:
                read_weights(generator, file)
            except UserError as error:
                print(f"warning: {error}; it is not compared with the others", file=sys.stderr)
            else:
                distances[steps] = self._distance(generator, inputs)
        best = min(distances, key=distances.__getitem__)
        if best == self.params["train_steps"]:
            save_generator(self.generator, self.folder.candidate(best))
        self._set_best(Best(best, SAMPLES_AT_THE_END, dict(sorted(distances.items()))))

    def _candidates(self) -> list[int]:
        """The steps with the lowest distances on the way, the lowest first."""
        return sorted(
            self.evaluations, key=lambda steps: self.evaluations[steps]["frechet_distance"]
        )[:CANDIDATES]

    def _distance(self, generator: keras.Model, inputs: list[np.ndarray]) -> float:
        features, _ = self.evaluator.classifier.predict(generate(generator, inputs))
        return frechet_distance(self.evaluator.features, features)

    def _set_best(self, best: Best) -> None:
        write_file(self.folder.best, self.folder.candidate(best.steps).read_bytes())
        write_best(self.folder, best)
