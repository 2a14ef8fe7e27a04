"""Pictures, pixel by pixel, and when they are shown."""

import os
import pty
import subprocess
import sys

import numpy as np
import pytest
from matplotlib import image as mpl_image

from common.errors import UserError
from common.pictures import image_grid, resolve_show, save_picture, show_picture
from conftest import ENVIRONMENT


def test_the_grid_is_pixel_exact(tmp_path, rng):
    pixels = rng.integers(0, 256, (16, 28, 28, 1), np.uint8)
    images = pixels.astype(np.float32) / 255
    save_picture(image_grid(images), tmp_path / "a" / "00500.png")

    picture = mpl_image.imread(tmp_path / "a" / "00500.png")
    assert picture.shape == (4 * 90 + 6, 4 * 90 + 6, 4)
    np.testing.assert_array_equal(picture[:, :, 3], 1.0)  # opaque
    np.testing.assert_array_equal(picture[:, :, 0], picture[:, :, 1])  # grey
    np.testing.assert_array_equal(picture[:, :, 0], picture[:, :, 2])
    expected = np.full((366, 366), 255, np.uint8)
    for row in range(4):
        for column in range(4):
            for y in range(28):
                for x in range(28):
                    top, left = 6 + 90 * row + 3 * y, 6 + 90 * column + 3 * x
                    expected[top : top + 3, left : left + 3] = pixels[4 * row + column, y, x, 0]
    np.testing.assert_array_equal(np.rint(picture[:, :, 0] * 255), expected)


@pytest.mark.parametrize("grey", [0.0, 0.25, 0.5, 1.0])
def test_grey_is_not_rescaled(tmp_path, grey):
    """One dim image must stay dim: no picture is stretched to its own darkest and brightest."""
    images = np.full((16, 28, 28, 1), grey, np.float32)
    save_picture(image_grid(images), tmp_path / "grid.png")
    picture = mpl_image.imread(tmp_path / "grid.png")
    assert picture[20, 20, 0] == pytest.approx(grey, abs=1 / 255)
    assert picture[0, 0, 0] == 1.0


def test_large_images_are_not_shrunk():
    assert image_grid(np.zeros((4, 256, 256, 1))).shape == (2 * 262 + 6, 2 * 262 + 6)


def test_pictures_are_not_shown_to_a_pipe():
    assert resolve_show(None) is False
    assert resolve_show(False) is False


def test_show_without_a_display_is_refused(monkeypatch):
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.delenv("DISPLAY", raising=False)
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    with pytest.raises(UserError, match="--show: there is no display"):
        resolve_show(True)


@pytest.mark.parametrize("backend", ["", "TkAgg"])
def test_a_terminal_without_a_display_shows_nothing_and_says_nothing(backend):
    """On a real pseudo-terminal, also where the user's MPLBACKEND wants a window."""
    environment = ENVIRONMENT | ({"MPLBACKEND": backend} if backend else {})
    master, slave = pty.openpty()
    code = (
        "import sys; from common.pictures import resolve_show; "
        "assert sys.stdout.isatty(); print('shown:', resolve_show(None))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], stdout=slave, stderr=slave, env=environment, timeout=60
    )
    os.close(slave)
    assert done.returncode == 0
    assert os.read(master, 10_000).decode() == "shown: False\r\n"
    os.close(master)


def test_a_shown_picture_is_the_file_pixel_by_pixel(tmp_path, rng, monkeypatch):
    """On a canvas without a window: what `plt.show` would have shown is looked at instead."""
    from matplotlib import pyplot as plt

    plt.switch_backend("agg")
    images = rng.uniform(0, 1, (16, 28, 28, 1)).astype(np.float32)
    path = tmp_path / "grid.png"
    save_picture(image_grid(images), path)
    shown = []

    def show():
        figure = plt.gcf()
        figure.canvas.draw()
        shown.append(np.asarray(figure.canvas.buffer_rgba()) / 255)

    monkeypatch.setattr(plt, "show", show)
    show_picture(path)
    np.testing.assert_allclose(shown[0], mpl_image.imread(path), atol=0.5 / 255)
    assert not plt.get_fignums()


def test_a_display_that_has_gone_costs_a_line(tmp_path, monkeypatch, capsys):
    from matplotlib import pyplot as plt

    save_picture(image_grid(np.zeros((16, 8, 8, 1))), tmp_path / "grid.png")
    monkeypatch.setattr(plt, "figure", lambda *_, **__: 1 / 0)
    show_picture(tmp_path / "grid.png")
    assert capsys.readouterr().err == f"{tmp_path / 'grid.png'} cannot be shown: division by zero\n"
    show_picture(tmp_path / "gone.png")
    assert f"{tmp_path / 'gone.png'} cannot be shown: " in capsys.readouterr().err
