"""The folder of a run: the name of every file in it, and who may write there."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from common.errors import UserError, first_line
from common.files import check_writable, lock, numbered_files, remove_partials
from common.runs.checkpoints import Checkpoints

# How the name of a file for TensorBoard begins, by which it is recognized.
EVENTS = "events.out.tfevents."


class RunFolder:
    """The folder of a run, whose name is that of the model, and the generator's file beside it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.name = path.name
        self.generator = path.parent / f"{self.name}.h5"
        self.config = path / "config.json"
        self.history = path / "history.csv"  # the metrics of each step
        self.best = path / "best.h5"  # of the generators that were evaluated, the best one
        self.losses = path / "losses.png"  # the curves of losses and accuracies
        self.evolution = path / "evolution.png"  # sample grids side by side
        self.animation = path / "evolution.gif"  # all sample grids, one after the other
        self.checkpoints = Checkpoints(path / "checkpoints")

    def __str__(self) -> str:
        return str(self.path)

    def grid(self, steps: int) -> Path:
        """The file of the sample grid after a number of steps."""
        return self.path / f"{steps:05d}.png"

    def grids(self) -> dict[int, Path]:
        """The files of the sample grids by their numbers of steps, in ascending order."""
        files = {int(file.stem): file for file in numbered_files(self.path, ".png")}
        return dict(sorted(files.items()))

    def event_files(self) -> list[Path]:
        """The files for TensorBoard."""
        return list(self.path.glob(f"{EVENTS}*"))

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Keeps other processes from writing the run's files, and checks that this one can."""
        check_writable(self.generator)
        check_writable(self.config)
        file = self.path / "lock"
        with file.open("a") as opened:
            try:
                lock(opened)
            except (BlockingIOError, PermissionError):
                raise UserError(
                    f"another process is training in {self}: wait for it to end, or give another "
                    "--outdir"
                ) from None
            except OSError as error:
                why = first_line(error)
                raise UserError(f"cannot lock {file}: {why}: give another --outdir") from error
            for folder in (self.path, self.checkpoints.folder):
                remove_partials(folder)
            yield

    def refuse_to_overwrite(self) -> None:
        """Refuses a folder in which there is something that a new run would replace."""
        if self.config.exists() or self.checkpoints.files():
            raise UserError(
                f"{self} holds a run that has reached step {self.checkpoints.steps()}: add "
                "--resume to continue it, --overwrite to delete it and start afresh, or another "
                "--outdir to keep it"
            )
        for file in [self.generator, *self._files()]:
            if file.exists():
                raise UserError(
                    f"{file} is there already: move it away, or add --overwrite to replace it"
                )

    def clear(self) -> None:
        """Removes the files of an earlier run, except its generator, which is replaced later.

        config.json goes last, so that until then the run can be recognized.
        """
        for file in [*self._files(), self.config]:
            file.unlink(missing_ok=True)

    def _files(self) -> list[Path]:
        """The files of a run that exist here, except config.json."""
        named = (self.history, self.best, self.losses, self.evolution, self.animation)
        numbered = [*self.grids().values(), *self.checkpoints.files(), *self.event_files()]
        return [*numbered, *(file for file in named if file.exists())]
