"""What is the state of a run, and how is it kept from step to step?

A checkpoint is one file, `01500.npz` after 1,500 steps, so that a single rename makes it appear:
TensorFlow's own checkpoints are three files, which nothing can replace at once. The archive has a
checksum over every array; a damaged one is found when it is read.
"""

from __future__ import annotations

import io
import json
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

from common.errors import UserError, first_line
from common.files import numbered_files, write_file
from common.gan.step import FIGURES, AlternatingStep

# The checkpoint before the newest is there in case the newest gets damaged.
KEPT = 2

# What is kept of each step: its own figures and the seconds that it took.
COLUMNS = (*FIGURES, "seconds")


class TrainingState:
    """All that a run needs in order to go on as if nothing had happened.

    Args:
        step: Holds both networks, both optimizers and the random generator.
        noise_input: The generator's inputs for the sample grids.
        identity: What the run was started with, so that no other run takes on its state: anything
            that JSON can hold.

    Attributes:
        history: The `COLUMNS` of every step so far; its length is the number of steps taken.
        evaluations: By the number of steps taken, the figures of evaluations on the way.
    """

    def __init__(
        self, step: AlternatingStep, noise_input: list[np.ndarray], identity: dict[str, Any]
    ) -> None:
        self.step = step
        self.noise_input = noise_input
        self.identity = identity
        self.history: list[tuple[float, ...]] = []
        self.evaluations: dict[int, dict[str, float]] = {}

    def _variables(self) -> dict[str, list]:
        return {
            "generator": self.step.generator.weights,
            "discriminator": self.step.discriminator.weights,
            # the mean squares of the gradients, and the updates so far, on which the decay depends
            "discriminator_optimizer": self.step.discriminator.optimizer.variables,
            "adversarial_optimizer": self.step.adversarial.optimizer.variables,
        }

    def arrays(self) -> dict[str, np.ndarray]:
        """The state as named arrays."""
        arrays = {
            f"{owner}/{i}": variable.numpy()
            for owner, variables in self._variables().items()
            for i, variable in enumerate(variables)
        }
        for i, array in enumerate(self.noise_input):
            arrays[f"noise_input/{i}"] = array
        arrays["history"] = np.array(self.history, np.float64).reshape(-1, len(COLUMNS))
        arrays["evaluations"] = np.array(json.dumps(self.evaluations))
        arrays["rng"] = np.array(json.dumps(self.step.rng.bit_generator.state))
        arrays["identity"] = np.array(json.dumps(self.identity))
        return arrays

    def restore(self, arrays: dict[str, np.ndarray]) -> None:
        """Takes on a state that `arrays` gave, all of it or nothing.

        Raises:
            ValueError: These are not the arrays of this run.
        """
        if json.loads(str(arrays["identity"])) != self.identity:
            raise ValueError("it is of another run")
        expected = {name: array.shape for name, array in self.arrays().items() if name != "history"}
        found = {name: array.shape for name, array in arrays.items() if name != "history"}
        if expected != found:
            raise ValueError("it is of other networks")
        history = [tuple(row) for row in arrays["history"].tolist()]
        evaluations = json.loads(str(arrays["evaluations"]))
        rng_state = json.loads(str(arrays["rng"]))

        for owner, variables in self._variables().items():
            for i, variable in enumerate(variables):
                variable.assign(arrays[f"{owner}/{i}"])
        for i, array in enumerate(self.noise_input):
            array[...] = arrays[f"noise_input/{i}"]
        self.step.rng.bit_generator.state = rng_state
        self.history[:] = history
        self.evaluations.clear()
        self.evaluations.update({int(steps): figures for steps, figures in evaluations.items()})


def packed(arrays: dict[str, np.ndarray]) -> bytes:
    """Named arrays as an .npz archive."""
    archive = io.BytesIO()
    np.savez(archive, **arrays)  # type: ignore[arg-type]  # none is named allow_pickle
    return archive.getvalue()


def unpacked(content: bytes) -> dict[str, np.ndarray]:
    """What was packed; raises whatever damage can make NumPy raise."""
    with np.load(io.BytesIO(content)) as archive:
        return {name: archive[name] for name in archive}


class Checkpoints:
    """The newest checkpoints of a run.

    Args:
        folder: Where they are.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def files(self) -> list[Path]:
        """The files there are, the newest first."""
        return sorted(numbered_files(self.folder, ".npz"), key=_steps, reverse=True)

    def steps(self) -> int:
        """The steps that the newest one was saved after; 0 if there is none."""
        return max(map(_steps, self.files()), default=0)

    def save(self, state: TrainingState) -> None:
        """Saves a state and removes all but the newest checkpoints.

        Raises:
            UserError: It cannot be written, or the weights are no longer finite.
        """
        arrays = state.arrays()
        for name, array in arrays.items():
            if array.dtype.kind == "f" and not np.isfinite(array).all():
                raise UserError(
                    f"training has diverged: after {len(state.history)} steps {name.split('/')[0]} "
                    "holds NaN or infinity: start again with another --seed"
                )
        write_file(self.folder / f"{len(state.history):05d}.npz", packed(arrays))
        # those of later steps were damaged, or this run would have gone on from them
        kept = [file for file in self.files() if _steps(file) <= len(state.history)][:KEPT]
        for file in set(self.files()) - set(kept):
            with suppress(OSError):  # one too many does no harm
                file.unlink()

    def restore(self, state: TrainingState) -> None:
        """Restores the newest checkpoint that can be read; without any, the state stays as it is.

        Raises:
            UserError: There are checkpoints, and all of them are damaged, or not to be read now.
        """
        files = self.files()
        for file in files:
            try:
                content = file.read_bytes()
            except OSError as error:
                raise UserError(f"checkpoint {file} cannot be read: {error.strerror}") from error
            try:
                arrays = unpacked(content)
                if len(arrays["history"]) != _steps(file):
                    raise ValueError("it is of another step")
                state.restore(arrays)
                return
            except MemoryError:
                raise
            except Exception as error:  # whatever damage can make NumPy raise
                print(
                    f"warning: checkpoint {file} is damaged ({first_line(error)}): trying the one "
                    "before",
                    file=sys.stderr,
                )
        if files:
            raise UserError(
                f"no checkpoint in {self.folder} can be read: start afresh with --overwrite"
            )


def _steps(file: Path) -> int:
    return int(file.stem)
