"""A page that draws: one HTML file that holds a generator and computes its images in a browser.

The page's own files are in web/. The innermost loop is WebAssembly, products.wat: an image of MNIST
takes 7 ms in Chromium, on one core, and the page has 3.7 MB. Libraries do worse: TensorFlow.js 4.22
takes 61 ms, and onnxruntime-web 1.30, with 7 to 12 ms, would make a page of 23 MB.
"""

import base64
import dataclasses
import json
import math
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np
from keras import layers

from common.errors import UserError
from common.gan.batches import LatentSampler
from common.gan.keras2 import BatchNormalization
from common.gan.models import lowest_pixel

_WEB = Path(__file__).parent / "web"
# products.wat computes this many output channels at a time.
_CHANNELS = 8


def page_of(generator: keras.Model, names: Sequence[str] = ()) -> bytes:
    """Makes the page of a generator, an HTML file; the same generator gives the same bytes.

    Args:
        generator: From `[z]` or `[z, labels]` to images; its layers follow one another, after a
            Concatenate of the two inputs. Its weights are rounded to float16.
        names: Of the classes, one for each label; none if they are called 0, 1, 2 ...
    """
    latent = LatentSampler.of(generator)
    inputs, steps = _steps_of(generator)
    description = {
        "latentSize": latent.latent_size,
        "numLabels": latent.num_labels,
        "imageSize": generator.outputs[0].shape[1],
        "lowestPixel": lowest_pixel(generator),
        "labelsFirst": inputs[0] is not generator.inputs[0],
        "weightCount": generator.count_params(),
        "names": names,
        "steps": [{"operation": step.operation, **step.settings} for step in steps],
    }
    parts = {
        # names may hold "</script>"
        "description": json.dumps(description, separators=(",", ":")).replace("<", "\\u003c"),
        "weights": base64.b64encode(_packed(steps)).decode(),
        "products.wasm": base64.b64encode((_WEB / "products.wasm").read_bytes()).decode(),
        **{file.name: file.read_text("utf-8") for file in _WEB.glob("*s")},  # .js and .css
    }
    template = (_WEB / "page.html").read_text("utf-8")
    return re.sub(r"\{\{(.+?)\}\}", lambda found: parts[found[1]], template).encode()


@dataclasses.dataclass
class _Operation:
    """One operation of the page."""

    operation: str  # its name in generator.js
    settings: dict[str, Any] = dataclasses.field(default_factory=dict)
    # a convolution's kernel, of shape (height, width, inputs, outputs), and its bias; or scale and
    # shift of each channel
    weights: list[np.ndarray] = dataclasses.field(default_factory=list)


# What the page knows. Not subclasses: they may compute something else.
_CONVOLUTIONS = (layers.Dense, layers.Conv2DTranspose)
_NORMALIZATIONS = (layers.BatchNormalization, BatchNormalization)
_ACTIVATION_LAYERS = (layers.Activation, layers.ReLU, layers.LeakyReLU)
_PASSING = (layers.Reshape, layers.Flatten, layers.Dropout)  # they leave the values as they are
_KNOWN = _CONVOLUTIONS + _NORMALIZATIONS + _ACTIVATION_LAYERS + _PASSING
_FUNCTIONS = {
    keras.activations.linear: [],
    keras.activations.relu: [_Operation("relu", {"slope": 0})],
    keras.activations.leaky_relu: [_Operation("relu", {"slope": 0.2})],
    keras.activations.sigmoid: [_Operation("sigmoid")],
    keras.activations.tanh: [_Operation("tanh")],
}


def _steps_of(generator: keras.Model) -> tuple[list[keras.KerasTensor], list[_Operation]]:
    """The inputs in the order in which they are concatenated, and what follows, step by step."""
    inputs = values = list(generator.inputs)
    steps: list[_Operation] = []
    for layer in generator.layers:
        kind = type(layer)
        if kind is layers.InputLayer:
            continue
        taken = layer.input if isinstance(layer.input, list) else [layer.input]
        if kind is layers.Concatenate and {*map(id, taken)} == {*map(id, generator.inputs)}:
            inputs = taken
        elif kind not in _KNOWN:
            known = ", ".join(sorted({known.__name__ for known in _KNOWN}))
            raise _refused(layer, f"the page knows {known}, and one Concatenate of z and labels")
        elif [*map(id, taken)] != [*map(id, values)]:
            break
        elif kind in _CONVOLUTIONS:
            steps += [_convolution(layer), *_activation(layer)]
        elif kind in _NORMALIZATIONS:
            _append_normalization(layer, steps)
        elif kind in _ACTIVATION_LAYERS:
            steps += _activation(layer)
        values = [layer.output]
    if values[0] is not generator.outputs[0]:
        raise _refused(layer, "expected layers that follow one another, each used once")
    return inputs, steps


def _refused(layer: keras.Layer, why: str) -> UserError:
    return _no_page(f"the layer {layer.name} ({type(layer).__name__}): {why}")


def _no_page(reason: str) -> UserError:
    return UserError(
        f"argument --export: no page can be made with {reason}: export an .onnx or a .keras file "
        "instead"
    )


def _expect(layer: keras.Layer, **settings: Any) -> None:
    """Refuses a layer with other settings, which the page does not know."""
    for name, expected in settings.items():
        found = getattr(layer, name)
        if found != expected:
            raise _refused(layer, f"{name} {found} found, {expected} expected")


def _convolution(layer: keras.Layer) -> _Operation:
    """A transposed convolution, with Keras's rule for the padding "same"; or a Dense layer."""
    if isinstance(layer, layers.Dense):  # a convolution of single pixels, as many as there are
        pixels = [math.prod(layer.input.shape[1:-1]), 1]
        sizes = {"input": [*pixels, layer.input.shape[-1]], "output": [*pixels, layer.units]}
        kernel = layer.kernel.numpy()[np.newaxis, np.newaxis]
        strides, padding = [1, 1], [0, 0]
    else:
        _expect(layer, output_padding=None, dilation_rate=(1, 1), data_format="channels_last")
        sizes = {"input": layer.input.shape[1:], "output": layer.output.shape[1:]}
        kernel = layer.kernel.numpy().swapaxes(2, 3)  # Keras has outputs before inputs
        strides = layer.strides
        surplus = [max(n - by, 0) for n, by in zip(layer.kernel_size, strides, strict=True)]
        padding = [n // 2 if layer.padding == "same" else 0 for n in surplus]
    settings = {**sizes, "kernel": kernel.shape[:2], "strides": strides, "padding": padding}
    bias = layer.bias.numpy() if layer.use_bias else np.zeros(kernel.shape[-1])
    return _Operation("convolve", settings, [kernel.astype(np.float64), bias])


def _append_normalization(layer: keras.Layer, steps: list[_Operation]) -> None:
    """Folds the moving statistics into the convolution before; where it cannot, appends them."""
    _expect(layer, axis=-1 if layer.axis == -1 else len(layer.input.shape) - 1)
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
        steps.append(_Operation("scale", {"channels": len(scale)}, [scale, shift]))


def _activation(layer: keras.Layer) -> list[_Operation]:
    """An activation: a function or a layer as an argument of another layer, or a layer itself."""
    function = getattr(layer, "activation", layer)
    if type(function) in (layers.ReLU, layers.LeakyReLU):
        if isinstance(function, layers.ReLU):
            _expect(function, max_value=None, threshold=0)
        return [_Operation("relu", {"slope": float(function.negative_slope)})]
    if function not in _FUNCTIONS:
        name = getattr(function, "__name__", type(function).__name__)
        known = ", ".join(known.__name__ for known in _FUNCTIONS)
        raise _refused(layer, f"activation {name} found, the page knows {known}")
    return _FUNCTIONS[function]


def _packed(steps: list[_Operation]) -> bytes:
    """All weights as float16, little-endian; a convolution's with padded output channels."""
    arrays = []
    for step in steps:
        for weight in step.weights:
            missing = -weight.shape[-1] % _CHANNELS if step.operation == "convolve" else 0
            arrays.append(np.pad(weight, [(0, 0)] * (weight.ndim - 1) + [(0, missing)]).ravel())
    with np.errstate(over="ignore"):
        packed = np.concatenate(arrays).astype("<f2")
    if not np.isfinite(packed).all():
        raise _no_page("weights that float16 cannot hold, which are above 65504 or not finite")
    return packed.tobytes()
