"""The server's soak test and load test, at a small size."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from benchmarks.one_stream import one_stream
from benchmarks.served import Heard, served
from benchmarks.serving import Load, show
from benchmarks.serving_soak import show as show_soak
from benchmarks.serving_soak import soak, steady
from tests.speaking_bundle import write_speaking_bundle


@pytest.mark.slow
def test_soak_and_load(tmp_path: Path) -> None:
    bundle = write_speaking_bundle(tmp_path)
    with served(bundle, "--max-streams", "4") as server:
        report = asyncio.run(soak(server, requests=40, callers=4, seed=1))
        load = Load(server, 16000, frame_s=0.002)
        level = asyncio.run(load.measure("closed", 2, load.closed(2, 0.3)))
    single = one_stream(bundle, ("Hello.", "Good day."), pairs=3)
    assert not report["faults"] and report["requests"] == 40
    assert all(holds for check, holds in report["checks"].items() if "memory" not in check), report["checks"]
    assert "| faults | 0 |" in show_soak(report)
    assert level.requests >= 2 and level.refused == 0 and 0 < level.audio_s_per_s <= 1.05 * level.bound_s_per_s
    assert "| closed | 2 |" in show([level], single, "a machine")
    assert {stage.library_ms is None for stage in single.stages} == {True, False}


def test_underruns_are_those_of_a_player() -> None:
    heard = Heard(pieces=[(0.1, 100), (0.15, 100), (0.35, 50), (0.38, 10)])
    assert heard.first_s == 0.1 and heard.underruns(1000) == 1


def test_growth_is_not_steady() -> None:
    readings = [{"resident_mb": 80.0 + 2 * tenth, "threads": 9, "files": 7} for tenth in range(11)]
    assert steady(readings) == {
        "threads are bounded": True, "open files are bounded": True, "memory is flat from the third tenth on": False,
    }  # fmt: skip
