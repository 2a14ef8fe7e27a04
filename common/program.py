"""What is done with a trained generator?"""

from __future__ import annotations

from collections.abc import Callable

import keras

from common.cli import Options


def use_generator(
    generator: keras.Model, options: Options, draw: Callable[[keras.Model, Options], None]
) -> None:
    """Evaluates a generator, exports it, or has it draw: what the user asks for.

    What only some of that needs is imported when it is asked for.

    Args:
        generator: The generator.
        options: What the user asked for.
        draw: Draws with it; takes the two above.

    Raises:
        UserError: As what is done raises it.
    """
    if options.evaluate:
        from common.evaluation.evaluate import evaluate_generator

        evaluate_generator(generator, options)
    elif options.export is not None:
        from common.sampling.export import export_generator

        export_generator(generator, options.export)
    else:
        draw(generator, options)
