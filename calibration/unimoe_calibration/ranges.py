"""Where to clip an input: the absolute value that its largest code stands for.

All methods read a histogram of absolute values. Ranges are symmetric, because TensorRT and ONNX Runtime's products of
two int8 matrices require it.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from .statistics import NUM_BINS, Histogram

PERCENTILE = 99.99
# Candidate ranges of a search, and the smallest as a share of the largest value.
_NUM_CANDIDATES = 48
_SMALLEST_SHARE = 0.1
# The codes on one side of zero: 1 … 127.
_LEVELS = 127


def input_range(histogram: Histogram, largest: float, method: str) -> float:
    """The range of one input by max, percentile, entropy or mse; 0 for an input of zeros only.

    `largest` is the largest absolute value, which the histogram resolves only to a bin. Raises KeyError for an
    unknown method.
    """
    if not largest:
        return 0.0
    return min(_METHODS[method](histogram, largest), largest)


def _maximum(histogram: Histogram, largest: float) -> float:
    return largest


def _percentile(histogram: Histogram, largest: float) -> float:
    """The value that all but 0.01 % of the values stay below."""
    cumulative = np.cumsum(histogram.counts)
    index = int(np.searchsorted(cumulative, PERCENTILE / 100 * cumulative[-1]))
    return (index + 1) * histogram.limit / NUM_BINS


def _mean_square(histogram: Histogram, largest: float) -> float:
    """The range with the least mean square error of the rounded and clipped values."""
    used = np.flatnonzero(histogram.counts)
    values, counts = histogram.centres[used], histogram.counts[used]

    def error(limit: float) -> float:
        step = limit / _LEVELS
        rounded = np.minimum(np.rint(values / step), _LEVELS) * step
        return float((counts * (rounded - values) ** 2).sum())

    return _least(error, largest)


def _entropy(histogram: Histogram, largest: float) -> float:
    """The range whose coded distribution diverges least from the one seen (Kullback-Leibler), as TensorRT's entropy
    calibrator defines it (Migacz, 8-bit inference with TensorRT, GTC 2017).

    It compares the values up to the range, clipped values counted in the last bin, with their spread over 128 codes.
    Bin 0 is left out: exact zeros would pull the range towards 0.
    """
    width = histogram.limit / NUM_BINS
    counts = histogram.counts.astype(np.float64)
    counts[0] = 0
    if not counts.any():
        return largest

    def error(limit: float) -> float:
        num_bins = max(min(round(limit / width), NUM_BINS), 1)
        seen = counts[:num_bins].copy()
        code = np.minimum((np.arange(num_bins) + 0.5) * width * _LEVELS / limit, _LEVELS).astype(np.int64)
        present = seen > 0
        mass = np.bincount(code, weights=seen, minlength=_LEVELS + 1)
        members = np.bincount(code, weights=present, minlength=_LEVELS + 1)
        coded = np.where(present, mass[code] / np.maximum(members[code], 1), 0)
        seen[-1] += counts[num_bins:].sum()
        p = seen / seen.sum()
        q = coded / coded.sum() if coded.any() else coded
        both = (p > 0) & (q > 0)
        # Mass where the codes have none would make the divergence infinite, so a small share replaces 0.
        missing = p[(p > 0) & (q == 0)]
        return float((p[both] * np.log(p[both] / q[both])).sum() + (missing * np.log(missing / 1e-9)).sum())

    return _least(error, largest)


def _least(error: Callable[[float], float], largest: float) -> float:
    """The candidate range with the least error; of several, the largest."""
    limits = _grid(largest)
    return float(min(limits, key=lambda limit: (error(limit), -limit)))


def _grid(largest: float) -> NDArray[np.float64]:
    return largest * np.geomspace(_SMALLEST_SHARE, 1.0, _NUM_CANDIDATES)


_METHODS: dict[str, Callable[[Histogram, float], float]] = {
    "max": _maximum,
    "percentile": _percentile,
    "entropy": _entropy,
    "mse": _mean_square,
}
