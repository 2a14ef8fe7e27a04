"""The ground under everything: console, backend, seeds."""

import json
import os
import platform
import re
import subprocess
import sys

import keras
import numpy as np
import pytest
from tensorflow.python.framework.config import is_op_determinism_enabled

from common import runtime
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


def test_a_users_log_level_wins():
    done = run_python(
        "from common import runtime; import os; print(os.environ['TF_CPP_MIN_LOG_LEVEL'])",
        TF_CPP_MIN_LOG_LEVEL="0",
    )
    assert done.stdout == "0\n"
    assert re.search(r"^I\d{4} ", done.stderr, re.MULTILINE)


def test_only_greetings_are_kept_back(capfd, monkeypatch):
    monkeypatch.delenv("TF_CPP_MIN_LOG_LEVEL")
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
    [({}, "1 True\n"), ({"TF_ENABLE_ONEDNN_OPTS": "0"}, "0 False\n")],
    ids=["by default", "a user's setting wins"],
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
