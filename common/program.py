"""What a program does with its command line: train, sample, evaluate, export, or draw figures."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import keras

from common.cli import Parser
from common.flags import Mode
from common.gan.saving import BuildGenerator, load_generator
from common.options import Options
from common.runs.folder import RunFolder
from common.runtime import restored
from common.sampling.export import export_generator
from common.training.figures import draw_figures


def run_program(
    parser: Parser,
    argv: Sequence[str] | None,
    train: Callable[[Options], None],
    build: BuildGenerator,
    sample: Callable[[keras.Model, Options], None],
) -> None:
    """Does what a command line asks for; a mistake ends in one line and status 2.

    Args:
        parser: Reads the command line.
        argv: The command line; None for that of the process.
        train: Builds and trains the models.
        build: Builds a generator, to load a trained one into.
        sample: Draws with a trained generator.
    """
    options = parser.options(argv)
    with parser.one_line_errors(), restored():
        if options.generator is None:
            if options.mode is Mode.TRAIN:
                train(options)
            else:
                draw_figures(RunFolder(options.outdir / parser.model_name))
            return
        generator = load_generator(options.generator, build)
        if options.mode is Mode.EVALUATE:
            from common.evaluation.evaluate import evaluate_generator  # scikit-learn is slow

            evaluate_generator(generator, options)
        elif options.export is not None:
            export_generator(generator, options.export, options.overwrite)
        else:
            sample(generator, options)
