"""Several devices: the strategies, and the step on all replicas.

Each of N replicas - a GPU, or all CPU cores of a machine - holds a copy of both networks and takes
its share of every batch. Gradients are summed over all replicas before a weight changes, so that
the copies stay equal bit for bit; TensorFlow's distribution strategies do that. All workers draw
the same random numbers, those of the whole batch, so that N devices compute what one would, but for
batch normalization: without --sync-batchnorm it sees only the share of its replica.

Models belong to a strategy from the start: `join` comes before they are built, `DistributedStep`
after.
"""

from typing import Any

import keras
import tensorflow as tf

from common.errors import UserError
from common.gan.models import layers_of
from common.runs.workers import Cluster, Workers
from common.training.cluster import cluster_from_environment, multiworker_strategy
from common.training.compiled import CompiledStep


def join(strategy_name: str, devices: list[str] | None, timeout: int) -> Workers:
    """Sets the strategy for models built afterwards.

    Args:
        strategy_name: One of `options.STRATEGIES`.
        devices: For "mirrored": names such as "GPU:0"; None for all GPUs.
        timeout: For "multiworker": seconds to wait for other workers.

    Returns:
        The workers that train together: this one alone, or those of a cluster, all of them here.
    """
    workers = Workers()
    if strategy_name == "none":
        return workers
    if strategy_name == "mirrored":
        strategy = _mirrored(devices)
        names = [device.split("device:")[-1] for device in strategy.extended.worker_devices]
        print(f"{_replicas(strategy)}: {', '.join(names)}")
    else:
        addresses, number = cluster_from_environment()
        strategy = multiworker_strategy(addresses, number, timeout)
        if len(addresses) > 1:
            workers = Cluster(strategy, is_chief=number == 0)
        role = ", the chief" if workers.is_chief else ": the chief, worker 0, prints and writes"
        print(f"{_replicas(strategy)}; worker {number} of {len(addresses)}{role}", flush=True)
    tf.distribute.experimental_set_strategy(strategy)
    return workers


def _replicas(strategy: tf.distribute.Strategy) -> str:
    count = strategy.num_replicas_in_sync
    return "1 replica" if count == 1 else f"{count} replicas"


def _mirrored(names: list[str] | None) -> tf.distribute.Strategy:
    """The strategy of several devices of this machine."""
    if names is None:
        return tf.distribute.MirroredStrategy()
    if names[0].startswith("CPU"):
        # The CPU is one device to TensorFlow, which may be split.
        count = 1 + max(int(name.split(":")[1]) for name in names)
        parts = [tf.config.LogicalDeviceConfiguration() for _ in range(count)]
        cpu = tf.config.list_physical_devices("CPU")[0]
        try:
            if count > 1:
                tf.config.set_logical_device_configuration(cpu, parts)
        except RuntimeError as error:  # TensorFlow is running already, as in a notebook
            raise UserError(
                f"argument --devices: {', '.join(names)} given, and TensorFlow can split the CPU "
                "only before its first use: start the program in a process of its own"
            ) from error
    else:
        gpus = [f"GPU:{i}" for i in range(len(tf.config.list_physical_devices("GPU")))]
        missing = sorted(set(names) - set(gpus))
        if missing:
            raise UserError(
                f"argument --devices: {', '.join(missing)} given, and TensorFlow finds "
                f"{', '.join(gpus) or 'no GPU'}: name what there is, or CPUs"
            )
    return tf.distribute.MirroredStrategy(names)


class DistributedStep(CompiledStep):
    """The compiled step on all replicas of the strategy that the models were built in.

    After the constructor nothing else belongs to the strategy: what callbacks build, such as a
    copy of G to be saved, does not involve other workers.

    Args:
        args: As for `AlternatingStep`; batch_size is of all replicas together, and the models
            belong to the strategy.
        sync_batchnorm: Whether batch normalization uses the statistics of the whole batch.
    """

    def __init__(self, *args: Any, sync_batchnorm: bool = False) -> None:
        super().__init__(*args)
        self._strategy = tf.distribute.get_strategy()
        self._devices = self._strategy.extended.worker_devices
        self._normalizations = [
            layer
            for layer in (*layers_of(self.generator), *layers_of(self.discriminator))
            if isinstance(layer, keras.layers.BatchNormalization)
        ]
        for layer in self._normalizations:
            layer.synchronized = sync_batchnorm
        # of a replica's share of the batch
        self.targets = [x[:: self._strategy.num_replicas_in_sync] for x in self.targets]
        self._data_on_devices = [self._data_on(device) for device in self._devices]
        tf.distribute.experimental_set_strategy(None)

    def _data_on(self, device: str) -> list[tf.Tensor]:
        with tf.device(device):
            return [tf.identity(array) for array in self._data]

    def _take_step(self, *inputs: Any) -> tf.Tensor:
        """Takes the step of all replicas, and gives its `METRICS` of the whole batch."""
        metrics = self._strategy.run(self._take_share, inputs)
        return self._strategy.experimental_local_results(metrics)[0]

    def _take_share(self, indexes: Any, d_inputs: list, g_inputs: list) -> tf.Tensor:
        """The step of one replica with its share of the batch."""
        replica = tf.distribute.get_replica_context()
        number = int(tf.get_static_value(replica.replica_id_in_sync_group))
        count = replica.num_replicas_in_sync
        data = self._data_on_devices[number % len(self._devices)]

        def share(whole: Any) -> tf.Tensor:
            return tf.split(whole, count)[number]

        metrics = self._take_step_on(
            data, share(indexes), [share(x) for x in d_inputs], [share(x) for x in g_inputs]
        )
        # Each replica has moved the statistics towards those of its share. As the update is linear,
        # their mean is the update by the mean over the shares.
        statistics = [x for y in self._normalizations for x in (y.moving_mean, y.moving_variance)]
        # identity, because a variable's value does not say that it is on this replica's device
        values = [tf.identity(variable) for variable in statistics]
        metrics, *means = replica.all_reduce(tf.distribute.ReduceOp.MEAN, [metrics, *values])
        for variable, mean in zip(statistics, means, strict=True):
            variable.assign(mean)
        return metrics
