"""A run that is about to train, and config.json, which records what it was started with."""

import dataclasses
import json
import platform
import subprocess
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

from common.data.dataset import DataSet
from common.device import device_name
from common.errors import UserError, first_line
from common.files import write_file
from common.options import Options, restored_flags
from common.runs.folder import RunFolder
from common.runs.workers import Workers

_PACKAGES = ("tensorflow", "keras", "numpy", "matplotlib", "h5py")


@dataclasses.dataclass
class Run:
    """A run that is about to train.

    Attributes:
        folder: Where its files go. Only the chief uses it.
        options: The options of this run, complete.
        workers: The processes that take its steps together.
        data: Its training data.
        rng: Draws all of its noise, labels and batches.
    """

    folder: RunFolder
    options: Options
    workers: Workers
    data: DataSet
    rng: np.random.Generator

    @property
    def name(self) -> str:
        """The name of the model."""
        return self.folder.name

    def begin(self) -> None:
        """Makes the folder this run's own, once the run has shown that it can take a step."""
        now, earlier = environment(), []
        if self.options.resume:
            _, before = read_config(self.folder)
            earlier = [*before["earlier"], {name: before[name] for name in now}]
        elif self.options.overwrite:
            self.folder.clear()
        config = {
            "flags": self.options.of_the_run(),
            "data_sha256": self.data.sha256,
            **({"class_names": self.data.names} if self.data.names else {}),
            **now,
            "command": self.options.typed(),
            "earlier": earlier,  # the environments of the steps before it was resumed
        }
        write_file(self.folder.config, (json.dumps(config, indent=2) + "\n").encode())


def environment() -> dict[str, Any]:
    """What the numbers of a run depend on, apart from its flags and its data."""
    versions = {package: import_module(package).__version__ for package in _PACKAGES}
    return {
        "versions": {"python": platform.python_version()} | versions,
        "device": device_name(),
        "git_commit": _git_commit(),
    }


def read_config(folder: RunFolder) -> tuple[dict[str, Any], dict[str, Any]]:
    """What the run in a folder was started with: its flags, and the whole of config.json."""
    try:
        config = json.loads(folder.config.read_bytes())
        return restored_flags(config["flags"]), config
    except FileNotFoundError:
        raise UserError(f"{folder} holds no run to resume: leave out --resume") from None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(
            f"{folder.config} cannot be read ({first_line(error)}): "
            "mend it, or give --overwrite in place of --resume to delete the run"
        ) from error


def _git_commit() -> str | None:
    """The commit of this code, if it is a git checkout."""
    command = ["git", "-C", str(Path(__file__).parent), "rev-parse", "HEAD"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None
