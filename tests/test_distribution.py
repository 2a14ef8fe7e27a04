"""Several devices and several workers: real processes on this machine, on loopback."""

import functools
import json
import os
import signal
import socket
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

import dcgan_mnist
import replicas
from common.errors import UserError
from common.training import cluster
from common.training.cluster import cluster_from_environment
from common.training.compiled import CompiledStep
from common.training.rendezvous import wait_for_all
from conftest import assert_same_run, history
from processes import HANG_SECONDS, Process, run, spawn
from replicas import Experiment

slow = pytest.mark.slow

MULTIWORKER = "--strategy=multiworker"
FLAGS = (
    *("--data=../set.npz", "--batch-size=4", "--seed=2"),
    *("--train-steps=60", "--save-interval=20", "--checkpoint-interval=6", "--log-interval=1"),
)
PATIENT = f"--worker-timeout={HANG_SECONDS}"


def addresses(count: int) -> list[str]:
    """Of ports that nobody listens on."""
    sockets = [socket.socket() for _ in range(count)]
    for opened in sockets:
        opened.bind(("127.0.0.1", 0))
    found = [f"127.0.0.1:{opened.getsockname()[1]}" for opened in sockets]
    for opened in sockets:
        opened.close()
    return found


def environment_of(cluster: list[str], worker: int) -> dict[str, str]:
    """The environment of one of the workers at some addresses, which cannot share one GPU."""
    config = {"cluster": {"worker": cluster}, "task": {"type": "worker", "index": worker}}
    return {"TF_CONFIG": json.dumps(config), "CUDA_VISIBLE_DEVICES": "-1"}


def spawn_workers(folders: list[Path], program, *arguments, own=None) -> list[Process]:
    """One worker in each folder, the chief first; `own` are further arguments of each."""
    cluster = addresses(len(folders))
    own = own or [()] * len(folders)
    return [
        spawn(folder, program, *arguments, *more, environment=environment_of(cluster, worker))
        for worker, (folder, more) in enumerate(zip(folders, own, strict=True))
    ]


def finish(processes: list[Process]) -> list[tuple[int, str, str]]:
    """Status, output and errors of each."""
    ends = [process.communicate() for process in processes]
    return [(p.returncode, *end) for p, end in zip(processes, ends, strict=True)]


# What N replicas compute, against what one device computes.

CGAN, CGAN_64 = (Experiment("cgan", dtype, synchronized=True) for dtype in ("float32", "float64"))
EXPERIMENTS = [
    Experiment(program, dtype, synchronized)
    for program in ("dcgan", "cgan")
    for dtype, synchronized in (("float32", False), ("float32", True), ("float64", True))
]
BN_IN_D = Experiment("bn-in-d", "float64", synchronized=True)
# The number of workers, their strategy and devices, and what they take steps with: everything where
# the replicas are fewest, for devices and for workers; where there are more, what differs there.
STRATEGIES = {
    "mirrored over 2": (1, "mirrored", ["CPU:0", "CPU:1"], [*EXPERIMENTS, BN_IN_D]),
    "mirrored over 4": (1, "mirrored", ["CPU:0", "CPU:1", "CPU:2", "CPU:3"], [CGAN_64]),
    "2 workers": (2, "multiworker", None, EXPERIMENTS),
    "3 workers": (3, "multiworker", None, [CGAN_64]),
}
STEPS = 10
# For each dtype, how many steps are compared and up to which relative difference. float64 shows
# that it is the same computation, but for the order of sums. In float32 RMSprop makes much of
# rounding, since its first steps are as long for a gradient of 1e-8 as for one of 1: within ten
# steps some CPUs are 6e-3 apart.
COMPARED = {"float32": (3, 1e-3), "float64": (STEPS, 1e-6)}


def cases(of_interest):
    """For each strategy the experiments that are of interest."""
    return pytest.mark.parametrize(
        ("strategy", "experiment"),
        [
            pytest.param(strategy, experiment, id=f"{strategy}-{experiment.file()[:-6]}")
            for strategy, (*_, experiments) in STRATEGIES.items()
            for experiment in experiments
            if of_interest(experiment)
        ],
    )


@pytest.fixture(scope="module")
def one_device(tmp_path_factory):
    """The folder that one device has written to."""
    folder = tmp_path_factory.mktemp("one")
    experiments = [experiment for experiment in EXPERIMENTS if experiment.synchronized]
    experiments.append(BN_IN_D)
    status, _, err = run(folder, replicas.take_steps, folder, experiments, STEPS)
    assert status == 0, err
    return folder


@pytest.fixture(scope="module")
def replicated(tmp_path_factory):
    """Gives the folder that the workers of a strategy have written to."""

    @functools.cache
    def of(strategy: str) -> Path:
        folder = tmp_path_factory.mktemp("many")
        count, name, devices, experiments = STRATEGIES[strategy]
        arguments = (folder, experiments, STEPS, name, devices, HANG_SECONDS)
        ends = finish(spawn_workers([folder] * count, replicas.take_steps, *arguments))
        assert [status for status, _, _ in ends] == [0] * count, ends[-1][2]
        return folder

    return of


def assert_same_steps(expected, found, dtype: str) -> None:
    """That the losses of each step are the same, up to a relative difference."""
    steps, tolerance = COMPARED[dtype]
    losses, of_replicas = (run["metrics"][:steps, [0, 2]] for run in (expected, found))
    assert len(np.unique(losses)) == 2 * steps
    np.testing.assert_allclose(of_replicas, losses, rtol=tolerance)


def test_two_replicas_compute_what_one_device_computes(tmp_path):
    """The quick one of the tests below: two devices, the CGAN, a few steps."""
    one, two = tmp_path / "one", tmp_path / "two"
    strategies = {one: (), two: STRATEGIES["mirrored over 2"][1:3]}
    processes = [
        spawn(folder, replicas.take_steps, folder, [CGAN], 3, *strategy)
        for folder, strategy in strategies.items()
    ]
    assert [(status, err) for status, _, err in finish(processes)] == [(0, "")] * 2
    with np.load(one / CGAN.file()) as expected, np.load(two / CGAN.file()) as found:
        assert_same_steps(expected, found, "float32")


@slow
@cases(lambda experiment: experiment.synchronized)
def test_synchronized_replicas_compute_what_one_device_computes(
    one_device, replicated, strategy, experiment
):
    file = experiment.file()
    with np.load(one_device / file) as expected, np.load(replicated(strategy) / file) as found:
        assert_same_steps(expected, found, experiment.dtype)
        if experiment.dtype == "float64":
            arrays = [array for array in expected.files if array != "metrics"]
            assert len(arrays) >= 26 + 12 + 28
            for array in arrays:
                np.testing.assert_allclose(found[array], expected[array], atol=1e-6, rtol=1e-6)


@slow
@cases(lambda experiment: True)
def test_all_replicas_stay_equal_bit_for_bit(replicated, strategy, experiment):
    """Weights, moving statistics, optimizers; and all workers have the same metrics."""
    folder, workers = replicated(strategy), STRATEGIES[strategy][0]
    with np.load(folder / experiment.file()) as first:
        expected = {array: first[array] for array in first.files}
    count = workers
    for worker in range(workers):
        with np.load(folder / experiment.file(worker)) as found:
            count = max(count, len({array.split("/")[0] for array in found.files}) - 1)
            for array in found.files:
                same_on_first = array if array == "metrics" else f"0/{array.split('/')[1]}"
                np.testing.assert_array_equal(found[array], expected[same_on_first], array)
    assert count == int(strategy.split()[-1 if strategy.startswith("mirrored") else 0])


@slow
@cases(lambda experiment: not experiment.synchronized)
def test_without_synchronization_d_starts_alike(one_device, replicated, strategy, experiment):
    whole = one_device / experiment._replace(synchronized=True).file()
    with np.load(whole) as expected, np.load(replicated(strategy) / experiment.file()) as found:
        np.testing.assert_allclose(found["metrics"][0, :2], expected["metrics"][0, :2], rtol=1e-5)
        # and from then on G's batch normalization tells: these are not the same computation
        assert abs(found["metrics"][:, 2] / expected["metrics"][:, 2] - 1).max() > 1e-3


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
    ends = finish(spawn_workers(folders, "dcgan_mnist", MULTIWORKER, PATIENT, *FLAGS))
    assert [(status, err) for status, _, err in ends] == [(0, "")] * 2
    return ends, folders


def assert_resumed(folders: list[Path], expected: Path) -> None:
    """That two workers, resumed, end the run as if nothing had happened to it."""
    ends = finish(spawn_workers(folders, "dcgan_mnist", MULTIWORKER, PATIENT, "--resume"))
    assert [(status, err) for status, _, err in ends] == [(0, "")] * 2
    assert_same_run(folders[0], expected, "dcgan_mnist")


@slow
def test_only_the_chief_writes_and_prints(two_workers):
    (chief, other), (chiefs_folder, others_folder) = two_workers
    lines = chief[1].splitlines()
    assert lines[0] == "2 replicas; worker 0 of 2, the chief"
    assert lines[-1].startswith("59: ")
    assert other[1] == "2 replicas; worker 1 of 2: the chief, worker 0, prints and writes\n"
    assert list(others_folder.iterdir()) == []
    assert len(history(chiefs_folder, "dcgan_mnist")) == 61


def halting(signpost: Path, *arguments: str) -> None:
    """The DCGAN's program, which takes 24 steps, and the others when a file has appeared."""
    take, taken = CompiledStep.__call__, 0

    def take_or_wait(self, count):
        nonlocal taken
        while taken >= 24 and not signpost.exists():
            time.sleep(0.01)
        taken += count
        return take(self, count)

    CompiledStep.__call__ = take_or_wait
    dcgan_mnist.main(arguments)


@slow
@pytest.mark.parametrize("victim", ["chief", "other"])
def test_a_worker_is_killed(two_workers, runs, victim):
    """The other one notices, long before its timeout, and the run can be resumed."""
    _, (expected, _) = two_workers
    folders = [runs / f"{victim}-killed", runs / f"{victim}-killed-other"]
    signpost = runs / f"{victim}-killed-go"
    flags = (MULTIWORKER, "--worker-timeout=86400", *FLAGS)
    chief, other = spawn_workers(folders, halting, signpost, *flags)
    killed, survivor = (chief, other) if victim == "chief" else (other, chief)
    chief.wait_for_line("23: ")
    killed.kill()
    signpost.touch()
    survivor.wait()
    status, _, err = finish([survivor])[0]
    assert status == 2
    assert err == (
        "dcgan_mnist.py: error: another worker has ended, or has not answered within "
        "--worker-timeout: see its message, and start all workers again with --resume\n"
    )
    assert_resumed(folders, expected)


@slow
def test_a_signal_to_one_worker_stops_all_of_them(two_workers, runs):
    _, (expected, _) = two_workers
    folders = [runs / "stopped", runs / "stopped-other"]
    signpost = runs / "stopped-go"
    processes = spawn_workers(folders, halting, signpost, MULTIWORKER, PATIENT, *FLAGS)
    processes[0].wait_for_line("23: ")
    processes[1].send_signal(signal.SIGTERM)
    signpost.touch()
    ends = finish(processes)
    assert [status for status, _, _ in ends] == [128 + signal.SIGTERM] * 2
    assert all(err.startswith("stopped after ") for _, _, err in ends)
    assert 24 <= len(history(folders[0], "dcgan_mnist")) - 1 < 60
    assert_resumed(folders, expected)


@slow
def test_the_chief_decides(two_workers, runs):
    """Whether a run is resumed, and its flags; a worker told otherwise follows, and says so."""
    _, (expected, _) = two_workers
    folders = [runs / "decided", runs / "decided-other"]
    new, resumed = [*FLAGS, "--train-steps=24"], ["--resume", "--train-steps=60"]
    for own, steps, done in (
        ([new, resumed], (24, 60), "starts a new run"),
        ([resumed, new], (60, 24), "resumes its run"),
    ):
        ends = finish(spawn_workers(folders, "dcgan_mnist", MULTIWORKER, PATIENT, own=own))
        assert [status for status, _, _ in ends] == [0, 0]
        assert ends[1][2] == (
            f"the chief {done}, and so does this worker\nwarning: argument --train-steps: "
            f"{steps[1]} given, and the chief trains with {steps[0]}: so does this worker\n"
        )
    assert history(folders[0], "dcgan_mnist") == history(expected, "dcgan_mnist")


@pytest.mark.parametrize(
    ("own", "missing"),
    [
        (0, "worker nowhere.invalid:1 ("),
        (1, "worker localhost:{port}, or another worker, has not arrived within 1 s: see whether"),
    ],
)
def test_a_worker_that_never_arrives(own, missing):
    """The others end by themselves, and say who is missing, and whether there is such a host."""
    chief = addresses(1)[0].replace("127.0.0.1", "localhost")
    cluster = [chief, "nowhere.invalid:1", addresses(1)[0]]
    with pytest.raises(UserError) as ended:
        wait_for_all(cluster, cluster[2 * own], timeout=1)
    assert missing.format(port=chief.split(":")[1]) in str(ended.value)


def test_strangers_at_the_chiefs_door():
    """A caller that says nothing, or anything else, is not taken for a worker."""
    cluster = addresses(3)
    port = int(cluster[0].split(":")[1])
    with ThreadPoolExecutor() as pool:
        waiting = [pool.submit(wait_for_all, cluster, cluster[i], 60) for i in (0, 1)]
        for greeting in (b"", b"GET / HTTP/1.1\r\n\r\n", b"\xff\n", b"x" * 1000):
            with connected(port) as stranger:
                stranger.sendall(greeting)
        assert not any(future.done() for future in waiting)
        wait_for_all(cluster, cluster[2], 60)
        for future in waiting:
            future.result()


def connected(port: int) -> socket.socket:
    """A connection, as soon as somebody listens."""
    for _ in range(600):
        with suppress(ConnectionRefusedError):
            return socket.create_connection(("localhost", port))
        time.sleep(0.1)
    raise AssertionError


@slow
def test_a_program_without_its_workers(runs):
    chief, other = addresses(2)
    status, _, err = run(
        runs / "alone",
        "dcgan_mnist",
        *(MULTIWORKER, "--worker-timeout=3", *FLAGS),
        environment=environment_of([chief, other], worker=0),
    )
    assert status == 2
    assert err == (
        f"dcgan_mnist.py: error: worker {other} has not arrived within 3 s: see whether it runs "
        "and can be reached from here, or give a longer --worker-timeout\n"
    )


def killed_in(folder: Path, *arguments: str) -> None:
    """The DCGAN's program, which in one folder is killed as soon as all workers have met."""

    def meet(*args):
        wait_for_all(*args)
        if Path.cwd() == folder:
            os.kill(os.getpid(), signal.SIGKILL)

    cluster.wait_for_all = meet
    dcgan_mnist.main(arguments)


@slow
@pytest.mark.parametrize("victim", [0, 1])
def test_a_worker_is_killed_before_the_cluster_stands(runs, victim):
    """TensorFlow would wait for it without end."""
    folders = [runs / f"early{victim}{worker}" for worker in range(2)]
    flags = (MULTIWORKER, "--worker-timeout=20", *FLAGS)
    ends = finish(spawn_workers(folders, killed_in, folders[victim], *flags))
    assert ends[victim] == (-signal.SIGKILL, "", "")
    assert ends[1 - victim] == (
        *(2, ""),
        "dcgan_mnist.py: error: all workers had arrived, and another one has ended, or has not "
        "answered within 20 s: see its message, and start all workers again\n",
    )


@slow
def test_workers_with_other_data_are_refused(runs):
    rng = np.random.default_rng(1)
    np.savez(
        runs / "other.npz", x_train=rng.integers(0, 256, (9, 8, 8), np.uint8), y_train=range(9)
    )
    folders, own = [runs / "data0", runs / "data1"], [[], ["--data=../other.npz"]]
    flags = (MULTIWORKER, PATIENT, *FLAGS)
    ends = finish(spawn_workers(folders, "dcgan_mnist", *flags, own=own))
    assert [status for status, _, _ in ends] == [2, 2]
    assert "argument --data: ../other.npz is not the data set" in ends[1][2]
    assert "another worker has ended" in ends[0][2]


@slow
def test_a_run_moves_from_two_devices_to_one_and_back(runs):
    """With synchronization it is the same run, up to the order of sums."""
    two = ("--strategy=mirrored", "--devices=CPU:0,CPU:1")
    for strategy, steps in ((two, 6), ((), 12), (two, 18)):
        start = ["--resume"] if steps > 6 else [*FLAGS, "--engine=compiled", "--sync-batchnorm"]
        flags = (*start, *strategy, f"--train-steps={steps}")
        assert run(runs / "moved", "dcgan_mnist", *flags)[::2] == (0, "")
    flags = (*FLAGS, "--engine=compiled", "--train-steps=18")
    assert run(runs / "stayed", "dcgan_mnist", *flags)[::2] == (0, "")
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


def test_a_cluster_is_joined_before_tensorflow_is_used(capsys, monkeypatch, tmp_path):
    """As in a notebook; the other workers are not kept waiting."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TF_CONFIG", environment_of(["localhost:1"], 0)["TF_CONFIG"])
    tf.constant(1)
    assert "TensorFlow can join a cluster only before its first use" in error_of(
        capsys, MULTIWORKER
    )


@slow
def test_batches_that_cannot_be_shared(runs):
    flags = (*FLAGS, "--batch-size=5", "--strategy=mirrored", "--devices=CPU:0,CPU:1")
    status, _, err = run(runs / "five", "dcgan_mnist", *flags)
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
    cluster, task = cluster_from_environment()
    assert cluster == {"worker": ["gpu07:24211", "gpu07:24212", "gpu08:24211", "gpu08:24212"]}
    assert task == {"type": "worker", "index": 2}
    assert json.loads(os.environ.pop("TF_CONFIG"))["task"] == task

    monkeypatch.setenv("SLURM_STEP_TASKS_PER_NODE", "many")
    with pytest.raises(UserError, match="cannot be read from Slurm's variables"):
        cluster_from_environment()
