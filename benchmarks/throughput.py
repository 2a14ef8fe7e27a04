"""How fast is a step of the DCGAN, and how much of the machine does it use?

Run it with `make bench`. Each variant lives in a process of its own, and they take turns, round
after round, so that other work of the machine slows all of them. A result is the median of the
rounds; the spread, half the distance between their quartiles. PyTorch takes part where it is
installed (pip install torch).
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import shutil
import statistics
import subprocess
import sys
from contextlib import ExitStack
from importlib.metadata import version
from pathlib import Path
from typing import Any

import variants
from common import device
from common.options import whole_number


class Worker:
    """The process of a variant, which lives as long as the context is open.

    Args:
        name: Which one.

    Attributes:
        seconds: What a step took in each of the rounds.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.seconds: list[float] = []
        self._process = subprocess.Popen(
            [sys.executable, variants.__file__, name],
            env=os.environ | {"TF_CPP_MIN_LOG_LEVEL": "3"},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )

    def __enter__(self) -> Worker:
        self._answer()
        return self

    def __exit__(self, *_: object) -> None:
        # also after an error; nothing is lost
        self._process.kill()
        self._process.communicate()

    def measure(self, steps: int) -> None:
        """Has the worker take steps, and notes the seconds."""
        assert self._process.stdin is not None
        print(steps, file=self._process.stdin, flush=True)
        self.seconds.append(float(self._answer()) / steps)

    @property
    def median(self) -> float:
        """Seconds a step."""
        return statistics.median(self.seconds)

    def times(self) -> dict[str, float]:
        """The median of the rounds, and half the distance between their quartiles."""
        low, _, high = statistics.quantiles(self.seconds, n=4, method="inclusive")
        return {"ms_per_step": 1e3 * self.median, "spread_ms": 1e3 * (high - low) / 2}

    def _answer(self) -> str:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            sys.exit(f"'{self.name}' has failed: see python {variants.__file__} '{self.name}'")
        return line


def gflop_per_step(generator: Any, discriminator: Any, batch_size: int) -> float:
    """The operations of one alternating step, in 10^9.

    Counted are those of Dense layers and convolutions, a multiplication and an addition as two; a
    kernel's taps beyond the border, which an implementation may leave out, too. A layer's backward
    pass takes what its forward pass takes for the gradients of its kernel, and as much again for
    those of its input. D learns from twice the batch, G through a D that needs no gradients of its
    kernels; and the first layer of what learns needs none of its input.
    """
    g, d = _forward_gflop(generator), _forward_gflop(discriminator)
    fakes = sum(g)
    d_learns = 2 * (3 * sum(d) - d[0])
    g_learns = 3 * sum(g) - g[0] + 2 * sum(d)
    return batch_size * (fakes + d_learns + g_learns)


def _forward_gflop(model: Any) -> list[float]:
    """What each layer with a kernel takes to compute its output for one image."""
    counts = []
    for layer in model.layers:
        if not hasattr(layer, "kernel"):
            continue
        # how often the kernel is applied: once for each pixel of the smaller of the two
        shapes = (layer.input.shape, layer.output.shape)
        positions = min(h * w for _, h, w, _ in shapes) if len(shapes[0]) == 4 else 1
        counts.append(2 * layer.kernel.shape.num_elements() * positions / 1e9)
    return counts


def measure(names: list[str], rounds: int, steps: int) -> dict[str, Worker]:
    """Lets variants take turns."""
    workers = {}
    with ExitStack() as stack:
        for name in names:
            print(f"starting {name}", file=sys.stderr)
            workers[name] = stack.enter_context(Worker(name))
        for number in range(rounds):
            print(f"round {number + 1} of {rounds}", file=sys.stderr)
            for worker in workers.values():
                worker.measure(steps)
    return workers


def main() -> None:
    """Measures, prints tables and writes a JSON file."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--rounds", type=whole_number(2, 1000), default=9, help="default: %(default)s"
    )
    parser.add_argument(
        "--steps", type=whole_number(1, 1000), default=10, help="a round (default: %(default)s)"
    )
    parser.add_argument("--output", type=Path, default=Path("throughput.json"))
    options = parser.parse_args()

    names = list(variants.VARIANTS)
    precisions = ["float32", "bfloat16"]
    if device.tf.config.list_physical_devices("GPU"):
        names += variants.GPU_VARIANTS
        precisions += ["float16", variants.NO_TF32]
    packages = ["tensorflow", "keras", "tf-keras"]
    if importlib.util.find_spec("torch"):
        names += variants.TORCH_VARIANTS
        if shutil.which("g++"):
            names += variants.TORCH_COMPILED
        else:
            print("PyTorch compiles with g++, which was not found: left out", file=sys.stderr)
        packages.append("torch")
    peak_names = [name for name in variants.PEAKS if variants.precision_of(name) in precisions]
    workers = measure([*names, *peak_names], options.rounds, options.steps)
    small = measure(list(variants.SMALL_VARIANTS), options.rounds, 10 * options.steps)

    gflop = gflop_per_step(*variants.networks(), variants.BATCH_SIZE)
    peaks = {
        variants.precision_of(name): 2 * variants.matrix_size() ** 3 / workers[name].median / 1e9
        for name in peak_names
    }
    published = workers[variants.PUBLISHED].median
    rows = {}
    for name in names:
        worker = workers[name]
        rows[name] = worker.times() | {
            "images_per_second": variants.BATCH_SIZE / worker.median,
            "gflop_per_second": gflop / worker.median,
            "ratio_to_published": published / worker.median,
            "fraction_of_peak": gflop / worker.median / peaks[variants.precision_of(name)],
        }
    result = {
        "device": device.device_name(),
        "versions": {package: version(package) for package in packages},
        "gflop_per_step": gflop,
        "peak_gflop_per_second": peaks,
        "steps": rows,
        "shrunk": {name: worker.times() for name, worker in small.items()},
        "seconds_per_step": {name: worker.seconds for name, worker in (workers | small).items()},
    }
    options.output.write_text(json.dumps(result, indent=2) + "\n")
    print(table(result))


def table(result: dict[str, Any]) -> str:
    """What was measured, in Markdown."""
    versions = ", ".join(f"{name} {number}" for name, number in result["versions"].items())
    lines = [
        f"{result['device']}; {versions}.",
        f"A step is {result['gflop_per_step']:.1f} GFLOP; matrices multiply at "
        + ", ".join(
            f"{peak:.0f} GFLOP/s in {precision}"
            for precision, peak in result["peak_gflop_per_second"].items()
        )
        + ".",
        "",
        "| one step, batch of 64 | ms | images/s | GFLOP/s | of the peak | published loop = 1 |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for name, row in result["steps"].items():
        lines.append(
            f"| {name} | {row['ms_per_step']:.1f} ± {row['spread_ms']:.1f} "
            f"| {row['images_per_second']:.0f} | {row['gflop_per_second']:.0f} "
            f"| {row['fraction_of_peak']:.0%} | {row['ratio_to_published']:.2f} |"
        )
    lines += ["", "| the host's work for a step | ms |", "| --- | --- |"]
    for name, row in result["shrunk"].items():
        lines.append(f"| {name} | {row['ms_per_step']:.2f} ± {row['spread_ms']:.2f} |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
