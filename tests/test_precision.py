"""Precision: what computes in what, and what stays float32."""

import subprocess
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf

from common import device
from common.gan.keras2 import BatchNormalization
from common.gan.models import compile_model, in_float32, set_precision
from common.gan.saving import save_generator
from conftest import ENVIRONMENT, ROOT, Gan, randomized

CONVOLUTIONS = (keras.layers.Conv2D, keras.layers.Conv2DTranspose)


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize("image_size", [8, 12])
def test_convolutions_alone_compute_in_it(gan, precision, image_size, rng):
    models = gan.models(image_size)
    data = np.zeros((10, image_size, image_size), np.uint8), np.arange(10)
    gan.step(models, *data, rng, precision=precision)
    for network in models[:2]:
        convolutions = [layer for layer in network.layers if isinstance(layer, CONVOLUTIONS)]
        assert len(convolutions) == 4
        if (network.name, image_size) == ("discriminator", 8):
            convolutions.pop()  # of a single pixel
        for layer in network.layers:
            expected = precision if layer in convolutions else "float32"
            assert layer.compute_dtype == expected, layer.name
        assert network.output.dtype == "float32"
        assert {weight.dtype for weight in network.weights} == {"float32"}


def networks_of_blocks(precision):
    """A generator of a block that begins with a convolution, and a network around it."""
    inputs = keras.Input((2, 2, 3))
    convolution = keras.layers.Conv2DTranspose(4, 3, strides=2, padding="same")
    block = keras.Sequential([convolution, BatchNormalization()])
    generator = keras.Model(inputs, block(inputs), name="generator")
    around = keras.Model(inputs, generator(inputs))
    compile_model(around, 1e-4, 0)
    set_precision(around, precision)
    return generator, around


def test_blocks_get_a_loss_scale_and_are_saved_in_float32():
    (exact, plain), (generator, scaled) = map(networks_of_blocks, ("float32", "float16"))
    assert isinstance(scaled.optimizer, keras.optimizers.LossScaleOptimizer)
    assert not isinstance(plain.optimizer, keras.optimizers.LossScaleOptimizer)
    exact.set_weights(generator.get_weights())
    found = in_float32(generator)
    assert "float16" not in found.to_json()
    inputs = np.random.default_rng(0).normal(size=(2, 2, 2, 3)).astype(np.float32)
    np.testing.assert_array_equal(found(inputs), exact(inputs))
    assert not np.array_equal(generator(inputs), exact(inputs))


@pytest.mark.slow
def test_gradients_of_small_feature_maps(gan):
    """Close to float32, whatever the memory held before that TensorFlow writes them to.

    In a process where glibc fills it, with what reads as -1.7e38 in bfloat16.
    """
    name = gan.name
    same = f"t.Gan({name!r}, {name}, {gan.num_labels})"
    code = f"import {name}, test_precision as t; t.check_gradients({same})"
    environment = ENVIRONMENT | {"MALLOC_PERTURB_": "1", "PYTHONPATH": f"{ROOT}:{ROOT / 'tests'}"}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True)
    assert done.returncode == 0, done.stderr.decode()


def check_gradients(gan: Gan) -> None:
    """Compares the gradients of all kernels with those that float32 gives."""
    rng = np.random.default_rng(0)
    for image_size in (4, 8, 12, 16, 20, 24, 28):
        generator, discriminator, _ = gan.models(image_size, "bfloat16")
        for layer in (*generator.layers, *discriminator.layers):
            if not isinstance(layer, CONVOLUTIONS):
                continue
            inputs = tf.constant(rng.normal(size=(16, *layer.input.shape[1:])), tf.float32)
            weights = tf.constant(rng.normal(size=(16, *layer.output.shape[1:])), tf.float32)
            in_float32 = type(layer).from_config(layer.get_config() | {"dtype": "float32"})
            in_float32.build(layer.input.shape)
            in_float32.set_weights(layer.get_weights())
            expected, found = (_gradient(x, inputs, weights) for x in (in_float32, layer))
            # a CPU that emulates bfloat16 adds up in it: it is 3% off where AVX512 is 2%
            atol, where = 0.05 * abs(expected).max(), f"{layer.name}, images of {image_size}"
            np.testing.assert_allclose(found, expected, atol=atol, err_msg=where)


def _gradient(layer: keras.Layer, inputs: tf.Tensor, weights: tf.Tensor) -> np.ndarray:
    """That of a layer's kernel, for the loss that weights its outputs so."""
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(tf.cast(layer(inputs), tf.float32) * weights)
    return tape.gradient(loss, layer.kernel.value).numpy()


@pytest.mark.parametrize("engine", ["train_on_batch", "compiled"])
def test_bfloat16_follows_float32(gan, small_data, engine):
    """To its resolution, 2^-8, over the first steps; and it is not float32 by another name."""
    metrics = {}
    for precision in ("float32", "bfloat16"):
        models = gan.models(8, precision)
        rng = np.random.default_rng(0)
        metrics[precision] = gan.step(models, *small_data, rng, batch_size=16, engine=engine)(3)
        for model in models[1:]:
            kinds = {variable.dtype for variable in model.optimizer.variables}
            assert {kind for kind in kinds if "float" in kind} == {"float32"}
    losses = {name: values[:, ::2] for name, values in metrics.items()}
    np.testing.assert_allclose(losses["bfloat16"], losses["float32"], rtol=0.02)
    assert not np.array_equal(losses["bfloat16"], losses["float32"])


def test_a_saved_generator_computes_in_float32(gan, rng, tmp_path):
    """So that it draws the same everywhere; the weights are those that were trained."""
    generator = randomized(gan.models(8, "bfloat16")[0])
    save_generator(generator, tmp_path / "low.h5")
    loaded = keras.models.load_model(tmp_path / "low.h5", compile=False)
    assert {layer.compute_dtype for layer in loaded.layers} == {"float32"}
    for ours, theirs in zip(generator.get_weights(), loaded.get_weights(), strict=True):
        np.testing.assert_array_equal(ours, theirs)
    in_float32 = gan.program.new_generator(8, gan.num_labels)
    in_float32.set_weights(generator.get_weights())
    inputs = [rng.uniform(-1, 1, (6, 100)).astype(np.float32)]
    inputs += [np.eye(10, dtype=np.float32)[:6]] if gan.num_labels else []
    np.testing.assert_allclose(loaded(inputs), in_float32(inputs), atol=1e-5)
    assert abs(np.array(generator(inputs)) - np.array(loaded(inputs))).max() > 1e-4


def test_in_float16_the_loss_is_scaled(gan, small_data, rng):
    """A CPU computes it too, if slowly; the programs leave it to GPUs."""
    models = gan.models(8)
    step = gan.step(models, *small_data, rng, batch_size=4, precision="float16")
    for model in models[1:]:
        assert isinstance(model.optimizer, keras.optimizers.LossScaleOptimizer)
    before = models[0].get_weights()
    assert np.isfinite(step(1)).all()
    assert any((x != y).any() for x, y in zip(before, models[0].get_weights(), strict=True))


@pytest.mark.parametrize(
    ("cpu_info", "slow"),
    [
        ("model name\t: An old CPU\nflags\t\t: fpu avx2 avx512f\n\nflags : avx512_bf16", True),
        ("model name\t: A new CPU\nflags\t\t: fpu avx2 avx512_bf16 avx512f\n", False),
        ("BogoMIPS\t: 50.00\nFeatures\t: fp asimd bf16\n", False),
        (None, True),
    ],
)
def test_a_warning_where_the_cpu_has_no_bfloat16(cpu_info, slow, tmp_path, monkeypatch, capsys):
    if device.tf.config.list_physical_devices("GPU"):
        pytest.skip("it does not compute here")
    if cpu_info is not None:
        (tmp_path / "cpuinfo").write_text(cpu_info)
    monkeypatch.setattr(device, "_CPU_INFO", tmp_path / "cpuinfo")
    device.check_device("bfloat16", xla=False, batch_size=64)
    out, err = capsys.readouterr()
    assert out.startswith("running on CPU: ")
    assert err.startswith("warning: bfloat16 will be many times slower") == slow
    assert err.count("\n") == slow


@pytest.mark.parametrize(
    ("capability", "precision", "enabled", "said"),
    [
        ((8, 0), "float32", True, "float32 (TF32)"),
        ((8, 0), "float32", False, "float32"),
        ((8, 0), "bfloat16", True, "bfloat16"),
        ((7, 5), "float32", True, "float32"),
    ],
)
def test_tf32_is_named(capability, precision, enabled, said, monkeypatch, capsys):
    """What a GPU since Ampere multiplies in where float32 is asked for."""
    details = {"device_name": "A GPU", "compute_capability": capability}
    config = device.tf.config
    monkeypatch.setattr(config, "list_physical_devices", lambda kind: ["a GPU"])
    monkeypatch.setattr(config.experimental, "get_device_details", lambda device: details)
    before = config.experimental.tensor_float_32_execution_enabled()
    config.experimental.enable_tensor_float_32_execution(enabled)
    try:
        device.check_device(precision, xla=False, batch_size=64)
    finally:
        config.experimental.enable_tensor_float_32_execution(before)
    assert capsys.readouterr().out == f"running on A GPU, convolutions in {said}\n"
