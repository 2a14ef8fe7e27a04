"""What is kept of trainings: a small JSON file and a picture for each run."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from common.errors import DIVERGED, UserError, first_line
from common.files import write_file
from common.runs.folder import RunFolder
from common.runs.history import History, columns, means, read_history
from trainings import as_json, log_of, stage_file, stages_of, steps_of, warnings_in

# For each variant the results of its seeds, in the order of both.
Results = dict[str, dict[int, dict[str, Any]]]

# The pictures show the runs up to this step.
SHOWN = 5000
# A result has the losses as means of so many steps, and those of a stage as the mean of the last.
STEPS_OF_MEAN, STEPS_OF_STAGE = 50, 500
# What a result has of a run's config.json.
_OF_THE_CONFIG = ("flags", "versions", "device", "git_commit", "earlier")
# The flags in which runs that are compared may differ.
_MAY_DIFFER = ("seed", "train_steps")


def collect(runs: Path, names: Iterable[str], results: Path) -> None:
    """Makes the results from the folders of runs.

    A run that has taken fewer steps than its result already tells of is left out.

    Args:
        runs: The folder that `train_all` has filled, or is filling.
        names: The variants.
        results: Where to: `bn-in-d/seed-0.json` and so on.

    Raises:
        UserError: No run has reached a stage, one cannot be compared with the results that exist,
            or a file cannot be read; then nothing is written. Or a file cannot be written.
    """
    found = read(results, names)
    compared = _by_file(found, results)
    reached, pictures = False, {}
    for config in sorted(runs.glob("*/*/config.json")):
        folder = RunFolder(config.parent)
        if folder.name not in names:
            continue
        history = read_history(folder.history) if folder.history.exists() else []
        # a stage of more steps than that is one of an earlier run, which this one has replaced
        stages = [file for file in stages_of(folder) if steps_of(file) <= len(history)]
        try:
            result = _result(folder, history, stages)
        except (OSError, ValueError, KeyError) as error:
            raise UserError(
                f"{folder} is no complete run ({first_line(error)}): delete it, and train this "
                "variant again, with --all"
            ) from error
        if not stages and DIVERGED not in result["warnings"]:
            continue
        reached = True
        seeds, seed = found.setdefault(folder.name, {}), result["flags"]["seed"]
        compared[folder.path] = result
        _check_comparable(compared)
        if seed in seeds and seeds[seed]["steps"] > result["steps"]:
            print(f"{folder}: left out, its result tells of {seeds[seed]['steps']:,} steps")
            continue
        seeds[seed] = result
        pictures[folder.name, seed] = _picture(folder, stages)
    if not reached:
        raise UserError(f"{runs} holds no run of a variant that has reached a stage: train one")
    for (name, seed), picture in pictures.items():
        write_file(result_file(results, name, seed), as_json(found[name][seed]))
        if picture:
            write_file(result_file(results, name, seed).with_suffix(".png"), picture)


def read(results: Path, names: Iterable[str]) -> Results:
    """The results that exist, of these variants and in their order.

    Raises:
        UserError: They cannot be compared, for they have other settings than variant and seed.
    """
    found = {}
    for name in names:
        runs = [json.loads(file.read_text()) for file in (results / name).glob("seed-*.json")]
        if runs:
            found[name] = {run["flags"]["seed"]: run for run in runs}
            found[name] = dict(sorted(found[name].items()))
    _check_comparable(_by_file(found, results))
    return found


def _by_file(found: Results, results: Path) -> dict[Path, dict[str, Any]]:
    return {
        result_file(results, name, seed): run
        for name, runs in found.items()
        for seed, run in runs.items()
    }


def _check_comparable(runs: dict[Path, dict[str, Any]]) -> None:
    settings: dict[str, Path] = {}  # and where they were found first
    for path, run in runs.items():
        flags = {name: value for name, value in run["flags"].items() if name not in _MAY_DIFFER}
        settings.setdefault(json.dumps(flags), path)
    if len(settings) > 1:
        one, other = list(settings.values())[:2]
        raise UserError(
            f"{one} and {other} have other flags than variant, seed and steps, so they cannot be "
            "compared: move one away, or train it with the flags of the other"
        )


def result_file(results: Path, name: str, seed: int) -> Path:
    """The result of a run; the first of its images are a PNG file beside it."""
    return results / name / f"seed-{seed}.json"


def shown(stages: Iterable[int]) -> int:
    """Which of its stages, given in steps, the picture of a run shows."""
    stages = [*stages]
    return max([steps for steps in stages if steps <= SHOWN] or stages)


def shares(stage: dict[str, float]) -> list[float]:
    """The shares of the classes in a stage, in their order."""
    return [share for name, share in stage.items() if name.startswith("share_of_")]


def _picture(folder: RunFolder, stages: list[Path]) -> bytes | None:
    """The images of the stage that is shown; a run that diverged early has reached none."""
    if not stages:
        return None
    return stage_file(folder, shown(map(steps_of, stages))).with_suffix(".png").read_bytes()


def _result(folder: RunFolder, history: History, stages: list[Path]) -> dict[str, Any]:
    """What is kept of a run, as JSON can hold it."""
    config = json.loads(folder.config.read_text())
    evaluations = {steps_of(file): json.loads(file.read_text()) for file in stages}
    table = columns(history)
    losses = {"discriminator": table.discriminator_loss, "adversarial": table.adversarial_loss}
    return {
        "variant": folder.name,
        **{name: config[name] for name in _OF_THE_CONFIG},
        "steps": len(history),
        "warnings": warnings_in(log_of(folder).read_text()),
        "stages": {
            steps: metrics | _losses(history[max(0, steps - STEPS_OF_STAGE) : steps])
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
