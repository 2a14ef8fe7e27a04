"""The line about a GPU that cannot be used, under a driver that pretends there is one."""

import os
import shlex
import shutil
import subprocess
import sys
from importlib.util import find_spec

import pytest

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


@pytest.mark.skipif(find_spec("nvidia") is not None, reason="CUDA's libraries are installed")
def test_what_a_gpu_lacks_is_said(driver):
    code = SAY.format(pretended=[pretended for pretended, _ in CASES])
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, env=driver, capture_output=True, text=True
    )
    assert done.stderr == ""
    assert done.stdout.splitlines() == [str(said) for _, said in CASES]


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


def test_no_word_where_there_is_no_gpu(capfd):
    if os.path.exists("/dev/nvidia0"):
        pytest.skip("there is one")
    assert unused_gpu() is None
    assert capfd.readouterr() == ("", "")
