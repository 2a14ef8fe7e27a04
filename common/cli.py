"""What can be asked of both programs on the command line?"""

from __future__ import annotations

import argparse
import errno
import os
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn

import tensorflow as tf

from common.errors import UserError
from common.gan.data import MNIST, PROJECT
from common.gan.step import ENGINES
from common.runtime import PRECISIONS, STRATEGIES

# More steps than anyone has time for, more images than any memory holds.
MAX_COUNT = 10**9
# Fewer images than these say nothing.
MIN_SAMPLES = 100
# As many as an evaluation draws; more are slow to look at.
MAX_SAMPLES = 10_000
_TRAINING = (
    *("train_steps", "batch_size", "save_interval", "checkpoint_interval", "evaluate_interval"),
    *("data", "engine", "precision", "xla", "sync_batchnorm", "tensorboard"),
)
# What belongs to a run, and not to the command that starts it or goes on with it: a run may go on
# on other devices.
OF_THE_RUN = (*_TRAINING, "seed")
# Together with --generator these would have no effect, which is not what anyone means by them.
_NOT_FOR_SAMPLING = (
    *(*_TRAINING, "resume", "overwrite", "figures", "log_interval", "quiet"),
    *("strategy", "devices", "worker_timeout"),
)
# These would have none without.
_FOR_A_GENERATOR = ("evaluate", "samples", "digit", "interpolate", "output", "export")
# And these have none beside the first one.
_NOT_TOGETHER = {
    "evaluate": ("digit", "interpolate", "output", "export"),
    "export": ("samples", "digit", "interpolate", "output", "seed", "show"),
    "figures": ("resume", "overwrite", *OF_THE_RUN, "strategy", "log_interval", "quiet", "show"),
}


class Options(argparse.Namespace):
    """What the user asked for."""

    generator: Path | None
    evaluate: bool
    samples: int | None
    digit: list[str] | None = None
    interpolate: int | None
    output: Path | None
    export: Path | None
    train_steps: int
    batch_size: int
    save_interval: int
    checkpoint_interval: int | None
    evaluate_interval: int | None
    data: Path
    engine: str
    precision: str
    xla: bool
    strategy: str
    devices: list[str] | None
    sync_batchnorm: bool
    worker_timeout: int
    resume: bool
    overwrite: bool
    figures: bool
    tensorboard: bool
    log_interval: int
    quiet: bool
    seed: int | None
    outdir: Path
    show: bool | None
    # what was given on the command line, defaults left out
    given: dict[str, Any]

    def completed_by(self, flags: dict[str, Any]) -> Options:
        """These options, with those of a run for what was not given.

        Args:
            flags: Those `OF_THE_RUN`, as its config.json has them.
        """
        return Options(**vars(self) | flags | {"data": PROJECT / flags["data"]} | self.given)


class CommandParser(argparse.ArgumentParser):
    """A command line whose mistakes, like those found later, end in one line and status 2.

    Args:
        prog: The name of the command.
        description: The first line of `--help`.
        examples: Command lines and what they do, for the end of `--help`.
    """

    def __init__(self, prog: str, description: str, examples: str | None = None) -> None:
        super().__init__(
            prog=prog,
            description=description,
            epilog=examples,
            formatter_class=argparse.RawDescriptionHelpFormatter,  # leaves examples their lines
            allow_abbrev=False,
        )

    def add_data(self, to: Any = None) -> None:
        """Adds `--data`, to a group of arguments or to this parser."""
        (to or self).add_argument(
            "--data",
            type=Path,
            default=MNIST,
            metavar="PATH",
            help="an .npz file like keras.datasets.mnist's, or a folder with MNIST's IDX files, "
            "gzipped or not (default: the MNIST that comes with the programs)",
        )

    def error(self, message: str) -> NoReturn:
        """Ends the program with status 2 and one line that says why."""
        line = " ".join(message.split())
        self.exit(2, f"{self.prog}: error: {line}\n")

    @contextmanager
    def one_line_errors(self) -> Iterator[None]:
        """Turns what the user can mend into such a line, and leaves bugs their traceback."""
        try:
            yield
        except UserError as error:
            self.error(str(error))
        except (MemoryError, tf.errors.ResourceExhaustedError):
            self.error("out of memory: give a smaller --batch-size or smaller images")
        except (tf.errors.UnavailableError, tf.errors.DeadlineExceededError):
            self.error(
                "another worker has ended, or has not answered within --worker-timeout: see what "
                "it says, and start all workers again with --resume"
            )
        except BrokenPipeError:
            # The reader of our output, `head` for example, has gone. So that Python does not fail
            # again when it flushes at exit:
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            self.exit(1)
        except OSError as error:
            # of stdout; all files have messages of their own
            if error.errno == errno.EIO:  # the terminal has gone
                self.exit(1)
            if error.errno != errno.ENOSPC:
                raise
            self.error("no space left on the device that the output goes to: free some")
        except KeyboardInterrupt:
            self.exit(130, f"{self.prog}: interrupted\n")


class Parser(CommandParser):
    """The flags that both programs share; a program may add its own.

    Args:
        model_name: The name of the model, of the folder of its grids, and of its file.
        description: The first line of `--help`.
        examples: Command lines and what they do, for the end of `--help`.
    """

    def __init__(self, model_name: str, description: str, examples: str) -> None:
        super().__init__(f"{model_name}.py", description, examples)
        self.add_argument(
            "-g",
            "--generator",
            type=Path,
            metavar="FILE",
            help="draw digits with this generator (.h5, .hdf5 or .keras) instead of training",
        )
        drawing = self.add_argument_group("with --generator")
        drawing.add_argument(
            "--samples",
            type=whole_number(1, MAX_SAMPLES),
            metavar="N",
            help="how many images to draw (default: 16; 10000 to --evaluate), or with "
            "--interpolate, how many walks (default: 10)",
        )
        self.drawing = drawing
        drawing.add_argument(
            "--interpolate",
            type=whole_number(2, 1000),
            nargs="?",
            const=0,
            metavar="STEPS",
            help="walk from one z to another, each walk a row of so many images (default: 10; as "
            "an animation, 30); spherically, so that z is uniform all along the way",
        )
        drawing.add_argument(
            "--output",
            type=file_named(".png", ".pdf", ".svg", ".npz", ".gif"),
            metavar="FILE",
            help="where to: a picture (.png, .pdf, .svg), the images and labels themselves (.npz), "
            "or of --interpolate an animation (.gif) (default: a .png in test_outputs/)",
        )
        drawing.add_argument(
            "--evaluate",
            action="store_true",
            help="measure how good the digits are, against the test images of --data: "
            "test_outputs/evaluation.json",
        )
        drawing.add_argument(
            "--export",
            type=file_named(".keras", ".onnx", ""),
            metavar="FILE",
            help="write the generator in another format: .keras, .onnx, or, without a suffix, a "
            "folder with a TensorFlow SavedModel",
        )
        training = self.add_argument_group("training")
        training.add_argument(
            "--train-steps",
            type=whole_number(1, MAX_COUNT),
            default=40000,
            metavar="N",
            help="alternating steps to train for (default: %(default)s)",
        )
        training.add_argument(
            "--batch-size",
            type=whole_number(1, MAX_COUNT),
            default=64,
            metavar="N",
            help="real images a step, and as many fake ones (default: %(default)s)",
        )
        training.add_argument(
            "--save-interval",
            type=whole_number(1, MAX_COUNT),
            default=500,
            metavar="N",
            help="steps from one sample grid to the next (default: %(default)s)",
        )
        training.add_argument(
            "--checkpoint-interval",
            type=whole_number(1, MAX_COUNT),
            metavar="N",
            help="steps from one checkpoint to the next (default: --save-interval)",
        )
        training.add_argument(
            "--evaluate-interval",
            type=whole_number(1, MAX_COUNT),
            metavar="N",
            help="steps from one evaluation of 2,000 images to the next, the best generator being "
            "kept (default: none)",
        )
        self.add_data(training)
        training.add_argument(
            "--engine",
            choices=ENGINES,
            default="train_on_batch",
            help="how to take a step: as in the chapter, or compiled into one function, which is "
            "faster; the digits are the same (default: %(default)s)",
        )
        training.add_argument(
            "--precision",
            choices=PRECISIONS,
            default="float32",
            help="what convolutions compute in; bfloat16 is faster on a GPU and on a CPU with "
            "instructions for it, float16 needs a GPU (default: %(default)s)",
        )
        training.add_argument(
            "--xla",
            action=argparse.BooleanOptionalAction,
            default=False,
            help="compile with XLA: for --engine compiled on a GPU (default: --no-xla)",
        )
        training.add_argument(
            "--strategy",
            choices=STRATEGIES,
            default="none",
            help="train on several devices, which share each batch: on those of this machine "
            "(mirrored), or on several machines, which TF_CONFIG or Slurm name (multiworker); "
            "with --engine compiled (default: %(default)s)",
        )
        training.add_argument(
            "--devices",
            type=device_names,
            metavar="NAMES",
            help="for --strategy mirrored: the devices, for example GPU:0,GPU:1, or CPU:0,CPU:1 "
            "to try it without GPUs (default: all GPUs)",
        )
        training.add_argument(
            "--sync-batchnorm",
            action=argparse.BooleanOptionalAction,
            default=False,
            help="have batch normalization look at the whole batch, and not at each device's share "
            "of it (default: --no-sync-batchnorm)",
        )
        training.add_argument(
            "--worker-timeout",
            type=whole_number(1, 86400),
            default=120,
            metavar="SECONDS",
            help="for --strategy multiworker: how long to wait for another worker before giving up "
            "(default: %(default)s)",
        )
        telling = training.add_mutually_exclusive_group()
        telling.add_argument(
            "--log-interval",
            type=whole_number(1, MAX_COUNT),
            default=100,
            metavar="N",
            help="steps from one log line to the next; 1 for each step, as in the chapter "
            "(default: %(default)s, and on a terminal a progress bar instead)",
        )
        telling.add_argument(
            "--quiet",
            action="store_true",
            help="tell nothing but warnings and errors",
        )
        training.add_argument(
            "--tensorboard",
            action=argparse.BooleanOptionalAction,
            default=False,
            help=f"write events for TensorBoard: tensorboard --logdir {model_name} "
            "(default: --no-tensorboard)",
        )
        again = training.add_mutually_exclusive_group()
        again.add_argument(
            "--resume",
            action="store_true",
            help="go on with the run in --outdir, with the flags that it was started with; "
            "--train-steps may grow",
        )
        again.add_argument(
            "--overwrite",
            action="store_true",
            help="start afresh where there is a run in --outdir already",
        )
        again.add_argument(
            "--figures",
            action="store_true",
            help="instead of training, draw the figures of the run in --outdir anew, from its "
            "folder alone: losses.png, evolution.png, evolution.gif",
        )
        self.add_argument(
            "--seed",
            type=seed_number,
            metavar="N",
            help="repeat a run: the same seed gives the same digits (default: a new one each time)",
        )
        self.add_argument(
            "--outdir",
            type=Path,
            default=Path(),
            metavar="DIR",
            help=f"the folder that {model_name}/, {model_name}.h5 and test_outputs/ are written to "
            "(default: the current one)",
        )
        self.add_argument(
            "--show",
            action=argparse.BooleanOptionalAction,
            help="show the last picture in a window (default: on a terminal with a display)",
        )

    def options(self, argv: Sequence[str] | None = None) -> Options:
        """Reads the command line; a mistake on it ends the program with status 2."""
        defaults = vars(self.parse_args([]))
        # argparse leaves alone what the namespace has already: None stands for "not given"
        parsed = self.parse_args(argv, argparse.Namespace(**dict.fromkeys(defaults)))
        given = {name: value for name, value in vars(parsed).items() if value is not None}
        options = Options(**defaults | given, given=given)
        if options.generator is None:
            for name in _FOR_A_GENERATOR:
                if name in given:
                    self.error(f"{self._named(name)}: needs --generator FILE, the generator to use")
        else:
            for name in _NOT_FOR_SAMPLING:
                if name in given and not (name == "data" and options.evaluate):
                    self.error(
                        f"{self._named(name)}: is for training, and --generator draws digits "
                        "without it: leave one of them out"
                    )
        for name, others in _NOT_TOGETHER.items():
            for other in others:
                if name in given and other in given:
                    self.error(
                        f"{self._named(other)}: has no effect together with --{name}: leave one of "
                        "them out"
                    )
        if options.evaluate and (options.samples or MIN_SAMPLES) < MIN_SAMPLES:
            self.error(
                f"argument --samples: {options.samples} given, --evaluate needs at least "
                f"{MIN_SAMPLES}"
            )
        if options.output and options.output.suffix == ".gif" and options.interpolate is None:
            self.error(
                f"argument --output: {options.output} given, an animation, which needs "
                "--interpolate: add that, or name a .png, .pdf, .svg or .npz file"
            )
        if options.show and options.output and options.output.suffix != ".png":
            self.error(
                f"argument --show: has no effect on {options.output}: leave it out, or name a "
                ".png file"
            )
        if options.strategy != "none":
            if given.setdefault("engine", "compiled") != "compiled":
                self.error(
                    f"argument --engine: {options.engine} given, and --strategy "
                    f"{options.strategy} needs compiled: several machines cannot share a step that "
                    "is not one function: leave out --engine"
                )
            options.engine = "compiled"
        for name, strategy in (("devices", "mirrored"), ("worker_timeout", "multiworker")):
            if name in given and options.strategy != strategy:
                self.error(
                    f"{self._named(name)}: is for --strategy {strategy}, and the "
                    f"strategy is {options.strategy}: leave one of them out"
                )
        return options

    def _named(self, name: str) -> str:
        """An argument as argparse calls it."""
        flags = next(action.option_strings for action in self._actions if action.dest == name)
        return f"argument {'/'.join(flag for flag in flags if not flag.startswith('--no-'))}"


def file_named(*suffixes: str) -> Callable[[str], Path]:
    """The type of an argument that is a file with one of some suffixes."""

    def parse(text: str) -> Path:
        if not text or Path(text).suffix not in suffixes or Path(text).name in suffixes:
            names = ", ".join(suffix or "no suffix" for suffix in suffixes)
            raise argparse.ArgumentTypeError(f"{text!r} given, expected a file named {names}")
        return Path(text)

    return parse


def digits(text: str) -> str:
    """The type of an argument that is a class, or several in one word; which is told later."""
    if not (text.isascii() and text.isdigit()):
        raise argparse.ArgumentTypeError(f"{text!r} given, a digit or several expected")
    return text


def device_names(text: str) -> list[str]:
    """The type of an argument that names devices of one kind, each of them once."""
    names = text.upper().split(",")
    if not re.fullmatch(r"(GPU:\d{1,3})(,GPU:\d{1,3})*|(CPU:\d{1,3})(,CPU:\d{1,3})*", text.upper()):
        raise argparse.ArgumentTypeError(
            f"{text!r} given, names like GPU:0,GPU:1 expected, all of one kind"
        )
    if len(set(names)) < len(names):
        raise argparse.ArgumentTypeError(f"{text!r} given, each device expected once")
    return names


def whole_number(lowest: int, highest: int) -> Callable[[str], int]:
    """The type of an argument that is a whole number in a range, both ends included."""

    def parse(text: str) -> int:
        try:
            number = int(text)
        except ValueError:
            number = lowest - 1
        if not lowest <= number <= highest:
            raise argparse.ArgumentTypeError(
                f"{text!r} given, a whole number from {lowest} to {highest} expected"
            )
        return number

    return parse


seed_number = whole_number(0, 2**32 - 1)  # what all random generators take
