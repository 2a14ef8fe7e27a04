"""Where does Keras 3 compute something else than Keras 2, for which the chapter was written?

The chapter's networks and learning rates were chosen for what stands here; the same names in
Keras 3 train to worse digits, or take another path from the same start.
"""

from __future__ import annotations

import keras
import tensorflow as tf
from keras import ops


def decaying(lr: float, decay: float) -> keras.optimizers.schedules.LearningRateSchedule:
    """The learning rate that Keras 2's optimizers had for `lr` and `decay`.

    Args:
        lr: The learning rate of the first update.
        decay: By how much it decays: after n updates it is lr / (1 + decay * n).
    """
    return keras.optimizers.schedules.InverseTimeDecay(lr, decay_steps=1, decay_rate=decay)


class RMSprop(keras.optimizers.RMSprop):
    """Keras 2's RMSprop, which has epsilon outside of the root (without momentum).

        w <- w - lr * g / (sqrt(v) + epsilon),    v <- rho * v + (1 - rho) * g^2

    Keras 3 divides by sqrt(v + epsilon). With epsilon = 1e-7 that is a floor of 3e-4 under the RMS
    gradient, larger than many gradients of this GAN: another optimizer. The defaults, rho = 0.9
    and epsilon = 1e-7, are the same in both.
    """

    def update_step(
        self, gradient: tf.Tensor, variable: keras.Variable, learning_rate: tf.Tensor
    ) -> None:
        """Updates one variable and its running mean square v of the gradient."""
        velocity = self._velocities[self._get_variable_index(variable)]
        mean_square = self.rho * velocity + (1 - self.rho) * ops.square(gradient)
        self.assign(velocity, mean_square)
        learning_rate = ops.cast(learning_rate, variable.dtype)
        step = learning_rate * gradient / (ops.sqrt(mean_square) + self.epsilon)
        self.assign_sub(variable, step)


class BatchNormalization(keras.layers.BatchNormalization):
    """Keras 2's batch normalization of feature maps: TensorFlow's fused kernel.

    It moves `moving_variance` towards the unbiased variance of a batch (divided by N - 1), where
    Keras 3 takes the biased one (divided by N). The generator that draws the discriminator's fakes
    lives on these statistics: with the biased variance the losses of a DCGAN are 0.5% off within
    20 steps from the same start, with this layer 0.004%. The kernel is also a little faster.

    Weights and settings are those of the layer of the same name in Keras, and in an .h5 file, which
    holds no more than that, it is that layer: the file opens without this project.

    Where several replicas share a batch, each normalizes its share by the share's own statistics,
    unless `synchronized` is set: then by those of the whole batch, as one device would.
    """

    def call(self, inputs: tf.Tensor, training: bool | None = None) -> tf.Tensor:
        """Normalizes over all axes but the last.

        Args:
            inputs: float32 of shape (batch, height, width, channels).
            training: Whether to use, and learn from, the statistics of this batch.

        Returns:
            Of the shape and dtype of `inputs`.
        """
        training = bool(training and self.trainable)
        if training and self.synchronized:
            outputs, mean, variance = self._normalize_together(inputs)
        else:
            outputs, mean, variance, *_ = tf.raw_ops.FusedBatchNormV3(
                x=inputs,
                scale=self.gamma,
                offset=self.beta,
                mean=[] if training else self.moving_mean,
                variance=[] if training else self.moving_variance,
                epsilon=self.epsilon,
                is_training=training,
            )
        if training:
            rate = 1.0 - self.momentum
            self.moving_mean.assign_sub((self.moving_mean - mean) * rate)
            self.moving_variance.assign_sub((self.moving_variance - variance) * rate)
        return outputs

    def _normalize_together(self, inputs: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        """What the fused kernel computes, of the inputs of all replicas, which it cannot do.

        Keras's own way, by the mean of the squares, is less exact.
        """
        replica = tf.distribute.get_replica_context()

        def mean_of_all(values: tf.Tensor) -> tf.Tensor:
            return replica.all_reduce(
                tf.distribute.ReduceOp.MEAN, tf.reduce_mean(values, [0, 1, 2])
            )

        mean = mean_of_all(inputs)
        variance = mean_of_all(tf.square(inputs - mean))
        outputs = tf.nn.batch_normalization(
            inputs, mean, variance, self.beta, self.gamma, self.epsilon
        )
        count = tf.size(inputs) // tf.size(mean) * replica.num_replicas_in_sync
        unbiased = variance * tf.cast(count / (count - 1), variance.dtype)
        return outputs, mean, unbiased

    def get_config(self) -> dict:
        """The settings of the layer in a file, which knows nothing of devices."""
        return super().get_config() | {"synchronized": False}
