"""The chapter's programs in Keras 2, for which they were written: the oracle of the tests.

Written for tf-keras, Keras 2 as it is kept alive, from the listings alone: nothing of the project
is used, so that a mistake there is not repeated here.
"""

from __future__ import annotations

import numpy as np
import tf_keras
from tf_keras import layers

LATENT_SIZE = 100
LR, DECAY = 2e-4, 6e-8


def build_generator(image_size: int = 28, num_labels: int = 0) -> tf_keras.Model:
    """Listing 4.2.1, or with labels 4.3.2."""
    z = layers.Input((LATENT_SIZE,), name="z_input")
    inputs, x = [z], z
    if num_labels:
        labels = layers.Input((num_labels,), name="class_labels")
        inputs, x = [z, labels], layers.concatenate([z, labels], axis=1)
    x = layers.Dense((image_size // 4) ** 2 * 128)(x)
    x = layers.Reshape((image_size // 4, image_size // 4, 128))(x)
    for filters, strides in [(128, 2), (64, 2), (32, 1), (1, 1)]:
        x = layers.BatchNormalization()(x)
        x = layers.Activation("relu")(x)
        x = layers.Conv2DTranspose(filters, 5, strides=strides, padding="same")(x)
    x = layers.Activation("sigmoid")(x)
    return tf_keras.Model(inputs, x, name="generator")


def build_discriminator(image_size: int = 28, num_labels: int = 0) -> tf_keras.Model:
    """Listing 4.2.2, or with labels 4.3.1."""
    image = layers.Input((image_size, image_size, 1), name="discriminator_input")
    inputs, x = [image], image
    if num_labels:
        labels = layers.Input((num_labels,), name="class_labels")
        y = layers.Dense(image_size * image_size)(labels)
        y = layers.Reshape((image_size, image_size, 1))(y)
        inputs, x = [image, labels], layers.concatenate([image, y])
    for filters, strides in [(32, 2), (64, 2), (128, 2), (256, 1)]:
        x = layers.LeakyReLU(alpha=0.2)(x)
        x = layers.Conv2D(filters, 5, strides=strides, padding="same")(x)
    x = layers.Flatten()(x)
    x = layers.Dense(1)(x)
    x = layers.Activation("sigmoid")(x)
    return tf_keras.Model(inputs, x, name="discriminator")


def build_models(image_size: int = 28, num_labels: int = 0) -> tuple[tf_keras.Model, ...]:
    """Listing 4.2.3: (generator, discriminator, adversarial), compiled in the chapter's order."""

    def compile_model(model: tf_keras.Model, factor: float) -> None:
        optimizer = tf_keras.optimizers.legacy.RMSprop(lr=LR * factor, decay=DECAY * factor)
        model.compile(loss="binary_crossentropy", optimizer=optimizer, metrics=["accuracy"])

    discriminator = build_discriminator(image_size, num_labels)
    compile_model(discriminator, 1.0)
    generator = build_generator(image_size, num_labels)
    discriminator.trainable = False
    fake = [generator(generator.inputs), *generator.inputs[1:]]
    adversarial = tf_keras.Model(generator.inputs, discriminator(fake))
    compile_model(adversarial, 0.5)
    return generator, discriminator, adversarial


def scaled(x_train: np.ndarray) -> np.ndarray:
    """Listing 4.2.3: uint8 of shape (N, size, size) to float32 of shape (N, size, size, 1)."""
    return np.reshape(x_train, (*x_train.shape, 1)).astype("float32") / 255


def train(
    models: tuple[tf_keras.Model, ...],
    x_train: np.ndarray,
    y_train: np.ndarray | None,
    rng: np.random.Generator,
    steps: int,
    batch_size: int = 64,
) -> list[tuple[float, float, float, float]]:
    """Listings 4.2.4 and 4.3.3: both losses and accuracies of every step.

    Args:
        models: From `build_models`.
        x_train: Images, from `scaled`.
        y_train: Labels of shape (N,) for a CGAN, None for a DCGAN.
        rng: Takes the place of `np.random`; drawn from in the chapter's order.
        steps: How many to take.
        batch_size: Of real images.
    """
    generator, discriminator, adversarial = models
    onehot = None if y_train is None else np.eye(y_train.max() + 1)[y_train]
    history = []
    for _ in range(steps):
        picked = rng.integers(0, len(x_train), size=batch_size)
        noise = rng.uniform(-1.0, 1.0, size=[batch_size, LATENT_SIZE])
        y = np.concatenate([np.ones((batch_size, 1)), np.zeros((batch_size, 1))])
        if onehot is None:
            fakes = generator.predict(noise, verbose=0)
            d = discriminator.train_on_batch(np.concatenate([x_train[picked], fakes]), y)
        else:
            labels = np.eye(onehot.shape[1])[rng.integers(0, onehot.shape[1], size=batch_size)]
            fakes = generator.predict([noise, labels], verbose=0)
            x = np.concatenate([x_train[picked], fakes])
            d = discriminator.train_on_batch([x, np.concatenate([onehot[picked], labels])], y)

        inputs = rng.uniform(-1.0, 1.0, size=[batch_size, LATENT_SIZE])
        if onehot is not None:
            labels = np.eye(onehot.shape[1])[rng.integers(0, onehot.shape[1], size=batch_size)]
            inputs = [inputs, labels]
        a = adversarial.train_on_batch(inputs, np.ones((batch_size, 1)))
        history.append((*d, *a))
    return history
