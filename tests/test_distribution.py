"""Several devices and several workers: real processes on this machine, on loopback."""

import json
import signal
import socket
import time
from contextlib import ExitStack, suppress
from pathlib import Path
from unittest import mock

import keras
import numpy as np
import pytest
import tensorflow as tf

import cgan_mnist
import dcgan_mnist
from common.data.dataset import load_data
from common.errors import UserError
from common.gan.batches import RealImages
from common.gan.models import build_adversarial, compile_model
from common.options import Options
from common.runs.workers import Cluster
from common.training.cluster import cluster_from_environment, wait_for_all
from common.training.compiled import CompiledStep
from common.training.distribution import join
from common.training.train import make_step
from conftest import assert_same_run, history
from processes import HANG_SECONDS, Process, run, spawn, wait_until

slow = pytest.mark.slow

MULTIWORKER = "--strategy=multiworker"
FLAGS = (
    *("--data=../set.npz", "--batch-size=4", "--seed=2"),
    *("--train-steps=60", "--save-interval=20", "--checkpoint-interval=6", "--log-interval=1"),
)
PATIENT = f"--worker-timeout={HANG_SECONDS}"


def addresses(count: int) -> list[str]:
    """Of ports that nobody listens on."""
    with ExitStack() as stack:
        servers = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
        return [address_of(stack.enter_context(server)) for server in servers]


def address_of(server: socket.socket) -> str:
    return f"127.0.0.1:{server.getsockname()[1]}"


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


def succeed(processes: list[Process]) -> list[str]:
    """The output of each, which ends without errors."""
    ends = finish(processes)
    assert [(status, err) for status, _, err in ends] == [(0, "")] * len(processes)
    return [out for _, out, _ in ends]


# What N replicas compute, against what one device computes.

# The program, what everything computes in, and whether batch normalization uses the statistics of
# the whole batch or of each replica's share ("own"). "bn-in-d" is the DCGAN with batch
# normalization in D, too.
EXPERIMENTS = [f"{x}gan {kind}" for x in ("dc", "c") for kind in ("float64 whole", "float32 own")]
# The number of workers, their strategy and devices, and what they take steps with.
STRATEGIES = {
    "2 devices": (1, "mirrored", ["CPU:0", "CPU:1"], [*EXPERIMENTS, "bn-in-d float64 whole"]),
    "4 devices": (1, "mirrored", [f"CPU:{i}" for i in range(4)], ["cgan float64 whole"]),
    "2 workers": (2, "multiworker", None, EXPERIMENTS),
    "3 workers": (3, "multiworker", None, ["cgan float64 whole"]),
}
# The middle of MNIST's digits.
MIDDLE = slice(8, 20)
FUSED = tf.raw_ops.FusedBatchNormV3


def take_steps(experiments, steps, strategy="none", devices=None):
    """Takes steps from the same start in every strategy.

    Writes the metrics of each experiment, and the weights of all local replicas, to steps.npz.
    """
    tf.raw_ops.FusedBatchNormV3 = fused_batch_norm
    joined = None
    if strategy != "none":
        workers = join(strategy, devices, HANG_SECONDS)
        assert workers.agree_on(7 if workers.is_chief else 3) == 7
        stopped = workers.agree_on(7 if workers.is_chief else 0)
        assert stopped == (0 if isinstance(workers, Cluster) else 7)
        for size in (0, 3, 8, 3 * 2**20 + 5):
            content = np.random.default_rng(0).bytes(size)
            assert workers.from_chief(content if workers.is_chief else b"nothing") == content
        joined = tf.distribute.get_strategy()
    arrays = {}
    for experiment in experiments:
        tf.distribute.experimental_set_strategy(joined)
        step = step_of(experiment, strategy)
        arrays[f"{experiment}/metrics"] = step(steps)
        networks = [*step.generator.weights, *step.discriminator.weights]
        optimizers = [step.discriminator.optimizer, step.adversarial.optimizer]
        variables = networks + [x for optimizer in optimizers for x in optimizer.variables]
        for i, variable in enumerate(variables):
            for replica, value in enumerate(getattr(variable.value, "values", (variable.value,))):
                arrays[f"{experiment}/{replica}/{i}"] = value.numpy()
    np.savez("steps.npz", **arrays)


def step_of(experiment: str, strategy: str) -> CompiledStep:
    """The step of a program whose networks are for small images."""
    program, dtype, statistics = experiment.split()
    keras.config.set_floatx(dtype)
    keras.config.set_dtype_policy(dtype)
    keras.utils.set_random_seed(0)
    size = MIDDLE.stop - MIDDLE.start
    image = keras.Input((size, size, 1))
    images, labels = load_data()
    real = RealImages(images[:, MIDDLE, MIDDLE], labels if program == "cgan" else None)
    if program == "cgan":
        discriminator = cgan_mnist.build_discriminator(image, keras.Input((10,)), size)
        generator = cgan_mnist.new_generator(size, 10)
    else:
        leaky_relu = normalized_leaky_relu if program == "bn-in-d" else dcgan_mnist.LeakyReLU
        with mock.patch.object(dcgan_mnist, "LeakyReLU", leaky_relu):
            discriminator = dcgan_mnist.build_discriminator(image)
        generator = dcgan_mnist.new_generator(size)
    compile_model(discriminator, 2e-4, 6e-8)
    adversarial = build_adversarial(generator, discriminator, program)
    compile_model(adversarial, 1e-4, 3e-8)
    # a batch that 2, 3 and 4 replicas can share; one device always has the statistics of all of it
    whole = statistics == "whole"
    options = Options(batch_size=12, engine="compiled", strategy=strategy, sync_batchnorm=whole)
    models = (generator, discriminator, adversarial)
    return make_step(models, real, np.random.default_rng(0), options)


def normalized_leaky_relu(**settings):
    leaky_relu = keras.layers.LeakyReLU(**settings)
    return lambda x: leaky_relu(dcgan_mnist.BatchNormalization()(x))


def fused_batch_norm(x, mean, variance, is_training, **more):
    """The kernel; for float64, in which it does not exist, its formula."""
    if x.dtype == tf.float32:
        return FUSED(x=x, mean=mean, variance=variance, is_training=is_training, **more)
    if is_training:
        mean, variance = tf.nn.moments(x, [0, 1, 2])
    outputs = tf.nn.batch_normalization(
        x, mean, variance, more["offset"], more["scale"], more["epsilon"]
    )
    count = tf.cast(tf.size(x) / tf.size(mean), x.dtype)
    return outputs, mean, variance * count / (count - 1)


def arrays_of(experiment: str, folder: Path) -> dict[str, np.ndarray]:
    """What `take_steps` has written there."""
    with np.load(folder / "steps.npz") as file:
        names = [name for name in file.files if name.startswith(f"{experiment}/")]
        return {name.removeprefix(f"{experiment}/"): file[name] for name in names}


def test_two_replicas_compute_what_one_device_computes(tmp_path):
    """The quick one of the tests below, in float32."""
    experiment, one, two = "cgan float32 whole", tmp_path / "one", tmp_path / "two"
    devices = STRATEGIES["2 devices"][1:3]
    processes = [spawn(one, take_steps, [experiment], 3)]
    succeed([*processes, spawn(two, take_steps, [experiment], 3, *devices)])
    expected, found = (arrays_of(experiment, x)["metrics"][:, [0, 2]] for x in (one, two))
    assert len(np.unique(expected)) == 6
    # RMSprop makes much of rounding, since its first steps are as long for a gradient of 1e-8 as
    # for one of 1: within ten steps some CPUs are 6e-3 apart
    np.testing.assert_allclose(found, expected, rtol=1e-3)


@pytest.fixture(scope="module")
def one_device(tmp_path_factory):
    """The folder that one device, which has the whole batch, has written to."""
    folder = tmp_path_factory.mktemp("one")
    assert run(folder, take_steps, STRATEGIES["2 devices"][-1], 10)[0] == 0
    return folder


@pytest.fixture(params=STRATEGIES, scope="module")
def replicated(request, tmp_path_factory):
    """`(number of replicas, the folders that workers have written to, experiments)`."""
    count, name, devices, experiments = STRATEGIES[request.param]
    folders = [tmp_path_factory.mktemp("worker") for _ in range(count)]
    ends = finish(spawn_workers(folders, take_steps, experiments, 10, name, devices))
    assert [status for status, _, _ in ends] == [0] * count, ends[0][2]
    return int(request.param.split()[0]), folders, experiments


@slow
def test_replicas_compute_what_one_device_computes(one_device, replicated):
    """In float64, which shows that it is the same computation but for the order of sums."""
    _, folders, experiments = replicated
    for experiment in experiments:
        expected, found = (arrays_of(experiment, folder) for folder in (one_device, folders[0]))
        if experiment.endswith("whole"):
            assert len(np.unique(expected["metrics"][:, [0, 2]])) == 20
            assert len(expected) > 26 + 12 + 28
            for name in expected:
                np.testing.assert_allclose(found[name], expected[name], atol=1e-6, rtol=1e-6)
        else:
            metrics, of_one = found["metrics"], expected["metrics"]
            np.testing.assert_allclose(metrics[0, :2], of_one[0, :2], rtol=1e-5)
            # and from then on G's batch normalization tells: these are not the same computation
            assert abs(metrics[:, 2] / of_one[:, 2] - 1).max() > 1e-3


@slow
def test_all_replicas_stay_equal_bit_for_bit(replicated):
    """Weights, moving statistics, optimizers; and all workers have the same metrics."""
    count, folders, experiments = replicated
    for experiment in experiments:
        first, *others = (arrays_of(experiment, folder) for folder in folders)
        here = {name.split("/")[0] for name in first} - {"metrics"}
        assert len(here) * len(folders) == count
        for arrays in (first, *others):
            assert arrays.keys() == first.keys()
            for name, array in arrays.items():
                replica, _, variable = name.partition("/")
                expected = first[f"0/{variable}" if variable else replica]
                np.testing.assert_array_equal(array, expected, name)


# The programs.


@pytest.fixture(scope="module")
def runs(data):
    """A folder with a small data set."""
    return data.parent


@pytest.fixture(scope="module")
def two_workers(runs):
    """The outputs and the folders of two workers that nothing happened to."""
    folders = [runs / "chief", runs / "other"]
    return succeed(spawn_workers(folders, "dcgan_mnist", MULTIWORKER, PATIENT, *FLAGS)), folders


def assert_resumed(folders: list[Path], expected: Path) -> None:
    """That two workers, resumed, end the run as if nothing had happened to it."""
    succeed(spawn_workers(folders, "dcgan_mnist", MULTIWORKER, PATIENT, "--resume"))
    assert_same_run(folders[0], expected, "dcgan_mnist")


@slow
def test_only_the_chief_writes_and_prints(two_workers):
    (chief, other), (chiefs_folder, others_folder) = two_workers
    lines = chief.splitlines()
    assert lines[0] == "2 replicas; worker 0 of 2, the chief"
    assert lines[-2].startswith("59: ")
    assert other == "2 replicas; worker 1 of 2: the chief, worker 0, prints and writes\n"
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
@pytest.mark.parametrize(
    ("victim", "number"), [(0, signal.SIGKILL), (1, signal.SIGKILL), (1, signal.SIGTERM)]
)
def test_a_worker_is_killed_or_stopped(two_workers, runs, victim, number):
    """The other one ends, too, long before its timeout, and the run can be resumed."""
    _, (expected, _) = two_workers
    folders = [runs / f"{number.name}-{victim}-{worker}" for worker in range(2)]
    signpost = runs / f"{number.name}-{victim}-go"
    flags = (MULTIWORKER, "--worker-timeout=86400", *FLAGS)
    processes = spawn_workers(folders, halting, signpost, *flags)
    processes[0].wait_for_line("23: ")
    processes[victim].send_signal(number)
    signpost.touch()
    ends = finish(processes)
    if number == signal.SIGKILL:
        assert ends[1 - victim][::2] == (
            2,
            "dcgan_mnist.py: error: another worker has ended, or has not answered within "
            "--worker-timeout: see its message, and start all workers again with --resume\n",
        )
    else:
        assert [status for status, _, _ in ends] == [128 + number] * 2
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


def test_workers_that_never_arrive():
    """The others end by themselves, and say who is missing and why, as far as that is known."""
    own, silent = addresses(2)
    with socket.create_server(("127.0.0.1", 0)) as server:
        cluster = [address_of(server), silent, own, "nowhere.invalid:1"]
        with pytest.raises(UserError) as ended:
            wait_for_all(cluster, 2, timeout=1)
    missing = f"worker {silent} (Connection refused), worker nowhere.invalid:1 ("
    assert str(ended.value).startswith(missing)
    assert "has not arrived within 1 s: see whether it runs" in str(ended.value)


def listening(address: str) -> bool:
    """Whether somebody listens there."""
    host, port = address.split(":")
    with suppress(ConnectionRefusedError), socket.create_connection((host, int(port))):
        return True
    return False


def test_ctrl_c_ends_the_wait(runs):
    chief, own = addresses(2)
    environment = environment_of([chief, own], 1)
    process = spawn(runs / "c", "dcgan_mnist", MULTIWORKER, *FLAGS, environment=environment)
    wait_until(lambda: listening(own))
    process.send_signal(signal.SIGINT)
    assert finish([process]) == [(130, "", "dcgan_mnist.py: interrupted\n")]


@slow
@pytest.mark.parametrize("survivor", [0, 1])
def test_a_worker_ends_before_the_cluster_stands(runs, survivor):
    """TensorFlow would wait for it without end."""
    with socket.create_server(("127.0.0.1", 0)) as other:
        other.settimeout(HANG_SECONDS)
        cluster = [*addresses(1), address_of(other)]
        environment = environment_of(cluster[:: 1 - 2 * survivor], survivor)
        flags = (MULTIWORKER, "--worker-timeout=20", *FLAGS)
        process = spawn(runs / f"{survivor}", "dcgan_mnist", *flags, environment=environment)
        other.accept()[0].close()
    assert finish([process])[0][::2] == (
        2,
        "dcgan_mnist.py: error: all workers had arrived, and another one has ended, or has not "
        "answered within 20 s: see its message, and start all workers again\n",
    )


@slow
def test_workers_with_other_data_are_refused(runs):
    np.savez(runs / "other.npz", x_train=np.zeros((9, 8, 8), np.uint8), y_train=range(9))
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


# Mistakes.


@pytest.fixture
def error_of(capsys, monkeypatch, tmp_path):
    """Gives the line that ends the program with some flags and some TF_CONFIG."""

    def of(flags: list[str], config: str = "") -> str:
        monkeypatch.chdir(tmp_path)
        monkeypatch.setenv("TF_CONFIG", config)
        monkeypatch.delenv("SLURM_STEP_NODELIST", raising=False)  # the tests may run in a step
        with pytest.raises(SystemExit, match="2"):
            dcgan_mnist.main(flags)
        err = capsys.readouterr().err
        assert err.count("\n") == 1
        return err

    return of


@pytest.mark.parametrize(
    ("flags", "complaint"),
    [
        (["--strategy=mirrored", "--engine=train_on_batch"], "argument --engine: train_on_batch"),
        (["--devices=GPU:0"], "argument --devices: is for --strategy mirrored"),
        (["--strategy=mirrored", "--devices=GPU:0,CPU:1"], "all of one kind, each once"),
        (["--strategy=mirrored", "--devices=CPU:1,CPU:1"], "all of one kind, each once"),
        (["--strategy=mirrored", "--devices=2"], "names like GPU:0,GPU:1 expected"),
        (["--strategy=mirrored", "--devices=GPU:77"], "GPU:77 given, and TensorFlow finds"),
        (["--strategy=multiworker"], "neither TF_CONFIG in the environment nor a Slurm step"),
    ],
)
def test_flags_that_do_not_fit(error_of, flags, complaint):
    assert complaint in error_of(flags)


@pytest.mark.parametrize(
    "config",
    [
        "{",
        '{"cluster": {"worker": ["a:1", "a:1"]}, "task": {"type": "worker", "index": 0}}',
        '{"cluster": {"worker": ["a", "b:1"]}, "task": {"type": "worker", "index": 0}}',
        '{"cluster": {"worker": ["a:1", "b:1"]}, "task": {"type": "worker", "index": 2}}',
    ],
)
def test_invalid_tf_configs(error_of, config):
    assert f"TF_CONFIG is {config}: expected" in error_of([MULTIWORKER], config)


def test_a_chief_beside_the_workers(monkeypatch):
    """As Kubeflow's training operator sets TF_CONFIG; the chief is worker 0."""
    jobs = {"worker": ["w-0.ns.svc:2222", "[fd00::1]:2222"], "chief": ["c-0.ns.svc:2222"]}
    for task, number in (("chief", 0), ("worker", 2)):
        task = {"type": task, "index": number // 2}
        config = {"cluster": jobs, "task": task, "environment": "cloud"}
        monkeypatch.setenv("TF_CONFIG", json.dumps(config))
        assert cluster_from_environment() == ([*jobs["chief"], *jobs["worker"]], number)


def test_a_cluster_is_joined_before_tensorflow_is_used(error_of):
    """As in a notebook; the other workers are not kept waiting."""
    tf.constant(1)
    complaint = "TensorFlow can join a cluster only before its first use"
    assert complaint in error_of([MULTIWORKER], environment_of(["localhost:1"], 0)["TF_CONFIG"])


@slow
def test_batches_that_cannot_be_shared(runs):
    flags = (*FLAGS, "--batch-size=5", "--strategy=mirrored", "--devices=CPU:0,CPU:1")
    assert run(runs / "five", "dcgan_mnist", *flags)[::2] == (
        2,
        "dcgan_mnist.py: error: argument --batch-size: 5 given, which 2 replicas cannot share "
        "evenly: give a multiple of 2\n",
    )


def test_slurm_names_the_workers(monkeypatch):
    """As Slurm's documentation describes its variables, for two nodes with two tasks each."""
    monkeypatch.delenv("TF_CONFIG", raising=False)
    slurm = {"JOB_ID": "4211", "PROCID": "2", "STEP_NUM_TASKS": "4"}
    slurm |= {"STEP_NODELIST": "gpu[07-08]", "STEP_TASKS_PER_NODE": "2(x2)"}
    for name, value in slurm.items():
        monkeypatch.setenv(f"SLURM_{name}", value)
    addresses = ["gpu07:24211", "gpu07:24212", "gpu08:24211", "gpu08:24212"]
    assert cluster_from_environment() == (addresses, 2)
    monkeypatch.setenv("SLURM_STEP_TASKS_PER_NODE", "many")
    with pytest.raises(UserError, match="cannot be read from Slurm's variables"):
        cluster_from_environment()
