"""A page that draws: one HTML file that holds a generator and computes its images in a browser.

The page's own files are in web/. The innermost loop is WebAssembly, products.wat: an image of MNIST
takes 7 ms in Chromium, on one core, and the page has 3.7 MB. Libraries do worse: TensorFlow.js 4.22
takes 61 ms, and onnxruntime-web 1.30, with 7 to 12 ms, would make a page of 23 MB.
"""

from __future__ import annotations

import base64
import dataclasses
import json
import math
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
from keras import layers

from common.errors import UserError
from common.gan.batches import Latent
from common.gan.keras2 import BatchNormalization
from common.gan.models import lowest_pixel

_WEB = Path(__file__).parent / "web"
# products.wat computes so many output channels at a time.
_CHANNELS = 8
_IN_A_ROW = "expected layers that follow one another, each used once"
_ADVICE = "export an .onnx or a .keras file instead"


def page_of(generator: keras.Model) -> bytes:
    """Makes the page of a generator; the same generator gives the same bytes.

    Args:
        generator: From `[z]` or `[z, labels]` to images; its layers follow one another, after a
            Concatenate of the two inputs. Its weights are rounded to float16.

    Returns:
        The HTML file.

    Raises:
        UserError: The page cannot draw with a layer, or a weight is too large for float16.
    """
    latent = Latent.of(generator)
    inputs, steps = _steps_of(generator)
    description = {
        "latentSize": latent.latent_size,
        "numLabels": latent.num_labels,
        "imageSize": generator.outputs[0].shape[1],
        "lowestPixel": lowest_pixel(generator),
        "labelsFirst": inputs[0] is not generator.inputs[0],
        "weightCount": generator.count_params(),
        "steps": [{"operation": step.operation, **step.settings} for step in steps],
    }
    parts = {
        "description": json.dumps(description, separators=(",", ":")),
        "weights": base64.b64encode(_packed(steps)).decode(),
        "products.wasm": base64.b64encode((_WEB / "products.wasm").read_bytes()).decode(),
        **{file.name: file.read_text("utf-8") for file in _WEB.glob("*.js")},
        "page.css": (_WEB / "page.css").read_text("utf-8"),
    }
    template = (_WEB / "page.html").read_text("utf-8")
    return re.sub(r"\{\{(.+?)\}\}", lambda found: parts[found[1]], template).encode()


@dataclasses.dataclass
class _Step:
    """What the page computes at a time.

    Attributes:
        operation: Its name in generator.js.
        settings: What it needs to know apart from weights.
        weights: A convolution's kernel, of shape (height, width, inputs, outputs), and its bias; or
            scale and shift of each channel.
    """

    operation: str
    settings: dict[str, Any] = dataclasses.field(default_factory=dict)
    weights: list[np.ndarray] = dataclasses.field(default_factory=list)


def _steps_of(generator: keras.Model) -> tuple[list[keras.KerasTensor], list[_Step]]:
    """The inputs in the order in which they are concatenated, and what follows, step by step."""
    inputs = values = list(generator.inputs)
    steps: list[_Step] = []
    for layer in generator.layers:
        if isinstance(layer, layers.InputLayer):
            continue
        taken = layer.input if isinstance(layer.input, list) else [layer.input]
        if type(layer) is layers.Concatenate and {*map(id, taken)} == {*map(id, generator.inputs)}:
            inputs = taken
        elif type(layer) not in _STEPS_OF:
            known = ", ".join(sorted({kind.__name__ for kind in _STEPS_OF}))
            raise _refused(layer, f"the page knows {known}, and one Concatenate of z and labels")
        elif [*map(id, taken)] != [*map(id, values)]:
            raise _refused(layer, _IN_A_ROW)
        else:
            _STEPS_OF[type(layer)](layer, steps)
        values = [layer.output]
    if values[0] is not generator.outputs[0]:
        raise _refused(layer, _IN_A_ROW)
    return inputs, steps


def _refused(layer: keras.Layer, why: str) -> UserError:
    return UserError(
        f"argument --export: no page can be made with the layer {layer.name} "
        f"({type(layer).__name__}): {why}: {_ADVICE}"
    )


def _dense(layer: layers.Dense, steps: list[_Step]) -> None:
    """Appends a Dense layer: a convolution of single pixels, as many as there are."""
    pixels = [math.prod(layer.input.shape[1:-1]), 1]
    shapes = {
        "input": [*pixels, layer.input.shape[-1]],
        "output": [*pixels, layer.units],
        "kernel": [1, 1],
        "strides": [1, 1],
        "padding": [0, 0],
    }
    _weighted(layer, shapes, layer.kernel.numpy()[np.newaxis, np.newaxis], steps)


def _transposed_convolution(layer: layers.Conv2DTranspose, steps: list[_Step]) -> None:
    """Appends a transposed convolution, with Keras's rule for the padding "same"."""
    if layer.output_padding is not None or set(layer.dilation_rate) != {1}:
        raise _refused(layer, "expected no output_padding and no dilation_rate")
    if layer.data_format != "channels_last":
        raise _refused(layer, f"data_format {layer.data_format} found, channels_last expected")
    surplus = [max(n - by, 0) for n, by in zip(layer.kernel_size, layer.strides, strict=True)]
    shapes = {
        "input": layer.input.shape[1:],
        "output": layer.output.shape[1:],
        "kernel": layer.kernel_size,
        "strides": layer.strides,
        "padding": [n // 2 if layer.padding == "same" else 0 for n in surplus],
    }
    # Keras has outputs before inputs
    _weighted(layer, shapes, layer.kernel.numpy().swapaxes(2, 3), steps)


def _weighted(
    layer: keras.Layer, shapes: dict[str, Any], kernel: np.ndarray, steps: list[_Step]
) -> None:
    """Appends a convolution and its activation."""
    kernel = kernel.astype(np.float64)
    bias = layer.bias.numpy() if layer.use_bias else np.zeros(kernel.shape[-1])
    steps.append(_Step("convolve", shapes, [kernel, bias]))
    _activation(layer, steps)


def _batch_normalization(layer: layers.BatchNormalization, steps: list[_Step]) -> None:
    """Folds the moving statistics into the convolution before; where it cannot, appends them."""
    if layer.axis not in (-1, len(layer.input.shape) - 1):
        raise _refused(layer, f"axis {layer.axis} found, the last one expected")
    scale = 1 / np.sqrt(layer.moving_variance.numpy().astype(np.float64) + layer.epsilon)
    if layer.scale:
        scale *= layer.gamma.numpy()
    shift = -layer.moving_mean.numpy() * scale
    if layer.center:
        shift += layer.beta.numpy()
    if steps and steps[-1].operation == "convolve" and not len(steps[-1].weights[1]) % len(scale):
        kernel, bias = steps[-1].weights
        # of a Dense layer whose outputs became a feature map, each channel has several
        scale, shift = (np.tile(x, len(bias) // len(scale)) for x in (scale, shift))
        steps[-1].weights = [kernel * scale, bias * scale + shift]
    else:
        steps.append(_Step("scale", {"channels": len(scale)}, [scale, shift]))


def _relu(layer: layers.ReLU | layers.LeakyReLU, steps: list[_Step]) -> None:
    """Appends a ReLU, leaky or not."""
    if getattr(layer, "max_value", None) is not None or getattr(layer, "threshold", False):
        raise _refused(layer, "expected no max_value and no threshold")
    steps.append(_Step("relu", {"slope": float(layer.negative_slope)}))


def _activation(layer: keras.Layer, steps: list[_Step]) -> None:
    """Appends the activation of a layer, which may be a layer in the place of a function."""
    function = layer.activation
    if type(function) in (layers.ReLU, layers.LeakyReLU):
        _STEPS_OF[type(function)](function, steps)
    elif function in _ACTIVATIONS:
        steps += _ACTIVATIONS[function]
    else:
        name = getattr(function, "__name__", type(function).__name__)
        known = ", ".join(known.__name__ for known in _ACTIVATIONS)
        raise _refused(layer, f"activation {name} found, the page knows {known}")


def _passed_on(layer: keras.Layer, steps: list[_Step]) -> None:
    """Leaves the values as they are."""


_ACTIVATIONS = {
    keras.activations.linear: [],
    keras.activations.relu: [_Step("relu", {"slope": 0})],
    keras.activations.leaky_relu: [_Step("relu", {"slope": 0.2})],
    keras.activations.sigmoid: [_Step("sigmoid")],
    keras.activations.tanh: [_Step("tanh")],
}
# Not subclasses: they may compute something else.
_STEPS_OF: dict[type[keras.Layer], Callable[[Any, list[_Step]], None]] = {
    layers.Dense: _dense,
    layers.Conv2DTranspose: _transposed_convolution,
    layers.BatchNormalization: _batch_normalization,
    BatchNormalization: _batch_normalization,
    layers.Activation: _activation,
    layers.ReLU: _relu,
    layers.LeakyReLU: _relu,
    layers.Reshape: _passed_on,
    layers.Flatten: _passed_on,
    layers.Dropout: _passed_on,
}


def _packed(steps: list[_Step]) -> bytes:
    """All weights as float16, little-endian; a convolution's with padded output channels."""
    arrays = []
    for step in steps:
        for weight in step.weights:
            missing = -weight.shape[-1] % _CHANNELS if step.operation == "convolve" else 0
            arrays.append(np.pad(weight, [(0, 0)] * (weight.ndim - 1) + [(0, missing)]).ravel())
    weights = np.concatenate(arrays)
    largest = np.abs(weights).max()
    if not largest <= np.finfo(np.float16).max:
        raise UserError(
            f"argument --export: a weight of {largest:.3g} is too large for a page, which holds "
            f"weights in float16: {_ADVICE}"
        )
    return weights.astype("<f2").tobytes()
