"""The ground under everything: console, backend, seeds."""

import json
import os
import platform
import random
import re
import signal
import subprocess
import sys
import threading
import warnings
from importlib.util import find_spec

import keras
import numpy as np
import pytest
from tensorflow.python.framework.config import is_op_determinism_enabled

import dcgan_mnist
from common import runtime, startup
from conftest import ENVIRONMENT, ROOT


def run_python(code: str, **environment: str) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        env=ENVIRONMENT | environment,
        capture_output=True,
        text=True,
        timeout=120,
    )


def test_tensorflow_loads_silently():
    done = run_python("from common import runtime; runtime.tf.constant(1) + 1")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@pytest.mark.slow
def test_a_users_log_level_wins():
    done = run_python(
        "from common import runtime; import os; print(os.environ['TF_CPP_MIN_LOG_LEVEL'])",
        TF_CPP_MIN_LOG_LEVEL="0",
    )
    assert done.stdout == "0\n"
    assert re.search(r"^I\d{4} ", done.stderr, re.MULTILINE)


def test_only_greetings_are_kept_back(capfd, monkeypatch):
    monkeypatch.delenv("TF_CPP_MIN_LOG_LEVEL", raising=False)
    with runtime._quiet_import():
        os.write(2, b"I0000 00:00:1.2 3 port.cc:153] oneDNN custom operations are on.\n")
        os.write(2, b"E0000 00:00:1.2 3 dso.cc:9] the driver is too old\n")
        os.write(2, b"a Python warning\n")
    assert capfd.readouterr().err.splitlines() == [
        "E0000 00:00:1.2 3 dso.cc:9] the driver is too old",
        "a Python warning",
    ]


@pytest.mark.skipif(
    platform.machine() not in ("x86_64", "AMD64"), reason="what is chosen is for x86 alone"
)
@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        pytest.param({}, "1 True\n", id="by default"),
        pytest.param(
            {"TF_ENABLE_ONEDNN_OPTS": "0"},
            "0 False\n",
            id="a user's setting wins",
            marks=pytest.mark.slow,
        ),
    ],
)
def test_convolutions_are_onednns(environment, expected):
    code = (
        "from common import runtime; import os; "
        "from tensorflow.python.util._pywrap_util_port import IsMklEnabled; "
        "print(os.environ['TF_ENABLE_ONEDNN_OPTS'], IsMklEnabled())"
    )
    done = run_python(code, **environment)
    assert done.stdout == expected, done.stderr


def test_a_failing_import_is_not_hidden():
    code = "import sys; sys.modules['tensorflow'] = None; from common import runtime"
    done = run_python(code)
    assert done.returncode == 1
    assert "tensorflow" in done.stderr.splitlines()[-1]


def test_the_users_keras_configuration_does_not_matter(tmp_path):
    (tmp_path / "keras.json").write_text(
        json.dumps(
            {
                "backend": "jax",
                "floatx": "float64",
                "epsilon": 1e-3,
                "image_data_format": "channels_first",
            }
        )
    )
    code = (
        "from common import runtime; import keras; "
        "print(keras.backend.backend(), keras.config.floatx(), keras.config.epsilon(), "
        "keras.config.image_data_format(), keras.layers.Dense(1).compute_dtype)"
    )
    done = run_python(code, KERAS_HOME=str(tmp_path), KERAS_BACKEND="jax")
    assert done.stdout == "tensorflow float32 1e-07 channels_last float32\n", done.stderr


def draw(seed):
    rng = runtime.seed_everything(seed)
    layer = keras.layers.Dense(3)
    layer.build((None, 4))
    return np.append(rng.random(5), layer.kernel.numpy())


def test_a_seed_repeats_everything():
    np.testing.assert_array_equal(draw(7), draw(7))
    assert not np.isin(draw(7), draw(8)).any()
    assert is_op_determinism_enabled()


def test_without_a_seed_every_run_is_new():
    assert not np.isin(draw(None), draw(None)).any()


@pytest.mark.parametrize(
    "backend",
    [
        "module://matplotlib_inline.backend_inline",
        pytest.param("nonsense", marks=pytest.mark.slow),
    ],
)
def test_a_backend_that_is_not_there_does_not_matter(backend):
    code = (
        "from common import runtime; import os, matplotlib.pyplot as plt; plt.figure();"
        "print(os.environ['MPLBACKEND'], plt.get_backend())"
    )
    done = run_python(code, MPLBACKEND=backend)
    # the first one is there where ipykernel is installed
    used = backend if "inline" in backend and find_spec("matplotlib_inline") else "agg"
    assert (done.stdout, done.stderr) == (f"{backend} {used}\n", "")


def test_programs_that_a_notebook_starts_inherit_nothing():
    code = (
        "import sys, os; sys.modules['ipykernel'] = sys; from common import runtime;"
        "print(os.environ.get('TF_CPP_MIN_LOG_LEVEL')); runtime.tf.constant(1) + 1"
    )
    done = run_python(code)
    assert (done.stdout, done.stderr) == ("None\n", "")


@pytest.mark.parametrize(
    "command", [["dcgan_mnist.py"], ["-m", "common.evaluation.classifier"]], ids=" ".join
)
def test_a_mistake_is_found_before_tensorflow_is_loaded(tmp_path, command):
    """There is none here, nor anything else that is slow."""
    (tmp_path / "tensorflow.py").write_text("raise AssertionError('loaded')")
    (tmp_path / "keras.py").write_text("raise AssertionError('loaded')")
    for flag, status in (("--epochs=3", 2), ("--help", 0)):
        done = subprocess.run(
            [sys.executable, *command, flag],
            cwd=ROOT,
            env=ENVIRONMENT | {"PYTHONPATH": str(tmp_path)},
            capture_output=True,
            text=True,
        )
        assert (done.returncode, "loaded" in done.stderr) == (status, False)


@pytest.mark.parametrize("name", ["dcgan_mnist", "cgan_mnist"])
def test_python_that_does_not_look_beside_the_program(tmp_path, name):
    """As with its switch -P."""
    done = subprocess.run(
        [sys.executable, ROOT / f"{name}.py", "--help"],
        cwd=tmp_path,
        env=ENVIRONMENT | {"PYTHONSAFEPATH": "1", "PYTHONPATH": ""},
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_without_tensorflow():
    """One line says how to install it, also in place of the help."""
    done = subprocess.run(
        [sys.executable, "-S", "dcgan_mnist.py", "--help"],  # without installed packages
        cwd=ROOT,
        env={name: value for name, value in ENVIRONMENT.items() if name != "PYTHONPATH"},
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stdout) == (2, "")
    (line,) = done.stderr.splitlines()
    assert line.startswith("TensorFlow is not installed in this Python: run the program with make")


def test_the_process_stays_as_it_was(tmp_path, small_data, capsys):
    """A notebook may call `main`, also in a thread; --quiet is quiet there."""
    startup.loaded()

    def state():
        numbers = random.getstate(), np.random.get_state(legacy=False)["state"]["key"].tolist()
        hooks = sys.excepthook, threading.excepthook, signal.getsignal(signal.SIGINT)
        return sys.stdout, hooks, list(warnings.filters), dict(os.environ), numbers

    before = state()
    np.savez(tmp_path / "set.npz", x_train=small_data[0], y_train=small_data[1])
    flags = [f"--data={tmp_path / 'set.npz'}", "--train-steps=2", "--batch-size=4", "--quiet"]
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
    assert not runtime.tf.distribute.has_strategy()
    assert state() == before
    assert keras.config.is_interactive_logging_enabled()
    assert capsys.readouterr().out == ""
