"""What the page of a generator holds, without a browser."""

import base64
import json
import re

import keras
import numpy as np
import pytest
import wasmtime
from keras import layers

import cgan_mnist
import dcgan_mnist
from common.errors import UserError
from common.gan.batches import generate, one_hot
from common.gan.saving import save_generator
from common.sampling.export import export_generator
from common.sampling.page import page_of
from conftest import ROOT
from pages import GENERATORS, chapters, included, inputs_for

SHIPPED = ROOT / "docs" / "cgan_mnist.html"
WEB = ROOT / "common" / "sampling" / "web"


def part(page, name):
    return re.search(rf'<script type="\S+" id="{name}">(.*?)</script>'.encode(), page, re.DOTALL)[1]


def computed(page, inputs):
    """What the steps in a page say, in NumPy, by the definition of a transposed convolution.

    Each input pixel adds its share to all output pixels around it; the page goes the other way.
    """
    description = json.loads(part(page, "description"))
    weights = np.frombuffer(base64.b64decode(part(page, "weights")), "<f2").astype(float)
    values = np.concatenate(inputs[:: -1 if description["labelsFirst"] else 1], axis=1)
    used = 0

    def take(*shape):
        nonlocal used
        used += np.prod(shape)
        return weights[used - np.prod(shape) : used].reshape(shape)

    for step in description["steps"]:
        operation = step["operation"]
        if operation == "convolve":
            height, width, channels = step["output"]
            padded = -(-channels // 8) * 8
            kernel = take(*step["kernel"], step["input"][2], padded)[..., :channels]
            bias = take(padded)[:channels]
            values = values.reshape(-1, *step["input"])
            (down, right), (top, left) = step["strides"], step["padding"]
            whole = np.zeros((len(values), height + top + 99, width + left + 99, channels))
            for y, x in np.ndindex(*step["input"][:2]):
                share = np.einsum("ni,klio->nklo", values[:, y, x], kernel)
                region = np.s_[:, y * down :, x * right :]
                whole[region][:, : kernel.shape[0], : kernel.shape[1]] += share
            values = whole[:, top : top + height, left : left + width] + bias
        elif operation == "scale":
            scale, shift = take(step["channels"]), take(step["channels"])
            values = values.reshape(len(values), -1, step["channels"]) * scale + shift
            values = values.reshape(len(values), -1)
        else:
            formulas = {
                "relu": lambda x: np.where(x < 0, step["slope"] * x, x),  # noqa: B023
                "sigmoid": lambda x: 1 / (1 + np.exp(-x)),
                "tanh": np.tanh,
            }
            values = formulas[operation](values)
    assert used == len(weights)
    lowest = description["lowestPixel"]
    return (values - lowest) / (1 - lowest)


@pytest.mark.parametrize("name", ["8 pixels, 3 labels", "unusual"])
def test_its_steps_are_what_keras_computes(name):
    generator = GENERATORS[name]()
    noise, labels = inputs_for(generator, 10)
    inputs = [noise, one_hot(labels, generator.inputs[1].shape[1])]
    expected = generate(generator, inputs)
    assert expected.std(axis=0).mean() > 0.1
    np.testing.assert_allclose(computed(page_of(generator), inputs), expected, atol=1e-2)


def test_the_page_in_docs_is_the_included_generators():
    assert SHIPPED.read_bytes() == page_of(included(cgan_mnist))
    assert len(SHIPPED.read_bytes()) < 8e6


def test_the_programs_write_it(gan, tmp_path, capsys):
    generator = chapters(gan.program, 8, gan.num_labels)
    save_generator(generator, tmp_path / "g.h5")
    gan.program.main(["-g", str(tmp_path / "g.h5"), "--export", str(tmp_path / "a" / "g.HTML")])
    assert (tmp_path / "a" / "g.HTML").read_bytes() == page_of(generator)
    assert [file.name for file in (tmp_path / "a").iterdir()] == ["g.HTML"]
    assert capsys.readouterr().out == f"written to {tmp_path / 'a' / 'g.HTML'}\n"


def test_nothing_in_it_is_loaded_from_elsewhere():
    page = page_of(chapters(dcgan_mnist, 8)).decode()
    assert re.findall(r'\b(?:src|href|action)="([^"]*)', page) == ["data:,"]
    assert not re.search(r"://|url\(|\bimport\b|fetch\(|XMLHttpRequest", page)
    assert "default-src 'none'" in page


def test_products_wasm_is_assembled_from_its_source():
    assembled = wasmtime.wat2wasm((WEB / "products.wat").read_text())
    assert (WEB / "products.wasm").read_bytes() == assembled


def made_of(*following):
    """A generator of these layers."""
    first = [keras.Input((64,)), layers.Reshape((4, 4, 4))]
    return keras.Sequential([*first, *following])


def used_twice():
    z, layer = keras.Input((64,)), layers.Dense(64)
    return keras.Model(z, layer(layer(z)))


TOO_LARGE = keras.initializers.Constant(1e5)
KNOWN = "the page knows Activation, BatchNormalization, Conv2DTranspose, Dense, Dropout, Flatten, "
IN_A_ROW = "expected layers that follow one another, each used once"


@pytest.mark.parametrize(
    ("make", "complaint"),
    [
        (lambda: made_of(layers.UpSampling2D()), f"(UpSampling2D): {KNOWN}"),
        (used_twice, f"(Dense): {IN_A_ROW}"),
        (
            lambda: made_of(layers.Activation("gelu")),
            "(Activation): activation gelu found, the page knows linear, relu, leaky_relu, ",
        ),
        (lambda: made_of(layers.ReLU(6)), "(ReLU): max_value 6 found, None expected"),
        (
            lambda: made_of(layers.Conv2DTranspose(4, 3, dilation_rate=2)),
            "(Conv2DTranspose): dilation_rate (2, 2) found, (1, 1) expected",
        ),
        (
            lambda: made_of(layers.Dense(1, kernel_initializer=TOO_LARGE)),
            "weights that float16 cannot hold, which are above 65504 or not finite",
        ),
    ],
)
def test_what_it_cannot_draw_is_refused(make, complaint, tmp_path):
    with pytest.raises(UserError, match=re.escape(complaint)) as refused:
        export_generator(make(), tmp_path / "new" / "g.html")
    message = str(refused.value)
    assert message.startswith("argument --export: ")
    assert message.endswith(": export an .onnx or a .keras file instead")
    assert "\n" not in message
    assert list(tmp_path.iterdir()) == []
