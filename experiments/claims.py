"""What the chapter claims, tried: the DCGAN of dcgan_mnist.py with one thing changed at a time.

    python experiments/claims.py --list            # the variants, and what the chapter claims
    python experiments/claims.py bn-in-d           # trains one, with the flags of dcgan_mnist.py
    python experiments/claims.py --all RUNS        # trains all of them with three seeds each
    python experiments/claims.py --collect RUNS    # makes experiments/results/ and the pages

A variant is the program itself, in which other things stand in the place of some of its names. So
runs of the same seed start with the same weights wherever layers have the same shape, and get the
same real images and the same noise.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from contextlib import AbstractContextManager
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple
from unittest import mock

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # for the program, and for common

import dcgan_mnist  # before Keras, which it sets up

# isort: split
from common.cli import CommandParser
from common.gan import BatchNormalization, compile_model
from common.options import path, seed_number
from common.program import Program

# isort: split
import changes
from collected import collect
from tables import draw
from trainings import train_all, train_in_stages

FOLDER = Path(__file__).resolve().parent
RESULTS = FOLDER / "results"

DEFAULTS = {"train_steps": 5000, "outdir": Path("claims")}
SEEDS = [0, 1, 2]
# Those of dcgan_mnist.py's flags that --all passes on.
PASSED_ON = ("train_steps", "engine", "precision", "data", "evaluate_interval")
WITH_ALL = ("variants", "seeds", *PASSED_ON)


class Variant(NamedTuple):
    """The DCGAN with one thing changed.

    Attributes:
        claim: What the chapter says of it.
        change: What is changed.
        names: What stands in the place of these names of dcgan_mnist.py.
    """

    claim: str
    change: str
    names: dict[str, Any]


_BATCH_NORMALIZATION = "with batch normalization in D the DCGAN does not converge"
_TANH = "on MNIST training is usually more stable where G ends in a sigmoid, not in tanh"
_ADAM = "D converges easily with RMSprop, where the DCGAN paper has Adam"

# In the order in which --all trains them: the clearest cases first, the slowest last.
VARIANTS = {
    "chapter": Variant(
        "digits can be recognized after 5,000 steps",
        "nothing",
        {},
    ),
    "bn-in-d": Variant(
        _BATCH_NORMALIZATION,
        "BN before each LeakyReLU of D but the first; real and fake images in one batch; D, frozen "
        "in G's turn, normalizes by moving statistics there, as Keras does today",
        {"LeakyReLU": changes.normalized_by(BatchNormalization)},
    ),
    "bn-in-d-batch-statistics": Variant(
        _BATCH_NORMALIZATION,
        "the same, but D normalizes by the statistics of the batch in G's turn, too, as Keras did "
        "when the chapter was written",
        {"LeakyReLU": changes.normalized_by(changes.BatchStatistics)},
    ),
    "bn-in-d-own-batches": Variant(
        _BATCH_NORMALIZATION,
        "the same, but real images and fakes are a batch of their own each, as in the DCGAN "
        "paper's code; D is still updated once a step, from both",
        {"LeakyReLU": changes.normalized_by(changes.OwnStatistics)},
    ),
    "g-strides-late": Variant(
        "with strides = 2 moved to later layers of G the DCGAN does not converge",
        "strides of G's layers are 1, 1, 2, 2 instead of 2, 2, 1, 1; as many weights",
        {"Conv2DTranspose": changes.transposed_convolution_late},
    ),
    "zero-sum": Variant(
        "with the zero-sum loss (4.1.2) gradients are too small for G to converge, so it gets "
        "another one (4.1.5)",
        "G minimizes log(1 - D(G(z))) instead of -log D(G(z))",
        {"compile_model": changes.compile_as_zero_sum_game},
    ),
    "d-unfrozen": Variant(
        "D is frozen in G's turn",
        "D is updated in G's turn, too, with G's label, that fakes are real: what a port does that "
        "sets `trainable` wrongly",
        {"build_discriminator": changes.build_unfrozen_discriminator},
    ),
    "equal-rates": Variant(
        "training is more stable where the adversarial model has half of D's learning rate",
        "learning rate 2e-4 and decay 6e-8 for both",
        {"compile_model": changes.compile_at_equal_rates},
    ),
    "adam": Variant(
        _ADAM,
        "Adam with learning rate 2e-4 and beta_1 = 0.5 for both, as in the paper",
        {"compile_model": partial(changes.compile_at_equal_rates, optimizer=changes.adam)},
    ),
    "adam-halved": Variant(
        _ADAM,
        "Adam with beta_1 = 0.5, and the chapter's learning rates: 2e-4 and 1e-4",
        {"compile_model": partial(compile_model, optimizer=changes.adam)},
    ),
    "tanh": Variant(
        _TANH,
        "G ends in tanh, and images are in [-1, 1]; so D's first layer, a LeakyReLU of the image, "
        "is no longer without effect: it divides differences below mid-grey by five",
        {"build_generator": changes.build_tanh_generator},
    ),
    "tanh-images-as-they-are": Variant(
        _TANH,
        "the same, but without that first LeakyReLU of D",
        {
            "build_generator": changes.build_tanh_generator,
            "LeakyReLU": changes.leaky_relu_but_of_images,
        },
    ),
    "relu-in-d": Variant(
        "LeakyReLU in D gives a gradient for negative inputs, too, which ReLU does not",
        "ReLU in D",
        {"LeakyReLU": changes.relu},
    ),
    "d-128": Variant(
        "128 filters in D's last convolution work, but with 256 images are better",
        "128 filters there; its strides stay",
        {"Conv2D": changes.convolution_of_at_most_128},
    ),
    "pooling-upsampling": Variant(
        "convolutions with strides learn to resize feature maps, and should replace pooling and "
        "upsampling",
        "MaxPooling2D in D and UpSampling2D in G instead of strides; as many weights",
        {"Conv2D": changes.pooled_convolution, "Conv2DTranspose": changes.convolution_of_upsampled},
    ),
}


class _Program(Program):
    defaults = DEFAULTS


class _Parser(CommandParser):
    defaults = DEFAULTS


def variant(name: str) -> AbstractContextManager:
    """A context in which `dcgan_mnist` is a variant of itself, with a name of its own.

    Replacing names leaves the program as the chapter has it: without arguments that only
    experiments would use, and without a copy that could differ in more than it says.
    """
    description = "Train a variant of the DCGAN, or draw digits with it. Changed: "
    program = _Program("claims", name, f"{description}{VARIANTS[name].change}.")
    program.prog, program.epilog = f"experiments/claims.py {name}", None
    return mock.patch.multiple(
        dcgan_mnist, PROGRAM=program, train=train_in_stages, **VARIANTS[name].names
    )


def _command_line() -> CommandParser:
    """The command line, apart from that of a variant."""
    parser = _Parser("experiments/claims.py", __doc__.splitlines()[0])
    command = parser.add_mutually_exclusive_group(required=True)
    names: dict[str, Any] = {"choices": VARIANTS, "metavar": "NAME"}
    command.add_argument(
        "variant", nargs="?", default=None, help="train it; NAME --help: its flags", **names
    )
    command.add_argument("--list", action="store_true", help="list the variants")
    command.add_argument(
        "--all",
        type=path,
        metavar="RUNS",
        help="train all variants with all seeds, one after the other, in folders of RUNS; the same "
        "command goes on where it was stopped",
    )
    command.add_argument(
        "--collect",
        type=path,
        metavar="RUNS",
        help="make experiments/results/ from RUNS, as far as they are, and draw the pages",
    )
    command.add_argument(
        "--draw", action="store_true", help="draw the pages again, from experiments/results/"
    )
    group = parser.add_argument_group("with --all")
    group.add_argument("--variants", nargs="+", help="only these", **names)
    group.add_argument("--seeds", nargs="+", type=seed_number, metavar="N", help="default: 0 1 2")
    for name in PASSED_ON:
        parser.add_flag(name, group)
    return parser


def main(argv: Sequence[str] | None = None) -> None:
    """Does what a command line asks for."""
    arguments = sys.argv[1:] if argv is None else list(argv)
    if arguments and arguments[0] in VARIANTS:
        with variant(arguments[0]):
            dcgan_mnist.main(arguments[1:])
        return
    parser = _command_line()
    given = vars(parser.parse_args(arguments))
    name = given["variant"]
    if name:
        parser.error(f"{name} comes first: python {parser.prog} {name} ...")
    with_all = [name for name in WITH_ALL if name in given]
    if with_all and "all" not in given:
        flag = f"--{with_all[0].replace('_', '-')}"
        parser.error(f"argument {flag}: has no effect without --all: leave it out, or add --all")
    with parser.one_line_errors():
        if "list" in given:
            for name, (claim, change, _) in VARIANTS.items():
                print(f"{name}\n    the chapter: {claim}\n    changed: {change}")
        elif "all" in given:
            flags = {name: given[name] for name in PASSED_ON if name in given}
            flags.setdefault("train_steps", DEFAULTS["train_steps"])
            names, seeds = given.get("variants", [*VARIANTS]), given.get("seeds", SEEDS)
            train_all(Path(__file__), given["all"], names, seeds, flags)
        else:
            if "collect" in given:
                collect(given["collect"], [*VARIANTS], RESULTS)
            described = {name: (claim, change) for name, (claim, change, _) in VARIANTS.items()}
            draw(described, RESULTS, FOLDER)


if __name__ == "__main__":
    main()
