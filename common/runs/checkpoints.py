"""The state of a run, and its checkpoints.

A checkpoint is one file, `01500.npz` after 1,500 steps, so that a single rename makes it appear;
TensorFlow's own checkpoints are three files, which cannot be replaced at once. The archive has a
checksum for each array, so that damage is detected when it is read.
"""

import json
import sys
from contextlib import suppress
from pathlib import Path

import numpy as np

from common.errors import UserError, diverged, first_line
from common.files import numbered_files, packed, unpacked, write_file
from common.gan.step import AlternatingStep
from common.runs.history import Evaluations, History, from_array, to_array

# The checkpoint before the newest one is kept in case the newest is damaged.
KEPT = 2


class TrainingState:
    """All that a run needs in order to resume as if nothing had happened.

    Attributes:
        step: Holds both networks, both optimizers and the random generator.
        noise_input: The generator's inputs for the sample grids.
        history: A record for each step so far; its length is the number of steps taken.
        evaluations: The metrics of evaluations during training, by the number of steps taken.
    """

    def __init__(self, step: AlternatingStep, noise_input: list[np.ndarray]) -> None:
        self.step = step
        self.noise_input = noise_input
        self.history: History = []
        self.evaluations: Evaluations = {}

    def _variables(self) -> dict[str, list]:
        return {
            # variables, not weights, for those do not have the random state of layers like Dropout
            "generator": self.step.generator.variables,
            "discriminator": self.step.discriminator.variables,
            # mean squares of gradients, and the number of updates, on which the decay depends
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
        arrays["history"] = to_array(self.history)
        arrays["evaluations"] = np.array(json.dumps(self.evaluations))
        arrays["rng"] = np.array(json.dumps(self.step.rng.bit_generator.state))
        return arrays

    def check_finite(self) -> None:
        """Ends the run if the state holds NaN or infinity, before anything of it is written."""
        for name, array in self.arrays().items():
            if array.dtype.kind == "f" and not np.isfinite(array).all():
                steps, owner = len(self.history), name.split("/")[0]
                raise diverged(f"after {steps} steps {owner} holds NaN or infinity")

    def restore(self, arrays: dict[str, np.ndarray]) -> None:
        """Restores the state that `arrays` gave, if it is of the same networks."""
        own = self.arrays()
        for name in [*own, *arrays]:
            expected, found = (
                state[name].shape if name in state else "nothing" for state in (own, arrays)
            )
            if name != "history" and expected != found:
                raise UserError(
                    f"the run's checkpoint is of other networks than this program's ({name}: "
                    f"{expected} expected, {found} found): resume it with the program that "
                    "started it, or give another --outdir"
                )
        for owner, variables in self._variables().items():
            for i, variable in enumerate(variables):
                variable.assign(arrays[f"{owner}/{i}"])
        for i, array in enumerate(self.noise_input):
            array[...] = arrays[f"noise_input/{i}"]
        self.step.rng.bit_generator.state = json.loads(str(arrays["rng"]))
        self.history[:] = from_array(arrays["history"])
        evaluations = json.loads(str(arrays["evaluations"]))
        self.evaluations.clear()
        self.evaluations.update({int(steps): found for steps, found in evaluations.items()})


class Checkpoints:
    """The newest checkpoints of a run."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def files(self) -> list[Path]:
        """The checkpoints that exist, the newest first."""
        return sorted(numbered_files(self.folder, ".npz"), key=_steps, reverse=True)

    def steps(self) -> int:
        """The number of steps of the newest checkpoint; 0 without one."""
        return max(map(_steps, self.files()), default=0)

    def save(self, state: TrainingState) -> None:
        """Saves a state and removes all but the newest checkpoints."""
        state.check_finite()
        write_file(self.folder / f"{len(state.history):05d}.npz", packed(state.arrays()))
        # those of later steps are damaged: otherwise this run would have been resumed from them
        kept = [file for file in self.files() if _steps(file) <= len(state.history)][:KEPT]
        for file in set(self.files()) - set(kept):
            with suppress(OSError):  # one too many does no harm
                file.unlink()

    def newest(self) -> dict[str, np.ndarray]:
        """The arrays of the newest checkpoint that can be read; empty without one."""
        files = self.files()
        for file in files:
            try:
                return unpacked(file.read_bytes())
            except Exception as error:  # damage can make NumPy raise any
                print(
                    f"warning: checkpoint {file} cannot be read ({first_line(error)}): trying the "
                    "one before",
                    file=sys.stderr,
                )
        if files:
            raise UserError(
                f"no checkpoint in {self.folder} can be read: put one back, or add --overwrite to "
                "delete the run and start a new one"
            )
        return {}


def _steps(file: Path) -> int:
    return int(file.stem)
