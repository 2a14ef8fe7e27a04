"""How well do two workers share the work?

    python benchmarks/scaling.py [--rounds N] [--steps N]

Takes steps of the DCGAN in float32 with one worker and with two, each of them a process of its own
pinned to one core and to one thread, connected over loopback. Weak scaling: each worker has a batch
of 64, so that two of them are ideally as fast a step as one, on twice the images. Strong scaling:
they share a batch of 64, and are ideally twice as fast.

The configurations take turns, so that each sees the same moods of the machine, and the median of
the rounds counts. One worker alone is measured on both cores at once, as two processes that know
nothing of each other: what two cores slow each other down by - memory, caches, a shared clock - is
no matter of distribution.
"""

from __future__ import annotations

import argparse
import json
import os
import socket
import statistics
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
BATCH_SIZE = 64
# What workers print besides answers.
ERRORS = Path("scaling.txt")
# name: (workers that share a step, global batch size)
CONFIGURATIONS = {
    "one worker, batch 64": (1, BATCH_SIZE),
    "two workers, batch 128 (weak)": (2, 2 * BATCH_SIZE),
    "one worker, batch 32": (1, BATCH_SIZE // 2),
    "two workers, batch 64 (strong)": (2, BATCH_SIZE),
}


def serve(core: int, batch_size: int) -> None:
    """A worker: for each line of stdin, a number, takes steps and prints ms a step and bytes."""
    os.sched_setaffinity(0, {core})
    sys.path.insert(0, str(ROOT))
    from common import device  # noqa: F401  # before Keras, which it sets up

    # isort: split
    import keras
    import numpy as np
    import tensorflow as tf

    tf.config.threading.set_intra_op_parallelism_threads(1)
    tf.config.threading.set_inter_op_parallelism_threads(1)

    import dcgan_mnist
    from common.data.dataset import load_data
    from common.gan.batches import RealImages
    from common.gan.models import build_adversarial, compile_model
    from common.options import Options
    from common.training.distribution import join
    from common.training.train import make_step

    strategy = "multiworker" if "TF_CONFIG" in os.environ else "none"
    options = Options(batch_size=batch_size, engine="compiled", strategy=strategy)
    told = sys.stdout
    sys.stdout = sys.stderr
    if strategy != "none":
        join(strategy, None, options.worker_timeout)
    keras.utils.set_random_seed(0)
    discriminator = dcgan_mnist.build_discriminator(keras.Input((28, 28, 1)))
    compile_model(discriminator, 2e-4, 6e-8)
    generator = dcgan_mnist.new_generator(28)
    adversarial = build_adversarial(generator, discriminator, "adversarial")
    compile_model(adversarial, 1e-4, 3e-8)
    models = (generator, discriminator, adversarial)
    step = make_step(models, RealImages(load_data()[0]), np.random.default_rng(0), options)
    for line in sys.stdin:
        step(1)  # traces the first time, and finds its way back into the caches later
        sent, started = loopback_bytes(), time.perf_counter()
        step(int(line))
        ms = (time.perf_counter() - started) * 1e3 / int(line)
        print(ms, (loopback_bytes() - sent) / int(line), file=told, flush=True)


def loopback_bytes() -> int:
    """The bytes that have gone over loopback, which is all of what workers here tell each other."""
    for line in Path("/proc/net/dev").read_text().splitlines():
        name, _, counters = line.partition(":")
        if name.strip() == "lo":
            return int(counters.split()[8])
    return 0


def spawn(configuration: str, cores: list[int]) -> list[subprocess.Popen]:
    """A process on each core; both are of one cluster, or each alone."""
    workers, batch_size = CONFIGURATIONS[configuration]
    sockets = [socket.socket() for _ in cores]
    for opened in sockets:
        opened.bind(("127.0.0.1", 0))
    cluster = {"worker": [f"127.0.0.1:{opened.getsockname()[1]}" for opened in sockets]}
    for opened in sockets:
        opened.close()
    processes = []
    for i, core in enumerate(cores):
        environment = dict(os.environ)
        environment.pop("TF_CONFIG", None)
        environment["CUDA_VISIBLE_DEVICES"] = "-1"  # each has a core, and no share of a GPU
        if workers > 1:
            task = {"type": "worker", "index": i}
            environment["TF_CONFIG"] = json.dumps({"cluster": cluster, "task": task})
        processes.append(
            subprocess.Popen(
                [sys.executable, __file__, "--serve", str(core), str(batch_size)],
                env=environment,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=ERRORS.open("a"),
                text=True,
            )
        )
    return processes


def turn(processes: list[subprocess.Popen], steps: int) -> tuple[float, float]:
    """One turn of a configuration: its mean ms a step, and bytes over loopback."""
    answers = []
    with suppress(BrokenPipeError):  # of a worker that has failed, and gives no answer either
        for process in processes:
            assert process.stdin is not None
            process.stdin.write(f"{steps}\n")
            process.stdin.flush()
        answers = [process.stdout.readline() for process in processes if process.stdout]
    if not answers or not all(answers):
        sys.exit(f"a worker has failed: see {ERRORS}")
    ms, sent = zip(*(map(float, answer.split()) for answer in answers), strict=True)
    return statistics.mean(ms), max(sent)


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--steps", type=int, default=4, help="steps of each turn")
    parser.add_argument("--serve", type=int, nargs=2, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.serve:
        serve(*arguments.serve)
        return
    if min(arguments.rounds, arguments.steps) < 1:
        parser.error("--rounds and --steps: whole numbers from 1 on expected")
    cores = sorted(os.sched_getaffinity(0))[:2]
    if len(cores) < 2:
        sys.exit("two cores are needed, one for each worker")
    fleets = {name: spawn(name, cores) for name in CONFIGURATIONS}
    times: dict[str, list[float]] = {name: [] for name in CONFIGURATIONS}
    sent: dict[str, list[float]] = {name: [] for name in CONFIGURATIONS}
    for number in range(arguments.rounds + 1):
        for name, processes in fleets.items():
            ms, size = turn(processes, arguments.steps)
            if number:  # the first round traces
                times[name].append(ms)
                sent[name].append(size)
    for processes in fleets.values():
        for process in processes:
            process.communicate()
    one, weak, half, strong = (statistics.median(times[name]) for name in CONFIGURATIONS)
    print("| configuration | ms a step | MB sent a step |\n| --- | --- | --- |")
    for name in CONFIGURATIONS:
        median = statistics.median(times[name])
        print(f"| {name} | {median:.0f} | {statistics.median(sent[name]) / 1e6:.1f} |")
    print(f"\nweak scaling: {100 * one / weak:.0f}% ({one:.0f} / {weak:.0f} ms)")
    print(f"strong scaling: {100 * one / (2 * strong):.0f}% ({one:.0f} / 2 x {strong:.0f} ms)")
    print(f"a step of half the batch takes {100 * half / one:.0f}% of one of 64")


if __name__ == "__main__":
    main()
