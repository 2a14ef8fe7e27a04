"""Why TensorFlow does not use an NVIDIA GPU.

Its own messages say so in many lines, which are kept off the console.
"""

from __future__ import annotations

import ctypes
import os
import re
import shlex
import sys
from contextlib import suppress
from pathlib import Path

import tensorflow as tf

from common.errors import MAX_QUOTED

# What cuInit returns where there is no GPU, or CUDA_VISIBLE_DEVICES hides all; and where there is
# the library without a driver, as in a container.
_NO_DEVICE, _STUB_LIBRARY = 100, 34

# Where Linux lists what is plugged in, and NVIDIA's number and that of display controllers there.
_PCI_DEVICES, _NVIDIA, _DISPLAY = Path("/sys/bus/pci/devices"), "0x10de", "0x03"

# with the Python that runs now, for `pip` alone may be that of another environment
_INSTALL = f"{shlex.quote(sys.executable)} -m pip install 'tensorflow[and-cuda]'"
_SHOW_REASON = (
    "TF_CPP_MIN_LOG_LEVEL=0 python -c "
    "'import tensorflow as tf; tf.config.list_physical_devices()' shows TensorFlow's own messages"
)


def unused_gpu() -> str | None:
    """Says which GPU TensorFlow does not use, why, and what to do.

    Returns:
        One line; None if TensorFlow lists a GPU, the machine has none of NVIDIA's, or
        CUDA_VISIBLE_DEVICES hides them.
    """
    if tf.config.list_physical_devices("GPU"):
        return None
    try:
        driver = ctypes.CDLL("nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1")
        error = driver.cuInit(0)
        if error in (_NO_DEVICE, _STUB_LIBRARY):
            return None
        if error:
            return (
                "the CPU is used, not the NVIDIA GPU, whose driver says "
                f"{_words_for(driver, error)}: restart the machine, or install the driver again"
            )
        name = ctypes.create_string_buffer(100)
        if driver.cuDeviceGetName(name, len(name), 0):  # there is none
            return None
        supported = ctypes.c_int()
        driver.cuDriverGetVersion(ctypes.byref(supported))
    except (OSError, AttributeError):  # no driver, or a very old one
        if os.environ.get("CUDA_VISIBLE_DEVICES") in ("", "-1") or not _is_plugged_in():
            return None
        return (
            "the CPU is used, not the NVIDIA GPU, whose driver was not found: install it, or let "
            "the container see it (docker run --gpus all)"
        )
    gpu = name.value.decode(errors="replace")
    return f"the CPU is used, not {gpu}: {_reason(supported.value)}"


def _reason(supported: int) -> str:
    """Why TensorFlow cannot use a GPU whose driver supports a version of CUDA, 12050 for 12.5."""
    if sys.platform == "win32":
        return "TensorFlow uses no GPU on Windows: start the program inside WSL2"
    build = tf.sysconfig.get_build_info()
    if not build["is_cuda_build"]:
        return f"this TensorFlow is built without CUDA: {_INSTALL}"
    cuda = build["cuda_version"].split(".")[0]
    if supported // 1000 < int(cuda):
        version = f"{supported // 1000}.{supported % 1000 // 10}"
        return (
            f"its driver supports CUDA {version}, and TensorFlow needs CUDA {cuda}: install a "
            "newer driver"
        )
    libraries = [f"libcudart.so.{cuda}", f"libcublas.so.{cuda}"]
    libraries += [f"libcudnn.so.{build['cudnn_version']}"]
    missing = [library for library in libraries if not _is_found(library)]
    if missing:
        return f"TensorFlow does not find {', '.join(missing)}: {_INSTALL}"
    return f"TensorFlow does not list it: {_SHOW_REASON}"


def failure(error: tf.errors.OpError) -> str | None:
    """What to do about an error of the GPU's libraries, in one line.

    Args:
        error: Any of TensorFlow's.

    Returns:
        None if the error is another one.
    """
    said = re.search(r"[^\n]*(DNN|CUDA|BLAS)[^\n]*", str(error))
    if said is None or not tf.config.list_physical_devices("GPU"):
        return None
    return (
        f"the GPU's libraries have failed ({said[0].strip()[:MAX_QUOTED]}): free the GPU of other "
        f"programs, or update its driver and the libraries, {_INSTALL}; with "
        "TF_CPP_MIN_LOG_LEVEL=0 before it the same command shows TensorFlow's own messages"
    )


def _is_plugged_in() -> bool:
    """Whether Linux lists a GPU of NVIDIA's, which may have no driver, or another one's."""
    for device in _PCI_DEVICES.glob("*"):
        with suppress(OSError):
            kind = (device / "class").read_text()
            if (device / "vendor").read_text().strip() == _NVIDIA and kind.startswith(_DISPLAY):
                return True
    return False


def _is_found(library: str) -> bool:
    """Whether a library is on the system, or in a package of NVIDIA's beside TensorFlow."""
    try:
        ctypes.CDLL(library)
        return True
    except OSError:
        return any(Path(tf.__file__).parent.parent.glob(f"nvidia/*/lib/{library}"))


def _words_for(driver: ctypes.CDLL, error: int) -> str:
    """The driver's own words for an error."""
    text = ctypes.c_char_p()
    driver.cuGetErrorString(error, ctypes.byref(text))
    words = (text.value or b"").decode(errors="replace")
    return f"'{words}' (CUDA error {error})"
