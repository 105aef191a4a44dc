"""Statistics of an input: counts are exact, samples are unbiased, and memory is constant."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from unimoe_calibration.statistics import NUM_BINS, RESERVOIR_ROWS, Histogram, Linear, LinearStatistics

LINEAR = Linear("layers.0.trunk", "qkv.weight")


def histogram_of(values: np.ndarray) -> Histogram:
    histogram = Histogram()
    histogram.add(np.abs(np.asarray(values, np.float32)))
    return histogram


@given(st.lists(st.floats(0, 1e6, width=32), min_size=1, max_size=40), st.integers(0, 40))
def test_a_histogram_counts_the_same_however_it_is_fed(values: list[float], cut: int) -> None:
    whole, parts = histogram_of(np.array(values)), histogram_of(np.array(values[:cut]))
    parts.merge(histogram_of(np.array(values[cut:])))
    assert parts.limit == whole.limit >= max(values)
    np.testing.assert_array_equal(parts.counts, whole.counts)
    assert whole.counts.sum() == len(values)


def test_a_histogram_knows_where_its_values_lie() -> None:
    values = np.random.default_rng(0).exponential(size=20_000).astype(np.float32)
    histogram = histogram_of(values)
    width = histogram.limit / NUM_BINS
    mean = (histogram.centres * histogram.counts).sum() / len(values)
    assert mean == pytest.approx(values.mean(), abs=width)
    assert histogram.limit / 2 < values.max() <= histogram.limit


def test_figures_of_a_domain_are_those_of_its_rows() -> None:
    rows_NC = np.random.default_rng(0).standard_normal((300, 5)).astype(np.float32)
    seen = LinearStatistics(LINEAR, 5)
    for begin in range(0, 300, 70):
        seen.add("speech" if begin else "music", rows_NC[begin : begin + 70])
    total = seen.total()
    assert seen.domains["music"].num_rows == 70 and total.num_rows == seen.num_rows == 300
    assert (total.smallest, total.largest) == (rows_NC.min(), rows_NC.max())
    assert total.absolute_max == np.abs(rows_NC).max()
    np.testing.assert_array_equal(total.channel_max_C, np.abs(rows_NC).max(axis=0))
    assert total.histogram.counts.sum() == 1500


def test_the_sample_is_fair_seeded_and_goes_on_where_it_stopped() -> None:
    rows_NC = np.arange(4000, dtype=np.float32)[:, None]
    parts = np.split(rows_NC, range(100, 4000, 100))

    def sampled(seed: int, linear: Linear = LINEAR, *, broken: bool = False) -> np.ndarray:
        seen = LinearStatistics(linear, 1, seed=seed)
        for place, part in enumerate(parts):
            if broken and place == 20:
                later = LinearStatistics(linear, 1, seed=seed)
                later.domains = seen.domains
                later.restore_rows(seen.rows_MC, seen.keys_M)
                seen = later
            seen.add("speech", part)
        return seen.rows_MC

    assert sampled(0).shape == (RESERVOIR_ROWS, 1)
    assert len(np.unique(sampled(0))) == RESERVOIR_ROWS
    np.testing.assert_array_equal(sampled(0), sampled(0, broken=True))
    assert not np.array_equal(sampled(0), sampled(1))
    assert not np.array_equal(sampled(0), sampled(0, Linear("head", "head.weight")))
    assert np.mean([sampled(seed).mean() for seed in range(20)]) == pytest.approx(2000, rel=0.06)
