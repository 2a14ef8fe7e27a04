"""The environment: TensorFlow and Keras as the programs need them, seeds, and the device.

Programs import this module before Keras, because it loads TensorFlow: it chooses the backend and
keeps TensorFlow's start-up messages off the console.
"""

from __future__ import annotations

import io
import logging
import os
import platform
import random
import re
import secrets
import shutil
import sys
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import numpy as np

from common.errors import UserError

# Matplotlib logs missing fonts and folders that it cannot write to; neither matters here.
logging.getLogger("matplotlib").setLevel(logging.ERROR)

# TensorFlow's C++ log lines that are not errors: "I0000 00:00:...] oneDNN custom operations ...".
_NOISE = re.compile(r"[IW]\d{4} |WARNING: All log messages before absl::InitializeLog\(\)")


@contextmanager
def _quiet_import() -> Iterator[None]:
    """Keeps TensorFlow's start-up messages off the console, unless the user has set a log level.

    Its libraries log before they read TF_CPP_MIN_LOG_LEVEL, so the level alone does not silence
    them. Everything else is passed on.
    """
    if "TF_CPP_MIN_LOG_LEVEL" in os.environ or sys.stderr is None:
        yield
        return
    # 3, because 2 prints "failed call to cuInit" on a machine without a GPU. Errors still arrive,
    # as Python exceptions.
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
            if "ipykernel" in sys.modules:  # programs that a notebook starts are not to inherit it
                del os.environ["TF_CPP_MIN_LOG_LEVEL"]
            held_back.seek(0)
            sys.stderr.writelines(line for line in held_back if not _NOISE.match(line))


def _import_matplotlib() -> None:
    """Imports Matplotlib, which Keras imports, whatever backend the environment names.

    A notebook's kernel names one to the programs that it starts, which they may not have. Without
    a backend Matplotlib looks for one where a window opens.
    """
    backend = os.environ.pop("MPLBACKEND", None)
    import matplotlib

    if backend is not None:
        os.environ["MPLBACKEND"] = backend
        with suppress(ValueError):  # there is no such backend
            matplotlib.rcParams["backend"] = backend


@contextmanager
def _without_a_configuration() -> Iterator[None]:
    """Keeps Keras from the user's keras.json, and from writing one to a home folder.

    The chapter's listings assume Keras's own defaults, and the file may be broken.
    """
    earlier = os.environ.get("KERAS_HOME")
    with tempfile.TemporaryDirectory() as empty:
        os.environ["KERAS_HOME"] = empty
        try:
            yield
        finally:
            del os.environ["KERAS_HOME"]
            if earlier is not None:
                os.environ["KERAS_HOME"] = earlier


# Take a GPU's memory as it is needed, and leave the rest to others.
os.environ.setdefault("TF_FORCE_GPU_ALLOW_GROWTH", "true")
# TensorFlow uses oneDNN's CPU kernels only where there is AVX512_VNNI or better. With AVX2 alone a
# step takes 1.6 times as long without them.
if platform.machine() in ("x86_64", "AMD64"):
    os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")
# The programs are written for TensorFlow, whatever Keras would choose by itself.
os.environ["KERAS_BACKEND"] = "tensorflow"
with _quiet_import(), _without_a_configuration(), warnings.catch_warnings():
    warnings.simplefilter("ignore")  # also where Python is told to make errors of warnings
    _import_matplotlib()
    import keras
    import tensorflow as tf

# Keras refuses to print a summary on a narrower console.
_NARROWEST = 40

_CPU_INFO = Path("/proc/cpuinfo")


def prepare_device(precision: str, xla: bool, batch_size: int) -> None:
    """Checks that the device can do what a training needs, and prints a line that names it.

    Args:
        precision: What convolutions compute in, one of `options.PRECISIONS`.
        xla: Whether a step is compiled with XLA.
        batch_size: Of all replicas together.

    Raises:
        UserError: The device cannot do this.
    """
    has_gpu = bool(tf.config.list_physical_devices("GPU"))
    if precision == "float16" and not has_gpu:
        raise UserError(
            "argument --precision: float16 given, which needs a GPU, and TensorFlow finds none: "
            "give bfloat16 or float32, or train on a machine with a GPU"
        )
    if xla and not has_gpu:
        raise UserError(
            "argument --xla: needs a GPU, and TensorFlow finds none (on a CPU it makes a step ten "
            "times slower): give --no-xla"
        )
    replicas = tf.distribute.get_strategy().num_replicas_in_sync
    if batch_size % replicas:
        raise UserError(
            f"argument --batch-size: {batch_size} given, which {replicas} replicas cannot share "
            f"evenly: give a multiple of {replicas}"
        )
    note = " (TF32)" if precision == "float32" and _multiplies_in_tf32() else ""
    print(f"running on {device_name()}, convolutions in {precision}{note}", flush=True)
    if precision == "bfloat16" and not has_gpu and not _cpu_has_bfloat16():
        print(
            "warning: bfloat16 will be many times slower than float32: this CPU has no "
            "instructions for it",
            file=sys.stderr,
        )


def faster_flags() -> tuple[str, float] | None:
    """The flags with which a training is known to be faster than by default on this device.

    Returns:
        The flags, and the share of the default's time that a step then takes, measured on the two
        kinds of CPU in benchmarks/RESULTS.md; None if nothing is known.
    """
    if tf.config.list_physical_devices("GPU"):
        return None
    flags = _cpu_info().get("flags", "").split()  # of Intel and AMD alone
    if "avx512_bf16" in flags:
        return "--engine compiled --precision bfloat16", 0.6
    return ("--engine compiled", 0.9) if "avx2" in flags else None


def silence() -> None:
    """Discards all further output; warnings and errors go to stderr and still appear."""
    sys.stdout = open(os.devnull, "w")  # noqa: SIM115  # `restored` closes it
    keras.config.disable_interactive_logging()  # summaries take another way in a notebook


@contextmanager
def restored() -> Iterator[None]:
    """Leaves the process as it was, for `main` may be called in a notebook or a thread."""
    stdout, columns = sys.stdout, os.environ.get("COLUMNS")
    errors = getattr(stdout, "errors", None)
    if isinstance(stdout, io.TextIOWrapper):
        stdout.reconfigure(errors="backslashreplace")  # names may be of bytes that are no UTF-8
    logging_enabled = keras.config.is_interactive_logging_enabled()
    random_states = random.getstate(), np.random.get_state()
    if shutil.get_terminal_size().columns < _NARROWEST:
        os.environ["COLUMNS"] = str(_NARROWEST)
    try:
        yield
    finally:
        if sys.stdout is not stdout:
            sys.stdout.close()
            sys.stdout = stdout
        if isinstance(stdout, io.TextIOWrapper):
            stdout.reconfigure(errors=errors)
        if logging_enabled:
            keras.config.enable_interactive_logging()
        # TensorFlow's and Keras's seeds, and determinism, cannot be taken back
        random.setstate(random_states[0])
        np.random.set_state(random_states[1])
        if tf.distribute.has_strategy():
            tf.distribute.experimental_set_strategy(None)
        if columns is None:
            os.environ.pop("COLUMNS", None)
        else:
            os.environ["COLUMNS"] = columns


def seed_everything(seed: int | None = None) -> np.random.Generator:
    """Makes a run repeatable: the same seed gives the same weights, bit for bit.

    Args:
        seed: 0 to 2**32 - 1; None for a random one.

    Returns:
        The random generator that draws all noise, labels and batches. Keras's initial weights
        depend on the seed, too.
    """
    if seed is None:
        seed = secrets.randbelow(2**32)
    keras.utils.set_random_seed(seed)
    tf.config.experimental.enable_op_determinism()
    return np.random.default_rng(seed)


def device_name() -> str:
    """The name of the device that everything runs on."""
    gpus = tf.config.list_physical_devices("GPU")
    if gpus:
        return tf.config.experimental.get_device_details(gpus[0]).get("device_name", "GPU")
    return f"CPU: {_cpu_info().get('model name', platform.machine())}, {os.cpu_count()} cores"


def _multiplies_in_tf32() -> bool:
    """Whether the device rounds the factors of float32 products to TF32, TensorFlow's default."""
    gpus = tf.config.list_physical_devices("GPU")
    if not gpus or not tf.config.experimental.tensor_float_32_execution_enabled():
        return False
    details = tf.config.experimental.get_device_details(gpus[0])
    return details.get("compute_capability", (0, 0)) >= (8, 0)  # since Ampere


def _cpu_has_bfloat16() -> bool:
    """Whether the CPU is known to have instructions for bfloat16."""
    info = _cpu_info()
    flags = f"{info.get('flags')} {info.get('Features')}".split()  # of Intel and AMD, and of ARM
    return not {"avx512_bf16", "amx_bf16", "bf16"}.isdisjoint(flags)


def _cpu_info() -> dict[str, str]:
    """What Linux knows of the first CPU; nothing on other systems."""
    try:
        first = _CPU_INFO.read_text().split("\n\n")[0]
    except OSError:
        return {}
    entries = (line.partition(":") for line in first.splitlines())
    return {key.strip(): value.strip() for key, _, value in entries}
