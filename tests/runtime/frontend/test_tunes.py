"""Tunes move to any key."""

from __future__ import annotations

from unimoe_runtime.frontend.tunes import TUNES


def test_a_tune_keeps_its_shape_in_another_key() -> None:
    for tune in TUNES.values():
        here, there = tune.chords(0), tune.chords(5)
        assert [chord.beats for chord in here] == [chord.beats for chord in there]
        assert all(
            b - a == 5
            for one, two in zip(here, there, strict=True)
            for a, b in zip(one.pitches, two.pitches, strict=True)
        )
