"""The scheduler's counts for metrics, and measured durations for its planning."""

from __future__ import annotations

from dataclasses import dataclass

_NEW_SHARE = 0.2


@dataclass(frozen=True, kw_only=True)
class StepStatistics:
    """Counts since the synthesizer was opened.

    `streams` and `rows` are sums over the steps; divided by `steps` they are means. `launched`: expert graphs run by
    decode steps. `step_s` and `prompt_s`: seconds in decode steps and in prompt passes. `active`: streams whose reader
    waits now. `open`: streams that have not ended.
    """

    steps: int = 0
    streams: int = 0
    rows: int = 0
    launched: int = 0
    step_s: float = 0.0
    pieces: int = 0
    positions: int = 0
    prompt_s: float = 0.0
    active: int = 0
    open: int = 0

    @property
    def streams_per_step(self) -> float:
        return self.streams / self.steps if self.steps else 0.0


class Counts:
    """The running counts behind `StepStatistics`, for one thread."""

    def __init__(self) -> None:
        self.steps = self.streams = self.rows = self.launched = self.pieces = self.positions = 0
        self.step_s = self.prompt_s = 0.0

    def snapshot(self, *, active: int, open: int) -> StepStatistics:
        return StepStatistics(**vars(self), active=active, open=open)


class Durations:
    """Recent durations of a step, by its number of streams, and of one prompt position, in seconds."""

    def __init__(self) -> None:
        self._step_s: dict[int, float] = {}
        self.position_s = 0.0

    def add_step(self, num_streams: int, seconds: float) -> None:
        self._step_s[num_streams] = _mixed(self._step_s.get(num_streams), seconds)

    def add_positions(self, num_positions: int, seconds: float) -> None:
        self.position_s = _mixed(self.position_s or None, seconds / max(1, num_positions))

    def step_s(self, num_streams: int) -> float:
        """Seconds of a step of `num_streams` streams; without a measurement, that of the nearest number."""
        if not self._step_s:
            return 0.0
        return self._step_s[min(self._step_s, key=lambda known: abs(known - num_streams))]


def _mixed(before: float | None, now: float) -> float:
    return now if before is None else (1 - _NEW_SHARE) * before + _NEW_SHARE * now
