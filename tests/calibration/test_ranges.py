"""Ranges lie within the observed values, and each method clips as specified."""

from __future__ import annotations

import numpy as np
import pytest

from unimoe_calibration.ranges import input_range
from unimoe_calibration.statistics import Histogram


def histogram_of(values: np.ndarray) -> Histogram:
    histogram = Histogram()
    histogram.add(np.abs(np.asarray(values, np.float32)))
    return histogram


@pytest.mark.parametrize("method", ["max", "percentile", "entropy", "mse"])
def test_ranges_lie_within_what_was_seen(method: str) -> None:
    values = np.random.default_rng(0).standard_normal(100_000)
    largest = float(np.abs(values).max())
    limit = input_range(histogram_of(values), largest, method)
    assert 2 < limit <= largest
    assert input_range(Histogram(), 0.0, method) == 0.0, "only zeros: there is no range"


def test_a_lone_outlier_is_cut_off_by_every_method_but_max() -> None:
    values = np.append(np.random.default_rng(0).uniform(-1, 1, 200_000), 16.0)
    histogram = histogram_of(values)
    assert input_range(histogram, 16.0, "max") == 16
    assert input_range(histogram, 16.0, "percentile") == pytest.approx(1, abs=0.02)
    for method in ("entropy", "mse"):
        assert input_range(histogram, 16.0, method) < 8


def test_mse_is_the_least_of_all_ranges() -> None:
    values = np.random.default_rng(1).laplace(size=50_000)
    largest = float(np.abs(values).max())

    def error(limit: float) -> float:
        step = limit / 127
        return float(np.square(np.clip(np.rint(values / step), -127, 127) * step - values).mean())

    found = error(input_range(histogram_of(values), largest, "mse"))
    assert found <= 1.02 * min(error(largest * share) for share in np.linspace(0.1, 1, 200))
