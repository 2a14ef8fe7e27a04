"""Turning images into pictures, and showing them."""

import io
import math
import sys
from pathlib import Path

import numpy as np
from matplotlib import rc_context
from matplotlib.backends import BackendFilter, backend_registry
from matplotlib.figure import Figure
from PIL import Image

from common.errors import UserError, first_line
from common.files import kind_of, write_file

# Images are drawn about this many pixels wide, with white between them, or smaller, so that a grid
# is no wider than a screen; but never below their own size.
TILE_PIXELS = 84
GAP_PIXELS = 6
SCREEN_PIXELS = 2000

# Pixels per inch, where Matplotlib draws.
DPI = 100
# In a PDF or SVG a pixel has the size that browsers give it.
_DPI_OF_BROWSERS = 96


def columns_of_square(count: int) -> int:
    """How many images a row has, so that the grid is nearly square."""
    return math.isqrt(count - 1) + 1


def image_grid(images: np.ndarray, columns: int | None = None) -> np.ndarray:
    """Lays images, floats of shape (n, size, size, 1) in [0, 1], out row by row.

    A row has `columns` images; None makes a nearly square grid. Each image pixel becomes a block of
    whole screen pixels, so that nothing is blurred.

    Returns:
        Grey pixels, uint8 of shape (height, width): black for 0.0 and white for 1.0, always, and
        white between and around the images.
    """
    size = images.shape[1]
    columns = columns or columns_of_square(len(images))
    scale = max(1, min(TILE_PIXELS, SCREEN_PIXELS // columns) // size)
    gap = min(GAP_PIXELS, -(-scale * size // 14))
    pixels = np.rint(images[..., 0] * 255).astype(np.uint8)
    pixels = pixels.repeat(scale, axis=1).repeat(scale, axis=2)
    tiles = np.pad(pixels, ((0, 0), (gap, 0), (gap, 0)), constant_values=255)
    return np.pad(in_rows(tiles, columns), (0, gap), constant_values=255)


def in_rows(pictures: np.ndarray, columns: int) -> np.ndarray:
    """Lays grey pictures, uint8 of shape (n, height, width), out row by row without gaps."""
    count, height, width = pictures.shape
    rows = -(-count // columns)
    tiles = np.full((rows * columns, height, width), 255, np.uint8)
    tiles[:count] = pictures
    tiles = tiles.reshape(rows, columns, height, width).swapaxes(1, 2)
    return tiles.reshape(rows * height, columns * width)


def save_picture(grid: np.ndarray, path: Path) -> None:
    """Writes grey pixels, uint8 of shape (height, width), as a .png, .pdf or .svg file."""
    picture, kind = io.BytesIO(), kind_of(path)[1:]
    if kind == "png":
        Image.fromarray(grid).save(picture, kind)
    else:
        height, width = grid.shape
        figure = Figure(figsize=(width / _DPI_OF_BROWSERS, height / _DPI_OF_BROWSERS))
        axes = figure.add_axes((0, 0, 1, 1))
        axes.set_axis_off()
        # as RGB, for Matplotlib's colour map "gray" is off by one in places; without interpolation
        # viewers show the pixels as they are at any zoom
        axes.imshow(np.dstack([grid] * 3), interpolation="none", aspect="auto")
        # no time and no random names, so that the same digits give the same file
        date = {"pdf": "CreationDate", "svg": "Date"}[kind]
        with rc_context({"svg.hashsalt": ""}):
            figure.savefig(picture, format=kind, metadata={date: None})
    write_file(path, picture.getvalue())


def save_animation(frames: list[np.ndarray], path: Path, milliseconds: int, last: int) -> None:
    """Writes grey frames, each uint8 of shape (height, width), as a GIF that repeats for ever.

    Each is shown for some milliseconds, in steps of 10, the last one for `last` milliseconds.
    """
    animation = io.BytesIO()
    first, *others = map(Image.fromarray, frames)
    durations = [*[milliseconds] * len(others), last]
    first.save(animation, "gif", save_all=True, append_images=others, duration=durations, loop=0)
    write_file(path, animation.getvalue())


def show_picture(path: Path) -> None:
    """Opens a PNG file in a window and waits until the user closes it.

    If that fails, as when the display has gone during hours of training, it prints one line.
    """
    from matplotlib import pyplot as plt  # slow, and chooses a window system

    try:
        with Image.open(path) as picture:
            pixels = np.asarray(picture.convert("RGB"))
        height, width = pixels.shape[:2]
        figure = plt.figure(str(path), figsize=(width / DPI, height / DPI), dpi=DPI)
        figure.figimage(pixels)
        plt.show()
        plt.close(figure)
    except Exception as error:  # each window system raises its own
        print(f"{path} cannot be shown: {first_line(error)}", file=sys.stderr)


def resolve_show(show: bool | None) -> bool:
    """Decides whether pictures open in a window; by default on a terminal with a display."""
    on_terminal = sys.stdout is not None and sys.stdout.isatty()
    if show is False or (show is None and not on_terminal):
        return False
    from matplotlib import pyplot as plt

    try:
        plt.switch_backend(plt.get_backend())  # without a display a GUI backend fails here
        interactive = backend_registry.list_builtin(BackendFilter.INTERACTIVE)
        has_display = plt.get_backend().lower() in interactive
    except Exception:  # each backend has its own way of failing
        has_display = False
    if show and not has_display:
        raise UserError("argument --show: there is no display to show pictures on: use --no-show")
    return has_display
