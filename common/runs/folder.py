"""The folder of a run: the name of every file in it, and who may write there."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import filelock

from common.errors import UserError, first_line
from common.files import check_writable, numbered_files, remove_partials
from common.runs.checkpoints import Checkpoints


class RunFolder:
    """The folder of a run, and the generator's file beside it.

    Args:
        path: The folder; its name is the name of the model.

    Attributes:
        name: The name of the model.
        generator: The generator of the last step, which is written when the run ends.
        config: The flags that the run was started with, its data's checksum, versions and device.
        history: The metrics of each step.
        best: Of the generators that were evaluated, the best one.
        losses: The curves of losses and accuracies.
        evolution: Sample grids side by side.
        animation: All sample grids, one after the other.
        checkpoints: The newest checkpoints.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.name = path.name
        self.generator = path.parent / f"{self.name}.h5"
        self.config = path / "config.json"
        self.history = path / "history.csv"
        self.best = path / "best.h5"
        self.losses = path / "losses.png"
        self.evolution = path / "evolution.png"
        self.animation = path / "evolution.gif"
        self.checkpoints = Checkpoints(path / "checkpoints")
        self._lock = filelock.FileLock(path / "lock")
        self._locked: os.stat_result  # of the lock's file
        self._made: list[Path] = []  # folders that did not exist before

    def __str__(self) -> str:
        return str(self.path)

    def grid(self, steps: int) -> Path:
        """The file of the sample grid after so many steps."""
        return self.path / f"{steps:05d}.png"

    def grids(self) -> dict[int, Path]:
        """The files of the sample grids by their numbers of steps, in ascending order."""
        files = {int(file.stem): file for file in numbered_files(self.path, ".png")}
        return dict(sorted(files.items()))

    def event_file(self, identifier: str) -> Path:
        """A file for TensorBoard, which recognizes it by its name."""
        return self.path / f"events.out.tfevents.{identifier}"

    def event_files(self) -> list[Path]:
        """The files for TensorBoard."""
        return list(self.path.glob(self.event_file("*").name))

    def acquire(self) -> None:
        """Makes sure that this process can write the run's files, and that no other one does.

        Raises:
            UserError: The folder cannot be written, or another process is training in it.
        """
        self._made = [path for path in (self.path, *self.path.parents) if not os.path.exists(path)]
        check_writable(self.generator)
        check_writable(self.config)
        try:
            # the system releases the lock when the process ends, in whatever way
            self._lock.acquire(timeout=0)
            self._locked = os.stat(self._lock.lock_file)
        except filelock.Timeout:
            raise UserError(
                f"another process is training in {self}: wait for it to end, or give another "
                "--outdir"
            ) from None
        except OSError as error:
            raise UserError(f"cannot lock {self._lock.lock_file}: {first_line(error)}") from error
        for folder in (self.path, self.checkpoints.folder):
            remove_partials(folder)
        remove_partials(self.generator.parent, self.generator.name)

    def keep(self) -> bool:
        """Locks the folder again if it, or the lock, has been deleted or replaced meanwhile.

        Returns:
            Whether it has.

        Raises:
            UserError: Another process has begun to train in it.
        """
        with suppress(FileNotFoundError):
            if os.path.samestat(os.stat(self._lock.lock_file), self._locked):
                return False
        self._lock = filelock.FileLock(self.path / "lock")
        self.acquire()
        return True

    def release(self) -> None:
        """Lets other processes write here. Where no run has begun, nothing is left behind."""
        if not self.config.exists() and self._lock.is_locked:
            Path(self._lock.lock_file).unlink(missing_ok=True)
            for folder in self._made:
                with suppress(OSError):  # it is not empty
                    folder.rmdir()
        self._lock.release()

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Keeps other processes from writing here while the context is open."""
        self.acquire()
        try:
            yield
        finally:
            self.release()

    def refuse_to_overwrite(self) -> None:
        """Checks that there is nothing that a new run would replace.

        Raises:
            UserError: There is.
        """
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

        Raises:
            UserError: A file cannot be removed.
        """
        for file in [*self._files(), self.config]:
            try:
                file.unlink(missing_ok=True)
            except OSError as error:
                raise UserError(f"cannot remove {file}: {error.strerror}") from error

    def _files(self) -> list[Path]:
        """The files of a run that exist here, except config.json."""
        named = (self.history, self.best, self.losses, self.evolution, self.animation)
        existing = [file for file in named if file.exists()]
        numbered = [*self.grids().values(), *self.checkpoints.files()]
        return [*numbered, *existing, *self.event_files()]
