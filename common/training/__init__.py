"""Training: the loop, its engines, its callbacks."""

from common.runs.run import Run
from common.training.train import train

__all__ = ["Run", "train"]
