"""What is kept of trainings: a small JSON file and a picture for each run."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from common.errors import DIVERGED, UserError
from common.files import write_file
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
    """Makes the results from the folders of runs, as far as these are, in place of earlier ones.

    Args:
        runs: The folder that `train_all` has filled, or is filling; or any other with runs in it.
        names: The variants.
        results: Where to: `bn-in-d/seed-0-cpu-....json` and so on.
    """
    found = False
    for config in sorted(runs.rglob("config.json")):
        folder = RunFolder(config.parent)
        if folder.name not in names:
            continue
        result, picture = _result_of(folder)
        if not result["stages"] and DIVERGED not in result["warnings"]:
            continue
        found = True
        file = result_file(results, result)
        write_file(file, as_json(result))
        if picture:
            write_file(file.with_suffix(".png"), picture)
    if not found:
        raise UserError(f"{runs} holds no run of a variant that has reached a stage: train one")


def read(results: Path, names: Iterable[str]) -> Results:
    """The results that exist, of these variants and in their order."""
    runs = [
        json.loads(file.read_bytes())
        for name in names
        for file in (results / name).glob("seed-*.json")
    ]
    runs.sort(key=lambda run: (run["flags"]["seed"], began_on(run)))
    found = {name: [run for run in runs if run["variant"] == name] for name in names}
    return {name: of_variant for name, of_variant in found.items() if of_variant}


def began_on(run: Result) -> str:
    """The device of a run, or, if it was resumed on others, its first one."""
    return [*run["earlier"], run][0]["device"]


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
    """What is kept of a run, and its picture; a run that diverged early has none."""
    history = read_history(folder.history) if folder.history.exists() else []
    # a stage of more steps than that is one of an earlier run, which this one has replaced
    stages = [file for file in stages_of(folder) if steps_of(file) <= len(history)]
    config = json.loads(folder.config.read_bytes())
    evaluations = {steps_of(file): json.loads(file.read_bytes()) for file in stages}
    result = _result(folder, config, history, evaluations)
    if not stages:
        return result, None
    return result, stage_file(folder, shown(evaluations)).with_suffix(".png").read_bytes()


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
