"""Signals and sample grids."""

import os
import signal

import numpy as np
import pytest
from matplotlib import image as mpl_image

from common.images import save_picture
from common.runs.checkpoints import TrainingState
from common.runs.folder import RunFolder
from common.training.callbacks.output import SampleGrid
from common.training.callbacks.stopping import StopOnSignal
from common.training.loop import run_steps
from conftest import randomized, tiles


def test_signals_that_are_ignored_stay_so():
    """As in a job that a script has put into the background; all others are given back."""
    before = signal.getsignal(signal.SIGTERM)
    interrupt = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with StopOnSignal() as stop:
            assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
            os.kill(os.getpid(), signal.SIGTERM)
            assert stop.signal is signal.SIGTERM
        assert signal.getsignal(signal.SIGTERM) is before
    finally:
        signal.signal(signal.SIGINT, interrupt)


@pytest.mark.parametrize("early", [3, 4])
def test_grids_at_each_interval_and_at_the_end(gan, small_data, rng, tmp_path, monkeypatch, early):
    """And an early one; each once."""
    monkeypatch.setattr("common.training.callbacks.output.EARLY", early)
    models = generator, _, adversarial = gan.models(image_size=8)
    step = gan.step(models, *small_data, rng, batch_size=4)
    state = TrainingState(step, step.latent.draw(rng, 16))
    folder = RunFolder(tmp_path / "grids")
    drawn, save = [], save_picture

    def note(grid, file):
        drawn.append(int(file.stem))
        save(grid, file)

    monkeypatch.setattr("common.training.callbacks.output.save_picture", note)
    grids = SampleGrid(state, folder, every_steps=2)
    randomized(generator)  # for images that are not all but grey
    run_steps(adversarial, step, [], [grids], train_steps=5, save_interval=2)
    assert drawn == sorted({2, early, 4, 5})
    assert sorted(folder.path.iterdir()) == [folder.grid(steps) for steps in drawn]

    # the last grid is what the generator makes of the fixed noise now: white frames, first image
    grid = mpl_image.imread(folder.grid(5))
    images = generator.predict_on_batch(state.noise_input)[:, :, :, 0]
    assert images.std() > 0.1
    np.testing.assert_allclose(tiles(grid, 8), images, atol=0.51 / 255)
    assert grid[:6].min() == pytest.approx(1.0)
