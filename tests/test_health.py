"""Signs of failure: each where it is, and none where it is not."""

import numpy as np
import pytest
from scipy.spatial.distance import pdist

from common import health
from common.data import load_data
from common.health import Health, distance_of_samples
from common.latent import one_hot
from common.training import run_steps
from conftest import randomized


@pytest.fixture(autouse=True)
def often(monkeypatch):
    """Looks after every second step."""
    monkeypatch.setattr(health, "INTERVAL", 2)
    monkeypatch.setattr(health, "FEWEST_STEPS", 2)
    monkeypatch.setattr(health, "GRACE", 4)


@pytest.fixture
def watched(gan, small_data, rng, capsys):
    """Trains real networks, tampered with, for some steps; gives what is said of them."""

    def run(tamper=lambda *models: None, d_loss=None, steps=8):
        models = gan.models(image_size=8)
        step = gan.step(models, *small_data, rng, batch_size=4)
        randomized(models[0])
        tamper(*models, step)
        history = []
        noise_input = step.latent.draw(rng, 16)
        callback = Health(*models[:2], noise_input, history)

        def take(count):
            figures = step(count)
            if d_loss is not None:
                figures[:, 0] = d_loss
            return figures

        capsys.readouterr()
        run_steps(models[2], take, history, [callback], steps, save_interval=100)
        out, err = capsys.readouterr()
        assert out == ""
        return err.splitlines()

    return run


def test_a_healthy_run_hears_nothing(watched):
    assert watched(d_loss=0.5) == []


def test_d_has_won(watched):
    (line,) = watched(d_loss=0.02)  # once, and there were three looks
    assert line.startswith(
        "warning: after 4 steps the discriminator has won: its loss was 0.02 in the mean of "
    )


def test_d_may_win_at_the_beginning(watched):
    assert watched(d_loss=0.02, steps=3) == []


def frozen_generator(generator, discriminator, adversarial, step):
    generator.trainable = False


def frozen_discriminator(generator, discriminator, adversarial, step):
    """As in a port of the listings: frozen for the adversarial model, and never thawed."""
    for layer in discriminator.layers:
        layer.trainable = False
    learn = step._learn
    step._learn = lambda model, x, y: learn(model, x, y) if model is adversarial else (0.5, 0.5)


@pytest.mark.filterwarnings("ignore:The model does not have any trainable weights")
@pytest.mark.parametrize(
    ("tamper", "network"),
    [(frozen_generator, "generator"), (frozen_discriminator, "discriminator")],
)
def test_gradients_of_zero(watched, tamper, network):
    (line,) = watched(tamper, d_loss=0.5)
    assert line.startswith(
        f"warning: after 2 steps the {network} gets gradients of zero: the weights of "
    )
    assert line.endswith("have not changed in the last 2 steps: it does not learn")
    assert line.count("conv2d") == 4


def deaf_generator(generator, discriminator, adversarial, step):
    """To noise, not to labels; and what it learns does not change that."""
    dense = next(layer for layer in generator.layers if layer.name.startswith("dense"))
    kernel, bias = dense.get_weights()
    kernel[:100] = 0
    dense.set_weights([kernel, bias])


def test_collapse(watched):
    lines = watched(deaf_generator, d_loss=0.5)
    (line,) = [line for line in lines if "gradients" not in line]
    assert line.startswith("warning: after 4 steps the generator has collapsed: whatever the noise")


def test_the_distance_of_samples_is_that_of_pairs():
    """Of MNIST's own digits, of one class each time, against SciPy."""
    images, labels = load_data()
    images, labels = images[:200].astype(float) / 255, labels[:200].astype(int)
    pairs = np.concatenate([pdist(images[labels == digit].reshape(-1, 784)) for digit in range(10)])
    distance = distance_of_samples(images[..., np.newaxis], labels)
    assert distance == pytest.approx(pairs.mean() / 28)
    assert 0.25 < distance < 0.4  # what a healthy generator comes near to


def test_digits_that_differ_by_their_labels_alone_are_the_same():
    images = one_hot(np.arange(16) % 10, 64).reshape(16, 8, 8, 1)
    assert distance_of_samples(images, np.arange(16) % 10) == 0
    assert distance_of_samples(images, np.zeros(16, int)) == pytest.approx(
        np.sqrt(2 / 64) * (1 - 6 / 120)  # but for the six pairs that are the same
    )
    assert distance_of_samples(images[:10], np.arange(10)) == np.inf  # nothing to compare
