"""Audio as data URIs: a signal that arrives while it is encoded stops the work."""

from __future__ import annotations

import signal
from types import FrameType

import numpy as np
import pytest

from unimoe.evaluation.media import audio_uri
from unimoe.stopping import Stopped


def stop(number: int, frame: FrameType | None) -> None:
    raise Stopped(number)


@pytest.mark.parametrize("rate_hz", [16_000, 22_050])
def test_a_signal_is_not_lost(rate_hz: int) -> None:
    before = signal.signal(signal.SIGALRM, stop)
    pcm_L = np.zeros(rate_hz // 2, np.float32)
    audio_uri(pcm_L, rate_hz)
    try:
        for number in range(10):
            with pytest.raises(Stopped):
                signal.setitimer(signal.ITIMER_REAL, 0.004 + 0.0007 * number)
                for _ in range(500):
                    audio_uri(pcm_L, rate_hz)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
