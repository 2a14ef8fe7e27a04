"""The report of an evaluation: a table and a picture."""

import io
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from common.images import DPI, image_grid

# More classes than this are not listed one by one.
_MAX_LISTED = 20
# More characters of a class's name than this are cut off.
_LONGEST_NAME = 12


def table(report: dict[str, Any]) -> str:
    """The report of an evaluation, as in evaluation.json, as lines of text."""
    generated, training, k = report["generated"], report["training"], report["k"]
    lines = [
        f"{report['generator']}: {report['samples']} images, seed {report['seed']}, against the "
        f"{report['test_images']} test images of {report['data']}",
        "",
        f"{'':24}{'generated':>12}{'training':>12}",
    ]
    notes = {
        "frechet_distance": "in a classifier's features: not an FID",
        "precision": f"share of images among test images, k = {k}",
        "recall": f"share of test images among images, k = {k}",
        "density": f"1 for real images, k = {k}",
        "coverage": f"share of test images with an image near, k = {k}",
        "distance_from_uniform": "share of images that would have to move",
        "distance_from_data": "the same, to the classes of test images",
    }
    for name, note in notes.items():
        title = name.replace("_", " ").capitalize()
        lines.append(f"{title:24}{generated[name]:12.4f}{training[name]:12.4f}   {note}")
    nearest, indent = report["nearest_training_image"], " " * 15
    lines += [
        f"{'Nearest training image':24}{nearest['generated']['50%']:12.4f}{indent}median; "
        f"of test images {nearest['test']['50%']:.4f}",
        f"{'Suspiciously near':24}{nearest['suspiciously_near']:12.2%}{indent}nearer than 1% of "
        "test images",
        "",
    ]
    rows = {"share": _shares(generated), "in training": _shares(training)}
    accuracy = report["classifier_accuracy"]
    last = f"The classifier reads {accuracy:.2%} of the test images"
    if "digit_accuracy" in generated:
        rows["digit accuracy"] = report["digit_accuracy_of_each"]
        last = (
            f"Digit accuracy: {generated['digit_accuracy']:.2%} are read as the digit that was "
            f"asked for (test images: {accuracy:.2%})"
        )
    if len(rows["share"]) <= _MAX_LISTED:
        classes = _classes(report)
        width = max(7, 2 + max(map(len, classes)))
        lines.append(f"{'class':16}" + "".join(f"{name:>{width}}" for name in classes))
        for name, values in rows.items():
            lines.append(f"{name:16}" + "".join(f"{value:>{width}.1%}" for value in values))
        lines.append("")
    warning = [f"Warning: {report['warning']}"] if report["warning"] else []
    return "\n".join([*lines, last, *warning])


def _shares(metrics: dict[str, float]) -> list[float]:
    """The share of each class."""
    return [value for name, value in metrics.items() if name.startswith("share_of_")]


def _classes(report: dict[str, Any]) -> list[str]:
    """What the classes are called, not too long for a table."""
    numbers = range(len(_shares(report["training"])))
    return [str(name)[:_LONGEST_NAME] for name in report.get("class_names", numbers)]


def _rotation(names: list[str]) -> int:
    """Names longer than numbers are turned, to have room below an axis."""
    return 90 if max(map(len, names)) > 2 else 0


def plot_report(
    report: dict[str, Any], pairs: np.ndarray, distances: dict[str, np.ndarray]
) -> bytes:
    """Draws an evaluation: images with their nearest training images, and two or three diagrams.

    The arguments are what `evaluate.evaluate` returns. Returns a PNG file.
    """
    figure = Figure(figsize=(12, 6.5), dpi=DPI, layout="constrained")
    diagrams: list[Any] = ["shares", "distances"] + ["confusion"] * ("confusion_matrix" in report)
    axes = figure.subplot_mosaic([["images"] * len(diagrams), diagrams], height_ratios=(2, 3))
    grid = image_grid(pairs.reshape(-1, *pairs.shape[2:]), columns=pairs.shape[1])
    axes["images"].imshow(grid, cmap="gray", vmin=0, vmax=255, interpolation="nearest")
    axes["images"].set(
        title=f"{report['generator']}: Frechet distance "
        f"{report['generated']['frechet_distance']:.2f} (training images "
        f"{report['training']['frechet_distance']:.2f}; classifier features)",
        xticks=[],
        yticks=[len(grid) / 4, len(grid) * 3 / 4],
        yticklabels=["generated", "nearest\ntraining\nimage"],
        frame_on=False,
    )
    axes["images"].tick_params(length=0)
    _plot_shares(axes["shares"], report)
    _plot_distances(axes["distances"], distances)
    if "confusion" in axes:
        _plot_confusion(axes["confusion"], report)
    png = io.BytesIO()
    figure.savefig(png, format="png")
    return png.getvalue()


def _plot_shares(axes: Axes, report: dict[str, Any]) -> None:
    """The share of each class, as the classifier predicts it."""
    for kind, offset in (("generated", -0.2), ("training", 0.2)):
        shares = np.array(_shares(report[kind]))
        axes.bar(np.arange(len(shares)) + offset, shares * 100, 0.4, label=kind)
    axes.set(title="classes, as the classifier reads them", xlabel="class", ylabel="share (%)")
    if len(shares) <= _MAX_LISTED:
        names = _classes(report)
        axes.set_xticks(range(len(shares)), names, rotation=_rotation(names))
    axes.margins(y=0.2)  # for a legend above the bars
    axes.legend(loc="upper center", ncols=2, fontsize="small")


def _plot_distances(axes: Axes, distances: dict[str, np.ndarray]) -> None:
    """Histograms of the distances to the nearest training image."""
    bins = np.histogram_bin_edges(np.concatenate([*distances.values()]), 50).tolist()
    for name, values in distances.items():
        # shares, because their numbers may differ
        weights = np.full(len(values), 100 / len(values))
        axes.hist(values, bins, weights=weights, histtype="step", linewidth=1.5, label=name)
    axes.set(title="nearest training image", xlabel="distance (pixel values)", ylabel="share (%)")
    axes.margins(y=0.2)  # for a legend above the bars
    axes.legend(loc="upper center", ncols=2, fontsize="small")


def _plot_confusion(axes: Axes, report: dict[str, Any]) -> None:
    """The share of each predicted class among the images of each requested class."""
    matrix = np.array(report["confusion_matrix"])
    rows = matrix / matrix.sum(axis=1, keepdims=True).clip(1) * 100
    axes.imshow(rows, cmap="Blues", vmin=0, vmax=100, interpolation="nearest")
    axes.set(title="read as (%)", xlabel="read", ylabel="asked for")
    if len(rows) > _MAX_LISTED:
        return
    names = _classes(report)
    axes.set_xticks(range(len(rows)), names, rotation=_rotation(names))
    axes.set_yticks(range(len(rows)), names)
    for (i, j), value in np.ndenumerate(rows):
        if round(value) > 0:
            style: dict[str, Any] = {"ha": "center", "va": "center", "fontsize": "x-small"}
            axes.text(j, i, f"{value:.0f}", color="white" if value > 50 else "black", **style)
