"""On what ground does everything run? Set once, before a model is built.

A program imports this module before Keras: the console is quietened and the backend chosen while
TensorFlow loads, which importing it does.
"""

from __future__ import annotations

import logging
import os
import platform
import re
import secrets
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from types import TracebackType

import numpy as np


def _end_quietly(
    kind: type[BaseException], error: BaseException, trace: TracebackType | None
) -> None:
    """Spares a user who presses Ctrl-C while TensorFlow loads the traceback."""
    if issubclass(kind, KeyboardInterrupt):
        print("interrupted", file=sys.stderr)
    else:
        sys.__excepthook__(kind, error, trace)


sys.excepthook = _end_quietly

# Matplotlib tells of fonts that it looks for and of folders that it cannot write to, neither of
# which matters to a grid of digits.
logging.getLogger("matplotlib").setLevel(logging.ERROR)

# C++ log lines of TensorFlow that are not errors: "I0000 00:00:...] oneDNN custom operations ...".
_NOISE = re.compile(r"[IW]\d{4} |WARNING: All log messages before absl::InitializeLog\(\)")


@contextmanager
def _quiet_import() -> Iterator[None]:
    """Keeps TensorFlow's greetings off the console, unless the user has set a log level.

    While its libraries load they log before they read TF_CPP_MIN_LOG_LEVEL, so that the level
    alone does not silence them. Whatever is not a greeting is passed on.
    """
    if "TF_CPP_MIN_LOG_LEVEL" in os.environ:
        yield
        return
    # 3, for at 2 a machine without a GPU is told of a "failed call to cuInit". Errors still
    # arrive, as Python exceptions.
    os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
    sys.stderr.flush()
    stderr = os.dup(2)
    with tempfile.TemporaryFile(mode="w+", encoding="utf-8", errors="replace") as held_back:
        os.dup2(held_back.fileno(), 2)
        try:
            yield
        finally:
            sys.stderr.flush()
            os.dup2(stderr, 2)
            os.close(stderr)
            held_back.seek(0)
            sys.stderr.writelines(line for line in held_back if not _NOISE.match(line))


# The programs are written for TensorFlow, whatever Keras would choose by itself.
os.environ["KERAS_BACKEND"] = "tensorflow"
with _quiet_import():
    import keras
    import tensorflow as tf

# The chapter's listings assume Keras's own defaults; ~/.keras/keras.json may hold others.
keras.config.set_image_data_format("channels_last")
keras.config.set_floatx("float32")
keras.config.set_epsilon(1e-7)


def seed_everything(seed: int | None = None) -> np.random.Generator:
    """Makes a run repeatable: the same seed gives the same weights, bit for bit.

    Args:
        seed: 0 to 2**32 - 1; None for one that nobody knows.

    Returns:
        The generator from which all of a run's noise, labels and batches are drawn. Keras's
        initial weights follow the seed too.
    """
    if seed is None:
        seed = secrets.randbelow(2**32)
    keras.utils.set_random_seed(seed)
    tf.config.experimental.enable_op_determinism()
    return np.random.default_rng(seed)


def device_name() -> str:
    """The device that everything runs on, in words."""
    gpus = tf.config.list_physical_devices("GPU")
    if not gpus:
        return f"CPU, {platform.machine()}"
    return tf.config.experimental.get_device_details(gpus[0]).get("device_name", "GPU")
