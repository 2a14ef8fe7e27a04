"""On how many devices does a step run, and who takes part in it?

Each of N replicas - a GPU, or all the CPU cores of a machine - holds a copy of both networks and
takes its share of every batch; gradients are summed over all of them before a weight changes, so
that the copies stay equal bit for bit. TensorFlow's distribution strategies do that. What is added
here: all workers draw the same random numbers for the whole batch, of which each replica takes its
share, so that N devices learn what one would learn; and a worker that fails is noticed.

Models belong to a strategy from birth: `join` comes before they are built, `DistributedStep` after.
"""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from common.cli import Options
from common.errors import UserError, first_line
from common.gan.step import CompiledStep
from common.runs.run import Workers
from common.runtime import silence

_EXAMPLE = (
    '{"cluster": {"worker": ["10.0.0.1:12345", "10.0.0.2:12345"]}, '
    '"task": {"type": "worker", "index": 0}}'
)
# Bytes that one worker sends to the others at a time, each of them as a float32.
_CHUNK = 2**20


def join(options: Options) -> Workers:
    """Sets the strategy that whatever is built from now on belongs to.

    Returns:
        The workers that train together: this one alone, or those of a cluster, which have all
        arrived.

    Raises:
        UserError: There are no such devices, or there is no such cluster.
    """
    if options.strategy == "mirrored":
        workers = Workers()
        strategy = _mirrored(options.devices)
        names = [device.split("device:")[-1] for device in strategy.extended.worker_devices]
        print(f"{_replicas(len(names))}: {', '.join(names)}")
    else:
        cluster, task = _cluster_from_environment()
        strategy = _multiworker(cluster, task, options.worker_timeout)
        number = task["index"] + (task["type"] == "worker" and "chief" in cluster)
        workers = Cluster(strategy, is_chief=number == 0)
        count, replicas = sum(map(len, cluster.values())), strategy.num_replicas_in_sync
        chief = ", the chief" if workers.is_chief else ": the chief, worker 0, tells and writes"
        print(f"{_replicas(replicas)}; worker {number} of {count}{chief}", flush=True)
        if not workers.is_chief:
            silence()
    tf.distribute.experimental_set_strategy(strategy)
    return workers


def _replicas(count: int) -> str:
    return "1 replica" if count == 1 else f"{count} replicas"


class Cluster(Workers):
    """The workers of a multi-worker strategy.

    They have to call these methods all together: each call waits for the others.

    Args:
        strategy: The strategy.
        is_chief: Whether this worker is the chief.
    """

    def __init__(self, strategy: tf.distribute.Strategy, is_chief: bool) -> None:
        self.is_chief = is_chief
        self._strategy = strategy

    def from_chief(self, content: bytes) -> bytes:
        """What the chief calls this with; whatever the others do is not looked at."""
        mine = content if self.is_chief else b""
        chunks, rest = self._sum(np.array(divmod(len(mine), _CHUNK), np.float32)).astype(int)
        received = []
        for i in range(chunks + 1):
            size = _CHUNK if i < chunks else rest
            chunk = np.frombuffer(mine[i * _CHUNK :][:size].ljust(size, b"\0"), np.uint8)
            received.append(self._sum(chunk.astype(np.float32)).astype(np.uint8).tobytes())
        return b"".join(received)

    def any(self, flag: bool) -> bool:
        """Whether one of the workers calls this with True."""
        return bool(self._sum(np.array([flag], np.float32))[0])

    def _sum(self, values: np.ndarray) -> np.ndarray:
        """The sum over all workers of what each gives, float32 of one shape."""
        total = tf.distribute.ReduceOp.SUM
        return self._strategy.reduce(total, tf.constant(values), axis=None).numpy()


class DistributedStep(CompiledStep):
    """The compiled step on all replicas of the strategy that the models were built in.

    From here on nothing else belongs to the strategy: what a callback builds, a copy of G to be
    saved for example, is no business of other workers.

    Args:
        args: As for `AlternatingStep`; batch_size is of all replicas together, and the models are
            of the strategy.
        sync_batchnorm: Whether batch normalization uses the statistics of the whole batch.
    """

    def __init__(self, *args: Any, sync_batchnorm: bool = False) -> None:
        super().__init__(*args)
        self._strategy = tf.distribute.get_strategy()
        self._devices = self._strategy.extended.worker_devices
        for layer in self.generator.layers:
            if isinstance(layer, keras.layers.BatchNormalization):
                layer.synchronized = sync_batchnorm
        share = self.batch_size // self._strategy.num_replicas_in_sync
        self._ones = tf.ones((share, 1))
        self._ones_and_zeros = tf.concat([self._ones, tf.zeros((share, 1))], axis=0)
        self._copies = [self._copy_on(device) for device in self._devices]
        # Keras makes its metrics when it first needs them, which a replica may not do.
        for model in (self.discriminator, self.adversarial):
            model.compute_metrics(None, self._ones, self._ones)
        tf.distribute.experimental_set_strategy(None)

    def _copy_on(self, device: str) -> tuple[tf.Tensor, tf.Tensor | None]:
        with tf.device(device):
            labels = None if self._labels is None else tf.identity(self._labels)
            return tf.identity(self._images), labels

    def _figures(self, *drawn: Any) -> tf.Tensor:
        """The step of all replicas: its `FIGURES`, which are means over the whole batch."""
        figures = self._strategy.run(self._figures_of_share, drawn)
        return self._strategy.experimental_local_results(figures)[0]

    def _figures_of_share(self, indexes: Any, d_inputs: list, g_inputs: list) -> tf.Tensor:
        """What each replica does: the step with its share of the batch."""
        replica = tf.distribute.get_replica_context()
        number = int(tf.get_static_value(replica.replica_id_in_sync_group))
        count = replica.num_replicas_in_sync
        self._images, self._labels = self._copies[number % len(self._copies)]

        def share(whole: Any) -> tf.Tensor:
            return tf.split(whole, count)[number]

        figures = super()._figures(
            share(indexes), [share(x) for x in d_inputs], [share(x) for x in g_inputs]
        )
        # Each replica has moved G's statistics by those of its own share. The mean of them is what
        # the mean of the shares would have moved them by.
        moved = self.generator.non_trainable_variables
        # the identity is on this replica's device, which a variable's value does not tell
        values = [tf.identity(variable) for variable in moved]
        figures, *means = replica.all_reduce(tf.distribute.ReduceOp.MEAN, [figures, *values])
        for variable, mean in zip(moved, means, strict=True):
            variable.assign(mean)
        return figures


def _mirrored(names: list[str] | None) -> tf.distribute.Strategy:
    """The strategy of several devices of this machine."""
    if names is None:
        return tf.distribute.MirroredStrategy()
    if names[0].startswith("CPU"):
        # The CPU is one device to TensorFlow, which may be split.
        count = 1 + max(int(name.split(":")[1]) for name in names)
        parts = [tf.config.LogicalDeviceConfiguration() for _ in range(count)]
        cpu = tf.config.list_physical_devices("CPU")[0]
        tf.config.set_logical_device_configuration(cpu, parts)
    else:
        gpus = [f"GPU:{i}" for i in range(len(tf.config.list_physical_devices("GPU")))]
        missing = sorted(set(names) - set(gpus))
        if missing:
            raise UserError(
                f"argument --devices: {', '.join(missing)} given, and TensorFlow finds "
                f"{', '.join(gpus) or 'no GPU'}: name what there is, or CPUs"
            )
    return tf.distribute.MirroredStrategy(names)


def _multiworker(cluster: dict, task: dict, timeout: int) -> tf.distribute.Strategy:
    """The strategy of several workers, which are waited for."""
    address = cluster[task["type"]][task["index"]]
    others = [worker for workers in cluster.values() for worker in workers if worker != address]
    # A worker that dies is found by the beat of its heart, one that hangs by this timeout.
    waiting = tf.distribute.experimental.CommunicationOptions(timeout_seconds=timeout)
    try:
        with _ending_after(
            timeout,
            f"error: not all of {', '.join(others)} have arrived within {timeout} s: see whether "
            "they run and can be reached from here, or give a longer --worker-timeout",
        ):
            return tf.distribute.MultiWorkerMirroredStrategy(communication_options=waiting)
    except tf.errors.OpError as error:
        raise UserError(f"cannot be the worker {address}: {first_line(error)}") from error


@contextmanager
def _ending_after(timeout: int, message: str) -> Iterator[None]:
    """Ends this process if what happens in the context takes too long.

    TensorFlow waits for a cluster in code of its own that lets no Python run beside it, neither a
    thread nor what hears Ctrl-C. So another process looks at the clock, and Ctrl-C does without
    Python.
    """
    watch = (
        "import os, select, sys\n"
        "if not select.select([0], [], [], float(sys.argv[1]))[0]:\n"  # until its input is closed
        "    print(sys.argv[3], file=sys.stderr, flush=True)\n"
        "    os.kill(int(sys.argv[2]), 9)\n"
    )
    line = f"{Path(sys.argv[0]).name}: {message}"
    watcher = subprocess.Popen(
        [sys.executable, "-S", "-c", watch, str(timeout), str(os.getpid()), line],
        stdin=subprocess.PIPE,
        start_new_session=True,  # Ctrl-C is not for it
    )
    handler = signal.getsignal(signal.SIGINT)
    if handler is not signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, handler)
        watcher.communicate()


def _cluster_from_environment() -> tuple[dict[str, list[str]], dict[str, Any]]:
    """The workers' addresses by the kind of their task, and which of these tasks is this process.

    From TF_CONFIG. Slurm's variables are made into one.
    """
    if "TF_CONFIG" not in os.environ and "SLURM_STEP_NODELIST" in os.environ:
        os.environ["TF_CONFIG"] = _tf_config_of_slurm()
    text = os.environ.get("TF_CONFIG")
    if not text:
        raise UserError(
            "argument --strategy: multiworker given, and there is neither TF_CONFIG in the "
            f"environment nor a Slurm step: set TF_CONFIG='{_EXAMPLE}', index 1 on the second"
        )
    try:
        config = json.loads(text)
        cluster, task = config["cluster"], config["task"]
        task = {"type": str(task["type"]), "index": int(task["index"])}
        addresses = [address for workers in cluster.values() for address in workers]
        if not (
            set(cluster) <= {"chief", "worker"}
            and all(re.fullmatch(r"[^\s:/]+:\d+|\[[\da-fA-F:]+\]:\d+", a) for a in addresses)
            and len(set(addresses)) == len(addresses)
            and len(cluster.get("chief", [])) <= 1
            and 0 <= task["index"] < len(cluster[task["type"]])
        ):
            raise ValueError
    except (ValueError, KeyError, TypeError, AttributeError):
        raise UserError(
            f"TF_CONFIG is {' '.join(text.split())}: expected are the addresses of all workers, "
            f"each once, and which of them this one is, for example {_EXAMPLE}"
        ) from None
    return cluster, task


def _tf_config_of_slurm() -> str:
    try:
        resolver = tf.distribute.cluster_resolver.SlurmClusterResolver(
            # of this job's own, so that two jobs can share a machine
            port_base=20000 + int(os.environ.get("SLURM_JOB_ID", "0")) % 10000,
            # GPUs are for Slurm to hand out; the resolver fails where there are none
            gpus_per_node=2**16,
            gpus_per_task=1,
            auto_set_gpu=False,
        )
        cluster = resolver.cluster_spec().as_dict()
    except (RuntimeError, ValueError) as error:
        raise UserError(
            f"the cluster cannot be read off Slurm's variables ({first_line(error)}): start the "
            "program with srun, or set TF_CONFIG"
        ) from error
    task = {"type": resolver.task_type, "index": resolver.task_id}
    return json.dumps({"cluster": cluster, "task": task})
