"""Several machines: who the workers are, by TF_CONFIG or Slurm, and waiting for them."""

from __future__ import annotations

import json
import os
import re
from typing import Any

import tensorflow as tf

from common.errors import MAX_QUOTED, UserError, first_line
from common.training.rendezvous import wait_for_all

# More than anybody has; the chief keeps a connection to each of them.
_MAX_WORKERS = 1000
_EXAMPLE = (
    '{"cluster": {"worker": ["10.0.0.1:12345", "10.0.0.2:12345"]}, '
    '"task": {"type": "worker", "index": 0}}'
)


def multiworker_strategy(cluster: dict, task: dict, timeout: int) -> tf.distribute.Strategy:
    """The strategy of several workers; waits until all of them have arrived.

    Args:
        cluster: From `cluster_from_environment`.
        task: The same.
        timeout: Seconds to wait, for this and for each step.

    Raises:
        UserError: A worker has not arrived or has ended, this one cannot listen at its address, or
            TensorFlow has been used already.
    """
    # Parts of TensorFlow that are not public: only a training with several workers depends on them.
    from tensorflow.python.eager.context import context

    if context()._context_handle is not None:  # TensorFlow is running already, as in a notebook
        raise UserError(
            "argument --strategy: multiworker given, and TensorFlow can join a cluster only before "
            "its first use: start the program in a process of its own"
        )
    address = cluster[task["type"]][task["index"]]
    wait_for_all([*cluster.get("chief", []), *cluster.get("worker", [])], address, timeout)
    _limit_start(cluster, timeout)
    # A worker that dies is detected by heartbeat, one that hangs by this timeout.
    waiting = tf.distribute.experimental.CommunicationOptions(timeout_seconds=timeout)
    try:
        return tf.distribute.MultiWorkerMirroredStrategy(communication_options=waiting)
    except tf.errors.UnknownError as error:
        raise UserError(f"cannot be the worker {address}: {first_line(error)}") from error
    except tf.errors.OpError as error:
        raise UserError(
            "all workers had arrived, and another one has ended, or has not answered within "
            f"{timeout} s: see its message, and start all workers again"
        ) from error


def _limit_start(cluster: dict[str, list[str]], timeout: int) -> None:
    """Limits how long TensorFlow waits for other workers when it starts a cluster, in seconds.

    By itself it waits without end for one that ends at that moment, and with Python's lock held.
    """
    from tensorflow.compiler.xla.tsl.protobuf.coordination_config_pb2 import CoordinatedJob
    from tensorflow.python.eager.context import context

    jobs = [job for job in ("chief", "worker") if cluster.get(job)]
    context().configure_coordination_service(
        service_type="standalone",
        service_leader=f"/job:{jobs[0]}/task:0",
        cluster_register_timeout_in_ms=1000 * timeout,
        coordinated_jobs=[CoordinatedJob(name=job, num_tasks=len(cluster[job])) for job in jobs],
    )
    # without this barrier the timeout is of connecting to the chief alone
    context().coordination_service.cluster_register_with_barrier = True


def cluster_from_environment() -> tuple[dict[str, list[str]], dict[str, Any]]:
    """Reads TF_CONFIG, or sets it from Slurm's variables.

    Returns:
        The addresses of the workers by the type of their task, and the task of this process:
        its type and its index.

    Raises:
        UserError: There is neither, or it does not describe a cluster.
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
            all(isinstance(workers, list) for workers in cluster.values())
            and len(addresses) <= _MAX_WORKERS
            and set(cluster) <= {"chief", "worker"}
            and all(re.fullmatch(r"[^\s:/]+:\d+|\[[\da-fA-F:]+\]:\d+", a) for a in addresses)
            and len(set(addresses)) == len(addresses)
            and len(cluster.get("chief", [])) <= 1
            and 0 <= task["index"] < len(cluster[task["type"]])
        ):
            raise ValueError
    except (LookupError, ValueError, TypeError, AttributeError, ArithmeticError, RecursionError):
        given = " ".join(text[: 2 * MAX_QUOTED].split())[:MAX_QUOTED]
        raise UserError(
            f"TF_CONFIG is {given}: expected are the addresses of all workers, "
            f"each once, and which of them this one is, for example {_EXAMPLE}"
        ) from None
    return cluster, task


def _tf_config_of_slurm() -> str:
    try:
        resolver = tf.distribute.cluster_resolver.SlurmClusterResolver(
            # depends on the job, so that two jobs can share a machine
            port_base=20000 + int(os.environ.get("SLURM_JOB_ID", "0")) % 10000,
            # Slurm assigns GPUs; the resolver fails where there are none
            gpus_per_node=2**16,
            gpus_per_task=1,
            auto_set_gpu=False,
        )
        cluster = resolver.cluster_spec().as_dict()
    except (RuntimeError, ValueError) as error:
        raise UserError(
            f"the cluster cannot be read from Slurm's variables ({first_line(error)}): start the "
            "program with srun, or set TF_CONFIG"
        ) from error
    task = {"type": resolver.task_type, "index": resolver.task_id}
    return json.dumps({"cluster": cluster, "task": task})
