"""What did a run look like as a whole? Its curves, and what became of the same noise.

All of it can be drawn from the run's folder alone.
"""

from __future__ import annotations

import csv
import io
from pathlib import Path

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from PIL import Image, ImageDraw, ImageFont

from common.errors import UserError, first_line
from common.files import numbered_files, write_file
from common.pictures import DPI, GAP_PIXELS, save_animation, save_picture
from common.runs.checkpoints import COLUMNS
from common.runs.run import ANIMATION, CURVES, EVOLUTION
from common.training.callbacks.core import StepCallback

# The curves are means over so many steps, in front of the steps themselves.
SMOOTHING = 100
# As many points as there are screen pixels.
_POINTS = 700
# Grids in evolution.png, and how many of them stand side by side.
_GRIDS, _GRIDS_A_ROW = 8, 4
_CAPTION_PIXELS = 24
_ANIMATION_MILLISECONDS, _LAST_MILLISECONDS = 10_000, 2_000


class LossCurves(StepCallback):
    """Draws both losses and both accuracies over the steps, at each save interval and at the end.

    Args:
        name: The name of the model, for the title.
        history: The run's history, a row for each step: `COLUMNS` of `common.runs.checkpoints`.
        file: The PNG file.
    """

    def __init__(self, name: str, history: list[tuple[float, ...]], file: Path) -> None:
        super().__init__()
        self.history = history
        self.file = file
        self._drawn = 0
        # made once: what changes are the lines
        self._figure = Figure(figsize=(9, 6.4), dpi=DPI)
        FigureCanvasAgg(self._figure)
        # given, for a layout that Matplotlib finds depends on what was drawn before
        margins = {"left": 0.07, "right": 0.98, "bottom": 0.08, "top": 0.945, "hspace": 0.06}
        losses, accuracies = self._axes = self._figure.subplots(2, sharex=True, gridspec_kw=margins)
        losses.set(ylabel="loss: binary cross-entropy (nats)")
        losses.set_title(f"{name}: means of {SMOOTHING} steps; faint, each single step", loc="left")
        accuracies.set(ylabel="accuracy (%)", ylim=(-2, 102), xlabel="step")
        losses.grid(alpha=0.3)
        accuracies.grid(alpha=0.3)
        accuracies.xaxis.set_major_locator(MaxNLocator(integer=True))
        # in the order of the history's columns: each step, and means in front
        self._lines = [
            (
                axes.plot([], [], color=colour, alpha=0.25, linewidth=0.7)[0],
                axes.plot([], [], color=colour, label=network, zorder=3)[0],
            )
            for network, colour in (("discriminator", "C0"), ("adversarial", "C1"))
            for axes in self._axes
        ]
        above = {"loc": "lower right", "bbox_to_anchor": (1, 1), "frameon": False}
        losses.legend(ncols=2, **above)

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        """Draws the curves of the steps so far."""
        self.draw()

    def on_train_end(self, logs: dict[str, float] | None = None) -> None:
        """Draws them, wherever the run has ended."""
        self.draw()

    def draw(self) -> None:
        """Draws the curves, unless they have been.

        Raises:
            UserError: The file cannot be written.
        """
        if len(self.history) == self._drawn:
            return
        self._drawn = len(self.history)
        figures = np.array(self.history)[:, :4]
        figures[:, 1::2] *= 100
        for column, (raw, smooth) in zip(figures.T, self._lines, strict=True):
            raw.set_data(*_extremes(column))
            smooth.set_data(*_smoothed(column))
        top = max(line.get_ydata().max() for _, line in self._lines[::2])
        # single steps may go far beyond, and would press all else flat
        self._axes[0].set_ylim(0, max(1.25 * top, 1e-3))
        self._axes[1].set_xlim(0, max(1, len(figures) - 1))
        png = io.BytesIO()
        self._figure.savefig(png, format="png", dpi=DPI)
        write_file(self.file, png.getvalue())


def _smoothed(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The means over the last `SMOOTHING` steps, or as many as there were: `(steps, means)`."""
    sums = np.concatenate([[0], np.cumsum(values)])
    ends = np.unique(np.linspace(1, len(values), min(len(values), _POINTS)).astype(int))
    starts = np.maximum(0, ends - SMOOTHING)
    return ends - 1, (sums[ends] - sums[starts]) / (ends - starts)


def _extremes(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """What a line through all values looks like on a screen: `(steps, values)`.

    Of the values that share a column of pixels, the least and the greatest.
    """
    if len(values) <= 2 * _POINTS:
        return np.arange(len(values)), values
    edges = np.linspace(0, len(values), _POINTS + 1).astype(int)[:-1]
    extremes = np.minimum.reduceat(values, edges), np.maximum.reduceat(values, edges)
    return edges.repeat(2), np.stack(extremes, axis=1).ravel()


def draw_evolution(folder: Path) -> None:
    """Draws what became of the same noise, as figures 4.2.2 and 4.3.4 of the chapter do.

    `evolution.png` has up to eight grids side by side, each from about twice as many steps as the
    one before; `evolution.gif` has all of them, one after the other.

    Args:
        folder: The folder of a run, with its grids.

    Raises:
        UserError: There are no grids, one cannot be read, or the files cannot be written.
    """
    files = {int(file.stem): file for file in numbered_files(folder, ".png")}
    if not files:
        raise UserError(f"{folder} holds no grids such as 00500.png to draw: train first")
    grids = {steps: _read(files[steps]) for steps in sorted(files)}
    if len({grid.shape for grid in grids.values()}) > 1:
        raise UserError(f"the grids in {folder} differ in size: remove those of another run")
    captioned = {steps: _captioned(grid, f"step {steps:,}") for steps, grid in grids.items()}

    shown = sorted(grids)
    if len(shown) > _GRIDS:
        wanted = [shown[0], *(shown[-1] / 2**i for i in range(_GRIDS - 1))]
        shown = sorted({min(grids, key=lambda steps: abs(steps - want)) for want in wanted})
    picture = _in_rows([captioned[steps] for steps in shown], _GRIDS_A_ROW)
    save_picture(picture, folder / EVOLUTION)
    milliseconds = max(40, min(500, _ANIMATION_MILLISECONDS // len(grids))) // 10 * 10
    save_animation([*captioned.values()], folder / ANIMATION, milliseconds, _LAST_MILLISECONDS)


def draw_figures(folder: Path) -> None:
    """Draws all figures of a run anew, from its folder alone.

    Args:
        folder: The folder of a run, with its grids and history.csv.

    Raises:
        UserError: It is no such folder, or the figures cannot be written.
    """
    history = _read_history(folder / "history.csv")
    LossCurves(folder.resolve().name, history, folder / CURVES).draw()
    draw_evolution(folder)
    print(f"drawn in {folder}: {CURVES}, {EVOLUTION}, {ANIMATION}")


def _read_history(file: Path) -> list[tuple[float, ...]]:
    try:
        with file.open(newline="") as table:
            rows = [tuple(float(row[name]) for name in COLUMNS) for row in csv.DictReader(table)]
        if not np.isfinite(rows).all():
            raise ValueError("not all figures are finite")
    except OSError as error:
        raise UserError(
            f"{file} cannot be read ({error.strerror}): train first, or give the --outdir of a run"
        ) from error
    except (ValueError, KeyError, TypeError, csv.Error) as error:
        raise UserError(f"{file} is no history of a run: {first_line(error)}") from error
    if not rows:
        raise UserError(f"{file} holds no steps to draw: train first")
    return rows


def _read(file: Path) -> np.ndarray:
    """The grey pixels of a grid: uint8 of shape (height, width)."""
    try:
        with Image.open(file) as picture:
            return np.asarray(picture.convert("L"))
    except OSError as error:
        raise UserError(f"{file} cannot be read: {first_line(error)}") from error


def _captioned(grid: np.ndarray, caption: str) -> np.ndarray:
    """A grid below a line of text, in black on white."""
    band = Image.new("L", (grid.shape[1], _CAPTION_PIXELS), 255)
    font = ImageFont.load_default(16)
    ImageDraw.Draw(band).text((grid.shape[1] // 2, 5), caption, fill=0, font=font, anchor="mt")
    return np.concatenate([np.asarray(band), grid])


def _in_rows(pictures: list[np.ndarray], columns: int) -> np.ndarray:
    """Pictures of one size side by side, in rows of so many."""
    height, width = pictures[0].shape
    columns = min(columns, len(pictures))
    rows = -(-len(pictures) // columns)
    # grids have white margins of their own
    step = width + 2 * GAP_PIXELS
    canvas = np.full((rows * height, columns * step - 2 * GAP_PIXELS), 255, np.uint8)
    for i, picture in enumerate(pictures):
        row, column = divmod(i, columns)
        canvas[row * height :][:height, column * step :][:, :width] = picture
    return canvas
