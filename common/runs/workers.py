"""The processes that take the steps of a run together: usually one, or several in a cluster."""

from __future__ import annotations

import numpy as np
import tensorflow as tf

# Bytes that the chief sends at a time, each of them as a float32.
_CHUNK_SIZE = 2**20


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

    Args:
        strategy: The strategy.
        is_chief: Whether this worker is the chief.
    """

    def __init__(self, strategy: tf.distribute.Strategy, is_chief: bool) -> None:
        self.is_chief = is_chief
        self._strategy = strategy

    def from_chief(self, content: bytes) -> bytes:
        """Broadcasts: what workers other than the chief pass is ignored."""
        mine = content if self.is_chief else b""
        chunks, rest = self._sum(np.array(divmod(len(mine), _CHUNK_SIZE), np.float32)).astype(int)
        received = []
        for i in range(chunks + 1):
            size = _CHUNK_SIZE if i < chunks else rest
            chunk = np.frombuffer(mine[i * _CHUNK_SIZE :][:size].ljust(size, b"\0"), np.uint8)
            received.append(self._sum(chunk.astype(np.float32)).astype(np.uint8).tobytes())
        return b"".join(received)

    def agree_on(self, count: int) -> int:
        """How many steps to take: as many as the chief passes, or 0 if any worker passes 0."""
        mine = [count == 0, count if self.is_chief else 0]
        stopping, of_chief = self._sum(np.array(mine, np.float32))
        return 0 if stopping else int(of_chief)

    def _sum(self, values: np.ndarray) -> np.ndarray:
        """The sum of what each worker passes: float32, the same shape in all of them."""
        total = tf.distribute.ReduceOp.SUM
        return self._strategy.reduce(total, tf.constant(values), axis=None).numpy()
