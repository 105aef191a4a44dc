"""Underruns are found from when chunks are ready and how long they last."""

from __future__ import annotations

from unimoe_tools.profiling.playback import play


def test_playback_finds_underruns() -> None:
    smooth = play([(100, 80), (150, 160), (300, 320)])
    assert smooth is not None and (smooth.first_ms, smooth.underruns, smooth.slack_ms) == (100, 0, 30)
    # The second chunk comes 20 ms late and moves all that follows; the third is late by 40 after that.
    late = play([(0, 0), (100, 80), (200, 100), (340, 100), (341, 0)])
    assert late is not None and (late.first_ms, late.underruns, late.stalled_ms) == (100, 2, 60)
    assert play([(5, 0)]) is None
