"""Starting or resuming a run: everything that happens before networks are built, in order."""

import dataclasses
import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

from common.data.dataset import load_dataset
from common.device import check_device, print_faster_flags, seed_everything
from common.errors import UserError
from common.evaluation.classifier import ships_for
from common.options import FLAGS, Options, argument, fixed, restored_flags
from common.runs.folder import RunFolder
from common.runs.run import Run, environment, read_config
from common.runs.workers import Workers

# Steps from one evaluation to the next on data whose classifier comes with the programs: they take
# less than 1% of a run.
EVALUATE_INTERVAL = 2500


@contextmanager
def start_run(
    folder: RunFolder, workers: Workers, options: Options, needs_labels: bool = False
) -> Iterator[Run]:
    """Prepares a training. In this context no other process can write to its folder.

    With `options.resume` the run in the folder is resumed, and flags that were not given are those
    that it was started with. With `needs_labels`, data without labels is refused.
    """
    with folder.locked() if workers.is_chief else nullcontext():
        expected = ""  # a new run may have any data
        if workers.is_chief:
            options, expected = _begun(folder, options)
        message = {"flags": options.of_the_run(), "resume": options.resume}
        message = json.loads(workers.from_chief(json.dumps(message).encode()))
        if not workers.is_chief:
            options = _following(message, options)
        data = load_dataset(options.data, "train", options.image_size, needs_labels)
        if expected not in ("", data.sha256):
            raise UserError(
                f"argument --data: {options.data} is not what the run in {folder} was started "
                "with: give that, or another --outdir"
            )
        if data.sha256 != workers.from_chief(data.sha256.encode()).decode():
            raise UserError(
                f"argument --data: {options.data} is not the data set that the chief trains on: "
                "give all workers the same"
            )
        print(data, flush=True)
        if options.evaluate_interval is None:
            interval = EVALUATE_INTERVAL if data.has_test and ships_for(data.sha256) else 0
            options = dataclasses.replace(options, evaluate_interval=interval)
        check_device(options.precision, options.xla, options.batch_size)
        if not options.resume and not options.given.keys() & {"engine", "precision", "strategy"}:
            print_faster_flags()
        yield Run(folder, options, workers, data, seed_everything(options.seed))


def _begun(folder: RunFolder, options: Options) -> tuple[Options, str]:
    """The options of a new run, or of the one to resume and the SHA-256 sum of its data."""
    if not options.resume:
        if not options.overwrite:
            folder.refuse_to_overwrite()
        return options, ""
    flags, config = read_config(folder)
    options = options.completed_by(flags)
    _check_resumable(folder, options, flags)
    _note_changes(config)
    if "data" not in options.given and not options.data.exists():
        raise UserError(
            f"argument --data: {options.data}, with which the run in {folder} was started, "
            "does not exist: give --data and the path of the same data here"
        )
    return options, config["data_sha256"]


def _check_resumable(folder: RunFolder, options: Options, flags: dict[str, Any]) -> None:
    """Checks that the run in a folder, started with these flags, can be resumed as asked for."""
    for name, value in fixed(flags).items():
        given = getattr(options, name)
        if given != value:
            raise UserError(
                f"{argument(name)}: {given} given, the run in {folder} was started with {value}: "
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


def _note_changes(config: dict[str, Any]) -> None:
    """Says where the environment of a resumed run differs from the one that it was started in."""
    before, now = (
        [x["device"], *(" ".join(pair) for pair in x["versions"].items())]
        for x in (config, environment())
    )
    pairs = zip(before, now, strict=True)  # the same packages, in the same order
    changed = [f"{was} (now {is_now})" for was, is_now in pairs if was != is_now]
    if changed:
        print(
            f"the run was started on {', '.join(changed)}: numbers may differ in their last digits "
            "from those of a run that stays where it was",
            flush=True,
        )


def _following(message: dict[str, Any], options: Options) -> Options:
    """The options of a worker that is not the chief: the chief's, except where its data is."""
    flags, resume = restored_flags(message["flags"]), message["resume"]
    if resume != options.resume:
        does = "resumes its run" if resume else "starts a new run"
        print(f"the chief {does}, and so does this worker", file=sys.stderr)
    own = {name: value for name, value in options.given.items() if not FLAGS[name].stored}
    for name, value in options.given.items():
        if name not in own and name != "data" and value != flags[name]:
            print(
                f"warning: {argument(name)}: {value} given, and the chief trains with "
                f"{flags[name]}: so does this worker",
                file=sys.stderr,
            )
    path = flags["data"]
    if "data" in options.given or not path.exists():
        path = options.data
    given = own | {"data": path, "resume": resume}
    return dataclasses.replace(options, given=given).completed_by(flags)
