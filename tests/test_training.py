"""The loop: how long it runs, and how it calls callbacks."""

import time

import keras
import pytest

from common.gan.step import METRICS
from common.training.callbacks.base import StepCallback
from common.training.loop import LONGEST_EXECUTION, run_steps


class Recorder(keras.callbacks.Callback):
    """Records how it is called."""

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


def metrics(value: float) -> dict[str, float]:
    return dict.fromkeys(METRICS, value)


def counting_step():
    """A step whose metrics are 1, 2, 3, ..."""
    count = iter(range(1, 10**6))
    return lambda steps: [[float(next(count))] * 4 for _ in range(steps)]


def test_callbacks_are_called_as_by_fit(model):
    recorder = Recorder()
    run_steps(model, counting_step(), [], [recorder], train_steps=5, save_interval=2)
    assert recorder.events == [
        "train begins",
        "epoch 0 begins",
        "batch 0 begins",
        ("batch 0 ends", metrics(1.0)),
        "batch 1 begins",
        ("batch 1 ends", metrics(2.0)),
        ("epoch 0 ends", metrics(1.5)),
        "epoch 1 begins",
        "batch 0 begins",
        ("batch 0 ends", metrics(3.0)),
        "batch 1 begins",
        ("batch 1 ends", metrics(4.0)),
        ("epoch 1 ends", metrics(3.5)),
        "epoch 2 begins",
        "batch 0 begins",
        ("batch 0 ends", metrics(5.0)),
        ("epoch 2 ends", metrics(5.0)),
        "train ends",
    ]
    assert recorder.model is model
    assert recorder.params == {"epochs": 3, "steps": 2, "train_steps": 5}


def test_kerass_own_callbacks_work(model):
    history = keras.callbacks.History()
    run_steps(model, counting_step(), [], [history], train_steps=6, save_interval=3)
    assert history.history == {name: [2.0, 5.0] for name in METRICS}


class StopAt(keras.callbacks.Callback):
    """Ends the run at a batch, as Keras's own callbacks do."""

    def __init__(self, batch):
        super().__init__()
        self.batch = batch

    def on_train_batch_end(self, batch, logs=None):
        self.model.stop_training = batch == self.batch


def test_a_callback_may_stop_the_run(model):
    """Its epoch stays open, and the run that goes on closes it as if nothing had happened."""
    recorder, step, history = Recorder(), counting_step(), []
    run_steps(model, step, history, [StopAt(1), recorder], train_steps=6, save_interval=3)
    assert recorder.events[-2:] == [("batch 1 ends", metrics(2.0)), "train ends"]
    assert [row[0] for row in history] == [1.0, 2.0]

    recorder.events.clear()
    run_steps(model, step, history, [recorder], train_steps=4, save_interval=3)
    assert recorder.events == [
        "train begins",
        "epoch 0 begins",
        "batch 2 begins",
        ("batch 2 ends", metrics(3.0)),
        ("epoch 0 ends", metrics(2.0)),
        "epoch 1 begins",
        "batch 0 begins",
        ("batch 0 ends", metrics(4.0)),
        ("epoch 1 ends", metrics(4.0)),
        "train ends",
    ]


class Every(StepCallback):
    """Records when it acts, and how many steps the models have taken by then."""

    def __init__(self, every_steps, taken, reads_models=True):
        super().__init__(every_steps)
        self.taken, self.reads_models, self.acted = taken, reads_models, []

    def on_steps(self, steps, logs):
        self.acted.append((steps, sum(self.taken), logs["adversarial_loss"]))


def test_one_call_takes_several_steps_but_not_across_where_a_callback_acts(model, monkeypatch):
    """Callbacks are called for each step; one that reads the models sees them as they are then."""
    monkeypatch.setattr("common.training.loop.LONGEST_EXECUTION", 1e9)  # however busy the machine
    taken, heard, history = [], [], []

    class Watch(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            heard.append((batch, logs["adversarial_loss"]))

    def step(count):
        taken.append(count)
        return [[float(sum(taken[:-1]) + i)] * 4 for i in range(count)]

    exact, of_metrics = Every(5, taken), Every(3, taken, reads_models=False)
    run_steps(
        *(model, step, history, [Watch(), exact, of_metrics]),
        train_steps=19,
        save_interval=8,
        steps_per_execution=4,
    )
    # ends at 1, because nothing is known yet of how long a step takes, 5, 8, 10, 14, 15, 16, 19
    assert taken == [1, 4, 3, 2, 4, 1, 1, 3]
    assert heard == [(i % 8, float(i)) for i in range(19)]
    assert [row[0] for row in history] == list(range(19))
    assert exact.acted == [(i, i, i - 1.0) for i in (5, 10, 15, 19)]
    assert [(steps, loss) for steps, _, loss in of_metrics.acted] == [
        (i, i - 1.0) for i in (3, 6, 9, 12, 15, 18, 19)
    ]


def test_steps_are_counted_over_the_whole_run(model):
    """A resumed run acts after the same steps as one that was not interrupted."""
    every, step, history = Every(4, []), counting_step(), []
    for train_steps in (6, 9):
        run_steps(model, step, history, [every], train_steps, save_interval=5)
    assert [steps for steps, *_ in every.acted] == [4, 6, 8, 9]


def test_a_call_is_short_so_that_a_signal_is_soon_answered(model):
    taken = []

    def step(count):
        taken.append(count)
        time.sleep(0.1 * count)
        return [[0.0] * 4] * count

    run_steps(model, step, [], [], train_steps=12, save_interval=12, steps_per_execution=100)
    assert sum(taken) == 12
    assert max(taken) <= LONGEST_EXECUTION / 0.1
