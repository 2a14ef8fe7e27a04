"""What ends a run before its last step: divergence, and signals."""

from __future__ import annotations

import math
import os
import signal
import threading
from types import FrameType

import keras

from common.errors import diverged
from common.training.callbacks.base import StepCallback


class StopOnDivergence(StepCallback):
    """Ends a run whose losses are NaN or infinite, before any file is overwritten."""

    reads_models = False

    def __init__(self) -> None:
        super().__init__(every_steps=1)

    def on_steps(self, steps: int, logs: dict[str, float]) -> None:
        """Checks the metrics of the last step.

        Raises:
            UserError: One is NaN or infinite.
        """
        for name, value in logs.items():
            if not math.isfinite(value):
                raise diverged(f"{name} is {value} in step {steps - 1}")


_SIGNALS = [
    getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)
]


class StopOnSignal(keras.callbacks.Callback):
    """A signal ends a run after the current step; a second one ends it at once.

    SIGINT (Ctrl-C), SIGTERM, and SIGHUP, which a terminal sends that is closed. A context manager:
    it handles these signals while the context is open. In another thread than the main one, where
    none can be handled, it does nothing.

    Attributes:
        signal: The signal that came, or None.
    """

    signal: signal.Signals | None = None

    def __enter__(self) -> StopOnSignal:
        in_main_thread = threading.current_thread() is threading.main_thread()
        self._handlers = {
            number: signal.signal(number, self._stop)
            for number in (_SIGNALS if in_main_thread else ())
            # as in the background of a script, or with nohup
            if signal.getsignal(number) is not signal.SIG_IGN
        }
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._handlers.items():
            signal.signal(number, handler)

    def _stop(self, number: int, frame: FrameType | None) -> None:
        if self.signal is not None:
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)
        self.signal = signal.Signals(number)

    def on_train_batch_end(self, batch: int, logs: dict[str, float] | None = None) -> None:
        """Ends the run after this step, if a signal has come."""
        if self.signal is not None:
            self.model.stop_training = True
