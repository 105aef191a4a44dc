"""Durations of phonemes by voice and place."""

from __future__ import annotations

from unimoe_runtime.frontend.durations import DurationTable, places
from unimoe_runtime.frontend.timeline import TimelineFrontEnd


def test_durations_follow_place_and_voice(frontend: TimelineFrontEnd) -> None:
    phonemes = ["pau", "k", "ae", "t", "ae", "t", "pau"]
    assert places(phonemes) == ["first", "inner", "inner", "inner", "last", "last", "last"]
    assert isinstance(frontend.durations, DurationTable)
    assert frontend.durations.durations("ann", phonemes) == [0.3, 0.1, 0.1, 0.1, 0.2, 0.1, 0.1]
    assert frontend.durations.durations("bob", phonemes) == [0.2] * 7
