"""Drawing with a trained generator: which digits, from which noise, into which file."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import keras
import numpy as np
import tensorflow as tf

from common.data.dataset import named
from common.device import seed_everything
from common.errors import UserError
from common.files import check_writable, free_file, kind_of, packed, refuse_to_replace, write_file
from common.gan.batches import LatentSampler, generate, labels_of, one_hot
from common.gan.models import class_names
from common.images import (
    columns_of_square,
    image_grid,
    resolve_show,
    save_animation,
    save_picture,
    show_picture,
)
from common.options import MAX_SAMPLES, Options

# The chapter draws 16 digits.
SAMPLES = 16
# A row of more digits than this would be too wide to look at.
MAX_COLUMNS = 24
# The number of walks, and the steps of each in a grid, where it is a row, and in an animation.
WALKS, STEPS, FRAMES = 10, 10, 30
_MILLISECONDS = 60


class Samples(NamedTuple):
    """What to draw.

    Attributes:
        noise_input: The generator's inputs, `[noise]` or `[noise, labels]`, as from
            `LatentSampler.draw`. Labels may lie between two classes.
        columns: The number of images in a row of the grid; each walk is a row.
        names: The names of the classes, if they have any.
    """

    noise_input: list[np.ndarray]
    columns: int
    names: Sequence[str] = ()

    @property
    def noise_class(self) -> np.ndarray | None:
        """The classes, or the nearest ones, as `named` calls them; None without labels."""
        labels = labels_of(self.noise_input)
        return None if labels is None else named(labels, self.names)


def draw_samples(generator: keras.Model, options: Options) -> Samples:
    """Draws the images that the user asks for into a file, and shows a picture if asked to."""
    rng, latent = seed_everything(options.seed), LatentSampler.of(generator)
    names = class_names(generator)
    classes = classes_of(options.digit or [], latent.num_labels, names, options.generator)
    if options.interpolate is None:
        samples = choose(latent, rng, classes, options.samples)
    else:
        is_animation = options.output is not None and kind_of(options.output) == ".gif"
        steps = options.interpolate or (FRAMES if is_animation else STEPS)
        samples = walks(latent, rng, classes, options.samples or WALKS, steps)
    samples = samples._replace(names=names)

    if options.output and not options.overwrite:
        refuse_to_replace(options.output, "--output")
    file = options.output or free_file(_default_file(options))
    check_writable(file)
    show = resolve_show(options.show)
    images = generate(generator, samples.noise_input)
    save_samples(file, images, samples)
    print(f"written to {file}", flush=True)
    if show and kind_of(file) == ".png":
        show_picture(file)
    return samples


def classes_of(
    digits: list[str], num_labels: int, names: Sequence[str] = (), generator: Path | None = None
) -> np.ndarray:
    """The classes that `--digit` asks for, int64 of shape (classes,).

    A class is given by its name, or by its number unless the names are numbers themselves. Without
    names, a number that is not a class is read digit by digit: with ten classes, 2026 is 2, 0, 2,
    6. Messages name the file of the generator.
    """
    numbers = {str(i): i for i in range(num_labels)}
    called = {name: i for i, name in enumerate(names)}
    if not all(name.isdecimal() for name in names):
        called = numbers | called
    called = called or numbers
    classes: list[int] = []
    for text in digits:
        found = [text] if text in called or names or not text else list(text)
        if not called.keys() >= set(found):
            expected = f"digits that {generator} draws, 0 to {num_labels - 1}"
            if names:
                some = ", ".join([*names[:20], *["..."] * (len(names) > 20)])
                expected = f"a class that {generator} draws: {some}"
            raise UserError(f"argument -d/--digit: {text!r} given, expected {expected}")
        if len(found) > 1:
            print(f"there is no class {text}: it is drawn as {', '.join(found)}")
        classes += [called[name] for name in found]
    return np.array(classes, int)


def choose(
    latent: LatentSampler, rng: np.random.Generator, classes: np.ndarray, count: int | None
) -> Samples:
    """Chooses noise for images of the given classes in turn, or of random ones if none are given.

    Without a count there are 16 images, or a few more, so that each class is drawn equally often.
    """
    in_a_row = len(classes) or 1
    count = count or -(-SAMPLES // in_a_row) * in_a_row
    columns = columns_of_square(count)
    if in_a_row <= MAX_COLUMNS:
        # each row has the classes in their order, once or several times
        columns = min(count, max(1, round(columns / in_a_row)) * in_a_row)
    noise_input = latent.draw(rng, count)
    if len(classes):
        noise_input[1] = one_hot(np.resize(classes, count), latent.num_labels)
    return Samples(noise_input, columns)


def walks(
    latent: LatentSampler, rng: np.random.Generator, classes: np.ndarray, count: int, steps: int
) -> Samples:
    """Walks from one z to another, or from class to class if there are several.

    From z to z a CGAN keeps the class: the one that is given, or each in turn. From class to class
    each walk keeps a z of its own, and labels go on straight lines. `steps` counts the images from
    one z or class to the next, both included.
    """
    legs = max(len(classes) - 1, 1)
    columns = legs * (steps - 1) + 1  # the end of one leg is the start of the next
    if count * columns > MAX_SAMPLES:
        raise UserError(
            f"argument --samples: {count} walks of {columns} images are more than {MAX_SAMPLES} "
            "images: give fewer walks, or a smaller number to --interpolate"
        )
    starts, *_ = latent.draw(rng, count)
    if len(classes) > 1:
        stops, where = one_hot(classes, latent.num_labels), np.linspace(0, legs, columns)
        path = [np.interp(where, np.arange(len(classes)), entries) for entries in stops.T]
        labels = np.stack(path, axis=1).astype(np.float32)
        return Samples([starts.repeat(columns, axis=0), np.tile(labels, (count, 1))], columns)
    ends, *_ = latent.draw(rng, count)
    noise_input = [interpolate(starts, ends, steps).reshape(-1, latent.latent_size)]
    if latent.num_labels:
        each = np.resize(classes if len(classes) else np.arange(latent.num_labels), count)
        noise_input.append(one_hot(each.repeat(steps), latent.num_labels))
    return Samples(noise_input, steps)


def interpolate(starts: np.ndarray, ends: np.ndarray, steps: int) -> np.ndarray:
    """Walks through latent space, along great circles of the normal distribution.

    On the straight line between two z ~ U(-1, 1)^d the generator sees inputs that it was hardly
    ever trained on: half-way the distribution of each entry is triangular, and z is shorter by a
    factor of the square root of 2. A spherical walk (White: Sampling Generative Networks, 2016,
    arXiv:1609.04468) keeps the length, but with uniform entries it leaves the cube [-1, 1]^d. So
    each entry is mapped to the normal distribution, which the spherical walk is made for, and
    back. Then z ~ U(-1, 1)^d all along the walk.

    Args:
        starts: float32 of shape (count, d) in [-1, 1].
        ends: The same.
        steps: The number of z of each walk, start and end included.

    Returns:
        float32 of shape (count, steps, d) in [-1, 1].
    """
    # an entry of exactly -1 or 1 would be infinite
    bound = 1 - 1e-7
    a, b = (tf.math.erfinv(z.astype(float).clip(-bound, bound)).numpy() for z in (starts, ends))
    norms = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
    angles = np.arccos(((a * b).sum(axis=1) / norms).clip(-1, 1))
    # from a z to itself the sine would be 0
    angles = angles.clip(1e-6, np.pi - 1e-6)[:, np.newaxis, np.newaxis]
    t = np.linspace(0, 1, steps)[:, np.newaxis]
    weights = [np.sin((1 - t) * angles), np.sin(t * angles)] / np.sin(angles)
    path = weights[0] * a[:, np.newaxis] + weights[1] * b[:, np.newaxis]
    return tf.math.erf(path).numpy().astype(np.float32)


def save_samples(file: Path, images: np.ndarray, samples: Samples) -> None:
    """Saves images, float32 of shape (count, size, size, 1) in [0, 1], in the kind of file named.

    An .npz archive has `images`, and for a CGAN `labels`: int64 of shape (count,), or for walks
    from digit to digit, whose labels lie between classes, float32 of shape (count, num_labels).
    """
    if kind_of(file) == ".npz":
        arrays = {"images": images}
        labels = labels_of(samples.noise_input)
        if labels is not None:
            are_classes = (samples.noise_input[1].max(axis=1) == 1).all()
            arrays["labels"] = labels if are_classes else samples.noise_input[1]
        write_file(file, packed(arrays))
    elif kind_of(file) == ".gif":
        rows = images.reshape(-1, samples.columns, *images.shape[1:])
        frames = [image_grid(step) for step in rows.swapaxes(0, 1)]
        # there and back, so that it can start over without a jump
        save_animation([*frames, *frames[-2:0:-1]], file, _MILLISECONDS, _MILLISECONDS)
    else:
        save_picture(image_grid(images, samples.columns), file)


def _default_file(options: Options) -> Path:
    """The chapter's name: 00008.png for an 8, 00000.png for random digits."""
    # a name may hold what file names cannot
    digits = [re.sub(r"\W+", "_", text) for text in options.digit or ["0"]]
    name = "-".join(digits)[:100] if len("".join(digits)) > 1 else digits[0].zfill(5)
    if options.interpolate is not None:
        name = "interpolation"
    return options.outdir / "test_outputs" / f"{name}.png"
