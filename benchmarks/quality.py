"""How does the quality of the digits grow with the steps, and how much does a seed matter?

Run it with `python benchmarks/quality.py docs/results/cgan_mnist/*.json --curve quality.png`: each
file is the `evaluation.json` of a run, which its folder is named after, and its own name the number
of steps. It prints the table of RESULTS.md, a row for each file, and draws how the figures grow.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter, PercentFormatter

COLUMNS = (
    *("run", "steps", "Frechet distance", "digit accuracy", "precision", "recall", "density"),
    *("coverage", "smallest, largest class", "suspiciously near"),
)

# Evaluations by the name of the run and the number of steps.
Runs = dict[str, dict[int, dict[str, Any]]]


def evaluations(files: list[Path]) -> Runs:
    """The evaluations in files such as `cgan_mnist/01000.json`, by run and number of steps.

    Raises:
        SystemExit: A file cannot be read, or is no evaluation, or not named after the steps.
    """
    runs: Runs = {}
    for file in files:
        try:
            report = json.loads(file.read_text())
            report["generated"], report["training"], _near(report)
            runs.setdefault(file.resolve().parent.name, {})[int(file.stem)] = report
        except (OSError, ValueError, LookupError, TypeError) as error:
            print(
                f"quality.py: error: {file} is no evaluation.json that is named after the number "
                f"of steps, such as 01000.json ({error})",
                file=sys.stderr,
            )
            raise SystemExit(2) from error
    return runs


def table(runs: Runs) -> str:
    """The figures of runs as a table in Markdown, those of training images in its last row."""
    rows = [
        _row(name, f"{steps:,}", report["generated"], f"{_near(report):.2%}")
        for name, reports in runs.items()
        for steps, report in reports.items()
    ]
    rows.append(_row("real images", "", of_real_images(runs), "1%"))
    return "\n".join(f"| {' | '.join(row)} |" for row in [COLUMNS, ["---"] * len(COLUMNS), *rows])


def of_real_images(runs: Runs) -> dict[str, float]:
    """The figures of real images, from any of the evaluations: they do not depend on the run."""
    report = next(iter(next(iter(runs.values())).values()))
    # the classifier's accuracy is of test images: the ceiling of digit accuracy
    return report["training"] | {"digit_accuracy": report["classifier_accuracy"]}


def _row(name: str, steps: str, figures: dict[str, float], near: str) -> list[str]:
    accuracy = figures.get("digit_accuracy")
    shares = [share for name, share in figures.items() if name.startswith("share_of_")]
    return [
        *(name, steps, f"{figures['frechet_distance']:.3g}"),
        "" if accuracy is None else f"{accuracy:.2%}",
        *(f"{figures[name]:.3f}" for name in ("precision", "recall", "density", "coverage")),
        *(f"{min(shares):.1%}, {max(shares):.1%}", near),
    ]


def _near(report: dict[str, Any]) -> float:
    return report["nearest_training_image"]["suspiciously_near"]


def draw(runs: Runs, file: Path) -> None:
    """Draws Frechet distance, coverage and, of a CGAN, digit accuracy over the steps."""
    figure = Figure(figsize=(9, 3.6), dpi=100, layout="constrained")
    distance, shares = figure.subplots(1, 2)
    for number, (name, reports) in enumerate(runs.items()):
        _plot(distance, reports, "frechet_distance", f"C{number}o-", label=name)
        _plot(shares, reports, "coverage", f"C{number}s--", label=f"{name}: coverage")
        if all("digit_accuracy" in report["generated"] for report in reports.values()):
            _plot(shares, reports, "digit_accuracy", f"C{number}o-", label=f"{name}: digits read")
    floor = of_real_images(runs)["frechet_distance"]
    distance.axhline(floor, color="0.5", linestyle=":", label="training images")
    distance.set(yscale="log", title="Frechet distance to the test images")
    shares.set(ylim=(-0.02, 1.02), title="coverage, and digits read as asked for")
    shares.yaxis.set_major_formatter(PercentFormatter(1))
    for axes in (distance, shares):
        axes.set(xscale="log", xlabel="steps")
        axes.set_xticks(sorted({steps for reports in runs.values() for steps in reports}))
        axes.xaxis.set_major_formatter(EngFormatter(sep=""))
        axes.xaxis.set_minor_formatter("")
        axes.grid(alpha=0.3)
        axes.legend(frameon=False)
    figure.savefig(file)


def _plot(
    axes: Axes, reports: dict[int, dict[str, Any]], name: str, style: str, label: str
) -> None:
    values = [report["generated"][name] for report in reports.values()]
    axes.plot([*reports], values, style, label=label, markersize=4)


def main() -> None:
    """Prints a table, and draws a picture if asked to."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("files", type=Path, nargs="+", help="such as cgan_mnist/01000.json")
    parser.add_argument("--curve", type=Path, help="the picture to draw")
    options = parser.parse_args()
    runs = evaluations(options.files)
    print(table(runs))
    if options.curve:
        draw(runs, options.curve)


if __name__ == "__main__":
    main()
