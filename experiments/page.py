"""The page of the experiments: its tables, from the results alone."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from operator import itemgetter
from pathlib import Path
from typing import Any

from collected import Results, read, shares
from common.errors import DIVERGED, UserError
from common.files import write_file
from common.training.callbacks.health import GRACE
from figures import FIGURES

COLUMNS = (
    *("variant", "steps", "seeds", "failed", "Frechet distance", "precision", "recall", "density"),
    *("coverage", "smallest class", "largest class", "D's loss", "its deviation"),
    *("adversarial loss", "warnings"),
)
_LOSSES = ("discriminator_loss", "discriminator_loss_deviation", "adversarial_loss")
# A run fails as long as its recall reads so: hardly a test image is like one of its own.
_NO_RECALL = "0.00"
NOTHING_YET = "There are no results yet."


def draw(variants: Mapping[str, tuple[str, str]], results: Path, page: Path) -> None:
    """Draws the pictures, and the parts of the page that stand between markers.

    Args:
        variants: What the chapter says of each variant, and what is changed in it.
        results: The folder of the results, which gets the pictures, too.
        page: The page.

    Raises:
        UserError: A marker is missing, or a file cannot be written.
    """
    found = read(results, variants)
    for name, (picture, _) in FIGURES.items():
        if found:
            write_file(results / f"{name}.png", picture(found, results))
    text = page.read_text()
    for name, part in parts(variants, found).items():
        marked = re.compile(f"(<!-- {name}: .*? -->\n).*?(<!-- end of {name} -->)", re.DOTALL)
        if not marked.search(text):
            raise UserError(f"{page}: a part {name} expected between markers, none found")
        # a function, because a part is no pattern
        text = marked.sub(partial(_between, part), text)
    write_file(page, text.encode())


def _between(part: str, markers: re.Match) -> str:
    return f"{markers[1]}{part}\n{markers[2]}"


def parts(variants: Mapping[str, tuple[str, str]], found: Results) -> dict[str, str]:
    """The parts of the page that stand between markers, by their names."""
    described = [(f"`{name}`", *said) for name, said in variants.items()]
    of_variants = _markdown(("variant", "the chapter says", "what is changed"), described)
    if not found:
        return {"variants": of_variants, "results": NOTHING_YET}
    rows = [
        _row(name, steps, [*runs.values()])
        for name, runs in found.items()
        for steps in _stages(runs)
    ]
    figures = [f"![{title}](results/{name}.png)" for name, (_, title) in FIGURES.items()]
    of_results = [_settings(found), _markdown(COLUMNS, rows), *figures]
    return {"variants": of_variants, "results": "\n\n".join(of_results)}


def _settings(found: Results) -> str:
    """What all runs have in common, and which software and processors they had."""
    runs = [run for runs in found.values() for run in runs.values()]
    flags = runs[0]["flags"]
    environments = [part for run in runs for part in [*run["earlier"], run]]
    packages = ("tensorflow", "keras", "numpy")
    versions = sorted({tuple(part["versions"][x] for x in packages) for part in environments})
    had = [f"TensorFlow {tf}, Keras {keras}, NumPy {numpy}" for tf, keras, numpy in versions]
    had += sorted({part["device"] for part in environments})
    return (
        f"All runs: {flags['precision']}, the {flags['engine']} engine, batches of "
        f"{flags['batch_size']}; {'; '.join(had)}."
    )


def _stages(runs: dict[int, dict[str, Any]]) -> list[int]:
    """The stages of a variant's runs, and the steps after which one has diverged."""
    stages = {int(steps) for run in runs.values() for steps in run["stages"]}
    ends = {run["warnings"][DIVERGED] for run in runs.values() if DIVERGED in run["warnings"]}
    return sorted(stages | ends)


def _markdown(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _row(name: str, steps: int, runs: list[dict[str, Any]]) -> list[str]:
    """The row of a variant after so many steps: the mean over its runs, and their range."""
    stages = [run["stages"][str(steps)] for run in runs if str(steps) in run["stages"]]
    warnings = Counter(
        kind for run in runs for kind, first in run["warnings"].items() if first <= steps
    )
    without_recall = sum(_two_decimals(stage["recall"]) == _NO_RECALL for stage in stages)

    def cell(written: Callable[[float], str], value: Callable[[dict[str, float]], float]) -> str:
        values = [value(stage) for stage in stages]
        if len(values) < 2:
            return "".join(map(written, values))
        mean, *ends = map(written, (sum(values) / len(values), min(values), max(values)))
        return f"{mean} ({' to '.join(ends)})"

    return [
        *(f"`{name}`", f"{steps:,}", str(len(stages))),
        str(without_recall + warnings[DIVERGED]),
        cell(_three_digits, itemgetter("frechet_distance")),
        *(
            cell(_two_decimals, itemgetter(metric))
            for metric in ("precision", "recall", "density", "coverage")
        ),
        cell("{:.1%}".format, lambda stage: min(shares(stage))),
        cell("{:.1%}".format, lambda stage: max(shares(stage))),
        *(cell(_two_decimals, itemgetter(loss)) for loss in _LOSSES),
        "; ".join(f"{kind}: {count}" for kind, count in warnings.items())
        or ("too early" if steps < GRACE else "none"),
    ]


def _two_decimals(value: float) -> str:
    return f"{round(value, 2) + 0:.2f}"  # 0 takes the sign from -0.00


def _three_digits(value: float) -> str:
    return f"{value:#.3g}".rstrip(".")
