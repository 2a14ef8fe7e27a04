"""What is measured: ways to take the DCGAN's alternating step, and what a machine could do at best.

Run as a program, it is the process of one of them:  python variants.py "engine compiled"
It takes as many steps as each line of its input says, and prints the seconds that they took.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]  # for the programs, and for the chapter in Keras 2

BATCH_SIZE = 64
# Steps before the first that counts: functions are traced, memory is found.
WARM_UP = 4

PUBLISHED = "published loop, tf-keras"
NO_TF32 = "float32 without TF32"
# Something that does as many steps as it is told to.
Steps = Callable[[int], object]


def published(small: bool = False) -> Steps:
    """The chapter's loop in Keras 2, with its `predict` in each step."""
    _prepare(small)
    import numpy as np
    import tf_keras

    import chapter

    images, batch_size = _images(small)
    x_train = chapter.scaled(images)
    if small:
        for name in ("build_generator", "build_discriminator"):
            build = getattr(chapter, name)
            setattr(chapter, name, lambda *args, build=build: _shrunk(tf_keras, build(*args)))
    models = chapter.build_models(images.shape[1])
    rng = np.random.default_rng(0)
    return lambda steps: chapter.train(models, x_train, None, rng, steps, batch_size)


def project(
    engine: str,
    precision: str = "float32",
    xla: bool = False,
    small: bool = False,
    tf32: bool = True,
) -> Steps:
    """The step of this project."""
    step = project_step(engine, precision, xla, small, tf32)

    def take(steps: int) -> None:
        for first in range(0, steps, step.steps_per_execution):
            step(min(steps - first, step.steps_per_execution))

    return take


def project_step(
    engine: str, precision: str, xla: bool = False, small: bool = False, tf32: bool = True
) -> Any:
    """The `AlternatingStep` of `dcgan_mnist.py`."""
    _prepare(small)
    from common import device  # before Keras, which it sets up

    # isort: split
    import keras

    import dcgan_mnist
    from common.gan.batches import RealImages
    from common.gan.models import build_adversarial, compile_model
    from common.options import Options
    from common.training.train import make_step

    device.tf.config.experimental.enable_tensor_float_32_execution(tf32)
    images, batch_size = _images(small)
    options = Options(batch_size=batch_size, engine=engine, precision=precision, xla=xla)
    device.check_device(precision, xla, batch_size)
    rng = device.seed_everything(0)
    generator, discriminator = networks(images.shape[1])
    if small:
        generator, discriminator = _shrunk(keras, generator), _shrunk(keras, discriminator)
    compile_model(discriminator, 2e-4, 6e-8)
    adversarial = build_adversarial(generator, discriminator, dcgan_mnist.PROGRAM.name)
    compile_model(adversarial, 1e-4, 3e-8)
    models = (generator, discriminator, adversarial)
    return make_step(models, RealImages(images), rng, options)


def networks(image_size: int = 28) -> tuple[Any, Any]:
    """The generator and the discriminator of `dcgan_mnist.py`."""
    import keras

    import dcgan_mnist

    inputs = keras.Input((image_size, image_size, 1))
    return (
        dcgan_mnist.new_generator(image_size),
        dcgan_mnist.build_discriminator(inputs),
    )


def pytorch(precision: str = "float32", compiled: bool = False) -> Steps:
    """The same step as PyTorch's users take it."""
    import torch_dcgan

    images, batch_size = _images()
    return torch_dcgan.alternating_steps(images, batch_size, precision, compiled)


def matrices(precision: str, tf32: bool = True) -> Steps:
    """Products of large square matrices, to see what the machine can do at best."""
    from common import device

    tf = device.tf
    tf.config.experimental.enable_tensor_float_32_execution(tf32)
    shape = (matrix_size(), matrix_size())
    a, b = (tf.cast(tf.random.uniform(shape), precision) for _ in range(2))
    multiply = tf.function(tf.matmul)

    def take(products: int) -> None:
        for _ in range(products):
            product = multiply(a, b)
        product[0, 0].numpy()  # waits for the last product; all of it would take long to fetch

    return take


def matrix_size() -> int:
    """The side of the matrices: a GPU is done with smaller ones before the next product comes."""
    from common import device

    return 8192 if device.tf.config.list_physical_devices("GPU") else 2048


def _prepare(small: bool) -> None:
    """Sets the environment of TensorFlow, before it is imported."""
    # Workers share the memory of a GPU, which TensorFlow would take as a whole.
    os.environ["TF_FORCE_GPU_ALLOW_GROWTH"] = "true"
    if small:
        # oneDNN sets up each convolution in 0.1 ms, which is no work of a GPU's host.
        os.environ["TF_ENABLE_ONEDNN_OPTS"] = "0"


def _images(small: bool = False) -> tuple[Any, int]:
    """MNIST, and the batch size; or, for networks shrunk to almost nothing, almost nothing."""
    from common.data.dataset import load_data

    images, _ = load_data()
    return (images[:, 12:16, 12:16], 1) if small else (images, BATCH_SIZE)


def _shrunk(keras: Any, model: Any) -> Any:
    """The same layers, but with one filter each; for models of Keras 2 and 3."""

    def shrunk(layer: Any) -> Any:
        config = layer.get_config()
        if "filters" in config:
            config["filters"] = 1
        if "target_shape" in config:
            config["target_shape"] = (*config["target_shape"][:2], 1)
        if config.get("units", 1) > 1:
            config["units"] //= 128
        return type(layer).from_config(config)

    return keras.models.clone_model(model, clone_function=shrunk)


VARIANTS: dict[str, Callable[[], Steps]] = {
    PUBLISHED: published,
    "engine train_on_batch": lambda: project("train_on_batch"),
    "engine compiled": lambda: project("compiled"),
    "engine compiled, bfloat16": lambda: project("compiled", "bfloat16"),
}
GPU_VARIANTS: dict[str, Callable[[], Steps]] = {
    "engine compiled, float16": lambda: project("compiled", "float16"),
    f"engine compiled, {NO_TF32}": lambda: project("compiled", tf32=False),
    "engine compiled, XLA": lambda: project("compiled", xla=True),
    "engine compiled, bfloat16, XLA": lambda: project("compiled", "bfloat16", xla=True),
    "engine compiled, float16, XLA": lambda: project("compiled", "float16", xla=True),
}
TORCH_VARIANTS: dict[str, Callable[[], Steps]] = {
    "PyTorch, eager": pytorch,
    "PyTorch, eager, bfloat16": lambda: pytorch("bfloat16"),
}
TORCH_COMPILED: dict[str, Callable[[], Steps]] = {
    "PyTorch, compiled": lambda: pytorch(compiled=True),
    "PyTorch, compiled, bfloat16": lambda: pytorch("bfloat16", compiled=True),
}
# One filter a layer, images of 4 x 4 pixels, one at a time: what is left is the host's work for a
# step, for which a fast device would wait.
SMALL_VARIANTS: dict[str, Callable[[], Steps]] = {
    f"{PUBLISHED} (shrunk)": lambda: published(small=True),
    "engine train_on_batch (shrunk)": lambda: project("train_on_batch", small=True),
    "engine compiled (shrunk)": lambda: project("compiled", small=True),
}
PEAKS: dict[str, Callable[[], Steps]] = {
    "matrices, float32": lambda: matrices("float32"),
    "matrices, bfloat16": lambda: matrices("bfloat16"),
    "matrices, float16": lambda: matrices("float16"),
    f"matrices, {NO_TF32}": lambda: matrices("float32", tf32=False),
}
ALL = VARIANTS | GPU_VARIANTS | TORCH_VARIANTS | TORCH_COMPILED | SMALL_VARIANTS | PEAKS


def precision_of(name: str) -> str:
    """The precision that a variant multiplies in; on a GPU, "float32" is TF32."""
    return next((found for found in ("bfloat16", "float16", NO_TF32) if found in name), "float32")


def main(name: str) -> None:
    """The process of one variant."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what libraries print is no answer
    take = ALL[name]()
    take(WARM_UP)
    print("ready", file=answers, flush=True)
    for line in sys.stdin:
        take(1)  # the first step after a pause is slower
        start = time.perf_counter()
        take(int(line))
        print(time.perf_counter() - start, file=answers, flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
