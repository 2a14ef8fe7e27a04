"""The figures of a run: its curves, and the images of the same noise at several steps.

All of them can be drawn from the run's folder alone.
"""

import io
from pathlib import Path

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from PIL import Image, ImageDraw, ImageFont

from common.errors import UserError
from common.files import write_file
from common.images import DPI, GAP_PIXELS, in_rows, save_animation, save_picture
from common.runs.folder import RunFolder
from common.runs.history import History, columns, read_history

# Running-mean window of the curves, in steps.
SMOOTHING = 100
# Points of a curve: one for each column of pixels, because 40,000 steps take Matplotlib 1.5 s.
_POINTS = 700
# Grids in evolution.png, and how many of them are side by side.
_GRIDS, _GRIDS_A_ROW = 8, 4
_CAPTION_PIXELS = 24
_ANIMATION_MILLISECONDS, _LAST_MILLISECONDS = 10_000, 2_000


class LossCurves:
    """Draws both losses and both accuracies over the steps."""

    def __init__(self, name: str, history: History, file: Path) -> None:
        self.history = history
        self.file = file
        # created once; only the lines change
        self._figure = Figure(figsize=(9, 6.4), dpi=DPI)
        FigureCanvasAgg(self._figure)
        # fixed, because a layout that Matplotlib computes depends on what was drawn before
        margins = {"left": 0.07, "right": 0.98, "bottom": 0.08, "top": 0.945, "hspace": 0.06}
        losses, accuracies = self._axes = self._figure.subplots(2, sharex=True, gridspec_kw=margins)
        losses.set(ylabel="loss: binary cross-entropy (nats)")
        losses.set_title(f"{name}: means of {SMOOTHING} steps; faint, each single step", loc="left")
        accuracies.set(ylabel="accuracy (%)", ylim=(-2, 102), xlabel="step")
        losses.grid(alpha=0.3)
        accuracies.grid(alpha=0.3)
        accuracies.xaxis.set_major_locator(MaxNLocator(integer=True))
        # for each metric of a step a line of single steps, and one of means in front
        self._lines = {
            f"{network}_{metric}": (
                axes.plot([], [], color=colour, alpha=0.25, linewidth=0.7)[0],
                axes.plot([], [], color=colour, label=network, zorder=3)[0],
            )
            for network, colour in (("discriminator", "C0"), ("adversarial", "C1"))
            for metric, axes in zip(("loss", "acc"), self._axes, strict=True)
        }
        above = {"loc": "lower right", "bbox_to_anchor": (1, 1), "frameon": False}
        losses.legend(ncols=2, **above)

    def draw(self) -> None:
        """Draws the curves of a history that is not empty."""
        history, top = columns(self.history), 0.0
        for name, (raw, smooth) in self._lines.items():
            is_loss = name.endswith("_loss")
            values = np.asarray(getattr(history, name)) * (1 if is_loss else 100)
            raw.set_data(*_extremes(values))
            smooth.set_data(*_smoothed(values))
            if is_loss:
                top = max(top, smooth.get_ydata().max())
        # single steps may be far above, and would flatten everything else
        self._axes[0].set_ylim(0, max(1.25 * top, 1e-3))
        self._axes[1].set_xlim(0, max(1, len(self.history) - 1))
        png = io.BytesIO()
        self._figure.savefig(png, format="png", dpi=DPI)
        write_file(self.file, png.getvalue())


def _smoothed(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Means over the last `SMOOTHING` steps, or as many as there are: `(steps, means)`."""
    sums = np.concatenate([[0], np.cumsum(values)])
    ends = np.unique(np.linspace(1, len(values), min(len(values), _POINTS)).astype(int))
    starts = np.maximum(0, ends - SMOOTHING)
    return ends - 1, (sums[ends] - sums[starts]) / (ends - starts)


def _extremes(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The least and the greatest value in each column of pixels: `(steps, values)`."""
    if len(values) <= 2 * _POINTS:
        return np.arange(len(values)), values
    edges = np.linspace(0, len(values), _POINTS + 1).astype(int)[:-1]
    extremes = np.minimum.reduceat(values, edges), np.maximum.reduceat(values, edges)
    return edges.repeat(2), np.stack(extremes, axis=1).ravel()


def draw_evolution(folder: RunFolder) -> None:
    """Draws the images of the same noise at several steps, as figures 4.2.2 and 4.3.4 do.

    `evolution.png` has up to eight grids side by side, each from about twice as many steps as the
    one before; `evolution.gif` has all of them, one after the other.
    """
    grids = folder.grids()
    if not grids:
        raise UserError(f"{folder} holds no grids such as 00500.png to draw: train first")
    captioned = {steps: _captioned(grid, f"step {steps:,}") for steps, grid in grids.items()}

    shown = sorted(grids)
    if len(shown) > _GRIDS:
        wanted = [shown[0], *(shown[-1] / 2**i for i in range(_GRIDS - 1))]
        shown = sorted({min(grids, key=lambda steps: abs(steps - want)) for want in wanted})
    gap = 2 * GAP_PIXELS  # grids have white margins of their own
    side_by_side = np.pad(
        [captioned[steps] for steps in shown], ((0, 0), (0, 0), (0, gap)), constant_values=255
    )
    picture = in_rows(side_by_side, min(_GRIDS_A_ROW, len(shown)))[:, :-gap]
    save_picture(picture, folder.evolution)
    milliseconds = max(40, min(500, _ANIMATION_MILLISECONDS // len(grids))) // 10 * 10
    save_animation([*captioned.values()], folder.animation, milliseconds, _LAST_MILLISECONDS)


def draw_figures(folder: RunFolder) -> None:
    """Draws all figures of a run again, from its folder alone."""
    LossCurves(folder.name, read_history(folder.history), folder.losses).draw()
    draw_evolution(folder)
    drawn = (folder.losses, folder.evolution, folder.animation)
    print(f"drawn in {folder}: {', '.join(file.name for file in drawn)}")


def _captioned(file: Path, caption: str) -> np.ndarray:
    """The grey pixels of a grid with a line of text above it, black on white."""
    with Image.open(file) as picture:
        grid = np.asarray(picture.convert("L"))
    band = Image.new("L", (grid.shape[1], _CAPTION_PIXELS), 255)
    font = ImageFont.load_default(16)
    ImageDraw.Draw(band).text((grid.shape[1] // 2, 5), caption, fill=0, font=font, anchor="mt")
    return np.concatenate([np.asarray(band), grid])
