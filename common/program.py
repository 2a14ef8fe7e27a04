"""What a program does with its command line: train, sample, evaluate, export, or draw figures."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import keras

from common.cli import Parser
from common.flags import Mode
from common.gan.saving import BuildGenerator, load_generator
from common.options import Options
from common.runs.folder import RunFolder
from common.sampling.export import export_generator
from common.training.figures import draw_figures


def run_program(
    name: str,
    description: str,
    argv: Sequence[str] | None,
    train: Callable[[Options], None],
    build: BuildGenerator,
    sample: Callable[[keras.Model, Options], None],
    conditional: bool = False,
) -> None:
    """Does what a command line asks for; a mistake ends in one line and status 2.

    Args:
        name: The name of the model, which is that of the program's file.
        description: The first line of `--help`.
        argv: The command line; None for that of the process.
        train: Builds and trains the models.
        build: Builds a generator, to load a trained one into.
        sample: Draws with a trained generator.
        conditional: Whether the generator takes labels, so that one can ask for a digit.
    """
    parser = Parser(name, description, _examples(name, conditional), conditional)
    options = parser.options(argv)
    with parser.one_line_errors():
        if options.generator is None:
            if options.mode is Mode.TRAIN:
                train(options)
            else:
                draw_figures(RunFolder(options.outdir / name))
            return
        generator = load_generator(options.generator, build)
        if options.mode is Mode.EVALUATE:
            from common.evaluation.evaluate import evaluate_generator  # scikit-learn is slow

            evaluate_generator(generator, options)
        elif options.export is not None:
            export_generator(generator, options.export)
        else:
            sample(generator, options)


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
