"""The flags of the programs, each declared once.

A declaration holds everything about a flag: default, type, help, the modes in which it has an
effect, which other flags it needs, and whether a resumed run may change it. The parser, the checks
between flags, and the flags in config.json are derived from the declarations.
"""

from __future__ import annotations

import argparse
import dataclasses
import enum
import math
import os
import re
import secrets
from collections.abc import Callable
from pathlib import Path
from typing import Any

from common.data import MAX_PIXELS, MNIST, PROJECT
from common.errors import UserError
from common.files import kind_of


class Mode(enum.Flag):
    """What a command does."""

    TRAIN = enum.auto()
    FIGURES = enum.auto()
    SAMPLE = enum.auto()
    EVALUATE = enum.auto()
    EXPORT = enum.auto()


TRAIN, SAMPLE, EVALUATE, EXPORT = Mode.TRAIN, Mode.SAMPLE, Mode.EVALUATE, Mode.EXPORT
# Modes that use a generator from a file.
WITH_GENERATOR = SAMPLE | EVALUATE | EXPORT
ANY = TRAIN | Mode.FIGURES | WITH_GENERATOR

# Types of flags without a value: one that is off unless given, one with a --no- form.
SWITCH = "store_true"
ON_OFF = argparse.BooleanOptionalAction

# How config.json stores a flag of the run: whether a resumed run may change it. Other flags belong
# to the command, and each command gives them anew.
FIXED, CHANGEABLE = "fixed", "changeable"


@dataclasses.dataclass(frozen=True)
class Flag:
    """A declaration.

    In `help`, {name} stands for the name of the model, {default} for the default.
    """

    default: Any
    # converts the text of the command line; or a tuple of choices; or SWITCH or ON_OFF
    type: Any
    metavar: str | None
    modes: Mode  # in which it has an effect
    help: str
    stored: str = ""
    # other flags with the values that this one needs
    needs: dict[str, Any] = dataclasses.field(default_factory=dict)
    exclusive: str = ""  # only one of the flags with the same label may be given
    short: str = ""
    conditional: bool = False  # exists only where the generator takes labels
    nargs: str | None = None
    const: Any = None  # the value if it is given without one


def flag(default: Any, type: Any, metavar: str | None, modes: Mode, help: str, **more: Any) -> Any:
    """Declares a flag as a field of `Options`; the arguments are those of `Flag`."""
    declared = Flag(default, type, metavar, modes, help, **more)
    return dataclasses.field(default=default, metadata={"flag": declared})


# The types of flags with a value: each converts a text, or raises an error that says why not.


def whole_number(lowest: int, highest: int) -> Callable[[str], int]:
    """Returns the type of a whole number in a range, both ends included."""

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


def side(text: str) -> int:
    """The type of the side of square images: the generator doubles its first feature map twice."""
    number = whole_number(4, math.isqrt(MAX_PIXELS))(text)
    if number % 4:
        raise argparse.ArgumentTypeError(f"{text!r} given, a multiple of 4 expected")
    return number


def path(text: str) -> Path:
    """The type of a file or a folder; ~ is the home folder, as in a shell."""
    if not text:
        raise argparse.ArgumentTypeError(f"{text!r} given, a file or a folder expected")
    return Path(os.path.expanduser(text))


def file_named(*suffixes: str) -> Callable[[str], Path]:
    """Returns the type of a file with one of the suffixes, in either case; "" for no suffix."""

    def parse(text: str) -> Path:
        if not text or kind_of(Path(text)) not in suffixes or Path(text).name in suffixes:
            names = ", ".join(f"NAME{suffix}" for suffix in suffixes)
            raise argparse.ArgumentTypeError(f"{text!r} given, expected {names}")
        return path(text)

    return parse


def device_names(text: str) -> list[str]:
    """The type of a list of different devices of one kind."""
    names = text.upper().split(",")
    of_one_kind = re.fullmatch(r"([GC]PU):\d{1,3}(,\1:\d{1,3})*", text.upper())
    if not of_one_kind or len(set(names)) < len(names):
        raise argparse.ArgumentTypeError(
            f"{text!r} given, names like GPU:0,GPU:1 expected, all of one kind, each once"
        )
    return names


# More steps than anyone has time for, more images than fit in any memory.
MAX_COUNT = 10**9
# An evaluation of fewer images says nothing.
MIN_SAMPLES = 100
# The number of images of an evaluation; a picture of more is slow to look at.
MAX_SAMPLES = 10_000

ENGINES = ("train_on_batch", "compiled")
# What convolutions compute in. Weights and all other layers are always float32.
PRECISIONS = ("float32", "bfloat16", "float16")
# A step runs on one device, on several of this machine, or on several machines.
STRATEGIES = ("none", "mirrored", "multiworker")

count = whole_number(1, MAX_COUNT)
# The range of seeds that all random number generators take.
seed_number = whole_number(0, 2**32 - 1)


@dataclasses.dataclass(frozen=True)
class Options:
    """The flags of a command and their values.

    Attributes:
        given: The flags that were given on the command line, with their values.
        program: The program's file, as messages name it.
    """

    # A line of settings, then the help.
    # fmt: off
    generator: Path | None = flag(None, path, "FILE", ANY,
        "draw digits with this generator (.h5, .hdf5 or .keras) instead of training", short="-g")

    # with a generator
    samples: int | None = flag(None, whole_number(1, MAX_SAMPLES), "N", SAMPLE | EVALUATE,
        "how many images to draw (default: 16; 10000 to --evaluate), or with --interpolate, how "
        "many walks (default: 10)")
    interpolate: int | None = flag(None, whole_number(2, 1000), "STEPS", SAMPLE,
        "walk spherically from one z to another, in rows of STEPS images (default: 10; as an "
        "animation, 30)", nargs="?", const=0)
    output: Path | None = flag(None, file_named(".png", ".pdf", ".svg", ".npz", ".gif"), "FILE",
        SAMPLE,
        "a picture (.png, .pdf, .svg), the images and labels themselves (.npz), or with "
        "--interpolate an animation (.gif) (default: a .png in test_outputs/)")
    evaluate: bool = flag(False, SWITCH, None, EVALUATE,
        "measure how good the digits are, against the test images of --data")
    export: Path | None = flag(None, file_named(".html", ".keras", ".onnx", ""), "FILE", EXPORT,
        "write the generator as a page that draws (.html), as .keras, as .onnx, or, without a "
        "suffix, as a folder with a TensorFlow SavedModel")
    digit: list[str] | None = flag(None, str, "DIGIT", SAMPLE,
        "the digit to draw, or several: 0 1 2, or 2026; with --interpolate, the walk from digit "
        "to digit; of other data, the names of classes (default: random ones)",
        short="-d", nargs="+", conditional=True)

    # training
    train_steps: int = flag(40000, count, "N", TRAIN,
        "alternating steps to train for (default: {default})", stored=CHANGEABLE)
    batch_size: int = flag(64, count, "N", TRAIN,
        "real images a step, and as many fake ones (default: {default})", stored=FIXED)
    save_interval: int = flag(500, count, "N", TRAIN,
        "steps from one sample grid to the next (default: {default})", stored=CHANGEABLE)
    checkpoint_interval: int | None = flag(None, count, "N", TRAIN,
        "steps from one checkpoint to the next (default: --save-interval)", stored=CHANGEABLE)
    evaluate_interval: int | None = flag(None, whole_number(0, MAX_COUNT), "N", TRAIN,
        "steps from one evaluation to the next; the best generator is kept; 0 for none (default: "
        "2500 on MNIST, 0 on other data)", stored=CHANGEABLE)
    data: Path = flag(MNIST, path, "PATH", TRAIN | EVALUATE,
        "an .npz or .csv file, a folder with IDX files like MNIST's, or one with a folder of "
        "pictures for each class (default: MNIST, which comes with the programs)",
        stored=CHANGEABLE)  # to another path of the same data
    image_size: int | None = flag(None, side, "N", TRAIN | EVALUATE,
        "crop and resize images to N x N pixels, N a multiple of 4 (default: as they are)",
        stored=CHANGEABLE)  # to what gives the same images
    engine: str = flag("train_on_batch", ENGINES, None, TRAIN,
        "take steps one by one, as in the chapter, or many in one call of a compiled function, "
        "which is faster (default: {default})", stored=CHANGEABLE)
    precision: str = flag("float32", PRECISIONS, None, TRAIN,
        "what convolutions compute in; bfloat16 is faster on a GPU since Ampere and on a CPU with "
        "instructions for it, float16 needs a GPU (default: {default})", stored=FIXED)
    xla: bool = flag(False, ON_OFF, None, TRAIN,
        "compile with XLA: for --engine compiled on a GPU (default: --no-xla)",
        stored=CHANGEABLE, needs={"engine": "compiled", "strategy": "none"})
    strategy: str = flag("none", STRATEGIES, None, TRAIN,
        "share each batch among devices of this machine (mirrored), or among machines, which "
        "TF_CONFIG or Slurm name (multiworker) (default: {default})")
    devices: list[str] | None = flag(None, device_names, "NAMES", TRAIN,
        "for --strategy mirrored: GPU:0,GPU:1 and so on, or CPU:0,CPU:1 to try it without GPUs "
        "(default: all GPUs)", needs={"strategy": "mirrored"})
    sync_batchnorm: bool = flag(False, ON_OFF, None, TRAIN,
        "batch normalization uses the statistics of the whole batch, not of each device's share "
        "of it (default: --no-sync-batchnorm)", stored=CHANGEABLE)
    worker_timeout: int = flag(120, whole_number(1, 86400), "SECONDS", TRAIN,
        "for --strategy multiworker: how long to wait for another worker before giving up "
        "(default: {default})", needs={"strategy": "multiworker"})
    log_interval: int = flag(100, count, "N", TRAIN,
        "steps from one log line to the next (default: {default}, and on a terminal a progress bar "
        "instead)", exclusive="log")
    quiet: bool = flag(False, SWITCH, None, TRAIN,
        "print only warnings and errors", exclusive="log")
    tensorboard: bool = flag(False, ON_OFF, None, TRAIN,
        "write events for TensorBoard: tensorboard --logdir {name} (default: --no-tensorboard)",
        stored=CHANGEABLE)
    resume: bool = flag(False, SWITCH, None, TRAIN,
        "resume the run in --outdir with the flags that it was started with; --train-steps may "
        "grow", exclusive="start")
    overwrite: bool = flag(False, SWITCH, None, TRAIN | SAMPLE | EXPORT,
        "start a new run in place of the one in --outdir, which is deleted; or replace the file "
        "named by --output or --export", exclusive="start")
    figures: bool = flag(False, SWITCH, None, Mode.FIGURES,
        "only draw the figures of the run in --outdir again, from its folder", exclusive="start")

    # any mode
    # if not given, `resolve` draws one
    seed: int = flag(None, seed_number, "N", TRAIN | SAMPLE | EVALUATE,
        "repeat a run: the same seed gives the same digits (default: a new one each time)",
        stored=FIXED)
    outdir: Path = flag(Path(), path, "DIR", ANY,
        "the folder that {name}/, {name}.h5 and test_outputs/ are written to (default: "
        "{default})")
    show: bool | None = flag(None, ON_OFF, None, TRAIN | SAMPLE | EVALUATE,
        "show the last picture in a window (default: on a terminal with a display)")
    # fmt: on

    # no flags
    given: dict[str, Any] = dataclasses.field(default_factory=dict)
    program: str = ""

    @property
    def mode(self) -> Mode:
        """What the command does."""
        if self.generator is None:
            return Mode.FIGURES if self.figures else TRAIN
        return EVALUATE if self.evaluate else SAMPLE if self.export is None else EXPORT

    @property
    def data_name(self) -> str:
        """The data set as files name it: relative to the project if it belongs to it.

        `PROJECT / data_name` is the path again, also after the project has been moved.
        """
        path = self.data.resolve()
        return (path.relative_to(PROJECT) if PROJECT in path.parents else path).as_posix()

    def of_the_run(self) -> dict[str, Any]:
        """The flags of the run, as config.json holds them."""
        flags = {name: getattr(self, name) for name in FLAGS if FLAGS[name].stored}
        return flags | {"data": self.data_name}

    def typed(self) -> list[str]:
        """The given flags, as on a command line."""
        return [_as_typed(name, value) for name, value in self.given.items()]

    def to_resume(self) -> list[str]:
        """The flags that resume this run in the same way: those that the run does not store.

        And where the data is, which may be elsewhere for each worker.
        """
        own = {name: x for name, x in self.given.items() if FLAGS[name].exclusive != "start"}
        return ["--resume"] + [
            _as_typed(name, value)
            for name, value in own.items()
            if not FLAGS[name].stored or name == "data"
        ]

    def completed_by(self, flags: dict[str, Any]) -> Options:
        """The same command, with the flags of a run in place of defaults."""
        own = {name: getattr(self, name) for name in FLAGS}
        options = resolve(self.given, self.program, own | flags)
        check_needs(options)
        return options


FLAGS: dict[str, Flag] = {
    field.name: field.metadata["flag"]
    for field in dataclasses.fields(Options)
    if "flag" in field.metadata
}


def resolve(given: dict[str, Any], program: str, others: dict[str, Any]) -> Options:
    """Decides the value of every flag: the given one, that of the run or program, or the default.

    What depends on the data is decided when that has been loaded, by `training.start`. `others` are
    the flags of the run, where these are known, or the program's own defaults.
    """
    values = others | given
    if values.get("strategy", "none") != "none":
        if given.get("engine", "compiled") != "compiled":
            raise UserError(
                f"argument --engine: {given['engine']} given, and --strategy {values['strategy']} "
                "needs compiled: devices can share a step only as one compiled function: leave "
                "out --engine"
            )
        values["engine"] = "compiled"
    if values.get("seed") is None:
        values["seed"] = secrets.randbelow(2**32)  # known, so that the run can be repeated
    options = Options(**values, given=given, program=program)
    for name in given:
        _check_mode(name, options.mode)
    _check_samples(options)
    return options


def restored_flags(stored: dict[str, Any]) -> dict[str, Any]:
    """The flags of a run from its config.json; raises a `KeyError` if one is missing."""
    flags = {name: stored[name] for name, declared in FLAGS.items() if declared.stored}
    return flags | {"data": PROJECT / flags["data"]}


def fixed(flags: dict[str, Any]) -> dict[str, Any]:
    """Those of a run's flags that a resumed run may not change."""
    return {name: value for name, value in flags.items() if FLAGS[name].stored == FIXED}


def argument(name: str) -> str:
    """A flag as error messages name it: `argument -g/--generator`."""
    short, long = FLAGS[name].short, f"--{name.replace('_', '-')}"
    return f"argument {short}/{long}" if short else f"argument {long}"


def _as_typed(name: str, value: Any) -> str:
    """A flag and its value on a command line."""
    flag = name.replace("_", "-")
    if isinstance(value, bool):
        return f"--{flag}" if value else f"--no-{flag}"
    return f"--{flag}={','.join(value) if isinstance(value, list) else value}"


def _check_mode(name: str, mode: Mode) -> None:
    """Checks that a flag has an effect in a mode."""
    modes = FLAGS[name].modes
    if mode in modes:
        return
    if mode not in WITH_GENERATOR and not modes & ~WITH_GENERATOR:
        raise UserError(f"{argument(name)}: needs --generator FILE, the generator to use")
    other = "generator" if mode is SAMPLE else str(mode.name).lower()
    raise UserError(
        f"{argument(name)}: has no effect together with --{other}: leave one of them out"
    )


def _check_samples(options: Options) -> None:
    """Checks what is to be drawn against where to."""
    if options.evaluate and (options.samples or MIN_SAMPLES) < MIN_SAMPLES:
        raise UserError(
            f"argument --samples: {options.samples} given, --evaluate needs at least "
            f"{MIN_SAMPLES}: give more, or leave --samples out"
        )
    if options.output and kind_of(options.output) == ".gif" and options.interpolate is None:
        raise UserError(
            f"argument --output: {options.output} given, an animation, which needs --interpolate: "
            "add that, or name a .png, .pdf, .svg or .npz file"
        )
    if options.show and options.output and kind_of(options.output) != ".png":
        raise UserError(
            f"argument --show: has no effect on {options.output}: leave it out, or name a .png file"
        )


def check_needs(options: Options) -> None:
    """Checks that flags which need others have them."""
    for name, declared in FLAGS.items():
        value = getattr(options, name)
        if value is False or (value == declared.default and name not in options.given):
            continue
        for other, needed in declared.needs.items():
            if getattr(options, other) != needed:
                off = f"give --no-{name}" if declared.type is ON_OFF else "leave it out"
                raise UserError(
                    f"{argument(name)}: is for --{other} {needed}, and the {other} is "
                    f"{getattr(options, other)}: {off}, or give --{other} {needed}"
                )
