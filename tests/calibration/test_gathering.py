"""Drawing data until every expert has enough: one run and two give the same, and shortfalls are labelled."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from unimoe_calibration.data import read_data
from unimoe_calibration.gathering import Gathered, gather
from unimoe_calibration.settings import Settings
from unimoe_calibration.statistics import NEAREST
from unimoe_runtime.bundle.reader import Bundle

OUT_OF_REACH = 100_000


def state(gathered: Gathered) -> list[np.ndarray]:
    statistics = gathered.statistics
    arrays = [*statistics.tokens.values(), np.array(list(statistics.num_tokens.values()))]
    for seen in statistics.linears.values():
        arrays.append(seen.rows_MC)
        for name in sorted(seen.domains):
            one = seen.domains[name]
            arrays += [one.histogram.counts, one.channel_max_C]
            arrays.append(np.array([one.num_rows, one.smallest, one.largest, one.histogram.limit]))
    return arrays


def assert_same(first: Gathered, second: Gathered) -> None:
    for one, other in zip(state(first), state(second), strict=True):
        np.testing.assert_array_equal(one, other)


def test_it_stops_once_every_expert_has_enough(bundle: Bundle) -> None:
    data = read_data(None, bundle)
    gathered = gather(bundle, data, Settings(floor=1))
    assert 2 <= len(gathered.items) < len(data.items) and not gathered.coverage.below()
    everything = gather(bundle, data, Settings(floor=OUT_OF_REACH))
    assert len(everything.items) == len(data.items)
    assert len(everything.coverage.below()) == 2 * bundle.model.num_routed_experts


@pytest.mark.slow
@pytest.mark.parametrize("fallback", ["weight-only", "nearest"])
def test_a_run_that_was_killed_goes_on(bundle: Bundle, tmp_path: Path, fallback: str) -> None:
    settings, data = Settings(floor=OUT_OF_REACH, fallback=fallback), read_data(None, bundle)
    whole = gather(bundle, data, settings)

    def kill(what: str, done: int, total: int) -> None:
        if done == 4:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        gather(bundle, data, replace(settings, cache_dir=tmp_path), progress=kill)
    gone_on = gather(bundle, data, replace(settings, cache_dir=tmp_path))
    assert (whole.num_cached, gone_on.num_cached) == (0, 4)
    assert_same(whole, gone_on)
    again = gather(bundle, data, replace(settings, cache_dir=tmp_path))
    assert again.num_cached == 5
    assert_same(whole, again)
    assert len(list(tmp_path.iterdir())) == 1, "no half-written file is left"


def test_nearest_rows_count_apart(bundle: Bundle) -> None:
    data = read_data(None, bundle)
    gathered = gather(bundle, data, Settings(floor=600, fallback="nearest"))
    below = gathered.coverage.below()
    assert below
    for linear, seen in gathered.statistics.linears.items():
        match linear.graph.split("."):
            case ["layers", layer, "expert", expert] if (int(layer), int(expert)) in below:
                assert seen.domains[NEAREST].num_rows > 0
            case _:
                assert NEAREST not in seen.domains
    assert NEAREST not in gathered.coverage.picks, "coverage counts what the router sent"
