"""What is kept of trainings: a small JSON file and a picture for each run."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from common.errors import DIVERGED, UserError, first_line
from common.files import write_file
from common.options import fixed
from common.runs.folder import RunFolder
from common.runs.history import History, columns, means, read_history
from trainings import as_json, log_of, stage_file, stages_of, steps_of, warnings_in

# What is kept of a run, as JSON can hold it.
Result = dict[str, Any]
# By variant, in the order of seeds. The same seed on another processor is another run.
Results = dict[str, list[Result]]

# The pictures show the runs up to this step.
SHOWN = 5000
# Steps whose mean is one point of a curve, and the last steps whose mean is the loss of a stage.
STEPS_OF_MEAN, STEPS_OF_STAGE = 50, 500
# What a result has of a run's config.json.
_OF_THE_CONFIG = ("flags", "data_sha256", "versions", "device", "git_commit", "earlier")
# In place of warnings, where the output of a training was not kept.
NO_LOG = "unknown, there is no log"


def collect(runs: Path, names: Iterable[str], results: Path) -> None:
    """Makes the results from the folders of runs.

    A run that has taken fewer steps than its result already tells of is left out.

    Args:
        runs: The folder that `train_all` has filled, or is filling; or any other with runs in it.
        names: The variants.
        results: Where to: `bn-in-d/seed-0-cpu-....json` and so on.

    Raises:
        UserError: No run has reached a stage, two are the same one, some cannot be compared with
            each other or with the results that exist, or a file cannot be read; then nothing is
            written. Or a file cannot be written.
    """
    known = {
        result_file(results, run): run
        for of_variant in read(results, names).values()
        for run in of_variant
    }
    compared = dict(known)
    found: dict[Path, RunFolder] = {}
    new: dict[Path, bytes] = {}
    for config in sorted(runs.rglob("config.json")):
        folder = RunFolder(config.parent)
        if folder.name not in names:
            continue
        result, picture = _result_of(folder)
        if not result["stages"] and DIVERGED not in result["warnings"]:
            continue
        compared[folder.path] = result
        file = result_file(results, result)
        if file in found:
            raise UserError(
                f"{found[file]} and {folder} are both of this variant, with the same seed and "
                f"processor: move one out of {runs}"
            )
        found[file] = folder
        steps = known[file]["steps"] if file in known else 0
        if steps > result["steps"]:
            print(f"{folder}: left out, its result tells of {steps:,} steps")
            continue
        new[file] = as_json(result)
        if picture:
            new[file.with_suffix(".png")] = picture
    if not found:
        raise UserError(f"{runs} holds no run of a variant that has reached a stage: train one")
    _check_comparable(compared)
    for file, content in new.items():
        write_file(file, content)


def read(results: Path, names: Iterable[str]) -> Results:
    """The results that exist, of these variants and in their order.

    Raises:
        UserError: One cannot be read, or they cannot be compared.
    """
    by_file = {}
    for name in names:
        for file in (results / name).glob("seed-*.json"):
            try:
                run = by_file[file] = json.loads(file.read_bytes())
                identity(run)
                if run["stages"]:
                    file.with_suffix(".png").read_bytes()
            except (OSError, ValueError, KeyError, TypeError) as error:
                raise UserError(
                    f"{file}, or the picture beside it, cannot be read ({first_line(error)}): "
                    "delete it, and collect this run again"
                ) from error
    _check_comparable(by_file)
    runs = sorted(by_file.values(), key=lambda run: (run["flags"]["seed"], began_on(run)))
    found = {name: [run for run in runs if run["variant"] == name] for name in names}
    return {name: of_variant for name, of_variant in found.items() if of_variant}


def began_on(run: Result) -> str:
    """The device of a run, or, if it was resumed on others, its first one."""
    return [*run["earlier"], run][0]["device"]


def identity(run: Result) -> dict[str, Any]:
    """What makes a run one that can be compared with others: its settings and data, not its seed.

    Raises:
        ValueError, KeyError, TypeError: The result has none.
    """
    settings = fixed(run["flags"]) | {"data_sha256": run["data_sha256"]}
    return {name: value for name, value in settings.items() if name != "seed"}


def _check_comparable(runs: dict[Path, Result]) -> None:
    settings: dict[str, Path] = {}  # and where they were found first
    for path, run in runs.items():
        settings.setdefault(json.dumps(identity(run)), path)
    if len(settings) > 1:
        one, other = list(settings.values())[:2]
        raise UserError(
            f"{one} and {other} are of other data, or differ in --batch-size or --precision, so "
            "they cannot be compared: move one away, or train it like the other"
        )


def result_file(results: Path, run: Result) -> Path:
    """The result of a run; the first of its images are a PNG file beside it."""
    device = re.sub(r"[^a-z0-9]+", "-", began_on(run).lower()).strip("-")
    return results / run["variant"] / f"seed-{run['flags']['seed']}-{device}.json"


def shown(stages: Iterable[int]) -> int:
    """Which of its stages, given in steps, the picture of a run shows."""
    stages = [*stages]
    return max([steps for steps in stages if steps <= SHOWN] or stages)


def shares(stage: dict[str, float]) -> list[float]:
    """The shares of the classes in a stage, in their order."""
    return [share for name, share in stage.items() if name.startswith("share_of_")]


def _result_of(folder: RunFolder) -> tuple[Result, bytes | None]:
    """What is kept of a run, and its picture; a run that diverged early has none.

    Raises:
        UserError: A file is missing, or is not what it should be.
    """
    history = read_history(folder.history) if folder.history.exists() else []
    # a stage of more steps than that is one of an earlier run, which this one has replaced
    stages = [file for file in stages_of(folder) if steps_of(file) <= len(history)]
    try:
        config = json.loads(folder.config.read_bytes())
        evaluations = {steps_of(file): json.loads(file.read_bytes()) for file in stages}
        result = _result(folder, config, history, evaluations)
        identity(result)
        if not stages:
            return result, None
        return result, stage_file(folder, shown(evaluations)).with_suffix(".png").read_bytes()
    except (OSError, ValueError, KeyError, TypeError) as error:
        file = f" of {error.filename}" if isinstance(error, OSError) else ""
        raise UserError(
            f"{folder} is no complete run ({first_line(error)}{file}): delete the folder, and "
            "train this variant again, with --all"
        ) from error


def _result(
    folder: RunFolder,
    config: dict[str, Any],
    history: History,
    evaluations: dict[int, dict[str, float]],
) -> Result:
    table, log = columns(history), log_of(folder)
    losses = {"discriminator": table.discriminator_loss, "adversarial": table.adversarial_loss}
    return {
        "variant": folder.name,
        **{name: config[name] for name in _OF_THE_CONFIG},
        "steps": len(history),
        "warnings": warnings_in(log.read_text()) if log.exists() else {NO_LOG: 0},
        "stages": {
            str(steps): metrics | _losses(history[max(0, steps - STEPS_OF_STAGE) : steps])
            for steps, metrics in evaluations.items()
        },
        "losses": {
            "steps_of_mean": STEPS_OF_MEAN,
            **{network: _thinned(np.asarray(values)) for network, values in losses.items()},
        },
    }


def _losses(history: History) -> dict[str, float]:
    """The mean losses, and by how much D's deviates from its mean: the standard deviation."""
    mean, of_steps = means(history), columns(history)
    return {
        "discriminator_loss": mean.discriminator_loss,
        "discriminator_loss_deviation": float(np.std(of_steps.discriminator_loss)),
        "adversarial_loss": mean.adversarial_loss,
    }


def _thinned(values: np.ndarray) -> list[float]:
    """Means of `STEPS_OF_MEAN` values each; those at the end that are fewer are left out."""
    whole = values[: len(values) // STEPS_OF_MEAN * STEPS_OF_MEAN]
    return [round(mean, 4) for mean in whole.reshape(-1, STEPS_OF_MEAN).mean(axis=1).tolist()]
