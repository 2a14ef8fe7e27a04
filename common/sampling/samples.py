"""Drawing with a trained generator: which digits, from which noise, into which file."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path
from typing import NamedTuple

import keras
import numpy as np

from common.device import seed_everything
from common.errors import UserError
from common.files import check_writable, kind_of, new_file, packed, refuse_to_replace, write_file
from common.gan.batches import Latent, check_finite, generate, labels_of, one_hot
from common.images import (
    columns_of_square,
    image_grid,
    resolve_show,
    save_animation,
    save_picture,
    show_picture,
)
from common.options import MAX_SAMPLES, Options
from common.sampling.interpolation import interpolate

# The chapter draws 16 digits.
SAMPLES = 16
# A row of more digits than this would be too wide to look at.
MAX_COLUMNS = 24
# The number of walks, and the steps of each: in a grid, where each walk is a row, and in an
# animation.
WALKS, STEPS, FRAMES = 10, 10, 30
_MILLISECONDS = 60


class Samples(NamedTuple):
    """What to draw.

    Attributes:
        noise_input: The generator's inputs, `[noise]` or `[noise, labels]`, as from `Latent.draw`.
            Labels may lie between two classes.
        columns: How many images a row of the grid has; for walks, each of which is a row, their
            steps.
    """

    noise_input: list[np.ndarray]
    columns: int

    @property
    def noise_class(self) -> np.ndarray | None:
        """The labels, or the nearest ones: int64 of shape (count,); None without labels."""
        return labels_of(self.noise_input)


def draw_samples(generator: keras.Model, options: Options) -> Samples:
    """Draws the images that the user asks for into a file.

    Returns:
        What was drawn.

    Raises:
        UserError: A digit is none of the generator's classes, there are too many images, or the
            file cannot be written.
    """
    rng = seed_everything(options.seed)
    samples = new_samples(Latent.of(generator), rng, options)
    save_samples(generator, samples, options)
    return samples


def new_samples(latent: Latent, rng: np.random.Generator, options: Options) -> Samples:
    """Chooses noise and labels for the images that the user asks for.

    Raises:
        UserError: A digit is none of the generator's classes, or there are too many images.
    """
    classes = _classes(options, latent.num_labels)
    if options.interpolate is not None:
        if len(classes) > 1:
            return _walks_from_digit_to_digit(latent, rng, options, classes)
        return _walks_through_latent_space(latent, rng, options, classes)
    if not len(classes):
        count = options.samples or SAMPLES
        return Samples(latent.draw(rng, count), columns_of_square(count))
    count = options.samples or -(-SAMPLES // len(classes)) * len(classes)
    columns = columns_of_square(count)
    if len(classes) <= MAX_COLUMNS:
        # each row has the digits in their order, once or several times
        columns = min(count, max(1, round(columns / len(classes))) * len(classes))
    noise, _ = latent.draw(rng, count)
    return Samples([noise, one_hot(np.resize(classes, count), latent.num_labels)], columns)


def _classes(options: Options, num_labels: int) -> np.ndarray:
    """The classes that `--digit` asks for, int64 of shape (count,); empty if it was not given.

    A number that is no class is read digit by digit: with ten classes, 2026 is 2, 0, 2, 6.
    """
    classes: list[int] = []
    for text in options.digit or ():
        is_class = text in map(str, range(num_labels))
        found = [int(text)] if is_class else [int(digit) for digit in text]
        if max(found) >= num_labels:
            raise UserError(
                f"argument -d/--digit: {text} given, expected digits that {options.generator} "
                f"draws, 0 to {num_labels - 1}"
            )
        if len(found) > 1:
            print(f"{text} is none of the {num_labels} classes: it is drawn as {_spelled(found)}")
        classes += found
    if len(classes) > MAX_SAMPLES:
        raise UserError(
            f"argument -d/--digit: {len(classes)} digits given, at most {MAX_SAMPLES} expected"
        )
    return np.array(classes, int)


def _spelled(classes: list[int]) -> str:
    return ", ".join(map(str, classes[:10])) + (", ..." if len(classes) > 10 else "")


def _walks_through_latent_space(
    latent: Latent, rng: np.random.Generator, options: Options, classes: np.ndarray
) -> Samples:
    """Walks from one z to another; a CGAN's keep the class, or have each class in turn."""
    walks, steps = _extent(options)
    _check_count(walks, steps)
    (starts, *_), (ends, *_) = latent.draw(rng, walks), latent.draw(rng, walks)
    noise_input = [interpolate(starts, ends, steps).reshape(-1, latent.latent_size)]
    if latent.conditional:
        each = np.resize(classes if len(classes) else np.arange(latent.num_labels), walks)
        noise_input.append(one_hot(each.repeat(steps), latent.num_labels))
    return Samples(noise_input, steps)


def _walks_from_digit_to_digit(
    latent: Latent, rng: np.random.Generator, options: Options, classes: np.ndarray
) -> Samples:
    """Walks from class to class on straight lines, each with a z of its own."""
    walks, steps = _extent(options)
    # the end of one leg is the start of the next
    columns = (len(classes) - 1) * (steps - 1) + 1
    _check_count(walks, columns)
    where = np.linspace(0, len(classes) - 1, columns)
    stops = one_hot(classes, latent.num_labels)
    path = [np.interp(where, np.arange(len(classes)), entries) for entries in stops.T]
    labels = np.stack(path, axis=1).astype(np.float32)
    noise, _ = latent.draw(rng, walks)
    return Samples([noise.repeat(columns, axis=0), np.tile(labels, (walks, 1))], columns)


def _extent(options: Options) -> tuple[int, int]:
    """The number of walks, and of the steps from one end to the other."""
    as_animation = options.output is not None and kind_of(options.output) == ".gif"
    return options.samples or WALKS, options.interpolate or (FRAMES if as_animation else STEPS)


def _check_count(walks: int, steps: int) -> None:
    if walks * steps > MAX_SAMPLES:
        raise UserError(
            f"argument --samples: {walks} walks of {steps} images are more than {MAX_SAMPLES} "
            "images: give fewer walks, or a smaller number to --interpolate"
        )


def save_samples(generator: keras.Model, samples: Samples, options: Options) -> None:
    """Draws samples into a picture, an animation or an archive, and shows a picture if asked to.

    An .npz archive has `images`, float32 of shape (count, size, size, 1) in [0, 1], and for a CGAN
    `labels`: int64 of shape (count,), or for walks from digit to digit, whose labels lie between
    classes, the generator's own input: float32 of shape (count, num_labels).

    Raises:
        UserError: The file cannot be written.
    """
    if options.output and not options.overwrite:
        refuse_to_replace(options.output, "--output")
    wanted = options.output or _default_file(options)
    check_writable(wanted)
    show = resolve_show(options.show)
    images = generate(generator, samples.noise_input)
    check_finite(images, options.generator)
    with nullcontext(wanted) if options.output else new_file(wanted) as file:
        _write(file, images, samples)
    print(f"written to {file}", flush=True)
    if show and kind_of(file) == ".png":
        show_picture(file)


def _write(file: Path, images: np.ndarray, samples: Samples) -> None:
    if kind_of(file) == ".npz":
        arrays = {"images": images}
        if samples.noise_class is not None:
            are_classes = (samples.noise_input[1].max(axis=1) == 1).all()
            arrays["labels"] = samples.noise_class if are_classes else samples.noise_input[1]
        write_file(file, packed(arrays))
    elif kind_of(file) == ".gif":
        walks = images.reshape(-1, samples.columns, *images.shape[1:])
        frames = [image_grid(step) for step in walks.swapaxes(0, 1)]
        # there and back, so that it can start over without a jump
        save_animation([*frames, *frames[-2:0:-1]], file, _MILLISECONDS, _MILLISECONDS)
    else:
        save_picture(image_grid(images, samples.columns), file)


def _default_file(options: Options) -> Path:
    """The chapter's name: 00008.png for an 8, 00000.png for random digits."""
    if options.interpolate is not None:
        name = "interpolation"
    elif options.digit is not None and len("".join(options.digit)) > 1:
        name = "-".join(options.digit)[:100]
    else:
        name = f"{int((options.digit or ['0'])[0]):05d}"
    return options.outdir / "test_outputs" / f"{name}.png"
