"""Which run does a folder hold, and may this one have it?"""

from __future__ import annotations

import json
import platform
import secrets
import subprocess
from importlib.metadata import version
from pathlib import Path
from typing import Any

import filelock

from common.checkpoints import Checkpoints
from common.cli import OF_THE_RUN, Options
from common.data import checksum
from common.errors import UserError
from common.files import check_writable, remove_partials, write_file
from common.runtime import device_name

# With another value of these it would be another run, and not this one going on.
_MATHEMATICS = ("batch_size", "seed")


class Run:
    """A run and its folder, which no other process may write to as long as this one lives.

    Args:
        name: The name of the model; it names the folder and the generator's file.
        options: What the user asked for. With `resume` the run in the folder goes on, and what
            the user has not given is taken from its start.

    Attributes:
        options: The options of this run, complete.
        folder: Holds config.json, history.csv, the sample grids and the checkpoints.
        generator_file: Where the trained generator goes.
        checkpoints: The checkpoints of this run.

    Raises:
        UserError: The folder cannot be written, another process has it, it holds a run and the
            user has not said what is to become of it, or the run there is a different one.
    """

    def __init__(self, name: str, options: Options) -> None:
        self.folder = options.outdir / name
        self.generator_file = options.outdir / f"{name}.h5"
        self.checkpoints = Checkpoints(self.folder / "checkpoints")
        self._config_file = self.folder / "config.json"

        check_writable(self.generator_file)
        check_writable(self._config_file)
        # the system takes the lock away from a process that ends, in whatever way
        self._lock = filelock.FileLock(self.folder / "lock")
        try:
            self._lock.acquire(timeout=0)
        except filelock.Timeout:
            raise UserError(
                f"another process is training in {self.folder}: "
                "wait for it to end, or give another --outdir"
            ) from None
        # left by a process that was killed while it wrote
        remove_partials(self.folder)
        remove_partials(self.checkpoints.folder)
        remove_partials(options.outdir, self.generator_file.name)

        if options.resume:
            self.options = self._completed(options)
        else:
            if not options.overwrite:
                self._refuse_to_overwrite()
            self.options = options
            if options.seed is None:
                options.seed = secrets.randbelow(2**32)  # to be known when the run goes on
        self._data_checksum = checksum(self.options.data)
        if options.resume and self._data_checksum != self._read_config()[1]:
            raise UserError(
                f"argument --data: {self.options.data} is not what the run in {self.folder} "
                "was started with: give that, or --overwrite to start afresh"
            )

    def begin(self) -> None:
        """Makes the folder this run's own: the last moment before the first step.

        Raises:
            UserError: It cannot be written.
        """
        if not self.options.resume:
            self._clear()
        flags = {
            name: str(value) if isinstance(value, Path) else value
            for name, value in vars(self.options).items()
            if name != "given"
        }
        flags["data"] = str(self.options.data.resolve())
        packages = ("tensorflow", "keras", "numpy", "matplotlib", "h5py")
        config = {
            "flags": flags,
            "data_sha256": self._data_checksum,
            "versions": {"python": platform.python_version()}
            | {package: version(package) for package in packages},
            "device": device_name(),
            "git_commit": _git_commit(),
        }
        write_file(self._config_file, (json.dumps(config, indent=2) + "\n").encode())

    def close(self) -> None:
        """Lets others have the folder."""
        self._lock.release()

    def _read_config(self) -> tuple[dict[str, Any], str]:
        """What the run was started with: its flags, and the checksum of its data."""
        try:
            config = json.loads(self._config_file.read_text())
            return {name: config["flags"][name] for name in OF_THE_RUN}, config["data_sha256"]
        except FileNotFoundError:
            raise UserError(
                f"{self.folder} holds no run to go on with: leave out --resume"
            ) from None
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise UserError(
                f"{self._config_file} cannot be read: start afresh with --overwrite"
            ) from error

    def _completed(self, options: Options) -> Options:
        """Takes what is not given from the start of the run, and checks what is."""
        started_with, _ = self._read_config()
        options = options.completed_by(started_with)
        for name in _MATHEMATICS:
            if getattr(options, name) != started_with[name]:
                raise UserError(
                    f"argument --{name.replace('_', '-')}: {getattr(options, name)} given, the run "
                    f"in {self.folder} was started with {started_with[name]}: "
                    "leave it out, or give --overwrite to start afresh"
                )
        steps = self.checkpoints.steps()
        if options.train_steps < steps:
            raise UserError(
                f"argument --train-steps: {options.train_steps} given, the run in {self.folder} "
                f"has already taken {steps}: give at least as many"
            )
        return options

    def _refuse_to_overwrite(self) -> None:
        if self._config_file.exists() or self.checkpoints.files():
            raise UserError(
                f"{self.folder} holds a run that has reached step {self.checkpoints.steps()}: "
                "add --resume to go on with it, or --overwrite to start afresh"
            )
        if self.generator_file.exists():
            raise UserError(
                f"{self.generator_file} is there already: "
                "move it away, or add --overwrite to replace it"
            )

    def _clear(self) -> None:
        """Removes an earlier run, all but its generator, which is replaced when there is a new one.

        What tells of the run goes last, so that until then it can still go on.
        """
        grids = self.folder.glob("[0-9]*.png")
        for file in [*grids, *self.checkpoints.files(), self.folder / "history.csv"]:
            file.unlink(missing_ok=True)
        self._config_file.unlink(missing_ok=True)


def _git_commit() -> str | None:
    """The commit of this code, if it is a git checkout."""
    try:
        found = subprocess.run(
            ["git", "rev-parse", "HEAD"],
            cwd=Path(__file__).parent,
            capture_output=True,
            text=True,
            check=True,
        )
    except (OSError, subprocess.CalledProcessError):
        return None
    return found.stdout.strip()
