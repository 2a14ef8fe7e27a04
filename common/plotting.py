"""How do images become pictures?"""

from __future__ import annotations

import io
import math
import os
import sys
from pathlib import Path

import keras
import numpy as np
from matplotlib import image as mpl_image

from common.errors import UserError, first_line
from common.files import write_file

# Digits are shown about so many screen pixels wide, with white between them.
TILE_PIXELS = 84
GAP_PIXELS = 6


def image_grid(images: np.ndarray, columns: int | None = None) -> np.ndarray:
    """Lays images out row by row, in a square unless told otherwise.

    Each image pixel becomes a block of whole screen pixels, so that nothing is blurred.

    Args:
        images: Floats of shape (n, size, size, 1) in [0, 1].
        columns: How many stand side by side, a divisor of n; None for the square root of n.

    Returns:
        Floats of shape (height, width) in [0, 1], white between and around the images.
    """
    columns = columns or math.isqrt(len(images))
    rows = len(images) // columns
    scale = max(1, TILE_PIXELS // images.shape[1])
    tiles = images[:, :, :, 0].repeat(scale, axis=1).repeat(scale, axis=2)
    # every tile carries the gap above and to the left of it
    tiles = np.pad(tiles, ((0, 0), (GAP_PIXELS, 0), (GAP_PIXELS, 0)), constant_values=1.0)
    tile = tiles.shape[1]
    grid = tiles.reshape(rows, columns, tile, tile).swapaxes(1, 2)
    grid = grid.reshape(rows * tile, columns * tile)
    return np.pad(grid, ((0, GAP_PIXELS), (0, GAP_PIXELS)), constant_values=1.0)


def plot_images(generator: keras.Model, noise_input: list[np.ndarray], path: Path) -> None:
    """Draws what a generator makes of some noise.

    Args:
        generator: The generator.
        noise_input: Its inputs, `[noise]` or `[noise, labels]`, for a square number of images.
        path: The PNG file to write, in grey scale: black is 0.0 and white is 1.0, always.

    Raises:
        UserError: The file cannot be written.
    """
    # called, and not asked to predict, in which all workers of a training would have to take part
    grid = image_grid(generator(noise_input, training=False).numpy())
    png = io.BytesIO()
    mpl_image.imsave(png, grey_pixels(grid), format="png")
    write_file(path, png.getvalue())


def grey_pixels(grid: np.ndarray) -> np.ndarray:
    """Pixels of a picture in grey scale, black for 0.0 and white for 1.0.

    Matplotlib's own colour map "gray" is one off here and there.

    Args:
        grid: Floats of shape (height, width) in [0, 1].

    Returns:
        uint8 of shape (height, width, 3).
    """
    grey = np.rint(grid * 255).astype(np.uint8)
    return np.repeat(grey[:, :, np.newaxis], 3, axis=2)


def show_picture(path: Path) -> None:
    """Opens a PNG file in a window and waits until the user closes it.

    Where that fails - the display may have gone during hours of training - it says so in a line.
    """
    from matplotlib import pyplot as plt  # chooses a window system: not before one is needed

    picture = plt.imread(path)
    height, width = picture.shape[:2]
    try:
        figure = plt.figure(str(path), figsize=(width / 100, height / 100), dpi=100)
        figure.figimage(picture)
        plt.show()
        plt.close(figure)
    except Exception as error:  # whatever a window system raises; the picture itself is in its file
        print(f"{path} cannot be shown: {first_line(error)}", file=sys.stderr)


def resolve_show(show: bool | None) -> bool:
    """Decides whether pictures open in a window.

    Args:
        show: What the user asked for; None for "if somebody is there to see it": the output goes
            to a terminal, and there is a display.

    Raises:
        UserError: `show` is True, and there is no display.
    """
    on_terminal = sys.stdout is not None and sys.stdout.isatty()
    if show is False or (show is None and not on_terminal):
        return False
    if _has_display():
        return True
    if show:
        raise UserError("argument --show: there is no display to show pictures on: use --no-show")
    return False


def _has_display() -> bool:
    """Whether Matplotlib finds a window system that works."""
    if sys.platform.startswith("linux") and not (
        os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")
    ):
        return False
    from matplotlib import pyplot as plt
    from matplotlib.backends import BackendFilter, backend_registry

    try:
        plt.switch_backend(plt.get_backend())  # without a display a GUI backend fails here
    except Exception:  # each backend has its own way of failing
        return False
    return plt.get_backend().lower() in backend_registry.list_builtin(BackendFilter.INTERACTIVE)
