"""best.json: of which step the generator in best.h5 is, and how that was decided."""

from __future__ import annotations

import json
from typing import NamedTuple

from common.files import write_file
from common.runs.folder import RunFolder


class Best(NamedTuple):
    """The best generator of a run so far.

    Attributes:
        steps: After how many steps it was.
        samples: By how many images the generators were compared.
        frechet_distances: The distances of those that were compared, by their numbers of steps.
    """

    steps: int
    samples: int
    frechet_distances: dict[int, float]

    @property
    def frechet_distance(self) -> float:
        """That of the best one."""
        return self.frechet_distances[self.steps]


def write_best(folder: RunFolder, best: Best) -> None:
    """Writes best.json.

    Raises:
        UserError: It cannot be written.
    """
    write_file(folder.best_record, (json.dumps(best._asdict(), indent=2) + "\n").encode())


def read_best(folder: RunFolder) -> Best | None:
    """What best.json says; None if there is none yet, or it cannot be read."""
    try:
        found = json.loads(folder.best_record.read_bytes())
        distances = {int(steps): float(d) for steps, d in found["frechet_distances"].items()}
        best = Best(int(found["steps"]), int(found["samples"]), distances)
        return best if best.steps in distances and folder.best.exists() else None
    except (OSError, ValueError, LookupError, TypeError, AttributeError):
        return None
