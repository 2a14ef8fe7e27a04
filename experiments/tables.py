"""The pages of the experiments: their tables and verdicts, from the results alone."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from operator import itemgetter
from pathlib import Path

from collected import Result, Results, read, shares
from common.errors import DIVERGED, UserError, first_line
from common.files import write_file
from common.training.callbacks.health import GRACE
from plots import FIGURES, three_digits

# A run fails as long as its recall reads so: hardly a test image is like one of its own.
_NO_RECALL = "0.00"
NOTHING_YET = "There are no results yet."
NO_VERDICTS = "There are none yet: runs are missing that verdicts.md speaks of."
# The pages, and which parts they have.
PAGES = {"README.md": ("verdicts", "variants", "runs"), "TABLE.md": ("results",)}
# What the page has of it: the verdicts, with cells of the table in place of their names.
VERDICTS = Path(__file__).resolve().parent / "verdicts.md"


class Cell:
    """What the runs of a variant have in a column of the table, after a number of steps.

    In a format string `{cell}` is the mean with the range, as the table has them; `{cell:mean}`,
    `{cell:lowest}`, `{cell:highest}` and `{cell:range}` are parts of that.

    Raises:
        ValueError: A format string asks for something else.
    """

    def __init__(self, values: list[float], written: Callable[[float], str]) -> None:
        self.values = values
        self.written = written

    def __format__(self, part: str) -> str:
        if not self.values:
            return ""
        ends = min(self.values), max(self.values)
        mean, lowest, highest = map(self.written, (sum(self.values) / len(self.values), *ends))
        both = lowest if lowest == highest else f"{lowest} to {highest}"
        whole = f"{mean} ({lowest} to {highest})" if len(self.values) > 1 else mean
        parts = {"": whole, "mean": mean, "lowest": lowest, "highest": highest, "range": both}
        if part not in parts:
            raise ValueError(f"a cell has no {part}")
        return parts[part]


# The table of results: by variant and steps, a row of cells by their columns.
Table = dict[str, dict[int, dict[str, Cell | str]]]


def draw(variants: Mapping[str, tuple[str, str]], results: Path, folder: Path) -> None:
    """Draws the pictures, and the parts of the pages that stand between markers.

    Args:
        variants: What the chapter says of each variant, and what is changed in it.
        results: The folder of the results, which gets the pictures, too.
        folder: The folder of the pages.

    Raises:
        UserError: A page cannot be read, a marker is missing, or a file cannot be written. Or
            verdicts.md cannot be read, or names something that the table does not have.
    """
    found = read(results, variants)
    made = parts(variants, found)
    texts = {}
    for name, marked in PAGES.items():
        page = folder / name
        try:
            text = page.read_text("utf-8")
        except (OSError, ValueError) as error:
            raise UserError(f"{page} cannot be read: {first_line(error)}") from error
        for part in marked:
            between = re.compile(f"(<!-- {part}: .*? -->\n).*?(<!-- end of {part} -->)", re.DOTALL)
            if not between.search(text):
                raise UserError(f"{page}: a part {part} expected between markers, none found")
            # a function, because a part is no pattern
            text = between.sub(partial(_between, made[part]), text)
        texts[page] = text
    for name, picture in FIGURES.items():
        if found:
            write_file(results / f"{name}.png", picture(found, results))
    for page, text in texts.items():
        write_file(page, text.encode())


def _between(part: str, markers: re.Match) -> str:
    return f"{markers[1]}{part}\n{markers[2]}"


def parts(variants: Mapping[str, tuple[str, str]], found: Results) -> dict[str, str]:
    """The parts of the pages that stand between markers, by their names."""
    described = [(f"`{name}`", *said) for name, said in variants.items()]
    of_variants = _markdown(("variant", "the chapter says", "what is changed"), described)
    if not found:
        nothing = {"runs": NOTHING_YET, "results": NOTHING_YET, "verdicts": NO_VERDICTS}
        return {"variants": of_variants, **nothing}
    rows = table(found)
    return {
        "variants": of_variants,
        "runs": _settings(found),
        "results": _table_in_markdown(rows),
        "verdicts": _verdicts(rows),
    }


def verdicts(template: str, rows: Table) -> str:
    """The verdicts, in which `{tanh[5000][recall]:range}` stands for what the table has there.

    So none of their numbers is typed by hand. Where a row is missing, there are no verdicts.

    Raises:
        KeyError, ValueError: There is no such column, or no such part of a cell.
    """
    named = re.findall(r"\{([\w-]+)\[(\d+)\]", template)
    if any(int(steps) not in rows.get(name, {}) for name, steps in named):
        return NO_VERDICTS
    return template.format_map(rows).strip()


def _verdicts(rows: Table) -> str:
    try:
        return verdicts(VERDICTS.read_bytes().decode(), rows)
    except (OSError, ValueError, KeyError) as error:
        raise UserError(f"{VERDICTS} cannot be used: {first_line(error)}: mend it") from error


def _settings(found: Results) -> str:
    """What all runs have in common, and which software and processors they had."""
    runs = [run for runs in found.values() for run in runs]
    flags = runs[0]["flags"]  # all have the same precision and batch size
    engines = " or ".join(sorted({run["flags"]["engine"] for run in runs}))
    environments = [part for run in runs for part in [*run["earlier"], run]]
    packages = ("tensorflow", "keras", "numpy")
    versions = sorted({tuple(part["versions"][x] for x in packages) for part in environments})
    had = [f"TensorFlow {tf}, Keras {keras}, NumPy {numpy}" for tf, keras, numpy in versions]
    had += sorted({part["device"] for part in environments})
    return (
        f"All runs: {flags['precision']}, the {engines} engine, batches of "
        f"{flags['batch_size']}; {'; '.join(had)}."
    )


def table(found: Results) -> Table:
    """All rows of the table of results."""
    return {
        name: {steps: _row(steps, runs) for steps in _stages(runs)} for name, runs in found.items()
    }


def _stages(runs: list[Result]) -> list[int]:
    """The stages of a variant's runs, and the steps after which one has diverged."""
    stages = {int(steps) for run in runs for steps in run["stages"]}
    ends = {run["warnings"][DIVERGED] for run in runs if DIVERGED in run["warnings"]}
    return sorted(stages | ends)


def _table_in_markdown(rows: Table) -> str:
    cells = [
        {"variant": f"`{name}`", "steps": f"{steps:,}", **row}
        for name, of_variant in rows.items()
        for steps, row in of_variant.items()
    ]
    return _markdown([*cells[0]], [[f"{cell}" for cell in row.values()] for row in cells])


def _markdown(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _row(steps: int, runs: list[Result]) -> dict[str, Cell | str]:
    """What those runs have that have come so far, or have diverged, by the columns of the table."""
    diverged = [run for run in runs if run["warnings"].get(DIVERGED, steps + 1) <= steps]
    in_row = [run for run in runs if str(steps) in run["stages"] or run in diverged]
    stages = [run["stages"][str(steps)] for run in in_row if run not in diverged]
    warnings = Counter(
        kind for run in in_row for kind, first in run["warnings"].items() if first <= steps
    )
    without_recall = sum(_two_decimals(stage["recall"]) == _NO_RECALL for stage in stages)

    def cell(value: Callable[[dict[str, float]], float], written: Callable[[float], str]) -> Cell:
        return Cell([value(stage) for stage in stages], written)

    return {
        "runs": str(len(in_row)),
        "failing": str(without_recall + len(diverged)),
        "Frechet distance": cell(itemgetter("frechet_distance"), three_digits),
        **{
            metric: cell(itemgetter(metric), _two_decimals)
            for metric in ("precision", "recall", "density", "coverage")
        },
        "smallest class": cell(lambda stage: min(shares(stage)), "{:.1%}".format),
        "largest class": cell(lambda stage: max(shares(stage)), "{:.1%}".format),
        "D's loss": cell(itemgetter("discriminator_loss"), _two_decimals),
        "its deviation": cell(itemgetter("discriminator_loss_deviation"), _two_decimals),
        "adversarial loss": cell(itemgetter("adversarial_loss"), _two_decimals),
        "warnings": _in_words(warnings, steps),
    }


def _in_words(warnings: Counter, steps: int) -> str:
    counted = [f"{kind}: {count}" for kind, count in warnings.items()]
    return "; ".join(counted) or ("too early" if steps < GRACE else "none")


def _two_decimals(value: float) -> str:
    return f"{round(value, 2) + 0:.2f}"  # 0 takes the sign from -0.00
