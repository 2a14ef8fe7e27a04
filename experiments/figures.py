"""The figures of the page: images, class histograms and losses of the runs side by side."""

from __future__ import annotations

import io
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator
from PIL import Image, ImageDraw, ImageFont

from collected import SHOWN, Results, result_file, shares, shown
from common.pictures import DPI

# In images.png: pixels for the names of variants, for a line of text, and between two things.
_NAMES, _LINE, _GAP = 180, 16, 10
_BLACK, _WHITE = 0, 255
# In classes.png: the share of images up to which bars are drawn, and that of equal shares.
_FULL, _EQUAL = 0.5, 0.1
# In curves.png: axes side by side, which losses are drawn, and up to which their scale is linear.
_AXES_A_ROW, _LOSSES, _LINEAR, _TICKS = 3, (-1, 30), 2, (-1, 0, 1, 2, 10)
_COLOURS = {"discriminator": "C0", "adversarial": "C1"}


def images(found: Results, results: Path) -> bytes:
    """Images of all runs: a row for each variant, a column for each seed."""
    seeds = sorted({seed for runs in found.values() for seed in runs})
    cells = {
        (name, seed): _images_of(run, result_file(results, name, seed).with_suffix(".png"))
        for name, runs in found.items()
        for seed, run in runs.items()
        if run["stages"]
    }
    width, height = np.max([(0, _LINE), *(cell.size for cell in cells.values())], axis=0).tolist()
    size = (_NAMES + len(seeds) * (width + _GAP), _GAP + len(found) * (height + _GAP))
    canvas = Image.new("L", size, _WHITE)
    for row, name in enumerate(found):
        top = _GAP + row * (height + _GAP)
        _write(canvas, (_GAP, top + height // 2), name)
        for column, seed in enumerate(seeds):
            if (name, seed) in cells:
                canvas.paste(cells[name, seed], (_NAMES + column * (width + _GAP), top))
    png = io.BytesIO()
    canvas.save(png, "png")
    return png.getvalue()


def _images_of(run: dict[str, Any], file: Path) -> Image.Image:
    """The images of a run below a line that says whose they are."""
    steps = shown(map(int, run["stages"]))
    distance = run["stages"][str(steps)]["frechet_distance"]
    drawn = Image.open(file).convert("L")
    cell = Image.new("L", (drawn.width, _LINE + drawn.height), _WHITE)
    _write(cell, (0, 0), f"seed {run['flags']['seed']}, {steps:,} steps: distance {distance:.3g}")
    cell.paste(drawn, (0, _LINE))
    return cell


def _write(picture: Image.Image, where: tuple[int, int], text: str) -> None:
    ImageDraw.Draw(picture).text(where, text, fill=_BLACK, font=ImageFont.load_default(12))


def classes(found: Results, results: Path) -> bytes:
    """Class histograms: a row for each variant, a column for each stage that is shown."""
    stages = sorted(
        {int(steps) for runs in found.values() for run in runs.values() for steps in run["stages"]}
    )
    stages = [steps for steps in stages if steps <= SHOWN] or stages
    figure = _figure(height=0.5 + 0.65 * len(found))
    all_axes = figure.subplots(
        len(found), max(1, len(stages)), sharex=True, sharey=True, squeeze=False
    )
    for axes_of_variant, (name, runs) in zip(all_axes, found.items(), strict=True):
        axes_of_variant[0].set_ylabel(name, rotation=0, ha="right", va="center", fontsize="small")
        for axes, steps in zip(axes_of_variant, stages, strict=False):
            reached = [run["stages"].get(str(steps)) for run in runs.values()]
            _histogram(axes, [shares(stage) for stage in reached if stage])
    for axes, steps in zip(all_axes[0], stages, strict=False):
        axes.set_title(f"{steps:,} steps", fontsize="small")
    return _png(figure)


def _histogram(axes: Axes, of_seeds: list[list[float]]) -> None:
    """The mean share of each class over the seeds, and a line from the lowest to the highest."""
    axes.set_ylim(0, _FULL)
    axes.set_yticks([])
    axes.axhline(_EQUAL, color="0.8", linewidth=0.8, zorder=0)
    if not of_seeds:
        return
    values = np.array(of_seeds)
    names = np.arange(values.shape[1])
    axes.set_xticks(names)
    axes.tick_params(labelsize="x-small", length=0)
    axes.bar(names, values.mean(axis=0), color="C0")
    axes.vlines(names, values.min(axis=0), values.max(axis=0), color="black", linewidth=1)


def curves(found: Results, results: Path) -> bytes:
    """Both losses of all runs, with axes for each variant."""
    rows = -(-len(found) // _AXES_A_ROW)
    figure = _figure(height=0.6 + 1.7 * rows)
    all_axes = figure.subplots(rows, _AXES_A_ROW, sharex=True, sharey=True, squeeze=False).ravel()
    for axes, (name, runs) in zip(all_axes, found.items(), strict=False):
        axes.set_title(name, fontsize="small")
        axes.grid(alpha=0.3)
        for (network, colour), run in product(_COLOURS.items(), runs.values()):
            of_mean = run["losses"]["steps_of_mean"]
            losses = run["losses"][network][: SHOWN // of_mean]
            # each mean at the last of its steps
            axes.plot(
                np.arange(1, len(losses) + 1) * of_mean, losses, colour, linewidth=0.8, alpha=0.8
            )
    for axes in all_axes[len(found) :]:
        axes.set_axis_off()
    all_axes[0].set_yscale("symlog", linthresh=_LINEAR, linscale=2)
    all_axes[0].set_ylim(_LOSSES)
    all_axes[0].yaxis.set_major_locator(FixedLocator(_TICKS))
    all_axes[0].yaxis.set_major_formatter("{x:g}")
    lines = [Line2D([], [], color=colour) for colour in _COLOURS.values()]
    figure.legend(lines, _COLOURS, loc="outside upper right", ncols=2, frameon=False)
    figure.supxlabel("step", fontsize="small")
    figure.supylabel("loss (nats)", fontsize="small")
    return _png(figure)


def _figure(height: float) -> Figure:
    """One of the page's width, in inches, as all of them."""
    figure = Figure(figsize=(9, height), dpi=DPI, layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def _png(figure: Figure) -> bytes:
    png = io.BytesIO()
    figure.savefig(png, format="png", dpi=DPI)
    return png.getvalue()


# By the names of their files: what draws them, and what they show.
FIGURES = {
    "images": (images, "Images of all runs, and their Frechet distances"),
    "classes": (classes, "Class histograms of all variants: mean and range over the seeds"),
    "curves": (curves, "Losses of all runs"),
}
