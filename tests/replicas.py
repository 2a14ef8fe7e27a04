"""Takes steps on the replicas of a strategy, for test_distribution.py to compare.

Each experiment starts from the same weights and draws the same batches, whatever the strategy.
"""

from pathlib import Path
from typing import NamedTuple
from unittest import mock

from common import device

# isort: split
import keras
import numpy as np
import tensorflow as tf

import cgan_mnist
import dcgan_mnist
from common.data.dataset import load_data
from common.gan.batches import RealImages
from common.gan.models import build_adversarial, compile_model
from common.gan.step import AlternatingStep, Models
from common.options import Options
from common.runs.workers import Cluster
from common.training.compiled import CompiledStep
from common.training.distribution import join
from common.training.train import make_step

# Of all replicas together: a multiple of 2, 3 and 4.
BATCH_SIZE = 12
# The middle of MNIST's digits.
IMAGE_SIZE = 12
FUSED = tf.raw_ops.FusedBatchNormV3


class Experiment(NamedTuple):
    """What steps are taken with.

    Attributes:
        program: "dcgan", "cgan", or "bn-in-d": the DCGAN with batch normalization in D, too.
        dtype: What everything computes in, "float32" or "float64".
        synchronized: Whether batch normalization uses the statistics of the whole batch. A single
            device, which has the whole batch, always does.
    """

    program: str
    dtype: str
    synchronized: bool

    def file(self, worker: int = 0) -> str:
        """The name of the file that a worker writes."""
        batchnorm = "synchronized" if self.synchronized else "own"
        return f"{self.program}-{batchnorm}-{self.dtype}-{worker}.npz"


def take_steps(
    folder: Path,
    experiments: list[Experiment],
    steps: int,
    strategy: str = "none",
    devices: list[str] | None = None,
    timeout: int = 120,
) -> None:
    """Takes steps and writes their metrics, and the weights of all local replicas, to files.

    Args:
        folder: The folder of the files.
        experiments: What to take the steps with; a file is written for each.
        steps: How many.
        strategy: The name of the strategy.
        devices: As for `join`.
        timeout: The same.
    """
    tf.raw_ops.FusedBatchNormV3 = _fused_batch_norm
    device.seed_everything(0)
    worker = 0
    if strategy != "none":
        workers = join(strategy, devices, timeout)
        resolver = tf.distribute.get_strategy().cluster_resolver
        worker = resolver.task_id if resolver and resolver.task_id else 0
        assert workers.agree_on(7 if workers.is_chief else 3) == 7
        assert workers.agree_on(0 if worker else 7) == (0 if isinstance(workers, Cluster) else 7)
        content = np.random.default_rng(0).bytes(3 * 2**20 + 5)
        assert workers.from_chief(content if workers.is_chief else b"nothing") == content
    joined = tf.distribute.get_strategy() if strategy != "none" else None
    for experiment in experiments:
        tf.distribute.experimental_set_strategy(joined)
        step = _step(experiment, strategy)
        np.savez(
            folder / experiment.file(worker),
            metrics=step(steps),
            **{
                f"{i}/{j}": value
                for i, values in enumerate(_values_on_replicas(step))
                for j, value in enumerate(values)
            },
        )


def _step(experiment: Experiment, strategy: str) -> AlternatingStep:
    """The step of a program, from the same start in every strategy."""
    keras.config.set_floatx(experiment.dtype)
    keras.config.set_dtype_policy(experiment.dtype)
    keras.utils.set_random_seed(0)
    models = _models(experiment.program)
    images, labels = load_data()
    start = (images.shape[1] - IMAGE_SIZE) // 2
    middle = slice(start, start + IMAGE_SIZE)
    real = RealImages(images[:, middle, middle], labels if experiment.program == "cgan" else None)
    options = Options(
        batch_size=BATCH_SIZE,
        engine="compiled",
        strategy=strategy,
        sync_batchnorm=experiment.synchronized,
    )
    step = make_step(models, real, np.random.default_rng(0), options)
    assert isinstance(step, CompiledStep)
    return step


def _models(program: str) -> Models:
    """The networks of a program, compiled as it compiles them."""
    image = keras.Input((IMAGE_SIZE, IMAGE_SIZE, 1))
    if program in ("dcgan", "bn-in-d"):
        leaky_relu = _normalized_leaky_relu if program == "bn-in-d" else dcgan_mnist.LeakyReLU
        with mock.patch.object(dcgan_mnist, "LeakyReLU", leaky_relu):
            discriminator = dcgan_mnist.build_discriminator(image)
        generator = dcgan_mnist.new_generator(IMAGE_SIZE)
    else:
        labels = keras.Input((10,))
        discriminator = cgan_mnist.build_discriminator(image, labels, IMAGE_SIZE)
        generator = cgan_mnist.new_generator(IMAGE_SIZE, 10)
    compile_model(discriminator, 2e-4, 6e-8)
    adversarial = build_adversarial(generator, discriminator, program)
    compile_model(adversarial, 1e-4, 3e-8)
    return generator, discriminator, adversarial


def _normalized_leaky_relu(**settings):
    leaky_relu = keras.layers.LeakyReLU(**settings)
    return lambda x: leaky_relu(dcgan_mnist.BatchNormalization()(x))


def _values_on_replicas(step: AlternatingStep) -> list[list[np.ndarray]]:
    """The weights and the optimizers' variables as each local replica has them."""
    variables = [
        *(step.generator.weights + step.discriminator.weights),
        *(step.discriminator.optimizer.variables + step.adversarial.optimizer.variables),
    ]
    values = [getattr(v.value, "values", (v.value,)) for v in variables]
    return [[value[i].numpy() for value in values] for i in range(len(values[0]))]


def _fused_batch_norm(x, scale, offset, mean, variance, epsilon, is_training):
    """The kernel; for float64, in which it does not exist, its formula."""
    if x.dtype == tf.float32:
        return FUSED(
            x=x,
            scale=scale,
            offset=offset,
            mean=mean,
            variance=variance,
            epsilon=epsilon,
            is_training=is_training,
        )
    if is_training:
        mean, variance = tf.nn.moments(x, [0, 1, 2])
    outputs = tf.nn.batch_normalization(x, mean, variance, offset, scale, epsilon)
    count = tf.cast(tf.size(x) / tf.size(mean), x.dtype)
    return outputs, mean, variance * count / (count - 1)
