"""The soak, small: every ending and budget, side by side, on a tiny model."""

from __future__ import annotations

from pathlib import Path

from benchmarks.soak import ENDINGS, TOLERANCE, soak
from tests.speaking_bundle import write_speaking_bundle


def test_requests_that_end_in_every_way_leave_nothing_behind(tmp_path: Path) -> None:
    result = soak(write_speaking_bundle(tmp_path), requests=24, seed=1, side_by_side=3)
    assert set(result["endings"]) == set(ENDINGS)
    assert len(result["budgets"]) == 3
    assert result["largest_difference"] <= TOLERANCE
    assert result["threads_left"] == 0
    assert result["growth_bytes_in_the_second_half"] < 8e6
