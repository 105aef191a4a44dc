"""Read bandwidth, the floor of a decode step: how fast this machine reads weights.

The kernel is numpy's matrix-vector product, tuned third-party BLAS code. No kernel of torch or ONNX Runtime reads
faster by more than 7 % (benchmarks/results/decode_step.json). Sums and maxima are slower: one chain of additions for
each lane. The number of threads is BLAS's, set when numpy was imported.
"""

from __future__ import annotations

import time

import numpy as np

BEYOND_CACHE_BYTES = 256 * 2**20
_WIDTH = 1024


class ReadKernel:
    """Reads a buffer of `num_bytes`, or a little more, in each call."""

    def __init__(self, num_bytes: int = BEYOND_CACHE_BYTES) -> None:
        rows = max(1, -(-num_bytes // (4 * _WIDTH)))
        self._matrix, self._ones = np.ones((rows, _WIDTH), np.float32), np.ones(_WIDTH, np.float32)
        self.num_bytes = self._matrix.nbytes

    def bytes_per_s(self, *, at_least_s: float = 0.02) -> float:
        """One reading: an untimed call, then timed calls until `at_least_s` have passed."""
        self._matrix @ self._ones
        calls, start = 0, time.perf_counter()
        while (elapsed := time.perf_counter() - start) < at_least_s:
            self._matrix @ self._ones
            calls += 1
        return calls * self.num_bytes / elapsed
