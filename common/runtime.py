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
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING

import numpy as np

from common.errors import UserError

if TYPE_CHECKING:
    from common.cli import Options


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


# A GPU's memory is taken as it is needed, and what is left is for others.
os.environ.setdefault("TF_FORCE_GPU_ALLOW_GROWTH", "true")
# TensorFlow has two sets of kernels for a CPU, and takes the faster one, oneDNN's, only where there
# is AVX512_VNNI or better. With AVX2 alone a step takes 1.6 times as long without them.
if platform.machine() in ("x86_64", "AMD64"):
    os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")
# The programs are written for TensorFlow, whatever Keras would choose by itself.
os.environ["KERAS_BACKEND"] = "tensorflow"
with _quiet_import():
    import keras
    import tensorflow as tf

# The chapter's listings assume Keras's own defaults; ~/.keras/keras.json may hold others.
keras.config.set_image_data_format("channels_last")
keras.config.set_floatx("float32")
keras.config.set_epsilon(1e-7)

# What convolutions may compute in, and the `dtype` that such a layer is given: its weights are
# float32 in all of them, and so is every layer of another kind.
PRECISIONS = {"float32": "float32", "bfloat16": "mixed_bfloat16", "float16": "mixed_float16"}

# On how many devices a step may run: one, all of this machine, those of several machines.
STRATEGIES = ("none", "mirrored", "multiworker")

_CPU_INFO = Path("/proc/cpuinfo")


def set_up(options: Options) -> np.random.Generator:
    """Prepares a training, and tells in a line what it runs on.

    Returns:
        What `seed_everything` does.

    Raises:
        UserError: There is no such device as the options need.
    """
    has_gpu = bool(tf.config.list_physical_devices("GPU"))
    if options.precision == "float16" and not has_gpu:
        raise UserError(
            "argument --precision: float16 given, which needs a GPU, and TensorFlow finds none: "
            "give bfloat16 or float32"
        )
    if options.xla and options.engine != "compiled":
        raise UserError(
            f"argument --xla: is for --engine compiled, and the engine is {options.engine}: "
            "give --no-xla or --engine compiled"
        )
    if options.xla and not has_gpu:
        raise UserError(
            "argument --xla: needs a GPU, and TensorFlow finds none (on a CPU it makes a step ten "
            "times slower): give --no-xla"
        )
    if options.xla and options.strategy != "none":
        raise UserError(
            f"argument --xla: is for one device, and the strategy is {options.strategy}: "
            "give --no-xla"
        )
    replicas = tf.distribute.get_strategy().num_replicas_in_sync
    if options.batch_size % replicas:
        raise UserError(
            f"argument --batch-size: {options.batch_size} given, which {replicas} replicas cannot "
            f"share evenly: give a multiple of {replicas}"
        )
    print(f"running on {device_name()}, convolutions in {options.precision}", flush=True)
    if options.precision == "bfloat16" and not has_gpu and not _cpu_has_bfloat16():
        print(
            "warning: bfloat16 will be many times slower than float32: this CPU has no "
            "instructions for it",
            file=sys.stderr,
        )
    return seed_everything(options.seed)


def silence() -> None:
    """Keeps whatever is printed from now on to itself, but for warnings and errors."""
    sys.stdout = open(os.devnull, "w")  # noqa: SIM115  # as long as the process lives


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
    if gpus:
        return tf.config.experimental.get_device_details(gpus[0]).get("device_name", "GPU")
    return f"CPU: {_cpu_info().get('model name', platform.machine())}, {os.cpu_count()} cores"


def _cpu_has_bfloat16() -> bool:
    """Whether the CPU is known to multiply numbers in bfloat16."""
    info = _cpu_info()
    flags = f"{info.get('flags')} {info.get('Features')}".split()  # of Intel and AMD, and of ARM
    return not {"avx512_bf16", "amx_bf16", "bf16"}.isdisjoint(flags)


def _cpu_info() -> dict[str, str]:
    """What Linux tells of the first CPU; nothing on other systems."""
    try:
        first = _CPU_INFO.read_text().split("\n\n")[0]
    except OSError:
        return {}
    entries = (line.partition(":") for line in first.splitlines())
    return {key.strip(): value.strip() for key, _, value in entries}
