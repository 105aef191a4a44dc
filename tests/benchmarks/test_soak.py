"""The soak test at a small size: every ending and destination, concurrently, on a tiny model."""

from __future__ import annotations

import multiprocessing
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import pytest

from benchmarks.markdown import result_table
from benchmarks.soak import ENDINGS, PLACES, TEXTS, TOLERANCE, soak
from tests.speaking_bundle import write_speaking_bundle


@pytest.mark.slow
def test_requests_that_end_in_every_way_leave_nothing_behind(tmp_path: Path) -> None:
    bundle = write_speaking_bundle(tmp_path)
    # A process of its own: threads and files of other tests would count.
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        result = pool.submit(soak, bundle, requests=60, seed=1, side_by_side=3, texts=TEXTS[:3]).result()
    assert set(result["endings"]) == set(ENDINGS) and set(result["places"]) == set(PLACES)
    assert len(result["budgets_mb"]) == 3
    assert result["largest_difference"] <= TOLERANCE
    assert result["threads_left"] <= 0 and result["open_files_left"] <= 0
    assert result["files_left"] == 0
    assert result["growth_mb_in_the_second_half"] < 8
    assert "| endings | " in result_table(result)
