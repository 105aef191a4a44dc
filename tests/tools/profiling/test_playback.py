"""Underruns follow from the times at which chunks are ready and from their lengths."""

from __future__ import annotations

from unimoe_tools.profiling.playback import play


def test_playback_finds_underruns() -> None:
    smooth = play([(100, 80), (150, 160), (300, 320)])
    assert smooth is not None and (smooth.first_ms, smooth.underruns, smooth.slack_ms) == (100, 0, 30)
    # The second chunk comes 20 ms late and delays all that follow; the third is then late by another 40 ms.
    late = play([(0, 0), (100, 80), (200, 100), (340, 100), (341, 0)])
    assert late is not None and (late.first_ms, late.underruns, late.stalled_ms) == (100, 2, 60)
    assert play([(5, 0)]) is None
