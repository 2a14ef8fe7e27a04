"""What a run writes as it goes: its state, the generator, sample grids and curves."""

import keras

from common.gan.batches import generate
from common.gan.saving import save_generator
from common.images import image_grid, save_picture
from common.runs.checkpoints import TrainingState
from common.runs.folder import RunFolder
from common.runs.history import write_history
from common.runs.run import Run
from common.training.callbacks.base import StepCallback
from common.training.figures import LossCurves, draw_evolution

# Steps until a first grid, for a first try that lasts a few minutes.
EARLY = 100


class SaveState(StepCallback):
    """Saves checkpoints, and the history as a table beside them.

    It also makes the folder the run's own, after the first step and not before. So neither a batch
    too large for the memory nor a loss that is NaN from the start destroys an earlier run.
    """

    def __init__(self, state: TrainingState, run: Run, every_steps: int) -> None:
        super().__init__(every_steps)
        self.state = state
        self.run = run
        self.folder = run.folder
        self._begun = self._due = False

    def on_train_batch_end(self, batch: int, logs: dict[str, float]) -> None:
        """Begins the run after its first step."""
        if not self._begun:
            self.run.begin()
            self._begun = True
        super().on_train_batch_end(batch, logs)

    def on_steps(self, steps: int, logs: dict[str, float]) -> None:
        """Notes that a checkpoint is due.

        It is written before the next step, when all callbacks have done what belongs to this one.
        """
        self._due = True

    def on_train_batch_begin(self, batch: int, logs: dict[str, float] | None = None) -> None:
        """Saves the state, if that is due."""
        if self._due:
            self._save()

    def on_train_end(self, logs: dict[str, float] | None = None) -> None:
        """Saves the last state, also where the run is stopped."""
        if self.state.history:
            self._save()

    def _save(self) -> None:
        # first, because a history without a checkpoint shows that one has been removed
        self.folder.checkpoints.save(self.state)
        write_history(self.folder.history, self.state.history, self.state.evaluations)
        self._due = False


class SampleGrid(StepCallback):
    """Draws images of the same noise at each save interval and at the end (figure 4.2.2).

    And once after `EARLY` steps.
    """

    def __init__(self, state: TrainingState, folder: RunFolder, every_steps: int) -> None:
        super().__init__(every_steps)
        self.state = state
        self.folder = folder

    def acts_after(self, steps: int) -> bool:
        """At each save interval, at the end, and once before."""
        return super().acts_after(steps) or steps == EARLY

    def on_steps(self, steps: int, logs: dict[str, float]) -> None:
        """Draws a grid."""
        images = generate(self.state.step.generator, self.state.noise_input)
        save_picture(image_grid(images), self.folder.grid(steps))


class SaveProducts(keras.callbacks.Callback):
    """Saves the generator and draws the curves, at each save interval and at the end.

    So one can draw with the generator while the training goes on. At the end it also draws all
    grids side by side.
    """

    def __init__(self, state: TrainingState, folder: RunFolder) -> None:
        super().__init__()
        self.state = state
        self.folder = folder
        self._curves = LossCurves(folder.name, state.history, folder.losses)

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        """Saves and draws what there is so far."""
        self.state.check_finite()
        save_generator(self.state.step.generator, self.folder.generator)
        self._curves.draw()

    def on_train_end(self, logs: dict[str, float] | None = None) -> None:
        """Saves and draws everything, also where the run is stopped."""
        if self.state.history:
            self.on_epoch_end(epoch=0)
        if self.folder.grids():  # there are none if a run is stopped early
            draw_evolution(self.folder)
