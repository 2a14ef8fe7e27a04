"""The processes that take the steps of a run together: usually one, or several in a cluster."""

import numpy as np
import tensorflow as tf


class Workers:
    """The workers of a run: here this process, alone.

    Attributes:
        is_chief: Whether this is the worker that reads and writes files, and prints.
    """

    is_chief = True

    def from_chief(self, content: bytes) -> bytes:
        """Broadcasts: all workers get what the chief passes."""
        return content

    def agree_on(self, count: int) -> int:
        """How many steps to take: as many as the chief passes, or 0 if any worker passes 0."""
        return count


class Cluster(Workers):
    """The workers of a multi-worker strategy.

    All of them have to call these methods at the same point: each call waits for the others.
    """

    def __init__(self, strategy: tf.distribute.Strategy, is_chief: bool) -> None:
        self.is_chief = is_chief
        self._strategy = strategy

    def from_chief(self, content: bytes) -> bytes:
        """Broadcasts: what workers other than the chief pass is ignored."""
        mine = content if self.is_chief else b""
        size = int(self._sum([len(mine)])[0])
        # The chief's bytes, eight to a number, and zeros from all others. One number at least, for
        # TensorFlow crashes when it sums none.
        numbers = np.frombuffer(mine.ljust(8 * (size // 8 + 1), b"\0"), np.int64)
        return self._sum(numbers).tobytes()[:size]

    def agree_on(self, count: int) -> int:
        """How many steps to take: as many as the chief passes, or 0 if any worker passes 0."""
        stopping, of_chief = self._sum([int(count == 0), count if self.is_chief else 0])
        return 0 if stopping else int(of_chief)

    def _sum(self, values: np.ndarray | list[int]) -> np.ndarray:
        """Adds what each worker passes: int64, the same shape in all of them."""
        total = tf.distribute.ReduceOp.SUM
        return self._strategy.reduce(total, tf.constant(values, tf.int64), axis=None).numpy()
