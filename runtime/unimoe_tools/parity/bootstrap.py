"""Bootstrap intervals: a figure is computed on resamples of its measurements; both tails are left out."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

RESAMPLES = 4000


def percentile_interval(resampled: NDArray[np.floating[Any]], confidence: float) -> tuple[float, float]:
    """The interval that holds a share of `confidence` of the resampled figures, equal tails on both sides."""
    tail = 50 * (1 - confidence)
    low, high = np.percentile(resampled, [tail, 100 - tail])
    return float(low), float(high)
