"""Signals end a run in good order."""

from __future__ import annotations

import os
import signal
import threading
from types import FrameType

import keras

# Windows has no SIGHUP.
_SIGNALS = [
    getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)
]


class StopOnSignal(keras.callbacks.Callback):
    """A signal ends a run after the current step; a second one ends it at once.

    SIGINT (Ctrl-C), SIGTERM, and SIGHUP, which comes when a terminal is closed. A context manager:
    it handles these signals while the context is open. Outside the main thread, where Python cannot
    handle any, it does nothing.

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
