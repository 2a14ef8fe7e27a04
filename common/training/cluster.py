"""Several machines: who the workers are, by TF_CONFIG or Slurm, and waiting for them."""

import json
import os
import re
import socket
import time

import tensorflow as tf

from common.errors import MAX_QUOTED, UserError, first_line

_EXAMPLE = (
    '{"cluster": {"worker": ["10.0.0.1:12345", "10.0.0.2:12345"]}, '
    '"task": {"type": "worker", "index": 0}}'
)
# Seconds between two attempts to reach the others.
_RETRY = 0.2


def cluster_from_environment() -> tuple[list[str], int]:
    """Reads TF_CONFIG, or Slurm's variables.

    Returns:
        The addresses of all workers, "host:port", the chief's first; and the index of this worker.
    """
    if given := os.environ.get("TF_CONFIG"):
        return _from_tf_config(given)
    if "SLURM_STEP_NODELIST" in os.environ:
        return _from_slurm()
    raise UserError(
        "argument --strategy: multiworker given, and there is neither TF_CONFIG in the "
        f"environment nor a Slurm step: set TF_CONFIG='{_EXAMPLE}', index 1 on the second"
    )


def _from_tf_config(given: str) -> tuple[list[str], int]:
    resolver = tf.distribute.cluster_resolver.TFConfigClusterResolver()
    try:
        cluster = resolver.cluster_spec()
        # "chief" before "worker"
        addresses = [address for job in sorted(cluster.jobs) for address in cluster.job_tasks(job)]
        number = addresses.index(cluster.task_address(resolver.task_type, resolver.task_id))
        if not (
            set(cluster.jobs) <= {"chief", "worker"}
            and len(set(addresses)) == len(addresses)
            and all(re.fullmatch(r"[^\s:/]+:\d+|\[[\da-fA-F:]+\]:\d+", a) for a in addresses)
        ):
            raise ValueError
    except (ValueError, TypeError, AttributeError):
        raise UserError(
            f"TF_CONFIG is {given[:MAX_QUOTED]}: expected are the addresses of all workers, "
            f"each once, and which of them this one is, for example {_EXAMPLE}"
        ) from None
    return addresses, number


def _from_slurm() -> tuple[list[str], int]:
    try:
        resolver = tf.distribute.cluster_resolver.SlurmClusterResolver(
            # depends on the job, so that two jobs can share a machine
            port_base=20000 + int(os.environ.get("SLURM_JOB_ID", "0")) % 10000,
            # Slurm assigns GPUs; the resolver fails where there are none
            gpus_per_node=2**16,
            gpus_per_task=1,
            auto_set_gpu=False,
        )
        return resolver.cluster_spec().job_tasks("worker"), resolver.task_id
    except (RuntimeError, ValueError) as error:
        raise UserError(
            f"the cluster cannot be read from Slurm's variables ({first_line(error)}): start the "
            "program with srun, or set TF_CONFIG"
        ) from error


def multiworker_strategy(addresses: list[str], number: int, timeout: int) -> tf.distribute.Strategy:
    """The strategy of the workers that `cluster_from_environment` has found.

    It waits until all of them have arrived. The timeout, in seconds, is for this and for each step.
    """
    # not public; imported only where there are several workers
    from tensorflow.python.eager.context import context

    if context()._context_handle is not None:  # TensorFlow is running already, as in a notebook
        raise UserError(
            "argument --strategy: multiworker given, and TensorFlow can join a cluster only before "
            "its first use: start the program in a process of its own"
        )
    wait_for_all(addresses, number, timeout)
    # A worker can still end before the cluster stands, for example because its GPU has no memory
    # left. TensorFlow by itself would wait for it without end, deaf to signals.
    config = tf.compat.v1.ConfigProto().experimental.coordination_config
    context().configure_coordination_service(
        service_type="standalone",
        service_leader="/job:worker/task:0",
        cluster_register_timeout_in_ms=1000 * timeout,
        coordinated_jobs=[config.coordinated_job_list.add(name="worker", num_tasks=len(addresses))],
    )
    # without this barrier the timeout covers only the connection to the chief
    context().coordination_service.cluster_register_with_barrier = True
    os.environ["TF_CONFIG"] = json.dumps(
        {"cluster": {"worker": addresses}, "task": {"type": "worker", "index": number}}
    )
    # A worker that dies is detected by heartbeat, one that hangs by this timeout.
    waiting = tf.distribute.experimental.CommunicationOptions(timeout_seconds=timeout)
    try:
        return tf.distribute.MultiWorkerMirroredStrategy(communication_options=waiting)
    except (tf.errors.UnavailableError, tf.errors.DeadlineExceededError) as error:
        raise UserError(
            "all workers had arrived, and another one has ended, or has not answered within "
            f"{timeout} s: see its message, and start all workers again"
        ) from error


def wait_for_all(addresses: list[str], number: int, timeout: float) -> None:
    """Returns when all workers are here, before TensorFlow waits for them.

    TensorFlow waits in C++ code that holds Python's lock, deaf to signals. So each worker listens
    here first, at the address where TensorFlow will, and connects to each of the others once.
    """
    own = addresses[number]
    deadline = time.monotonic() + timeout
    both = socket.has_dualstack_ipv6()
    family = socket.AF_INET6 if both else socket.AF_INET
    try:
        server = socket.create_server(("", _split(own)[1]), family=family, dualstack_ipv6=both)
    except (OSError, OverflowError) as error:
        raise UserError(f"cannot be the worker {own}: {first_line(error)}") from error
    missing = {address: "" for address in addresses if address != own}
    with server:  # the operating system accepts connections by itself
        while missing := {address: why for address in missing if (why := _unreachable(address))}:
            if time.monotonic() > deadline:
                names = ", ".join(f"worker {address} ({why})" for address, why in missing.items())
                raise UserError(
                    f"{names} has not arrived within {timeout:g} s: see whether it runs and can "
                    "be reached from here, or give a longer --worker-timeout"
                )
            time.sleep(_RETRY)
        # The others may be about to connect; later they have to wait until TensorFlow listens.
        time.sleep(5 * _RETRY)


def _unreachable(address: str) -> str:
    """Connects to a worker; returns why it cannot be reached, or "" if it can."""
    try:
        with socket.create_connection(_split(address), timeout=2) as connection:
            # On one machine a socket can connect to itself, if the system picks the very port that
            # it connects to.
            arrived = connection.getpeername() != connection.getsockname()
            return "" if arrived else "Connection refused"
    except (OSError, OverflowError) as error:
        return first_line(error)


def _split(address: str) -> tuple[str, int]:
    host, _, port = address.rpartition(":")
    return host.strip("[]"), int(port)
