"""A program: its command line, and what it does with it.

Importing this module takes no time. Creating a `Program` loads TensorFlow.
"""

import signal
import sys
from collections.abc import Callable, Sequence
from difflib import get_close_matches
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from common.cli import CommandParser
from common.data import PROJECT
from common.errors import UserError
from common.options import FLAGS, SAMPLE, WITH_GENERATOR, Mode, Options, check_needs, resolve


class Program(CommandParser):
    """One of the two programs, or a copy with networks of a reader's own.

    It is created before Keras is imported: it reads the command line first, because a mistake, or
    --help, need not wait for TensorFlow, and it sets up TensorFlow and Keras.

    Args:
        module: The program's `__name__`.
        file: The program's `__file__`. Its name is the name of the model: it names the run's folder
            and the generator's file, so that a copy of a program has its own.
        description: The first line of `--help`.
        conditional: Whether the generator takes labels, and so --digit exists.
    """

    def __init__(self, module: str, file: str, description: str, conditional: bool = False) -> None:
        self.name = Path(file).stem
        self.conditional = conditional
        super().__init__(f"{self.name}.py", description)
        self.epilog = _examples(self.name, conditional)
        self._add_flags()
        self._options: Options | None = None  # of the process's own command line
        if module == "__main__":
            if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
                signal.signal(signal.SIGINT, signal.SIG_DFL)  # ends it without a traceback
            self._options = self.options()
        if find_spec("tensorflow") is None:
            self.error(
                "TensorFlow is not installed in this Python: run the program with make, which "
                "installs what it needs (make dcgan, make cgan), or run pip install -r "
                "requirements.txt first"
            )
        from common import device  # noqa: F401

    def _add_flags(self) -> None:
        titles = ("with --generator", "training")
        groups: dict[str, Any] = {title: self.add_argument_group(title) for title in titles}
        exclusive: dict[str, Any] = {}
        for name, flag in FLAGS.items():
            if flag.conditional and not self.conditional:
                continue
            title = "" if SAMPLE in flag.modes else "training"
            if not flag.modes & ~WITH_GENERATOR:
                title = "with --generator"
            group = groups.get(title, self)
            if flag.exclusive:
                if flag.exclusive not in exclusive:
                    exclusive[flag.exclusive] = group.add_mutually_exclusive_group()
                group = exclusive[flag.exclusive]
            self.add_flag(name, group, self.name)

    def options(self, argv: Sequence[str] | None = None) -> Options:
        """Reads a command line, None for that of the process; a mistake ends the program."""
        given = vars(self.parse_args(argv))
        try:
            options = resolve(given, self.prog, self.defaults)
            if not options.resume:  # otherwise the flags of the run are not known yet
                check_needs(options)
            return options
        except UserError as error:
            self.error(str(error))

    def run(
        self,
        argv: Sequence[str] | None,
        train: Callable[[Any], None],
        build: Callable[..., Any],
        sample: Callable[[Any, Options], None],
    ) -> None:
        """Runs a command, None for that of the process; a mistake ends in one line and status 2.

        `train` trains a run. `build` builds a generator, which gets the weights of a trained one,
        and `sample` draws with it.
        """
        if signal.getsignal(signal.SIGINT) is signal.SIG_DFL:
            signal.signal(signal.SIGINT, signal.default_int_handler)
        from common.device import restored
        from common.gan.saving import load_generator
        from common.runs.folder import RunFolder
        from common.training.figures import draw_figures

        options = self._options if argv is None and self._options else self.options(argv)
        with self.one_line_errors(), restored():
            if options.generator is None:
                folder = RunFolder(options.outdir / self.name)
                if options.mode is Mode.TRAIN:
                    self._train(folder, options, train)
                else:
                    draw_figures(folder)
                return
            if not options.generator.is_file():
                why = "It is a folder" if options.generator.is_dir() else "No such file"
                raise UserError(
                    f"generator {options.generator} cannot be read: {why}: "
                    f"{self._where_it_may_be(options.generator)}"
                )
            generator = load_generator(options.generator, build)
            if options.mode is Mode.EVALUATE:
                from common.evaluation.evaluate import evaluate_generator  # scikit-learn is slow

                evaluate_generator(generator, options)
            elif options.export is not None:
                from common.sampling.export import export_generator

                export_generator(generator, options.export, options.overwrite)
            else:
                sample(generator, options)

    def _train(self, folder: Any, options: Options, train: Callable[[Any], None]) -> None:
        from common.device import silence, unused_gpu
        from common.training.distribution import join
        from common.training.start import start_run

        if options.quiet:
            silence()
        unused = unused_gpu()  # first, because what follows may refuse to go on without one
        if unused:
            print(f"warning: {unused}", file=sys.stderr)
        # models belong to a strategy from the start: it is set before they are built
        workers = join(options.strategy, options.devices, options.worker_timeout)
        if not workers.is_chief:
            silence()
        with start_run(folder, workers, options, self.conditional) as run:
            train(run)

    def draw(self, generator: Any, options: Options) -> Any:
        """Draws with a trained generator what the user asks for; returns the `Samples`."""
        from common.sampling.samples import draw_samples

        return draw_samples(generator, options)

    def _where_it_may_be(self, missing: Path) -> str:
        """Where the generator may be that the user has named."""
        if near := get_close_matches(str(missing), map(str, missing.parent.glob("*.h5")), 1):
            return f"did you mean {near[0]}?"
        train = "a training writes one after its first --save-interval steps"
        included = PROJECT / "pretrained" / f"{self.name}.h5"
        return f"{train}; included is {included}" if included.exists() else train


def _examples(name: str, conditional: bool) -> str:
    """The examples of --help."""
    program = f"python {name}.py"
    examples = {
        program: "train as in the chapter (hours on a CPU)",
        f"{program} --train-steps 2000": "train until digits appear",
        f"{program} --generator={name}.h5": "draw 16 digits: test_outputs/00000.png",
        f"{program} -g {name}.h5 --evaluate": "measure how good its digits are",
        f"{program} --resume": "resume a run that was stopped",
        f"{program} --data fashion/ --outdir f": "train on other images",
    }
    if conditional:
        examples[f"{program} -g {name}.h5 --digit=8"] = "draw 16 eights: test_outputs/00008.png"
    width = max(map(len, examples))
    lines = (f"  {command:{width}}  {what}" for command, what in examples.items())
    return "\n".join(["examples:", *lines])
