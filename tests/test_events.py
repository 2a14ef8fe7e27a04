"""Events for TensorBoard, read back with TensorBoard's own reader."""

import csv
import signal
import struct
from pathlib import Path

import keras
import numpy as np
import pytest
from tensorboard.backend.event_processing.plugin_event_accumulator import EventAccumulator
from tensorboard.plugins.hparams.metadata import parse_session_start_info_plugin_data
from tensorboard.util import tensor_util

import cgan_mnist
from common.runs.checkpoints import TrainingState
from common.runs.folder import RunFolder
from common.training.callbacks import tensorboard
from common.training.callbacks.tensorboard import TensorBoard
from common.training.loop import run_steps
from conftest import ROOT
from processes import run, spawn

FLAGS = (
    *("--batch-size=4", "--seed=2", "--train-steps=60", "--save-interval=20", "--tensorboard"),
    *("--checkpoint-interval=7", "--log-interval=1"),
)
TAGS = {
    "loss/discriminator": "discriminator_loss",
    "accuracy/discriminator": "discriminator_acc",
    "loss/adversarial": "adversarial_loss",
    "accuracy/adversarial": "adversarial_acc",
}


def reader(folder: Path) -> EventAccumulator:
    everything = {"tensors": 0}
    return EventAccumulator(str(folder), size_guidance=everything).Reload()


def scalars(events: EventAccumulator, tag: str) -> tuple[list[int], np.ndarray]:
    found = events.Tensors(tag)
    values = [tensor_util.make_ndarray(event.tensor_proto).item() for event in found]
    return [event.step for event in found], np.array(values)


def images(events: EventAccumulator) -> dict[int, bytes]:
    """The grids, whose width and height must be those in the head of a PNG file."""
    found = {}
    for event in events.Tensors("samples"):
        assert event.step not in found
        width, height, found[event.step] = event.tensor_proto.string_val
        assert struct.unpack(">II", found[event.step][16:24]) == (int(width), int(height))
    return found


def hyper_parameters(folder: Path) -> dict[str, bool | float | str]:
    metadata = reader(folder).SummaryMetadata("_hparams_/session_start_info")
    info = parse_session_start_info_plugin_data(metadata.plugin_data.content)
    return {name: getattr(value, value.WhichOneof("kind")) for name, value in info.hparams.items()}


def assert_shows_the_run(events: EventAccumulator, folder: Path) -> None:
    """Each step once, with the metrics of history.csv; each grid once."""
    with (folder / "history.csv").open() as file:
        table = list(csv.DictReader(file))
    for tag, column in TAGS.items():
        steps, values = scalars(events, tag)
        assert steps == list(range(len(table)))
        np.testing.assert_allclose(values, [float(row[column]) for row in table], rtol=1e-6)
    steps, speed = scalars(events, "speed/steps_per_second")
    assert steps == list(range(len(table)))
    np.testing.assert_allclose(1 / speed, [float(row["seconds"]) for row in table], atol=1e-4)
    grids = {int(file.stem): file.read_bytes() for file in folder.glob("0*.png")}
    assert images(events) == grids


@pytest.fixture(scope="module")
def interrupted(data):
    """The folder of a run that was stopped, was killed and went on each time; and its readers.

    One reader has followed the run from its first steps, as a TensorBoard that is open.
    """
    folder = data.parent

    def stopped(after, number, *flags):
        process = spawn(folder, "cgan_mnist", "--log-interval=1", *flags)
        process.wait_for_line(after)
        process.send_signal(number)
        process.communicate()

    stopped("24: ", signal.SIGTERM, "--data=set.npz", *FLAGS)
    assert (folder / "cgan_mnist" / "00020.png").exists()
    follower = reader(folder / "cgan_mnist")
    written = len(scalars(follower, "loss/discriminator")[0])
    assert 25 <= written < 60
    assert_shows_the_run(follower, folder / "cgan_mnist")
    stopped("45: ", signal.SIGKILL, "--resume")
    follower.Reload()
    status, out, err = run(folder, "cgan_mnist", "--resume", "--log-interval=1")
    assert (status, err) == (0, "")
    assert out.splitlines()[-2].startswith("59: ")
    return folder / "cgan_mnist", follower


@pytest.mark.slow
def test_no_step_is_missing_or_doubled_after_resuming(interrupted):
    folder, _ = interrupted
    assert len(list(folder.glob("events.out.tfevents.*"))) == 1
    assert_shows_the_run(reader(folder), folder)
    assert scalars(reader(folder), "loss/discriminator")[0] == list(range(60))


def test_a_tensorboard_that_was_open_all_along_sees_the_same(interrupted):
    folder, follower = interrupted
    for _ in range(3):
        follower.Reload()
    assert_shows_the_run(follower, folder)


def test_learning_rates_are_the_chapters(interrupted):
    """Listing 4.2.3, and Keras 2's decay: lr / (1 + decay * updates)."""
    events = reader(interrupted[0])
    for network, lr, decay in [("discriminator", 2e-4, 6e-8), ("adversarial", 1e-4, 3e-8)]:
        steps, rates = scalars(events, f"learning_rate/{network}")
        assert steps == list(range(60))
        np.testing.assert_allclose(rates, lr / (1 + decay * np.arange(60)), rtol=2e-7)


def test_hyper_parameters_are_the_flags(interrupted):
    written = hyper_parameters(interrupted[0])
    assert written["batch_size"] == 4
    assert written["train_steps"] == 60
    assert written["seed"] == 2
    assert written["engine"] == "train_on_batch"
    assert written["learning_rate/discriminator"] == pytest.approx(2e-4)
    assert written["learning_rate/adversarial"] == pytest.approx(1e-4)
    assert written["evaluate_interval"] == 0
    assert "image_size" not in written  # which has no value


def test_evaluations_and_steps_to_be_taken_again(gan, small_data, rng, tmp_path):
    """From a state: metrics after the step that they belong to; not a grid that is ahead of it."""
    models = gan.models(image_size=8)
    step = gan.step(models, *small_data, rng, batch_size=4)
    state = TrainingState(step, step.latent.draw(rng, 16))

    class Evaluates(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            if len(state.history) in (2, 4):
                state.evaluations[len(state.history)] = {"frechet_distance": len(state.history) / 8}

    for steps in (2, 4, 6):
        (tmp_path / f"{steps:05d}.png").write_bytes(
            (ROOT / "docs/results/cgan_digits.png").read_bytes()
        )
    board = TensorBoard(state, RunFolder(tmp_path), {}, every_steps=3)
    run_steps(models[2], step, state.history, [Evaluates(), board], train_steps=5, save_interval=5)
    steps, distances = scalars(reader(tmp_path), "evaluation/frechet_distance")
    assert (steps, distances.tolist()) == ([2, 4], [0.25, 0.5])
    assert sorted(images(reader(tmp_path))) == [2, 4]


def test_a_folder_that_cannot_be_written_costs_a_line(tmp_path, data, capsys, monkeypatch):
    monkeypatch.setattr(tensorboard, "EVENTS", "missing/file.")
    flags = ["--batch-size=4", "--train-steps=2", "--tensorboard", f"--outdir={tmp_path}"]
    with pytest.raises(SystemExit) as stopped:
        cgan_mnist.main([f"--data={data}", *flags])
    assert stopped.value.code == 2
    err = capsys.readouterr().err
    assert err.count("\n") == 1
    assert f"cannot write events for TensorBoard to {tmp_path / 'cgan_mnist'}: " in err
