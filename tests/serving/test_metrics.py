"""A listener's underruns, and gauges that are read on request."""

from __future__ import annotations

import time

from unimoe_serving.metrics import Metrics, Playback


def test_underruns() -> None:
    """A chunk is in time if it comes while the previous one plays."""
    playback = Playback(arrived=time.perf_counter())
    for audio_s, pause_s in ((0.5, 0.0), (0.0, 0.0), (0.001, 0.52), (0.0, 0.02), (0.5, 0.0)):
        playback.take(audio_s)
        time.sleep(pause_s)
    assert playback.underruns == 1
    assert playback.first_audio_s is not None and playback.first_audio_s < 0.3


def test_a_stream_that_never_began_is_counted_once() -> None:
    metrics = Metrics()
    metrics.started("m", "speech")
    metrics.ended("m", "speech", "failed", Playback(arrived=0.0), None)
    metrics.watch("level", "A level.", lambda: 7.0, model="m")
    text = metrics.text().decode()
    assert 'unimoe_streams_started_total{model="m",task="speech"} 1.0' in text
    assert 'unimoe_streams_ended_total{model="m",outcome="failed",task="speech"} 1.0' in text
    assert 'unimoe_streams_active{model="m",task="speech"} 0.0' in text
    assert 'unimoe_level{model="m"} 7.0' in text
    assert "unimoe_first_audio_seconds_count{" not in text
