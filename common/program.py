"""What a program does with its command line: train, sample, evaluate, export, or draw figures."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from difflib import get_close_matches
from pathlib import Path

import keras

from common.cli import Parser
from common.data.dataset import PROJECT
from common.device import restored
from common.errors import UserError
from common.flags import Mode
from common.gan.saving import BuildGenerator, load_generator
from common.options import Options
from common.runs.folder import RunFolder
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
        try:
            generator = load_generator(options.generator, build)
        except UserError as error:
            if isinstance(error.__cause__, FileNotFoundError):
                advice = _advice(options.generator, parser.model_name)
                raise UserError(f"{error}: {advice}") from error
            raise
        if options.mode is Mode.EVALUATE:
            from common.evaluation.evaluate import evaluate_generator  # scikit-learn is slow

            evaluate_generator(generator, options)
        elif options.export is not None:
            export_generator(generator, options.export, options.overwrite)
        else:
            sample(generator, options)


def _advice(missing: Path, model_name: str) -> str:
    """Where the generator may be that the user has named."""
    others = [str(file) for file in missing.parent.glob("*.h5")]
    near = get_close_matches(str(missing), others, 1)
    included = PROJECT / "pretrained" / f"{model_name}.h5"
    if near:
        return f"did you mean {near[0]}?"
    if included.exists():
        return f"train one first, or give the one that is included, {included}"
    return "train one first"
