"""Showing the progress of a run: log lines, and on a terminal a bar."""

from __future__ import annotations

import sys
import time
from datetime import timedelta

import keras
import numpy as np
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
from rich.table import Column

from common.runs.history import History, columns, means
from common.training.callbacks.base import StepCallback, printing

# Running-mean window of the bar, in steps: the metrics of single steps vary too much to read.
_WINDOW = 100
# The least and the greatest width of the bar itself.
_BAR_WIDTHS = 3, 40
# Drawing the bar takes a millisecond, and figures that change faster cannot be read.
SECONDS_BETWEEN = 0.5


def is_terminal() -> bool:
    """Whether the output goes to a terminal on which a bar can be drawn."""
    return sys.stdout is not None and sys.stdout.isatty() and not Console().is_dumb_terminal


class LogLine(StepCallback):
    """Prints the chapter's line, with the metrics of a single step.

    The first step has a line, too: it shows that the run has come to life.
    """

    reads_models = False

    LINE = (
        "%(step)d: [discriminator loss: %(discriminator_loss)f, acc: %(discriminator_acc)f]"
        " [adversarial loss: %(adversarial_loss)f, acc: %(adversarial_acc)f]"
    )

    def acts_after(self, steps: int) -> bool:
        """At each interval, at the end, and after the first step."""
        return super().acts_after(steps) or steps == 1

    def on_steps(self, steps: int, logs: dict[str, float]) -> None:
        """Prints the line of the last step, whose number counts from 0."""
        with printing():
            print(self.LINE % {"step": steps - 1, **logs}, flush=True)


class ProgressBar(keras.callbacks.Callback):
    """A live bar for the whole run, shown while the context is open.

    Text that is printed meanwhile appears above it.
    """

    def __init__(
        self, name: str, train_steps: int, history: History, console: Console | None = None
    ) -> None:
        super().__init__()
        self.name = name
        self.history = history
        self.train_steps = train_steps
        self._column = BarColumn()
        self._bar = Progress(
            TextColumn(name),
            self._column,
            MofNCompleteColumn(table_column=Column(no_wrap=True)),
            TextColumn("{task.fields[metrics]}"),
            console=console,
            auto_refresh=False,
            # unless stderr goes to a file
            redirect_stderr=sys.stderr is not None and sys.stderr.isatty(),
        )
        self._task = self._bar.add_task(name, total=train_steps, metrics="")
        self._due = 0.0

    def __enter__(self) -> ProgressBar:
        self._bar.start()
        self.draw()
        self._bar.console.show_cursor(True)  # a process that is killed could not show it again
        return self

    def __exit__(self, *_: object) -> None:
        self.draw()
        with printing():
            self._bar.stop()

    def on_train_batch_end(self, batch: int, logs: dict[str, float] | None = None) -> None:
        """Draws the bar again, twice a second."""
        if time.monotonic() >= self._due:
            self.draw()
            self._due = time.monotonic() + SECONDS_BETWEEN

    def draw(self) -> None:
        """Draws the bar again."""
        metrics = ""
        if self.history:
            recent = self.history[-_WINDOW:]
            mean = means(recent)
            # the median, because the first step takes seconds to compile
            seconds = float(np.median(columns(recent).seconds))
            left = timedelta(seconds=round(seconds * (self.train_steps - len(self.history))))
            metrics = self._fitting(
                f"{seconds * 1000:.0f} ms/step, {left} left",
                f"D {mean.discriminator_loss:.3f} {mean.discriminator_acc:.0%} "
                f"A {mean.adversarial_loss:.3f} {mean.adversarial_acc:.0%}",
                f"D {mean.discriminator_loss:.3f} A {mean.adversarial_loss:.3f}",
            )
        with printing():
            self._bar.update(self._task, completed=len(self.history), metrics=metrics, refresh=True)

    def _fitting(self, time_left: str, *metrics: str) -> str:
        """The time left, with the first of the metrics that fits on the line; and the bar's width.

        There has to be room for the ^C that a terminal shows where the cursor is: on a line that is
        full it would go to the next one, and the bar would be drawn there anew.
        """
        others = f"{self.name}  {self.train_steps}/{self.train_steps} ^C"
        room = self._bar.console.width - len(others)
        texts = [*(f"{time_left}, {text}" for text in metrics), time_left, ""]
        text = next(text for text in texts if len(text) + _BAR_WIDTHS[0] <= room or not text)
        self._column.bar_width = min(max(room - len(text), _BAR_WIDTHS[0]), _BAR_WIDTHS[1])
        return text
