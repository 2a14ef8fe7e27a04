"""The flags of the programs, each declared once.

A declaration says all that is known of a flag: default, type, help, the modes in which it has an
effect, what it needs, and whether a resumed run may change it. The parser, the checks between
flags, the flags in config.json and their validation are derived from the declarations.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

from common.data.dataset import MNIST, PROJECT, name_of
from common.errors import UserError
from common.files import kind_of
from common.flags import (
    ANY,
    CHANGEABLE,
    EVALUATE,
    EXPORT,
    FIXED,
    ON_OFF,
    SAMPLE,
    SWITCH,
    TRAIN,
    WITH_GENERATOR,
    Flag,
    Mode,
    device_names,
    digits,
    file_named,
    flag,
    path,
    seed_number,
    side,
    whole_number,
)

# More steps than anyone has time for, more images than fit in any memory.
MAX_COUNT = 10**9
# An evaluation of fewer images than this says nothing.
MIN_SAMPLES = 100
# As many as an evaluation draws; a picture of more is slow to look at.
MAX_SAMPLES = 10_000

ENGINES = ("train_on_batch", "compiled")
# What convolutions compute in, and the `dtype` of such a layer. Weights are float32 in all of them,
# and so are all other layers.
PRECISIONS = {"float32": "float32", "bfloat16": "mixed_bfloat16", "float16": "mixed_float16"}
# A step runs on one device, on several of this machine, or on several machines.
STRATEGIES = ("none", "mirrored", "multiworker")

count = whole_number(1, MAX_COUNT)


@dataclasses.dataclass
class Options:
    """The flags of a command and their values."""

    # A line of values, the help, a line of the rest.
    # fmt: off
    generator: Path | None = flag(
        None, path, "FILE",
        "draw digits with this generator (.h5, .hdf5 or .keras) instead of training",
        modes=ANY, short="-g",
    )

    # with a generator
    samples: int | None = flag(
        None, whole_number(1, MAX_SAMPLES), "N",
        "how many images to draw (default: 16; 10000 to --evaluate), or with --interpolate, how "
        "many walks (default: 10)",
        modes=SAMPLE | EVALUATE,
    )
    interpolate: int | None = flag(
        None, whole_number(2, 1000), "STEPS",
        "walk from one z to another, each walk a row of so many images (default: 10; as an "
        "animation, 30); spherically, so that z is uniform all along the way",
        modes=SAMPLE, nargs="?", const=0,
    )
    output: Path | None = flag(
        None, file_named(".png", ".pdf", ".svg", ".npz", ".gif"), "FILE",
        "where to: a picture (.png, .pdf, .svg), the images and labels themselves (.npz), or of "
        "--interpolate an animation (.gif) (default: a .png in test_outputs/)",
        modes=SAMPLE,
    )
    evaluate: bool = flag(
        False, SWITCH, None,
        "measure how good the digits are, against the test images of --data: "
        "test_outputs/evaluation.json",
        modes=EVALUATE,
    )
    export: Path | None = flag(
        None, file_named(".html", ".keras", ".onnx", ""), "FILE",
        "write the generator in another format: .html, a page that draws in any browser, .keras, "
        ".onnx, or, without a suffix, a folder with a TensorFlow SavedModel",
        modes=EXPORT,
    )
    digit: list[str] | None = flag(
        None, digits, "DIGIT",
        "the digit to draw; or several, in this order in each row of the picture: 0 1 2, or in "
        "one word, 2026 being 2 0 2 6; with --interpolate, the walk from digit to digit "
        "(default: random ones)",
        modes=SAMPLE, short="-d", nargs="+", conditional=True,
    )

    # training
    train_steps: int = flag(
        40000, count, "N",
        "alternating steps to train for (default: %(default)s)",
        modes=TRAIN, on_resume=CHANGEABLE,
    )
    batch_size: int = flag(
        64, count, "N",
        "real images a step, and as many fake ones (default: %(default)s)",
        modes=TRAIN, on_resume=FIXED,
    )
    save_interval: int = flag(
        500, count, "N",
        "steps from one sample grid to the next (default: %(default)s)",
        modes=TRAIN, on_resume=CHANGEABLE,
    )
    checkpoint_interval: int | None = flag(
        None, count, "N",
        "steps from one checkpoint to the next (default: --save-interval)",
        modes=TRAIN, on_resume=CHANGEABLE,
    )
    evaluate_interval: int | None = flag(
        None, whole_number(0, MAX_COUNT), "N",
        "steps from one evaluation of 2,000 images to the next; the best generator is kept; 0 for "
        "none (default: 2500 on MNIST, 0 on other data)",
        modes=TRAIN, on_resume=CHANGEABLE,
    )
    data: Path = flag(
        MNIST, path, "PATH",
        "an .npz file like keras.datasets.mnist's, a folder with IDX files like MNIST's, or one "
        "with a folder of pictures for each class (default: MNIST, which comes with the programs)",
        modes=TRAIN | EVALUATE, on_resume=CHANGEABLE,  # to another path of the same data
    )
    image_size: int | None = flag(
        None, side, "N",
        "crop and resize images to N x N pixels, N a multiple of 4 (default: as they are)",
        modes=TRAIN | EVALUATE, on_resume=CHANGEABLE,  # to what gives the same images
    )
    engine: str = flag(
        "train_on_batch", ENGINES, None,
        "how to take steps: one by one, as in the chapter, or many in one call of a compiled "
        "function, which is faster; the digits are the same (default: %(default)s)",
        modes=TRAIN, on_resume=CHANGEABLE,
    )
    precision: str = flag(
        "float32", tuple(PRECISIONS), None,
        "what convolutions compute in; bfloat16 is faster on a GPU since Ampere and on a CPU with "
        "instructions for it, float16 needs a GPU (default: %(default)s)",
        modes=TRAIN, on_resume=FIXED,
    )
    xla: bool = flag(
        False, ON_OFF, None,
        "compile with XLA: for --engine compiled on a GPU (default: --no-xla)",
        modes=TRAIN, on_resume=CHANGEABLE, needs={"engine": "compiled", "strategy": "none"},
    )
    strategy: str = flag(
        "none", STRATEGIES, None,
        "train on several devices, which share each batch: on those of this machine (mirrored), "
        "or on several machines, which TF_CONFIG or Slurm name (multiworker); with --engine "
        "compiled (default: %(default)s)",
        modes=TRAIN,
    )
    devices: list[str] | None = flag(
        None, device_names, "NAMES",
        "for --strategy mirrored: the devices, for example GPU:0,GPU:1, or CPU:0,CPU:1 to try it "
        "without GPUs (default: all GPUs)",
        modes=TRAIN, needs={"strategy": "mirrored"},
    )
    sync_batchnorm: bool = flag(
        False, ON_OFF, None,
        "batch normalization uses the statistics of the whole batch, not of each device's share "
        "of it (default: --no-sync-batchnorm)",
        modes=TRAIN, on_resume=CHANGEABLE,
    )
    worker_timeout: int = flag(
        120, whole_number(1, 86400), "SECONDS",
        "for --strategy multiworker: how long to wait for another worker before giving up "
        "(default: %(default)s)",
        modes=TRAIN, needs={"strategy": "multiworker"},
    )
    log_interval: int = flag(
        100, count, "N",
        "steps from one log line to the next; 1 for each step, as in the chapter (default: "
        "%(default)s, and on a terminal a progress bar instead)",
        modes=TRAIN, exclusive="log",
    )
    quiet: bool = flag(
        False, SWITCH, None,
        "print only warnings and errors",
        modes=TRAIN, exclusive="log",
    )
    tensorboard: bool = flag(
        False, ON_OFF, None,
        "write events for TensorBoard: tensorboard --logdir {name} (default: --no-tensorboard)",
        modes=TRAIN, on_resume=CHANGEABLE,
    )
    resume: bool = flag(
        False, SWITCH, None,
        "resume the run in --outdir with the flags that it was started with; --train-steps may "
        "grow",
        modes=TRAIN, exclusive="start",
    )
    overwrite: bool = flag(
        False, SWITCH, None,
        "start a new run in place of the one in --outdir, which is deleted; with --generator, "
        "replace the file named by --output or --export",
        modes=TRAIN | SAMPLE | EXPORT, exclusive="start",
    )
    figures: bool = flag(
        False, SWITCH, None,
        "instead of training, draw the figures of the run in --outdir again, from its folder "
        "alone: losses.png, evolution.png, evolution.gif",
        modes=Mode.FIGURES, exclusive="start",
    )

    # any mode
    seed: int | None = flag(
        None, seed_number, "N",
        "repeat a run: the same seed gives the same digits (default: a new one each time)",
        modes=TRAIN | SAMPLE | EVALUATE, on_resume=FIXED,
    )
    outdir: Path = flag(
        Path(), path, "DIR",
        "the folder that {name}/, {name}.h5 and test_outputs/ are written to (default: "
        "%(default)s)",
        modes=ANY,
    )
    show: bool | None = flag(
        None, ON_OFF, None,
        "show the last picture in a window (default: on a terminal with a display)",
        modes=TRAIN | SAMPLE | EVALUATE,
    )

    # fmt: on

    # no flags: those that were given on the command line, with their values; the program's name
    given: dict[str, Any] = dataclasses.field(default_factory=dict)
    program: str = ""

    @property
    def mode(self) -> Mode:
        """What the command does."""
        if self.generator is None:
            return Mode.FIGURES if self.figures else TRAIN
        return EVALUATE if self.evaluate else SAMPLE if self.export is None else EXPORT

    def of_the_run(self) -> dict[str, Any]:
        """The flags that belong to a run, as config.json holds them."""
        flags = {name: getattr(self, name) for name in FLAGS if FLAGS[name].on_resume}
        return flags | {"data": name_of(self.data)}

    def of_the_command(self) -> dict[str, Any]:
        """The other flags, as config.json holds them."""
        values = {
            name: getattr(self, name)
            for name, declared in FLAGS.items()
            if not declared.on_resume and (TRAIN in declared.modes or not declared.conditional)
        }
        return {
            name: str(value) if isinstance(value, Path) else value for name, value in values.items()
        }

    def to_resume(self, flags: dict[str, Any]) -> list[str]:
        """The flags with which this run is resumed in the same way: those it does not keep.

        Args:
            flags: Those it keeps, from `of_the_run`. Its data may be elsewhere for this worker.
        """
        own = {
            name: value
            for name, value in self.given.items()
            if not FLAGS[name].on_resume and FLAGS[name].exclusive != "start"
        }
        if name_of(self.data) != flags["data"]:
            own["data"] = self.data
        return ["--resume", *(_as_typed(name, value) for name, value in own.items())]

    def completed_by(self, flags: dict[str, Any]) -> Options:
        """These options, with the flags of a run in place of defaults.

        Args:
            flags: From `of_the_run`.
        """
        completed = flags | {"data": PROJECT / flags["data"]} | self.given
        return dataclasses.replace(self, **completed)


FLAGS: dict[str, Flag] = {
    field.name: field.metadata["flag"]
    for field in dataclasses.fields(Options)
    if "flag" in field.metadata
}


def _as_typed(name: str, value: Any) -> str:
    """A flag and its value on a command line."""
    flag = name.replace("_", "-")
    if isinstance(value, bool):
        return f"--{flag}" if value else f"--no-{flag}"
    return f"--{flag}={','.join(value) if isinstance(value, list) else value}"


def validated(flags: dict[str, Any]) -> dict[str, Any]:
    """The flags of a run as config.json holds them.

    Flags that did not exist when the run was started get their defaults, except those without a
    usable one: of a run that has none of these, nobody knows which run it is.

    Raises:
        ValueError: A value is not one that the command line would have given.
        KeyError: A flag that identifies the run is missing.
    """
    flags, defaults = dict(flags), Options().of_the_run()
    found = {}
    for name, default in defaults.items():
        fixed = FLAGS[name].on_resume is FIXED
        found[name] = flags[name] if fixed else flags.get(name, default)
        if not FLAGS[name].accepts(found[name]):
            raise ValueError(f"{name} is {found[name]!r}")
    return found


def named(name: str) -> str:
    """A flag as error messages name it: `argument -g/--generator`."""
    short, long = FLAGS[name].short, f"--{name.replace('_', '-')}"
    return f"argument {short}/{long}" if short else f"argument {long}"


def check_flags(options: Options) -> None:
    """Checks that the flags given on a command line have an effect, and fit each other.

    Raises:
        UserError: They do not.
    """
    for name in options.given:
        _check_mode(name, options.mode)
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
    if options.strategy != "none":
        if options.given.setdefault("engine", "compiled") != "compiled":
            raise UserError(
                f"argument --engine: {options.engine} given, and --strategy {options.strategy} "
                "needs compiled: several machines cannot share a step that is not one function: "
                "leave out --engine"
            )
        options.engine = "compiled"
    if not options.resume:  # or flags of the run are not known yet
        check_needs(options)


def _check_mode(name: str, mode: Mode) -> None:
    """Checks that a flag has an effect in a mode."""
    modes = FLAGS[name].modes
    if mode in modes:
        return
    if mode not in WITH_GENERATOR and not modes & ~WITH_GENERATOR:
        raise UserError(f"{named(name)}: needs --generator FILE, the generator to use")
    if mode in WITH_GENERATOR and SAMPLE not in modes and modes & ~WITH_GENERATOR:
        raise UserError(
            f"{named(name)}: is for training, and --generator draws digits without it: leave one "
            "of them out"
        )
    raise UserError(
        f"{named(name)}: has no effect together with --{str(mode.name).lower()}: leave one of them "
        "out"
    )


def check_needs(options: Options) -> None:
    """Checks that flags which need others have them.

    Raises:
        UserError: One does not.
    """
    for name, declared in FLAGS.items():
        value = getattr(options, name)
        if value is False or (value == declared.default and name not in options.given):
            continue
        for other, needed in declared.needs.items():
            if getattr(options, other) != needed:
                off = f"give --no-{name}" if declared.type is ON_OFF else "leave it out"
                raise UserError(
                    f"{named(name)}: is for --{other} {needed}, and the {other} is "
                    f"{getattr(options, other)}: {off}, or give --{other} {needed}"
                )
