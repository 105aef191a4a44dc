"""A request's options for how its text is spoken."""

from __future__ import annotations

import pytest

from unimoe_runtime.frontend.options import NO_OPTIONS, SpeechOptions


def test_speed_has_a_range() -> None:
    assert SpeechOptions() == NO_OPTIONS
    for speed in (0.1, 5.0):
        with pytest.raises(ValueError, match=r"from 0\.25 to 4"):
            SpeechOptions(speed=speed)
