"""Signs of failure: each where it is, and none where it is not."""

import gzip
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from scipy.spatial.distance import pdist

from common.data.dataset import load_data
from common.gan.batches import generate
from common.runs.checkpoints import TrainingState
from common.runs.history import read_history
from common.training.callbacks import health
from common.training.callbacks.health import Health, sample_distance
from common.training.loop import run_steps
from conftest import ROOT, randomized


@pytest.fixture(autouse=True)
def often(monkeypatch):
    """Looks after every second step."""
    monkeypatch.setattr(health, "INTERVAL", 2)
    monkeypatch.setattr(health, "LOSS_INTERVAL", 2)
    monkeypatch.setattr(health, "FEWEST_STEPS", 2)
    monkeypatch.setattr(health, "GRACE", 4)


BEST = Path("run/best.h5")


@pytest.fixture
def watched(gan, small_data, rng, capsys):
    """Trains real networks, tampered with, for some steps; gives the warnings."""

    def run(tamper=lambda *models: None, d_loss=None, steps=8, evaluations=()):
        models = gan.models(image_size=8)
        step = gan.step(models, *small_data, rng, batch_size=4)
        randomized(models[0])
        tamper(*models, step)
        state = TrainingState(step, step.latent.draw(rng, 16))
        state.evaluations.update(evaluations)

        def take(count):
            metrics = step(count)
            if d_loss is not None:
                metrics[:, 0] = d_loss
            return metrics

        capsys.readouterr()
        run_steps(models[2], take, state.history, [Health(state, BEST)], steps, save_interval=100)
        out, err = capsys.readouterr()
        assert out == ""
        return err.splitlines()

    return run


@pytest.mark.parametrize(("d_loss", "steps"), [(0.5, 8), (0.02, 3)])
def test_no_warning_of_a_healthy_run(watched, d_loss, steps):
    """In which D may win at the beginning."""
    assert watched(d_loss=d_loss, steps=steps) == []


@pytest.mark.parametrize(
    ("evaluations", "advice"),
    [({}, ""), ({1: 1.6, 2: 1.5}, f"; {BEST} is the best so far, of step 2")],
)
def test_d_has_won(watched, evaluations, advice):
    """And the best generator so far is named."""
    metrics = {step: {"frechet_distance": distance} for step, distance in evaluations.items()}
    (line,) = watched(d_loss=0.02, evaluations=metrics)  # once, and there were three looks
    assert line.startswith(
        "warning: after 4 steps the discriminator wins: its loss was 0.02 in the mean of "
    )
    assert line.endswith(f"may draw worse from now on{advice}")


def frozen_generator(generator, discriminator, adversarial, step):
    generator.trainable = False


def frozen_discriminator(generator, discriminator, adversarial, step):
    """As in a port of the listings: frozen for the adversarial model, and never thawed."""
    for layer in discriminator.layers:
        layer.trainable = False
    discriminator.train_on_batch = lambda x, y: (0.5, 0.5)


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
    for layer in generator.layers:
        layer.trainable = layer is not dense
    noise, *labels = step.latent.draw_in_turn(np.random.default_rng(0), 16)
    distance = sample_distance(generate(generator, [noise, *labels]))
    assert (distance > health.LOWEST_DISTANCE) == bool(labels)


def test_collapse(watched):
    """Also of a CGAN that still draws different digits for different labels."""
    lines = watched(deaf_generator, d_loss=0.5)
    (line,) = [line for line in lines if "the generator gets gradients of zero" not in line]
    assert line.startswith("warning: after 4 steps the generator has collapsed: it draws")


@pytest.mark.parametrize(
    ("file", "first_warning"),
    [
        ("pretrained/dcgan_mnist/history.csv.gz", None),
        ("pretrained/cgan_mnist/history.csv.gz", None),
        # it turned after 31,000 steps
        ("docs/results/dcgan_mnist-float32/run/history.csv.gz", 31_500),
    ],
)
def test_the_losses_of_whole_runs(file, first_warning, tmp_path, monkeypatch, capsys):
    """Of the chapter's 40,000 steps: no healthy run is warned of."""
    monkeypatch.undo()
    table = tmp_path / "history.csv"
    table.write_bytes(gzip.decompress((ROOT / file).read_bytes()))
    state = TrainingState(SimpleNamespace(generator=None, discriminator=None), [])
    callback = Health(state, BEST)
    for method in ("_check_gradients", "_check_samples"):  # which look at networks
        monkeypatch.setattr(callback, method, lambda steps: None)
    for record in read_history(table):
        state.history.append(record)
        if len(state.history) % callback.every_steps == 0:
            callback.on_steps(len(state.history), {})
    warnings = capsys.readouterr().err.splitlines()
    expected = f"warning: after {first_warning} steps the discriminator wins"
    assert [line.split(":", 2)[:2] for line in warnings] == (
        [expected.split(":")] if first_warning else []
    )


def test_the_sample_distance():
    """Of two greys their difference; of MNIST's own digits what a healthy generator comes near."""
    greys = np.broadcast_to(np.array([0.25, 0.75])[:, None, None, None], (2, 8, 8, 1))
    assert sample_distance(greys) == pytest.approx(0.5)
    images, labels = load_data()
    digits = images[labels == 3][:50].astype(float) / 255
    distance = sample_distance(digits[..., np.newaxis])
    assert distance == pytest.approx(pdist(digits.reshape(-1, 784)).mean() / 28)
    assert 0.25 < distance < 0.4  # what a healthy generator comes near to
