"""Which run does a folder hold, and may this one have it?"""

from __future__ import annotations

import json
import platform
import secrets
import subprocess
from contextlib import suppress
from importlib.metadata import version
from pathlib import Path
from typing import Any

import filelock

from common.cli import OF_THE_RUN, Options
from common.errors import UserError, first_line
from common.files import check_writable, numbered_files, remove_partials, write_file
from common.gan.data import PROJECT, checksum, name_of
from common.gan.step import ENGINES
from common.runs.checkpoints import Checkpoints
from common.runtime import PRECISIONS, device_name, silence

# With another value of these it would be another run, and not this one going on.
_MATHEMATICS = ("batch_size", "seed", "precision")

# What a run leaves in its folder beside what a resumed one needs.
BEST = "best.h5"  # of the generators that were evaluated
CURVES, EVOLUTION, ANIMATION = "losses.png", "evolution.png", "evolution.gif"
EVENT_FILES = "events.out.tfevents.*"  # TensorBoard knows them by the middle of their names

# The first is always given, the others may be None.
_INTERVALS = ("save_interval", "checkpoint_interval", "evaluate_interval")


class Workers:
    """The processes that take a run's steps together: here this one, alone.

    `common.distribution.Cluster` is several of them.

    Attributes:
        is_chief: Whether this is the one that reads and writes files, and tells.
    """

    is_chief = True

    def from_chief(self, content: bytes) -> bytes:
        """What the chief calls this with."""
        return content

    def any(self, flag: bool) -> bool:
        """Whether one of them calls this with True."""
        return flag


class Run:
    """A run and its folder, which no other process may write to as long as this one lives.

    Args:
        name: The name of the model; it names the folder and the generator's file.
        options: What the user asked for. With `resume` the run in the folder goes on, and what
            the user has not given is taken from its start.

    Attributes:
        workers: The processes that take its steps. The chief alone has to do with the folder.
        options: The options of this run, complete.
        identity: What makes it this run and no other.
        hyper_parameters: What it was started with: booleans, numbers, strings and None.
        name: The name of the model.
        folder: Holds config.json, history.csv, the sample grids, the checkpoints and figures.
        generator_file: Where the trained generator goes.
        checkpoints: The checkpoints of this run.

    Raises:
        UserError: The folder cannot be written, another process has it, it holds a run and the
            user has not said what is to become of it, or the run there is a different one. Or
            there are no such devices or workers as the options ask for.
    """

    def __init__(self, name: str, options: Options) -> None:
        self.name = name
        self.folder = options.outdir / name
        self.generator_file = options.outdir / f"{name}.h5"
        self.checkpoints = Checkpoints(self.folder / "checkpoints")
        self._config_file = self.folder / "config.json"

        if options.quiet:
            silence()
        self.workers = Workers()
        if options.strategy != "none":
            from common.training.distribution import join

            self.workers = join(options)
        start = self._claimed(options) if self.workers.is_chief else {}
        # every worker trains what the chief does
        self._start = json.loads(self.workers.from_chief(json.dumps(start).encode()))
        if not self.workers.is_chief:
            options = self._following(options)
        self.options = options.completed_by(self._start["flags"])
        self.hyper_parameters = self._start["flags"]
        self.identity = {name: self._start["flags"][name] for name in _MATHEMATICS} | {
            "data_sha256": self._start["data_sha256"]
        }

    def _claimed(self, options: Options) -> dict[str, Any]:
        """Makes sure of the folder; gives the flags of this run and the checksum of its data."""
        check_writable(self.generator_file)
        check_writable(self._config_file)
        self._lock = self._locked()
        # left by a process that was killed while it wrote
        remove_partials(self.folder)
        remove_partials(self.checkpoints.folder)
        remove_partials(options.outdir, self.generator_file.name)

        if options.resume:
            options, data_checksum = self._completed(options)
        else:
            if not options.overwrite:
                self._refuse_to_overwrite()
            if options.seed is None:
                options.seed = secrets.randbelow(2**32)  # to be known when the run goes on
            data_checksum = checksum(options.data)
        flags = {name: getattr(options, name) for name in OF_THE_RUN}
        flags["data"] = name_of(options.data)
        return {"flags": flags, "data_sha256": data_checksum}

    def _following(self, options: Options) -> Options:
        """The options of a worker that is not the chief: the chief's, but for where its data is."""
        data = PROJECT / self._start["flags"]["data"]
        if "data" in options.given or not data.exists():
            data = options.data
        if checksum(data) != self._start["data_sha256"]:
            raise UserError(
                f"argument --data: {data} is not the data set that the chief trains on: "
                "give all workers the same"
            )
        options.given = {
            name: value for name, value in options.given.items() if name not in OF_THE_RUN
        } | {"data": data}
        return options

    def begin(self) -> None:
        """Makes the folder this run's own, once it has shown that it can take a step.

        Raises:
            UserError: It cannot be written.
        """
        earlier = []
        if self.options.resume:
            with suppress(OSError, ValueError, TypeError, KeyError):
                before = json.loads(self._config_file.read_text())
                ground = {name: before[name] for name in ("versions", "device", "git_commit")}
                earlier = [*before.get("earlier", []), ground]
        elif self.options.overwrite:
            self._clear()
        packages = ("tensorflow", "keras", "numpy", "matplotlib", "h5py")
        config = self._start | {
            "versions": {"python": platform.python_version()}
            | {package: version(package) for package in packages},
            "device": device_name(),
            "git_commit": _git_commit(),
            "command": {
                name: str(value) if isinstance(value, Path) else value
                for name, value in vars(self.options).items()
                if name not in ("given", *OF_THE_RUN)
            },
            "earlier": earlier,  # what the steps before a resumption were computed with
        }
        write_file(self._config_file, (json.dumps(config, indent=2) + "\n").encode())

    def close(self) -> None:
        """Lets others have the folder."""
        if self.workers.is_chief:
            self._lock.release()

    def _locked(self) -> filelock.BaseFileLock:
        # the system takes the lock away from a process that ends, in whatever way
        lock = filelock.FileLock(self.folder / "lock")
        try:
            lock.acquire(timeout=0)
        except filelock.Timeout:
            raise UserError(
                f"another process is training in {self.folder}: "
                "wait for it to end, or give another --outdir"
            ) from None
        except OSError as error:
            raise UserError(f"cannot lock {self.folder / 'lock'}: {first_line(error)}") from error
        return lock

    def _started_with(self) -> tuple[dict[str, Any], str]:
        """The flags of the run in the folder, and the checksum of its data."""
        try:
            config = json.loads(self._config_file.read_text())
            # runs of earlier versions have no such flag
            flags = {"tensorboard": False} | config["flags"]
            return _checked(flags), config["data_sha256"]
        except FileNotFoundError:
            if self.checkpoints.files():
                raise UserError(
                    f"{self._config_file} is missing, without which its checkpoints cannot be "
                    "gone on with: put it back, or start afresh with --overwrite"
                ) from None
            raise UserError(
                f"{self.folder} holds no run to go on with: leave out --resume"
            ) from None
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise UserError(
                f"{self._config_file} cannot be read ({first_line(error)}): "
                "mend it, or start afresh with --overwrite"
            ) from error

    def _completed(self, options: Options) -> tuple[Options, str]:
        """Takes what is not given from the start of the run, and checks what is."""
        started_with, data_sha256 = self._started_with()
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
        if checksum(options.data) != data_sha256:
            raise UserError(
                f"argument --data: {options.data} is not what the run in {self.folder} "
                "was started with: give that, or --overwrite to start afresh"
            )
        return options, data_sha256

    def _products(self) -> list[Path]:
        """What a run leaves in its folder, but for config.json."""
        patterns = ("history.csv", BEST, CURVES, EVOLUTION, ANIMATION, EVENT_FILES)
        named = [file for pattern in patterns for file in self.folder.glob(pattern)]
        return [*numbered_files(self.folder, ".png"), *named, *self.checkpoints.files()]

    def _refuse_to_overwrite(self) -> None:
        if self._config_file.exists() or self.checkpoints.files():
            raise UserError(
                f"{self.folder} holds a run that has reached step {self.checkpoints.steps()}: "
                "add --resume to go on with it, or --overwrite to start afresh"
            )
        for file in [self.generator_file, *self._products()]:
            if file.exists():
                raise UserError(
                    f"{file} is there already: move it away, or add --overwrite to replace it"
                )

    def _clear(self) -> None:
        """Removes an earlier run, all but its generator, which is replaced when there is a new one.

        What tells of the run goes last, so that until then it is there to see.
        """
        for file in [*self._products(), self._config_file]:
            try:
                file.unlink(missing_ok=True)
            except OSError as error:
                raise UserError(f"cannot remove {file}: {error.strerror}") from error


def _checked(flags: dict[str, Any]) -> dict[str, Any]:
    """The flags `OF_THE_RUN`.

    Raises:
        ValueError: One is not what the command line would have taken; KeyError: one is missing.
    """
    for name in ("train_steps", "batch_size", *_INTERVALS):
        value = flags[name]
        optional = name in _INTERVALS[1:] and value is None
        if not optional and not (isinstance(value, int) and value > 0):
            raise ValueError(f"{name} is {value!r}")
    if not isinstance(flags["seed"], int) or not isinstance(flags["data"], str):
        raise ValueError("seed is no number, or data no path")
    booleans = (False, True)
    for name, choices in (
        *(("engine", ENGINES), ("precision", PRECISIONS)),
        *((name, booleans) for name in ("xla", "sync_batchnorm", "tensorboard")),
    ):
        if flags[name] not in choices:
            raise ValueError(f"{name} is {flags[name]!r}")
    return {name: flags[name] for name in OF_THE_RUN}


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
