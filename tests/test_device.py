"""The ground under everything: console, backend, seeds, and why a GPU is not used."""

import os
import platform
import re
import signal
import subprocess
import sys
import threading
import warnings

import keras
import numpy as np
import pytest
import tensorflow as tf
from tensorflow.python.framework.config import is_op_determinism_enabled

import dcgan_mnist
from common import device
from common.cli import CommandParser
from conftest import ENVIRONMENT, ROOT
from processes import HANG_SECONDS

IMPORT = "from common import device; import os, keras; device.tf.constant(1) + 1; "


def run_python(*arguments: str, **environment: str) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=ROOT,
        env=ENVIRONMENT | environment,
        capture_output=True,
        text=True,
        timeout=HANG_SECONDS,
    )


@pytest.mark.parametrize(
    ("before", "environment", "level"),
    [
        pytest.param("", {}, "3", id="in a program"),
        # the programs that its cells start are to choose anew
        pytest.param("import sys; sys.modules['ipykernel'] = sys; ", {}, "None", id="a notebook"),
        pytest.param("", {"TF_CPP_MIN_LOG_LEVEL": "0"}, "0", id="a level of the user's own"),
    ],
)
def test_tensorflow_loads_silently(before, environment, level):
    """But not where a user has set the level."""
    code = before + IMPORT + "print(os.environ.get('TF_CPP_MIN_LOG_LEVEL'))"
    done = run_python("-c", code, **environment)
    assert (done.returncode, done.stdout) == (0, f"{level}\n")
    if environment:
        assert re.search(r"^I\d{4} |: I tensorflow", done.stderr, re.MULTILINE)
    else:
        assert done.stderr == ""


@pytest.mark.skipif(
    platform.machine() not in ("x86_64", "AMD64"), reason="what is chosen is for x86 alone"
)
def test_convolutions_are_onednns():
    code = IMPORT + "from tensorflow.python.util import _pywrap_util_port as p; "
    done = run_python("-c", code + "print(p.IsMklEnabled())")
    assert done.stdout == "True\n", done.stderr


def test_the_users_keras_configuration_does_not_matter(tmp_path):
    (tmp_path / "keras.json").write_text(
        '{"backend": "jax", "floatx": "float64", "epsilon": 1e-3, '
        '"image_data_format": "channels_first"}'
    )
    code = IMPORT + (
        "print(keras.backend.backend(), keras.config.floatx(), keras.config.epsilon(), "
        "keras.config.image_data_format(), keras.layers.Dense(1).compute_dtype)"
    )
    done = run_python("-c", code, KERAS_HOME=str(tmp_path), KERAS_BACKEND="jax")
    assert done.stdout == "tensorflow float32 1e-07 channels_last float32\n", done.stderr


@pytest.mark.parametrize(
    "environment",
    [
        pytest.param({"HOME": "/proc/nowhere"}, id="no home folder"),
        # as a notebook has it, where the program's environment lacks the package
        pytest.param(
            {"MPLBACKEND": "module://nowhere.backend"},
            id="a notebook's backend",
            marks=pytest.mark.slow,
        ),
    ],
)
def test_environments_in_which_it_draws(environment, tmp_path):
    flags = ("-g", "pretrained/dcgan_mnist.h5", "--seed=0", f"--outdir={tmp_path}", "--no-show")
    done = run_python("dcgan_mnist.py", *flags, **environment)
    picture = tmp_path / "test_outputs" / "00000.png"
    assert (done.stdout, done.stderr) == (f"written to {picture}\n", "")
    assert picture.exists()


def draw(seed):
    rng = device.seed_everything(seed)
    layer = keras.layers.Dense(3)
    layer.build((None, 4))
    return np.append(rng.random(5), layer.kernel.numpy())


def test_a_seed_repeats_everything():
    np.testing.assert_array_equal(draw(7), draw(7))
    assert not np.isin(draw(7), draw(8)).any()
    assert is_op_determinism_enabled()


def test_a_mistake_is_found_before_tensorflow_is_loaded(tmp_path):
    """Neither it nor Keras can be imported here."""
    (tmp_path / "tensorflow.py").write_text("raise AssertionError('loaded')")
    (tmp_path / "keras.py").write_text("raise AssertionError('loaded')")
    for flag, status in (("--epochs=3", 2), ("--help", 0)):
        done = run_python("dcgan_mnist.py", flag, PYTHONPATH=str(tmp_path))
        assert (done.returncode, "loaded" in done.stderr) == (status, False)


def test_without_tensorflow():
    """One line says how to install it."""
    done = run_python("-S", "dcgan_mnist.py", PYTHONPATH="")  # no installed packages
    assert (done.returncode, done.stdout) == (2, "")
    (line,) = done.stderr.splitlines()
    assert line.startswith("dcgan_mnist.py: error: TensorFlow is not installed in this Python: ")


def test_the_process_stays_as_it_was(tmp_path, data, capsys):
    """A notebook may call `main`, also in a thread; --quiet is quiet there."""

    def state():
        sigint = signal.getsignal(signal.SIGINT)
        return sys.stdout, sigint, list(warnings.filters), dict(os.environ)

    before = state()
    flags = [f"--data={data}", "--train-steps=2", "--batch-size=4", "--quiet"]
    ends = []

    def train(name, *more):
        dcgan_mnist.main([*flags, f"--outdir={tmp_path / name}", *more])
        ends.append(name)

    train("a")
    train("b", "--strategy=mirrored", "--devices=CPU:0")
    thread = threading.Thread(target=train, args=("c",))
    thread.start()
    thread.join()
    assert ends == ["a", "b", "c"]
    assert not tf.distribute.has_strategy()
    assert state() == before
    assert keras.config.is_interactive_logging_enabled()
    assert capsys.readouterr().out == ""


# What nvidia-smi prints, and what is said of it.
REPORT = "Driver Version : 1.2\nCUDA Version : {cuda}\nGPU 00:1\n    Product Name : NVIDIA T4\n"
UNUSED = [
    (None, None),
    ("No devices were found", None),
    (
        "Failed to initialize NVML: Driver/library version mismatch\nNVML library version: 5\n",
        "the NVIDIA GPU, whose driver says 'Failed to initialize NVML: Driver/library version "
        "mismatch NVML library version: 5': restart the machine, or install the driver",
    ),
    (
        REPORT.format(cuda="11.4"),
        "NVIDIA T4: its driver supports CUDA 11.4, and TensorFlow needs CUDA 12: install a newer "
        "driver",
    ),
    (
        REPORT.format(cuda="13.0"),
        "NVIDIA T4: TensorFlow does not find libcublas.so.12, libcudnn.so.9: "
        f"{sys.executable} -m pip install 'tensorflow[and-cuda]'",
    ),
]


@pytest.fixture
def gpu(tmp_path, monkeypatch):
    """Pretends that there is a GPU: `gpu(what nvidia-smi prints)`."""
    build = {"is_cuda_build": True, "cuda_version": "12.5.1", "cudnn_version": "9"}
    monkeypatch.setattr(device.tf.config, "list_physical_devices", lambda kind: [])
    monkeypatch.setattr(device.tf.sysconfig, "get_build_info", lambda: build)
    monkeypatch.setattr(device, "_is_found", lambda library: "cudart" in library)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)

    def pretend(printed):
        if printed is not None:
            command = tmp_path / "nvidia-smi"
            command.write_text(f"#!{sys.executable}\nprint({printed!r})\n")
            command.chmod(0o755)

    return pretend


@pytest.mark.parametrize(("printed", "said"), UNUSED)
def test_why_a_gpu_is_not_used(gpu, printed, said, monkeypatch):
    gpu(printed)
    assert device.unused_gpu() == (said and f"the CPU is used, not {said}")
    for hidden in ("", "-1", "NoDevFiles"):
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", hidden)
        assert device.unused_gpu() is None


def test_who_asks_for_a_gpu_is_told_why_it_is_not_used(gpu, tmp_path, capsys):
    """Before what is asked for is refused."""
    printed, said = UNUSED[3]
    gpu(printed)
    with pytest.raises(SystemExit) as stopped:
        dcgan_mnist.main(["--precision=float16", f"--outdir={tmp_path}"])
    assert stopped.value.code == 2
    warning, error = capsys.readouterr().err.splitlines()
    assert warning == f"warning: the CPU is used, not {said}"
    assert error.startswith(
        "dcgan_mnist.py: error: argument --precision: float16 given, which needs a GPU"
    )


def test_errors_of_its_libraries(monkeypatch, capsys):
    """End in one line; TensorFlow's other errors are bugs, and keep their traceback."""
    said = "Graph execution error:\n\nDNN library initialization failed. Look at the errors above."
    failed = tf.errors.FailedPreconditionError(None, None, said)
    parser = CommandParser("program.py", "does something")
    monkeypatch.setattr(tf.config, "list_physical_devices", lambda kind: ["a GPU"])
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
