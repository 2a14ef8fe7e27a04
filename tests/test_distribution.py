"""Several devices and several workers: real processes on this machine, on loopback."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

import dcgan_mnist
from common.errors import UserError
from common.training import distribution
from conftest import ENVIRONMENT, ROOT, assert_same_run, history

MULTIWORKER = "--strategy=multiworker"
FLAGS = (
    *("--data=../set.npz", "--batch-size=4", "--seed=2"),
    *("--train-steps=60", "--save-interval=20", "--checkpoint-interval=6", "--log-interval=1"),
)
# The program with steps that take a while, so that a signal can find it in the middle of its run.
SLOWLY = f"""
import sys, time
sys.path.insert(0, {str(ROOT)!r})
import dcgan_mnist
from common.gan.step import CompiledStep
step = CompiledStep.__call__
CompiledStep.__call__ = lambda self, count: time.sleep(0.2) or step(self, count)
dcgan_mnist.main()
"""


def addresses(count: int) -> list[str]:
    """Of ports that nobody listens on."""
    sockets = [socket.socket() for _ in range(count)]
    for opened in sockets:
        opened.bind(("127.0.0.1", 0))
    found = [f"127.0.0.1:{opened.getsockname()[1]}" for opened in sockets]
    for opened in sockets:
        opened.close()
    return found


def spawn(folder: Path, program: list, environment: dict | None = None) -> subprocess.Popen:
    folder.mkdir(exist_ok=True)
    return subprocess.Popen(
        [sys.executable, *map(str, program)],
        cwd=folder,
        env=ENVIRONMENT | (environment or {}),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def spawn_workers(folders: list[Path], program: list) -> list[subprocess.Popen]:
    """One worker in each folder; the first one is the chief."""
    cluster = {"worker": addresses(len(folders))}
    configs = [
        {"cluster": cluster, "task": {"type": "worker", "index": i}} for i in range(len(folders))
    ]
    return [
        spawn(folder, program, {"TF_CONFIG": json.dumps(config)})
        for folder, config in zip(folders, configs, strict=True)
    ]


def finish(processes: list[subprocess.Popen]) -> list[tuple[int, str, str]]:
    """Status, output and errors of each."""
    ends = [process.communicate(timeout=240) for process in processes]
    return [(p.returncode, *end) for p, end in zip(processes, ends, strict=True)]


# What N replicas compute, against what one device computes.

SCRIPT = ROOT / "tests" / "replicas.py"
# In float64 too, which takes long, where the replicas are fewest: devices and workers, once each.
TOLERANCES = {"float32": 1e-3, "float64": 1e-6}
STRATEGIES = {
    "mirrored over 2": (1, "float32,float64", "--strategy=mirrored", "--devices=CPU:0,CPU:1"),
    "mirrored over 4": (1, "float32", "--strategy=mirrored", "--devices=CPU:0,CPU:1,CPU:2,CPU:3"),
    "2 workers": (2, "float32,float64", MULTIWORKER),
    "3 workers": (3, "float32", MULTIWORKER),
}


@pytest.fixture(scope="module")
def one_device(tmp_path_factory):
    folder = tmp_path_factory.mktemp("one")
    (status, _, err) = finish([spawn(folder, [SCRIPT, folder, 12, "float32,float64"])])[0]
    assert status == 0, err
    return folder


@pytest.fixture(scope="module", params=STRATEGIES)
def replicated(request, tmp_path_factory):
    """`(folder, count, dtypes)`: what the workers of a strategy have written, and how many."""
    folder = tmp_path_factory.mktemp("many")
    count, dtypes, *flags = STRATEGIES[request.param]
    ends = finish(spawn_workers([folder] * count, [SCRIPT, folder, 12, dtypes, *flags]))
    assert [status for status, _, _ in ends] == [0] * count, ends[-1][2]
    return folder, count, dtypes.split(",")


@pytest.mark.parametrize("name", ["dcgan", "cgan"])
def test_synchronized_replicas_compute_what_one_device_computes(one_device, replicated, name):
    folder, _, dtypes = replicated
    # float64 shows that it is the same computation, but for the order of sums; in float32 RMSprop
    # makes much of rounding: its first steps are as long for a gradient of 1e-8 as for one of 1
    for dtype in dtypes:
        file = f"{name}-synchronized-{dtype}-0.npz"
        with np.load(one_device / file) as expected, np.load(folder / file) as found:
            losses = expected["figures"][:, [0, 2]]
            assert len(np.unique(losses)) == 20
            np.testing.assert_allclose(found["figures"][:, [0, 2]], losses, rtol=TOLERANCES[dtype])
            if dtype == "float64":
                arrays = [array for array in expected.files if array != "figures"]
                assert len(arrays) >= 26 + 12 + 28
                for array in arrays:
                    np.testing.assert_allclose(found[array], expected[array], atol=1e-6, rtol=1e-6)


@pytest.mark.parametrize("name", ["dcgan", "cgan"])
def test_all_replicas_stay_equal_bit_for_bit(replicated, name):
    """Weights, moving statistics, optimizers; and all workers tell the same."""
    folder, count, dtypes = replicated
    for kind in ("own-float32", *(f"synchronized-{dtype}" for dtype in dtypes)):
        with np.load(folder / f"{name}-{kind}-0.npz") as first:
            expected = {array: first[array] for array in first.files}
        replicas = count
        for worker in range(count):
            with np.load(folder / f"{name}-{kind}-{worker}.npz") as found:
                replicas = max(replicas, len({array.split("/")[0] for array in found.files}) - 1)
                for array in found.files:
                    same_on_first = array if array == "figures" else f"0/{array.split('/')[1]}"
                    np.testing.assert_array_equal(
                        found[array], expected[same_on_first], err_msg=f"{kind} {array}"
                    )
        assert replicas >= 2


@pytest.mark.parametrize("name", ["dcgan", "cgan"])
def test_without_synchronization_d_starts_alike(one_device, replicated, name):
    folder, _, _ = replicated
    file = f"{name}-own-float32-0.npz"
    with np.load(one_device / file) as expected, np.load(folder / file) as found:
        np.testing.assert_allclose(found["figures"][0, :2], expected["figures"][0, :2], rtol=1e-5)
        # and from then on G's batch normalization tells: these are not the same computation
        assert abs(found["figures"][:, 2] / expected["figures"][:, 2] - 1).max() > 1e-3


# The programs.


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """A folder with a small data set."""
    folder = tmp_path_factory.mktemp("runs")
    rng = np.random.default_rng(0)
    images, labels = rng.integers(0, 256, (40, 8, 8), np.uint8), np.arange(40) % 10
    np.savez(folder / "set.npz", x_train=images, y_train=labels)
    return folder


@pytest.fixture(scope="module")
def two_workers(runs):
    """The chief's folder of a run on two workers that nothing happened to."""
    folders = [runs / "chief", runs / "other"]
    ends = finish(spawn_workers(folders, [ROOT / "dcgan_mnist.py", MULTIWORKER, *FLAGS]))
    assert [(status, err) for status, _, err in ends] == [(0, "")] * 2
    return ends, folders


def test_only_the_chief_writes_and_tells(two_workers):
    (chief, other), (chiefs_folder, others_folder) = two_workers
    lines = chief[1].splitlines()
    assert lines[0] == "2 replicas; worker 0 of 2, the chief"
    assert lines[-1].startswith("59: ")
    assert other[1] == "2 replicas; worker 1 of 2: the chief, worker 0, tells and writes\n"
    assert list(others_folder.iterdir()) == []
    assert len(history(chiefs_folder, "dcgan_mnist")) == 61


def wait_for_line(process: subprocess.Popen, start: str) -> None:
    for line in process.stdout:
        if line.startswith(start):
            return
    raise AssertionError(process.stderr.read())


@pytest.mark.parametrize("victim", ["chief", "other"])
def test_a_worker_is_killed(two_workers, runs, victim):
    """The other one ends and says so; resumed, the run ends as if nothing had happened."""
    _, (expected, _) = two_workers
    folders = [runs / f"{victim}-killed", runs / f"{victim}-killed-other"]
    processes = spawn_workers(folders, ["-c", SLOWLY, MULTIWORKER, *FLAGS])
    wait_for_line(processes[0], "20: ")
    processes[victim == "other"].kill()
    killed_at = time.monotonic()
    survivor = processes[victim == "chief"]
    _, err = survivor.communicate(timeout=100)
    assert time.monotonic() - killed_at < 60
    assert survivor.returncode == 2
    assert err == (
        "dcgan_mnist.py: error: another worker has ended, or has not answered within "
        "--worker-timeout: see what it says, and start all workers again with --resume\n"
    )
    program = [ROOT / "dcgan_mnist.py", MULTIWORKER, "--resume"]
    finish(processes[: victim == "chief"] or processes[1:])
    ends = finish(spawn_workers(folders, program))
    assert [(status, err) for status, _, err in ends] == [(0, "")] * 2
    assert_same_run(folders[0], expected, "dcgan_mnist")


def test_a_signal_to_one_worker_stops_all_of_them(two_workers, runs):
    _, (expected, _) = two_workers
    folders = [runs / "stopped", runs / "stopped-other"]
    processes = spawn_workers(folders, ["-c", SLOWLY, MULTIWORKER, *FLAGS])
    wait_for_line(processes[0], "20: ")
    processes[1].send_signal(signal.SIGTERM)
    ends = finish(processes)
    assert [status for status, _, _ in ends] == [128 + signal.SIGTERM] * 2
    assert all(err.startswith("stopped after ") for _, _, err in ends)
    assert 20 < len(history(folders[0], "dcgan_mnist")) - 1 < 60
    ends = finish(spawn_workers(folders, [ROOT / "dcgan_mnist.py", MULTIWORKER, "--resume"]))
    assert [(status, err) for status, _, err in ends] == [(0, "")] * 2
    assert_same_run(folders[0], expected, "dcgan_mnist")


def test_a_worker_that_never_arrives(runs):
    started = time.monotonic()
    chief, other = addresses(2)
    config = {"cluster": {"worker": [chief, other]}, "task": {"type": "worker", "index": 0}}
    program = [ROOT / "dcgan_mnist.py", MULTIWORKER, "--worker-timeout=3", *FLAGS]
    process = spawn(runs / "alone", program, {"TF_CONFIG": json.dumps(config)})
    status, _, err = finish([process])[0]
    assert time.monotonic() - started < 60
    assert status == -signal.SIGKILL
    assert err == (
        f"dcgan_mnist.py: error: not all of {other} have arrived within 3 s: see whether they run "
        "and can be reached from here, or give a longer --worker-timeout\n"
    )


def test_workers_with_other_data_are_refused(runs):
    rng = np.random.default_rng(1)
    np.savez(
        runs / "other.npz", x_train=rng.integers(0, 256, (9, 8, 8), np.uint8), y_train=range(9)
    )
    cluster = {"worker": addresses(2)}
    processes = [
        spawn(
            runs / f"data{i}",
            [ROOT / "dcgan_mnist.py", MULTIWORKER, *FLAGS, f"--data=../{data}.npz"],
            {"TF_CONFIG": json.dumps({"cluster": cluster, "task": {"type": "worker", "index": i}})},
        )
        for i, data in enumerate(("set", "other"))
    ]
    ends = finish(processes)
    assert [status for status, _, _ in ends] == [2, 2]
    assert "argument --data: ../other.npz is not the data set" in ends[1][2]
    assert "another worker has ended" in ends[0][2]


def test_a_run_moves_from_two_devices_to_one_and_back(runs):
    """With synchronization it is the same run, up to the order of sums."""
    program = ROOT / "dcgan_mnist.py"
    two = ("--strategy=mirrored", "--devices=CPU:0,CPU:1")
    for strategy, steps in ((two, 6), ((), 12), (two, 18)):
        start = ["--resume"] if steps > 6 else [*FLAGS, "--engine=compiled", "--sync-batchnorm"]
        command = [program, *start, *strategy, f"--train-steps={steps}"]
        assert finish([spawn(runs / "moved", command)])[0][::2] == (0, "")
    command = [program, *FLAGS, "--engine=compiled", "--train-steps=18"]
    assert finish([spawn(runs / "stayed", command)])[0][::2] == (0, "")
    moved, stayed = (history(runs / name, "dcgan_mnist") for name in ("moved", "stayed"))
    assert len(moved) == 19
    losses = [np.array(rows[1:], float)[:, [1, 3]] for rows in (moved, stayed)]
    np.testing.assert_allclose(*losses, rtol=0.02)
    file = "dcgan_mnist/checkpoints/00018.npz"
    with np.load(runs / "moved" / file) as a, np.load(runs / "stayed" / file) as b:
        assert {n: a[n].shape for n in a.files} == {n: b[n].shape for n in b.files}


# Mistakes.


def error_of(capsys, *flags: str) -> str:
    with pytest.raises(SystemExit) as stopped:
        dcgan_mnist.main([*flags])
    assert stopped.value.code == 2
    err = capsys.readouterr().err
    assert err.count("\n") == 1
    return err


@pytest.mark.parametrize(
    ("flags", "complaint"),
    [
        (["--strategy=mirrored", "--engine=train_on_batch"], "argument --engine: train_on_batch"),
        (["--devices=GPU:0"], "argument --devices: is for --strategy mirrored"),
        (["--strategy=mirrored", "--worker-timeout=9"], "argument --worker-timeout: is for"),
        (["--strategy=mirrored", "--devices=GPU:0,CPU:1"], "all of one kind"),
        (["--strategy=mirrored", "--devices=CPU:1,CPU:1"], "each device expected once"),
        (["--strategy=mirrored", "--devices=2"], "names like GPU:0,GPU:1 expected"),
        (["--strategy=mirrored", "--devices=GPU:77"], "GPU:77 given, and TensorFlow finds"),
        (["--strategy=multiworker"], "neither TF_CONFIG in the environment nor a Slurm step"),
        (["--generator=x.h5", "--strategy=mirrored"], "argument --strategy: is for training"),
    ],
)
def test_flags_that_do_not_fit(capsys, monkeypatch, tmp_path, flags, complaint):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("TF_CONFIG", raising=False)
    assert complaint in error_of(capsys, *flags)


WORKERS = '"cluster": {"worker": ["a:1", "b:1"]}'


@pytest.mark.parametrize(
    "config",
    [
        *("{", "[]", "{}", '{"cluster": {}, "task": {"type": "worker", "index": 0}}'),
        '{"cluster": {"worker": ["a:1", "a:1"]}, "task": {"type": "worker", "index": 0}}',
        '{"cluster": {"worker": ["a", "b:1"]}, "task": {"type": "worker", "index": 0}}',
        '{"cluster": {"worker": "a:1"}, "task": {"type": "worker", "index": 0}}',
        '{"cluster": {"ps": ["a:1"], "worker": ["b:1"]}, "task": {"type": "worker", "index": 0}}',
        *(f'{{{WORKERS}, "task": {task}}}' for task in ("{}", '{"type": "chief", "index": 0}')),
        f'{{{WORKERS}, "task": {{"type": "worker", "index": 2}}}}',
        f'{{{WORKERS}, "task": {{"type": "worker", "index": -1}}}}',
        f'{{{WORKERS}, "task": {{"type": "worker", "index": "first"}}}}',
    ],
)
def test_tf_configs_that_are_none(capsys, monkeypatch, tmp_path, config):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TF_CONFIG", config)
    assert f"TF_CONFIG is {config}: expected" in error_of(capsys, MULTIWORKER)


def test_batches_that_cannot_be_shared(runs):
    command = [ROOT / "dcgan_mnist.py", *FLAGS, "--batch-size=5", "--strategy=mirrored"]
    status, _, err = finish([spawn(runs / "five", [*command, "--devices=CPU:0,CPU:1"])])[0]
    assert status == 2
    assert err == (
        "dcgan_mnist.py: error: argument --batch-size: 5 given, which 2 replicas cannot share "
        "evenly: give a multiple of 2\n"
    )


def test_slurm_names_the_workers(monkeypatch):
    """As Slurm's documentation describes its variables, for two nodes with two tasks each."""
    monkeypatch.delenv("TF_CONFIG", raising=False)
    slurm = {
        "SLURM_JOB_ID": "4211",
        "SLURM_PROCID": "2",
        "SLURM_STEP_NUM_TASKS": "4",
        "SLURM_STEP_NODELIST": "gpu[07-08]",
        "SLURM_STEP_TASKS_PER_NODE": "2(x2)",
    }
    for name, value in slurm.items():
        monkeypatch.setenv(name, value)
    cluster, task = distribution._cluster_from_environment()
    assert cluster == {"worker": ["gpu07:24211", "gpu07:24212", "gpu08:24211", "gpu08:24212"]}
    assert task == {"type": "worker", "index": 2}
    assert json.loads(os.environ.pop("TF_CONFIG"))["task"] == task

    monkeypatch.setenv("SLURM_STEP_TASKS_PER_NODE", "many")
    with pytest.raises(UserError, match="cannot be read off Slurm's variables"):
        distribution._cluster_from_environment()
