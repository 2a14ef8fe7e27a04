"""The page of the experiments: its tables and pictures, from the results alone."""

from __future__ import annotations

import io
import json
import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from itertools import product
from operator import itemgetter
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator
from PIL import Image, ImageDraw, ImageFont

from common.errors import DIVERGED, UserError
from common.files import write_file
from common.pictures import DPI
from common.training.callbacks.health import GRACE
from trainings import shown

# For each variant the results of its seeds, in the order of both.
Results = dict[str, dict[int, dict[str, Any]]]

COLUMNS = (
    *("variant", "steps", "seeds", "Frechet distance", "precision", "recall", "density"),
    *("coverage", "smallest class", "largest class", "D's loss", "its deviation"),
    *("adversarial loss", "warnings"),
)
_LOSSES = ("discriminator_loss", "discriminator_loss_deviation", "adversarial_loss")
# The flags in which runs that are compared may differ.
_MAY_DIFFER = ("seed", "train_steps")
NOTHING_YET = "There are no results yet."

# In images.png: pixels for the names of variants, for a line of text, for a bar of a histogram, and
# between two things; and the share of images at which a bar is as high as the images beside it.
_NAMES, _LINE, _BAR, _GAP, _FULL = 180, 16, 6, 10, 0.5
_BLACK, _DARK, _LIGHT, _WHITE = 0, 96, 232, 255
# In curves.png: axes side by side, and losses up to which they are linear; beyond, logarithmic.
_AXES_A_ROW, _LINEAR, _TICKS = 3, 2, (-20, -5, -1, 0, 1, 2, 5, 20)
_COLOURS = {"discriminator": "C0", "adversarial": "C1"}


def draw(variants: Mapping[str, tuple[str, str]], results: Path, page: Path) -> None:
    """Draws the pictures, and the parts of the page that stand between markers.

    Args:
        variants: What the chapter says of each variant, and what is changed in it.
        results: The folder of the results, which gets the pictures, too.
        page: The page.

    Raises:
        UserError: A marker is missing, or a file cannot be written.
    """
    found = read(results, variants)
    if found:
        write_file(results / "images.png", _images(found, results))
        write_file(results / "curves.png", _curves(found))
    text = page.read_text()
    for name, part in parts(variants, found).items():
        marked = re.compile(f"(<!-- {name}: .*? -->\n).*?(<!-- end of {name} -->)", re.DOTALL)
        if not marked.search(text):
            raise UserError(f"{page}: a part {name} expected between markers, none found")
        # a function, because a part is no pattern
        text = marked.sub(partial(_between, part), text)
    write_file(page, text.encode())


def _between(part: str, markers: re.Match) -> str:
    return f"{markers[1]}{part}\n{markers[2]}"


def read(results: Path, names: Iterable[str]) -> Results:
    """The results that exist, of these variants and in their order.

    Raises:
        UserError: They cannot be compared, for they have other settings than variant and seed.
    """
    found = {}
    for name in names:
        runs = [json.loads(file.read_text()) for file in (results / name).glob("seed-*.json")]
        if runs:
            found[name] = {run["flags"]["seed"]: run for run in runs}
            found[name] = dict(sorted(found[name].items()))
    settings: dict[str, str] = {}  # and the first result that has them
    for name, of_seeds in found.items():
        for seed, run in of_seeds.items():
            flags = {x: value for x, value in run["flags"].items() if x not in _MAY_DIFFER}
            settings.setdefault(json.dumps(flags), f"{name}/seed-{seed}.json")
    if len(settings) > 1:
        one, other = list(settings.values())[:2]
        raise UserError(
            f"{results}: {one} and {other} have other flags than variant, seed and steps, so they "
            "cannot be compared: remove one, and train it with the flags of the other"
        )
    return found


def parts(variants: Mapping[str, tuple[str, str]], found: Results) -> dict[str, str]:
    """The parts of the page that stand between markers, by their names."""
    described = [(f"`{name}`", *said) for name, said in variants.items()]
    of_variants = _markdown(("variant", "the chapter says", "what is changed"), described)
    if not found:
        return {"variants": of_variants, "results": NOTHING_YET}
    rows = [
        _row(name, steps, [*runs.values()])
        for name, runs in found.items()
        for steps in _stages(runs)
    ]
    return {
        "variants": of_variants,
        "results": f"{_settings(found)}\n\n{_markdown(COLUMNS, rows)}\n\n"
        "![Images and class histograms of all runs](results/images.png)\n\n"
        "![Losses of all runs](results/curves.png)",
    }


def _settings(found: Results) -> str:
    """What all runs have in common, and which software and processors they had."""
    runs = [run for runs in found.values() for run in runs.values()]
    flags = runs[0]["flags"]
    environments = [part for run in runs for part in [*run["earlier"], run]]
    packages = ("tensorflow", "keras", "numpy")
    versions = sorted({tuple(part["versions"][x] for x in packages) for part in environments})
    had = [f"TensorFlow {tf}, Keras {keras}, NumPy {numpy}" for tf, keras, numpy in versions]
    had += sorted({part["device"] for part in environments})
    return (
        f"All runs: {flags['precision']}, the {flags['engine']} engine, batches of "
        f"{flags['batch_size']}; {'; '.join(had)}."
    )


def _stages(runs: dict[int, dict[str, Any]]) -> list[int]:
    """The stages of a variant's runs, and the steps after which one has diverged."""
    stages = {int(steps) for run in runs.values() for steps in run["stages"]}
    ends = {run["warnings"][DIVERGED] for run in runs.values() if DIVERGED in run["warnings"]}
    return sorted(stages | ends)


def _markdown(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _row(name: str, steps: int, runs: list[dict[str, Any]]) -> list[str]:
    """The row of a variant after so many steps: the mean over its runs, and their range."""
    stages = [run["stages"][str(steps)] for run in runs if str(steps) in run["stages"]]

    def cell(form: str, value: Callable[[dict[str, float]], float]) -> str:
        values = [value(stage) for stage in stages]
        if len(values) < 2:
            return "".join(format(x, form) for x in values)
        mean = sum(values) / len(values)
        return f"{mean:{form}} ({min(values):{form}} to {max(values):{form}})"

    counts = Counter(
        kind for run in runs for kind, first in run["warnings"].items() if first <= steps
    )
    warnings = "; ".join(f"{kind}: {count}" for kind, count in counts.items())
    return [
        *(f"`{name}`", f"{steps:,}", str(len(stages))),
        cell(".3g", itemgetter("frechet_distance")),
        *(cell(".2f", itemgetter(x)) for x in ("precision", "recall", "density", "coverage")),
        cell(".1%", lambda stage: min(_shares(stage))),
        cell(".1%", lambda stage: max(_shares(stage))),
        *(cell(".2f", itemgetter(x)) for x in _LOSSES),
        warnings or ("too early" if steps < GRACE else "none"),
    ]


def _shares(stage: dict[str, float]) -> list[float]:
    """The shares of the classes, in their order."""
    return [share for name, share in stage.items() if name.startswith("share_of_")]


def _images(found: Results, results: Path) -> bytes:
    """The last images of all runs: a row for each variant, a column for each seed."""
    seeds = sorted({seed for runs in found.values() for seed in runs})
    cells = {
        (name, seed): _images_of(run, results / name / f"seed-{seed}.png")
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
    """The images of a run and their class histogram, below a line that says whose they are."""
    steps = shown(map(int, run["stages"]))
    stage = run["stages"][str(steps)]
    shares = _shares(stage)
    images = Image.open(file).convert("L")
    width, height = images.width + _GAP + len(shares) * _BAR, _LINE + images.height
    cell = Image.new("L", (width, height), _WHITE)
    distance = f"Frechet distance {stage['frechet_distance']:.3g}"
    _write(cell, (0, 0), f"seed {run['flags']['seed']}, {steps:,} steps: {distance}")
    cell.paste(images, (0, _LINE))
    for i, share in enumerate(shares):
        left, high = images.width + _GAP + i * _BAR, min(1, share / _FULL) * images.height
        cell.paste(_LIGHT, (left, _LINE, left + _BAR - 1, height))
        cell.paste(_DARK, (left, round(height - high), left + _BAR - 1, height))
    return cell


def _write(picture: Image.Image, where: tuple[int, int], text: str) -> None:
    ImageDraw.Draw(picture).text(where, text, fill=_BLACK, font=ImageFont.load_default(12))


def _curves(found: Results) -> bytes:
    """Both losses of all runs, with axes for each variant."""
    rows = -(-len(found) // _AXES_A_ROW)
    figure = Figure(figsize=(9, 0.6 + 1.7 * rows), dpi=DPI, layout="constrained")
    FigureCanvasAgg(figure)
    all_axes = figure.subplots(rows, _AXES_A_ROW, sharex=True, sharey=True, squeeze=False).ravel()
    for axes, (name, runs) in zip(all_axes, found.items(), strict=False):
        axes.set_title(name, fontsize="small")
        axes.grid(alpha=0.3)
        for (network, colour), run in product(_COLOURS.items(), runs.values()):
            losses = run["losses"][network]
            # each mean at the last of its steps
            steps = np.arange(1, len(losses) + 1) * run["losses"]["steps_of_mean"]
            axes.plot(steps, losses, colour, linewidth=0.8)
    for axes in all_axes[len(found) :]:
        axes.set_axis_off()
    all_axes[0].set_yscale("symlog", linthresh=_LINEAR)
    all_axes[0].yaxis.set_major_locator(FixedLocator(_TICKS))
    all_axes[0].yaxis.set_major_formatter("{x:g}")
    lines = [Line2D([], [], color=colour) for colour in _COLOURS.values()]
    figure.legend(lines, _COLOURS, loc="outside upper right", ncols=2, frameon=False)
    figure.supxlabel("step", fontsize="small")
    figure.supylabel("loss (nats)", fontsize="small")
    png = io.BytesIO()
    figure.savefig(png, format="png", dpi=DPI)
    return png.getvalue()
