"""Sets up TensorFlow and Keras, seeds, and the device.

Import it before Keras: it loads TensorFlow, and sets what TensorFlow reads while it loads.
"""

import ctypes
import logging
import os
import platform
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from common.errors import MAX_QUOTED, UserError

_CPU_INFO = Path("/proc/cpuinfo")
# with the Python that runs now, for `pip` alone may be that of another environment
_INSTALL = f"{sys.executable} -m pip install 'tensorflow[and-cuda]'"


@contextmanager
def _silent() -> Iterator[None]:
    """Keeps TensorFlow's start-up messages off the console, unless the user has set a log level.

    The level alone does not silence them, because some are logged before it is read. Errors still
    arrive, as Python's exceptions.
    """
    if "TF_CPP_MIN_LOG_LEVEL" in os.environ:
        yield
        return
    # 2 would let "failed call to cuInit" pass on a machine without a GPU
    os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
    stderr, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    try:
        yield
    finally:
        os.dup2(stderr, 2)
        os.close(stderr)
        os.close(nowhere)
        if "ipykernel" in sys.modules:  # programs that a notebook starts are not to inherit it
            del os.environ["TF_CPP_MIN_LOG_LEVEL"]


# Matplotlib logs missing fonts and folders that it cannot write to; neither matters here.
logging.getLogger("matplotlib").setLevel(logging.ERROR)
# A notebook hands its own backend to the programs that a cell starts. Matplotlib, which Keras
# imports, fails where the package of that backend is missing.
_backend = os.environ.get("MPLBACKEND", "")
if _backend.startswith("module://") and not find_spec(_backend[9:].split(".")[0]):
    del os.environ["MPLBACKEND"]
# Take a GPU's memory as it is needed, and leave the rest to others.
os.environ.setdefault("TF_FORCE_GPU_ALLOW_GROWTH", "true")
# TensorFlow uses oneDNN's CPU kernels only where there is AVX512_VNNI or better. With AVX2 alone a
# step takes 1.6 times as long without them.
if platform.machine() in ("x86_64", "AMD64"):
    os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")
# HDF5 locks each file that it opens, which many network file systems refuse.
os.environ.setdefault("HDF5_USE_FILE_LOCKING", "FALSE")
# The listings assume TensorFlow and Keras's defaults, and the user's keras.json may name others.
os.environ["KERAS_BACKEND"] = "tensorflow"
with _silent():
    import keras
    import tensorflow as tf
keras.config.set_floatx("float32")
keras.config.set_epsilon(1e-7)
keras.config.set_image_data_format("channels_last")


def check_device(precision: str, xla: bool, batch_size: int) -> None:
    """Checks that the device can do what a training needs, and prints a line that names it."""
    gpu = _gpu_details()
    if precision == "float16" and gpu is None:
        raise UserError(
            "argument --precision: float16 given, which needs a GPU, and TensorFlow finds none: "
            "give bfloat16 or float32, or train on a machine with a GPU"
        )
    if xla and gpu is None:
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
    # GPUs since Ampere round the factors of float32 products to TF32, unless TensorFlow forbids it
    ampere = gpu is not None and gpu.get("compute_capability", (0, 0)) >= (8, 0)
    tf32 = ampere and tf.config.experimental.tensor_float_32_execution_enabled()
    note = " (TF32)" if tf32 and precision == "float32" else ""
    print(f"running on {device_name()}, convolutions in {precision}{note}", flush=True)
    _, instructions = _cpu()
    has_bfloat16 = instructions & {"avx512_bf16", "amx_bf16", "bf16"}  # the last one is ARM's
    if precision == "bfloat16" and gpu is None and not has_bfloat16:
        print(
            "warning: bfloat16 will be many times slower than float32: this CPU has no "
            "instructions for it",
            file=sys.stderr,
        )


def print_faster_flags() -> None:
    """Names the flags with which a step is faster on this device, as benchmarks/RESULTS.md says."""
    _, instructions = _cpu()
    if _gpu_details() is not None:
        faster = "--engine compiled is the fast way here"
    elif "avx512_bf16" in instructions:
        faster = "--engine compiled --precision bfloat16 takes about 60% of the time here"
    elif "avx2" in instructions:
        faster = "--engine compiled takes about 90% of the time here"
    else:
        return
    print(f"{faster} (see README, Speed)", flush=True)


def device_name() -> str:
    """The name of the device that everything runs on."""
    gpu = _gpu_details()
    if gpu is not None:
        return gpu.get("device_name", "GPU")
    # those that this process may use, as after taskset
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return f"CPU: {_cpu()[0]}, {cores} cores"


def cpu_memory() -> int:
    """The bytes of memory of this machine; 0 where it is not known, or TensorFlow uses a GPU.

    On a GPU TensorFlow raises a ResourceExhaustedError; on a CPU the process is killed, or crashes.
    """
    if _gpu_details() is not None or not hasattr(os, "sysconf"):
        return 0
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def _gpu_details() -> dict[str, Any] | None:
    """What TensorFlow knows of the first GPU; None if it uses none."""
    gpus = tf.config.list_physical_devices("GPU")
    return tf.config.experimental.get_device_details(gpus[0]) if gpus else None


def _cpu() -> tuple[str, set[str]]:
    """The name of the CPU and, on Linux, its sets of instructions."""
    info = _CPU_INFO.read_text() if _CPU_INFO.exists() else ""
    name = re.search(r"^model name\s*: (.+)", info, re.MULTILINE)
    flags = re.search(r"^(flags|Features)\s*: (.+)", info, re.MULTILINE)
    return name[1] if name else platform.machine(), set(flags[2].split() if flags else ())


def seed_everything(seed: int) -> np.random.Generator:
    """Makes a run repeatable: the same seed gives the same weights, bit for bit.

    Returns:
        The random generator that draws all noise, labels and batches. Keras's initial weights
        depend on the seed, too.
    """
    keras.utils.set_random_seed(seed)
    tf.config.experimental.enable_op_determinism()
    return np.random.default_rng(seed)


def silence() -> None:
    """Discards all further output; warnings and errors go to stderr and still appear."""
    sys.stdout = open(os.devnull, "w")  # noqa: SIM115  # `restored` closes it
    keras.config.disable_interactive_logging()  # summaries take another way in a notebook


@contextmanager
def restored() -> Iterator[None]:
    """Leaves the process as it was, because a notebook or a thread may call `main`.

    Seeds and determinism are not taken back.
    """
    stdout, logs = sys.stdout, keras.config.is_interactive_logging_enabled()
    try:
        yield
    finally:
        if sys.stdout is not stdout:
            sys.stdout.close()
            sys.stdout = stdout
        if logs:
            keras.config.enable_interactive_logging()
        if tf.distribute.has_strategy():
            tf.distribute.experimental_set_strategy(None)


def unused_gpu() -> str | None:
    """Says in one line why TensorFlow does not use an NVIDIA GPU, and what to do.

    TensorFlow's own messages say so in many lines, which are kept off the console.

    Returns:
        None if TensorFlow uses a GPU, CUDA_VISIBLE_DEVICES hides it, or there is none, as far as
        nvidia-smi, which comes with the driver, tells.
    """
    is_visible = re.match(r"\d|GPU-|MIG-", os.environ.get("CUDA_VISIBLE_DEVICES", "0"))
    if not is_visible or tf.config.list_physical_devices("GPU"):
        return None
    found = ""
    with suppress(OSError):
        found = subprocess.run(["nvidia-smi", "-q"], capture_output=True, text=True).stdout
    if name := re.search(r"Product Name *: (.+)", found):
        return f"the CPU is used, not {name[1]}: {_reason(found)}"
    if found and "No devices" not in found:
        return (
            "the CPU is used, not the NVIDIA GPU, whose driver says "
            f"'{' '.join(found.split())[:MAX_QUOTED]}': restart the machine, or install the driver"
        )
    return None


def _reason(found: str) -> str:
    """Why TensorFlow does not use the GPU that nvidia-smi has found, and what to do."""
    build = tf.sysconfig.get_build_info()
    if not build["is_cuda_build"]:
        return f"this TensorFlow is built without CUDA: {_INSTALL} (on Windows, inside WSL2)"
    cuda = build["cuda_version"].split(".")[0]
    supported = re.search(r"CUDA Version *: ((\d+)\.\d+)", found)
    if supported and int(supported[2]) < int(cuda):
        return (
            f"its driver supports CUDA {supported[1]}, and TensorFlow needs CUDA {cuda}: install a "
            "newer driver"
        )
    libraries = [f"libcudart.so.{cuda}", f"libcublas.so.{cuda}"]
    libraries += [f"libcudnn.so.{build['cudnn_version']}"]
    missing = [library for library in libraries if not _is_found(library)]
    if missing:
        return f"TensorFlow does not find {', '.join(missing)}: {_INSTALL}"
    return (
        "TensorFlow does not list it: TF_CPP_MIN_LOG_LEVEL=0 python -c 'import tensorflow as tf; "
        "tf.config.list_physical_devices()' shows its own messages"
    )


def _is_found(library: str) -> bool:
    """Whether a library is on the system, or in a package of NVIDIA's beside TensorFlow."""
    try:
        return bool(ctypes.CDLL(library))
    except OSError:
        return any(Path(tf.__file__).parent.parent.glob(f"nvidia/*/lib/{library}"))


def gpu_failure(error: tf.errors.OpError) -> str | None:
    """What to do about an error of the GPU's libraries, in one line; None if it is another one."""
    said = re.search(r"[^\n]*(DNN|CUDA|BLAS)[^\n]*", str(error))
    if said is None or not tf.config.list_physical_devices("GPU"):
        return None
    return (
        f"the GPU's libraries have failed ({said[0].strip()[:MAX_QUOTED]}): free the GPU of other "
        f"programs, or update its driver and the libraries, {_INSTALL}; with "
        "TF_CPP_MIN_LOG_LEVEL=0 before it the same command shows TensorFlow's own messages"
    )
