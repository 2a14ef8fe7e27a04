"""The loop: how long it runs and what callbacks are told."""

import csv

import keras
import pytest

from common.training import run_steps


class Recorder(keras.callbacks.Callback):
    """Writes down everything it is told."""

    def __init__(self):
        super().__init__()
        self.events = []

    def on_train_begin(self, logs=None):
        self.events.append("train begins")

    def on_train_end(self, logs=None):
        self.events.append("train ends")

    def on_epoch_begin(self, epoch, logs=None):
        self.events.append(f"epoch {epoch} begins")

    def on_epoch_end(self, epoch, logs=None):
        self.events.append((f"epoch {epoch} ends", logs))

    def on_train_batch_begin(self, batch, logs=None):
        self.events.append(f"batch {batch} begins")

    def on_train_batch_end(self, batch, logs=None):
        self.events.append((f"batch {batch} ends", logs))


@pytest.fixture
def model():
    return keras.Sequential([keras.Input((1,))])


def counting_step():
    """A step whose figures are 1, 2, 3, ..."""
    count = iter(range(1, 10**6))
    return lambda: {"loss": float(next(count))}


def test_callbacks_are_told_what_fit_tells_them(model):
    recorder = Recorder()
    run_steps(model, counting_step(), [recorder], train_steps=5, save_interval=2)
    assert recorder.events == [
        "train begins",
        "epoch 0 begins",
        "batch 0 begins",
        ("batch 0 ends", {"loss": 1.0}),
        "batch 1 begins",
        ("batch 1 ends", {"loss": 2.0}),
        ("epoch 0 ends", {"loss": 1.5}),
        "epoch 1 begins",
        "batch 0 begins",
        ("batch 0 ends", {"loss": 3.0}),
        "batch 1 begins",
        ("batch 1 ends", {"loss": 4.0}),
        ("epoch 1 ends", {"loss": 3.5}),
        "epoch 2 begins",
        "batch 0 begins",
        ("batch 0 ends", {"loss": 5.0}),
        ("epoch 2 ends", {"loss": 5.0}),
        "train ends",
    ]
    assert recorder.model is model
    assert recorder.params == {"epochs": 3, "steps": 2}


def test_kerass_own_callbacks_work(model, tmp_path):
    history = keras.callbacks.History()
    logger = keras.callbacks.CSVLogger(tmp_path / "log.csv")
    run_steps(model, counting_step(), [history, logger], train_steps=6, save_interval=3)
    assert history.history == {"loss": [2.0, 5.0]}
    with (tmp_path / "log.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [(row["epoch"], row["loss"]) for row in rows] == [("0", "2.0"), ("1", "5.0")]


def test_a_callback_may_stop_the_run(model):
    losses = iter([1.0, 2.0, float("nan"), 4.0])
    recorder = Recorder()
    run_steps(
        model,
        lambda: {"loss": next(losses)},
        [keras.callbacks.TerminateOnNaN(), recorder],
        train_steps=1000,
        save_interval=10,
    )
    assert next(losses) == 4.0
    assert [event for event in recorder.events if "ends" in event[0] or event == "train ends"]
    assert recorder.events[-1] == "train ends"
    assert recorder.events[-2][0] == "epoch 0 ends"
    # the next run starts afresh
    run_steps(model, counting_step(), [recorder], train_steps=2, save_interval=10)
    assert recorder.events[-2] == ("epoch 0 ends", {"loss": 1.5})
