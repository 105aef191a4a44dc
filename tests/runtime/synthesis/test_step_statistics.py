"""Counts and recent durations."""

from __future__ import annotations

import pytest

from unimoe_runtime.synthesis.step_statistics import Durations, StepStatistics


def test_means() -> None:
    counts = StepStatistics(steps=4, streams=10, rows=20)
    assert counts.streams_per_step == 2.5
    assert StepStatistics().streams_per_step == 0


def test_durations_follow_what_was_measured() -> None:
    durations = Durations()
    assert durations.step_s(3) == 0
    durations.add_step(1, 1.0)
    durations.add_step(8, 4.0)
    durations.add_step(1, 2.0)
    assert durations.step_s(1) == pytest.approx(1.2)
    assert durations.step_s(7) == 4.0
    durations.add_positions(10, 1.0)
    assert durations.position_s == pytest.approx(0.1)
