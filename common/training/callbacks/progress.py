"""How does a run tell how far it is?"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta

import keras
import numpy as np
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
from rich.table import Column

from common.cli import Options
from common.training.callbacks.core import StepCallback

# What the bar shows are means over so many steps, for those of one step jump about.
_STEPS = 100
# Drawing the bar takes a millisecond, and nobody reads faster.
SECONDS_BETWEEN = 0.5


@contextmanager
def progress(
    name: str, options: Options, history: list[tuple[float, ...]]
) -> Iterator[list[keras.callbacks.Callback]]:
    """The callbacks that tell of a run: on a terminal a bar, elsewhere the chapter's log lines.

    The lines stand above the bar where they were asked for.

    Args:
        name: The name of the model.
        options: How often to log, and how long the run is to be.
        history: The run's history, a row for each step: `COLUMNS` of `common.runs.checkpoints`.
    """
    lines = LogLine(options.log_interval, options.train_steps)
    if sys.stdout is None or not sys.stdout.isatty() or Console().is_dumb_terminal:
        yield [lines]
        return
    with ProgressBar(name, options.train_steps, history) as bar:
        yield [lines, bar] if "log_interval" in options.given else [bar]


class LogLine(StepCallback):
    """Prints the chapter's line, with the figures of one step alone.

    Args:
        interval: Steps from one line to the next.
        train_steps: The steps of the run, the last of which gets a line in any case.
    """

    LINE = (
        "%(step)d: [discriminator loss: %(discriminator_loss)f, acc: %(discriminator_acc)f]"
        " [adversarial loss: %(adversarial_loss)f, acc: %(adversarial_acc)f]"
    )

    def __init__(self, interval: int = 1, train_steps: int = 0) -> None:
        super().__init__()
        self.interval = interval
        self.train_steps = train_steps

    def on_train_batch_end(self, batch: int, logs: dict[str, float]) -> None:
        """Prints the line of this step, if it is time to."""
        steps = self.step + 1
        if steps % self.interval == 0 or steps == self.train_steps:
            print(self.LINE % {"step": self.step, **logs}, flush=True)


class ProgressBar(StepCallback):
    """One live bar for the whole run; a context manager, as long as which it lives.

    Whatever is printed meanwhile appears above it.

    Args:
        name: What stands before it.
        train_steps: The steps of the run.
        history: The run's history, a row for each step: `COLUMNS` of `common.runs.checkpoints`.
        console: The terminal; None for the one of the standard output.
    """

    def __init__(
        self,
        name: str,
        train_steps: int,
        history: list[tuple[float, ...]],
        console: Console | None = None,
    ) -> None:
        super().__init__()
        self.history = history
        self.train_steps = train_steps
        self._bar = Progress(
            TextColumn(name),
            # gives way where the terminal is narrow, as nothing else does
            BarColumn(bar_width=None),
            MofNCompleteColumn(table_column=Column(no_wrap=True)),
            TextColumn("{task.fields[told]}"),
            console=console,
            auto_refresh=False,
            expand=True,
            # what goes to a file stays there
            redirect_stderr=sys.stderr is not None and sys.stderr.isatty(),
        )
        self._task = self._bar.add_task(name, total=train_steps, told="")
        self._due = 0.0

    def __enter__(self) -> ProgressBar:
        self._bar.start()
        self.draw()
        self._bar.console.show_cursor(True)  # a process that is killed could not bring it back
        return self

    def __exit__(self, *_: object) -> None:
        self.draw()
        self._bar.stop()

    def on_train_batch_end(self, batch: int, logs: dict[str, float] | None = None) -> None:
        """Draws the bar anew, if it is time to."""
        if time.monotonic() >= self._due:
            self.draw()
            self._due = time.monotonic() + SECONDS_BETWEEN

    def draw(self) -> None:
        """Draws the bar anew."""
        told = ""
        if self.history:
            rows = np.array(self.history[-_STEPS:])
            d_loss, d_acc, a_loss, a_acc = rows[:, :4].mean(axis=0)
            seconds = np.median(rows[:, 4])  # the first step takes seconds to compile
            left = timedelta(seconds=round(seconds * (self.train_steps - len(self.history))))
            told = (
                f"{seconds * 1000:.0f} ms/step, {left} left, D {d_loss:.3f} {d_acc:.0%}, "
                f"A {a_loss:.3f} {a_acc:.0%}"
            )
        self._bar.update(self._task, completed=len(self.history), told=told, refresh=True)
