"""Compiling the networks and joining them into the adversarial model (listing 4.2.3)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import keras

from common.gan.keras2 import RMSprop, decaying

_CONVOLUTIONS = (keras.layers.Conv2D, keras.layers.Conv2DTranspose)

# What a layer computes apart from its weights, and what that is where a configuration does not say.
_SETTINGS = (
    *("units", "filters", "kernel_size", "strides", "padding", "output_padding", "dilation_rate"),
    *("groups", "data_format", "use_bias", "epsilon", "center", "scale", "depth_multiplier"),
    *("negative_slope", "max_value", "threshold", "size", "interpolation", "cropping", "dims"),
    *("pool_size", "offset"),
)
_DEFAULTS = {"dilation_rate": 1, "groups": 1, "data_format": "channels_last", "threshold": 0} | {
    "use_bias": True,
    "center": True,
    "scale": True,
    "negative_slope": 0,
}
# Layers that only pass on what they get when images are drawn. How they shape it is seen from the
# weights of the next layer.
_PASSING = {"InputLayer", "Reshape", "Flatten", "Dropout", "SpatialDropout2D", "GaussianNoise"}


def compile_model(
    model: keras.Model,
    lr: float,
    decay: float,
    loss: str | Callable = "binary_crossentropy",
    optimizer: Callable[..., keras.optimizers.Optimizer] = RMSprop,
) -> None:
    """Compiles D or the adversarial model as listing 4.2.3 does.

    Convolutions of a single pixel compute in float32 whatever their dtype: in bfloat16 oneDNN
    leaves parts of their gradient uninitialized. Those of 2 x 2 pixels and more were found right.

    A model that computes in float16 gets a loss scale (Micikevicius et al.: Mixed Precision
    Training, 2017, arXiv:1710.03740), because many gradients are smaller than float16's smallest
    number.

    Args:
        model: From images or latent vectors to the probability of being real, shape (count, 1).
        lr: Learning rate of the optimizer.
        decay: Its decay.
        loss: The loss, as Keras takes it.
        optimizer: Makes the optimizer from its learning rate.
    """
    made = optimizer(decaying(lr, decay))
    layers = [*layers_of(model)]
    for layer in layers:
        if isinstance(layer, _CONVOLUTIONS) and _sees_one_pixel(layer):
            layer.dtype_policy = "float32"
    if any(layer.compute_dtype == "float16" for layer in layers):
        made = keras.optimizers.LossScaleOptimizer(made)
    model.compile(
        loss=loss,
        optimizer=made,
        metrics=["accuracy"],
        jit_compile=False,  # XLA, which Keras may choose, takes 10 times as long on a CPU
    )


def _sees_one_pixel(convolution: keras.Layer) -> bool:
    return {*convolution.input.shape[1:3], *convolution.output.shape[1:3]} == {1}


def build_adversarial(generator: keras.Model, discriminator: keras.Model, name: str) -> keras.Model:
    """Joins G and D: adversarial(z) = D(G(z)) (listing 4.2.3, figures 4.1.4 and 4.3.3).

    Whatever G takes in after z, the labels of a CGAN, is passed on to D. D is frozen here; the
    alternating step unfreezes it for D's own update.

    Args:
        generator: From `[z]` or `[z, labels]` to images of shape (count, size, size, 1).
        discriminator: From `[images]` or `[images, labels]` to probabilities, shape (count, 1).
        name: The model's name.

    Returns:
        The model from G's inputs to D's output, not yet compiled.
    """
    discriminator.trainable = False
    fake = [generator(generator.inputs), *generator.inputs[1:]]
    return keras.Model(generator.inputs, discriminator(fake), name=name)


def layers_of(network: keras.Model) -> Iterator[keras.Layer]:
    """The layers of a network, and of the networks within it, in their order."""
    for layer in network.layers:
        if isinstance(layer, keras.Model):
            yield from layers_of(layer)
        else:
            yield layer


def copy_of(network: keras.Model, copied: Callable[[keras.Layer], keras.Layer]) -> keras.Model:
    """A network of the same weights, with other layers in the place of its own.

    Args:
        network: The network.
        copied: Makes what stands in the place of a layer, also of one in a network within it.
    """

    def copied_part(part: keras.Layer) -> keras.Layer:
        if isinstance(part, keras.Sequential):
            # not cloned, because its input would keep the dtype of its first layer
            return keras.Sequential([copied_part(x) for x in part.layers], name=part.name)
        if isinstance(part, keras.Model):
            return keras.models.clone_model(part, clone_function=copied_part)
        return copied(part)

    copy = keras.models.clone_model(network, clone_function=copied_part)
    copy.set_weights(network.get_weights())
    return copy


def last_layer(generator: keras.Model) -> keras.Layer:
    """The layer that computes a generator's pixels; after it they are only moved."""
    layers = keras.layers
    only_move_pixels = (layers.Reshape, layers.Permute, layers.Cropping2D)
    last = next(x for x in reversed(generator.layers) if not isinstance(x, only_move_pixels))
    return last_layer(last) if isinstance(last, keras.Model) else last


def lowest_pixel(generator: keras.Model) -> int:
    """The value that a generator draws black as: -1 if it ends in tanh, otherwise 0."""
    last = last_layer(generator)
    return -1 if getattr(last, "activation", None) is keras.activations.tanh else 0


def computation(config: Any) -> list[str]:
    """What a network computes, in words: one entry for each layer, and for each activation.

    An activation is an entry of its own, whether it is a layer or an argument of one, so networks
    that compute the same have the same entries in most cases, whichever Keras describes them.

    Args:
        config: The configuration of a model of Keras 2 or 3, as parsed JSON.

    Raises:
        LookupError, TypeError, ValueError, AttributeError: It is not that of a model.
    """
    layers = config if isinstance(config, list) else config["layers"]
    inputs = {
        layer["config"]["name"]: (
            layer["config"].get("batch_shape") or layer["config"]["batch_input_shape"]
        )[-1]
        for layer in layers
        if layer["class_name"] == "InputLayer"
    }
    entries: list[str] = []
    for layer in layers:
        if layer["class_name"] == "Concatenate":
            # of z and labels, or of labels and z
            names = list(_names_in(layer["inbound_nodes"]))
            if set(names) <= inputs.keys():
                entries.append(f"Concatenate ({' and '.join(str(inputs[x]) for x in names)})")
        elif "layers" in layer["config"]:
            entries += computation(layer["config"])
        else:
            entries += _entries(layer["class_name"], layer["config"])
    return entries


def _entries(kind: str, config: dict[str, Any]) -> Iterator[str]:
    """A layer's entry, if it computes anything, and that of its activation."""
    if kind not in _PASSING | {"Activation"}:
        if kind == "LeakyReLU":  # its slope has changed its name, but not its default
            config = {"negative_slope": config.get("alpha", 0.3)} | config
        if kind in ("ReLU", "LeakyReLU"):
            kind = "LeakyReLU" if config.get("negative_slope") else "relu"
        settings = {x: _plain(config.get(x)) for x in _SETTINGS}
        told = ", ".join(
            f"{name} {value}"
            for name, value in settings.items()
            if value is not None and value != _DEFAULTS.get(name)
        )
        yield f"{kind} ({told})" if told else kind
    activation = config.get("activation")
    if isinstance(activation, dict):
        if isinstance(activation["config"], dict):  # a layer in the place of a function
            yield from _entries(activation["class_name"], activation["config"])
            return
        activation = activation["config"]  # the name of a function
    if activation == "leaky_relu":
        yield "LeakyReLU (negative_slope 0.2)"
    elif activation not in (None, "linear"):
        yield str(activation)


def _plain(value: Any) -> Any:
    """A setting as both versions of Keras would write it: 2 for [2, 2], 0.2 for float32's 0.2."""
    if isinstance(value, list) and value and all(x == value[0] for x in value):
        return _plain(value[0])
    return float(f"{value:.6g}") if isinstance(value, float) else value


def _names_in(nodes: Any) -> Iterator[str]:
    """The names of the layers whose outputs a layer takes, in their order."""
    if isinstance(nodes, dict):
        nodes = list(nodes.values())
    if isinstance(nodes, list):
        if len(nodes) > 2 and isinstance(nodes[0], str) and isinstance(nodes[1], int):
            yield nodes[0]
        else:
            for node in nodes:
                yield from _names_in(node)
