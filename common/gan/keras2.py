"""Keras 2's optimizer and batch normalization, for which the chapter was written.

Keras 3 computes something else under the same names. The chapter's networks and learning rates were
chosen for Keras 2; with Keras 3's, training diverges from the chapter's or ends in worse digits.
"""

import keras
import tensorflow as tf
from keras import ops


def decaying(lr: float, decay: float) -> keras.optimizers.schedules.LearningRateSchedule:
    """The learning rate of Keras 2's optimizers: after n updates it is lr / (1 + decay * n)."""
    return keras.optimizers.schedules.InverseTimeDecay(lr, decay_steps=1, decay_rate=decay)


class RMSprop(keras.optimizers.RMSprop):
    """Keras 2's RMSprop (without momentum), which adds epsilon outside of the root.

        w <- w - lr * g / (sqrt(v) + epsilon),    v <- rho * v + (1 - rho) * g^2

    Keras 3 divides by sqrt(v + epsilon). With epsilon = 1e-7 that is a lower bound of 3e-4 on the
    RMS gradient, which is larger than many gradients of this GAN. The defaults, rho = 0.9 and
    epsilon = 1e-7, are the same in both.
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
    """Keras 2's batch normalization.

    For feature maps, inputs of rank 4, Keras 2 uses TensorFlow's fused kernel. It moves
    `moving_variance` towards the unbiased variance of a batch (divided by N - 1); Keras 3 moves it
    towards the biased one (divided by N). D's fakes are drawn with these statistics: with the
    biased variance the losses of a DCGAN are off by 0.5% within 20 steps from the same start, with
    this layer by 0.004%. The kernel is also a little faster. For inputs of other ranks, such as the
    output of a Dense layer, Keras 2 and Keras 3 compute the same. Along other axes than the last
    this layer is Keras 3's.

    Weights and settings are those of Keras's own layer. An .h5 file holds no more than that and
    names it as that layer, so it opens without this project.

    Replicas that share a batch normalize their shares with the statistics of the share, or, if
    `synchronized` is set, with those of the whole batch, as a single device would.
    """

    def call(self, inputs: tf.Tensor, training: bool | None = None) -> tf.Tensor:
        """Normalizes over all axes but the last.

        Args:
            inputs: float32 of shape (batch, height, width, channels), or any other with the
                channels last.
            training: Whether to use the statistics of this batch, and to move the moving ones.

        Returns:
            A tensor of the shape and dtype of `inputs`.
        """
        if len(inputs.shape) != 4 or self.axis not in (-1, 3):
            return super().call(inputs, training=training)
        frozen = training and not self.trainable
        training = bool(training and self.trainable)
        if frozen:
            # as the kernel, whose gradients here are not deterministic on a GPU, so that TensorFlow
            # refuses them
            outputs = self.normalize(inputs, self.moving_mean, self.moving_variance)
        elif training and self.synchronized:
            outputs, mean, variance = self._normalize_synchronized(inputs)
        else:
            outputs, mean, variance, *_ = tf.raw_ops.FusedBatchNormV3(
                x=inputs,
                scale=self.gamma if self.scale else tf.ones_like(self.moving_mean),
                offset=self.beta if self.center else tf.zeros_like(self.moving_mean),
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

    def normalize(self, inputs: tf.Tensor, mean: tf.Tensor, variance: tf.Tensor) -> tf.Tensor:
        """Computes the kernel's outputs from statistics of one's own, each of shape (channels,)."""
        return tf.nn.batch_normalization(
            inputs, mean, variance, self.beta, self.gamma, self.epsilon
        )

    def _normalize_synchronized(self, inputs: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        """Computes the kernel's outputs, mean and unbiased variance over all replicas.

        The kernel itself sees one replica. Keras's own way, by the mean of squares, is less exact.
        """
        replica = tf.distribute.get_replica_context()

        def mean_of_all(values: tf.Tensor) -> tf.Tensor:
            return replica.all_reduce(
                tf.distribute.ReduceOp.MEAN, tf.reduce_mean(values, [0, 1, 2])
            )

        mean = mean_of_all(inputs)
        variance = mean_of_all(tf.square(inputs - mean))
        outputs = self.normalize(inputs, mean, variance)
        count = tf.size(inputs) // tf.size(mean) * replica.num_replicas_in_sync
        # as the kernel, also for one value
        unbiased = variance * tf.cast(count / tf.maximum(count - 1, 1), variance.dtype)
        return outputs, mean, unbiased

    def get_config(self) -> dict:
        """The layer's settings for a file, without the one that belongs to a run's devices."""
        return super().get_config() | {"synchronized": False}
