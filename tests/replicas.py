"""Takes ten steps on the replicas of a strategy, for test_distribution.py to compare.

    python replicas.py FOLDER BATCH_SIZE DTYPES FLAGS...

With the flags of a program. For each GAN, with each replica's own batch normalization and with a
synchronized one, the latter in all of DTYPES (float32,float64), it writes the figures of ten steps
on real MNIST and the weights of all replicas to a file of FOLDER,
`dcgan-synchronized-float64-0.npz` for worker 0.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from common import runtime

# isort: split
import keras
import numpy as np
import tensorflow as tf

import cgan_mnist
import dcgan_mnist
from common.cli import Parser
from common.gan.batches import Latent
from common.gan.data import RealImages, load_data
from common.gan.models import build_adversarial, compile_model
from common.gan.step import AlternatingStep, CompiledStep, new_step
from common.training.distribution import join

STEPS = 10
FUSED = tf.raw_ops.FusedBatchNormV3


def fused_batch_norm(x, scale, offset, mean, variance, epsilon, is_training):
    """The kernel's formula, for float64, in which it does not exist."""
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


def build(name: str) -> tuple[keras.Model, keras.Model, keras.Model]:
    """The networks of a program, compiled as it compiles them."""
    dtype = keras.config.floatx()
    image = keras.Input((28, 28, 1))
    if name == "dcgan":
        discriminator = dcgan_mnist.build_discriminator(image, dtype)
        generator = dcgan_mnist.new_generator(28, dtype=dtype)
    else:
        discriminator = cgan_mnist.build_discriminator(image, keras.Input((10,)), 28, dtype)
        generator = cgan_mnist.new_generator(28, 10, dtype)
    compile_model(discriminator, 2e-4, 6e-8)
    adversarial = build_adversarial(generator, discriminator, name)
    compile_model(adversarial, 1e-4, 3e-8)
    return generator, discriminator, adversarial


def step_of(name: str, options) -> AlternatingStep:
    """A program's step from the same start in every strategy."""
    keras.utils.set_random_seed(0)
    models = build(name)
    x_train, y_train = load_data()
    real = RealImages(x_train, None if name == "dcgan" else y_train)
    latent = Latent(num_labels=0 if name == "dcgan" else 10)
    return new_step(models, real, latent, np.random.default_rng(0), options)


def replicas_of(step: AlternatingStep) -> list[list[np.ndarray]]:
    """The weights and the optimizers' variables as each local replica has them."""
    variables = [
        *(step.generator.weights + step.discriminator.weights),
        *(step.discriminator.optimizer.variables + step.adversarial.optimizer.variables),
    ]
    values = [getattr(v.value, "values", (v.value,)) for v in variables]
    return [[value[i].numpy() for value in values] for i in range(len(values[0]))]


def main(folder: Path, batch_size: str, dtypes: str, *flags: str) -> None:
    """Takes the steps; on one device where no strategy is among the flags."""
    options = Parser("dcgan_mnist", "", "").options([*flags, "--batch-size", batch_size])
    tf.raw_ops.FusedBatchNormV3 = fused_batch_norm
    number = 0
    if options.strategy != "none":
        workers = join(options)
        strategy = tf.distribute.get_strategy()
        resolver = strategy.cluster_resolver
        number = resolver.task_id if resolver and resolver.task_id else 0
        assert workers.any(number == 0)
        assert not workers.any(False)
        content = np.random.default_rng(0).bytes(3 * 2**20 + 5)
        assert workers.from_chief(content if workers.is_chief else b"nothing") == content
    else:
        strategy = None
        options.engine = "compiled"
    for dtype in dtypes.split(","):
        keras.config.set_floatx(dtype)
        keras.config.set_dtype_policy(dtype)
        for name in ("dcgan", "cgan"):
            for batchnorm in ("own", "synchronized") if dtype == "float32" else ("synchronized",):
                tf.distribute.experimental_set_strategy(strategy)
                options.sync_batchnorm = batchnorm == "synchronized"
                step = step_of(name, options)
                assert isinstance(step, CompiledStep)
                one_step = step._step
                step._step = lambda *drawn, one_step=one_step, dtype=dtype: [
                    tf.cast(figure, dtype) for figure in one_step(*drawn)
                ]
                figures = step(STEPS)
                np.savez(
                    folder / f"{name}-{batchnorm}-{dtype}-{number}.npz",
                    figures=figures,
                    **{
                        f"{i}/{j}": value
                        for i, values in enumerate(replicas_of(step))
                        for j, value in enumerate(values)
                    },
                )


if __name__ == "__main__":
    runtime.seed_everything(0)
    main(Path(sys.argv[1]), *sys.argv[2:])
