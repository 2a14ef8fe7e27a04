"""The figures of the page: images, class histograms and losses of the runs side by side."""

from __future__ import annotations

import io
import re
from itertools import zip_longest
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator
from PIL import Image, ImageDraw, ImageFont

from collected import SHOWN, Result, Results, began_on, result_file, shares, shown
from common.images import DPI

# In images.png: pixels for the names of variants, for a line of text, and between two things.
_NAMES, _LINE, _GAP = 180, 16, 10
_BLACK, _WHITE = 0, 255
# In classes.png: the share of images up to which bars are drawn, and that of equal shares.
_FULL, _EQUAL = 0.5, 0.1
# In curves.png: axes side by side, which losses are drawn, and up to which their scale is linear.
_AXES_A_ROW, _LOSSES, _LINEAR, _TICKS = 3, (-1, 30), 2, (-1, 0, 1, 2, 10)
# Of each network: a colour, a width, and the loss that the chapter expects in the end.
_LINES = {"discriminator": ("C0", 1.6, 0.5), "adversarial": ("C1", 0.8, 1.0)}


def images(found: Results, results: Path) -> bytes:
    """Images of all runs: a row for each variant, a column for each seed.

    Runs with the same seed, on other processors, are one below the other.
    """
    seeds = sorted({run["flags"]["seed"] for runs in found.values() for run in runs})
    rows = []
    for name, runs in found.items():
        by_seed = [[run for run in runs if run["flags"]["seed"] == seed] for seed in seeds]
        for number, of_seeds in enumerate(zip_longest(*by_seed)):
            cells = [run and _images_of(run, results) for run in of_seeds]
            rows.append(("" if number else name, cells))
    sizes = [(0, _LINE), *(cell.size for _, cells in rows for cell in cells if cell)]
    width, height = np.max(sizes, axis=0).tolist()
    size = (_NAMES + len(seeds) * (width + _GAP), _GAP + len(rows) * (height + _GAP))
    canvas = Image.new("L", size, _WHITE)
    for row, (name, cells) in enumerate(rows):
        top = _GAP + row * (height + _GAP)
        _write(canvas, (_GAP, top + height // 2), name)
        for column, cell in enumerate(cells):
            if cell:
                canvas.paste(cell, (_NAMES + column * (width + _GAP), top))
    png = io.BytesIO()
    canvas.save(png, "png")
    return png.getvalue()


def _images_of(run: Result, results: Path) -> Image.Image | None:
    """The images of a run below a line that says whose they are; none if it diverged early."""
    if not run["stages"]:
        return None
    steps = shown(map(int, run["stages"]))
    distance = run["stages"][str(steps)]["frechet_distance"]
    processor = re.sub(r"^CPU: |, \d+ cores?$|\(R\)|\(TM\)| Processor", "", began_on(run))
    after = "" if steps == SHOWN else f"after {steps:,} steps, "
    told = f"{three_digits(distance)}: {after}seed {run['flags']['seed']}, {processor}"
    drawn = Image.open(result_file(results, run).with_suffix(".png")).convert("L")
    cell = Image.new("L", (drawn.width, _LINE + drawn.height), _WHITE)
    _write(cell, (0, 0), told)  # a long name of a processor is cut off
    cell.paste(drawn, (0, _LINE))
    return cell


def _write(picture: Image.Image, where: tuple[int, int], text: str) -> None:
    ImageDraw.Draw(picture).text(where, text, fill=_BLACK, font=ImageFont.load_default(12))


def classes(found: Results, results: Path) -> bytes:
    """Class histograms: a row for each variant, a column for each stage that is shown."""
    stages = sorted(
        {int(steps) for runs in found.values() for run in runs for steps in run["stages"]}
    )
    stages = [steps for steps in stages if steps <= SHOWN] or stages
    figure = _figure(height=0.5 + 0.65 * len(found))
    all_axes = figure.subplots(
        len(found), max(1, len(stages)), sharex=True, sharey=True, squeeze=False
    )
    for axes_of_variant, (name, runs) in zip(all_axes, found.items(), strict=True):
        axes_of_variant[0].set_ylabel(name, rotation=0, ha="right", va="center", fontsize="small")
        for axes, steps in zip(axes_of_variant, stages, strict=False):
            reached = [run["stages"].get(str(steps)) for run in runs]
            _histogram(axes, [shares(stage) for stage in reached if stage])
    for axes, steps in zip(all_axes[0], stages, strict=False):
        axes.set_title(f"{steps:,} steps", fontsize="small")
    figure.supxlabel("class", fontsize="small")
    figure.supylabel("share of the images", fontsize="small")
    return _png(figure)


def _histogram(axes: Axes, of_runs: list[list[float]]) -> None:
    """The mean share of each class over the runs, and a line from the lowest to the highest."""
    axes.set_ylim(0, _FULL)
    axes.set_yticks([_EQUAL, _FULL], [f"{_EQUAL:.0%}", f"{_FULL:.0%}"])
    axes.axhline(_EQUAL, color="0.8", linewidth=0.8, zorder=0)
    axes.tick_params(labelsize="xx-small", length=0)
    if not of_runs:
        return
    values = np.array(of_runs)
    names = np.arange(values.shape[1])
    axes.set_xticks(names)
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
        for network, (colour, width, expected) in _LINES.items():
            axes.axhline(expected, color=colour, linewidth=0.8, linestyle=":")
            for run in runs:
                of_mean = run["losses"]["steps_of_mean"]
                losses = run["losses"][network][: SHOWN // of_mean]
                # each mean at the last of its steps
                steps = np.arange(1, len(losses) + 1) * of_mean
                axes.plot(steps, losses, colour, linewidth=width, alpha=0.7)
    for axes in all_axes[len(found) :]:
        axes.set_axis_off()
    all_axes[0].set_yscale("symlog", linthresh=_LINEAR, linscale=2)
    all_axes[0].set_ylim(_LOSSES)
    all_axes[0].yaxis.set_major_locator(FixedLocator(_TICKS))
    all_axes[0].yaxis.set_major_formatter("{x:g}")
    lines = [Line2D([], [], color=colour) for colour, *_ in _LINES.values()]
    figure.legend(lines, _LINES, loc="outside upper right", ncols=2, frameon=False)
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


def three_digits(value: float) -> str:
    """A Frechet distance as the page has it: 0.882, 3.40, 45.1, 276."""
    return f"{value:#.3g}".rstrip(".")


# By the names of their files, without the suffix.
FIGURES = {"images": images, "classes": classes, "curves": curves}
