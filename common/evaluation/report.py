"""The report of an evaluation: a table and a picture."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from common.files import write_file
from common.images import DPI, image_grid, rgb

# More classes than this are not listed one by one.
_MAX_LISTED = 20


class NearestTrainingImages(NamedTuple):
    """The distances of images to their nearest training images.

    Attributes:
        pairs: The first ten generated images and the training image nearest to each: float32 of
            shape (2, 10, size, size, 1) in [0, 1].
        distances: Of generated images, by the Euclidean distance of pixels: shape (count,).
        test_distances: Of test images.
    """

    pairs: np.ndarray
    distances: np.ndarray
    test_distances: np.ndarray


def table(report: dict[str, Any]) -> str:
    """The report of an evaluation as lines of text."""
    generated, training, k = report["generated"], report["training"], report["k"]
    lines = [
        f"{report['generator']}: {report['samples']} images, seed {report['seed']}, against the "
        f"{report['test_images']} test images of {report['data']}",
        "",
        f"{'':24}{'generated':>12}{'training':>12}",
    ]
    notes = {
        "frechet_distance": "of a classifier's features, not Inception's: no FID to compare with",
        "precision": f"share of the images among the test images, k = {k}",
        "recall": f"share of the test images among the images, k = {k}",
        "density": f"1 for real images, k = {k}",
        "coverage": f"share of the test images with an image near by, k = {k}",
        "distance_from_uniform": "of the class histogram: share that would have to move",
        "distance_from_data": "of the class histogram",
    }
    for name, note in notes.items():
        title = name.replace("_", " ").capitalize()
        lines.append(f"{title:24}{generated[name]:12.4f}{training[name]:12.4f}   {note}")
    nearest = report["nearest_training_image"]
    medians = [nearest[kind]["50%"] for kind in ("generated", "test")]
    share = nearest["suspiciously_near"]
    lines += [
        f"{'Nearest training image':24}{medians[0]:12.4f}{'':12}   median distance in pixels' "
        f"values; of test images {medians[1]:.4f}",
        f"{'Suspiciously near':24}{share:12.2%}{'':12}   nearer than 1% of the test images are",
        "",
    ]
    shares = [value for name, value in generated.items() if name.startswith("share_of_")]
    of_data = [value for name, value in training.items() if name.startswith("share_of_")]
    rows = {"class": None, "share": shares, "in training": of_data}
    if "digit_accuracy" in generated:
        rows["digit accuracy"] = report["digit_accuracy_of_each"]
    if len(shares) <= _MAX_LISTED:
        for name, values in rows.items():
            cells = range(len(shares)) if values is None else (f"{value:.1%}" for value in values)
            lines.append(f"{name:16}" + "".join(f"{cell:>7}" for cell in cells))
        lines.append("")
    if "digit_accuracy" in generated:
        lines.append(
            f"Digit accuracy: {generated['digit_accuracy']:.2%} are read as the digit that was "
            f"asked for (test images: {report['classifier_accuracy']:.2%})"
        )
    else:
        lines.append(f"The classifier reads {report['classifier_accuracy']:.2%} of the test images")
    if report["warning"]:
        lines.append(f"Warning: {report['warning']}")
    return "\n".join(lines)


def plot_report(report: dict[str, Any], found: NearestTrainingImages, path: Path) -> None:
    """Draws an evaluation: images with their nearest training images, and two or three diagrams.

    Args:
        report: The report, as in evaluation.json.
        found: The nearest training images.
        path: The PNG file to write.

    Raises:
        UserError: The file cannot be written.
    """
    pairs = found.pairs
    grid = image_grid(pairs.reshape(-1, *pairs.shape[2:]), columns=pairs.shape[1])
    height = grid.shape[0]
    margin, left, diagrams = 50, 110, 360
    # the diagrams need some width, however small the images are
    total = (left + max(grid.shape[1], 906) + margin, margin + height + diagrams)
    figure = Figure(figsize=(total[0] / DPI, total[1] / DPI), dpi=DPI)
    FigureCanvasAgg(figure)
    figure.figimage(rgb(grid), xo=left, yo=diagrams)
    for row, title in enumerate(("generated", "nearest\ntraining\nimage")):
        y = diagrams + height * (0.75 - 0.5 * row)
        figure.text((left - 12) / total[0], y / total[1], title, ha="right", va="center")
    figure.text(
        left / total[0],
        (diagrams + height + margin / 2) / total[1],
        f"{report['generator']}: Frechet distance "
        f"{report['generated']['frechet_distance']:.2f} (training images "
        f"{report['training']['frechet_distance']:.2f}; classifier features)",
        va="center",
    )
    matrix = report.get("confusion_matrix")
    count = 2 if matrix is None else 3
    all_axes = []
    for i in range(count):
        x = left / 2 + 20 + i * (total[0] - left / 2) / count
        size = ((total[0] - left / 2) / count - 75, diagrams - 110)
        all_axes.append(
            figure.add_axes((x / total[0], 65 / total[1], size[0] / total[0], size[1] / total[1]))
        )
    _plot_shares(all_axes[0], report)
    _plot_distances(all_axes[1], found)
    if matrix is not None:
        _plot_confusion(all_axes[2], np.array(matrix))
    png = io.BytesIO()
    figure.savefig(png, format="png", dpi=DPI)
    write_file(path, png.getvalue())


def _plot_shares(axes: Axes, report: dict[str, Any]) -> None:
    """How often each class is predicted."""
    for kind, offset in (("generated", -0.2), ("training", 0.2)):
        shares = [v for name, v in report[kind].items() if name.startswith("share_of_")]
        axes.bar(np.arange(len(shares)) + offset, np.array(shares) * 100, 0.4, label=kind)
    axes.set(title="classes, as the classifier reads them", xlabel="class", ylabel="share (%)")
    _legend(axes)
    if len(shares) <= _MAX_LISTED:
        axes.set_xticks(range(len(shares)))


def _plot_distances(axes: Axes, found: NearestTrainingImages) -> None:
    """How far generated images and test images are from the nearest training image."""
    both = {"generated": found.distances, "test images": found.test_distances}
    bins = np.histogram_bin_edges(np.concatenate([*both.values()]), 50).tolist()
    for name, distances in both.items():
        # shares, because there may be fewer of the generated ones
        weights = np.full(len(distances), 100 / len(distances))
        axes.hist(distances, bins, weights=weights, histtype="step", linewidth=1.5, label=name)
    axes.set(title="nearest training image", xlabel="distance (pixel values)", ylabel="share (%)")
    _legend(axes)


def _plot_confusion(axes: Axes, matrix: np.ndarray) -> None:
    """Which classes are predicted for which requested ones."""
    rows = matrix / matrix.sum(axis=1, keepdims=True).clip(1) * 100
    axes.imshow(rows, cmap="Blues", vmin=0, vmax=100, interpolation="nearest")
    axes.set(title="read as (%)", xlabel="read", ylabel="asked for")
    if len(rows) > _MAX_LISTED:
        return
    axes.set(xticks=range(len(rows)), yticks=range(len(rows)))
    for (i, j), value in np.ndenumerate(rows):
        if round(value) > 0:
            colour = "white" if value > 50 else "black"
            text = axes.text(j, i, f"{value:.0f}", ha="center", va="center", color=colour)
            text.set_fontsize("x-small")


def _legend(axes: Axes) -> None:
    """A legend above the bars."""
    axes.set_ylim(0, axes.get_ylim()[1] * 1.2)
    axes.legend(loc="upper center", ncols=2, fontsize="small")
