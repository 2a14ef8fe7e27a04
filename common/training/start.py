"""Starting or resuming a run: everything that happens before networks are built, in order."""

from __future__ import annotations

import dataclasses
import json
import os
import secrets
import sys
from collections.abc import Callable
from contextlib import ExitStack

import numpy as np

from common.data.dataset import PROJECT, checksum, load_data, load_images
from common.device import faster_flags, prepare_device, seed_everything, silence, unused_gpu
from common.errors import UserError
from common.evaluation.classifier import ships_for
from common.flags import FIXED
from common.options import FLAGS, Options, check_needs, named
from common.runs.folder import RunFolder
from common.runs.run import Run, Settings, read_settings
from common.runs.workers import Workers
from common.training.distribution import join

Data = tuple[np.ndarray, np.ndarray | None]

Load = Callable[..., Data]

# Steps from one evaluation to the next on data whose classifier comes with the programs: they take
# less than 0.5% of a run.
EVALUATE_INTERVAL = 2500


def start_run(name: str, options: Options, conditional: bool = False) -> Run:
    """Prepares a training. From here to `Run.close` no other process can write to its folder.

    Args:
        name: The name of the model; it names the folder and the generator's file.
        options: The options of the command. With `resume`, the run in the folder is resumed, and
            flags that were not given are taken from its start.
        conditional: Whether the GAN takes labels. Without, a data set needs none.

    Raises:
        UserError: The folder cannot be written, another process uses it, it holds a run and the
            user has not said what to do with it, or another run than the one to resume; or the
            data, the devices or the workers do not fit.
    """
    if options.quiet:
        silence()
    _print_unused_gpu()  # first, for what follows may refuse to go on without one
    # Models belong to a strategy from the start: it is set before they are built.
    workers = _join_workers(options)
    folder = RunFolder(options.outdir / name)
    load = load_data if conditional else load_images
    with ExitStack() as undo:  # whatever is refused leaves nothing behind
        if workers.is_chief:
            folder.acquire()
            undo.callback(folder.release)
            begin = _resumed if options.resume else _new
            settings, data = begin(folder, options, load)
            message = dataclasses.asdict(settings) | {"resume": options.resume}
            workers.from_chief(json.dumps(message).encode())
        else:
            message = json.loads(workers.from_chief(b""))
            resume = message.pop("resume")
            if resume != options.resume:
                does = "resumes its run" if resume else "starts a new run"
                print(f"the chief {does}, and so does this worker", file=sys.stderr)
                given = options.given | {"resume": resume}
                options = dataclasses.replace(options, resume=resume, given=given)
            settings = Settings(**message)
            options, data = _following(options, settings, load)
        options = options.completed_by(settings.flags)
        check_needs(options)
        prepare_device(options.precision, options.xla, options.batch_size)
        _print_faster_flags(options)
        rng = seed_everything(options.seed)
        undo.pop_all()
        return Run(folder, options, settings, workers, *data, rng)


def _print_unused_gpu() -> None:
    """Warns where a GPU cannot be used, which is many readers' first trouble."""
    unused = unused_gpu()
    if unused:
        print(f"warning: {unused}", file=sys.stderr)


def _print_faster_flags(options: Options) -> None:
    """Names flags that are faster on this device, unless the user has chosen."""
    chosen = options.resume or options.given.keys() & {"engine", "precision", "strategy"}
    faster = faster_flags()
    if faster and not chosen:
        flags, share = faster
        print(f"{flags} takes about {share:.0%} of the time here (see README, Speed)", flush=True)


def _join_workers(options: Options) -> Workers:
    """Sets the strategy of whatever is built from now on; gives the workers that take part."""
    if options.strategy == "none":
        return Workers()
    workers = join(options.strategy, options.devices, options.worker_timeout)
    if not workers.is_chief:
        silence()
    return workers


def _new(folder: RunFolder, options: Options, load: Load) -> tuple[Settings, Data]:
    """The settings and the data of a new run."""
    if not options.overwrite:
        folder.refuse_to_overwrite()
    if options.seed is None:
        options.seed = secrets.randbelow(2**32)  # known, so that the run can be resumed
    data = load(options.data, image_size=options.image_size)
    return _settings(options, checksum(*data)), data


def _resumed(folder: RunFolder, options: Options, load: Load) -> tuple[Settings, Data]:
    """The settings and the data of the run in the folder, with the changes that may be made."""
    started = read_settings(folder)
    options = options.completed_by(started.flags)
    for name, value in started.flags.items():
        given = getattr(options, name)
        if FLAGS[name].on_resume is FIXED and given != value:
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
    is_complete = options.train_steps == steps == started.flags["train_steps"]
    if options.train_steps <= steps and not is_complete:
        raise UserError(
            f"argument --train-steps: {options.train_steps} given, the run in {folder} has already "
            f"taken {steps}: give more"
        )
    data = load(options.data, image_size=options.image_size)
    if checksum(*data) != started.data_sha256:
        raise UserError(
            f"argument --data: {options.data} is not what the run in {folder} was started with: "
            "give that, or another --outdir"
        )
    return _settings(options, started.data_sha256), data


def _settings(options: Options, data_sha256: str) -> Settings:
    """The settings of a run; those that depend on the data get their values."""
    if options.evaluate_interval is None:
        known = ships_for(data_sha256) and _has_test_part(options)
        options.evaluate_interval = EVALUATE_INTERVAL if known else 0
    return Settings(options.of_the_run(), data_sha256)


def _has_test_part(options: Options) -> bool:
    try:
        load_data(options.data, "test", options.image_size)
    except UserError:
        return False
    return True


def _following(options: Options, settings: Settings, load: Load) -> tuple[Options, Data]:
    """The options of a worker that is not the chief: the chief's, except where its data is."""
    path = PROJECT / settings.flags["data"]
    if "data" in options.given or not os.path.exists(path):
        path = options.data
    data = load(path, image_size=settings.flags["image_size"])
    if checksum(*data) != settings.data_sha256:
        raise UserError(
            f"argument --data: {path} is not the data set that the chief trains on: give all "
            "workers the same"
        )
    own = {name: value for name, value in options.given.items() if not FLAGS[name].on_resume}
    for name, value in options.given.items():
        if name not in own and name != "data" and value != settings.flags[name]:
            print(
                f"warning: {named(name)}: {value} given, and the chief trains with "
                f"{settings.flags[name]}: so does this worker",
                file=sys.stderr,
            )
    return dataclasses.replace(options, given=own | {"data": path}), data
