"""Metrics for Prometheus. All figures of a stream are counted once, when it ends; each server has its own registry.

`unimoe_streams_started_total` is the sum of `unimoe_streams_ended_total` over its outcomes and of
`unimoe_streams_active`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Literal

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4

if TYPE_CHECKING:
    from unimoe_runtime import Outcome
    from unimoe_tools.profiling.playback import Playback

Ending = Literal["complete", "cut", "cancelled", "failed"]
"""`cut`: ended by a limit of steps or time. `cancelled`: the caller left or interrupted."""

CONTENT_TYPE = CONTENT_TYPE_PLAIN_0_0_4
_SECONDS = (0.005, 0.01, 0.02, 0.03, 0.05, 0.08, 0.12, 0.2, 0.35, 0.6, 1, 2, 5, 15)
_RATIOS = (0.02, 0.04, 0.06, 0.1, 0.15, 0.25, 0.4, 0.6, 0.8, 1, 1.5, 3)
_STEP_SECONDS = (0.0003, 0.0006, 0.001, 0.0015, 0.002, 0.003, 0.005, 0.008, 0.012, 0.02, 0.04, 0.1, 0.3)


class Metrics:
    """Counters, gauges and histograms of one server, by bundle and task."""

    def __init__(self) -> None:
        self.registry = registry = CollectorRegistry()
        labels = ("model", "task")

        def counter(name: str, about: str, extra: tuple[str, ...] = ()) -> Counter:
            return Counter(f"unimoe_{name}", about, (*labels, *extra), registry=registry)

        def histogram(name: str, about: str, buckets: tuple[float, ...]) -> Histogram:
            return Histogram(f"unimoe_{name}", about, labels, registry=registry, buckets=buckets)

        self._started = counter("streams_started", "Streams that got a slot.")
        self._ended = counter("streams_ended", "Streams that ended, by how.", ("outcome",))
        self._audio_s = counter("audio_seconds", "Seconds of audio made.")
        self._steps = counter("steps", "Decode steps.")
        self._decode_s = counter("decode_seconds", "Seconds from step to step, summed over streams.")
        self._launched = counter("experts_launched", "Routed experts that ran for a stream's rows.")
        self._picks = counter("expert_picks", "Picks of the router over rows and layers.", ("kind",))
        self._underruns = counter("underruns", "Chunks that came after a listener had heard all before them.")
        self._first_audio_s = histogram("first_audio_seconds", "Request to first chunk, waiting included.", _SECONDS)
        self._rtf = histogram("real_time_factor", "Compute seconds per second of audio.", _RATIOS)
        self._step_s = histogram("step_seconds", "Mean decode step of a stream.", _STEP_SECONDS)
        self._active = Gauge("unimoe_streams_active", "Streams that hold a slot.", labels, registry=registry)
        self._refused = Counter("unimoe_requests_refused", "Requests refused, by code.", ("code",), registry=registry)
        self._responses = Counter(
            "unimoe_http_responses", "HTTP responses, by path and status.", ("path", "status"), registry=registry
        )

    def watch(self, name: str, about: str, read: Callable[[], float], **labels: str) -> None:
        """Add a gauge that is read at each scrape."""
        gauge = Gauge(f"unimoe_{name}", about, tuple(labels), registry=self.registry)
        (gauge.labels(**labels) if labels else gauge).set_function(read)

    def started(self, model: str, task: str) -> None:
        """Count a stream that got its slot."""
        self._started.labels(model, task).inc()
        self._active.labels(model, task).inc()

    def ended(self, model: str, task: str, ending: Ending, playback: Playback | None, outcome: Outcome | None) -> None:
        """Count a stream that ended and whose rows are free.

        `playback`: None without audio. `outcome`: None if it never began.
        """
        self._active.labels(model, task).dec()
        self._ended.labels(model, task, ending).inc()
        if playback is not None:
            self._underruns.labels(model, task).inc(playback.underruns)
            self._first_audio_s.labels(model, task).observe(playback.first_ms / 1e3)
        if outcome is None:
            return
        routing = outcome.routing
        self._audio_s.labels(model, task).inc(outcome.audio_s)
        self._steps.labels(model, task).inc(routing.steps)
        self._decode_s.labels(model, task).inc(outcome.decode_s)
        self._launched.labels(model, task).inc(routing.launched)
        self._picks.labels(model, task, "routed").inc(routing.routed_picks)
        self._picks.labels(model, task, "null").inc(routing.null_picks)
        if outcome.num_samples:
            self._rtf.labels(model, task).observe(outcome.rtf)
        if routing.steps > 1:
            self._step_s.labels(model, task).observe(outcome.decode_s / (routing.steps - 1))

    def refused(self, code: str) -> None:
        """Count a refused request."""
        self._refused.labels(code).inc()

    def responded(self, path: str, status: int) -> None:
        """Count an HTTP response that began."""
        self._responses.labels(path, str(status)).inc()

    def text(self) -> bytes:
        """All metrics in Prometheus's text format."""
        return generate_latest(self.registry)
