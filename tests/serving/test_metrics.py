"""A listener's underruns, and gauges that are read on request."""

from __future__ import annotations

from unimoe_serving.metrics import Metrics
from unimoe_tools.profiling.playback import play


def test_a_stream_with_underruns() -> None:
    metrics = Metrics()
    metrics.started("m", "speech")
    metrics.ended("m", "speech", "cut", play([(100.0, 50.0), (180.0, 50.0), (200.0, 50.0)]), None)
    text = metrics.text().decode()
    assert 'unimoe_underruns_total{model="m",task="speech"} 1.0' in text
    assert 'unimoe_first_audio_seconds_sum{model="m",task="speech"} 0.1' in text


def test_a_stream_that_never_began_is_counted_once() -> None:
    metrics = Metrics()
    metrics.started("m", "speech")
    metrics.ended("m", "speech", "failed", None, None)
    metrics.watch("level", "A level.", lambda: 7.0, model="m")
    text = metrics.text().decode()
    assert 'unimoe_streams_started_total{model="m",task="speech"} 1.0' in text
    assert 'unimoe_streams_ended_total{model="m",outcome="failed",task="speech"} 1.0' in text
    assert 'unimoe_streams_active{model="m",task="speech"} 0.0' in text
    assert 'unimoe_level{model="m"} 7.0' in text
    assert "unimoe_first_audio_seconds_count{" not in text
