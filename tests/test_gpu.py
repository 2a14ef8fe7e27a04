"""The line about a GPU that cannot be used, under a driver that pretends there is one."""

import os
import shlex
import shutil
import subprocess
import sys
from importlib.util import find_spec

import pytest
import tensorflow as tf

from common import gpu
from common.cli import CommandParser
from common.gpu import unused_gpu
from conftest import ENVIRONMENT, ROOT

# What the driver is told to pretend, and what is said of it.
CASES = [
    ({}, None),
    ({"DRIVER_ERROR": "100"}, None),  # what CUDA_VISIBLE_DEVICES hides
    (
        {"DRIVER_VERSION": "12040"},
        "the CPU is used, not Pretended GPU: TensorFlow does not find libcudart.so.12, "
        "libcublas.so.12, libcudnn.so.9: "
        f"{shlex.quote(sys.executable)} -m pip install 'tensorflow[and-cuda]'",
    ),
    (
        {"DRIVER_VERSION": "11040"},
        "the CPU is used, not Pretended GPU: its driver supports CUDA 11.4, and TensorFlow needs "
        "CUDA 12: install a newer driver",
    ),
    (
        {"DRIVER_ERROR": "803"},
        "the CPU is used, not the NVIDIA GPU, whose driver says 'no good' (CUDA error 803): "
        "restart the machine, or install the driver again",
    ),
]
SAY = """
import os
from common import runtime
from common.gpu import unused_gpu
for pretended in {pretended}:
    os.environ.update(DRIVER_VERSION="0", DRIVER_ERROR="0")
    os.environ.update(pretended)
    print(unused_gpu())
"""


@pytest.fixture(scope="module")
def driver(tmp_path_factory):
    """The environment of a process whose libcuda.so.1 is driver.c."""
    compiler = shutil.which("cc")
    if sys.platform != "linux" or compiler is None:
        pytest.skip("needs Linux and a C compiler")
    folder = tmp_path_factory.mktemp("driver")
    command = [compiler, "-shared", "-fPIC", "-o", folder / "libcuda.so.1"]
    subprocess.run([*command, ROOT / "tests" / "driver.c"], check=True)
    return ENVIRONMENT | {"LD_LIBRARY_PATH": str(folder)}


def test_what_a_gpu_lacks_is_said(driver):
    # in an environment with CUDA's libraries, such as PyTorch's, other ones are missing or none
    cases = [case for case in CASES if "libcudart" not in str(case) or not find_spec("nvidia")]
    code = SAY.format(pretended=[pretended for pretended, _ in cases])
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, env=driver, capture_output=True, text=True
    )
    assert done.stderr == ""
    assert done.stdout.splitlines() == [str(said) for _, said in cases]


def test_a_training_says_it_in_one_line(driver, tmp_path):
    command = [sys.executable, ROOT / "dcgan_mnist.py", "--train-steps=1", "--batch-size=4"]
    done = subprocess.run(
        [*command, f"--outdir={tmp_path}", "--evaluate-interval=0"],
        env=driver | {"DRIVER_VERSION": "11040"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0
    assert done.stderr.splitlines() == [f"warning: {CASES[3][1]}"]


def test_who_asks_for_a_gpu_is_told_as_well(driver, tmp_path):
    """Why the one that is there cannot be used, before what is asked for is refused."""
    command = [sys.executable, ROOT / "dcgan_mnist.py", "--precision=float16"]
    done = subprocess.run(
        [*command, f"--outdir={tmp_path}"],
        env=driver | {"DRIVER_VERSION": "11040"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 2
    warning, error = done.stderr.splitlines()
    assert warning == f"warning: {CASES[3][1]}"
    assert error.startswith(
        "dcgan_mnist.py: error: argument --precision: float16 given, which needs"
    )


def test_a_gpu_without_a_driver(tmp_path, monkeypatch):
    """Linux lists it among what is plugged in."""

    def no_driver(name):
        raise OSError(f"{name}: cannot open shared object file")

    def plug_in(slot, vendor, kind):
        (tmp_path / slot).mkdir()
        (tmp_path / slot / "vendor").write_text(f"{vendor}\n")
        (tmp_path / slot / "class").write_text(f"{kind}\n")

    monkeypatch.setattr(gpu.tf.config, "list_physical_devices", lambda kind: [])
    monkeypatch.setattr(gpu.ctypes, "CDLL", no_driver)
    monkeypatch.setattr(gpu, "_PCI_DEVICES", tmp_path)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    plug_in("0000:00:02.0", "0x8086", "0x030000")  # another vendor's
    plug_in("0000:01:00.2", "0x10de", "0x0c0330")  # a USB controller
    assert gpu.unused_gpu() is None
    plug_in("0000:01:00.0", "0x10de", "0x030200")
    assert gpu.unused_gpu() == (
        "the CPU is used, not the NVIDIA GPU, whose driver was not found: install it, or let the "
        "container see it (docker run --gpus all)"
    )
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "-1")
    assert gpu.unused_gpu() is None


def test_errors_of_its_libraries(monkeypatch, capsys):
    """End in one line; TensorFlow's other errors are bugs, and keep their traceback."""
    said = "Graph execution error:\n\nDNN library initialization failed. Look at the errors above."
    failed = tf.errors.FailedPreconditionError(None, None, said)
    parser = CommandParser("program.py", "does something")
    monkeypatch.setattr(gpu.tf.config, "list_physical_devices", lambda kind: [])
    with pytest.raises(tf.errors.OpError), parser.one_line_errors():
        raise failed  # no GPU, so no such library is used
    monkeypatch.setattr(gpu.tf.config, "list_physical_devices", lambda kind: ["a GPU"])
    with pytest.raises(SystemExit) as ended, parser.one_line_errors():
        raise failed
    assert ended.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(
        "program.py: error: the GPU's libraries have failed (DNN library initialization failed. "
        "Look at the errors above.): free the GPU of other programs, or update its driver"
    )
    with pytest.raises(tf.errors.InvalidArgumentError), parser.one_line_errors():
        raise tf.errors.InvalidArgumentError(None, None, "Incompatible shapes: [2] and [3]")


def test_no_word_where_there_is_no_gpu(capfd):
    if os.path.exists("/dev/nvidia0") or gpu._is_plugged_in():
        pytest.skip("there is one")
    assert unused_gpu() is None
    assert capfd.readouterr() == ("", "")
