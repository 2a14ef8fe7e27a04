"""The benchmarks: what they count, and that they run. Nothing here depends on how fast."""

import pytest

import throughput
import variants


def test_a_steps_operations():
    """Counted by hand from listings 4.2.1 and 4.2.2: 5 x 5 kernels, feature maps, channels."""
    g = [100 * 6272] + [
        5 * 5 * side**2 * channels * filters
        for side, channels, filters in [(7, 128, 128), (14, 128, 64), (28, 64, 32), (28, 32, 1)]
    ]
    d = [
        5 * 5 * side**2 * channels * filters
        for side, channels, filters in [(14, 1, 32), (7, 32, 64), (4, 64, 128), (4, 128, 256)]
    ] + [4096]
    fakes = sum(g)
    # forward, gradients of the kernels, gradients of the inputs but the first one's
    d_learns = 2 * (sum(d) + sum(d) + sum(d[1:]))
    g_learns = (sum(g) + sum(g) + sum(g[1:])) + (sum(d) + sum(d))
    multiplications = 64 * (fakes + d_learns + g_learns)
    counted = throughput.gflop_per_step(*variants.networks(), batch_size=64)
    assert counted == pytest.approx(2 * multiplications / 1e9, rel=1e-12)
    assert counted == pytest.approx(71, abs=0.5)


@pytest.mark.slow
@pytest.mark.parametrize("name", variants.SMALL_VARIANTS)
def test_a_worker_takes_steps(name):
    """Each in a process of its own, the published loop in Keras 2 too."""
    with throughput.Worker(name) as worker:
        worker.measure(2)
        worker.measure(2)
    times = worker.times()
    assert 0 < times["ms_per_step"] == 1e3 * sum(worker.seconds) / 2
    assert 0 <= times["spread_ms"] < times["ms_per_step"]
