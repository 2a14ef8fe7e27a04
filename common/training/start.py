"""Starting or resuming a run: everything that happens before networks are built, in order."""

import dataclasses
import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import numpy as np

from common.data.dataset import checksum, load_data, load_images
from common.device import faster_flags, prepare_device, seed_everything, silence, unused_gpu
from common.errors import UserError
from common.evaluation.classifier import ships_for
from common.options import FLAGS, Options, fixed, named, restored_flags
from common.runs.folder import RunFolder
from common.runs.run import Run, read_config
from common.runs.workers import Workers
from common.training.distribution import join

# Images, and labels where there are any.
Data = tuple[np.ndarray, np.ndarray | None]
Load = Callable[..., Data]

# Steps from one evaluation to the next on data whose classifier comes with the programs: they take
# less than 1% of a run.
EVALUATE_INTERVAL = 2500


@contextmanager
def start_run(name: str, options: Options, conditional: bool = False) -> Iterator[Run]:
    """Prepares a training. In this context no other process can write to its folder.

    Args:
        name: The name of the model; it names the folder and the generator's file.
        options: The options of the command. With `resume`, the run in the folder is resumed, and
            flags that were not given are those that it was started with.
        conditional: Whether the GAN takes labels. Without, a data set needs none.
    """
    if options.quiet:
        silence()
    unused = unused_gpu()  # first, because what follows may refuse to go on without one
    if unused:
        print(f"warning: {unused}", file=sys.stderr)
    # Models belong to a strategy from the start: it is set before they are built.
    workers = _join_workers(options)
    load = load_data if conditional else load_images
    folder = RunFolder(options.outdir / name)
    with folder.locked() if workers.is_chief else nullcontext():
        if workers.is_chief:
            options, data, data_sha256 = _begun(folder, options, load)
            message = {"flags": options.of_the_run(), "data_sha256": data_sha256}
            workers.from_chief(json.dumps(message | {"resume": options.resume}).encode())
        else:
            message = json.loads(workers.from_chief(b""))
            options, data, data_sha256 = _following(options, message, load)
        prepare_device(options.precision, options.xla, options.batch_size)
        _print_faster_flags(options)
        rng = seed_everything(options.seed)
        yield Run(folder, options, workers, data_sha256, *data, rng)


def _join_workers(options: Options) -> Workers:
    """Sets the strategy for models built afterwards; returns the workers that take part."""
    if options.strategy == "none":
        return Workers()
    workers = join(options.strategy, options.devices, options.worker_timeout)
    if not workers.is_chief:
        silence()
    return workers


def _begun(folder: RunFolder, options: Options, load: Load) -> tuple[Options, Data, str]:
    """The options, the data and its checksum, of a new run or of the one to resume."""
    expected = None
    if options.resume:
        flags, expected = read_config(folder)
        options = options.completed_by(flags)
        _check_resumable(folder, options, flags)
    elif not options.overwrite:
        folder.refuse_to_overwrite()
    data = load(options.data, image_size=options.image_size)
    data_sha256 = checksum(*data)
    if expected not in (None, data_sha256):
        raise UserError(
            f"argument --data: {options.data} is not what the run in {folder} was started with: "
            "give that, or another --outdir"
        )
    if options.evaluate_interval is None:
        known = ships_for(data_sha256) and _has_test_part(options)
        interval = EVALUATE_INTERVAL if known else 0
        options = dataclasses.replace(options, evaluate_interval=interval)
    return options, data, data_sha256


def _check_resumable(folder: RunFolder, options: Options, flags: dict[str, Any]) -> None:
    """Checks that the run in a folder, started with these flags, can be resumed as asked for."""
    for name, value in fixed(flags).items():
        given = getattr(options, name)
        if given != value:
            raise UserError(
                f"{named(name)}: {given} given, the run in {folder} was started with {value}: "
                "leave it out, or give another --outdir"
            )
    steps = folder.checkpoints.steps()
    if not steps and folder.history.exists():
        raise UserError(
            f"{folder.checkpoints.folder} holds no checkpoint any more, without which the run in "
            f"{folder} cannot be resumed: put one back, or give --overwrite in place of --resume "
            "to start anew"
        )
    is_complete = options.train_steps == steps == flags["train_steps"]
    if options.train_steps <= steps and not is_complete:
        raise UserError(
            f"argument --train-steps: {options.train_steps} given, the run in {folder} has already "
            f"taken {steps}: give more"
        )


def _has_test_part(options: Options) -> bool:
    try:
        load_data(options.data, "test", options.image_size)
    except UserError:
        return False
    return True


def _following(options: Options, message: dict[str, Any], load: Load) -> tuple[Options, Data, str]:
    """The same for a worker that is not the chief: the chief's, except where its data is."""
    flags, resume = restored_flags(message["flags"]), message["resume"]
    if resume != options.resume:
        does = "resumes its run" if resume else "starts a new run"
        print(f"the chief {does}, and so does this worker", file=sys.stderr)
    path = flags["data"]
    if "data" in options.given or not path.exists():
        path = options.data
    data = load(path, image_size=flags["image_size"])
    if checksum(*data) != message["data_sha256"]:
        raise UserError(
            f"argument --data: {path} is not the data set that the chief trains on: give all "
            "workers the same"
        )
    own = {name: value for name, value in options.given.items() if not FLAGS[name].stored}
    for name, value in options.given.items():
        if name not in own and name != "data" and value != flags[name]:
            print(
                f"warning: {named(name)}: {value} given, and the chief trains with "
                f"{flags[name]}: so does this worker",
                file=sys.stderr,
            )
    given = own | {"data": path, "resume": resume}
    options = dataclasses.replace(options, given=given).completed_by(flags)
    return options, data, message["data_sha256"]


def _print_faster_flags(options: Options) -> None:
    """Names flags that are faster on this device, unless the user has chosen."""
    chosen = options.resume or options.given.keys() & {"engine", "precision", "strategy"}
    faster = faster_flags()
    if faster and not chosen:
        flags, share = faster
        print(f"{flags} takes about {share:.0%} of the time here (see README, Speed)", flush=True)
