"""Data sets: where they are, how large they may be; reading their files, what their arrays mean.

Importing this package alone takes no time, so that a command line is read at once.
"""

from pathlib import Path
from typing import Any

PROJECT = Path(__file__).resolve().parent.parent.parent
MNIST = PROJECT / "data" / "mnist.npz"

# The largest image has 256 x 256 pixels.
MAX_PIXELS = 2**16
# The numbers of classes that labels may have.
MIN_LABELS, MAX_LABELS = 2, 1000


def num_classes(labels: Any) -> int:
    """The number of classes of the labels of a training part, integers of shape (N,)."""
    return int(labels.max()) + 1
