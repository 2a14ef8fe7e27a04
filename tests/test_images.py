"""Pictures, pixel by pixel, and when they are shown."""

import os
import pty
import subprocess
import sys

import numpy as np
import pytest
from matplotlib import pyplot as plt
from PIL import Image

from common.images import image_grid, resolve_show, save_picture, show_picture
from conftest import ENVIRONMENT


def test_the_grid_is_pixel_exact(tmp_path, rng):
    pixels = rng.integers(0, 256, (15, 28, 28, 1), np.uint8)
    save_picture(image_grid(pixels.astype(np.float32) / 255), tmp_path / "a" / "00500.png")
    expected = np.full((366, 366), 255, np.uint8)
    for i, image in enumerate(pixels):
        for y in range(28):
            for x in range(28):
                top, left = 6 + 90 * (i // 4) + 3 * y, 6 + 90 * (i % 4) + 3 * x
                expected[top : top + 3, left : left + 3] = image[y, x, 0]
    with Image.open(tmp_path / "a" / "00500.png") as picture:
        assert picture.mode == "L"
        np.testing.assert_array_equal(picture, expected)


@pytest.mark.parametrize("grey", [0.0, 0.25, 0.5, 1.0])
def test_grey_is_not_rescaled(grey):
    """One dim image must stay dim: no picture is stretched to its own darkest and brightest."""
    picture = image_grid(np.full((16, 28, 28, 1), grey, np.float32))
    assert picture[20, 20] == round(255 * grey)
    assert picture[0, 0] == 255


def test_large_images_are_not_shrunk():
    assert image_grid(np.zeros((4, 256, 256, 1))).shape == (2 * 262 + 6, 2 * 262 + 6)


def test_pictures_are_not_shown_to_a_pipe(capsys, monkeypatch):
    """By themselves, where there is a display."""
    registry = "common.images.backend_registry.list_builtin"
    monkeypatch.setattr(registry, lambda _: [plt.get_backend().lower()])
    assert [resolve_show(show) for show in (None, False, True)] == [False, False, True]


@pytest.mark.parametrize("backend", ["", "TkAgg"])
def test_without_a_display(backend):
    """On a real terminal, also where the user's MPLBACKEND wants a window."""
    environment = ENVIRONMENT | ({"MPLBACKEND": backend} if backend else {})
    master, slave = pty.openpty()
    code = (
        "import sys; from common.images import resolve_show; "
        "assert sys.stdout.isatty(); print('shown:', resolve_show(None)); resolve_show(True)"
    )
    done = subprocess.run([sys.executable, "-c", code], stdout=slave, stderr=slave, env=environment)
    os.close(slave)
    assert done.returncode == 1
    first, *_, last = os.read(master, 10_000).decode().splitlines()
    os.close(master)
    assert first == "shown: False"
    assert "--show: there is no display" in last


def test_a_shown_picture_is_the_file_pixel_by_pixel(tmp_path, rng, monkeypatch, capsys):
    """On a canvas without a window: what `plt.show` would have shown is looked at instead."""
    plt.switch_backend("agg")
    grid = image_grid(rng.uniform(0, 1, (16, 28, 28, 1)).astype(np.float32))
    save_picture(grid, tmp_path / "grid.png")
    shown = []

    def show():
        figure = plt.gcf()
        figure.canvas.draw()
        shown.append(np.asarray(figure.canvas.buffer_rgba()).copy())

    monkeypatch.setattr(plt, "show", show)
    show_picture(tmp_path / "grid.png")
    np.testing.assert_array_equal(shown[0], np.dstack([grid] * 3 + [np.full_like(grid, 255)]))
    assert not plt.get_fignums()
    assert capsys.readouterr().err == ""


def test_a_display_that_has_gone_costs_a_line(tmp_path, monkeypatch, capsys):
    save_picture(image_grid(np.zeros((16, 8, 8, 1))), tmp_path / "grid.png")
    monkeypatch.setattr(plt, "figure", lambda *_, **__: 1 / 0)
    show_picture(tmp_path / "grid.png")
    assert capsys.readouterr().err == f"{tmp_path / 'grid.png'} cannot be shown: division by zero\n"
    show_picture(tmp_path / "gone.png")
    assert f"{tmp_path / 'gone.png'} cannot be shown: " in capsys.readouterr().err
