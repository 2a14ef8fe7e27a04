"""One alternating step: what goes in, what changes, what comes out."""

import itertools
import sys
from unittest import mock

import keras
import numpy as np
import pytest

import dcgan_mnist
from common.data.dataset import load_data
from common.errors import UserError
from common.gan.batches import RealImages
from common.gan.step import METRICS
from common.options import Options
from common.training.train import make_step
from conftest import Gan


class Spy:
    """Records what `train_on_batch` is given and what it changes; the real one does the work."""

    def __init__(self, model: keras.Model, watched: tuple[keras.Model, ...]) -> None:
        self.calls: list[dict] = []
        train_on_batch = model.train_on_batch

        def recorded(x, y):
            before = [w.get_weights() for w in watched]
            predicted = np.array(model(x, training=model.name != "discriminator"))
            for network, weights in zip(watched, before, strict=True):
                network.set_weights(weights)  # the prediction has moved BN's statistics
            metrics = train_on_batch(x, y)
            after = [w.get_weights() for w in watched]
            call = {"x": [np.array(part) for part in x], "y": y, "predicted": predicted}
            self.calls.append(call | {"before": before, "after": after})
            return metrics

        model.train_on_batch = recorded


@pytest.fixture(scope="module")
def spied(gan, small_data):
    """Three steps: `(generator, D's calls, adversarial's calls, logs)`."""
    models = generator, discriminator, adversarial = gan.models(image_size=8)
    d = Spy(discriminator, (generator, discriminator))
    a = Spy(adversarial, (generator, discriminator))
    step = gan.step(models, *small_data, np.random.default_rng(0), batch_size=6)
    logs = [dict(zip(METRICS, step()[0], strict=True)) for _ in range(3)]
    assert len(d.calls) == len(a.calls) == 3
    return generator, d.calls, a.calls, logs


def changed(before: list[np.ndarray], after: list[np.ndarray]) -> list[bool]:
    return [not np.array_equal(old, new) for old, new in zip(before, after, strict=True)]


def assert_learns(call: dict, network: str) -> None:
    """That one network has changed in a call, all of it, and the other has not."""
    for name, before, after in zip("GD", call["before"], call["after"], strict=True):
        assert set(changed(before, after)) == {name == network}


def test_d_learns_and_g_does_not_in_ds_turn(spied):
    _, d_calls, _, _ = spied
    for call in d_calls:
        assert_learns(call, "D")


def test_g_learns_and_d_does_not_in_gs_turn(spied):
    generator, _, a_calls, _ = spied
    names = [weight.name for weight in generator.weights]
    assert names.count("moving_variance") == 4  # which change, too
    for call in a_calls:
        assert_learns(call, "G")


def test_nothing_changes_between_the_turns(spied):
    """Above all: generating the fakes for D leaves the generator as it is."""
    _, d_calls, a_calls, _ = spied
    turns = [call for both in zip(d_calls, a_calls, strict=True) for call in both]
    for earlier, later in itertools.pairwise(turns):
        for before, after in zip(earlier["after"], later["before"], strict=True):
            assert not any(changed(before, after))


def test_d_is_shown_real_images_as_1_and_fakes_as_0(spied, small_data, gan):
    images, labels = small_data
    _, d_calls, _, _ = spied
    scaled = {image.tobytes(): i for i, image in enumerate((images / 255).astype(np.float32))}
    for call in d_calls:
        x, *conditions = call["x"]
        np.testing.assert_array_equal(call["y"][:, 0], [1.0] * 6 + [0.0] * 6)
        indexes = [scaled[image.tobytes()] for image in x[:6, :, :, 0]]
        assert all(fake.tobytes() not in scaled for fake in x[6:, :, :, 0])
        if gan.num_labels:
            np.testing.assert_array_equal(conditions[0][:6].argmax(axis=1), labels[indexes])


def test_ds_fakes_are_drawn_in_inference_mode(gan, small_data):
    models = generator, discriminator, _ = gan.models(image_size=8)
    # statistics that no batch has, so that the two modes differ
    for layer in generator.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.moving_mean.assign(layer.moving_mean + 0.5)
            layer.moving_variance.assign(layer.moving_variance * 4.0)
    spy = Spy(discriminator, (generator, discriminator))
    oracle_rng = np.random.default_rng(5)
    weights = generator.get_weights()
    gan.step(models, *small_data, np.random.default_rng(5), batch_size=6)()

    # the chapter's order of draws: indexes, noise, labels
    oracle_rng.integers(0, 40, size=6)
    inputs = [oracle_rng.uniform(-1, 1, (6, 100)).astype(np.float32)]
    if gan.num_labels:
        inputs.append(np.eye(10, dtype=np.float32)[oracle_rng.integers(0, 10, size=6)])
    generator.set_weights(weights)
    expected = np.array(generator(inputs, training=False))
    np.testing.assert_allclose(spy.calls[0]["x"][0][6:], expected, atol=1e-6)
    assert abs(np.array(generator(inputs, training=True)) - expected).max() > 1e-3
    if gan.num_labels:
        np.testing.assert_array_equal(spy.calls[0]["x"][1][6:], inputs[1])


def test_g_is_told_that_its_fakes_are_real(spied, gan):
    _, _, a_calls, _ = spied
    noises = [call["x"][0] for call in a_calls]
    for call in a_calls:
        np.testing.assert_array_equal(call["y"], np.ones((6, 1)))
        assert call["x"][0].shape == (6, 100)
        assert len(call["x"]) == (2 if gan.num_labels else 1)
    assert not np.array_equal(noises[0], noises[1])


def test_metrics_are_this_batchs_own(spied):
    """Keras before 3.15 returned means over all batches so far."""
    _, d_calls, a_calls, logs = spied
    for name, calls in [("discriminator", d_calls), ("adversarial", a_calls)]:
        for call, log in zip(calls, logs, strict=True):
            p, y = call["predicted"].astype(np.float64), call["y"]
            loss = -np.mean(y * np.log(p) + (1 - y) * np.log(1 - p))
            assert log[f"{name}_loss"] == pytest.approx(loss, rel=1e-4)
            assert log[f"{name}_acc"] == pytest.approx(np.mean((p > 0.5) == y), abs=1e-6)


def test_metrics_are_reset_before_each_batch(gan, small_data, rng):
    """Keras before 3.15, the only one for Python 3.10, does not do so by itself."""
    step = gan.step(gan.models(image_size=8), *small_data, rng, batch_size=6)
    model = mock.Mock()
    step.train_on_batch(model, [], None)
    assert [name for name, *_ in model.method_calls] == ["reset_metrics", "train_on_batch"]


def test_predict_is_not_used(gan, small_data, rng, monkeypatch):
    """In a loop it costs 40 ms and more a step; its images are those of predict_on_batch."""
    monkeypatch.setattr(keras.Model, "predict", lambda *_, **__: pytest.fail("predict was called"))
    gan.step(gan.models(image_size=8), *small_data, rng, batch_size=6)()


def test_both_keep_learning_when_the_batch_size_changes(gan, small_data, rng):
    """Keras then traces its training functions anew, and reads the trainable flags again."""
    models = generator, discriminator, _ = gan.models(image_size=8)
    gan.step(models, *small_data, rng, batch_size=6)()
    watched = generator, discriminator
    d, a = Spy(discriminator, watched), Spy(models[2], watched)
    gan.step(models, *small_data, rng, batch_size=10)()
    assert_learns(d.calls[0], "D")
    assert_learns(a.calls[0], "G")


def taken(gan, data, counts, batch_size, engine, image_size=28, precision="float32"):
    """Takes steps: their metrics, all variables afterwards, the random generator's state."""
    models = generator, discriminator, adversarial = gan.models(image_size, precision)
    step = gan.step(models, *data, np.random.default_rng(0), batch_size, engine)
    metrics = np.concatenate([step(count) for count in counts])
    assert len(set(metrics[:, 0])) == sum(counts)  # of steps that differ
    assert metrics.dtype == np.float32
    assert metrics.shape == (sum(counts), 4)
    optimizers = [discriminator.optimizer.variables, adversarial.optimizer.variables]
    variables = [v for x in (generator.weights, discriminator.weights, *optimizers) for v in x]
    return metrics, [v.numpy() for v in variables], step.rng.bit_generator.state


def assert_same(found: tuple, expected: tuple) -> None:
    """Bit for bit."""
    np.testing.assert_array_equal(found[0], expected[0])
    assert not any(changed(found[1], expected[1]))
    assert found[2] == expected[2]


def test_engines_compute_the_same(gan):
    """Losses, accuracies, weights, optimizers, random generator, on real MNIST."""
    engines = ("train_on_batch", "compiled")
    assert_same(*(taken(gan, load_data(), [5], 8, engine) for engine in engines))


@pytest.mark.parametrize("precision", ["float32", pytest.param("bfloat16", marks=pytest.mark.slow)])
def test_steps_of_one_call(gan, small_data, precision):
    """However many steps are taken in a call, they are the same steps, each with its metrics."""
    expected, *others = (
        taken(gan, small_data, counts, 6, "compiled", 8, precision)
        for counts in ([1] * 7, [7], [2, 4, 1])
    )
    for found in others:
        assert_same(found, expected)


def test_a_batch_that_does_not_fit_into_the_memory(gan, small_data, rng, monkeypatch):
    """Less than 2 MB for an image of MNIST: a step of 10,000 was seen to take 14 GB."""
    monkeypatch.setattr(sys.modules["common.training.train"], "cpu_memory", lambda: 10**9)
    models = gan.models()
    complaint = r"1000 given, with which a step needs about 2 GB .* has 1: give at most 6\d\d$"
    with pytest.raises(UserError, match=complaint):
        gan.step(models, *small_data, rng, batch_size=1000)
    gan.step(models, *small_data, rng, batch_size=600)


@pytest.mark.slow
def test_xla_computes_the_same_steps(small_data):
    """On a CPU, where it is slow: the first step to rounding, all whatever calls they come in."""
    gan = Gan("dcgan_mnist", dcgan_mnist, num_labels=0)
    results = []
    for xla, counts in ((False, [4]), (True, [4]), (True, [1, 3])):
        models = gan.models(image_size=8)
        real = RealImages(small_data[0])
        options = Options(batch_size=6, engine="compiled", xla=xla)
        step = make_step(models, real, np.random.default_rng(0), options)
        results.append(np.concatenate([step(count) for count in counts]))
    plain, xla_once, xla_twice = results
    np.testing.assert_allclose(xla_once[0], plain[0], rtol=1e-5)
    np.testing.assert_array_equal(xla_once, xla_twice)
