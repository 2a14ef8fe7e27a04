"""The history of a run: the metrics of every step, in memory and in history.csv."""

import csv
import io
from pathlib import Path
from typing import NamedTuple

import numpy as np

from common.errors import UserError, first_line
from common.files import write_file


class StepRecord(NamedTuple):
    """A step: its `METRICS`, and the seconds it took.

    Losses are means over the batch in nats, accuracies shares from 0 to 1.
    """

    discriminator_loss: float
    discriminator_acc: float
    adversarial_loss: float
    adversarial_acc: float
    seconds: float


COLUMNS = StepRecord._fields
# A record for each step so far; its length is the number of steps taken.
History = list[StepRecord]
# By the number of steps taken, the metrics of an evaluation.
Evaluations = dict[int, dict[str, float]]


def best_step(evaluations: Evaluations) -> int | None:
    """The step of the best generator, whose Frechet distance is the lowest; None without any."""
    return min(evaluations, key=lambda steps: evaluations[steps]["frechet_distance"], default=None)


def to_array(history: History) -> np.ndarray:
    """The history as float64 of shape (steps, 5), in the order of `COLUMNS`."""
    return np.array(history, np.float64).reshape(-1, len(COLUMNS))


def from_array(array: np.ndarray) -> History:
    """The reverse of `to_array`."""
    return [StepRecord(*row) for row in array.tolist()]


def columns(history: History) -> StepRecord:
    """The history by its columns: each field is an array of shape (steps,)."""
    return StepRecord(*to_array(history).T)


def means(history: History) -> StepRecord:
    """The mean of each column over the steps of a history that is not empty."""
    return StepRecord(*to_array(history).mean(axis=0).tolist())


def write_history(file: Path, history: History, evaluations: Evaluations) -> None:
    """Writes a history as a table: a line for each step, with its evaluation, if there was one."""
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    evaluated = list(next(iter(evaluations.values()), ()))
    table.writerow(("step", *COLUMNS, *evaluated))
    for step, (*metrics, seconds) in enumerate(history):
        # nine digits are all that float32 has
        row = [step, *(f"{metric:.9g}" for metric in metrics), f"{seconds:.4f}"]
        found = evaluations.get(step + 1, {})
        row += [f"{found[name]:.9g}" if found else "" for name in evaluated]
        table.writerow(row)
    write_file(file, text.getvalue().encode())


def read_history(file: Path) -> History:
    """Reads a history from a table."""
    try:
        table = csv.DictReader(file.read_text().splitlines())
        return [StepRecord(*(float(row[name]) for name in COLUMNS)) for row in table]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(
            f"{file} cannot be read ({first_line(error)}): train first, or give the --outdir of a "
            "run"
        ) from error
