"""A run: what it was started with, and config.json, which records that."""

from __future__ import annotations

import dataclasses
import json
import platform
import subprocess
from contextlib import suppress
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from common.data.dataset import num_classes
from common.device import device_name
from common.errors import UserError, first_line
from common.files import write_file
from common.flags import FIXED
from common.options import FLAGS, PRECISIONS, Options, validated
from common.runs.folder import RunFolder
from common.runs.workers import Workers

_PACKAGES = ("tensorflow", "keras", "numpy", "matplotlib", "h5py")


@dataclasses.dataclass
class Settings:
    """The flags of a run, and the checksum of its data.

    Attributes:
        flags: The flags that belong to the run.
        data_sha256: The checksum of its training data.
    """

    flags: dict[str, Any]
    data_sha256: str

    @property
    def identity(self) -> dict[str, Any]:
        """What makes it this run and no other."""
        fixed = {
            name: value for name, value in self.flags.items() if FLAGS[name].on_resume is FIXED
        }
        return fixed | {"data_sha256": self.data_sha256}


@dataclasses.dataclass
class Run:
    """A run that is about to train.

    Attributes:
        folder: Where its files go. Only the chief uses it.
        options: The options of this run, complete.
        settings: What it was started with.
        workers: The processes that take its steps together.
        x_train: The training images, uint8 of shape (N, size, size).
        y_train: Their labels, int64 of shape (N,); None where a GAN without labels has none.
        rng: Draws all of its noise, labels and batches.
    """

    folder: RunFolder
    options: Options
    settings: Settings
    workers: Workers
    x_train: np.ndarray
    y_train: np.ndarray | None
    rng: np.random.Generator
    _config: bytes = dataclasses.field(default=b"", init=False)  # what config.json holds

    @property
    def name(self) -> str:
        """The name of the model."""
        return self.folder.name

    @property
    def image_size(self) -> int:
        """The side of the square images."""
        return self.x_train.shape[1]

    @property
    def num_labels(self) -> int:
        """The number of classes of the data set, of a GAN with labels."""
        assert self.y_train is not None
        return num_classes(self.y_train)

    @property
    def dtype(self) -> str:
        """The `dtype` of convolutions."""
        return PRECISIONS[self.options.precision]

    def claim(self) -> None:
        """Makes the folder this run's own, once the run has shown that it can take a step.

        Raises:
            UserError: It cannot be written.
        """
        earlier = []
        if self.options.resume:
            with suppress(OSError, ValueError, TypeError, KeyError, RecursionError):
                before = json.loads(self.folder.config.read_bytes())
                environment = {name: before[name] for name in ("versions", "device", "git_commit")}
                earlier = [*before.get("earlier", []), environment]
        elif self.options.overwrite:
            self.folder.clear()
        config = dataclasses.asdict(self.settings) | {
            "versions": {"python": platform.python_version()}
            | {package: version(package) for package in _PACKAGES},
            "device": device_name(),
            "git_commit": _git_commit(),
            "command": self.options.of_the_command(),
            "earlier": earlier,  # the environments of the steps before it was resumed
        }
        self._config = (json.dumps(config, indent=2) + "\n").encode()
        write_file(self.folder.config, self._config)

    def keep(self) -> None:
        """Sees to it that the folder is still this run's, and can be resumed, if it was deleted.

        Raises:
            UserError: It holds another run by now, or it cannot be written.
        """
        replaced = self.folder.keep()
        if not self._config:
            return
        if not self.folder.config.exists():
            write_file(self.folder.config, self._config)
        elif replaced and self.folder.config.read_bytes() != self._config:
            raise UserError(
                f"{self.folder} was replaced while this run was training, and holds another run: "
                "nothing more is written to it; start this one again with another --outdir"
            )

    def close(self) -> None:
        """Lets other processes write to the folder."""
        if self.workers.is_chief:
            self.folder.release()


def read_settings(folder: RunFolder) -> Settings:
    """What the run in a folder was started with, from its config.json.

    Raises:
        UserError: There is no run, or its config.json cannot be read.
    """
    try:
        config = json.loads(folder.config.read_bytes())
        return Settings(validated(config["flags"]), config["data_sha256"])
    except FileNotFoundError:
        if folder.checkpoints.files():
            raise UserError(
                f"{folder.config} is missing, without which its checkpoints cannot be resumed: "
                "put it back, or give --overwrite in place of --resume to delete them"
            ) from None
        raise UserError(f"{folder} holds no run to resume: leave out --resume") from None
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise UserError(
            f"{folder.config} cannot be read ({first_line(error)}): "
            "mend it, or give --overwrite in place of --resume to delete the run"
        ) from error


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
